//! GT.M and YottaDB: a database is a file, a journal follows it, and there is no instance to stop. An image of an online
//! freeze needs no journal to be whole: a transaction is in it, or is not (facts of GT.M V7.0-005, seen).
//!
//! [`Kept::databases`] has one entry a region: its `dir` is the database file itself. [`Found::journals`] has the live journal
//! of each region by the file's name with `.mjl`; GT.M finds the generations before it by itself.

use crate::facts::{Found, Kept, KeptDatabase};
use crate::journals::JournalFile;
use crate::step::{Action, Cost, Missing, Plan, Step, Undo};
use crate::wish::{Scope, Until, Wish};
use protocol::Verdict;
use std::path::{Path, PathBuf};

const IF_RECOVERY_FAILS: &str = "the copy is damaged or a journal is: keep every file as it is; what was there before lies aside, whole";

pub fn plan(kept: &Kept, found: &Found, wish: &Wish) -> Result<Plan, Vec<Missing>> {
    let (mut steps, mut warnings, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let mut lack = |what: String, next: &str| missing.push(Missing::new(what, next));
    if kept.verdict != Verdict::Held {
        let text = format!("the set is {}, not held", kept.verdict.word());
        if wish.even_if_not_held {
            warnings.push(text);
        } else {
            lack(text, "choose a held one (`snapfreeze list`), or say --even-if-not-held");
        }
    }
    if !found.installed {
        lack(format!("{} is not installed here", kept.instance), "install GT.M, and name its global directory in the configuration");
    }
    if let Until::File(f) = &wish.until {
        lack(format!("a roll-forward that ends with {f} is not made for GT.M"), "use --until end or --until backup");
    }
    let chosen: Vec<&KeptDatabase> = match &wish.scope {
        Scope::System(_) => kept.databases.iter().collect(),
        Scope::Databases(files) => {
            for f in files.iter().filter(|f| !kept.databases.iter().any(|d| d.dir == **f)) {
                let there: Vec<String> = kept.databases.iter().map(|d| d.dir.display().to_string()).collect();
                lack(format!("the set holds no database {}", f.display()), &format!("it holds {}", there.join(", ")));
            }
            kept.databases.iter().filter(|d| files.contains(&d.dir)).collect()
        }
    };
    if chosen.len() < kept.databases.len() && wish.until == Until::End {
        lack(
            "a transaction may span regions, and GT.M leaves it out when one of them is not rolled forward with it".into(),
            "restore all regions, or to the moment of the backup (--until backup)",
        );
    }
    let step = |action, why: &str, check: &str, undo| Step {
        action,
        why: why.into(),
        check: check.into(),
        undo,
        cost: Cost::default(),
        dangerous: false,
    };
    let elsewhere = wish.everything.then(|| {
        let (first, found) = everything(kept, found, wish);
        steps.extend(first);
        found
    });
    let found = elsewhere.as_ref().unwrap_or(found);
    let (mut rundown, mut journals, mut redirect, mut files, mut on) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for db in chosen {
        let Some(copy) = db.files.first() else {
            lack(format!("the set lacks the file of {}", db.dir.display()), "choose another set");
            continue;
        };
        let to = wish.into.get(&db.dir).cloned().unwrap_or_else(|| db.dir.clone());
        if found.running && to == db.dir {
            lack(format!("processes have {} open", to.display()), "end them (mupip stop), or restore into another file (--into)");
        }
        if found.is_present(&to) {
            let aside = to.parent().unwrap_or(Path::new("/")).join(format!("snapfreeze-aside-{}", wish.run));
            let undo = Undo::By(format!("move the file from {} back", aside.display()));
            let why = "what is there may still be wanted: it is renamed, never overwritten";
            let s = step(Action::KeepAside { files: vec![to.clone()], to: aside }, why, "it lies there, and not in its old place", undo);
            steps.push(Step { dangerous: true, ..s });
        }
        let s = step(
            Action::Copy { files: vec![(copy.clone(), to.clone())] },
            "the database as it was at the freeze",
            "the copy has the size and the SHA-256 of the set's list",
            Undo::By("remove the copy; the set keeps its own".into()),
        );
        steps.push(Step { cost: Cost { files: 1, bytes: copy.size }, ..s });
        rundown.push(step(
            Action::Rundown { file: to.clone() },
            "the header still says what was true at the freeze: processes, shared memory",
            "mupip ends with 0",
            Undo::NotNeeded,
        ));
        match journal_of(found, &db.dir) {
            Some(journal) if to == db.dir => {
                let undo = Undo::By("mupip set -journal=off".into());
                let action = Action::JournalingOn { file: to.clone(), journal: journal.clone() };
                on.push(step(action, "a recovered file has journaling off", "mupip ends with 0", undo));
                journals.push(journal);
            }
            Some(journal) => {
                warnings.push(format!("{} has journaling off: turn it on where it will be used", to.display()));
                redirect.push((db.dir.clone(), to.clone()));
                journals.push(journal);
            }
            None if wish.until == Until::End => lack(
                format!("the journal of {} is missing", db.dir.display()),
                "put it back, or restore to the moment of the backup (--until backup)",
            ),
            None => warnings.push(format!("{} has journaling off: turn it on where it will be used", to.display())),
        }
        files.push(to);
    }
    steps.append(&mut rundown);
    if wish.until == Until::End && !journals.is_empty() {
        steps.push(step(
            Action::RollForward { journals, redirect },
            "what was committed after the backup comes back; all regions in one call, for transactions span them",
            "`Recover successful`",
            Undo::By("move the copies away and copy them from the set again".into()),
        ));
    }
    let why = "a database is used only after its own check";
    steps.push(step(Action::CheckIntegrity { dirs: files }, why, "`No errors detected by integ.`", Undo::NotNeeded));
    steps.append(&mut on);
    if missing.is_empty() {
        Ok(Plan {
            id: kept.id,
            instance: kept.instance.clone(),
            engine: kept.engine.clone(),
            wish: wish.clone(),
            held: kept.verdict == Verdict::Held,
            steps,
            warnings,
            if_recovery_fails: IF_RECOVERY_FAILS.into(),
        })
    } else {
        Err(missing)
    }
}

/// On an empty host: the global directory and the set's own journals come first; what is there of them is kept aside.
fn everything(kept: &Kept, found: &Found, wish: &Wish) -> (Vec<Step>, Found) {
    let mut steps = Vec::new();
    let files: Vec<_> = kept.others.iter().chain(&kept.journals).collect();
    let mut step = |action, why: &str, check: &str, undo: &str, dangerous, bytes| {
        let cost = Cost { files: 1, bytes };
        steps.push(Step { action, why: why.into(), check: check.into(), undo: Undo::By(undo.into()), cost, dangerous });
    };
    for f in files.iter().filter(|f| found.is_present(&f.was)) {
        let to = f.was.parent().unwrap_or(Path::new("/")).join(format!("snapfreeze-aside-{}", wish.run));
        let why = "it is of what was installed here; it is renamed, never overwritten";
        step(Action::KeepAside { files: vec![f.was.clone()], to }, why, "it lies there, and not in its old place", "move it back", true, 0);
    }
    for f in &files {
        let action = Action::Copy { files: vec![((*f).clone(), f.was.clone())] };
        let why = "the global directory, and the journals that the set has";
        step(action, why, "the copy is as the set's list has it", "remove the copy; the set keeps its own", false, f.size);
    }
    let journals = kept.journals.iter().map(|f| JournalFile { path: f.was.clone(), size: f.size }).collect();
    (steps, Found { journals, ..found.clone() })
}

/// By the name of the database file.
fn journal_of(found: &Found, database: &Path) -> Option<PathBuf> {
    let stem = database.file_stem()?;
    found.journals.iter().map(|j| &j.path).find(|p| p.file_stem() == Some(stem)).cloned()
}
