//! `GET /v1/layout`: what the instances are, every path of theirs, and on which volume it lies.

use crate::config::Config;
use crate::instances::Set;
use doors::clock::boot_now;
use engine::{Facts, Role};
use protocol::wire::{Problem, VolumeFacts};
use protocol::{BootMs, Code, InstanceName, SCHEMA};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use storage::Wanted;
use storage::cover::{self, Contains, Cover, Split};
use storage::layout::{Layout, Roots, Volume};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostLayout {
    pub schema: u32,
    pub instances: Vec<InstancePlaces>,
    pub layout: Layout,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstancePlaces {
    pub instance: InstanceName,
    pub places: Vec<engine::Place>,
    /// `None`: it does not answer at this moment.
    pub facts: Option<Facts>,
}

/// Asks every engine of the set, then this host's mounts and devices.
pub fn of(set: &Set, config: &Config, by: BootMs) -> Result<HostLayout, Problem> {
    let mut instances = Vec::new();
    for i in set {
        let places = i
            .engine
            .layout(by)
            .map_err(|e| Problem::new(Code::RefusedInstance, format!("{}: {}", i.name, crate::chain(&e))).next("run `snapfreeze check`"))?;
        let facts = i.engine.discover(by.min(boot_now().plus(20_000))).ok();
        instances.push(InstancePlaces { instance: i.name.clone(), places, facts });
    }
    let layout = read(config, &wanted(&instances))?;
    Ok(HostLayout { schema: SCHEMA, instances, layout })
}

/// This host's mounts and devices, with the volumes that only the configuration can name.
pub fn read(config: &Config, wanted: &[Wanted]) -> Result<Layout, Problem> {
    let mut layout = storage::layout::read(&Roots::host(), wanted)
        .map_err(|e| Problem::new(Code::Internal, format!("this host's mounts could not be read: {}", crate::chain(&e))))?;
    layout.name_volumes(&config.volumes);
    Ok(layout)
}

impl HostLayout {
    /// Of these instances alone; of all when none is named.
    pub fn only(mut self, names: &[InstanceName]) -> Self {
        if names.is_empty() {
            return self;
        }
        self.instances.retain(|i| names.contains(&i.instance));
        let kept = wanted(&self.instances);
        self.layout.places.retain(|p| kept.iter().any(|w| w.path == p.path && w.role == p.role));
        for m in &mut self.layout.mounts {
            let here = self.layout.places.iter().filter(|p| p.mount.as_ref() == Some(&m.point));
            m.roles = here.map(|p| p.role.clone()).collect();
            m.roles.sort();
            m.roles.dedup();
        }
        self.layout.mounts.retain(|m| !m.roles.is_empty());
        self
    }
}

/// Every cloud volume that carries a wanted path.
pub fn volumes(layout: &Layout) -> Vec<VolumeFacts> {
    let mut all = BTreeMap::new();
    for (mount, disk) in layout.mounts.iter().flat_map(|m| m.disks.iter().map(move |d| (m, d))) {
        let Some(device) = layout.devices.get(disk) else { continue };
        let Some(key) = device.volume.as_ref().and_then(Volume::key) else { continue };
        let named = || if device.label.is_empty() { device.name.clone() } else { device.label.clone() };
        let v: &mut VolumeFacts =
            all.entry(key.clone()).or_insert_with(|| VolumeFacts { volume: key, device: named(), mounts: vec![], roles: vec![] });
        v.mounts.push(mount.point.display().to_string());
        v.roles.extend(mount.roles.iter().cloned());
    }
    let mut all: Vec<VolumeFacts> = all.into_values().collect();
    for v in &mut all {
        for list in [&mut v.mounts, &mut v.roles] {
            list.sort();
            list.dedup();
        }
    }
    all
}

/// A set of cloud snapshots must contain every path: each lies on volumes of the cloud, which one call takes together.
pub fn in_the_cloud(layout: &Layout) -> Result<Cover, Problem> {
    let all = volumes(layout).into_iter().map(|v| v.volume).collect();
    cover::check(layout, &Contains::Disks { groups: vec![all], split: Split::Refuse })
        .map_err(|p| p.next("put it on a volume; where this host's devices do not name their volumes, [layout] volumes names them"))
}

pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// All places with their roles.
pub fn wanted(instances: &[InstancePlaces]) -> Vec<Wanted> {
    instances.iter().flat_map(|i| &i.places).map(|p| Wanted::new(role(p.role), &p.path)).collect()
}

fn role(r: Role) -> &'static str {
    match r {
        Role::Install => "install",
        Role::Cpf => "cpf",
        Role::Keys => "keys",
        Role::Data => "data",
        Role::Wij => "wij",
        Role::Journal => "journal",
        Role::Altjournal => "altjournal",
        Role::Database => "database",
        Role::External => "external",
    }
}
