//! The best method that fits a source, found by trying it on a few of its files.

use super::local::Prefer;
use super::measure::{self, Unit};
use super::sources::Source;
use super::{Error, subvol};
use protocol::Code;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The method, with what was measured for it. `speeds`: copy speeds by source device, measured once each.
pub(super) fn choose(prefer: Prefer, set: &Path, source: &Source, to: &Path, speeds: &mut BTreeMap<u64, u64>) -> Result<Unit, Error> {
    let unit = match prefer {
        Prefer::Auto => match btrfs(source, to)? {
            Some(unit) => Some(unit),
            None if source.counted.bytes == 0 => None, // nothing to try a clone with
            None => reflink(source, set, to)?,
        },
        Prefer::Btrfs => Some(btrfs(source, to)?.ok_or_else(|| {
            let why = "is in no btrfs subvolume that can be snapshotted into the target's file system";
            refuse(source, to, why)
        })?),
        Prefer::Reflink => {
            let why = "cannot be cloned (reflink) to the target";
            Some(reflink(source, set, to)?.ok_or_else(|| refuse(source, to, why))?)
        }
        Prefer::Copy => None,
    };
    match unit {
        Some(unit) => Ok(unit),
        None => copy(source, set, speeds),
    }
}

fn btrfs(source: &Source, to: &Path) -> Result<Option<Unit>, Error> {
    let path = &source.path;
    let dir = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    match subvol::root_of(dir).filter(|root| subvol::same_fs(root, to)) {
        Some(_) => Ok(Some(Unit::Btrfs { flush_ms: measure::sync_ms(dir)? })),
        None => Ok(None),
    }
}

/// `None`: not possible here. A source without a byte of data can always be "cloned".
fn reflink(source: &Source, set: &Path, to: &Path) -> Result<Option<Unit>, Error> {
    let Some((_, file)) = source.counted.largest.as_ref().filter(|(bytes, _)| *bytes > 0) else {
        return Ok(Some(Unit::Reflink { largest_us: 0, small_us: 0 }));
    };
    // Spares the flush where a clone is out of the question: another device, and not a subvolume of the same btrfs.
    let dev = |p: &Path| p.symlink_metadata().map(|m| m.dev()).ok();
    if dev(file) != dev(to) && !file.parent().is_some_and(|d| subvol::same_fs(d, to)) {
        return Ok(None);
    }
    measure::sync_ms(file)?;
    let Some(largest_us) = measure::reflink_us(file, set) else {
        return Ok(None);
    };
    let small_us = measure::small_file_us(&source.counted.sample, set);
    Ok(Some(Unit::Reflink { largest_us, small_us }))
}

fn copy(source: &Source, set: &Path, speeds: &mut BTreeMap<u64, u64>) -> Result<Unit, Error> {
    let path = &source.path;
    let dev = path.symlink_metadata().map_err(|e| Error::io("look at", path, e))?.dev();
    let bytes_per_s = match speeds.get(&dev) {
        Some(known) => *known,
        None => {
            let file = source.counted.largest.as_ref().map(|(_, f)| f.as_path());
            measure::copy_speed(file, set)?
        }
    };
    speeds.insert(dev, bytes_per_s);
    Ok(Unit::Copy { bytes_per_s })
}

fn refuse(source: &Source, to: &Path, what: &str) -> Error {
    let why = format!("{} {what} ({})", source.path.display(), to.display());
    Error::refused(Code::ConfigInvalid, why, "use the method \"auto\", or a target on the same file system")
}
