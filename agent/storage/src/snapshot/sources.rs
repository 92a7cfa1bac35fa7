//! What a request names: real paths, each once, with the file systems mounted below them.

use super::measure::{self, Counted};
use super::{Error, Request, Wanted};
use crate::layout::mountinfo::{self, MountLine};
use protocol::Code;
use std::path::PathBuf;

/// Not data, whatever lies below a source: left out, and said.
const PSEUDO: [&str; 14] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "mqueue",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
    "autofs",
    "nsfs",
    "pstore",
];

/// Target and sources as real paths; refused when one is missing or they lie inside each other.
pub(super) fn resolve(request: &Request) -> Result<(PathBuf, Vec<Wanted>), Error> {
    let to = std::fs::canonicalize(&request.to).map_err(|e| Error::io("find the target", &request.to, e))?;
    if !to.is_dir() {
        return Err(Error::io("use as target", &to, rustix::io::Errno::NOTDIR));
    }
    let mut wanted = Vec::new();
    for w in &request.sources {
        let path = std::fs::canonicalize(&w.path).map_err(|e| {
            Error::refused(
                Code::RefusedNotCovered,
                format!("{} ({}) cannot be reached: {e}", w.path.display(), w.role),
                "correct the instance's configuration, or mount what is missing",
            )
        })?;
        if to.starts_with(&path) || path.starts_with(&to) {
            return Err(Error::refused(
                Code::ConfigInvalid,
                format!("target {} and source {} lie inside each other", to.display(), path.display()),
                "choose a target outside of all sources",
            ));
        }
        wanted.push(Wanted { role: w.role.clone(), path });
    }
    Ok((to, wanted))
}

/// The paths that no other path contains, sorted.
pub(crate) fn tops(wanted: &[Wanted]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = wanted.iter().map(|w| w.path.clone()).collect();
    paths.sort();
    paths.dedup();
    let all = paths.clone();
    paths.retain(|p| !all.iter().any(|other| other != p && p.starts_with(other)));
    paths
}

/// A source as it is looked at: a top of the request, or a file system mounted below one.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) fence: Vec<PathBuf>,
    pub(super) counted: Counted,
}

pub(super) fn sources(wanted: &[Wanted], mounts: &[MountLine], notes: &mut Vec<String>) -> Result<Vec<Source>, Error> {
    let mut out = Vec::new();
    for top in tops(wanted) {
        let below = mountinfo::below(mounts, &top);
        let mut paths = vec![top.clone()];
        for m in &below {
            if PSEUDO.contains(&m.fs_type.as_str()) {
                notes.push(format!("{} is left out: {}", m.point.display(), m.fs_type));
            } else {
                paths.push(m.point.clone());
            }
        }
        for path in paths {
            let fence: Vec<PathBuf> = below.iter().map(|m| m.point.clone()).filter(|p| *p != path && p.starts_with(&path)).collect();
            let counted = measure::count(&path, &fence)?;
            out.push(Source { path, fence, counted });
        }
    }
    Ok(out)
}
