//! The single steps of which the procedures are made, and what they cost.

use super::{BACK, Planner};
use crate::facts::{KeptDatabase, KeptFile};
use crate::step::{Action, Cost, Missing, Step, Undo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl Planner<'_> {
    pub(super) fn stop(&mut self) {
        self.dangerous(
            Action::Stop,
            "nobody may write while databases are replaced; users lose their connections",
            "the registry says that it is down",
            Undo::By("start the instance".into()),
        );
    }

    pub(super) fn start(&mut self, why: &str) {
        self.push(Action::StartForAdministrator, why, "it is up, and an ordinary login is refused", Undo::By(BACK.into()));
    }

    pub(super) fn restart(&mut self) {
        self.push(Action::Stop, "the administrator's start ends", "the registry says that it is down", Undo::NotNeeded);
        self.push(Action::StartForUsers, "everything is done", "an ordinary login answers", Undo::By("stop the instance".into()));
    }

    pub(super) fn integrity(&mut self, dirs: Vec<PathBuf>) {
        self.push(
            Action::CheckIntegrity { dirs },
            "a database is shown to users only after its own check",
            "the engine found no errors",
            Undo::NotNeeded,
        );
    }

    /// Whatever belongs to a database in `dir`.
    pub(super) fn keep_aside(&mut self, dir: &Path) {
        let other = |p: &PathBuf| self.kept.others.iter().any(|o| o.was == *p);
        let files: Vec<PathBuf> = self.found.present.iter().filter(|p| p.parent() == Some(dir) && !other(p)).cloned().collect();
        self.aside_files(files, dir, "what is there may still be wanted: it is renamed, never overwritten");
    }

    /// "Move, not delete" (Data Integrity Guide). In the set's plan without WIJ this is all that happens to it.
    pub(super) fn wij_aside(&mut self) {
        let wij = self.found.wij.clone();
        if self.found.is_present(&wij)
            && let Some(dir) = wij.parent()
        {
            self.aside_files(vec![wij.clone()], dir, "the WIJ of the crash would overwrite blocks of the restored databases");
        }
    }

    pub(super) fn aside_files(&mut self, files: Vec<PathBuf>, dir: &Path, why: &str) {
        if files.is_empty() {
            return;
        }
        let to = dir.join(format!("snapfreeze-aside-{}", self.wish.run));
        let undo = Undo::By(format!("move the files from {} back", to.display()));
        self.dangerous(Action::KeepAside { files, to }, why, "they lie there, and not in their old place", undo);
    }

    pub(super) fn copy(&mut self, db: &KeptDatabase, to: &Path) {
        let mut files = Vec::new();
        for f in &db.files {
            match f.was.strip_prefix(&db.dir) {
                Ok(inside) => files.push((f.clone(), to.join(inside))),
                Err(_) if to == db.dir => files.push((f.clone(), f.was.clone())),
                Err(_) => self.missing.push(Missing::new(
                    format!("volume {} of {} lies outside its directory", f.was.display(), db.dir.display()),
                    "a database of several directories goes back to its own place only: leave out --into",
                )),
            }
        }
        self.copy_files(files, "the database as it was at the freeze");
    }

    pub(super) fn copy_files(&mut self, files: Vec<(KeptFile, PathBuf)>, why: &str) {
        let cost = Cost { files: files.len() as u64, bytes: files.iter().map(|f| f.0.size).sum() };
        let undo = Undo::By("remove the copies; the set keeps its own".into());
        self.push(Action::Copy { files }, why, "every copy has the size and the SHA-256 of the set's list", undo);
        if let Some(s) = self.steps.last_mut() {
            s.cost = cost;
        }
    }

    /// What is kept aside stays on the same file system, so every copy needs its own room.
    pub(super) fn room(&mut self) {
        let mut needs: BTreeMap<u64, (u64, &crate::Room)> = BTreeMap::new();
        for step in &self.steps {
            let Action::Copy { files } = &step.action else { continue };
            for (f, to) in files {
                if let Some(r) = self.found.room.iter().filter(|r| to.starts_with(&r.path)).max_by_key(|r| r.path.components().count()) {
                    needs.entry(r.device).or_insert((0, r)).0 += f.size;
                }
            }
        }
        let short: Vec<Missing> = needs
            .values()
            .filter(|(bytes, r)| *bytes > r.free)
            .map(|(bytes, r)| {
                Missing::new(
                    format!("the file system of {} has {} bytes free, the copies need {bytes}", r.path.display(), r.free),
                    "make room, or restore into another directory (--into)",
                )
            })
            .collect();
        self.missing.extend(short);
    }

    pub(super) fn push(&mut self, action: Action, why: &str, check: &str, undo: Undo) {
        self.steps.push(Step { action, why: why.into(), check: check.into(), undo, cost: Cost::default(), dangerous: false });
    }

    pub(super) fn dangerous(&mut self, action: Action, why: &str, check: &str, undo: Undo) {
        self.push(action, why, check, undo);
        if let Some(s) = self.steps.last_mut() {
            s.dangerous = true;
        }
    }
}
