//! `GET /v1/layout`: what the instances are, every path of theirs, and on which volume it lies.

use crate::instances::Set;
use doors::clock::boot_now;
use engine::{Facts, Role};
use protocol::wire::Problem;
use protocol::{BootMs, Code, InstanceName, SCHEMA};
use serde::{Deserialize, Serialize};
use storage::Wanted;
use storage::layout::{Layout, Roots};

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
pub fn of(set: &Set, by: BootMs) -> Result<HostLayout, Problem> {
    let mut instances = Vec::new();
    for i in set {
        let places = i
            .engine
            .layout(by)
            .map_err(|e| Problem::new(Code::RefusedInstance, format!("{}: {}", i.name, crate::chain(&e))).next("run `snapfreeze check`"))?;
        let facts = i.engine.discover(by.min(boot_now().plus(20_000))).ok();
        instances.push(InstancePlaces { instance: i.name.clone(), places, facts });
    }
    let layout = storage::layout::read(&Roots::host(), &wanted(&instances))
        .map_err(|e| Problem::new(Code::Internal, format!("this host's mounts could not be read: {}", crate::chain(&e))))?;
    Ok(HostLayout { schema: SCHEMA, instances, layout })
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
