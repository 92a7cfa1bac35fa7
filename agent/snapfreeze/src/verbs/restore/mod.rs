//! `restore plan`, `run`, `resume`, `abandon`: the planner is `recovery`, the engine's steps are `engine::restore`, files are
//! moved by `storage::place`; here they are brought together. `record.rs` is what makes a run survive a crash.

pub mod image;
pub mod kept;
pub mod record;
pub mod run;

use crate::cli;
use crate::config::Config;
use crate::out::Out;
use crate::verbs::catalogue::readable;
use engine::restore::Restorer;
use protocol::code::exit;
use protocol::wire::{Problem, RestoreReply};
use protocol::{Code, InstanceName};
use record::{Record, Records};
use recovery::{Found, KeptFile, Missing, Plan, Room, Scope, Undo, Until, WijUse, Wish};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use storage::catalogue::store::{self, Entry};
use storage::{place, ship};

pub fn restore(config: &Config, args: &cli::Restore, out: Out) -> u8 {
    let done = match &args.of {
        cli::RestoreOf::Plan(a) => plan(config, a, out),
        cli::RestoreOf::Run { wish, yes } => begin(config, wish, *yes, out),
        cli::RestoreOf::Resume { yes } => resume(config, *yes, out),
        cli::RestoreOf::Abandon => abandon(config, out),
        cli::RestoreOf::Mount(a) => return image::mount(config, a, out),
        cli::RestoreOf::Unmount { id } => return image::unmount(config, *id, out),
    };
    done.unwrap_or_else(|p| match &args.of {
        cli::RestoreOf::Plan(a) | cli::RestoreOf::Run { wish: a, .. } if out.packed => out.fail(a.id.parse().ok(), &p),
        _ => out.problem(&p),
    })
}

/// For a caller across a cloud.
fn answer(plan: &Plan, done: bool, out: Out) {
    if out.packed {
        let steps = plan.steps.iter().map(|s| s.action.to_string()).collect();
        let (id, instance, notes, aside) = (plan.id, plan.instance.clone(), plan.warnings.clone(), run::aside(plan));
        out.answer("restore", &RestoreReply { id, instance, steps, notes, done, aside }, &json!({ "id": id, "done": done }));
    }
}

/// A run that has begun and not ended, in a sentence. Reads only, beside one that is running.
pub fn waiting(state: &Path) -> Result<Option<(InstanceName, String)>, Problem> {
    let found = record::unfinished(&state.join("restores"))?;
    Ok(found.map(|r| {
        let text = format!("restore {} of {} stands at step {} of {}", r.run, r.plan.instance, r.done() + 1, r.plan.steps.len());
        (r.plan.instance, text)
    }))
}

fn plan(config: &Config, args: &cli::RestoreWish, out: Out) -> Result<u8, Problem> {
    let plan = make(config, args, &record::new_run())?;
    show(&plan, out);
    out.say("nothing was changed; carry it out with `snapfreeze restore run` and the same arguments");
    answer(&plan, false, out);
    Ok(exit::DONE)
}

fn begin(config: &Config, args: &cli::RestoreWish, yes: bool, out: Out) -> Result<u8, Problem> {
    let records = Records::open(&config.dirs.state)?;
    if let Some(r) = records.unfinished()? {
        return Err(Problem::new(Code::RestoreUnfinished, format!("restore {} of {} is not finished", r.run, r.plan.instance))
            .next("go on with `snapfreeze restore resume`, or end it with `snapfreeze restore abandon`"));
    }
    let run = record::new_run();
    let plan = make(config, args, &run)?;
    show(&plan, out);
    run::confirmed(&plan, yes)?;
    let record = Record::new(run, plan);
    records.write(&record)?;
    go_on(config, &records, record, out)
}

fn resume(config: &Config, yes: bool, out: Out) -> Result<u8, Problem> {
    let records = Records::open(&config.dirs.state)?;
    let Some(record) = records.unfinished()? else {
        return Err(Problem::new(Code::UsageInvalid, "no restore is unfinished here").next("begin one with `snapfreeze restore run ID`"));
    };
    out.say(format!("going on with restore {} at step {} of {}", record.run, record.done() + 1, record.plan.steps.len()));
    run::confirmed(&record.plan, yes)?;
    go_on(config, &records, record, out)
}

fn go_on(config: &Config, records: &Records, record: Record, out: Out) -> Result<u8, Problem> {
    let restorer = restorer(config, &record.plan.instance)?;
    let plan = record.plan.clone();
    let code = run::run(restorer.as_ref(), records, record, out)?;
    if code == exit::DONE {
        answer(&plan, true, out);
    }
    Ok(code)
}

