//! Cloning or copying a tree, fast, by descriptors: no path of the source is followed through a symlink that somebody
//! puts there meanwhile. Kept: owner, mode, times, extended attributes, hard links, symlinks, holes, NOCOW.

use super::{Error, Method, Moment, Part, Progress};
use rustix::fs::{self, AtFlags, Dir, FileType, IFlags, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Deeper trees are refused: two descriptors are open for each level.
const DEPTH_MAX: usize = 200;
/// Between two looks at deadline and cancel; at 100 MB/s 160 ms.
const CHUNK: usize = 16 << 20;
const READ_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub(super) struct Tree<'a> {
    part: &'a Part,
    moment: &'a Moment<'a>,
    /// NOCOW exists on btrfs only, and must be equal on both sides of a clone.
    btrfs: bool,
    /// First copy of a file with several names, by (device, inode): its path below the set.
    links: HashMap<(u64, u64), PathBuf>,
    set: &'a Path,
    pub(super) total: Progress,
    pub(super) skipped: Vec<String>,
    told: u64,
    buffer: Vec<u8>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(part: &'a Part, set: &'a Path, moment: &'a Moment<'a>, total: Progress) -> Self {
        Self { part, moment, btrfs: false, links: HashMap::new(), set, total, skipped: Vec::new(), told: 0, buffer: Vec::new() }
    }

    /// Takes the whole part. Its destination's parent exists; a directory's destination may exist (and be empty).
    pub(super) fn run(&mut self) -> Result<(), Error> {
        let (path, dest) = (&self.part.path, self.set.join(&self.part.dest));
        let name = dest.file_name().unwrap_or(OsStr::new(".")).to_owned();
        let up = dest.parent().unwrap_or(self.set);
        let into = open_dir(fs::CWD, up).map_err(|e| Error::io("open", up, e))?;
        let from = path.parent().unwrap_or(Path::new("/"));
        let from = open_dir(fs::CWD, from).map_err(|e| Error::io("open", from, e))?;
        if self.part.is_dir {
            let src = open_dir(fs::CWD, path).map_err(|e| Error::io("open", path, e))?;
            let stat = fs::fstat(&src).map_err(|e| Error::io("look at", path, e))?;
            self.btrfs = is_btrfs(&src);
            self.directory(src, &stat, into.as_fd(), &name, path, &self.part.dest, 0)
        } else {
            let file = path.file_name().unwrap_or_default();
            self.btrfs = is_btrfs(&from);
            self.file(from.as_fd(), file, into.as_fd(), &name, path, &self.part.dest)
        }
    }

    #[expect(clippy::too_many_arguments, reason = "both sides as descriptor, name and path")]
    fn directory(
        &mut self,
        src: OwnedFd,
        stat: &Stat,
        into: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        dest: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::io("descend so deep into", path, Errno::LOOP));
        }
        self.moment.check()?;
        match fs::mkdirat(into, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::io("make", self.set.join(dest), e)),
        }
        let out = open_dir(into, name).map_err(|e| Error::io("open", self.set.join(dest), e))?;
        let fenced = self.part.fence.iter().any(|f| f == path);
        if !fenced {
            let mut dir = Dir::read_from(&src).map_err(|e| Error::io("read", path, e))?;
            while let Some(entry) = dir.read() {
                let entry = entry.map_err(|e| Error::io("read", path, e))?;
                if entry.file_name() != c"." && entry.file_name() != c".." {
                    self.entry(src.as_fd(), entry.file_name(), entry.file_type(), out.as_fd(), path, dest, depth)?;
                }
            }
        }
        copy_xattrs(&src, &out).map_err(|e| Error::io("copy the attributes of", path, e))?;
        like(&out, stat).map_err(|e| Error::io("set owner and mode of", self.set.join(dest), e))
    }

    #[expect(clippy::too_many_arguments, reason = "both sides as descriptor, name and path")]
    fn entry(
        &mut self,
        src: BorrowedFd<'_>,
        cname: &CStr,
        kind: FileType,
        out: BorrowedFd<'_>,
        path: &Path,
        dest: &Path,
        depth: usize,
    ) -> Result<(), Error> {
        let name = OsStr::from_bytes(cname.to_bytes());
        let (path, dest) = (path.join(name), dest.join(name));
        let stat = || fs::statat(src, cname, AtFlags::SYMLINK_NOFOLLOW);
        let kind = match kind {
            FileType::Unknown => match stat() {
                Ok(s) => FileType::from_raw_mode(s.st_mode),
                Err(Errno::NOENT) => return Ok(()),
                Err(e) => return Err(Error::io("look at", path, e)),
            },
            known => known,
        };
        let done = match kind {
            FileType::RegularFile => return self.file(src, name, out, name, &path, &dest),
            FileType::Directory => match open_dir(src, cname) {
                Ok(sub) => {
                    let stat = fs::fstat(&sub).map_err(|e| Error::io("look at", &path, e))?;
                    return self.directory(sub, &stat, out, name, &path, &dest, depth + 1);
                }
                Err(e) => Err(e),
            },
            FileType::Symlink => fs::readlinkat(src, cname, Vec::new()).and_then(|target| {
                let s = stat()?;
                fs::symlinkat(&target, out, cname)?;
                owner_at(out, cname, &s)
            }),
            FileType::Fifo => stat().and_then(|s| {
                fs::mkfifoat(out, cname, Mode::from_raw_mode(s.st_mode))?;
                owner_at(out, cname, &s)
            }),
            FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                self.skipped.push(format!("{}: {kind:?}", path.display()));
                Ok(())
            }
        };
        match done {
            // A temporary file may go while we look; the engine's own files do not, it is frozen.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::io("copy", path, e)),
        }
    }

    fn file(
        &mut self,
        src: BorrowedFd<'_>,
        name: &OsStr,
        out: BorrowedFd<'_>,
        out_name: &OsStr,
        path: &Path,
        dest: &Path,
    ) -> Result<(), Error> {
        self.moment.check()?;
        let from = match open_file(src, name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(Error::io("open", path, e)),
        };
        let stat = fs::fstat(&from).map_err(|e| Error::io("look at", path, e))?;
        let key = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&key).filter(|_| stat.st_nlink > 1) {
            return fs::linkat(fs::CWD, self.set.join(first), out, out_name, AtFlags::empty())
                .map_err(|e| Error::io("link", self.set.join(dest), e));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = fs::openat(out, out_name, flags, Mode::RUSR | Mode::WUSR).map_err(|e| Error::io("create", self.set.join(dest), e))?;
        if self.btrfs {
            keep_nocow(&from, &to);
        }
        let size = stat.st_size as u64;
        match self.part.method {
            _ if size == 0 => {}
            Method::Reflink => fs::ioctl_ficlone(&to, &from).map_err(|e| Error::io("reflink", path, e))?,
            Method::Copy | Method::Btrfs | Method::Command => self.data(&from, &to, size, path)?,
        }
        copy_xattrs(&from, &to).map_err(|e| Error::io("copy the attributes of", path, e))?;
        like(&to, &stat).map_err(|e| Error::io("set owner and mode of", self.set.join(dest), e))?;
        if stat.st_nlink > 1 {
            self.links.insert(key, dest.to_owned());
        }
        self.total.files += 1;
        if self.part.method == Method::Reflink {
            self.total.bytes += size;
        }
        self.tell(self.total.files.is_multiple_of(64));
        Ok(())
    }

    /// The bytes that are there, holes left out. Up to the size at the start: what is appended later is not of this moment.
    fn data(&mut self, from: &OwnedFd, to: &OwnedFd, size: u64, path: &Path) -> Result<(), Error> {
        let fail = |e: Errno| Error::io("copy", path, e);
        fs::ftruncate(to, size).map_err(fail)?;
        let mut at = 0;
        while at < size {
            let start = match fs::seek(from, SeekFrom::Data(at)) {
                Ok(s) => s,
                Err(Errno::NXIO) => break,
                Err(_) => at,
            };
            let end = fs::seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
            at = start;
            while at < end {
                self.moment.check()?;
                let n = self.chunk(from, to, at, CHUNK.min((end - at) as usize)).map_err(fail)?;
                if n == 0 {
                    return Ok(()); // truncated by its owner meanwhile
                }
                at += n as u64;
                self.total.bytes += n as u64;
                self.tell(true);
            }
        }
        Ok(())
    }

    /// In the kernel where it can; between file systems of two types it cannot (copy_file_range(2): EXDEV since Linux 5.19).
    fn chunk(&mut self, from: &OwnedFd, to: &OwnedFd, at: u64, len: usize) -> Result<usize, Errno> {
        if self.buffer.is_empty() {
            let (mut i, mut o) = (at, at);
            match fs::copy_file_range(from, Some(&mut i), to, Some(&mut o), len) {
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => self.buffer = vec![0; 1 << 20],
                other => return other,
            }
        }
        let len = len.min(self.buffer.len());
        let n = rustix::io::pread(from, &mut self.buffer[..len], at)?;
        let mut written = 0;
        while written < n {
            written += rustix::io::pwrite(to, &self.buffer[written..n], at + written as u64)?;
        }
        Ok(n)
    }

    fn tell(&mut self, now: bool) {
        if now && self.told != self.total.files + self.total.bytes {
            self.told = self.total.files + self.total.bytes;
            (self.moment.say)(self.total);
        }
    }
}

