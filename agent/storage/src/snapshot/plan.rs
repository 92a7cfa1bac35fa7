//! What `prepare` hands to the later steps.

use super::command::Helper;
use super::{Method, Wanted};
use protocol::BackupId;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// One backup, ready to be taken. Its directory exists, its target directories too.
#[derive(Debug)]
pub struct Plan {
    pub id: BackupId,
    /// `TO/<id>`, mode 0700.
    pub set: PathBuf,
    /// What was asked for, each resolved: `path` is the real path.
    pub wanted: Vec<Wanted>,
    /// In the order in which they are taken: a part before the parts below it.
    pub parts: Vec<Part>,
    pub estimate: Estimate,
    /// For people: which method and why, what is written where.
    pub notes: Vec<String>,
    pub(super) helper: Mutex<Option<Helper>>,
}

/// One directory or file that is taken by one method.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    pub method: Method,
    /// Real path of the source; for btrfs the root of its subvolume.
    pub path: PathBuf,
    /// Where it lies in the set, relative to `TO/<id>`.
    pub dest: PathBuf,
    pub is_dir: bool,
    /// Another part lies below this one: a btrfs snapshot stays writable until `finish`.
    pub holds_others: bool,
    /// Mount points below `path` that are parts of their own, or left out.
    pub fence: Vec<PathBuf>,
    pub files: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// In the window, from what was measured on this host just now.
    pub ms: u64,
    pub files: u64,
    pub bytes: u64,
    /// What the set takes on the target at once.
    pub new_bytes: u64,
}

impl Plan {
    pub(super) fn new(id: BackupId, set: PathBuf, wanted: Vec<Wanted>) -> Self {
        Self { id, set, wanted, parts: Vec::new(), estimate: Estimate::default(), notes: Vec::new(), helper: Mutex::new(None) }
    }

    /// Where `path` (a real path) lies in the set: absolute, below `TO/<id>/data`.
    pub fn in_set(&self, path: &Path) -> PathBuf {
        self.set.join(dest_of(path))
    }
}

/// `/data/db` → `data/data/db`, `/` → `data`.
pub(crate) fn dest_of(path: &Path) -> PathBuf {
    Path::new(crate::catalogue::DATA).join(path.strip_prefix("/").unwrap_or(path))
}
