//! `list`, `show`, `verify`, `keep`, `prune`.

use super::freeze::{say_marks, say_window};
use super::progress::Bar;
use crate::cli;
use crate::config::Config;
use crate::out::Out;
use crate::verbs::drill::seen;
use comfy_table::{Table, presets};
use doors::clock::wall_now;
use protocol::code::exit;
use protocol::wire::Problem;
use protocol::{Code, Verdict, WallMs};
use serde_json::json;
use std::path::PathBuf;
use storage::catalogue::drills::Seen;
use storage::catalogue::retain::Policy;
use storage::catalogue::store::{self, Entry, State};
use storage::catalogue::{Error, files};

/// The last events of a log are in it.
const LOG_TAIL: usize = 64 << 10;
/// Until further notice.
const FOR_EVER: &str = "9999-12-30T00:00:00Z";

pub fn dirs(config: &Config, place: &cli::Where) -> Result<Vec<PathBuf>, Problem> {
    let dirs = if place.to.is_empty() { &config.backup.to } else { &place.to };
    if dirs.is_empty() {
        return Err(Problem::new(Code::UsageInvalid, "no catalogue directory is known")
            .next("name it with --to DIR, or set [backup] to = [\"DIR\"]"));
    }
    Ok(dirs.clone())
}

/// And the volumes of cloud sets that are mounted here, which no retention touches.
pub fn readable(config: &Config, place: &cli::Where) -> Result<Vec<PathBuf>, Problem> {
    match (dirs(config, place), super::restore::image::dirs(config)) {
        (Ok(d), images) => Ok(d.into_iter().chain(images).collect()),
        (Err(_), Some(images)) => Ok(vec![images]),
        (Err(p), None) => Err(p),
    }
}

pub fn list(config: &Config, place: &cli::Where, out: Out) -> u8 {
    let all = match readable(config, place).and_then(|d| store::list(&d).map_err(|e| e.problem())) {
        Ok(a) => a,
        Err(p) => return out.problem(&p),
    };
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "ID",
        "FROZEN AT",
        "VERDICT",
        "WINDOW",
        "INSTANCES",
        "RESTORE FROM",
        "KEPT",
        "DRILLED",
    ]);
    for e in &all {
        let drills = seen::of_set(config, e);
        out.object("entry", &as_json(e, &drills));
        let t = e.tags();
        let names: Vec<String> = t.map(|t| t.instances.iter().map(|i| i.instance.to_string()).collect()).unwrap_or_default();
        table.add_row([
            e.name.clone(),
            crate::when(e.at),
            e.state.word().to_uppercase(),
            t.and_then(|t| t.window_ms).map(|ms| format!("{ms} ms")).unwrap_or_default(),
            names.join(","),
            t.map(|t| t.restore_from().join(" ")).unwrap_or_default(),
            t.and_then(|t| t.keep_until).map(|_| "yes").unwrap_or_default().to_owned(),
            t.map(|_| seen::word(&drills)).unwrap_or_default(),
        ]);
    }
    if all.is_empty() {
        out.say("no backups yet; make one with `snapfreeze backup --to DIR`");
    } else {
        out.say(table.to_string());
    }
    // How far a restore can go beyond the newest set.
    let mut names: Vec<_> = all.iter().filter_map(Entry::tags).flat_map(|t| t.instances.iter().map(|i| i.instance.clone())).collect();
    names.sort();
    names.dedup();
    for c in names.iter().filter_map(|n| super::journals::check(config, n)) {
        out.object("recovery-point", &c);
        out.say(format!("{}: {}", c.name, c.text));
    }
    exit::DONE
}

fn as_json(e: &Entry, drills: &[Seen]) -> serde_json::Value {
    let (manifest, tags) = match &e.state {
        State::Set { manifest, tags } => (Some(manifest), Some(tags)),
        State::Newer { .. } | State::Partial | State::Damaged { .. } | State::Foreign => (None, None),
    };
    let why = match &e.state {
        State::Damaged { why } => why.clone(),
        State::Newer { schema } => format!("schema {schema} is newer than this program"),
        State::Set { .. } | State::Partial | State::Foreign => String::new(),
    };
    json!({
        "id": e.name, "dir": e.dir, "at": e.at, "state": e.state.word(), "why": why,
        "tags": manifest.map(|m| &m.tags), "window": manifest.and_then(|m| m.window.as_ref()),
        "restore_from": tags.map(|t| t.restore_from()),
        "drills": drills.iter().map(|s| json!({ "drill": s.drill, "genuine": s.genuine })).collect::<Vec<_>>(),
    })
}

fn one(config: &Config, args: &cli::One) -> Result<Entry, Problem> {
    readable(config, &args.place).and_then(|d| store::find(&d, &args.id).map_err(|e| e.problem()))
}

