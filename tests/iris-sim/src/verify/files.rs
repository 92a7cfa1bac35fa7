//! Finds what belongs to an instance: databases, WIJ, journals, log, lock, wherever in the tree they lie.

use crate::store::database::{LABEL, Label};
use crate::store::journal::{self, JournalFile};
use crate::store::wij::Wij;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The files of one instance.
#[derive(Default)]
pub struct Found {
    pub guid: String,
    /// Each database with its label; a damaged label is `None`.
    pub databases: Vec<(PathBuf, Option<Label>)>,
    pub wij: Option<Wij>,
    pub journals: Vec<JournalFile>,
    pub lock: Option<PathBuf>,
    pub console: Option<PathBuf>,
}

pub fn find(dirs: &[PathBuf]) -> Vec<Found> {
    let mut paths = Vec::new();
    for dir in dirs {
        walk(dir, &mut paths);
    }
    paths.sort();
    paths.dedup();
    let mut by_guid: BTreeMap<String, Found> = BTreeMap::new();
    let mut damaged = Vec::new();
    let mut at_guid = BTreeMap::new();
    for path in paths.iter().filter(|p| named(p, &["IRIS.DAT", "CACHE.DAT"])) {
        match label(path) {
            Some(label) => {
                at_guid.insert(path.clone(), label.guid.clone());
                entry(&mut by_guid, &label.guid).databases.push((path.clone(), Some(label)));
            }
            None => damaged.push(path.clone()),
        }
    }
    for path in &paths {
        if named(path, &["IRIS.WIJ", "CACHE.WIJ"]) {
            if let Ok(wij) = Wij::open(path) {
                let guid = wij.header.guid.clone();
                entry(&mut by_guid, &guid).wij = Some(wij);
            }
        } else if looks_like_journal(path)
            && let Some(file) = journal::probe(path)
        {
            let guid = file.header.guid.clone();
            entry(&mut by_guid, &guid).journals.push(file);
        }
    }
    // Log and lock lie beside a database, the manager's.
    for path in &paths {
        let beside = path.parent().and_then(|dir| at_guid.iter().find(|(p, _)| p.parent() == Some(dir)));
        let Some((_, guid)) = beside else { continue };
        let found = entry(&mut by_guid, guid);
        if named(path, &["messages.log", "cconsole.log"]) {
            found.console = Some(path.clone());
        } else if named(path, &["iris.lck", "cache.lck"]) {
            found.lock = Some(path.clone());
        }
    }
    by_guid.retain(|_, f| !f.databases.is_empty());
    for path in damaged {
        let owner = by_guid.values_mut().next();
        if let Some(found) = owner {
            found.databases.push((path, None));
        }
    }
    let mut out: Vec<Found> = by_guid.into_values().collect();
    for found in &mut out {
        found.journals.sort_by_key(|f| f.header.count);
        found.journals.dedup_by_key(|f| f.header.count);
    }
    out
}

fn entry<'a>(by_guid: &'a mut BTreeMap<String, Found>, guid: &str) -> &'a mut Found {
    by_guid.entry(guid.to_string()).or_insert_with(|| Found { guid: guid.to_string(), ..Found::default() })
}

fn named(path: &Path, names: &[&str]) -> bool {
    path.file_name().is_some_and(|n| names.iter().any(|name| n.eq_ignore_ascii_case(name)))
}

/// `[prefix]YYYYMMDD.NNN`, with or without the `z` of a compressed file.
fn looks_like_journal(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((stem, number)) = name.rsplit_once('.') else {
        return false;
    };
    let number = number.trim_end_matches('z');
    (3..=4).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
        && stem.len() >= 8
        && stem.bytes().rev().take(8).all(|b| b.is_ascii_digit())
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            walk(&entry.path(), out);
        } else if kind.is_file() {
            out.push(entry.path());
        }
    }
}

fn label(path: &Path) -> Option<Label> {
    let mut bytes = vec![0u8; LABEL];
    std::fs::File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    Label::decode(&bytes)
}
