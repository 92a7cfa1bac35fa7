//! What a pre leaves for its post: Azure Backup gives a run neither a name nor an order that can be trusted. One small file on
//! tmpfs, changed under a lock; a started pre always gets a post, but a pre that was given up may go on after it.

use doors::clock::{boot_id, boot_now};
use protocol::wire::Problem;
use protocol::{BackupId, BootId, BootMs};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One run: from its pre to its post.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Turn {
    pub id: Option<BackupId>,
    /// Pre ended with success, in its time.
    pub frozen: bool,
    /// Another pre came between: whose post will thaw is not known.
    pub disturbed: bool,
    /// Why pre failed.
    pub problem: Option<Problem>,
    /// When the last post came.
    pub post_at: Option<BootMs>,
}

impl Turn {
    /// A new run. False: a post came after this pre was started, so this pre was given up long ago.
    pub fn begin(&mut self, id: BackupId, started: BootMs) -> bool {
        if self.post_at.is_some_and(|at| at >= started) {
            return false;
        }
        *self = Self { id: Some(id), post_at: self.post_at, ..Self::default() };
        true
    }

    /// Pre may say that it is frozen. False: its post, or another pre, came meanwhile.
    pub fn say_frozen(&mut self, id: BackupId) -> bool {
        let mine = self.id == Some(id);
        self.frozen |= mine;
        mine
    }

    /// Ends it; what was there.
    pub fn end(&mut self, now: BootMs) -> Self {
        let was = std::mem::take(self);
        self.post_at = Some(now);
        was
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    /// Its moments count from this boot.
    boot: BootId,
    turn: Turn,
}

/// The file and its lock, in the run directory.
pub struct Turns {
    path: PathBuf,
}

impl Turns {
    pub fn at(run_dir: &Path) -> Self {
        Self { path: run_dir.join("azure-backup") }
    }

    /// Under the lock, renamed into place. Nothing is changed when the lock cannot be had until `by`.
    pub fn change<T>(&self, by: BootMs, f: impl FnOnce(&mut Turn) -> T) -> std::io::Result<T> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.path.with_extension("lock"))?;
        while let Err(e) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if boot_now() >= by {
                return Err(e.into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut turn = self.peek();
        let answer = f(&mut turn);
        let new = self.path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(serde_json::to_string(&Stored { boot: boot_id()?, turn })?.as_bytes())?;
        std::fs::rename(&new, &self.path)?;
        Ok(answer)
    }

    /// As it is; of another boot, unreadable or not there: nothing.
    pub fn peek(&self) -> Turn {
        let stored: Option<Stored> = std::fs::read(&self.path).ok().and_then(|b| serde_json::from_slice(&b).ok());
        stored.filter(|s| boot_id().is_ok_and(|b| b == s.boot)).map(|s| s.turn).unwrap_or_default()
    }
}

/// When this process was started, by the kernel's word: before its first instruction, and before a `sh` that `exec`ed it.
pub fn started() -> std::io::Result<BootMs> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    started_in(&text, rustix::param::clock_ticks_per_second())
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "/proc/self/stat has no start time"))
}

/// Field 22 of proc_pid_stat(5), in ticks since boot; the second field may hold blanks and parentheses.
fn started_in(stat: &str, ticks_per_s: u64) -> Option<BootMs> {
    let ticks: u64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(BootMs(ticks.checked_mul(1000)?.checked_div(ticks_per_s)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::freeze::new_id;

    #[test]
    fn a_pre_that_was_given_up_cannot_begin_and_cannot_succeed() {
        let (a, b) = (new_id(), new_id());
        let mut t = Turn::default();
        assert!(t.begin(a, BootMs(100)) && t.say_frozen(a));
        // Its post; then a pre of an earlier moment, and one of a later.
        assert_eq!(t.end(BootMs(200)).id, Some(a));
        assert!(!t.say_frozen(a), "after its post");
        assert!(!t.begin(b, BootMs(200)) && !t.begin(b, BootMs(150)));
        assert!(t.begin(b, BootMs(201)) && !t.frozen);
        assert!(!t.say_frozen(a), "the earlier one");
        assert!(!t.frozen);
        assert!(t.say_frozen(b));
        // Post twice: the second one finds nothing.
        assert!(t.end(BootMs(300)).frozen);
        assert_eq!(t.end(BootMs(400)).id, None);
    }

    #[test]
    fn a_turn_outlives_the_process_and_not_the_boot() {
        let dir = tempfile::tempdir().unwrap();
        let (turns, id) = (Turns::at(dir.path()), new_id());
        let soon = || boot_now().plus(50);
        assert!(turns.change(soon(), |t| t.begin(id, BootMs(1))).unwrap());
        assert_eq!(Turns::at(dir.path()).peek().id, Some(id));
        let path = dir.path().join("azure-backup");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777, 0o600);
        let lock = std::fs::File::open(path.with_extension("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert!(turns.change(soon(), |t| t.end(BootMs(2))).is_err() && turns.peek().id == Some(id), "locked: unchanged, and readable");
        drop(lock);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(&boot_id().unwrap().0, "another")).unwrap();
        assert_eq!(turns.peek(), Turn::default());
        std::fs::write(&path, "{").unwrap();
        assert_eq!(turns.peek(), Turn::default());
    }

    #[test]
    fn the_start_of_a_process_is_read_past_its_name() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1";
        assert_eq!(started_in(stat, 100), Some(BootMs(123_450)));
        assert_eq!((started_in("42 (x) S 1", 100), started_in("", 100), started_in(stat, 0)), (None, None, None));
        let (now, mine) = (boot_now(), started().unwrap());
        assert!(mine <= now && now.since(mine) < 600_000, "{mine:?} {now:?}");
    }
}
