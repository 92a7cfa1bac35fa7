//! `drill`: does a backup come back? The plan is `recovery::drill`; here it is carried out, judged by the sentinel and written
//! down, signed. Whatever happens, the drill's place and its instance are tidied; a drill that was killed is tidied by the next.

pub mod seen;
pub mod sentinel;

use crate::cli;
use crate::config::Config;
use crate::out::Out;
use crate::points::reach;
use crate::verbs::catalogue::readable;
use crate::verbs::restore::{self, kept, record, run};
use doors::clock::wall_now;
use engine::InstanceConfig;
use engine::iris::config::IrisConfig;
use engine::restore::{Restorer, Sentinel};
use protocol::code::exit;
use protocol::wire::Problem;
use protocol::{Code, InstanceName, WallMs};
use recovery::{Action, Drill as Plan, Kept, Room};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use storage::catalogue::drills::{self, Drill, Key};
use storage::catalogue::store::{self, Entry, State};
use storage::place;

/// What is to be tidied when a drill is killed.
#[derive(Serialize, Deserialize)]
struct UnderWay {
    instance: InstanceName,
    engine: String,
    place: PathBuf,
    tidy: Vec<Action>,
    /// The instance was down, and was to be started by the drill: only then is it the drill's to stop.
    started: bool,
}

/// Why no step follows.
enum Ended {
    /// The backup does not come back.
    Failed(String),
    /// Of this host; nothing is known about the backup.
    Here(String),
}

pub fn drill(config: &Config, args: &cli::Drill, out: Out) -> u8 {
    go(config, args, out).unwrap_or_else(|p| out.problem(&p))
}

/// A drill that was killed, in a sentence.
pub fn interrupted(state: &Path) -> Option<String> {
    match drills::under_way::<UnderWay>(state) {
        Ok(None) => None,
        Ok(Some(u)) => Some(format!(
            "a drill of {} was interrupted; {} and its instance are tidied by the next one, or by `snapfreeze drill --tidy`",
            u.instance,
            u.place.display()
        )),
        Err(e) => Some(crate::chain(&e)),
    }
}

fn go(config: &Config, args: &cli::Drill, out: Out) -> Result<u8, Problem> {
    // One at a time, and none beside a restore.
    let _records = record::Records::open(&config.dirs.state)?;
    if let Some(left) = drills::under_way::<UnderWay>(&config.dirs.state).map_err(|e| e.problem())? {
        out.say("tidying a drill that was interrupted");
        tidy(config, restorer(config, &left.engine, &left.instance)?.as_ref(), &left, out)?;
    }
    let Some(id) = &args.id else { return Ok(exit::DONE) };
    let entry = readable(config, &args.place).and_then(|d| store::find(&d, id).map_err(|e| e.problem()))?;
    let name = restore::instance(&entry, args.instance.as_ref())?;
    let kept = kept::read(&entry, &name)?;
    let Some(sentinel) = config.drill.sentinel.get(&name) else {
        return Err(impossible(format!("no sentinel is configured for {name}: a drill that cannot fail proves nothing"))
            .next(format!("add [drill.sentinel.{name}] with database and global, and write it by a timer: `snapfreeze sentinel`")));
    };
    let run = record::new_run();
    let place = place_for(config, args, &run)?;
    let restorer = restorer(config, &kept.engine, &name)?;
    let key = Key::open(&config.dirs.state).map_err(|e| e.problem())?;
    let mut drill = Drill::new(run.clone(), kept.id, name.clone(), kept.engine.clone(), env!("CARGO_PKG_VERSION"), wall_now());
    if let State::Set { manifest, .. } = &entry.state {
        drill.list_sha256 = manifest.finished.as_ref().map(|f| f.list_sha256.clone()).unwrap_or_default();
    }
    let done = match plan(config, args, &kept, restorer.as_ref(), &run, &place)? {
        Ok(plan) => carry_out(config, restorer.as_ref(), &plan, &kept, sentinel, &mut drill, out)?,
        Err(why) => Err(why),
    };
    drill.ended_at = wall_now();
    (drill.passed, drill.why) = done.map_or_else(|why| (false, why), |()| (true, String::new()));
    keep(config, &entry, &drill, &key)?;
    end(&drill, out)
}

/// Whole, or not at all: a drill is never put where something is.
fn place_for(config: &Config, args: &cli::Drill, run: &str) -> Result<PathBuf, Problem> {
    let Some(dir) = args.dir.as_ref().or(config.drill.dir.as_ref()) else {
        return Err(Problem::new(Code::UsageInvalid, "no place for drills is known")
            .next("name a directory with --in DIR, or set [drill] dir = \"DIR\""));
    };
    if !dir.is_dir() {
        return Err(Problem::new(Code::UsageInvalid, format!("{} is no directory", dir.display()))
            .next("make it, on a disk with room for the databases"));
    }
    Ok(dir.join(format!("drill-{run}")))
}

