//! What is asked for.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Names this run: what is kept aside lies in `snapfreeze-aside-RUN` beside its old place.
    pub run: String,
    pub scope: Scope,
    pub until: Until,
    /// Database directory of the backup -> the directory that it gets. Left out: its own.
    pub into: BTreeMap<PathBuf, PathBuf>,
    /// On a host that was not the backup's: configuration and the manager's directory too, and nothing of what is there counts.
    #[serde(default)]
    pub everything: bool,
    /// Leave the instance up. Only for databases that no namespace shows until the last step.
    pub online: bool,
    /// Take a set that is not `held`. It may be torn: the integrity check has the word.
    pub even_if_not_held: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "of")]
pub enum Scope {
    /// Every database of the instance.
    System(WijUse),
    /// These, by directory; the others roll forward by themselves with the write image journal of the crash.
    Databases(Vec<PathBuf>),
}

/// The write image journal (WIJ) of the backup says where the journals must begin; without it a person's mark does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WijUse {
    OfBackup,
    /// None at the start: the one that is there is moved aside.
    Without,
}

/// Which journals are applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "file")]
pub enum Until {
    /// Those that the set itself holds: up to the moment at which the snapshot took the journal's disk.
    Backup,
    /// Up to the end of this file, by its plain name.
    File(String),
    /// All that are there.
    End,
}
