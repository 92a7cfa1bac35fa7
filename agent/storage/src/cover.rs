//! The cover check: does the set contain every path of the instance, and is each file system of one moment? Pure.

use crate::layout::{Device, Layout, Mount, Place, Volume};
use protocol::{Code, wire::Problem};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a snapshot set contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contains {
    /// Disks, in groups that one call snapshots at one moment: for EBS one group (CreateSnapshots), for Azure a group for
    /// each disk. Named by volume (`vol-0123…`, `lun:3`, `os`), kernel name (`nvme1n1`) or number (`259:1`).
    Disks { groups: Vec<Vec<String>>, split: Split },
    /// Directory trees or files that are copied or cloned into a local set: real paths, or a place as the instance names it.
    Trees(Vec<PathBuf>),
}

/// What to do with a file system that spans several groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    Refuse,
    /// Freeze it in the window, unless it holds one of these (our state, socket and program) or is the root.
    Freeze {
        keep_alive: Vec<PathBuf>,
    },
}

/// The set covers everything; what is to be done in the window.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cover {
    /// Mount points to `syncfs` after the engine's freeze, one per file system.
    pub sync: Vec<PathBuf>,
    /// Mount points of split file systems, for [`crate::fsfreeze`].
    pub freeze: Vec<PathBuf>,
    /// Kernel names of the disks that carry the instance.
    pub disks: Vec<String>,
    /// Disks of the set that carry nothing of it.
    pub needless: Vec<String>,
}

/// Every path that is not covered is named with its reason. `NotCovered` when there is one, else `SplitFilesystem`.
pub fn check(layout: &Layout, set: &Contains) -> Result<Cover, Problem> {
    let (mut open, mut split) = (Vec::new(), Vec::new());
    let mut cover = Cover { sync: Vec::new(), freeze: Vec::new(), disks: Vec::new(), needless: Vec::new() };
    let mut seen = BTreeSet::new();
    for place in &layout.places {
        let Some(mount) = layout.mount(place) else {
            open.push(name(place, place.why.as_deref().unwrap_or("lies on no mount")));
            continue;
        };
        match set {
            Contains::Trees(trees) => {
                if !trees.iter().any(|t| place.real.starts_with(real(layout, t))) {
                    open.push(name(place, "lies in none of the trees of the set"));
                }
            }
            Contains::Disks { groups, .. } => match on_disks(layout, mount, groups) {
                Err(why) => open.push(name(place, &why)),
                Ok(used) => {
                    cover.disks.extend(mount.disks.iter().cloned());
                    if used.len() > 1 && seen.insert(&mount.point) {
                        cover.freeze.push(mount.point.clone());
                    }
                }
            },
        }
        if !cover.sync.contains(&mount.point) && !same_fs_known(layout, &cover.sync, mount) {
            cover.sync.push(mount.point.clone());
        }
    }
    cover.disks.sort();
    cover.disks.dedup();
    if let Contains::Disks { groups, split: rule } = set {
        cover.needless = needless(layout, groups, &cover.disks);
        split = cover.freeze.iter().filter_map(|p| why_not_frozen(layout, p, rule)).collect();
    }
    let advice = "add what is missing to the set, or move the path to a volume of the set";
    if !open.is_empty() {
        return Err(Problem::new(Code::RefusedNotCovered, open.join("; ")).next(advice));
    }
    if !split.is_empty() {
        let next = "use one call for all its disks (EBS multi-volume snapshot), or allow the file system to be frozen";
        return Err(Problem::new(Code::RefusedSplitFilesystem, split.join("; ")).next(next));
    }
    Ok(cover)
}

/// A tree that is named as a place is, is that place's real path; a symlink inside a tree leads out of it.
fn real<'a>(layout: &'a Layout, tree: &'a Path) -> &'a Path {
    layout.places.iter().find(|p| p.path == tree).map_or(tree, |p| &p.real)
}

