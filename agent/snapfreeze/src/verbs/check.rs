//! `check`: everything that can be known before a freeze, one line each.

use super::catalogue;
use crate::caller::Caller;
use crate::cli;
use crate::config::Config;
use crate::instances;
use crate::layout::{self, InstancePlaces};
use crate::out::Out;
use crate::verbs::guard;
use crate::verbs::hook::plugin;
use crate::verbs::others;
use doors::clock::{boot_now, wall_now};
use engine::{Check, Level};
use protocol::code::exit;
use protocol::wire::{Phase, StatusReply};
use std::path::{Path, PathBuf};
use std::time::Duration;
use storage::cover::{self, Contains};

const DISCOVER_MS: u64 = 20_000;
/// tmpfs and ramfs, as `statfs` names them.
const MEMORY_FS: [i64; 2] = [0x0102_1994, 0x8584_58f6];

pub async fn check(config: &Config, args: &cli::Check, out: Out) -> u8 {
    let mut lines = Vec::new();
    agent(config, &mut lines).await;
    host(config, &mut lines);
    instances(config, args, &mut lines);
    restore(config, &mut lines);
    if let Some(text) = super::drill::interrupted(&config.dirs.state) {
        line(&mut lines, "drill", Level::Warn, text);
    }
    age(config, args, &mut lines);
    lines.extend(others::look(Path::new("/")));
    azure_backup(config, &mut lines);
    let worst = lines.iter().map(|l| l.level).max().unwrap_or(Level::Ok);
    if args.nagios {
        return nagios(&lines, worst);
    }
    for l in &lines {
        out.object("check", l);
        out.say(format!("{}: {} ({})", l.name, word(l.level), l.text));
    }
    match worst {
        Level::Ok | Level::Warn => exit::DONE,
        Level::Fail => exit::REFUSED,
    }
}

fn nagios(lines: &[Check], worst: Level) -> u8 {
    let (word, code) = match worst {
        Level::Ok => ("OK", 0),
        Level::Warn => ("WARNING", 1),
        Level::Fail => ("CRITICAL", 2),
    };
    let bad: Vec<String> =
        lines.iter().filter(|l| l.level == worst && worst != Level::Ok).map(|l| format!("{}: {}", l.name, l.text)).collect();
    let text = if bad.is_empty() { format!("{} checks passed", lines.len()) } else { bad.join("; ") };
    Out { json: false, packed: false }.say(format!("SNAPFREEZE {word} - {}", text.replace(['\n', '|'], " ")));
    code
}

const fn word(l: Level) -> &'static str {
    match l {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "fail",
    }
}

fn line(lines: &mut Vec<Check>, name: &str, level: Level, text: impl Into<String>) {
    lines.push(Check { name: name.into(), level, text: text.into() });
}

async fn agent(config: &Config, lines: &mut Vec<Check>) {
    match Caller::new(config).client().get::<StatusReply>("/v1/status", Duration::from_secs(5)).await {
        Ok(s) => {
            let version = env!("CARGO_PKG_VERSION");
            match s.agent_version == version {
                true => line(lines, "agent", Level::Ok, format!("version {version} answers on {}", config.dirs.socket().display())),
                false => line(lines, "agent", Level::Warn, format!("it runs version {}, this is {version}: restart it", s.agent_version)),
            }
            match s.phase {
                Phase::Idle => line(lines, "frozen", Level::Ok, "no freeze is open"),
                _ if s.left_frozen => line(lines, "frozen", Level::Fail, "LEFT FROZEN: run `sudo snapfreeze thaw`"),
                p => line(lines, "frozen", Level::Warn, format!("a freeze is open ({p:?}): see `snapfreeze status`")),
            }
            for a in s.alarms {
                line(lines, "alarm", Level::Warn, a);
            }
        }
        Err(p) => line(lines, "agent", Level::Fail, format!("{}: {}", p.detail, p.next)),
    }
}

fn host(config: &Config, lines: &mut Vec<Check>) {
    if config.path.exists() {
        line(lines, "configuration", Level::Ok, config.path.display().to_string());
    } else {
        line(lines, "configuration", Level::Ok, format!("{} is not there: defaults, instances by discovery", config.path.display()));
    }
    match rustix::fs::statfs(&config.dirs.run) {
        Ok(s) if MEMORY_FS.contains(&s.f_type) => {
            line(lines, "run directory", Level::Ok, format!("{} is in memory", config.dirs.run.display()))
        }
        Ok(_) => line(
            lines,
            "run directory",
            Level::Warn,
            format!("{} lies on a disk, which may be frozen: put it on tmpfs", config.dirs.run.display()),
        ),
        Err(e) => line(lines, "run directory", Level::Fail, format!("{}: {e}", config.dirs.run.display())),
    }
    match rustix::fs::statvfs(&config.dirs.state) {
        Ok(s) if s.f_bavail * s.f_frsize < 1 << 20 => line(
            lines,
            "journal",
            Level::Fail,
            format!("less than 1 MiB is free at {}: freezes will be refused", config.dirs.state.display()),
        ),
        Ok(_) => line(lines, "journal", Level::Ok, config.dirs.journal().display().to_string()),
        Err(e) => line(lines, "journal", Level::Fail, format!("{}: {e}", config.dirs.state.display())),
    }
    if let Ok(rules) = config.window.rules(None) {
        let limit = rules.wd_suspend_limit.secs();
        let text = format!(
            "hold {} s, engine limit {}, time-out {} s",
            rules.hold.ms() / 1000,
            limit.map_or("none".into(), |l| format!("{l} s")),
            rules.external_freeze_timeout_s
        );
        match limit {
            Some(_) => line(lines, "window", Level::Ok, text),
            None => line(lines, "window", Level::Warn, format!("{text}: when agent and watchdog are dead, nothing thaws")),
        }
    }
}