/// `Err` inside: the backup lacks something, and the drill has failed before it began.
fn plan(
    config: &Config,
    args: &cli::Drill,
    kept: &Kept,
    restorer: &dyn Restorer,
    run: &str,
    place: &Path,
) -> Result<Result<Plan, String>, Problem> {
    let mut found = restorer.found().map_err(|e| impossible(crate::chain(&e)).next("run `snapfreeze check`"))?;
    let room = |e: std::io::Error| impossible(format!("{}: {e}", place.display()));
    let (free, device) = place::room(place).map_err(room)?;
    found.room = vec![Room { path: place.parent().unwrap_or(place).into(), device, free }];
    found.shipped = match kept.engine.as_str() {
        "gtm" => Vec::new(),
        _ => match restore::shipped(config, args.journals.as_deref(), &kept.instance) {
            Ok(s) => s,
            // A recovery point that cannot be read is one that is not there.
            Err(p) => return Ok(Err(p.detail)),
        },
    };
    match recovery::drill::plan(kept, &found, run, place) {
        Ok(p) => Ok(Ok(p)),
        Err(lacks) if lacks.here.is_empty() => Ok(Err(lacks.backup.iter().map(|m| m.what.as_str()).collect::<Vec<_>>().join("; "))),
        Err(lacks) => Err(restore::impossible(&lacks.here)),
    }
}

/// The steps, the sentinel, and in every case the tidying.
fn carry_out(
    config: &Config,
    restorer: &dyn Restorer,
    plan: &Plan,
    kept: &Kept,
    sentinel: &Sentinel,
    drill: &mut Drill,
    out: Out,
) -> Result<Result<(), String>, Problem> {
    let mut note = UnderWay {
        instance: plan.instance.clone(),
        engine: plan.engine.clone(),
        place: plan.place.clone(),
        tidy: plan.tidy.clone(),
        started: false,
    };
    drills::begin(&config.dirs.state, &note).map_err(|e| e.problem())?;
    reach("drill.noted");
    let done = steps(config, restorer, plan, &mut note, drill, out);
    let shown = done.and_then(|()| judge(config, restorer, plan, kept, sentinel, drill).map_err(Ended::Failed));
    reach("drill.judged");
    let tidied = tidy(config, restorer, &note, out);
    match (shown, tidied) {
        (Err(Ended::Here(why)), _) => Err(impossible(why).next("stop it, then drill again; it is up only while a drill runs")),
        (Err(Ended::Failed(why)), _) => Ok(Err(why)),
        (Ok(()), Err(p)) => Ok(Err(format!("everything came back, but the drill could not be tidied: {}", p.detail))),
        (Ok(()), Ok(())) => Ok(Ok(())),
    }
}

fn steps(config: &Config, restorer: &dyn Restorer, plan: &Plan, note: &mut UnderWay, drill: &mut Drill, out: Out) -> Result<(), Ended> {
    let like = plan
        .steps
        .iter()
        .find_map(|s| if let Action::Copy { files } = &s.action { files.first()?.0.copy.parent().map(Path::to_owned) } else { None });
    let here = |e: std::io::Error| Ended::Here(format!("{}: {e}", plan.place.display()));
    drills::make_place(&plan.place, &like.unwrap_or_else(|| plan.place.clone())).map_err(here)?;
    let of = plan.steps.len();
    drill.last_journal.clone_from(&plan.last_journal);
    for (n, step) in plan.steps.iter().enumerate() {
        let word = step.action.word();
        out.say(format!("[{}/{of}] {}", n + 1, step.action));
        reach(&format!("drill.{word}"));
        if step.action == Action::StartForAdministrator {
            // The copies may have taken hours: whoever started it meanwhile works with it.
            let found = restorer.found().map_err(|e| Ended::Here(crate::chain(&e)))?;
            if found.running {
                return Err(Ended::Here(format!("the instance for drills was started meanwhile ({}): it is left alone", found.status)));
            }
            note.started = true;
            drills::begin(&config.dirs.state, note).map_err(|e| Ended::Here(crate::chain(&e)))?;
        }
        let failed = |f: engine::restore::Failed| Ended::Failed(format!("step {} of {of} ({word}): {}", n + 1, f.why));
        let said = run::act(restorer, &step.action, out).map_err(failed)?;
        out.say(format!("        {said}"));
        out.object("drill-step", &json!({ "run": drill.run, "step": n + 1, "of": of, "do": word, "said": said }));
        drill.said.push(said);
    }
    Ok(())
}

