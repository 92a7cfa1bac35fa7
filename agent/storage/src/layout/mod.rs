//! Which path lies on which volume: path → mount → file system → devices (LVM, md, dm-crypt, multipath, partitions) →
//! disks → EBS volume or Azure LUN.
//!
//! Everything is read from `/proc`, `/sys` and `/dev`, whose roots can be replaced ([`Roots`]): for a container by its
//! process's own view, for tests by recorded trees. Nothing is guessed: what is not known is `None`, and the cover check
//! ([`crate::cover`]) refuses it.

mod device;
pub mod mountinfo;
mod named;
mod path;

pub use device::{Device, DeviceKind, Volume};

use crate::snapshot::Wanted;
use device::Devices;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The mount table.
    pub mountinfo: PathBuf,
    /// `/sys`, and `/dev` of the host: a container's devices are the host's.
    pub sys: PathBuf,
    pub dev: PathBuf,
    /// Where the paths of the instance begin.
    pub fs: PathBuf,
}

impl Roots {
    pub fn host() -> Self {
        Self { mountinfo: "/proc/self/mountinfo".into(), sys: "/sys".into(), dev: "/dev".into(), fs: "/".into() }
    }
    /// As the process sees it: an instance in a container.
    pub fn of_process(pid: u32) -> Self {
        Self { mountinfo: format!("/proc/{pid}/mountinfo").into(), fs: format!("/proc/{pid}/root").into(), ..Self::host() }
    }
    /// Below `dir`, as a recorded tree has it.
    pub fn recorded(dir: &Path) -> Self {
        Self { mountinfo: dir.join("proc/self/mountinfo"), sys: dir.join("sys"), dev: dir.join("dev"), fs: dir.join("fs") }
    }
}

/// The whole way from the wanted paths to the disks; body of `GET /v1/layout`, and part of `snapfreeze-host.json`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Layout {
    pub schema: u32,
    pub places: Vec<Place>,
    /// One per file system and mount point that carries a place.
    pub mounts: Vec<Mount>,
    /// By kernel name: every device on the way, from a logical volume down to the disks.
    pub devices: BTreeMap<String, Device>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    pub role: String,
    /// As the instance names it, and without symlinks.
    pub path: PathBuf,
    pub real: PathBuf,
    /// Its mount point. `None`: the path cannot be reached, `why` says so.
    pub mount: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A restore gives them back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// Octal, with set-id and sticky bits: `2775`.
    pub mode: String,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    pub point: PathBuf,
    /// The directory of the file system that is mounted: other than `/` for bind mounts and btrfs subvolumes.
    pub root: PathBuf,
    pub fs_type: String,
    pub source: String,
    pub options: String,
    /// By `/dev/disk/by-uuid`, or btrfs's own.
    pub uuid: Option<String>,
    pub roles: Vec<String>,
    /// What it is mounted from: kernel names. Several for btrfs over several devices; empty when there is no block device.
    pub on: Vec<String>,
    /// The disks at the bottom, by kernel name, sorted.
    pub disks: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not read the mount table {path}: {source}")]
    Mounts { path: PathBuf, source: std::io::Error },
}

/// Reads the layout of the wanted paths. A path or device that cannot be found is in the result, with what is known.
pub fn read(roots: &Roots, wanted: &[Wanted]) -> Result<Layout, Error> {
    let table = std::fs::read(&roots.mountinfo).map_err(|source| Error::Mounts { path: roots.mountinfo.clone(), source })?;
    let table = mountinfo::parse(&table);
    let mut devices = Devices::new(roots);
    let mut layout = Layout { schema: protocol::SCHEMA, ..Layout::default() };
    for w in wanted {
        let mut place = Place { role: w.role.clone(), path: w.path.clone(), real: w.path.clone(), mount: None, owner: None, why: None };
        match path::resolve(&roots.fs, &w.path) {
            Err(e) => place.why = Some(e.to_string()),
            Ok(real) => {
                place.owner = path::owner(&roots.fs, &real);
                place.real = real;
                match mountinfo::mount_of(&table, &place.real) {
                    None => place.why = Some("lies on no mount".into()),
                    Some(m) => {
                        place.mount = Some(m.point.clone());
                        add_mount(&mut layout.mounts, m, &w.role, &mut devices);
                    }
                }
            }
        }
        layout.places.push(place);
    }
    layout.devices = devices.found;
    Ok(layout)
}

fn add_mount(mounts: &mut Vec<Mount>, m: &mountinfo::MountLine, role: &str, devices: &mut Devices<'_>) {
    let at = match mounts.iter().position(|known| known.point == m.point) {
        Some(at) => at,
        None => {
            let (on, uuid) = devices.of_mount(m);
            let mut disks: Vec<String> = on.iter().flat_map(|d| devices.disks_below(d)).collect();
            disks.sort();
            disks.dedup();
            mounts.push(Mount {
                point: m.point.clone(),
                root: m.root.clone(),
                fs_type: m.fs_type.clone(),
                source: m.source.clone(),
                options: m.options.clone(),
                uuid,
                roles: Vec::new(),
                on,
                disks,
            });
            mounts.len() - 1
        }
    };
    if !mounts[at].roles.iter().any(|r| r == role) {
        mounts[at].roles.push(role.into());
    }
}

impl Layout {
    /// The mount of a place.
    pub fn mount(&self, place: &Place) -> Option<&Mount> {
        self.mounts.iter().find(|m| Some(&m.point) == place.mount.as_ref())
    }
    /// Every EBS volume or Azure LUN of the wanted paths, as [`Volume::key`] names it, with its kernel name.
    pub fn volumes(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self
            .mounts
            .iter()
            .flat_map(|m| &m.disks)
            .filter_map(|d| Some((self.devices.get(d)?.volume.as_ref()?.key()?, d.clone())))
            .collect();
        all.sort();
        all.dedup();
        all
    }
}
