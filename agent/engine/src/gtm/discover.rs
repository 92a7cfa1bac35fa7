//! What is there: version, regions, journaling, buffers; and every path of the database.

use super::ask::{Region, Seen};
use super::call::Caller;
use super::freeze::JOURNALING_ON;
use crate::{Check, Error, Facts, Journaling, Level, Place, Role};
use doors::clock::boot_now;
use protocol::BootMs;
use protocol::wire::Frozen;
use std::path::{Path, PathBuf};

/// Between two looks at the counters of the write rate. Outside every window.
const SAMPLE_MS: u64 = 200;
/// A database file that must grow while it is frozen stops its writers: below this many free blocks we warn.
const FEW_FREE_BLOCKS: u64 = 200;

impl Caller {
    fn unreadable(&self, why: String) -> Error {
        Error::Unreadable { what: format!("the state of {} ({})", self.config.name, self.config.global_directory.display()), why }
    }

    pub fn discover(&self, by: BootMs) -> Result<Facts, Error> {
        let first = self.ask(by, None).map_err(|e| self.unreadable(e))?;
        let sampled_at = boot_now();
        let mut buffers_last_ms = None;
        if first.frozen() == Frozen::No && by.since(boot_now()) > 2 * SAMPLE_MS {
            std::thread::sleep(std::time::Duration::from_millis(SAMPLE_MS));
            if let Ok(second) = self.ask(by, None) {
                let took = boot_now().since(sampled_at);
                buffers_last_ms = buffers_last(&first, &second, took);
            }
        }
        let journals: Vec<String> =
            first.regions.iter().filter(|r| !r.journal.is_empty()).map(|r| format!("{}:{}", r.name, r.journal)).collect();
        let off: Vec<&str> = first.regions.iter().filter(|r| r.journal_state != JOURNALING_ON).map(|r| r.name.as_str()).collect();
        let mut checks = checks(&first, buffers_last_ms, &off);
        let files: Vec<&str> = first.regions.iter().map(|r| r.file.as_str()).collect();
        if let Some(text) = self.wrong_user(&files) {
            checks.push(Check { name: "user".into(), level: Level::Fail, text });
        }
        Ok(Facts {
            engine: "gtm".into(),
            version: first.version.clone(),
            running: !first.regions.is_empty(),
            status: status(&first),
            frozen: first.frozen(),
            journaling: Some(if off.is_empty() { Journaling::Normal } else { Journaling::Other(format!("off in {}", off.join(", "))) }),
            mirror: None,
            has_suspend_limit: false,
            buffers_last_ms,
            guid: None,
            current_journal: (!journals.is_empty()).then(|| journals.join(", ")),
            checks,
        })
    }

    /// The global directory, every database file, and the directories of the journals (closed generations lie beside
    /// the live one). The distribution is software from a package: a restore installs it.
    pub fn layout(&self, by: BootMs) -> Result<Vec<Place>, Error> {
        let seen = self.ask(by, None).map_err(|e| self.unreadable(e))?;
        if let Some(t) = seen.trouble.first() {
            return Err(self.unreadable(format!("region {}: {}", t.name, t.text)));
        }
        let mut places = vec![Place { role: Role::Cpf, path: self.config.global_directory.clone() }];
        let mut add = |role: Role, path: PathBuf| {
            let place = Place { role, path };
            if !places.contains(&place) {
                places.push(place);
            }
        };
        for region in &seen.regions {
            if !Path::new(&region.file).is_absolute() {
                return Err(
                    self.unreadable(format!("region {}: its file {:?} is not absolute in the global directory", region.name, region.file))
                );
            }
            add(Role::Database, region.file.clone().into());
            if let Some(dir) = Path::new(&region.journal).parent().filter(|d| d.is_absolute()) {
                add(Role::Journal, dir.to_owned());
            }
        }
        Ok(places)
    }
}

fn status(seen: &Seen) -> String {
    let one = |r: &Region| format!("{} {}", r.name, if r.frozen { "FROZEN" } else { "not frozen" });
    let regions = seen.regions.iter().map(one);
    let trouble = seen.trouble.iter().map(|t| format!("{} {}", t.name, t.text));
    regions.chain(trouble).collect::<Vec<_>>().join(", ")
}

/// A freeze flushes all buffers first, so all of them can fill. Blocks become dirty as fast as they are written out in
/// ordinary running, or as dirty ones pile up: the larger of the two counts. Nothing written: unknown.
fn buffers_last(first: &Seen, second: &Seen, took_ms: u64) -> Option<u64> {
    let mut shortest = None;
    for a in &first.regions {
        let b = second.region(&a.name)?;
        if a.shmid != b.shmid || b.tn <= a.tn {
            continue;
        }
        let grew = |from: Option<u64>, to: Option<u64>| to.unwrap_or(0).saturating_sub(from.unwrap_or(0));
        let blocks = grew(a.written, b.written).max(grew(a.dirty, b.dirty)).max(1);
        let lasts = b.buffers?.saturating_mul(took_ms) / blocks;
        shortest = Some(shortest.map_or(lasts, |s: u64| s.min(lasts)));
    }
    shortest
}

fn checks(seen: &Seen, buffers_last_ms: Option<u64>, journaling_off: &[&str]) -> Vec<Check> {
    let check = |name: &str, level, text: String| Check { name: name.into(), level, text };
    let mut checks = Vec::new();
    for t in &seen.trouble {
        checks.push(check("regions", Level::Fail, format!("region {}: {}", t.name, t.text)));
    }
    if seen.trouble.is_empty() {
        checks.push(check("regions", Level::Ok, format!("{} region(s) answer", seen.regions.len())));
    }
    checks.push(if journaling_off.is_empty() {
        check("journaling", Level::Ok, "on in every region".into())
    } else {
        check(
            "journaling",
            Level::Fail,
            format!(
                "off in {}: no window can be proved there; run mupip set -journal=enable,on,before -region {}",
                journaling_off.join(", "),
                journaling_off.join(",")
            ),
        )
    });
    checks.push(check(
        "engine limit",
        Level::Warn,
        "GT.M never ends a freeze by itself: keep the snapfreeze service enabled, it is the last line".into(),
    ));
    if let Some(ms) = buffers_last_ms {
        let n = seen.regions.iter().filter_map(|r| r.buffers).min().unwrap_or(0);
        checks.push(check("buffers", Level::Ok, format!("{n} buffers last about {} s at the present write rate (estimate)", ms / 1000)));
    }
    for r in &seen.regions {
        if r.free_blocks.is_some_and(|f| f < FEW_FREE_BLOCKS) {
            checks.push(check(
                "free blocks",
                Level::Warn,
                format!(
                    "region {} has {} free blocks: writers stop when its file must grow inside a window; run mupip extend {} -blocks=10000",
                    r.name,
                    r.free_blocks.unwrap_or(0),
                    r.name
                ),
            ));
        }
    }
    checks
}