pub fn show(config: &Config, args: &cli::One, out: Out) -> u8 {
    let e = match one(config, args) {
        Ok(e) => e,
        Err(p) => return out.problem(&p),
    };
    let drills = seen::of_set(config, &e);
    out.object("entry", &as_json(&e, &drills));
    out.say(format!("{}  {}  {}", e.state.word().to_uppercase(), e.name, e.dir.display()));
    match &e.state {
        State::Set { manifest, tags } => {
            if let (Some(w), false) = (&manifest.window, out.json) {
                say_window(w, out);
            }
            say_marks(&tags.instances, out);
            if let Verdict::Broken(r) = &tags.verdict {
                out.say(format!("  broken: {r}"));
            }
            for p in &manifest.parts {
                out.say(format!("  {} by {}: {} files, {} bytes", p.path.display(), p.method, p.files, p.bytes));
            }
            for (k, v) in &manifest.tags {
                out.say(format!("  {k} = {v}"));
            }
            out.say(format!("  drills: {}", seen::word(&drills)));
            for s in drills.iter().filter(|s| s.genuine && !s.drill.passed) {
                out.say(format!("    {}: {}", crate::when(s.drill.ended_at), s.drill.why));
            }
        }
        State::Damaged { why } => out.say(format!("  {why}")),
        State::Newer { schema } => out.say(format!("  written by a newer snapfreeze (schema {schema})")),
        State::Partial | State::Foreign => {}
    }
    exit::DONE
}

pub fn verify(config: &Config, args: &cli::One, out: Out) -> u8 {
    let e = match one(config, args) {
        Ok(e) => e,
        Err(p) => return out.problem(&p),
    };
    let State::Set { manifest, tags } = &e.state else {
        return out.problem(&Problem::new(Code::CatalogueDamaged, format!("{} is {}: nothing to verify", e.name, e.state.word())));
    };
    let report = {
        let bar = Bar::new(out, "verify");
        files::verify(&e.dir, manifest, &|p| bar.show(p))
    };
    match report {
        Ok(r) => {
            out.object("verify", &json!({ "id": e.name, "good": r.good(), "verdict": tags.verdict, "report": r }));
            for m in &r.missing {
                out.say(format!("missing  {m}"));
            }
            for x in &r.extra {
                out.say(format!("extra    {x}"));
            }
            for (path, what) in &r.changed {
                out.say(format!("changed  {path}: {what}"));
            }
            if !r.good() {
                return out.problem(
                    &Problem::new(Code::CatalogueDamaged, "the set is not what was recorded")
                        .next("do not restore from it; use another set"),
                );
            }
            let by = if r.checksums { "sizes and checksums" } else { "sizes only" };
            out.say(format!("{} files, {} bytes as recorded ({by})", r.files, r.bytes));
            for (log, frozen, last) in ends_of_logs(&e, manifest) {
                out.object("image", &json!({ "log": log, "ends_frozen": frozen, "last_event": last }));
                out.say(format!("{log} ends {}: {last}", if frozen { "with the freeze" } else { "with another event than the freeze" }));
            }
            match &tags.verdict {
                // Sizes alone are no proof of anything that may let journals be purged.
                Verdict::Held if r.checksums => count(config, &e, manifest.counted_at, tags, out),
                Verdict::Held => exit::DONE,
                // Intact, and still not consistent: no path gives 0 for such a set.
                Verdict::Pending => out.problem(&Problem::new(Code::WindowBroken, "the files are intact, but the set has no verdict")),
                Verdict::Broken(r) => {
                    out.problem(&Problem::new(Code::WindowBroken, format!("the files are intact, but the set is broken: {r}")))
                }
            }
        }
        Err(e) => out.problem(&e.problem()),
    }
}

/// Only what is held and was just found whole, once, and only if the policy says so: what is counted lets journals be purged.
fn count(config: &Config, e: &Entry, counted: Option<WallMs>, tags: &protocol::tags::SetTags, out: Out) -> u8 {
    if !config.backup.set_history || counted.is_some() {
        return exit::DONE;
    }
    let all = match crate::instances::configs(config) {
        Ok(all) => all,
        Err(p) => return out.problem(&p),
    };
    let wanted: Vec<_> = all.iter().filter(|c| tags.instances.iter().any(|i| i.instance == *c.name())).collect();
    for c in wanted {
        match engine::restore::count_as_backup(c, tags.backup_id) {
            Ok(true) => out.say(format!("{}: entered into its history of backups", c.name())),
            Ok(false) => {}
            Err(f) => {
                return out
                    .problem(&Problem::new(Code::Internal, f.why).next("the set is whole; run verify again when the instance answers"));
            }
        }
    }
    let done = storage::catalogue::manifest::update(&e.dir, |m, _| m.counted_at = Some(wall_now()));
    done.map_or_else(|e| out.problem(&e.problem()), |_| exit::DONE)
}