/// The files stay as they are; a person goes on by hand.
fn abandon(config: &Config, out: Out) -> Result<u8, Problem> {
    let records = Records::open(&config.dirs.state)?;
    let Some(mut record) = records.unfinished()? else {
        return Err(Problem::new(Code::UsageInvalid, "no restore is unfinished here"));
    };
    record.abandoned = true;
    records.write(&record)?;
    out.say(format!(
        "restore {} is given up after {} of {} steps; nothing was put back",
        record.run,
        record.done(),
        record.plan.steps.len()
    ));
    for dir in run::aside(&record.plan) {
        out.say(format!("  kept aside: {}", dir.display()));
    }
    out.object("restore-abandoned", &record);
    Ok(exit::DONE)
}

/// Everything that can fail, before anything is changed.
fn make(config: &Config, args: &cli::RestoreWish, run: &str) -> Result<Plan, Problem> {
    let entry = readable(config, &args.place).and_then(|d| store::find(&d, &args.id).map_err(|e| e.problem()))?;
    let name = instance(&entry, args.instance.as_ref())?;
    let kept = kept::read(&entry, &name)?;
    let restorer = restorer(config, &name)?;
    let mut found = restorer.found().map_err(|e| Problem::new(Code::RestoreImpossible, crate::chain(&e)).next("run `snapfreeze check`"))?;
    let wish = wish(args, run)?;
    look(&kept, &wish, &mut found)?;
    if kept.engine != "gtm" {
        found.shipped = shipped(config, args.journals.as_deref(), &name)?;
    }
    recovery::plan(&kept, &found, &wish).map_err(|all| impossible(&all))
}

/// Journals that were saved elsewhere, each compared with its checksums.
pub fn shipped(config: &Config, journals: Option<&Path>, name: &InstanceName) -> Result<Vec<KeptFile>, Problem> {
    let Some(to) = journals.or(config.journals.ship_to.as_deref()) else { return Ok(Vec::new()) };
    let dir = super::journals::shipped_dir(to, name);
    let bad = |why: String| {
        Problem::new(Code::RestoreImpossible, why).next("leave the shipped journals out (--journals to an empty directory), or mend them")
    };
    let index = ship::read(&dir).map_err(|e| bad(crate::chain(&e)))?;
    let differs = ship::verify(&dir, &index);
    if !differs.is_empty() {
        return Err(bad(format!("shipped journals are damaged: {}", differs.join("; "))));
    }
    let file = |(n, s): (&String, &ship::Shipped)| KeptFile { copy: dir.join(n), was: n.into(), size: s.size, sha256: None };
    Ok(index.files.iter().map(file).collect())
}

pub fn instance(entry: &Entry, wanted: Option<&InstanceName>) -> Result<InstanceName, Problem> {
    let names: Vec<&InstanceName> = entry.tags().map(|t| t.instances.iter().map(|i| &i.instance).collect()).unwrap_or_default();
    let known = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (wanted, names.as_slice()) {
        (Some(w), all) if all.contains(&w) => Ok(w.clone()),
        (None, [one]) => Ok((*one).clone()),
        (Some(w), _) => Err(Problem::new(Code::UsageInvalid, format!("the set holds no instance {w}")).next(format!("it holds {known}"))),
        (None, []) => Err(Problem::new(Code::CatalogueDamaged, format!("{} names no instance", entry.name))),
        (None, _) => Err(Problem::new(Code::UsageInvalid, "the set holds several instances").next(format!("--instance: one of {known}"))),
    }
}

pub fn restorer(config: &Config, name: &InstanceName) -> Result<Box<dyn Restorer>, Problem> {
    let all = crate::instances::configs(config)?;
    let Some(one) = all.into_iter().find(|c| c.name() == name) else {
        return Err(Problem::new(Code::RestoreImpossible, format!("no instance {name} is known on this host"))
            .next("install it, or name it in an [[instance]] table of the configuration"));
    };
    let made =
        engine::restore::restorer(&one).map_err(|e| Problem::new(Code::ConfigInvalid, crate::chain(&e)).next("run `snapfreeze check`"))?;
    made.ok_or_else(|| {
        Problem::new(Code::RestoreImpossible, format!("{name} is driven by commands, and how it is restored only they know"))
            .next("its files lie in the set below data/")
    })
}

