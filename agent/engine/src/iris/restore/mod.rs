//! A restore's steps on IRIS and Caché, by the vendor's own commands and classes. Each asks first what is so already, and sees
//! afterwards that it is so: a step may be repeated from its beginning.
//!
//! While a restore runs, the instance is up for the administrator alone (`iris start … EmergencyId=`, "System Administration
//! Guide"): sessions are `iris session NAME -B`. That start takes a user and a password as an argument, which `ps` shows while
//! it runs; both are made for one start, and nobody uses them.

mod databases;
mod journals;
mod power;
mod sentinel;

use super::Iris;
use super::script::{Reply, Script, nonce};
use crate::Error;
use crate::restore::{Failed, Restorer, Say, Sentinel};
use doors::clock::boot_now;
use protocol::WallMs;
use recovery::{Action, Database, Found, JournalFile};
use std::path::{Path, PathBuf};

/// A question, or a change of the configuration.
const ASK_MS: u64 = 60_000;
/// Processes end, their transactions roll back, one whole write daemon cycle.
const STOP_MS: u64 = 15 * 60_000;
/// "A subsequent startup … may take an extended period" (class reference, ExternalFreeze).
const START_MS: u64 = 4 * 3_600_000;
/// Large databases and days of journals: the end is the engine's, this is only no endless wait.
const LONG_MS: u64 = 48 * 3_600_000;

impl Restorer for Iris {
    fn found(&self) -> Result<Found, Error> {
        let by = boot_now().plus(ASK_MS);
        if self.runner.in_container() {
            return Err(Error::Unreadable {
                what: "the instance's files".into(),
                why: "it runs in a container (exec_prefix): run the restore inside it, or with the container's volumes on this host".into(),
            });
        }
        let located = match self.locate(by) {
            Ok(l) => l,
            Err(Error::NoInstance(_)) => return Ok(Found::default()),
            Err(e) => return Err(e),
        };
        let l = &located.listed;
        let cpf = &located.cpf;
        let namespaces = cpf.namespaces();
        let databases: Vec<Database> = cpf
            .databases()
            .into_iter()
            .map(|(name, dir)| Database {
                namespaces: namespaces.iter().filter(|n| n.1.eq_ignore_ascii_case(&name)).map(|n| n.0.clone()).collect(),
                name,
                dir: without_slash(&dir),
                journaled: None,
            })
            .collect();
        let journal_dirs: Vec<PathBuf> =
            [cpf.journal_dir(), cpf.alternate_dir()].into_iter().flatten().map(|d| without_slash(&d)).collect();
        let wij_dir = located.wij_last.clone().or_else(|| cpf.wij_dir()).unwrap_or_else(|| located.mgr.clone());
        let guid = if l.running() { self.guid() } else { String::new() };
        Ok(Found {
            running: !l.down(),
            status: l.status.clone(),
            installed: true,
            version: l.version.clone(),
            guid,
            mirror: l.member_type.clone(),
            databases,
            system_database: without_slash(&located.mgr),
            wij: without_slash(&wij_dir).join(self.product.wij()),
            journals: journal_files(&journal_dirs),
            journal_dirs,
            shipped: Vec::new(),
            present: Vec::new(),
            room: Vec::new(),
        })
    }

    fn act(&self, action: &Action, say: Say<'_>) -> Result<String, Failed> {
        match action {
            Action::Stop => self.stop(),
            Action::StartForAdministrator => self.start_for_administrator(say),
            Action::StartWithoutWij => self.start_without_wij(say),
            Action::SkipJournalAtStart => self.skip_journal_at_start(),
            Action::Force => self.force(),
            Action::StartForUsers => self.start_for_users(say),
            Action::Dismount { dir } => self.dismount(dir),
            Action::Mount { dir } => self.mount(dir),
            Action::AddDatabase { name, dir } => self.add_database(name, dir),
            Action::AddNamespace { name, database } => self.add_namespace(name, database),
            Action::DeleteDatabase { name } => self.delete_database(name),
            Action::RestoreJournals { first, last, locations, select } => {
                self.restore_journals(first, last.as_deref(), locations, select, say)
            }
            Action::CheckIntegrity { dirs } => self.check_integrity(dirs, say),
            Action::KeepAside { .. }
            | Action::Copy { .. }
            | Action::RemovePlace { .. }
            | Action::Rundown { .. }
            | Action::RollForward { .. }
            | Action::JournalingOn { .. } => Err(Failed::new(format!("{} is no step of this engine", action.word()))),
        }
    }

