//! Volumes made of a cloud set, brought up as a set of the catalogue: found by their cloud names, file systems and LVM seen by
//! `blkid`, mounted read-only below `STATE/images/<backup id>/data` where they were, and listed. Then every verb for sets works
//! on them, `restore` too.
//!
//! Which file system was mounted where is told by the file system itself: the agent writes `.snapfreeze/snapfreeze-host.json`
//! into each before a freeze ([`leave`]).

mod find;
mod probe;
mod up;

pub use find::{Source, find};
pub use up::{Up, down, up};

use crate::catalogue::host::{self, HostFile};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// At the root of each file system of an instance.
pub const DIR: &str = ".snapfreeze";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{0}")]
    Volume(String),
    #[error("{what}: {said}")]
    Program { what: String, said: String },
    #[error(transparent)]
    Catalogue(#[from] crate::catalogue::Error),
    #[error("the volumes do not carry the whole set: {0}")]
    Partial(String),
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}

/// Below the agent's state directory.
pub fn dir(state: &Path) -> PathBuf {
    state.join("images")
}

/// The mount points of `host` that lie on volumes of a cloud: what a set of snapshots carries.
pub fn points(host: &HostFile) -> Vec<PathBuf> {
    let layout = &host.layout;
    let cloud = |d: &String| layout.devices.get(d).and_then(|d| d.volume.as_ref()?.key()).is_some();
    layout.mounts.iter().filter(|m| m.disks.iter().any(cloud)).map(|m| m.point.clone()).collect()
}

/// Writes the host file into each of these file systems, for whoever restores a snapshot of it. Before a freeze, never in a
/// window. What could not be written is returned.
pub fn leave(file: &HostFile) -> Vec<String> {
    let one = |point: &PathBuf| -> Result<(), String> {
        let dir = point.join(DIR);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| format!("{}: {e}", dir.display()))?;
        let own = HostFile { mount: Some(point.clone()), ..file.clone() };
        host::write(&dir, &own).map_err(|e| e.to_string())
    };
    points(file).iter().filter_map(|p| one(p).err()).collect()
}
