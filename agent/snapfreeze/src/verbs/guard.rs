//! The journal guard: which held sets still need which journals, and is that chain whole? A journal that is purged too early ends
//! the way from a set to now; the set then only goes back to its own moment.

use engine::{Check, Level, Place, Role};
use protocol::{InstanceName, Verdict};
use recovery::JournalFile;
use recovery::journals::{gaps, plain, sort};
use std::path::PathBuf;
use storage::catalogue::store::{self, Entry, State};
use storage::catalogue::{DATA, files};

/// Names in one line.
const SHOWN: usize = 5;

/// A line for the instance; `None` where no catalogue is known, no held set names a journal, or the engine has one journal a
/// region (GT.M names its own generations).
pub fn look(dirs: &[PathBuf], name: &InstanceName, places: &[Place]) -> Option<Check> {
    let journal_dirs: Vec<PathBuf> =
        places.iter().filter(|p| matches!(p.role, Role::Journal | Role::Altjournal)).map(|p| p.path.clone()).collect();
    let live = engine::iris::restore::journal_files(&journal_dirs);
    let entries = store::list(dirs).ok()?;
    let held: Vec<(&Entry, &str)> = entries.iter().filter_map(|e| Some((e, needs(e, name)?))).collect();
    if held.is_empty() {
        return None;
    }
    let line = |level, text| Some(Check { name: format!("{name} journals"), level, text });
    let broken: Vec<String> = held
        .iter()
        .filter_map(|(e, from)| {
            let lacks = lacking(e, &live, from);
            let names = lacks.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            (!lacks.is_empty()).then(|| format!("{} lacks {names}{}", e.name, if lacks.len() > SHOWN { ", …" } else { "" }))
        })
        .collect();
    if !broken.is_empty() {
        let text = format!(
            "{}: it goes back to its own moment only (--until backup); keep journals longer (DaysBeforePurge, BackupsBeforePurge)",
            broken.join("; ")
        );
        return line(Level::Fail, text);
    }
    let oldest = held.iter().filter_map(|(_, from)| Some((recovery::journals::name(plain(from))?, plain(from)))).min()?.1;
    line(Level::Ok, format!("{} held sets roll forward to now; purge none from {oldest} on", held.len()))
}

/// The journal with which a restore of a held set starts, where it has the form of IRIS's names.
fn needs<'a>(e: &'a Entry, name: &InstanceName) -> Option<&'a str> {
    let tags = e.tags().filter(|t| t.verdict == Verdict::Held)?;
    let marks = &tags.instances.iter().find(|i| i.instance == *name)?.marks;
    marks.iter().find_map(|m| m.restore_from()).filter(|f| recovery::journals::name(plain(f)).is_some())
}

/// What neither the journal directories nor the set itself have. The set is read only when something is missing.
fn lacking(e: &Entry, live: &[JournalFile], from: &str) -> Vec<String> {
    let lacks = gaps(live, from, None);
    let State::Set { manifest, .. } = &e.state else { return lacks };
    if lacks.is_empty() {
        return lacks;
    }
    let own = files::list(&e.dir, manifest).unwrap_or_default().into_iter().map(|r| JournalFile { path: r.path(), size: r.size });
    let mut all: Vec<JournalFile> = own.filter(|f| f.path.starts_with(DATA)).chain(live.iter().cloned()).collect();
    sort(&mut all);
    gaps(&all, from, None)
}
