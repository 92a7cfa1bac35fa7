//! Freezing file systems themselves (FIFREEZE), for those that span disks which are not snapshotted in one call.
//!
//! The dangers are known from others' field reports, and each has its answer here: a thaw by a program that lies on the
//! frozen file system hangs, so it is an ioctl on a descriptor opened before; a freeze that ends after we gave it up leaves
//! it frozen, so the late thread thaws it itself; the root file system and whatever holds our own state are never
//! frozen. Nothing here writes or logs while something is frozen.
//!
//! The watchdog opens its own [`FsFreeze`] of the same list before the freeze and calls [`FsFreeze::thaw_all`]: any
//! descriptor on the file system thaws it, and thawing what is not frozen changes nothing.

use crate::ioctl;
use crate::layout::mountinfo;
use doors::clock::boot_now;
use protocol::{BootMs, Code, wire::Problem};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

#[derive(Debug)]
pub struct FsFreeze(Vec<Item>);

#[derive(Debug)]
struct Item {
    point: PathBuf,
    fd: Arc<OwnedFd>,
    state: Arc<Mutex<State>>,
    kernel: Kernel,
}

/// The two calls; a test puts slow ones in their place.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    freeze: fn(&OwnedFd) -> Result<(), Errno>,
    thaw: fn(&OwnedFd) -> Result<(), Errno>,
}

const KERNEL: Kernel = Kernel { freeze: ioctl::freeze, thaw: ioctl::thaw };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// The call is running.
    Freezing,
    Frozen,
    /// Thawed, or given up, while the call was running: when it ends as frozen, its own thread thaws.
    GivenUp,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is frozen already, and not by us")]
    NotOurs(PathBuf),
    #[error("{0} was not frozen in time: something keeps writing to it")]
    Late(PathBuf),
    #[error("could not freeze {path}: {source}")]
    Freeze { path: PathBuf, source: std::io::Error },
    /// Both errors: the second means that a file system may still be frozen.
    #[error("{first}; and then {thaw}")]
    Rollback { first: Box<Error>, thaw: Box<Error> },
    #[error("could not thaw {path}: {source}")]
    Thaw { path: PathBuf, source: std::io::Error },
}

/// Whether a thaw changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Changed,
    Unchanged,
}

impl FsFreeze {
    /// `keep_alive`: paths that must stay writable: our state and socket directories, the program itself, the target of a
    /// local set. Refuses `/` and every mount point that holds one of them.
    pub fn open(points: &[PathBuf], keep_alive: &[PathBuf]) -> Result<Self, Problem> {
        let table = std::fs::read("/proc/self/mountinfo").map_err(|e| refuse(format!("the mount table cannot be read: {e}")))?;
        check(points, keep_alive, &mountinfo::parse(&table))?;
        let open = |point: &PathBuf| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = fs::open(point, flags | OFlags::NOATIME, Mode::empty());
            let fd = fd.or_else(|_| fs::open(point, flags, Mode::empty()));
            let fd = fd.map_err(|e| refuse(format!("{} cannot be opened: {e}", point.display())))?;
            Ok(Item { point: point.clone(), fd: Arc::new(fd), state: Arc::new(Mutex::new(State::Idle)), kernel: KERNEL })
        };
        Ok(Self(points.iter().map(open).collect::<Result<_, Problem>>()?))
    }

    /// All or none: when one fails or is late, those that were frozen are thawed before this returns.
    pub fn freeze(&self, by: BootMs) -> Result<(), Error> {
        match self.0.iter().try_for_each(|item| item.freeze(by)) {
            Ok(()) => Ok(()),
            Err(first) => match self.thaw().into_iter().find_map(|(_, r)| r.err()) {
                None => Err(first),
                Some(thaw) => Err(Error::Rollback { first: Box::new(first), thaw: Box::new(thaw) }),
            },
        }
    }

    /// Last frozen, first thawed; only what we froze, or are still freezing (that is thawed when it ends). May be called at
    /// any time and again.
    pub fn thaw(&self) -> Vec<(&Path, Result<Change, Error>)> {
        self.each(|item| if *item.lock() == State::Idle { Ok(Change::Unchanged) } else { item.thaw() })
    }

    /// For the watchdog and the emergency: thaws every one, whoever froze it.
    pub fn thaw_all(&self) -> Vec<(&Path, Result<Change, Error>)> {
        self.each(Item::thaw)
    }

    fn each(&self, thaw: impl Fn(&Item) -> Result<Change, Error>) -> Vec<(&Path, Result<Change, Error>)> {
        self.0.iter().rev().map(|item| (item.point.as_path(), thaw(item))).collect()
    }

    pub fn points(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|i| i.point.as_path())
    }
}

