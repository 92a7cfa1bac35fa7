//! Volumes that the configuration names, for hosts whose devices do not say what the cloud calls them (Xen, containers).

use super::{Device, DeviceKind, Layout, Volume};
use crate::cover;
use std::collections::BTreeMap;
use std::path::PathBuf;

impl Layout {
    /// What lies below a named directory lies on its volumes and on nothing else; the longest name counts. A name holds for
    /// one file system: what is mounted below it needs a name of its own. It never overrules what is seen: a disk that says
    /// what it is, memory, another machine.
    pub fn name_volumes(&mut self, named: &BTreeMap<PathBuf, Vec<Volume>>) {
        let before = std::mem::take(&mut self.mounts);
        for place in &mut self.places {
            let Some(real) = before.iter().find(|m| Some(&m.point) == place.mount.as_ref()) else { continue };
            let fits = |p: &&PathBuf| place.real.starts_with(p) && p.starts_with(&real.point);
            let name = named.keys().filter(fits).max_by_key(|p| p.components().count());
            let mut mount = real.clone();
            let says = |d: &String| self.devices.get(d).is_some_and(|d| d.volume.is_some());
            let seen = cover::elsewhere(&real.fs_type).is_some() || real.disks.iter().any(says);
            if let Some(point) = name.filter(|_| !seen) {
                mount.point = point.clone();
                mount.disks.clear();
                for volume in &named[point] {
                    let Some(key) = volume.key() else { continue };
                    let label = if real.disks.is_empty() { real.source.clone() } else { real.disks.join(",") };
                    let device = Device {
                        name: key.clone(),
                        dev: "0:0".into(),
                        kind: DeviceKind::Disk,
                        label,
                        size_bytes: 0,
                        model: String::new(),
                        serial: String::new(),
                        volume: Some(volume.clone()),
                        on: Vec::new(),
                    };
                    self.devices.insert(key.clone(), device);
                    mount.disks.push(key);
                }
                place.mount = Some(point.clone());
            }
            match self.mounts.iter_mut().find(|m| m.point == mount.point) {
                Some(known) if known.roles.contains(&place.role) => {}
                Some(known) => known.roles.push(place.role.clone()),
                None => {
                    mount.roles = vec![place.role.clone()];
                    self.mounts.push(mount);
                }
            }
        }
    }
}
