//! A drill: a set restored into a place of its own, by an instance of its own, from nothing but what is elsewhere (the set, and
//! the journals that were shipped), so that it proves what is left on the day on which the host is lost. Nothing of the
//! instance that was backed up is touched, and everything that a drill makes lies in its place, which goes away at the end.

use crate::facts::{Found, Kept, KeptFile, Room};
use crate::journals::{self, JournalFile, Name};
use crate::step::{Action, Cost, Missing, Step, Undo};
use crate::wish::{Scope, Until, WijUse, Wish};
use protocol::{BackupId, InstanceName, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is done, and what is done at the end in every case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    pub id: BackupId,
    pub instance: InstanceName,
    pub engine: String,
    pub place: PathBuf,
    pub steps: Vec<Step>,
    /// In this order; each may be repeated, also when its step was never reached.
    pub tidy: Vec<Action>,
    /// Database of the backup -> its copy.
    pub copies: Vec<(PathBuf, PathBuf)>,
    /// The last journal that is applied.
    pub last_journal: Option<String>,
}

/// Why no drill is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// Of the backup: this drill has failed.
    pub backup: Vec<Missing>,
    /// Of this host: there is no drill, and nothing is known about the backup.
    pub here: Vec<Missing>,
}

/// Configured by a drill, and deleted by it; nothing else has such a name.
const NAME: &str = "SFDRILL";

/// `found`: of the instance that is for drills, with the shipped journals and the room of the place.
pub fn plan(kept: &Kept, found: &Found, run: &str, place: &Path) -> Result<Drill, Lacks> {
    let mut lacks = Lacks::default();
    if kept.verdict != Verdict::Held {
        let what = format!("the set is {}, not held", kept.verdict.word());
        lacks.here.push(Missing::new(what, "drill a held one (`snapfreeze list`)"));
    }
    let mut drill = match kept.engine.as_str() {
        "gtm" => gtm(kept, found, run, place, &mut lacks),
        "iris" | "cache" => iris(kept, found, place, &mut lacks),
        other => {
            let what = format!("a set of engine {other:?} cannot be restored by this program");
            lacks.here.push(Missing::new(what, "try its restore by the engine's own manual"));
            None
        }
    };
    if let Some(d) = &mut drill {
        d.tidy.push(Action::RemovePlace { dir: place.into() });
        room(d, &found.room, &mut lacks);
    }
    match drill {
        Some(d) if lacks == Lacks::default() => Ok(d),
        _ => Err(lacks),
    }
}

fn step(action: Action, why: &str, check: &str) -> Step {
    Step {
        action,
        why: why.into(),
        check: check.into(),
        undo: Undo::By("it lies in the drill's own place, which is removed at the end".into()),
        cost: Cost::default(),
        dangerous: false,
    }
}

fn copy(files: Vec<(KeptFile, PathBuf)>, why: &str) -> Step {
    let cost = Cost { files: files.len() as u64, bytes: files.iter().map(|f| f.0.size).sum() };
    Step { cost, ..step(Action::Copy { files }, why, "every copy has the size and the SHA-256 of the set's list") }
}

fn iris(kept: &Kept, found: &Found, place: &Path, lacks: &mut Lacks) -> Option<Drill> {
    let here = |what: String, next: &str| Missing::new(what, next);
    if !found.installed {
        lacks.here.push(here(
            "the instance for drills is not installed here".into(),
            "install one of the same version or a newer one, and name it: [drill] instance",
        ));
    }
    if found.running {
        lacks.here.push(here(
            format!("the instance for drills is up ({}): somebody works with it, or a drill was interrupted", found.status),
            "stop it, then drill again; it is up only while a drill runs",
        ));
    }
    if !found.mirror.is_empty() {
        lacks.here.push(here("the instance for drills is a member of a mirror".into(), "use one that is none"));
    }
    if let (Some(was), Some(is)) = (crate::iris::version(&kept.engine_version), crate::iris::version(&found.version))
        && is < was
    {
        let what = format!("the backup is of version {}.{}, the instance for drills is {}.{}", was.0, was.1, is.0, is.1);
        lacks.here.push(here(what, "a database does not go back to an older version: install the backup's version or a newer one"));
    }
    let journals = place.join("journals");
    let (chosen, first) = chain(kept, &found.shipped, lacks);
    let mut steps = Vec::new();
    let last_journal = chosen.last().map(|f| journals::plain(&file_name(&f.copy)).to_owned());
    let files = chosen.iter().map(|f| (f.clone(), journals.join(file_name(&f.copy)))).collect();
    steps.push(copy(files, "the journals of the set, and those that were shipped: what a restore would have without this host"));
    let mut copies = Vec::new();
    for (n, db) in kept.databases.iter().enumerate() {
        let to = place.join(format!("database-{}", n + 1));
        let outside = db.files.iter().find(|f| f.was.strip_prefix(&db.dir).is_err());
        if let Some(f) = outside {
            let what = format!("volume {} of {} lies outside its directory", f.was.display(), db.dir.display());
            lacks.here.push(here(what, "a database of several directories is not drilled: restore it by hand on another host"));
        }
        let files = db.files.iter().filter_map(|f| Some((f.clone(), to.join(f.was.strip_prefix(&db.dir).ok()?)))).collect();
        steps.push(copy(files, "the database as it was at the freeze"));
        copies.push((db.dir.clone(), to));
    }
    if copies.is_empty() {
        lacks.backup.push(here("the set holds no databases".into(), "look at the set: `snapfreeze show`"));
    }
    steps.push(step(
        Action::StartForAdministrator,
        "an instance of its own, for nobody but the drill",
        "it is up, and an ordinary login is refused",
    ));
    for left in found.databases.iter().filter(|d| d.name.starts_with(NAME)) {
        let action = Action::DeleteDatabase { name: left.name.clone() };
        steps.push(step(action, "an earlier drill was killed and has left it", "the configuration does not name it"));
    }
    let mut tidy = Vec::new();
    for (n, (_, to)) in copies.iter().enumerate() {
        let name = format!("{NAME}{}", n + 1);
        steps.push(step(
            Action::AddDatabase { name: name.clone(), dir: to.clone() },
            "no namespace shows it",
            "the configuration names it",
        ));
        steps.push(step(Action::Mount { dir: to.clone() }, "as a restore would", "the engine says it is mounted"));
        tidy.push(Action::Dismount { dir: to.clone() });
        tidy.push(Action::DeleteDatabase { name });
    }
    tidy.push(Action::Stop);
    if let Some(first) = first {
        steps.push(step(
            Action::RestoreJournals { first, last: last_journal.clone(), locations: vec![journals], select: copies.clone() },
            "what was committed after the backup, and shipped, comes back",
            "the engine says that the restore was completed",
        ));
    }
    let dirs = copies.iter().map(|c| c.1.clone()).collect();
    steps.push(step(Action::CheckIntegrity { dirs }, "the engine's own word on every database", "it found no errors"));
    Some(Drill {
        id: kept.id,
        instance: kept.instance.clone(),
        engine: kept.engine.clone(),
        place: place.into(),
        steps,
        tidy,
        copies,
        last_journal,
    })
}