pub(super) fn open_dir<P: rustix::path::Arg>(at: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    fs::openat(at, path, READ_DIR, Mode::empty())
}

/// Without touching the access time where we may (the owner or root).
pub(super) fn open_file<P: rustix::path::Arg + Copy>(at: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match fs::openat(&at, path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(&at, path, flags, Mode::empty()),
        other => other,
    }
}

pub(super) fn is_btrfs(fd: impl AsFd) -> bool {
    /// `linux/magic.h`
    const BTRFS_SUPER_MAGIC: i64 = 0x9123_683E;
    fs::fstatfs(fd).is_ok_and(|s| s.f_type == BTRFS_SUPER_MAGIC)
}

/// btrfs refuses to clone between a NOCOW file and another (EINVAL), and the flag can be set on an empty file only.
pub(super) fn keep_nocow(from: &OwnedFd, to: &OwnedFd) {
    let nocow = |fd: &OwnedFd| fs::ioctl_getflags(fd).is_ok_and(|f| f.contains(IFlags::NOCOW));
    if nocow(from) != nocow(to)
        && let Ok(flags) = fs::ioctl_getflags(to)
    {
        let _ = fs::ioctl_setflags(to, flags ^ IFlags::NOCOW); // if it cannot be set, the clone says so
    }
}

