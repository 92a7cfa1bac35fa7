//! Making a point in time on this host, without a cloud.
//!
//! [`Snapshotter`] has five steps around a window. `prepare` runs before the freeze and finds out everything that can go
//! wrong; `take` runs inside the window and does nothing that can wait; after the thaw a helper is told the `verdict`, and
//! `finish` makes the set durable and checkable; `abort` removes what there is of it. [`local::Local`] makes btrfs
//! snapshots, reflinks and copies, [`command::Command`] runs a configured helper, [`fake::Fake`] stands in for tests.
//!
//! What is written where: the set lies in `TO/<backup id>/`. A reflink and a btrfs snapshot are written to the file system
//! they are taken of, which is inherent; so neither is possible while that file system itself is frozen
//! ([`crate::fsfreeze`]), and `prepare` refuses it. A plain copy writes to the target's file system only.

mod choose;
pub mod command;
pub mod fake;
pub mod local;
mod measure;
mod plan;
mod sources;
mod subvol;
mod tree;

pub(crate) use plan::dest_of;
pub use plan::{Estimate, Part, Plan};
pub(crate) use sources::tops;

use doors::clock::boot_now;
use doors::exec::Cancel;
use protocol::wire::Problem;
use protocol::{BackupId, BootMs, Code};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// See the module. Calls block; `take` returns by `moment.by` or soon after `moment.cancel` is thrown (a btrfs snapshot
/// cannot be interrupted, it is short).
pub trait Snapshotter: Send + Sync {
    /// Before the freeze: checks, measures, makes `TO/<id>/`, starts a helper and waits for its READY.
    fn prepare(&self, request: &Request) -> Result<Plan, Error>;
    /// Inside the window. When it fails, nothing of the set is to be used: call `abort`.
    fn take(&self, plan: &Plan, moment: &Moment<'_>) -> Result<Taken, Error>;
    /// After the thaw, before `finish`: tags that a helper writes over those of its snapshots. Others keep them elsewhere.
    fn verdict(&self, _plan: &Plan, _tags: &BTreeMap<String, String>) -> Result<(), Error> {
        Ok(())
    }
    /// After the thaw: on disk, read-only where that is possible, every file with size and checksum in `files.jsonl`.
    fn finish(&self, plan: &Plan, checksums: bool, say: Say<'_>) -> Result<Finished, Error>;
    /// Ends a helper and removes `TO/<id>/`. What cannot be removed is left marked as partial, and named. May be repeated.
    fn abort(&self, plan: &Plan) -> Result<(), Error>;
}

/// A path that must be in the set, and what it is for (contract §7 `:roles`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Wanted {
    pub role: String,
    pub path: PathBuf,
}

impl Wanted {
    pub fn new(role: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { role: role.into(), path: path.into() }
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub id: BackupId,
    /// Directories or single files, on any number of file systems. One inside another is taken once.
    pub sources: Vec<Wanted>,
    /// An existing directory outside all sources.
    pub to: PathBuf,
    /// How long the window may be. A plan that is estimated to take longer is refused.
    pub hold_ms: u64,
    /// Mount points that will be frozen by [`crate::fsfreeze`] in the window: nothing may be written there.
    pub frozen_mounts: Vec<PathBuf>,
}

/// What `take` is given.
pub struct Moment<'a> {
    /// The point in time must be fixed by then.
    pub by: BootMs,
    pub cancel: &'a Cancel,
    pub say: Say<'a>,
    /// The tags that are known at the freeze; a helper gets them with its GO.
    pub tags: &'a BTreeMap<String, String>,
}

impl Moment<'_> {
    /// Err when the time is over or the call was cancelled.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.cancel.thrown() {
            Err(Error::Cancelled)
        } else if boot_now() >= self.by {
            Err(Error::Late)
        } else {
            Ok(())
        }
    }
}

/// Called now and then from the working thread; must not write to a disk when called from `take`.
pub type Say<'a> = &'a (dyn Fn(Progress) + Sync);

/// `files_of` and `bytes_of` are what `prepare` counted; files may have come or gone since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub step: &'static str,
    pub files: u64,
    pub files_of: u64,
    pub bytes: u64,
    pub bytes_of: u64,
}

/// What the window produced.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Taken {
    pub took_ms: u64,
    /// Files and bytes that were cloned or copied; 0 for a btrfs snapshot, which touches none.
    pub files: u64,
    pub bytes: u64,
    /// A helper's: a map per snapshot, as it printed them (`snapshot`, `volume`, …).
    pub produced: Vec<BTreeMap<String, String>>,
    /// Left out, each with the reason: sockets, device nodes.
    pub skipped: Vec<String>,
}

/// What lies in the set.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Finished {
    pub files: u64,
    pub bytes: u64,
    pub checksums: bool,
    /// SHA-256 of `files.jsonl`, hex; empty when there is none (helper).
    pub list_sha256: String,
    pub notes: Vec<String>,
}

/// How a part of the set is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    Btrfs,
    Reflink,
    Copy,
    Command,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Btrfs => "btrfs snapshot",
            Self::Reflink => "reflink",
            Self::Copy => "plain copy",
            Self::Command => "configured command",
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Before the freeze: it cannot work, or it would be too slow.
    #[error("{why}")]
    Refused { code: Code, why: String, next: String },
    #[error("no space left on {at}: {free} bytes are free, {needed} are needed")]
    NoSpace { at: PathBuf, needed: u64, free: u64 },
    #[error("the time for the snapshot ran out")]
    Late,
    #[error("cancelled")]
    Cancelled,
    #[error("the snapshot helper {0}")]
    Helper(String),
    #[error("could not {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>, source: impl Into<std::io::Error>) -> Self {
        let (path, source) = (path.as_ref().to_owned(), source.into());
        if matches!(Errno::from_io_error(&source), Some(Errno::NOSPC | Errno::DQUOT)) {
            return Self::NoSpace { at: path, needed: 0, free: 0 };
        }
        Self::Io { doing, path, source }
    }
    pub(crate) fn refused(code: Code, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Refused { code, why: why.into(), next: next.into() }
    }
    /// With code and advice, for the API and the command line.
    pub fn problem(&self) -> Problem {
        let next = match self {
            Self::Refused { next, .. } => next.clone(),
            Self::NoSpace { .. } => "free space there (`snapfreeze prune`), or choose another target".into(),
            Self::Late => "see `files` and `bytes` of the plan; a longer hold or a faster method is needed".into(),
            Self::Cancelled | Self::Helper(_) | Self::Io { .. } => String::new(),
        };
        let code = match self {
            Self::Refused { code, .. } => *code,
            Self::Cancelled => Code::Interrupted,
            Self::NoSpace { .. } | Self::Late | Self::Helper(_) | Self::Io { .. } => Code::SnapshotFailed,
        };
        Problem::new(code, self.to_string()).next(next)
    }
}