/// What makes a drill able to fail: the restored database must hold a moment that is newer than what the last drill has shown,
/// and not older than it may be at the freeze.
fn judge(config: &Config, restorer: &dyn Restorer, plan: &Plan, kept: &Kept, sentinel: &Sentinel, drill: &mut Drill) -> Result<(), String> {
    let copy = plan.copies.iter().find(|(was, _)| *was == restore::plain(&sentinel.database)).map(|c| &c.1);
    let copy = copy.ok_or_else(|| format!("the set holds no database {}, in which the sentinel is", sentinel.database.display()))?;
    let read = restorer.read_sentinel(sentinel, copy, &plan.place).map_err(|f| f.why)?;
    let at = read.ok_or_else(|| format!("no sentinel: ^{} is not in the restored database", sentinel.global.name()))?;
    drill.sentinel = Some(at);
    let frozen = kept.frozen_at.unwrap_or(WallMs(0));
    let oldest = frozen.0.saturating_sub(i64::try_from(config.drill.sentinel_age.as_millis()).unwrap_or(i64::MAX));
    if at.0 < oldest {
        return Err(format!("stale: the restored database ends with {}, and was frozen at {}", crate::when(at), crate::when(frozen)));
    }
    match seen::last_sentinel(config, &plan.instance) {
        Some(last) if at <= last => Err(format!(
            "stale: the restored database ends with {}, which an earlier drill has shown already ({})",
            crate::when(at),
            crate::when(last)
        )),
        _ => Ok(()),
    }
}

/// Each is tried, whatever the one before it said; the note goes when all are done.
fn tidy(config: &Config, restorer: &dyn Restorer, note: &UnderWay, out: Out) -> Result<(), Problem> {
    let up = restorer.found().is_ok_and(|f| f.running);
    let mut bad = Vec::new();
    for action in &note.tidy {
        let done = match action {
            Action::RemovePlace { dir } => drills::remove_place(dir).map_err(|e| format!("{}: {e}", dir.display())),
            _ if !note.started => Ok(()),
            // In an instance that is down nothing is mounted; it forgets the databases at the next drill.
            Action::Dismount { .. } | Action::DeleteDatabase { .. } if !up => Ok(()),
            other => restorer.act(other, &|line| out.note(line)).map(|_| ()).map_err(|f| format!("{}: {}", other.word(), f.why)),
        };
        reach(&format!("drill.tidy.{}", action.word()));
        bad.extend(done.err());
    }
    if !bad.is_empty() {
        return Err(Problem::new(Code::DrillFailed, bad.join("; ")).next("mend it, then `snapfreeze drill --tidy`"));
    }
    drills::end(&config.dirs.state).map_err(|e| e.problem())
}

/// Beside the set, and on this host: a set that is pruned takes its own records along.
fn keep(config: &Config, entry: &Entry, drill: &Drill, key: &Key) -> Result<(), Problem> {
    drills::write(&config.dirs.state, drill, key).map_err(|e| e.problem())?;
    drills::write(&entry.dir, drill, key).map(|_| ()).map_err(|e| e.problem())
}

fn end(drill: &Drill, out: Out) -> Result<u8, Problem> {
    out.object("drill", drill);
    if !drill.passed {
        return Err(Problem::new(Code::DrillFailed, drill.why.clone())
            .next("this backup, as it is, does not come back: make another and drill it now"));
    }
    let at = drill.sentinel.map(crate::when).unwrap_or_default();
    out.say(format!("DRILLED: {} comes back from {}, with everything up to {at} at least", drill.instance, drill.id));
    Ok(exit::DONE)
}

/// Of IRIS and Caché an instance of its own; of GT.M copies need none.
fn restorer(config: &Config, engine: &str, of: &InstanceName) -> Result<Box<dyn Restorer>, Problem> {
    let configured = crate::instances::configs(config).unwrap_or_default().into_iter().find(|c| c.name() == of);
    let one = match (engine, configured) {
        ("gtm", Some(c @ InstanceConfig::Gtm(_))) => c,
        ("iris" | "cache", configured) => {
            let Some(own) = &config.drill.instance else {
                return Err(impossible("no instance for drills is configured")
                    .next("install one beside the others, leave it down, and set [drill] instance = \"NAME\""));
            };
            if own == of {
                return Err(
                    impossible(format!("{own} is the instance that is backed up")).next("[drill] instance: one that is for drills alone")
                );
            }
            let base = match configured {
                Some(InstanceConfig::Iris(c) | InstanceConfig::Cache(c)) => c,
                _ => IrisConfig { log_dir: config.dirs.run.join("log"), ..IrisConfig::named(own.clone()) },
            };
            let c = IrisConfig { name: own.clone(), ..base };
            if engine == "iris" { InstanceConfig::Iris(c) } else { InstanceConfig::Cache(c) }
        }
        _ => return Err(impossible(format!("no instance {of} of {engine} is configured here")).next("name it in an [[instance]] table")),
    };
    let made =
        engine::restore::restorer(&one).map_err(|e| Problem::new(Code::ConfigInvalid, crate::chain(&e)).next("run `snapfreeze check`"))?;
    made.ok_or_else(|| impossible(format!("{of} is driven by commands, and how it is restored only they know")))
}

fn impossible(why: impl Into<String>) -> Problem {
    Problem::new(Code::RestoreImpossible, why.into())
}
