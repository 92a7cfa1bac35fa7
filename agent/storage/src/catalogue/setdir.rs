//! The directory of a set on disk: made, written into durably, removed with the subvolumes in it.

use rustix::fs::{self, Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Present while a set is being removed: what is left is not a backup.
pub const PARTIAL: &str = "PARTIAL";

/// Makes `TO/<id>`, for root alone: what lies in it keeps the owners and modes of the originals. EEXIST when it is there.
pub fn create(set: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(set)?;
    sync_dir(set.parent().unwrap_or(Path::new("/")))
}

/// Replaces `dir/name` in one step that survives a crash: temporary file, fsync, rename, fsync of the directory.
pub fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let tmp = dir.join(format!(".{name}.new"));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&tmp)
        .and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()))
        .and_then(|()| std::fs::rename(&tmp, dir.join(name)));
    if let Err(e) = written {
        let _ = std::fs::remove_file(&tmp);
        return Err(e);
    }
    sync_dir(dir)
}

pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a set with everything in it. First it is marked [`PARTIAL`], so that a crash on the way leaves no half
/// backup that looks whole. A set that is not there is removed already.
pub fn remove(set: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(set) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(_) => {}
    }
    // Without space for the mark there is still the missing data; the manifest goes first then.
    if std::fs::write(set.join(PARTIAL), b"being removed\n").and_then(|()| sync_dir(set)).is_err() {
        let _ = std::fs::remove_file(set.join(super::MANIFEST));
    }
    let data = set.join(super::DATA);
    if data.symlink_metadata().is_ok() {
        remove_tree(&data)?;
    }
    std::fs::remove_dir_all(set)?;
    sync_dir(set.parent().unwrap_or(Path::new("/")))
}

/// Like `remove_dir_all`, but a btrfs subvolume goes in one call, however large and though it is read-only.
fn remove_tree(dir: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(dir)?.is_dir() {
        return std::fs::remove_file(dir);
    }
    if remove_subvolume(dir)? {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir)? {
        remove_tree(&entry?.path())?;
    }
    std::fs::remove_dir(dir)
}

/// False when `dir` is none.
fn remove_subvolume(dir: &Path) -> io::Result<bool> {
    let (up, name) = (dir.parent().unwrap_or(Path::new("/")), dir.file_name().unwrap_or_default());
    let parent = open_dir(up)?;
    if std::fs::symlink_metadata(dir)?.ino() != 256 || crate::ioctl::btrfs_fsid(&parent).is_err() {
        return Ok(false);
    }
    match crate::ioctl::btrfs_destroy(&parent, name) {
        // Others lie in it, and it must be writable for them to be taken out first.
        Err(rustix::io::Errno::NOTEMPTY) => {
            crate::ioctl::btrfs_set_read_only(open_dir(dir)?, false)?;
            remove_subvolumes_below(dir)?;
            crate::ioctl::btrfs_destroy(&parent, name)?;
        }
        other => other?,
    }
    Ok(true)
}

fn remove_subvolumes_below(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !remove_subvolume(&entry.path())? {
            remove_subvolumes_below(&entry.path())?;
        }
    }
    Ok(())
}

fn open_dir(dir: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::open(dir, flags, Mode::empty())?)
}
