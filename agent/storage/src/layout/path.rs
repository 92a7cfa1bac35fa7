//! Paths below another root: a container's, or a recorded tree's. The kernel would follow an absolute symlink out of it.

use super::Owner;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As the kernel's limit (path_resolution(7)).
const SYMLINKS_MAX: usize = 40;

/// `path` without symlinks, `.` and `..`, as seen from `root`. NotFound when a component is missing.
pub(super) fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut todo: Vec<PathBuf> = parts(path);
    let (mut real, mut links) = (PathBuf::from("/"), 0);
    while let Some(part) = todo.pop() {
        if part == Path::new("..") {
            real.pop();
            continue;
        }
        let here = real.join(&part);
        let full = below(root, &here);
        if std::fs::symlink_metadata(&full)?.is_symlink() {
            links += 1;
            if links > SYMLINKS_MAX {
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = std::fs::read_link(&full)?;
            if target.is_absolute() {
                real = "/".into();
            }
            todo.extend(parts(&target));
        } else {
            real = here;
        }
    }
    Ok(real)
}

/// `root` + absolute `path`.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

pub(super) fn owner(root: &Path, real: &Path) -> Option<Owner> {
    let m = std::fs::symlink_metadata(below(root, real)).ok()?;
    Some(Owner { uid: m.uid(), gid: m.gid(), mode: format!("{:04o}", m.mode() & 0o7777) })
}

/// Last component first.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter_map(|c| match c {
            Component::Normal(n) => Some(n.into()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}
