//! btrfs subvolume snapshots: one ioctl each, no data is touched.

use super::measure::SUBVOLUME_INODE;
use super::tree::{is_btrfs, like, open_dir};
use super::{Error, Part};
use crate::ioctl;
use rustix::fs::{self, AtFlags};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The root directory of the subvolume that holds `path`, when a path leads to it; a bind mount of a part of a subvolume hides it.
pub(super) fn root_of(path: &Path) -> Option<PathBuf> {
    let dev = std::fs::symlink_metadata(path).ok()?.dev();
    for dir in path.ancestors() {
        let meta = std::fs::symlink_metadata(dir).ok()?;
        if meta.dev() != dev {
            return None;
        }
        if meta.is_dir() && meta.ino() == SUBVOLUME_INODE {
            return Some(dir.to_owned());
        }
    }
    None
}

/// Both lie on the same btrfs file system.
pub(super) fn same_fs(a: &Path, b: &Path) -> bool {
    let id = |p| open_dir(fs::CWD, p).ok().filter(|fd| is_btrfs(fd)).and_then(|fd| ioctl::btrfs_fsid(fd).ok());
    matches!((id(a), id(b)), (Some(a), Some(b)) if a == b)
}

/// Inside the window. Where the destination lies in an outer snapshot, a stub directory is in its place.
pub(super) fn take(part: &Part, set: &Path) -> Result<(), Error> {
    let dest = set.join(&part.dest);
    let fail = |e| Error::io("make the btrfs snapshot", &dest, e);
    let (Some(up), Some(name)) = (dest.parent(), dest.file_name()) else {
        return Err(fail(rustix::io::Errno::INVAL));
    };
    let into = open_dir(fs::CWD, up).map_err(fail)?;
    let before = fs::fstat(&into).map_err(fail)?;
    match fs::unlinkat(&into, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(fail(e)),
    }
    let source = open_dir(fs::CWD, &part.path).map_err(|e| Error::io("open", &part.path, e))?;
    ioctl::btrfs_snapshot(&into, name, &source, !part.holds_others).map_err(fail)?;
    like(&into, &before).map_err(fail) // its time of change is that of the original
}

/// After the thaw.
pub(super) fn make_read_only(dest: &Path) -> Result<(), Error> {
    let fail = |e| Error::io("make read-only", dest, e);
    let fd = open_dir(fs::CWD, dest).map_err(fail)?;
    ioctl::btrfs_set_read_only(fd, true).map_err(fail)
}
