//! Up and down again. What is to be undone is noted before it is done; a repetition goes on, and `down` ends what a crash left.

use super::probe::{self, Is, must, text};
use super::{DIR, Error, find::Source, io_error, points};
use crate::catalogue::host::{self, HostFile};
use crate::catalogue::{self, DATA, Manifest, files, manifest, setdir};
use crate::snapshot::{Estimate, Wanted};
use protocol::WallMs;
use protocol::tags::{self, SetTags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A log is replayed at the mount.
const MOUNT_MS: u64 = 30 * 60_000;
const APPEARS_WITHIN: Duration = Duration::from_secs(90);
const NOTE: &str = "up.json";
/// For a look at a file system before it is known where it belongs.
const LOOK_AT: &str = ".look";

/// What was brought up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    pub set: PathBuf,
    /// Mount point of the backup's host -> its device here.
    pub mounts: BTreeMap<PathBuf, PathBuf>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// To be undone.
#[derive(Default, Serialize, Deserialize)]
struct Note {
    /// Volume groups that were imported.
    groups: Vec<String>,
}

/// Mounts the volumes of a set and writes its catalogue entry. `disks` is `/dev/disk`; `images` the directory of all such sets.
pub fn up(images: &Path, disks: &Path, sources: &[Source], tags: &SetTags, now: WallMs) -> Result<Up, Error> {
    let set = images.join(tags.backup_id.to_string());
    if set.symlink_metadata().is_ok() {
        // A repetition, or what a crash left.
        down(images, &tags.backup_id.to_string())?;
    }
    std::fs::create_dir_all(images).map_err(io_error("make", images))?;
    setdir::create(&set).map_err(io_error("make", &set))?;
    let done = all(&set, disks, sources, tags, now);
    if done.is_err() {
        let _ = down(images, &tags.backup_id.to_string()); // the first problem is the one to tell
    }
    done
}

fn all(set: &Path, disks: &Path, sources: &[Source], tags: &SetTags, now: WallMs) -> Result<Up, Error> {
    let mut notes = Vec::new();
    let mut devices = Vec::new();
    for s in sources {
        devices.push(super::find(disks, s, APPEARS_WITHIN)?);
    }
    let systems = file_systems(set, tags, devices, &mut notes)?;
    let mut found: BTreeMap<PathBuf, (PathBuf, String)> = BTreeMap::new();
    let mut newest: Option<HostFile> = None;
    for (device, kind) in systems {
        match look(set, &device, &kind)? {
            Some((file, point)) => {
                if let Some((other, _)) = found.insert(point.clone(), (device.clone(), kind)) {
                    return Err(Error::Volume(format!("{} and {} were both {}", other.display(), device.display(), point.display())));
                }
                if newest.as_ref().is_none_or(|n| n.written_at < file.written_at) {
                    newest = Some(file);
                }
            }
            None => notes.push(format!("{} carries no {DIR}: it is left out", device.display())),
        }
    }
    let host =
        newest.ok_or_else(|| Error::Partial(format!("no volume carries a host file ({DIR}/{}): mount them by hand", catalogue::HOST)))?;
    if host.id != tags.backup_id {
        notes.push(format!("the host file is of {}, {}: what was configured later is not in it", host.id, host.host));
    }
    let lacks: Vec<String> = points(&host).iter().filter(|p| !found.contains_key(*p)).map(|p| p.display().to_string()).collect();
    if !lacks.is_empty() {
        return Err(Error::Partial(format!("{} is on none of them", lacks.join(", "))));
    }
    // A mount point lies in what is mounted above it.
    let mut mounts = BTreeMap::new();
    for (point, (device, kind)) in found {
        let at = set.join(DATA).join(point.strip_prefix("/").unwrap_or(&point));
        if !at.is_dir() {
            std::fs::create_dir_all(&at).map_err(io_error("make", &at))?;
        }
        // A link in a file system of the set leads nowhere else.
        let (real, home) = (std::fs::canonicalize(&at), std::fs::canonicalize(set));
        if !matches!((real, home), (Ok(real), Ok(home)) if real.starts_with(&home)) {
            return Err(Error::Volume(format!("{} of the set leads out of it", point.display())));
        }
        mount(&device, &kind, &at)?;
        mounts.insert(point, device);
    }
    let host = HostFile { mount: None, ..host };
    host::write(set, &host)?;
    entry(set, &host, tags, mounts.keys().cloned().collect(), now)?;
    Ok(Up { set: set.to_owned(), mounts, notes })
}

/// Through partitions and volume groups to what can be mounted.
fn file_systems(set: &Path, tags: &SetTags, devices: Vec<PathBuf>, notes: &mut Vec<String>) -> Result<Vec<(PathBuf, String)>, Error> {
    let (mut systems, mut members) = (Vec::new(), Vec::new());
    let mut todo = devices;
    while let Some(device) = todo.pop() {
        match probe::probe(&device)? {
            Is::FileSystem(kind) => systems.push((device, kind)),
            Is::Lvm => members.push(device),
            Is::Partitions => todo.extend(probe::partitions(&device)),
            Is::Nothing => notes.push(format!("{} holds nothing that can be mounted", device.display())),
            Is::Other(kind) => {
                let what = format!("{} holds {kind}, which is not opened here: open it by hand, then name its device", device.display());
                return Err(Error::Volume(what));
            }
        }
    }
    if !members.is_empty() {
        let group = format!("snapfreeze{}", &tags.backup_id.to_string().replace('-', "")[..12]);
        note(set, &Note { groups: vec![group.clone()] })?;
        for volume in probe::import(&group, &members, &must)? {
            match probe::probe(&volume)? {
                Is::FileSystem(kind) => systems.push((volume, kind)),
                Is::Lvm | Is::Partitions | Is::Nothing | Is::Other(_) => {
                    notes.push(format!("{} holds no file system", volume.display()));
                }
            }
        }
    }
    systems.sort();
    Ok(systems)
}

fn note(set: &Path, note: &Note) -> Result<(), Error> {
    let text = serde_json::to_vec(note).map_err(|e| io_error("write", set)(e.into()))?;
    setdir::write_durably(set, NOTE, &text).map_err(io_error("write", set))
}

/// Where a file system was mounted, by the file that the agent left in it.
fn look(set: &Path, device: &Path, kind: &str) -> Result<Option<(HostFile, PathBuf)>, Error> {
    let at = set.join(LOOK_AT);
    if !at.is_dir() {
        std::fs::create_dir(&at).map_err(io_error("make", &at))?;
    }
    mount(device, kind, &at)?;
    let there = at.join(DIR).join(catalogue::HOST).symlink_metadata().is_ok();
    let read = if there { host::read(&at.join(DIR)).map(Some) } else { Ok(None) };
    umount(&at)?;
    Ok(read?.and_then(|h| h.mount.clone().filter(|p| plain(p)).map(|p| (h, p))))
}

/// An absolute path that leads nowhere else.
fn plain(path: &Path) -> bool {
    use std::path::Component as C;
    path.is_absolute() && path.components().all(|c| matches!(c, C::RootDir | C::Normal(_)))
}

/// Read-only for everybody; the file system's own log is replayed on the copy all the same. `nouuid`: the original of an XFS may be
/// mounted on this host (mount(8), xfs(5)).
fn mount(device: &Path, kind: &str, at: &Path) -> Result<(), Error> {
    let options = if kind == "xfs" { "ro,nodev,nosuid,noexec,nouuid" } else { "ro,nodev,nosuid,noexec" };
    must("mount", &["-t", kind, "-o", options, "--", text(device)?, text(at)?], MOUNT_MS).map(|_| ())
}

fn umount(at: &Path) -> Result<(), Error> {
    must("umount", &["--", text(at)?], MOUNT_MS).map(|_| ())
}

/// The catalogue's own files, with a list of everything by its size: a snapshot of a volume has no checksums of files.
fn entry(set: &Path, host: &HostFile, tags: &SetTags, points: Vec<PathBuf>, now: WallMs) -> Result<(), Error> {
    // What is mounted below another is walked with it.
    let tops: Vec<&PathBuf> = points.iter().filter(|p| !points.iter().any(|o| o != *p && p.starts_with(o))).collect();
    let roots: Vec<PathBuf> = tops.iter().map(|p| Path::new(DATA).join(p.strip_prefix("/").unwrap_or(p))).collect();
    let finished = files::write(set, &roots, false, 0, &|_| {}).map_err(|e| Error::Volume(e.to_string()))?;
    let wanted = host.layout.places.iter().map(|p| Wanted::new(p.role.clone(), &p.real)).collect();
    let m = Manifest {
        schema: protocol::SCHEMA,
        kind: manifest::KIND.into(),
        created_at: now,
        tags: tags::to_tags(tags),
        wanted,
        parts: Vec::new(),
        estimate: Estimate::default(),
        window: None,
        taken: None,
        finished: Some(finished),
        counted_at: None,
    };
    manifest::write(set, &m)?;
    Ok(())
}

/// Unmounts a set and removes its entry; the volumes stay as they are. Nothing that is still mounted is touched.
pub fn down(images: &Path, id: &str) -> Result<(), Error> {
    let set = images.join(id);
    let table = std::fs::read("/proc/self/mountinfo").map_err(io_error("read", Path::new("/proc/self/mountinfo")))?;
    let real = std::fs::canonicalize(&set).map_err(io_error("find", &set))?;
    let mut below: Vec<PathBuf> =
        crate::layout::mountinfo::parse(&table).into_iter().map(|m| m.point).filter(|p| p.starts_with(&real) && *p != real).collect();
    // The deepest first.
    below.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    for point in &below {
        umount(point)?;
    }
    if let Ok(text) = std::fs::read(set.join(NOTE))
        && let Ok(note) = serde_json::from_slice::<Note>(&text)
    {
        for group in &note.groups {
            // One that was never imported is not active either.
            let _ = must("vgchange", &["-a", "n", group], probe::LOOK_MS);
        }
    }
    for name in [catalogue::MANIFEST, catalogue::FILES, catalogue::HOST, NOTE] {
        let file = set.join(name);
        if file.symlink_metadata().is_ok() {
            std::fs::remove_file(&file).map_err(io_error("remove", &file))?;
        }
    }
    // What drills of it have shown is also in the agent's own state.
    let drills = set.join(catalogue::drills::DIR);
    for entry in std::fs::read_dir(&drills).into_iter().flatten().flatten() {
        std::fs::remove_file(entry.path()).map_err(io_error("remove", &drills))?;
    }
    empty(&set)?;
    setdir::sync_dir(images).map_err(io_error("write to disk", images))
}

/// Directories alone, and only empty ones: a file that is still there stops it.
fn empty(dir: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(dir).map_err(io_error("read", dir))?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            empty(&path)?;
        } else if entry.file_name().to_string_lossy().starts_with(".files.jsonl") {
            std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    std::fs::remove_dir(dir).map_err(io_error("remove", dir))
}