/// Of each name the longer file: more was written to it. `first` is left out when the chain is not whole.
fn chain(kept: &Kept, shipped: &[KeptFile], lacks: &mut Lacks) -> (Vec<KeptFile>, Option<String>) {
    let Some(first) = kept.restore_from().map(|f| journals::plain(f).to_owned()) else {
        let next = "let the freeze switch the journal (switch_journal = true), and drill the next set";
        lacks.backup.push(Missing::new("the backup did not switch its journal: with which one a restore begins is not known", next));
        return (Vec::new(), None);
    };
    let from = journals::name(&first);
    let mut best: BTreeMap<Name, KeptFile> = BTreeMap::new();
    for f in kept.journals.iter().chain(shipped) {
        let Some(name) = journals::name(&file_name(&f.copy)).filter(|n| Some(n) >= from.as_ref()) else { continue };
        if best.get(&name).is_none_or(|other| other.size < f.size) {
            best.insert(name, f.clone());
        }
    }
    let there: Vec<JournalFile> = best.values().map(|f| JournalFile { path: f.copy.clone(), size: f.size }).collect();
    let gaps = journals::gaps(&there, &first, None);
    if !gaps.is_empty() {
        let what = format!("journals are missing, in the set and where they are shipped to: {}", gaps.join(", "));
        lacks.backup.push(Missing::new(what, "ship journals before they are purged (`snapfreeze journals ship`), and make a new backup"));
        return (best.into_values().collect(), None);
    }
    (best.into_values().collect(), Some(first))
}

/// The same steps as of a restore into other files, by copies of the journals in the set.
fn gtm(kept: &Kept, found: &Found, run: &str, place: &Path, lacks: &mut Lacks) -> Option<Drill> {
    let dir = place.join("journals");
    let to = |f: &KeptFile| dir.join(file_name(&f.copy));
    let journals = kept.journals.iter().map(|f| JournalFile { path: to(f), size: f.size }).collect();
    let copies: Vec<(PathBuf, PathBuf)> = kept
        .databases
        .iter()
        .enumerate()
        .map(|(n, d)| (d.dir.clone(), place.join(format!("database-{}", n + 1)).join(file_name(&d.dir))))
        .collect();
    let elsewhere = Found { journals, present: Vec::new(), running: false, ..found.clone() };
    let wish = Wish {
        run: run.into(),
        scope: Scope::System(WijUse::OfBackup),
        until: Until::End,
        into: copies.iter().cloned().collect(),
        everything: false,
        online: false,
        // Said above, as a lack of its own.
        even_if_not_held: true,
    };
    match crate::gtm::plan(kept, &elsewhere, &wish) {
        Ok(plan) => {
            let files = kept.journals.iter().map(|f| (f.clone(), to(f))).collect();
            let mut steps = vec![copy(files, "the journals of the set: a restore has no others without this host")];
            steps.extend(plan.steps);
            Some(Drill {
                id: kept.id,
                instance: kept.instance.clone(),
                engine: kept.engine.clone(),
                place: place.into(),
                steps,
                tidy: Vec::new(),
                copies,
                last_journal: None,
            })
        }
        Err(missing) => {
            let here = |m: &Missing| m.what.contains("not installed");
            lacks.here.extend(missing.iter().filter(|m| here(m)).cloned());
            lacks.backup.extend(missing.into_iter().filter(|m| !here(m)));
            None
        }
    }
}

fn room(drill: &Drill, room: &[Room], lacks: &mut Lacks) {
    let needs: u64 = drill.steps.iter().map(|s| s.cost.bytes).sum();
    if let Some(r) = room.iter().find(|r| drill.place.starts_with(&r.path) && r.free < needs) {
        let what = format!("{} has {} bytes free, the drill needs {needs}", r.path.display(), r.free);
        lacks.here.push(Missing::new(what, "make room, or name another directory: [drill] dir, or --in DIR"));
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
