//! `journals ship`, `journals list`: the journals written after a backup, saved in another place.

use crate::cli;
use crate::config::Config;
use crate::instances;
use crate::out::Out;
use crate::points::reach;
use comfy_table::{Table, presets};
use doors::clock::{boot_now, wall_now};
use engine::{Check, InstanceConfig, Level, Role};
use protocol::code::exit;
use protocol::wire::Problem;
use protocol::{Code, InstanceName};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use storage::ship::{self, Index};

const LAYOUT_MS: u64 = 20_000;

pub fn journals(config: &Config, args: &cli::Journals, out: Out) -> u8 {
    let done = match &args.of {
        cli::JournalsOf::Ship { into, instances } => ship_all(config, into.as_deref(), instances, out),
        cli::JournalsOf::List { into, verify } => list(config, into.as_deref(), *verify, out),
    };
    done.unwrap_or_else(|p| out.problem(&p))
}

fn place(config: &Config, into: Option<&Path>) -> Result<PathBuf, Problem> {
    let dir = into.or(config.journals.ship_to.as_deref());
    dir.map(Path::to_owned).ok_or_else(|| {
        Problem::new(Code::UsageInvalid, "no place for journals is known")
            .next("name it with --into DIR, or set [journals] ship_to = \"DIR\"")
    })
}

/// Where one instance's are.
pub fn shipped_dir(to: &Path, name: &InstanceName) -> PathBuf {
    to.join(name.as_str())
}

fn ship_all(config: &Config, into: Option<&Path>, wanted: &[InstanceName], out: Out) -> Result<u8, Problem> {
    let to = place(config, into)?;
    if !to.is_dir() {
        return Err(Problem::new(Code::UsageInvalid, format!("{} is no directory", to.display()))
            .next("make it first, on another disk than the journals, owned by root, mode 0700"));
    }
    let mut problems = Vec::new();
    for i in &instances::choose(&instances::open(config)?, wanted)? {
        if !matches!(i.config, InstanceConfig::Iris(_) | InstanceConfig::Cache(_)) {
            out.note(format!("{}: its journals are not shipped (only IRIS's and Caché's are)", i.name));
            continue;
        }
        let places = i.engine.layout(boot_now().plus(LAYOUT_MS)).map_err(|e| Problem::new(Code::RefusedInstance, crate::chain(&e)))?;
        let dirs: Vec<PathBuf> =
            places.iter().filter(|p| matches!(p.role, Role::Journal | Role::Altjournal)).map(|p| p.path.clone()).collect();
        if let Some(d) = dirs.iter().find(|d| to.starts_with(d)) {
            return Err(Problem::new(Code::UsageInvalid, format!("{} lies in the journal directory {}", to.display(), d.display()))
                .next("ship to another disk: it is there for the day on which this one is lost"));
        }
        let began = wall_now();
        let sources: Vec<PathBuf> = engine::iris::restore::journal_files(&dirs).into_iter().map(|f| f.path).collect();
        let done = ship::pass(&sources, &shipped_dir(&to, &i.name), began, &reach)
            .map_err(|e| Problem::new(Code::ShipFailed, crate::chain(&e)).next("look at the disk, then ship again"))?;
        out.say(format!("{}: {} bytes of {} journals shipped to {}", i.name, done.bytes, done.files, to.display()));
        out.object(
            "shipped",
            &json!({ "instance": i.name, "files": done.files, "bytes": done.bytes, "complete_at": done.complete_at,
            "problems": done.problems }),
        );
        problems.extend(done.problems);
    }
    match problems.is_empty() {
        true => Ok(exit::DONE),
        false => Err(Problem::new(Code::ShipFailed, problems.join("; "))
            .next("what was shipped before stays; move its directory aside and ship anew if the journals were replaced")),
    }
}

fn list(config: &Config, into: Option<&Path>, verify: bool, out: Out) -> Result<u8, Problem> {
    let to = place(config, into)?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["INSTANCE", "JOURNALS", "FROM", "TO", "BYTES", "RECOVERY POINT"]);
    let mut bad = Vec::new();
    let entries = std::fs::read_dir(&to).map_err(|e| Problem::new(Code::UsageInvalid, format!("{}: {e}", to.display())))?;
    for dir in entries.flatten().map(|e| e.path()).filter(|p| p.join(ship::INDEX).is_file()) {
        let index = ship::read(&dir).map_err(|e| Problem::new(Code::ShipFailed, crate::chain(&e)))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes: u64 = index.files.values().map(|f| f.size).sum();
        let end = |n: Option<&String>| n.cloned().unwrap_or_default();
        let (first, last) = (end(index.files.keys().next()), end(index.files.keys().next_back()));
        let differs = if verify { ship::verify(&dir, &index) } else { Vec::new() };
        out.object(
            "journals",
            &json!({ "instance": name, "files": index.files.len(), "first": first, "last": last, "bytes": bytes,
            "complete_at": index.complete_at, "verified": verify, "differs": differs }),
        );
        table.add_row([
            name,
            index.files.len().to_string(),
            first,
            last,
            bytes.to_string(),
            index.complete_at.map(crate::when).unwrap_or_default(),
        ]);
        bad.extend(differs);
    }
    out.say(table.to_string());
    match bad.is_empty() {
        true => Ok(exit::DONE),
        false => Err(Problem::new(Code::ShipFailed, bad.join("; "))
            .next("move the damaged copy away and ship again while the journal is still there")),
    }
}

/// The age of the recovery point; `None` where nothing is to be shipped.
pub fn check(config: &Config, name: &InstanceName) -> Option<Check> {
    let dir = shipped_dir(config.journals.ship_to.as_deref()?, name);
    let line = |level, text| Some(Check { name: format!("{name} journals shipped"), level, text });
    let index: Index = match ship::read(&dir) {
        Ok(i) => i,
        Err(e) => return line(Level::Fail, crate::chain(&e)),
    };
    let Some(at) = index.complete_at else {
        return line(Level::Fail, "none yet: run `snapfreeze journals ship` by a timer".into());
    };
    let age = Duration::from_secs(u64::try_from((wall_now().0 - at.0).max(0)).unwrap_or(0) / 1000);
    let text = format!("everything up to {} is shipped, {} ago", crate::when(at), humantime::format_duration(age));
    match age > config.journals.max_age {
        true => line(Level::Fail, format!("{text}: more than max_age {}", humantime::format_duration(config.journals.max_age))),
        false => line(Level::Ok, text),
    }
}