    fn write_sentinel(&self, sentinel: &Sentinel, now: WallMs) -> Result<(), Failed> {
        self.set_sentinel(sentinel, now)
    }

    fn read_sentinel(&self, sentinel: &Sentinel, copy: &Path, _: &Path) -> Result<Option<WallMs>, Failed> {
        self.get_sentinel(sentinel, copy)
    }
}

impl Iris {
    fn guid(&self) -> String {
        let ask = |s: &mut Script| s.ask("GUID", "##class(%SYS.System).InstanceGUID()");
        self.script(ASK_MS, ask).map(|r| r.get("GUID").to_owned()).unwrap_or_default()
    }

    /// Runs a script as the administrator; where that login is refused, as the configured user. A login that is refused has
    /// executed no line, so nothing happens twice.
    fn script(&self, ms: u64, write: impl Fn(&mut Script)) -> Result<Reply, Failed> {
        let by = boot_now().plus(ms);
        let mut said = String::new();
        for admin in [true, false] {
            let nonce = nonce().map_err(|e| Failed::new(e.to_string()))?;
            let mut s = Script::new(&nonce);
            write(&mut s);
            let text = s.end("5");
            let output = if admin { self.runner.admin_session(&text, by) } else { self.runner.session(&text, by, None) };
            let output = output.map_err(Failed::from)?;
            match Reply::parse(&output.out(), &nonce) {
                Some(r) if r.complete => return Ok(r),
                Some(_) => return Err(Failed::new(format!("the session ended before its answer: {}", self.runner.said(&output)))),
                None => said = self.runner.said(&output),
            }
        }
        Err(Failed::new(format!("no session answers: {said}")))
    }

    fn located_now(&self) -> Result<super::find::Located, Failed> {
        self.locate(boot_now().plus(ASK_MS)).map_err(Failed::from)
    }
}

/// An ObjectScript literal of a directory, with the slash that the engine writes behind it.
fn dir_literal(dir: &Path) -> Result<String, Failed> {
    let text = dir.to_str().ok_or_else(|| Failed::new(format!("{} is not UTF-8", dir.display())))?;
    literal(&format!("{}/", text.trim_end_matches('/')))
}

fn literal(text: &str) -> Result<String, Failed> {
    super::quote::literal(text).map_err(|e| Failed::new(e.to_string()))
}

/// `SC` 1, or the engine's own words.
fn status(reply: &Reply, doing: &str) -> Result<(), Failed> {
    match reply.get("SC") {
        "1" => Ok(()),
        "" => Err(Failed::new(format!("{doing}: the engine did not answer (has the user the right to do it?)"))),
        _ => Err(Failed::new(format!("{doing}: {}", reply.get("TEXT")))),
    }
}

/// Lines that call `expression` for a %Status and say it with its text.
fn call(s: &mut Script, expression: &str) {
    s.line("set sfs=\"\"");
    s.line(&format!("set sfs={expression}"));
    s.say("SC", "$select(sfs=\"\":\"\",sfs:1,1:0)");
    s.say("TEXT", "$select(sfs=\"\":\"\",sfs:\"\",1:$SYSTEM.Status.GetErrorText(sfs))");
}

fn without_slash(dir: &Path) -> PathBuf {
    let text = dir.to_string_lossy();
    match text.trim_end_matches('/') {
        "" => "/".into(),
        t => t.into(),
    }
}

/// What has a journal's name, in the engine's order. A directory that cannot be read has none: the plan then says what lacks.
pub fn journal_files(dirs: &[PathBuf]) -> Vec<JournalFile> {
    let mut all = Vec::new();
    for entry in dirs.iter().filter_map(|d| std::fs::read_dir(d).ok()).flatten().flatten() {
        if let Ok(m) = entry.metadata()
            && m.is_file()
        {
            all.push(JournalFile { path: entry.path(), size: m.len() });
        }
    }
    recovery::journals::sort(&mut all);
    all
}
