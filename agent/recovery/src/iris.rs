//! The vendor's three procedures ("Data Integrity Guide", Restoring from External Backup; the backup articles of InterSystems
//! Japan), as steps.

mod steps;

use crate::facts::{Found, Kept, KeptDatabase, KeptFile};
use crate::journals::{self, JournalFile};
use crate::step::{Action, Missing, Plan, Step, Undo};
use crate::wish::{Scope, Until, WijUse, Wish};
use protocol::Verdict;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The article: "recovery may not end well; then ask the support". Until then nothing of ours has been changed.
const IF_RECOVERY_FAILS: &str = "overwrite nothing and keep every file as it is; run `snapfreeze diagnose` and ask the vendor's support with its bundle and messages.log";
const BACK: &str = "stop the instance and put back what was kept aside";

struct Planner<'a> {
    kept: &'a Kept,
    found: &'a Found,
    wish: &'a Wish,
    /// Journals that lie there, and are another instance's.
    foreign: Vec<JournalFile>,
    steps: Vec<Step>,
    warnings: Vec<String>,
    missing: Vec<Missing>,
}

pub fn plan(kept: &Kept, found: &Found, wish: &Wish) -> Result<Plan, Vec<Missing>> {
    let emptied = wish.everything.then(|| emptied(kept, found));
    let foreign = if wish.everything { found.journals.clone() } else { Vec::new() };
    let found = emptied.as_ref().unwrap_or(found);
    let mut p = Planner { kept, found, wish, foreign, steps: Vec::new(), warnings: Vec::new(), missing: Vec::new() };
    p.the_set();
    p.the_instance();
    match &wish.scope {
        Scope::Databases(dirs) => p.databases(dirs),
        Scope::System(wij) => p.system(*wij),
    }
    p.room();
    if !p.missing.is_empty() {
        return Err(p.missing);
    }
    Ok(Plan {
        id: kept.id,
        instance: kept.instance.clone(),
        engine: kept.engine.clone(),
        wish: wish.clone(),
        held: kept.verdict == Verdict::Held,
        steps: p.steps,
        warnings: p.warnings,
        if_recovery_fails: IF_RECOVERY_FAILS.into(),
    })
}

