//! `GET /v1/layout`: every path of the instances, and on which volume it lies.

use crate::instances::Set;
use protocol::wire::Problem;
use protocol::{BootMs, Code, InstanceName, SCHEMA};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostLayout {
    pub schema: u32,
    pub instances: Vec<InstancePlaces>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstancePlaces {
    pub instance: InstanceName,
    pub places: Vec<engine::Place>,
}

/// Asks every engine of the set.
pub fn of(set: &Set, by: BootMs) -> Result<HostLayout, Problem> {
    let mut instances = Vec::new();
    for i in set {
        let places = i.engine.layout(by).map_err(|e| {
            Problem::new(Code::RefusedInstance, format!("{}: {}", i.name, crate::chain(&e))).next("run `snapfreeze check`")
        })?;
        instances.push(InstancePlaces { instance: i.name.clone(), places });
    }
    Ok(HostLayout { schema: SCHEMA, instances })
}