fn instances(config: &Config, args: &cli::Check, lines: &mut Vec<Check>) {
    let set = match instances::open(config) {
        Ok(s) if s.is_empty() => {
            return line(lines, "instances", Level::Fail, "none is configured and none was found: add an [[instance]] table");
        }
        Ok(s) => s,
        Err(p) => return line(lines, "instances", Level::Fail, format!("{} ({})", p.detail, p.next)),
    };
    for i in &set {
        let by = boot_now().plus(DISCOVER_MS);
        let name = i.name.to_string();
        let facts = match i.engine.discover(by) {
            Ok(f) => f,
            Err(e) => {
                line(lines, &name, Level::Fail, crate::chain(&e));
                continue;
            }
        };
        line(lines, &name, Level::Ok, format!("{} {}, {}, frozen: {}", facts.engine, facts.version, facts.status, facts.frozen.word()));
        if let Ok(rules) = config.window.rules(None) {
            match engine::admit::admit(&facts, &rules, &i.config) {
                Ok(warnings) => {
                    for w in warnings {
                        line(lines, &format!("{name} admission"), Level::Warn, w);
                    }
                    line(lines, &format!("{name} admission"), Level::Ok, "a freeze would be admitted now");
                }
                Err(p) => line(lines, &format!("{name} admission"), Level::Fail, format!("{}: {} ({})", p.code, p.detail, p.next)),
            }
        }
        for c in &facts.checks {
            line(lines, &format!("{name} {}", c.name), c.level, c.text.clone());
        }
        places(config, args, i, by, lines);
    }
}

fn places(config: &Config, args: &cli::Check, i: &engine::Instance, by: protocol::BootMs, lines: &mut Vec<Check>) {
    let label = format!("{} layout", i.name);
    let places = match i.engine.layout(by) {
        Ok(p) => p,
        Err(e) => return line(lines, &label, Level::Fail, crate::chain(&e)),
    };
    lines.extend(guard::look(sets(config, args), &i.name, &places));
    lines.extend(super::journals::check(config, &i.name));
    lines.push(super::drill::seen::check(config, &i.name));
    let wanted = layout::wanted(&[InstancePlaces { instance: i.name.clone(), places, facts: None }]);
    let seen = match layout::read(config, &wanted) {
        Ok(l) => l,
        Err(p) => return line(lines, &label, Level::Fail, p.detail),
    };
    match cover::check(&seen, &Contains::Trees(wanted.iter().map(|w| w.path.clone()).collect())) {
        Ok(c) => {
            line(lines, &label, Level::Ok, format!("{} paths on {} file systems, disks {}", wanted.len(), c.sync.len(), c.disks.join(", ")))
        }
        Err(p) => line(lines, &label, Level::Fail, format!("{}: {} ({})", p.code, p.detail, p.next)),
    }
}

fn azure_backup(config: &Config, lines: &mut Vec<Check>) {
    let a = &config.azure_backup;
    let seen = plugin::look(&plugin::Roots::host(&a.dir), a.hold_ms);
    if let (false, Err(e)) = (seen.is_empty(), config.window.rules(Some(a.hold_ms))) {
        line(lines, "azure backup", Level::Fail, format!("[azure_backup] hold: {e}"));
    }
    lines.extend(seen);
}

fn sets<'a>(config: &'a Config, args: &'a cli::Check) -> &'a [PathBuf] {
    if args.to.is_empty() { &config.backup.to } else { &args.to }
}

/// A restore that was interrupted is somebody's to go on with.
fn restore(config: &Config, lines: &mut Vec<Check>) {
    match super::restore::waiting(&config.dirs.state) {
        Ok(None) => {}
        Ok(Some((_, text))) => line(lines, "restore", Level::Fail, format!("{text}: `snapfreeze restore resume`, or `abandon`")),
        Err(p) => line(lines, "restore", Level::Fail, format!("{} ({})", p.detail, p.next)),
    }
}

fn age(config: &Config, args: &cli::Check, lines: &mut Vec<Check>) {
    let dirs = sets(config, args);
    if dirs.is_empty() {
        return;
    }
    let max = config.window.max_age;
    match catalogue::newest_held(dirs) {
        Ok(Some(at)) => {
            let age = Duration::from_millis((wall_now().0 - at.0).max(0) as u64);
            let text = format!("the last held set is {} old", humantime::format_duration(Duration::from_secs(age.as_secs())));
            match age > max {
                true => line(
                    lines,
                    "age",
                    Level::Fail,
                    format!("{text}, more than max_age {}: run a backup and find out why none was made", humantime::format_duration(max)),
                ),
                false => line(lines, "age", Level::Ok, text),
            }
        }
        Ok(None) => line(lines, "age", Level::Fail, "no held set yet: run `snapfreeze backup`"),
        Err(e) => line(lines, "age", Level::Fail, crate::chain(&e)),
    }
}