pub fn keep(config: &Config, args: &cli::Keep, out: Out) -> u8 {
    let entry = match one(config, &cli::One { id: args.id.clone(), place: cli::Where { to: args.place.to.clone() } }) {
        Ok(e) => e,
        Err(p) => return out.problem(&p),
    };
    let until = match args.until.as_deref().map_or_else(|| parse_day(FOR_EVER), parse_day) {
        Ok(u) => u,
        Err(p) => return out.problem(&p),
    };
    let done = if args.drop { store::unkeep(&entry.dir) } else { store::keep(&entry.dir, until, &args.reason) };
    match done {
        Ok(_) => {
            out.object("keep", &json!({ "id": entry.name, "until": (!args.drop).then_some(until), "reason": args.reason }));
            out.say(if args.drop {
                format!("{} follows the retention again", entry.name)
            } else {
                format!("{} is kept until {}", entry.name, crate::when(until))
            });
            exit::DONE
        }
        Err(e) => out.problem(&e.problem()),
    }
}

/// A day, or a moment.
fn parse_day(s: &str) -> Result<WallMs, Problem> {
    let moment = if s.len() == 10 { format!("{s}T00:00:00Z") } else { s.to_owned() };
    moment
        .parse::<jiff::Timestamp>()
        .map(|t| WallMs(t.as_millisecond()))
        .map_err(|_| Problem::new(Code::UsageInvalid, format!("{s:?} is no day: use a form such as 2027-01-31")))
}

pub fn prune(config: &Config, args: &cli::Prune, out: Out) -> u8 {
    let b = &config.backup;
    let pick = |a: Option<u32>, c: Option<u32>| a.or(c).unwrap_or(0);
    let policy = Policy {
        keep_last: pick(args.keep_last, b.keep_last),
        daily: pick(args.keep_daily, b.keep_daily),
        weekly: pick(args.keep_weekly, b.keep_weekly),
        monthly: pick(args.keep_monthly, b.keep_monthly),
        ..Policy::default()
    };
    let dirs = match dirs(config, &args.place) {
        Ok(d) => d,
        Err(p) => return out.problem(&p),
    };
    let plan = match store::prune_plan(&dirs, &policy, wall_now()) {
        Ok(p) => p,
        Err(e) => return out.problem(&e.problem()),
    };
    for (e, d) in &plan {
        let bytes = e_bytes(e);
        out.object("decision", &json!({ "id": e.name, "delete": d.delete, "bytes": bytes, "reason": d.reason, "state": e.state.word() }));
        out.say(format!("{}  {}  {:>14} bytes  {}", if d.delete { "delete" } else { "keep  " }, e.name, bytes, d.reason));
    }
    let doomed = plan.iter().filter(|(_, d)| d.delete).count();
    if !args.yes {
        out.say(format!("{doomed} to delete; nothing was deleted (use --yes)"));
        return exit::DONE;
    }
    let (mut gone, mut failed): (u64, Vec<Error>) = (0, Vec::new());
    let done = store::prune(&dirs, &policy, wall_now(), &mut |e, _, r| match r {
        Ok(()) => {
            gone += 1;
            out.object("deleted", &json!({ "id": e.name }));
        }
        Err(err) => failed.push(err),
    });
    out.say(format!("{gone} deleted"));
    match done.err().or(failed.pop()) {
        None => exit::DONE,
        Some(e) => out.problem(&e.problem()),
    }
}

fn e_bytes(e: &Entry) -> u64 {
    match &e.state {
        State::Set { manifest, .. } => manifest.finished.as_ref().map_or(manifest.estimate.bytes, |f| f.bytes),
        State::Newer { .. } | State::Partial | State::Damaged { .. } | State::Foreign => 0,
    }
}

/// The engine's own log in the image: an image of a frozen system ends with "System suspended" (seen of IRIS 2021.1). A copy of the
/// log that was made a moment later may have more.
fn ends_of_logs(e: &Entry, manifest: &storage::catalogue::Manifest) -> Vec<(String, bool, String)> {
    let logs = files::list(&e.dir, manifest).unwrap_or_default().into_iter().map(|r| r.path());
    let logs = logs.filter(|p| p.file_name().is_some_and(|n| n == "messages.log" || n == "cconsole.log"));
    let end = |path: PathBuf| {
        let text = std::fs::read(e.dir.join(&path)).ok()?;
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL)..]).into_owned();
        let last = engine::iris::parse::messages::parse(&tail).pop()?;
        Some((path.display().to_string(), last.text.ends_with("Backup.General.ExternalFreeze: System suspended"), last.shown()))
    };
    logs.filter_map(end).collect()
}

/// Age of the newest held set, `None` when there is none.
pub fn newest_held(dirs: &[PathBuf]) -> Result<Option<WallMs>, Error> {
    Ok(store::list(dirs)?.into_iter().filter(|e| e.tags().is_some_and(|t| t.verdict == Verdict::Held)).map(|e| e.at).max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_ever_is_a_day_that_can_be_read_and_bad_days_are_not() {
        assert!(parse_day(FOR_EVER).is_ok_and(|at| at > parse_day("9999-01-01").expect("a day")));
        assert!(parse_day("2027-02-30").is_err());
    }
}
