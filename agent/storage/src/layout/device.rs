//! Block devices by sysfs (Documentation/ABI: `sysfs-block`, `sysfs-block-dm`), and the cloud's name of a disk.

use super::Roots;
use super::mountinfo::MountLine;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    /// Kernel name: `nvme1n1p1`, `dm-0`.
    pub name: String,
    /// `major:minor`
    pub dev: String,
    pub kind: DeviceKind,
    /// Of a dm device its name (`vg-lv`), of an md its level (`raid0`), of a loop device its file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    pub size_bytes: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Of a disk: what the cloud calls it, when that can be seen from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Kernel names of what it lies on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Disk,
    Partition,
    Lvm,
    Crypt,
    Multipath,
    Dm,
    Raid,
    Loop,
}

/// A disk in a cloud.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "cloud")]
pub enum Volume {
    Ebs {
        id: String,
    },
    AzureData {
        lun: u32,
    },
    AzureOs,
    /// Lost with the machine, and no snapshot can be made of it.
    InstanceStore,
    AzureTemporary,
}

impl Volume {
    /// `vol-0123…`, `lun:3`, `os`; `None` for what cannot be snapshotted.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Ebs { id } => Some(id.clone()),
            Self::AzureData { lun } => Some(format!("lun:{lun}")),
            Self::AzureOs => Some("os".into()),
            Self::InstanceStore | Self::AzureTemporary => None,
        }
    }

    /// The other way round; `None` for what is no such name.
    pub fn from_key(key: &str) -> Option<Self> {
        if let Some(lun) = key.strip_prefix("lun:") {
            return Some(Self::AzureData { lun: lun.parse().ok()? });
        }
        if key == "os" {
            return Some(Self::AzureOs);
        }
        ebs(key.strip_prefix("vol-")?)
    }
}

pub(super) struct Devices<'a> {
    roots: &'a Roots,
    pub(super) found: BTreeMap<String, Device>,
}

impl<'a> Devices<'a> {
    pub(super) fn new(roots: &'a Roots) -> Self {
        Self { roots, found: BTreeMap::new() }
    }

    /// Kernel names of the devices that a file system is mounted from, and its UUID.
    pub(super) fn of_mount(&mut self, m: &MountLine) -> (Vec<String>, Option<String>) {
        if !m.dev.starts_with("0:") {
            let Some(name) = self.by_number(&m.dev) else {
                return (Vec::new(), None);
            };
            let uuid = self.link_to(&name, "disk/by-uuid");
            self.add(&name);
            return (vec![name], uuid);
        }
        // btrfs shows an anonymous number; its devices are known by the mounted source and by sysfs.
        if m.fs_type != "btrfs" {
            return (Vec::new(), None);
        }
        let Some(name) = self.by_path(&m.source) else {
            return (Vec::new(), None);
        };
        let all = list(&self.roots.sys.join("fs/btrfs"))
            .into_iter()
            .map(|uuid| (list(&self.roots.sys.join("fs/btrfs").join(&uuid).join("devices")), uuid))
            .find(|(names, _)| names.contains(&name));
        let (names, uuid) = match all {
            Some((names, uuid)) => (names, Some(uuid)),
            None => (vec![name.clone()], self.link_to(&name, "disk/by-uuid")),
        };
        names.iter().for_each(|n| self.add(n));
        (names, uuid)
    }

    /// The disks at the bottom of `name`.
    pub(super) fn disks_below(&self, name: &str) -> Vec<String> {
        match self.found.get(name) {
            None => Vec::new(),
            Some(d) if d.on.is_empty() => vec![d.name.clone()],
            Some(d) => d.on.iter().flat_map(|below| self.disks_below(below)).collect(),
        }
    }