fn wish(args: &cli::RestoreWish, run: &str) -> Result<Wish, Problem> {
    let usage = |why: String| Problem::new(Code::UsageInvalid, why).next("see `snapfreeze restore run --help`");
    let mut into = BTreeMap::new();
    for word in &args.into {
        let (from, to) = word.split_once('=').ok_or_else(|| usage(format!("--into {word:?} is no OLD=NEW")))?;
        into.insert(plain(Path::new(from)), plain(Path::new(to)));
    }
    let databases: Vec<PathBuf> = args.databases.iter().map(|d| plain(d)).collect();
    if let Some(d) = databases.iter().chain(into.values()).find(|d| !d.is_absolute()) {
        return Err(usage(format!("{} is not an absolute path", d.display())));
    }
    if let Some(d) = into.keys().find(|d| !databases.is_empty() && !databases.contains(d)) {
        return Err(usage(format!("--into names {}, which no --database asks for", d.display())));
    }
    let scope = match (databases.is_empty(), args.wij) {
        (false, None) => Scope::Databases(databases),
        (false, Some(_)) => return Err(usage("--wij belongs to a whole system, --database to single databases".into())),
        (true, None | Some(cli::Wij::Backup)) => Scope::System(WijUse::OfBackup),
        (true, Some(cli::Wij::Without)) => Scope::System(WijUse::Without),
    };
    let until = match args.until.as_str() {
        "end" => Until::End,
        "backup" => Until::Backup,
        file if recovery::journals::name(recovery::journals::plain(file)).is_some() => Until::File(file.into()),
        other => return Err(usage(format!("--until {other:?}: use end, backup, or the name of a journal file"))),
    };
    Ok(Wish {
        run: run.into(),
        scope,
        until,
        into,
        everything: args.everything,
        online: args.online,
        even_if_not_held: args.even_if_not_held,
    })
}

pub fn plain(path: &Path) -> PathBuf {
    match path.to_string_lossy().trim_end_matches('/') {
        "" => "/".into(),
        t => t.into(),
    }
}

/// What lies where files would go, and how much room is there.
fn look(kept: &recovery::Kept, wish: &Wish, found: &mut Found) -> Result<(), Problem> {
    let target = |dir: &Path| wish.into.get(dir).cloned().unwrap_or_else(|| dir.to_owned());
    let mut places: Vec<PathBuf> = Vec::new();
    for db in &kept.databases {
        let to = target(&db.dir);
        if kept.engine == "gtm" {
            if to.symlink_metadata().is_ok() {
                found.present.push(to.clone());
            }
        } else {
            found.present.extend(database_files(&to));
        }
        places.push(to);
    }
    if kept.engine == "gtm" {
        let files: Vec<PathBuf> = kept.databases.iter().map(|d| d.dir.clone()).collect();
        found.running = !place::open_by(&files).is_empty();
        found.journals = kept::live_gtm_journals(kept);
    } else if found.wij.symlink_metadata().is_ok() {
        found.present.push(found.wij.clone());
    }
    if wish.everything {
        let there = kept
            .others
            .iter()
            .chain(&kept.wij)
            .chain(kept.journals.iter().filter(|_| kept.engine == "gtm"))
            .map(|f| &f.was)
            .filter(|p| p.symlink_metadata().is_ok());
        let new: Vec<PathBuf> = there.filter(|p| !found.is_present(p)).cloned().collect();
        found.present.extend(new);
        places.extend(kept.others.iter().filter_map(|f| f.was.parent().map(Path::to_owned)));
        places.sort();
        places.dedup();
    }
    places.extend(found.wij.parent().map(Path::to_owned));
    places.extend(found.journal_dirs.iter().cloned());
    for path in places {
        let (free, device) = place::room(&path)
            .map_err(|e| Problem::new(Code::RestoreImpossible, format!("{}: {e}", path.display())).next("make the directory readable"))?;
        found.room.push(Room { path, device, free });
    }
    Ok(())
}

/// What a database's directory holds of a database: the file, its volumes, the lock that goes with a running one.
fn database_files(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut out: Vec<PathBuf> = files.filter(|p| kept::is_database_file(p) || p.extension().is_some_and(|e| e == "lck")).collect();
    out.sort();
    out
}

pub fn impossible(all: &[Missing]) -> Problem {
    let what: Vec<&str> = all.iter().map(|m| m.what.as_str()).collect();
    let next: Vec<&str> = all.iter().map(|m| m.next.as_str()).collect();
    Problem::new(Code::RestoreImpossible, what.join("; ")).next(next.join("; "))
}

fn show(plan: &Plan, out: Out) {
    out.object("restore-plan", plan);
    let cost = plan.cost();
    out.say(format!("restore of {} from {}: {} files, {} bytes to copy", plan.instance, plan.id, cost.files, cost.bytes));
    for w in &plan.warnings {
        out.say(format!("  note: {w}"));
    }
    for (n, s) in plan.steps.iter().enumerate() {
        out.say(format!("{:>3}. {}{}", n + 1, s.action, if s.dangerous { "   (asks first)" } else { "" }));
        out.say(format!("       why    {}", s.why));
        out.say(format!("       check  {}", s.check));
        match &s.undo {
            Undo::NotNeeded => {}
            Undo::By(by) => out.say(format!("       undo   {by}")),
            Undo::Cannot(why) => out.say(format!("       CANNOT BE UNDONE: {why}")),
        }
    }
    out.say(format!("if the recovery at the first start fails: {}", plan.if_recovery_fails));
}
