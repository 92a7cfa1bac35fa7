//! What `prepare` counts and measures before the freeze, so that an estimate rests on this host and not on a guess.

use super::tree::{is_btrfs, keep_nocow, like, open_file};
use super::{Error, Method};
use doors::clock::boot_now_us;
use rustix::fs::{self, Advice, Mode, OFlags};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    pub files: u64,
    /// Allocated, so holes do not count.
    pub bytes: u64,
    pub largest: Option<(u64, PathBuf)>,
    /// A few files with data, to measure with.
    pub sample: Vec<PathBuf>,
    /// Roots of btrfs subvolumes below, other than the start.
    pub subvolumes: Vec<PathBuf>,
}

/// Inode number of every btrfs subvolume's root directory (`BTRFS_FIRST_FREE_OBJECTID`).
pub(super) const SUBVOLUME_INODE: u64 = 256;

/// Walks `path` without crossing `fence`. What vanishes meanwhile is not counted.
pub(super) fn count(path: &Path, fence: &[PathBuf]) -> Result<Counted, Error> {
    let mut out = Counted::default();
    let meta = std::fs::symlink_metadata(path).map_err(|e| Error::io("look at", path, e))?;
    let mut todo = Vec::new();
    if meta.is_dir() {
        todo.push((path.to_owned(), meta.dev()));
    } else {
        out.add(path, &meta);
    }
    while let Some((dir, dev)) = todo.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(|e| Error::io("read", &dir, e))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read", &dir, e))?;
            let Ok(meta) = entry.metadata() else { continue };
            let path = entry.path();
            if !meta.is_dir() {
                out.add(&path, &meta);
            } else if !fence.contains(&path) {
                if meta.ino() == SUBVOLUME_INODE && meta.dev() != dev {
                    out.subvolumes.push(path.clone());
                }
                todo.push((path, meta.dev()));
            }
        }
    }
    out.subvolumes.sort();
    Ok(out)
}

/// Enough to even out, few enough to take no time.
const SAMPLE: usize = 32;

impl Counted {
    fn add(&mut self, path: &Path, meta: &std::fs::Metadata) {
        self.files += 1;
        let bytes = meta.len().min(meta.blocks() * 512);
        self.bytes += bytes;
        if meta.is_file() && bytes > 0 && self.sample.len() < SAMPLE {
            self.sample.push(path.to_owned());
        }
        if meta.is_file() && self.largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
            self.largest = Some((bytes, path.to_owned()));
        }
    }
}

/// Free bytes for us on the file system of `path`.
pub(super) fn free_bytes(path: &Path) -> Result<u64, Error> {
    let s = rustix::fs::statvfs(path).map_err(|e| Error::io("ask for the free space of", path, e))?;
    Ok(s.f_bavail * s.f_frsize)
}

/// Clones `file` into `set` and removes the clone: microseconds from creating it to its attributes, or `None` when this
/// pair of file systems cannot.
pub(super) fn reflink_us(file: &Path, set: &Path) -> Option<u64> {
    let from = open_file(fs::CWD, file).ok()?;
    let stat = fs::fstat(&from).ok()?;
    let begun = boot_now_us();
    let probe = Probe::create(set).ok()?;
    if is_btrfs(&from) {
        keep_nocow(&from, &probe.fd);
    }
    fs::ioctl_ficlone(&probe.fd, &from).ok()?;
    like(&probe.fd, &stat).ok()?;
    Some(boot_now_us() - begun)
}

/// Mean of a few files.
pub(super) fn small_file_us(sample: &[PathBuf], set: &Path) -> u64 {
    let all: Vec<u64> = sample.iter().filter_map(|f| reflink_us(f, set)).collect();
    all.iter().sum::<u64>() / (all.len() as u64).max(1)
}

/// More is not needed to see a disk's speed behind its cache.
const PROBE_BYTES: usize = 32 << 20;

