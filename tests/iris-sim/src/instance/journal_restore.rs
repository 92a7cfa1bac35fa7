//! `Journal.Restore`: records of chosen files, from the first on, applied to the databases that are there now.

use super::Core;
use crate::store::journal::{self, JournalFile, Names, Record, Set};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Properties of the class, by their vendor names (class reference, Journal.Restore).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RestoreArgs {
    pub first_file: String,
    pub last_file: String,
    /// Empty: the instance's own.
    pub journal_log: String,
    pub locations: Vec<String>,
    /// Source directories; empty: everything.
    pub select: Vec<String>,
    pub redirect: BTreeMap<String, String>,
    pub abort_on_journal_error: bool,
    pub abort_on_database_error: bool,
    pub switch_on_current: bool,
    pub roll_back: bool,
}

/// What a run did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Restored {
    pub records: usize,
    pub rolled_back: usize,
    pub databases: Vec<String>,
}

impl Core {
    /// The chosen files in their order.
    pub fn restore_files(&self, args: &RestoreArgs) -> Result<Vec<JournalFile>, String> {
        let own = args.journal_log.is_empty();
        if !own && args.locations.is_empty() {
            return Err("JournalLocation is required".into());
        }
        let mut dirs: Vec<PathBuf> = args.locations.iter().map(|l| PathBuf::from(l.trim_end_matches('/'))).collect();
        if own {
            dirs.extend([self.cfg.journal.clone(), self.cfg.alternate.clone()]);
        }
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().trim_end_matches('z').to_string();
        let mut all: Vec<JournalFile> = Vec::new();
        for dir in &dirs {
            let here = std::fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|e| journal::probe(&e.path()));
            // A name that was found in an earlier location counts once.
            let new: Vec<JournalFile> = here.filter(|f| !all.iter().any(|a| name(&a.path) == name(&f.path))).collect();
            all.extend(new.into_iter().filter(|f| !own || f.header.guid == self.cfg.guid));
        }
        all.sort_by_key(|f| f.header.count);
        let at = |wanted: &str| {
            let wanted = name(Path::new(wanted));
            all.iter().position(|f| name(&f.path) == wanted).ok_or_else(|| format!("Journal file {wanted} not found"))
        };
        let from = at(&args.first_file)?;
        let to = if args.last_file.is_empty() { all.len() - 1 } else { at(&args.last_file)? };
        let guid = all[from].header.guid.clone();
        if let Some(last) = all.get(to).filter(|f| f.header.guid != guid) {
            // INVENTED text.
            return Err(format!("Journal file {} is of another instance", last.path.display()));
        }
        Ok(all.get(from..=to).unwrap_or_default().iter().filter(|f| f.header.guid == guid).cloned().collect())
    }

    /// 0: missing files and ends that do not fit; 1 and 2 also give the directories in the files.
    pub fn check_journals(&mut self, args: &RestoreArgs) -> Result<Vec<String>, String> {
        self.journal.flush().map_err(|e| e.to_string())?;
        let files = self.restore_files(args)?;
        let mut dirs = BTreeSet::new();
        for (n, file) in files.iter().enumerate() {
            let name = file.path.display();
            let next = files.get(n + 1);
            if let Some(next) = next.filter(|x| x.header.count != file.header.count + 1) {
                let missing = file.header.count + 1..next.header.count;
                return Err(format!("Journal files between {name} and {} are missing: number {missing:?}", next.path.display()));
            }
            let records = journal::records(file, 0).map_err(|e| e.to_string())?;
            let end = end_of(file).map_err(|e| e.to_string())?;
            if let Some(at) = journal::records_after(file, end).map_err(|e| e.to_string())? {
                return Err(format!("Journal file {name} is corrupted at offset {end}: records go on at {at}"));
            }
            if let Some(next) = next.filter(|x| x.header.previous_end > end) {
                return Err(format!(
                    "Journal file {name} ends at offset {end}, {} expects {}",
                    next.path.display(),
                    next.header.previous_end
                ));
            }
            let mut names = Names::of(file);
            for (_, record) in records {
                names.note(&record);
                if let Record::Update { sets, .. } | Record::Rollback { sets, .. } = &record {
                    dirs.extend(sets.iter().filter_map(|s| names.dirs().get(usize::from(s.sfn)).cloned()));
                }
            }
        }
        Ok(dirs.into_iter().collect())
    }

    pub fn journal_restore(&mut self, args: &RestoreArgs) -> Result<Restored, String> {
        if self.is_suspended() {
            return Err("Unable to read file, Backup or Restore is in progress".into());
        }
        if args.abort_on_journal_error {
            self.check_journals(args)?;
        }
        let files = self.restore_files(args)?;
        let mut did = Restored::default();
        let mut touched = BTreeSet::new();
        let mut running: BTreeMap<u64, Vec<Set>> = BTreeMap::new();
        for file in &files {
            let mut names = Names::of(file);
            for (_, record) in journal::records(file, 0).map_err(|e| e.to_string())? {
                names.note(&record);
                let sets = match record {
                    Record::Update { txn, sets, .. } => {
                        let sets = self.wanted(sets, &names, args)?;
                        if txn != 0 {
                            running.entry(txn).or_default().extend(sets.iter().cloned());
                        }
                        sets
                    }
                    Record::Rollback { txn, sets, .. } => {
                        running.remove(&txn);
                        self.wanted(sets, &names, args)?
                    }
                    Record::Commit { txn } => {
                        running.remove(&txn);
                        Vec::new()
                    }
                    Record::Marker { .. } | Record::Database { .. } => Vec::new(),
                };
                did.records += 1;
                self.apply(&sets, &mut touched)?;
            }
        }
        if args.roll_back {
            for sets in std::mem::take(&mut running).into_values().rev().filter(|s| !s.is_empty()) {
                did.rolled_back += 1;
                let undo = journal::undo(sets.into_iter());
                self.apply(&undo, &mut touched)?;
            }
        }
        self.wd_cycle().map_err(|e| e.to_string())?;
        did.databases = touched.into_iter().map(|sfn: u16| self.cfg.databases[usize::from(sfn)].dir_slash()).collect();
        Ok(did)
    }

    /// The selected changes with the SFN of their target. Without a selection everything goes to its own directory.
    fn wanted(&self, sets: Vec<Set>, names: &Names, args: &RestoreArgs) -> Result<Vec<Set>, String> {
        let mut out = Vec::new();
        for set in sets {
            let Some(source) = names.dirs().get(usize::from(set.sfn)) else { continue };
            let selected = args.select.contains(source);
            if !args.select.is_empty() && !selected {
                continue;
            }
            let target = args.redirect.get(source).filter(|_| selected).unwrap_or(source);
            let found = self.sfn_of(target).filter(|sfn| self.dbs[usize::from(*sfn)].mounted);
            match found {
                // "Only databases whose journal state is Yes at restore time."
                Some(sfn) if self.cfg.databases[usize::from(sfn)].journalled => out.push(Set { sfn, ..set }),
                Some(_) => {}
                None if args.abort_on_database_error && selected => return Err(format!("Database {target} is not mounted")),
                None => {}
            }
        }
        Ok(out)
    }

    fn apply(&mut self, sets: &[Set], touched: &mut BTreeSet<u16>) -> Result<(), String> {
        self.lsn += 1;
        for set in sets {
            if self.stall().is_some() {
                self.wd_cycle().map_err(|e| e.to_string())?;
            }
            self.put(set).map_err(|e| e.to_string())?;
            touched.insert(set.sfn);
        }
        Ok(())
    }
}

/// Where the records of a file end.
fn end_of(file: &JournalFile) -> Result<u64, crate::store::StoreError> {
    let last = journal::records(file, 0)?.into_iter().last();
    Ok(last.map_or(file.header.first, |(offset, record)| offset + crate::store::frame(&record).len() as u64))
}