    /// `/sys/dev/block/259:1` is a link to `../../devices/…/nvme1n1p1`.
    fn by_number(&self, dev: &str) -> Option<String> {
        let target = std::fs::read_link(self.roots.sys.join("dev/block").join(dev)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// `/dev/sdb1`, `/dev/mapper/vg-lv`, `/dev/disk/by-uuid/…`: through links to the kernel's name.
    fn by_path(&self, source: &str) -> Option<String> {
        let mut path = PathBuf::from(source.strip_prefix("/dev/")?);
        for _ in 0..8 {
            match std::fs::read_link(self.roots.dev.join(&path)) {
                Ok(target) => path = PathBuf::from(target.file_name()?),
                Err(_) => break,
            }
        }
        Some(path.file_name()?.to_str()?.to_owned())
    }

    /// The name of the link in `/dev/<dir>` that leads to the device.
    fn link_to(&self, name: &str, dir: &str) -> Option<String> {
        let dir = self.roots.dev.join(dir);
        list(&dir).into_iter().find(|link| {
            let target = std::fs::read_link(dir.join(link)).unwrap_or_default();
            target.file_name().is_some_and(|n| n == name)
        })
    }

    fn add(&mut self, name: &str) {
        if self.found.contains_key(name) {
            return;
        }
        let Some(d) = self.look(name) else { return };
        let below = d.on.clone();
        self.found.insert(name.into(), d);
        below.iter().for_each(|b| self.add(b));
    }

    fn look(&self, name: &str) -> Option<Device> {
        let dir = self.dir(name)?;
        let text = |p: &str| read(&dir.join(p));
        let mut d = Device {
            name: name.into(),
            dev: text("dev").unwrap_or_default(),
            kind: DeviceKind::Disk,
            label: String::new(),
            // In units of 512 bytes whatever the disk's sectors are.
            size_bytes: text("size").and_then(|s| s.parse::<u64>().ok()).unwrap_or(0) * 512,
            model: String::new(),
            serial: String::new(),
            volume: None,
            on: list(&dir.join("slaves")),
        };
        if dir.join("partition").exists() {
            d.kind = DeviceKind::Partition;
            d.on = vec![dir.parent()?.file_name()?.to_str()?.to_owned()];
        } else if let Some(label) = text("dm/name") {
            let uuid = text("dm/uuid").unwrap_or_default();
            d.label = label;
            d.kind = match uuid.split('-').next() {
                Some("LVM") => DeviceKind::Lvm,
                Some("CRYPT") => DeviceKind::Crypt,
                Some("mpath") => DeviceKind::Multipath,
                _ => DeviceKind::Dm,
            };
        } else if let Some(level) = text("md/level") {
            (d.kind, d.label) = (DeviceKind::Raid, level);
        } else if let Some(file) = text("loop/backing_file") {
            (d.kind, d.label) = (DeviceKind::Loop, file);
        } else {
            d.model = text("device/model").unwrap_or_default();
            d.serial = text("device/serial").unwrap_or_default();
            d.volume = self.volume(&d, &dir);
        }
        Some(d)
    }

    /// `/sys/class/block/<name>` is a link to its directory, in which a partition lies below its disk.
    fn dir(&self, name: &str) -> Option<PathBuf> {
        let class = self.roots.sys.join("class/block");
        let target = std::fs::read_link(class.join(name)).ok()?;
        Some(plain(&class.join(target)))
    }

    fn volume(&self, d: &Device, dir: &Path) -> Option<Volume> {
        match d.model.as_str() {
            // Amazon EC2 User Guide, "Identify the EBS device": the serial is the volume id without its dash.
            "Amazon Elastic Block Store" => ebs(d.serial.strip_prefix("vol")?.trim_start_matches('-')),
            "Amazon EC2 NVMe Instance Storage" => Some(Volume::InstanceStore),
            // Azure/azure-vm-utils: namespace 1 is the OS disk, data disks begin at 2 with LUN 0.
            "MSFT NVMe Accelerator v1.0" => match read(&dir.join("nsid"))?.parse::<u32>().ok()? {
                0 => None,
                1 => Some(Volume::AzureOs),
                n => Some(Volume::AzureData { lun: n - 2 }),
            },
            "Microsoft NVMe Direct Disk" | "Microsoft NVMe Direct Disk v2" => Some(Volume::AzureTemporary),
            "Virtual Disk" if read(&dir.join("device/vendor")).as_deref() == Some("Msft") => {
                self.azure_links(&d.name).or_else(|| azure_scsi(dir))
            }
            _ => None,
        }
    }

    /// The links that Azure's udev rules make (WALinuxAgent, azure-vm-utils).
    fn azure_links(&self, name: &str) -> Option<Volume> {
        let is = |link: &str| {
            let target = std::fs::read_link(self.roots.dev.join("disk/azure").join(link)).ok();
            target.is_some_and(|t| t.file_name().is_some_and(|n| n == name))
        };
        let lun = self.link_to(name, "disk/azure/scsi1").or_else(|| self.link_to(name, "disk/azure/data/by-lun"));
        if is("root") || is("os") {
            Some(Volume::AzureOs)
        } else if is("resource") {
            Some(Volume::AzureTemporary)
        } else {
            let lun = lun?.trim_start_matches("lun").parse().ok()?;
            Some(Volume::AzureData { lun })
        }
    }
}

/// Without udev's links: the VMBus controller's id says what hangs on it (WALinuxAgent `66-azure-storage.rules`), and the
/// SCSI address `host:channel:target:lun` ends with the LUN.
fn azure_scsi(dir: &Path) -> Option<Volume> {
    let address = std::fs::read_link(dir.join("device")).ok()?;
    let lun: u32 = address.file_name()?.to_str()?.rsplit(':').next()?.parse().ok()?;
    let controller = dir.ancestors().find_map(|d| read(&d.join("device_id")))?;
    let id = controller.trim_matches(['{', '}']);
    match (id.get(..14)?, lun) {
        ("00000000-0000-", _) => Some(Volume::AzureOs),
        ("00000000-0001-", _) => Some(Volume::AzureTemporary),
        ("f8b3781a-1e82-", 0) => Some(Volume::AzureOs),
        ("f8b3781a-1e82-", 1) => Some(Volume::AzureTemporary),
        ("f8b3781b-1e82-", lun) => Some(Volume::AzureData { lun }),
        _ => None,
    }
}

fn ebs(hex: &str) -> Option<Volume> {
    let valid = hex.len() >= 8 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| Volume::Ebs { id: format!("vol-{hex}") })
}

fn read(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Names in a directory, sorted; none when it is not there.
fn list(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Without `..`, by name alone: links in sysfs lead to directories, never to links.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for c in path.components() {
        match c {
            std::path::Component::ParentDir => _ = out.pop(),
            other => out.push(other),
        }
    }
    out
}