impl Planner<'_> {
    fn lack(&mut self, what: impl Into<String>, next: impl Into<String>) {
        self.missing.push(Missing::new(what, next));
    }

    fn the_set(&mut self) {
        if self.kept.verdict != Verdict::Held {
            let word = self.kept.verdict.word();
            if self.wish.even_if_not_held {
                self.warnings.push(format!("the set is {word}: its databases may be torn, and the integrity check has the last word"));
            } else {
                self.lack(format!("the set is {word}, not held"), "choose a held one (`snapfreeze list`), or say --even-if-not-held");
            }
        }
        if self.kept.has_keys {
            self.warnings
                .push("encrypted databases need their key activated before they can be mounted; the set holds the key file".into());
        }
    }

    fn the_instance(&mut self) {
        let (kept, found) = (self.kept, self.found);
        if !found.installed {
            self.lack(
                format!("instance {} is not installed here", kept.instance),
                format!("install {} {} first, under the same name", kept.engine, kept.engine_version),
            );
        }
        match (version(&kept.engine_version), version(&found.version)) {
            (Some(was), Some(is)) if is < was => self.lack(
                format!("the backup is of version {}.{}, this instance is {}.{}", was.0, was.1, is.0, is.1),
                "a database does not go back to an older version: install the backup's version or a newer one",
            ),
            (Some(was), Some(is)) if is > was => {
                let text =
                    format!("the backup is of version {}.{}, this instance is {}.{}: databases are upgraded", was.0, was.1, is.0, is.1);
                self.warnings.push(text);
            }
            _ => {}
        }
        if !kept.mirror.is_empty() || !found.mirror.is_empty() {
            let name = if kept.mirror.is_empty() { &found.mirror } else { &kept.mirror };
            self.lack(
                format!("the instance is a member of mirror {name}"),
                "a mirrored database is caught up by the mirror itself (MirrorCatchup^JRNRESTO) or rebuilt: follow the High Availability Guide",
            );
        }
        let differs = !kept.guid.is_empty() && !found.guid.is_empty() && kept.guid != found.guid;
        match (&self.wish.scope, differs) {
            (_, false) => {}
            (Scope::System(_), true) => {
                self.lack("the set is of another instance (its GUID differs)", "a whole system is restored into its own instance")
            }
            (Scope::Databases(_), true) => self.warnings.push("the set is of another instance (its GUID differs)".into()),
        }
    }

    /// Single databases: the others have the crash-time WIJ, so the start comes first and the copy after it.
    fn databases(&mut self, dirs: &[PathBuf]) {
        if self.wish.everything {
            self.lack("--everything is a whole system", "leave out --database, or --everything");
        }
        let mut chosen = Vec::new();
        for dir in dirs {
            match self.kept.databases.iter().find(|d| d.dir == *dir) {
                Some(_) if *dir == self.found.system_database => {
                    let next = "restore the whole system, or swap it by hand after a shutdown (Data Integrity Guide)";
                    self.lack(format!("{} is the manager's own database", dir.display()), next);
                }
                Some(d) => chosen.push(d),
                None => {
                    let there: Vec<String> = self.kept.databases.iter().map(|d| d.dir.display().to_string()).collect();
                    self.lack(format!("the set holds no database {}", dir.display()), format!("it holds {}", there.join(", ")));
                }
            }
        }
        let targets: Vec<(&KeptDatabase, PathBuf)> = chosen.into_iter().map(|d| (d, self.target(d))).collect();
        self.targets_differ(&targets);
        if self.wish.online {
            self.may_be_online(&targets);
        } else {
            if self.found.running {
                self.stop();
            }
            self.bring_journals();
            self.start("the databases that are not restored roll forward by themselves, with the WIJ of the crash");
        }
        for (db, to) in &targets {
            self.replace(db, to);
        }
        let select: Vec<_> = targets.iter().filter(|(_, to)| self.journaled(to)).map(|(d, to)| (d.dir.clone(), to.clone())).collect();
        if !select.is_empty() {
            self.restore_journals(select);
        }
        self.integrity(targets.iter().map(|t| t.1.clone()).collect());
        for (db, to) in &targets {
            self.namespaces(db, to);
        }
        if !self.wish.online {
            self.restart();
        }
    }

    fn target(&self, db: &KeptDatabase) -> PathBuf {
        self.wish.into.get(&db.dir).cloned().unwrap_or_else(|| db.dir.clone())
    }

    fn targets_differ(&mut self, targets: &[(&KeptDatabase, PathBuf)]) {
        let mut seen: BTreeMap<&Path, &Path> = BTreeMap::new();
        for (db, to) in targets {
            if let Some(other) = seen.insert(to, &db.dir) {
                let both = format!("{} and {}", other.display(), db.dir.display());
                self.missing.push(Missing::new(format!("{both} would both go to {}", to.display()), "name a directory for each"));
            }
        }
    }

    /// Nobody may write into a database before its journals are applied.
    fn may_be_online(&mut self, targets: &[(&KeptDatabase, PathBuf)]) {
        if !self.found.running {
            self.lack("the instance is down", "leave out --online: the plan starts it for the administrator");
        }
        for (_, to) in targets {
            let shown = self.found.database(to).filter(|d| !d.namespaces.is_empty());
            if let Some(d) = shown {
                let text =
                    format!("{} is shown as namespace {}: users could write into it meanwhile", to.display(), d.namespaces.join(", "));
                self.lack(text, "restore into another directory, remove the namespace first, or leave out --online");
            }
        }
    }

    /// Dismount, keep aside, copy, configure, mount.
    fn replace(&mut self, db: &KeptDatabase, to: &Path) {
        let configured = self.found.database(to).is_some();
        if configured {
            self.push(
                Action::Dismount { dir: to.into() },
                "nothing may touch the file while it is replaced",
                "the engine says it is not mounted",
                Undo::By(format!("mount {}", to.display())),
            );
        }
        self.keep_aside(to);
        self.copy(db, to);
        if !configured {
            let name = self.name_for(db);
            self.push(
                Action::AddDatabase { name: name.clone(), dir: to.into() },
                "a directory that is not configured is mounted by nobody; no namespace shows it yet",
                "the configuration names it",
                Undo::By(format!("delete database {name} from the configuration")),
            );
        }
        self.push(
            Action::Mount { dir: to.into() },
            "journals are applied to mounted databases only",
            "the engine says it is mounted",
            Undo::By(format!("dismount {}", to.display())),
        );
        if !self.journaled(to) {
            self.warnings.push(format!("{} is not journaled: it stays as it was at the backup", to.display()));
        }
    }

    fn journaled(&self, dir: &Path) -> bool {
        self.found.database(dir).and_then(|d| d.journaled) != Some(false)
    }

    /// The old name when it is free, else one that says what it is.
    fn name_for(&self, db: &KeptDatabase) -> String {
        let base =
            if db.name.is_empty() { db.dir.file_name().unwrap_or_default().to_string_lossy().to_uppercase() } else { db.name.clone() };
        let taken = |n: &str| self.found.databases.iter().any(|d| d.name.eq_ignore_ascii_case(n));
        let restored = format!("{base}-RESTORED");
        if !taken(&base) { base } else { restored }
    }

    fn namespaces(&mut self, db: &KeptDatabase, to: &Path) {
        if self.found.database(to).is_some() {
            return;
        }
        let database = self.name_for(db);
        let shown = |n: &str| self.found.databases.iter().flat_map(|d| &d.namespaces).any(|s| s.eq_ignore_ascii_case(n));
        let wanted: Vec<String> = db.namespaces.iter().filter(|n| !shown(n)).cloned().collect();
        for name in wanted {
            self.push(
                Action::AddNamespace { name: name.clone(), database: database.clone() },
                "what was deleted with the database comes back last: until now nobody could write into it",
                "the configuration names it",
                Undo::By(format!("delete namespace {name} from the configuration")),
            );
        }
    }

    /// The whole instance, with the WIJ of the backup or without one.
    fn system(&mut self, wij: WijUse) {
        if self.wish.online {
            self.lack("a whole system is not restored while it runs", "leave out --online");
        }
        if !self.wish.into.is_empty() {
            self.lack("a whole system goes back to its own directories", "leave out --into, or restore single databases");
        }
        if self.kept.databases.is_empty() {
            self.lack("the set holds no databases", "choose another set");
        }
        let later = self.found.databases.iter().filter(|d| !self.kept.databases.iter().any(|k| k.dir == d.dir));
        let later: Vec<String> = later.map(|d| d.dir.display().to_string()).collect();
        if !later.is_empty() {
            self.warnings.push(format!("not in the set, left as they are: {}", later.join(", ")));
        }
        if self.found.running {
            self.stop();
        }
        let kept = self.kept;
        if self.wish.everything {
            self.others_aside();
        }
        for db in &kept.databases {
            self.keep_aside(&db.dir);
        }
        self.wij_aside();
        if wij == WijUse::OfBackup {
            self.journals_aside();
        }
        self.bring_journals();
        if self.wish.everything {
            let files: Vec<_> = kept.others.iter().map(|f| (f.clone(), f.was.clone())).collect();
            if !files.is_empty() {
                self.copy_files(
                    files,
                    "the instance's configuration and what else is its own: databases, namespaces, users, journal settings",
                );
            }
        }
        for db in &kept.databases {
            self.copy(db, &db.dir);
        }
        match wij {
            WijUse::OfBackup => self.with_wij(),
            WijUse::Without => self.without_wij(),
        }
        self.integrity(kept.databases.iter().map(|d| d.dir.clone()).collect());
        self.restart();
    }

    /// What an installation brought along: it is this host's, and not the backup's.
    fn others_aside(&mut self) {
        let foreign: Vec<PathBuf> = self.foreign.iter().map(|j| j.path.clone()).collect();
        for (dir, files) in by_dir(foreign) {
            self.aside_files(files, &dir, "journals of what was installed here: they are of another instance, and would be in the way");
        }
        let there: Vec<PathBuf> = self.kept.others.iter().map(|f| f.was.clone()).filter(|p| self.found.is_present(p)).collect();
        for (dir, files) in by_dir(there) {
            self.aside_files(files, &dir, "configuration of what was installed here: the backup's takes its place");
        }
    }

    fn with_wij(&mut self) {
        let kept = self.kept;
        if kept.wij.is_empty() {
            self.lack("the set holds no WIJ", "restore without it: --wij without");
        }
        self.chain();
        self.copy_files(kept.wij.iter().map(|f| (f.clone(), self.found.wij.clone())).collect(), "it says where the journals must begin");
        self.start("with the WIJ of the backup the instance rolls forward by itself, through all journals that lie in their directories");
    }

    fn without_wij(&mut self) {
        self.push(
            Action::StartWithoutWij,
            "\"In most cases, InterSystems IRIS does not start completely\": the WIJ had its journal information",
            "the log says that it entered single-user mode, or it is up",
            Undo::By(BACK.into()),
        );
        self.dangerous(
            Action::SkipJournalAtStart,
            "what a start would restore by itself is not known any more; the journals are applied by hand",
            "the engine confirms it",
            Undo::By(BACK.into()),
        );
        self.push(Action::Force, "single-user mode ends by force (^STURECOV 9)", "the instance is down", Undo::NotNeeded);
        self.start("with a new WIJ, and without journals");
        self.restore_journals(Vec::new());
    }

    /// With the WIJ of the backup a live journal that is left in place rolls forward: those behind the wish go aside, and where
    /// the set's own end is wanted its copies take their place.
    fn journals_aside(&mut self) {
        let Some(dir) = self.found.journal_dirs.first().cloned() else { return };
        let aside = |from: &dyn Fn(&JournalFile) -> bool| -> Vec<PathBuf> {
            self.found.journals.iter().filter(|f| from(f)).map(|f| f.path.clone()).collect()
        };
        let switched = self.kept.marks.iter().find_map(|m| m.switched.clone()).unwrap_or_default();
        let switched = journals::name(journals::plain(&switched));
        let (files, copies): (Vec<PathBuf>, Vec<KeptFile>) = match &self.wish.until {
            Until::End => return,
            Until::File(last) => {
                let last = journals::name(journals::plain(last));
                (aside(&|f| f.name() > last), Vec::new())
            }
            Until::Backup => {
                // An older one that is needed for the rollback and is lost comes back too.
                let from = self.kept.restore_from().and_then(|f| journals::name(journals::plain(f)));
                let copies = self.kept.journals.iter().filter(|f| {
                    let name = journals::name(journals::plain(&f.was.to_string_lossy()));
                    let lost = name >= from && !self.found.journals.iter().any(|j| j.name() == name);
                    name >= switched || lost
                });
                (aside(&|f| f.name() >= switched), copies.cloned().collect())
            }
        };
        for (dir, files) in by_dir(files) {
            self.aside_files(files, &dir, "journals that lie in place roll forward by themselves, past the moment that is wanted");
        }
        if !copies.is_empty() {
            let to = copies.into_iter().map(|f| (f.clone(), f.was.clone())).collect();
            self.copy_files(to, "the journal as it was at the snapshot: what was committed until then is in it");
        }
        self.warnings.push(format!("journal.log still lists journals that are kept aside below {}", dir.display()));
    }

    /// A start looks for journals in their directories only. What lies elsewhere, in the set or where it was shipped to, and is not
    /// there any more comes back first. Of a file that is in both, the longer one: more was written to it.
    fn bring_journals(&mut self) {
        let (Some(dir), Some(from)) =
            (self.found.journal_dirs.first(), self.kept.restore_from().and_then(|f| journals::name(journals::plain(f))))
        else {
            return;
        };
        // Beside single databases the others go on to now, whatever is wished for these.
        let system = matches!(self.wish.scope, Scope::System(_));
        if system && self.wish.until == Until::Backup {
            return;
        }
        let end = match &self.wish.until {
            Until::File(f) if system => journals::name(journals::plain(f)),
            Until::File(_) | Until::Backup | Until::End => None,
        };
        let mut lost: BTreeMap<journals::Name, KeptFile> = BTreeMap::new();
        for f in self.kept.journals.iter().chain(&self.found.shipped) {
            let Some(name) = journals::name(&f.copy.file_name().unwrap_or_default().to_string_lossy()) else { continue };
            let wanted = name >= from && end.as_ref().is_none_or(|e| name <= *e);
            let there = self.found.journals.iter().any(|j| j.name().as_ref() == Some(&name));
            if wanted && !there && lost.get(&name).is_none_or(|other| other.size < f.size) {
                lost.insert(name, f.clone());
            }
        }
        let files: Vec<_> = lost
            .into_values()
            .map(|f| {
                let to = dir.join(f.copy.file_name().unwrap_or_default());
                (f, to)
            })
            .collect();
        if !files.is_empty() {
            self.copy_files(
                files,
                "journals that are lost come back from the set and from where they were shipped to: a start looks nowhere else",
            );
        }
    }

    /// Which journals, and where they are found.
    fn restore_journals(&mut self, select: Vec<(PathBuf, PathBuf)>) {
        let Some(first) = self.chain() else { return };
        let last = match &self.wish.until {
            Until::Backup => self.kept.journal_files().last().map(|f| journals::plain(&f.file()).to_owned()),
            Until::File(f) => Some(journals::plain(f).to_owned()),
            Until::End => None,
        };
        let locations = self.locations(&first);
        self.push(
            Action::RestoreJournals { first, last, locations, select },
            "what was committed after the backup comes back, and what was open at the end is rolled back",
            "the engine says that the restore was completed",
            Undo::By(BACK.into()),
        );
    }

    /// Live directories first; the set's own where they lack something, or alone when its own end is wanted.
    fn locations(&self, first: &str) -> Vec<PathBuf> {
        let mut of_set: Vec<PathBuf> = self.kept.journal_files().iter().filter_map(|f| f.path.parent().map(Path::to_owned)).collect();
        of_set.dedup();
        let last = if let Until::File(f) = &self.wish.until { Some(f.as_str()) } else { None };
        match &self.wish.until {
            Until::Backup => of_set,
            Until::File(_) | Until::End if journals::gaps(&self.found.journals, first, last).is_empty() => self.found.journal_dirs.clone(),
            // Where nothing was brought back (the instance stays up) the engine finds them where they lie.
            Until::File(_) | Until::End => {
                let shipped = self.found.shipped.first().and_then(|f| f.copy.parent()).map(Path::to_owned);
                self.found.journal_dirs.iter().cloned().chain(shipped).chain(of_set).collect()
            }
        }
    }

    /// "If you do not have journal files at least up to the moment of the backup, do not apply any journal files." The first one.
    fn chain(&mut self) -> Option<String> {
        let Some(from) = self.kept.restore_from().map(|f| journals::plain(f).to_owned()) else {
            self.lack("the backup did not switch its journal: with which one a restore begins is not known", "apply journals by hand");
            return None;
        };
        let mut all = self.kept.journal_files();
        if self.wish.until != Until::Backup {
            // The live ones are longer than the copies of the same name: they come first and stay.
            let shipped = self.found.shipped.iter().map(|f| JournalFile { path: f.copy.clone(), size: f.size });
            all = self.found.journals.iter().cloned().chain(shipped).chain(all).collect();
            journals::sort(&mut all);
        }
        let last = if let Until::File(f) = &self.wish.until { Some(f.as_str()) } else { None };
        let gaps = journals::gaps(&all, &from, last);
        if !gaps.is_empty() {
            let dirs: Vec<String> = self.found.journal_dirs.iter().map(|d| d.display().to_string()).collect();
            let next = format!("put them into {}, or restore to the moment of the backup (--until backup)", dirs.join(" or "));
            self.lack(format!("journals are missing: {}", gaps.join(", ")), next);
        }
        Some(from)
    }
}

/// As if nothing were there but what must be kept aside: where things belong, the set says.
fn emptied(kept: &Kept, found: &Found) -> Found {
    let mut dirs: Vec<PathBuf> = kept.journals.iter().filter_map(|f| f.was.parent().map(Path::to_owned)).collect();
    dirs.dedup();
    Found {
        journals: Vec::new(),
        databases: Vec::new(),
        journal_dirs: if dirs.is_empty() { found.journal_dirs.clone() } else { dirs },
        wij: kept.wij.first().map_or_else(|| found.wij.clone(), |f| f.was.clone()),
        ..found.clone()
    }
}

fn by_dir(files: Vec<PathBuf>) -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let mut out: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for f in files {
        out.entry(f.parent().unwrap_or(Path::new("/")).to_owned()).or_default().push(f);
    }
    out
}

/// `2024.1` out of the registry's and `$ZVERSION`'s forms.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.')).find_map(|word| {
        let mut parts = word.split('.');
        let (year, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (year >= 2000).then_some((year, minor))
    })
}
