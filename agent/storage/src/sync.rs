//! `syncfs` on every file system of a set: a cloud snapshot sees the disk, not the page cache.

use doors::clock::boot_now;
use protocol::BootMs;
use rustix::fs::{self, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Descriptors on the file systems, opened before the freeze.
#[derive(Clone, Debug)]
pub struct SyncSet(Vec<(PathBuf, Arc<OwnedFd>)>);

/// What became of each file system. Good when nothing is `unfinished` or `failed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SyncReport {
    pub done: Vec<(PathBuf, u64)>,
    /// Still running at the deadline: its data may not be on the disk.
    pub unfinished: Vec<PathBuf>,
    pub failed: Vec<(PathBuf, String)>,
    pub took_ms: u64,
}

impl SyncReport {
    pub fn good(&self) -> bool {
        self.unfinished.is_empty() && self.failed.is_empty()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("could not open {path} for syncfs: {source}")]
pub struct Error {
    pub path: PathBuf,
    pub source: std::io::Error,
}

impl SyncSet {
    /// `mounts`: one path on each file system, usually its mount point.
    pub fn open(mounts: &[PathBuf]) -> Result<Self, Error> {
        let open = |p: &PathBuf| {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match fs::open(p, flags, Mode::empty()) {
                Ok(fd) => Ok((p.clone(), Arc::new(fd))),
                Err(e) => Err(Error { path: p.clone(), source: e.into() }),
            }
        };
        Ok(Self(mounts.iter().map(open).collect::<Result<_, _>>()?))
    }

    /// All at once, each on a thread of its own; a hanging disk costs the deadline and no more. Its thread ends when the
    /// disk answers.
    pub fn sync(&self, by: BootMs) -> SyncReport {
        self.each(by, |fd, _| fs::syncfs(fd).map_err(Into::into))
    }

    fn each(&self, by: BootMs, work: impl Fn(&OwnedFd, &Path) -> std::io::Result<()> + Clone + Send + 'static) -> SyncReport {
        let begun = boot_now();
        let (tell, hear) = mpsc::channel();
        let mut report = SyncReport { unfinished: self.0.iter().map(|(p, _)| p.clone()).collect(), ..SyncReport::default() };
        for (path, fd) in &self.0 {
            let (tell, path, fd, work) = (tell.clone(), path.clone(), Arc::clone(fd), work.clone());
            let started = std::thread::Builder::new().name("syncfs".into()).spawn(move || {
                let done = work(&fd, &path);
                let _ = tell.send((path, done)); // nobody listens after the deadline
            });
            if let Err(e) = started {
                report.failed.push((PathBuf::from("(thread)"), e.to_string()));
            }
        }
        drop(tell);
        while let Ok((path, done)) = hear.recv_timeout(Duration::from_millis(by.since(boot_now()))) {
            report.unfinished.retain(|p| *p != path);
            match done {
                Ok(()) => report.done.push((path, boot_now().since(begun))),
                Err(e) => report.failed.push((path, e.to_string())),
            }
        }
        report.took_ms = boot_now().since(begun);
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_disk_costs_the_deadline_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (good, slow) = (dir.path().to_owned(), dir.path().join("slow"));
        std::fs::create_dir(&slow).unwrap();
        let set = SyncSet::open(&[good.clone(), slow.clone()]).unwrap();
        let hang = slow.clone();
        let report = set.each(boot_now().plus(100), move |_, p| {
            if p == hang {
                std::thread::sleep(Duration::from_millis(600));
            }
            Ok(())
        });
        assert_eq!((report.unfinished.as_slice(), report.done[0].0.as_path()), (&[slow][..], good.as_path()));
        assert!(!report.good() && report.took_ms < 500);
        assert!(set.sync(boot_now().plus(10_000)).good());
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        assert!(SyncSet::open(&["/no/such".into()]).unwrap_err().to_string().contains("/no/such"));
    }
}