fn name(place: &Place, why: &str) -> String {
    format!("{} ({}): {why}", place.path.display(), place.role)
}

/// The groups that the mount's disks are in, or why it is not covered.
fn on_disks(layout: &Layout, mount: &Mount, groups: &[Vec<String>]) -> Result<BTreeSet<usize>, String> {
    if let Some(why) = elsewhere(&mount.fs_type).or_else(|| unseen(&mount.fs_type).filter(|_| mount.disks.is_empty())) {
        return Err(format!("lies on {} ({}), {why}", mount.fs_type, mount.point.display()));
    }
    if mount.disks.is_empty() {
        return Err(format!("lies on {} ({}), whose disk is not known", mount.source, mount.point.display()));
    }
    let mut used = BTreeSet::new();
    for disk in &mount.disks {
        let device = layout.devices.get(disk).ok_or_else(|| format!("disk {disk} is not known"))?;
        match &device.volume {
            Some(Volume::InstanceStore) => {
                return Err(format!("lies on {disk}, an instance store volume: it is lost with the instance and has no snapshots"));
            }
            Some(Volume::AzureTemporary) => {
                return Err(format!("lies on {disk}, a temporary disk: it is lost with the machine and has no snapshots"));
            }
            Some(Volume::Ebs { .. } | Volume::AzureData { .. } | Volume::AzureOs) | None => {}
        }
        match groups.iter().position(|g| g.iter().any(|n| is(device, n))) {
            Some(group) => _ = used.insert(group),
            None => {
                let known = device.volume.as_ref().and_then(Volume::key).unwrap_or_else(|| device.dev.clone());
                return Err(format!("lies on {disk} ({known}), which is not in the set"));
            }
        }
    }
    Ok(used)
}

fn is(device: &Device, name: &str) -> bool {
    device.name == name || device.dev == name || device.volume.as_ref().and_then(Volume::key).is_some_and(|k| k == name)
}

/// File systems that lie on no disk of this host, by name.
pub(crate) fn elsewhere(fs_type: &str) -> Option<&'static str> {
    match fs_type {
        "tmpfs" | "ramfs" | "devtmpfs" => Some("which is memory"),
        "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "ceph" | "9p" | "virtiofs" | "afs" | "lustre" => Some("which is on another machine"),
        _ => None,
    }
}

/// File systems whose disk only the configuration can name.
fn unseen(fs_type: &str) -> Option<&'static str> {
    match fs_type {
        "overlay" | "aufs" => Some("a container's own layer: put the data on a volume"),
        t if t == "fuse" || t.starts_with("fuse.") => Some("whose disk cannot be seen from here"),
        "zfs" => Some("whose pool's disks are not seen from here"),
        _ => None,
    }
}

fn needless(layout: &Layout, groups: &[Vec<String>], used: &[String]) -> Vec<String> {
    let carries = |n: &String| used.iter().filter_map(|d| layout.devices.get(d)).any(|d| is(d, n));
    groups.iter().flatten().filter(|n| !carries(n)).cloned().collect()
}

fn why_not_frozen(layout: &Layout, point: &Path, rule: &Split) -> Option<String> {
    let mount = layout.mounts.iter().find(|m| m.point == point)?;
    let say = |why: &str| {
        let disks = mount.disks.join(", ");
        Some(format!("{} spans {disks}, which are not snapshotted in one call, {why}", point.display()))
    };
    match rule {
        Split::Refuse => say("and may not be frozen"),
        Split::Freeze { .. } if point == Path::new("/") => say("and the root file system is never frozen"),
        Split::Freeze { keep_alive } => {
            let held = keep_alive.iter().find(|k| k.starts_with(point))?;
            say(&format!("and it holds {}, which must stay writable", held.display()))
        }
    }
}

fn same_fs_known(layout: &Layout, points: &[PathBuf], mount: &Mount) -> bool {
    !mount.on.is_empty() && layout.mounts.iter().any(|m| points.contains(&m.point) && m.on == mount.on)
}