/// Owner, mode and times of `stat`; owner first, for it clears set-id bits.
pub(super) fn like(fd: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    let mine = fs::fstat(fd)?;
    if (mine.st_uid, mine.st_gid) != (stat.st_uid, stat.st_gid) {
        fs::fchown(fd, Some(fs::Uid::from_raw(stat.st_uid)), Some(fs::Gid::from_raw(stat.st_gid)))?;
    }
    fs::fchmod(fd, Mode::from_raw_mode(stat.st_mode))?;
    fs::futimens(fd, &times(stat))
}

fn owner_at(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (fs::Uid::from_raw(stat.st_uid), fs::Gid::from_raw(stat.st_gid));
    fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    fs::utimensat(dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as i64 },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 },
    }
}

fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let len = match fs::flistxattr_query(from) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Ok(n) => n,
        Err(e) => return Err(e),
    };
    let mut names = vec![0u8; len + 1024];
    let len = fs::flistxattr(from, &mut names[..])?;
    for name in names[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let size = fs::fgetxattr_query(from, name)?;
        let mut value = vec![0u8; size];
        let size = fs::fgetxattr(from, name, &mut value[..])?;
        match fs::fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
            Ok(()) => {}
            // Attributes that the target's file system does not have (btrfs.*, or none at all) are its own affair.
            Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
