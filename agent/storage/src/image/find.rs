//! A volume's device on this host, by udev's links.

use super::Error;
use crate::layout::Volume;
use doors::clock::boot_now;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A volume as the cloud or a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Volume(Volume),
    Device(PathBuf),
}

const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Source {
    /// `vol-0123…`, `lun:3`, or a path below `/dev`.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.starts_with("/dev/") {
            return Ok(Self::Device(text.into()));
        }
        match Volume::from_key(text) {
            Some(v @ (Volume::Ebs { .. } | Volume::AzureData { .. })) => Ok(Self::Volume(v)),
            _ => Err(format!("{text:?} is no volume: use a form such as vol-0123456789abcdef0, lun:3 or /dev/nvme2n1")),
        }
    }

    /// Below `/dev/disk`: Amazon EC2 User Guide, "Map NVMe device names"; Azure's udev rules (WALinuxAgent, azure-vm-utils).
    fn links(&self) -> Vec<String> {
        match self {
            Self::Volume(Volume::Ebs { id }) => {
                let id = id.trim_start_matches("vol-");
                ["", "_1"].map(|namespace| format!("by-id/nvme-Amazon_Elastic_Block_Store_vol{id}{namespace}")).into()
            }
            Self::Volume(Volume::AzureData { lun }) => {
                vec![format!("azure/scsi1/lun{lun}"), format!("azure/data/by-lun/{lun}")]
            }
            Self::Volume(_) | Self::Device(_) => Vec::new(),
        }
    }
}

/// The device of a volume that was attached a moment ago: looked for until `within` is over. `disks` is `/dev/disk`.
pub fn find(disks: &Path, source: &Source, within: Duration) -> Result<PathBuf, Error> {
    let by = boot_now().plus(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
    loop {
        let found = match source {
            Source::Device(d) => d.exists().then(|| d.clone()),
            Source::Volume(_) => source.links().iter().map(|l| disks.join(l)).find(|p| p.exists()),
        };
        if let Some(found) = found {
            return std::fs::canonicalize(&found).map_err(super::io_error("follow", &found));
        }
        if by.since(boot_now()) == 0 {
            let what = match source {
                Source::Device(d) => d.display().to_string(),
                Source::Volume(v) => v.key().unwrap_or_default(),
            };
            return Err(Error::Volume(format!("{what} is not there: no such device, or no link to it below {}", disks.display())));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_found_by_its_link_on_either_cloud() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("nvme2n1");
        std::fs::write(&device, "").unwrap();
        let (ebs, lun) = (Source::read("vol-0123456789abcdef0").unwrap(), Source::read("lun:3").unwrap());
        for link in ["by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0", "azure/data/by-lun/3"] {
            let link = dir.path().join(link);
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&device, &link).unwrap();
        }
        for s in [&ebs, &lun] {
            assert_eq!(find(dir.path(), s, Duration::ZERO).unwrap(), device.canonicalize().unwrap());
        }
        let e = find(dir.path(), &Source::read("lun:4").unwrap(), Duration::ZERO).unwrap_err();
        assert!(e.to_string().contains("lun:4 is not there"), "{e}");
        assert!(Source::read("os").is_err() && Source::read("../x").is_err() && Source::read("vol-xyz").is_err());
    }
}
