//! What a restore asks of an engine: what is there, and one step of a plan at a time. Files that the engine does not touch
//! are moved and copied by the runner; everything here may be repeated from its beginning.

use crate::{Error, InstanceConfig, gtm, iris};
use protocol::{BackupId, WallMs};
use recovery::{Action, Found};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Hears what a long step is doing, a line at a time.
pub type Say<'a> = &'a dyn Fn(&str);

/// The restoring side of one instance. `iris` and `gtm` implement it; a model instance and a real GT.M are their tests.
pub trait Restorer: Send + Sync {
    /// Everything but `present` and `room`, which are questions to the file system. Changes nothing.
    fn found(&self) -> Result<Found, Error>;
    /// Carries one step out, and sees that it is done. What it says is for the record.
    fn act(&self, action: &Action, say: Say<'_>) -> Result<String, Failed>;
    /// Writes this moment where the sentinel is, into the database that is in use.
    fn write_sentinel(&self, sentinel: &Sentinel, now: WallMs) -> Result<(), Failed>;
    /// Reads it from a copy of its database, in an own place in which helping files may be made. `None`: it is not there.
    fn read_sentinel(&self, sentinel: &Sentinel, copy: &Path, place: &Path) -> Result<Option<WallMs>, Failed>;
}

/// A global that holds a moment, written again and again: by it a restored database says how new it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// Of IRIS and Caché the database's directory, of GT.M its file.
    pub database: PathBuf,
    pub global: Global,
}

/// `^Name`: letters, digits, and dots inside; never more than a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Global(String);

impl Global {
    /// Without the caret.
    pub fn name(&self) -> &str {
        &self.0[1..]
    }
}

impl TryFrom<String> for Global {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        let name = s.strip_prefix('^').unwrap_or_default();
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let good =
            name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(inside) && !name.ends_with('.') && name.len() <= 31;
        if good { Ok(Self(s)) } else { Err(format!("{s:?} is no global's name: use a form such as \"^SnapfreezeSentinel\"")) }
    }
}

impl From<Global> for String {
    fn from(g: Global) -> Self {
        g.0
    }
}

/// What a session said of a sentinel.
pub(crate) fn moment(text: &str) -> Result<Option<WallMs>, Failed> {
    match text.trim() {
        "" => Ok(None),
        t => t
            .parse()
            .map(|ms| Some(WallMs(ms)))
            .map_err(|_| Failed::new(format!("the sentinel holds {t:?}, and no milliseconds of Unix time"))),
    }
}

/// A step that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failed {
    pub why: String,
    /// What the person does next; empty: repeat the run, it goes on from this step.
    pub next: String,
    /// The first recovery did not end well: nothing of the restore has been changed yet.
    pub recovery: bool,
    /// The run cannot go on: `next` says how to begin anew.
    pub anew: bool,
}

impl Failed {
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), next: String::new(), recovery: false, anew: false }
    }
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), ..self }
    }
    pub fn anew(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), anew: true, ..self }
    }
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Self::new(e.to_string())
    }
}

/// Enters a verified set into the engine's own history of backups, by which it purges journals. `false`: it has none.
pub fn count_as_backup(config: &InstanceConfig, id: BackupId) -> Result<bool, Failed> {
    let product = match config {
        InstanceConfig::Iris(c) => Some((c, iris::Product::Iris)),
        InstanceConfig::Cache(c) => Some((c, iris::Product::Cache)),
        InstanceConfig::Gtm(_) | InstanceConfig::Command(_) => None,
    };
    match product {
        Some((c, product)) => iris::Iris::open(c, product)?.count_as_backup(id).map(|()| true),
        None => Ok(false),
    }
}

/// `None`: this engine's sets are restored by hand.
pub fn restorer(config: &InstanceConfig) -> Result<Option<Box<dyn Restorer>>, Error> {
    Ok(match config {
        InstanceConfig::Iris(c) => Some(Box::new(iris::Iris::open(c, iris::Product::Iris)?)),
        InstanceConfig::Cache(c) => Some(Box::new(iris::Iris::open(c, iris::Product::Cache)?)),
        InstanceConfig::Gtm(c) => Some(Box::new(gtm::Gtm::new(c.clone())?)),
        InstanceConfig::Command(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_is_a_name_and_a_moment_and_nothing_else() {
        for good in ["^X", "^SnapfreezeSentinel", "^a.b2"] {
            assert_eq!(Global::try_from(good.to_owned()).unwrap().name(), &good[1..]);
        }
        for bad in ["", "^", "X", "^1", "^%X", "^X(1)", "^X k ^Y", "^X\"", "^a.", "^X\n", &format!("^{}", "a".repeat(32))] {
            assert!(Global::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert_eq!(moment(" 1764028800000\n").unwrap(), Some(WallMs(1_764_028_800_000)));
        assert_eq!(moment("").unwrap(), None);
        assert!(moment("yesterday").is_err());
    }
}