/// Bytes per second of reading `file` from its disk and writing it durably into `set`, as of now. A file that is too small
/// for a figure is read again and again; its pages are dropped from the cache first.
pub(super) fn copy_speed(file: Option<&Path>, set: &Path) -> Result<u64, Error> {
    let fail = |e| Error::io("measure a copy in", set, e);
    let probe = Probe::create(set).map_err(fail)?;
    let source = file.and_then(|f| open_file(fs::CWD, f).ok());
    if let Some(f) = &source {
        let _ = fs::fadvise(f, 0, std::num::NonZeroU64::new(PROBE_BYTES as u64), Advice::DontNeed);
    }
    let mut block = vec![0xA5u8; 1 << 20];
    let (begun, mut done) = (boot_now_us(), 0usize);
    while done < PROBE_BYTES && boot_now_us() - begun < 2_000_000 {
        if let Some(f) = &source {
            let _ = rustix::io::pread(f, &mut block[..], done as u64);
        }
        done += rustix::io::pwrite(&probe.fd, &block, done as u64).map_err(fail)?;
    }
    fs::fdatasync(&probe.fd).map_err(fail)?;
    let us = (boot_now_us() - begun).max(1);
    Ok((done as u64).saturating_mul(1_000_000) / us)
}

/// Milliseconds of two `syncfs` calls one after the other: the first writes what has piled up, the second shows what
/// a flush costs at the present write rate.
pub(super) fn sync_ms(path: &Path) -> Result<u64, Error> {
    let fail = |e| Error::io("flush the file system of", path, e);
    let fd = fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).map_err(fail)?;
    fs::syncfs(&fd).map_err(fail)?;
    let begun = boot_now_us();
    fs::syncfs(fd.as_fd()).map_err(fail)?;
    Ok((boot_now_us() - begun) / 1000)
}

/// A scratch file in the set's directory, gone with the value.
struct Probe {
    path: PathBuf,
    fd: std::os::fd::OwnedFd,
}

impl Probe {
    fn create(set: &Path) -> rustix::io::Result<Self> {
        let path = set.join(".probe");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { path, fd })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What was measured for one source, by method.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    Btrfs { flush_ms: u64 },
    Reflink { largest_us: u64, small_us: u64 },
    Copy { bytes_per_s: u64 },
}

/// Per file beside its data: open, create, attributes. 85 µs were seen on an idle XFS; never estimated lower than this.
const FILE_US: u64 = 150;
/// One snapshot: 2 to 10 ms were seen, and 120 ms while the disk was busy, for it waits for a commit that is under way.
const SNAPSHOT_MS: u64 = 150;
/// Taken longer than measured, in percent, because other work shares the disk. Clones suffer more: they wait for the file
/// system's log (1.1 to 3 times the measured time on a machine under threefold load).
const COPY_PERCENT: u64 = 125;
const CLONE_PERCENT: u64 = 200;

impl Unit {
    pub(super) const fn method(self) -> Method {
        match self {
            Self::Btrfs { .. } => Method::Btrfs,
            Self::Reflink { .. } => Method::Reflink,
            Self::Copy { .. } => Method::Copy,
        }
    }

    /// Milliseconds in the window.
    pub(super) fn estimate_ms(self, counted: &Counted) -> u64 {
        let files_us = |us: u64| counted.files.saturating_mul(us.max(FILE_US));
        let (us, percent) = match self {
            Self::Btrfs { flush_ms } => return SNAPSHOT_MS + flush_ms,
            // The largest file stands for the bytes: as many of it as they would fill, at most one per file.
            Self::Reflink { largest_us, small_us } => {
                let largest = counted.largest.as_ref().map_or(1, |(b, _)| (*b).max(1));
                let like_it = (counted.bytes / largest).clamp(1, counted.files.max(1));
                (files_us(small_us).saturating_add(like_it.saturating_mul(largest_us)), CLONE_PERCENT)
            }
            Self::Copy { bytes_per_s } => {
                let copy = u128::from(counted.bytes) * 1_000_000 / u128::from(bytes_per_s.max(1));
                (files_us(0).saturating_add(u64::try_from(copy).unwrap_or(u64::MAX)), COPY_PERCENT)
            }
        };
        us.saturating_mul(percent) / 100_000 + 1
    }
}