impl Item {
    fn freeze(&self, by: BootMs) -> Result<(), Error> {
        *self.lock() = State::Freezing;
        let (fd, state, kernel) = (Arc::clone(&self.fd), Arc::clone(&self.state), self.kernel);
        let (tell, hear) = mpsc::channel();
        let fail = |source| Error::Freeze { path: self.point.clone(), source };
        std::thread::Builder::new()
            .name("fifreeze".into())
            .spawn(move || {
                let done = (kernel.freeze)(&fd);
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                match (done, *state) {
                    (Ok(()), State::GivenUp) => _ = (kernel.thaw)(&fd), // EINVAL: somebody thawed it before us
                    (Ok(()), State::Idle | State::Freezing | State::Frozen) => *state = State::Frozen,
                    (Err(_), _) => *state = State::Idle,
                }
                let _ = tell.send(done); // nobody listens after the deadline
            })
            .map_err(fail)?;
        match hear.recv_timeout(Duration::from_millis(by.since(boot_now()))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Errno::BUSY)) => Err(Error::NotOurs(self.point.clone())),
            Ok(Err(e)) => Err(fail(e.into())),
            Err(_) => Err(Error::Late(self.point.clone())),
        }
    }

    fn thaw(&self) -> Result<Change, Error> {
        let mut state = self.lock();
        *state = match *state {
            State::Freezing => State::GivenUp,
            other => other,
        };
        match (self.kernel.thaw)(&self.fd) {
            Ok(()) => {
                if *state == State::Frozen {
                    *state = State::Idle;
                }
                Ok(Change::Changed)
            }
            Err(Errno::INVAL) => {
                if *state == State::Frozen {
                    *state = State::Idle; // thawed by someone else
                }
                Ok(Change::Unchanged)
            }
            Err(e) => Err(Error::Thaw { path: self.point.clone(), source: e.into() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse(why: String) -> Problem {
    Problem::new(Code::RefusedSplitFilesystem, why)
        .next("put the file system on disks that one call snapshots, or move what must stay writable off it")
}

fn check(points: &[PathBuf], keep_alive: &[PathBuf], table: &[mountinfo::MountLine]) -> Result<(), Problem> {
    for point in points {
        let Some(mount) = mountinfo::mount_of(table, point).filter(|m| m.point == *point) else {
            return Err(refuse(format!("{} is no mount point", point.display())));
        };
        let same_fs = |p: &Path| {
            let m = mountinfo::mount_of(table, p);
            m.is_some_and(|m| m.dev == mount.dev || (m.fs_type == "btrfs" && m.source == mount.source))
        };
        if same_fs(Path::new("/")) {
            return Err(refuse(format!("{} is the root file system, which is never frozen", point.display())));
        }
        for path in keep_alive {
            let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            if same_fs(&real) {
                return Err(refuse(format!("{} holds {}, which must stay writable", point.display(), path.display())));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A file system whose freeze takes 300 ms; the number of freezes less thaws.
    static HELD: AtomicU32 = AtomicU32::new(0);

    #[test]
    fn a_freeze_that_ends_after_it_was_given_up_is_thawed() {
        let fd = Arc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        let kernel = Kernel {
            freeze: |_| {
                std::thread::sleep(Duration::from_millis(300));
                HELD.fetch_add(1, Ordering::SeqCst);
                Ok(())
            },
            thaw: |_| {
                let one_less = HELD.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                one_less.map(|_| ()).map_err(|_| Errno::INVAL)
            },
        };
        let state = Arc::new(Mutex::new(State::Idle));
        let slow = FsFreeze(vec![Item { point: "/slow".into(), fd, state, kernel }]);
        let e = slow.freeze(boot_now().plus(50)).unwrap_err();
        assert!(matches!(e, Error::Late(_)), "{e}");
        let by = boot_now().plus(5_000);
        let mut seen_frozen = false;
        while *slow.0[0].lock() != State::GivenUp || !seen_frozen {
            assert!(boot_now() < by);
            seen_frozen |= Arc::strong_count(&slow.0[0].fd) == 1; // the late thread has ended
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(HELD.load(Ordering::SeqCst), 0, "the late freeze was thawed by its own thread");
        // And the same instance can be used again.
        slow.freeze(boot_now().plus(5_000)).unwrap();
        assert_eq!(HELD.load(Ordering::SeqCst), 1);
        assert!(matches!(slow.thaw()[..], [(_, Ok(Change::Changed))]));
        assert_eq!(HELD.load(Ordering::SeqCst), 0);
    }
}
