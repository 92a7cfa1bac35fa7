//! What drills have shown: a word for each set, and whether the last one is too old.

use crate::config::Config;
use doors::clock::wall_now;
use engine::{Check, Level};
use protocol::{InstanceName, WallMs};
use std::time::Duration;
use storage::catalogue::drills::{self, Seen};
use storage::catalogue::store::{Entry, State};

/// All of a set, oldest first.
pub fn of_set(config: &Config, e: &Entry) -> Vec<Seen> {
    let State::Set { manifest, tags } = &e.state else { return Vec::new() };
    let list = manifest.finished.as_ref().map(|f| f.list_sha256.as_str()).unwrap_or_default();
    drills::read(&e.dir, tags.backup_id, list, &trusted(config))
}

/// For a person. A record that nobody here trusts proves nothing.
pub fn word(seen: &[Seen]) -> String {
    match seen.iter().rev().find(|s| s.genuine).or(seen.last()) {
        None => "never drilled".into(),
        Some(s) if !s.genuine => "not signed by a trusted key".into(),
        Some(s) if s.drill.passed => format!("passed {}", crate::when(s.drill.ended_at)),
        Some(s) => format!("FAILED {}", crate::when(s.drill.ended_at)),
    }
}

fn trusted(config: &Config) -> Vec<String> {
    drills::trusted(&config.dirs.state, &config.drill.trust)
}

/// This host's own records of an instance, oldest first.
fn own(config: &Config, name: &InstanceName) -> Vec<Seen> {
    let all = drills::read_own(&config.dirs.state, &trusted(config));
    all.into_iter().filter(|s| s.genuine && s.drill.instance == *name).collect()
}

/// The newest moment that a drill of this instance has shown.
pub fn last_sentinel(config: &Config, name: &InstanceName) -> Option<WallMs> {
    own(config, name).into_iter().filter(|s| s.drill.passed).filter_map(|s| s.drill.sentinel).max()
}

/// When the last drill passed that this host made.
pub fn last_passed(config: &Config) -> Option<WallMs> {
    let all = drills::read_own(&config.dirs.state, &trusted(config));
    all.into_iter().filter(|s| s.genuine && s.drill.passed).map(|s| s.drill.ended_at).max()
}

/// A line for an instance.
pub fn check(config: &Config, name: &InstanceName) -> Check {
    let line = |level, text: String| Check { name: format!("{name} drill"), level, text };
    let all = own(config, name);
    let wanted = config.drill.sentinel.contains_key(name);
    let age = |at: WallMs| Duration::from_secs(u64::try_from((wall_now().0 - at.0).max(0)).unwrap_or(0) / 1000);
    match (all.last(), all.iter().rev().find(|s| s.drill.passed)) {
        (None, _) if wanted => line(Level::Warn, "never drilled: run `snapfreeze drill latest`".into()),
        (None, _) => line(Level::Ok, "never drilled, and none is configured ([drill]): whether a set comes back was not tried here".into()),
        (Some(last), _) if !last.drill.passed => {
            line(Level::Fail, format!("the last drill failed, {}: {}", crate::when(last.drill.ended_at), last.drill.why))
        }
        (_, Some(passed)) => {
            let since = age(passed.drill.ended_at);
            let text = format!("{} came back {} ago", passed.drill.id, humantime::format_duration(since));
            match since > config.drill.max_age {
                true => line(
                    Level::Fail,
                    format!(
                        "{text}: more than max_age {}; run `snapfreeze drill latest`",
                        humantime::format_duration(config.drill.max_age)
                    ),
                ),
                false => line(Level::Ok, text),
            }
        }
        (Some(_), None) => line(Level::Warn, "never drilled".into()),
    }
}
