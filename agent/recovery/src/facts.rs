//! What the planner is told. Whoever asks reads files and the engine; nothing here is remembered from the backup but [`Kept`].

use crate::journals::JournalFile;
use protocol::{BackupId, InstanceName, JournalMark, Verdict, WallMs};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One instance of a set of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub id: BackupId,
    pub verdict: Verdict,
    /// `iris`, `cache`, `gtm`.
    pub engine: String,
    pub engine_version: String,
    pub instance: InstanceName,
    pub guid: String,
    /// Name of the mirror; empty: none.
    pub mirror: String,
    pub marks: Vec<JournalMark>,
    /// When it was frozen.
    pub frozen_at: Option<WallMs>,
    /// Of the backup's host: each database with its files, the WIJ, the journals.
    pub databases: Vec<KeptDatabase>,
    pub wij: Vec<KeptFile>,
    pub journals: Vec<KeptFile>,
    /// What else the set holds of the instance: configuration, the manager's directory, keys, programs.
    #[serde(default)]
    pub others: Vec<KeptFile>,
    /// The set holds a file of encryption keys.
    pub has_keys: bool,
}

impl Kept {
    /// As they lie in the set, in the engine's order.
    pub fn journal_files(&self) -> Vec<JournalFile> {
        let mut all = self.journals.iter().map(|f| JournalFile { path: f.copy.clone(), size: f.size }).collect();
        crate::journals::sort(&mut all);
        all
    }

    /// The oldest journal with which a restore starts.
    pub fn restore_from(&self) -> Option<&str> {
        self.marks.iter().find_map(JournalMark::restore_from)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDatabase {
    /// As the set's own configuration calls it; empty when that is not in the set.
    pub name: String,
    pub dir: PathBuf,
    pub namespaces: Vec<String>,
    /// All volumes: they are a set, and are restored as one.
    pub files: Vec<KeptFile>,
}

/// A file of the set: where the copy lies, where it was, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    pub copy: PathBuf,
    pub was: PathBuf,
    pub size: u64,
    /// Hex; `None`: the set has no checksums, and sizes are compared.
    pub sha256: Option<String>,
}

/// What is there now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub running: bool,
    /// In the registry's words: of an instance that is down, since when. Another text: it was up in between.
    pub status: String,
    /// Where the instance can be started at all: its programs are there.
    pub installed: bool,
    pub version: String,
    /// Empty: the engine did not say (it is down).
    pub guid: String,
    pub mirror: String,
    pub databases: Vec<Database>,
    /// The manager's database: never restored alone.
    pub system_database: PathBuf,
    pub wij: PathBuf,
    /// Primary, then alternate.
    pub journal_dirs: Vec<PathBuf>,
    /// In those directories, in the engine's order.
    pub journals: Vec<JournalFile>,
    /// Journals that were saved elsewhere; `was` is only their name.
    pub shipped: Vec<KeptFile>,
    /// Files of databases and WIJ that are there: whatever takes their place, they are kept aside first.
    pub present: Vec<PathBuf>,
    pub room: Vec<Room>,
}

impl Found {
    pub fn database(&self, dir: &Path) -> Option<&Database> {
        self.databases.iter().find(|d| d.dir == dir)
    }
    pub fn is_present(&self, path: &Path) -> bool {
        self.present.iter().any(|p| p == path)
    }
}

/// A database of the instance's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    pub name: String,
    pub dir: PathBuf,
    pub namespaces: Vec<String>,
    /// `None`: the engine did not say.
    pub journaled: Option<bool>,
}

/// Free bytes of the file system that holds a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub path: PathBuf,
    /// File systems differ by this.
    pub device: u64,
    pub free: u64,
}
