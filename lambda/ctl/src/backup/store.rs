//! The saga on disk, written before each step: what a crash leaves behind says what may have been sent.
//!
//! `ID.json` is replaced as a whole, 0600. `ID.lock` is locked as long as a process drives the backup, and goes with it.

use crate::cloud::Kind;
use coordinator::{Phase, Saga};
use protocol::wire::Problem;
use protocol::{BackupId, Code};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// With where it belongs, so that `--resume ID` needs nothing else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    pub schema: u32,
    #[serde(flatten)]
    pub place: Place,
    pub saga: Saga,
}

/// Where a backup's cloud is found again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    pub cloud: Kind,
    pub region: Option<String>,
    pub profile: Option<String>,
    pub subscription: Option<String>,
    pub resource_group: Option<String>,
}

pub struct Store {
    dir: PathBuf,
}

/// `${XDG_STATE_HOME:-~/.local/state}/snapfreeze`
pub fn default_dir() -> Result<PathBuf, Problem> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|h| h.join(".local/state"))).map(|d| d.join("snapfreeze")).ok_or_else(|| {
        Problem::new(Code::ConfigInvalid, "no place to keep the state of a running backup").next("set HOME or XDG_STATE_HOME")
    })
}

impl Store {
    pub fn open(dir: PathBuf) -> Result<Self, Problem> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| failed("make", &dir, &e))?;
        Ok(Self { dir })
    }

    fn file(&self, id: BackupId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// `durable`: it must survive a power failure, not just a crash of this process. Inside the window nobody waits for a disk.
    pub fn write(&self, stored: &Stored, durable: bool) -> Result<(), Problem> {
        let path = self.file(stored.saga.order.id);
        let new = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut f = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            f.write_all(&serde_json::to_vec(stored).map_err(io::Error::other)?)?;
            if durable {
                f.sync_all()?;
            }
            std::fs::rename(&new, &path)?;
            if durable { File::open(&self.dir)?.sync_all() } else { Ok(()) }
        };
        write().map_err(|e| failed("write", &path, &e))
    }

    pub fn read(&self, id: BackupId) -> Result<Stored, Problem> {
        let path = self.file(id);
        let text = std::fs::read(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Problem::new(Code::CatalogueUnknown, format!("no unfinished backup {id} in {}", self.dir.display()))
                .next("a backup that ended has nothing to resume: snapfreezectl show ID"),
            _ => failed("read", &path, &e),
        })?;
        let stored: Stored = serde_json::from_slice(&text).map_err(|e| failed("read", &path, &e))?;
        if stored.schema > protocol::SCHEMA || stored.saga.schema > protocol::SCHEMA {
            return Err(Problem::new(Code::ConfigInvalid, format!("{} was written by a newer snapfreezectl", path.display()))
                .next("resume with that version"));
        }
        Ok(stored)
    }

    /// A backup that ended has no state any more.
    pub fn forget(&self, id: BackupId) {
        let _ = std::fs::remove_file(self.file(id));
        let _ = std::fs::remove_file(self.file(id).with_extension("lock"));
    }

    /// One process drives a backup. The kernel gives the lock back when it dies.
    pub fn lock(&self, id: BackupId) -> Result<File, Problem> {
        let path = self.file(id).with_extension("lock");
        let f = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let f = f.map_err(|e| failed("open", &path, &e))?;
        f.try_lock().map_err(|_| {
            Problem::new(Code::RefusedUsedId, format!("{id} is being driven by a running snapfreezectl"))
                .next("wait for it, or stop it with Ctrl-C: it thaws first")
        })?;
        Ok(f)
    }

    /// Backups that were begun and that nobody drives any more. One whose verdict is written needs nobody (`--no-wait`).
    pub fn abandoned(&self) -> Vec<BackupId> {
        let names = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let ids = names.filter_map(|e| e.file_name().to_str()?.strip_suffix(".json")?.parse().ok());
        let settled = |id| self.read(id).is_ok_and(|s| matches!(s.saga.phase, Phase::Complete | Phase::After | Phase::Done));
        ids.filter(|id| !settled(*id) && self.lock(*id).is_ok()).collect()
    }
}

fn failed(what: &str, path: &Path, e: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::Internal, format!("could not {what} {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator::{Order, Target};
    use protocol::WallMs;
    use std::os::unix::fs::PermissionsExt;

    fn stored() -> Stored {
        let policy = crate::policy::manual(&["i-1".into()], Default::default()).unwrap();
        let target = Target { id: "i-1".into(), name: String::new() };
        let order = Order::new(policy, "run", vec![target], "nonce", WallMs(1), WallMs(1));
        Stored { schema: 1, place: Place { region: Some("eu-west-1".into()), ..Place::default() }, saga: Saga::new(order) }
    }

    #[test]
    fn what_was_written_is_read_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("state")).unwrap();
        let s = stored();
        let id = s.saga.order.id;
        store.write(&s, true).unwrap();
        assert_eq!(store.read(id).unwrap().saga, s.saga);
        let mode = std::fs::metadata(store.file(id)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        store.forget(id);
        assert_eq!(store.read(id).unwrap_err().code, Code::CatalogueUnknown);
    }

    #[test]
    fn a_backup_that_somebody_drives_is_neither_abandoned_nor_to_be_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().into()).unwrap();
        let mut s = stored();
        let id = s.saga.order.id;
        store.write(&s, false).unwrap();
        let lock = store.lock(id).unwrap();
        assert_eq!(store.lock(id).unwrap_err().code, Code::RefusedUsedId);
        assert!(store.abandoned().is_empty());
        drop(lock);
        assert_eq!(store.abandoned(), vec![id], "the control");
        s.saga.phase = Phase::Complete;
        store.write(&s, false).unwrap();
        assert!(store.abandoned().is_empty() && store.lock(id).is_ok(), "its verdict is written; it can be resumed");
    }
}
