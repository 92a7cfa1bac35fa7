//! The double itself, shared by all connections.

use super::config::ArmConfig;
use super::fault::{ArmFault, ArmMatch};
use super::identity::Identities;
use super::throttle::Throttle;
use super::wire::ArmCall;
use super::world::World;
use crate::faults::Faults;
use crate::record::Record;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

pub struct Sim {
    pub config: ArmConfig,
    pub faults: Faults<ArmMatch, ArmFault>,
    pub record: Record<ArmCall>,
    pub throttle: Mutex<Throttle>,
    pub identities: Mutex<Identities>,
    /// VM → `http://127.0.0.1:PORT` of its IMDS.
    pub imds: Mutex<BTreeMap<String, String>>,
    /// Process groups of scripts that were started and may still have members.
    pub groups: Mutex<BTreeSet<i32>>,
    world: Mutex<World>,
}

impl Sim {
    pub fn new(config: ArmConfig) -> Self {
        Self {
            config,
            faults: Faults::default(),
            record: Record::default(),
            throttle: Mutex::default(),
            identities: Mutex::default(),
            imds: Mutex::default(),
            groups: Mutex::default(),
            world: Mutex::default(),
        }
    }

    /// Never held across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("world")
    }

    pub fn identities(&self) -> MutexGuard<'_, Identities> {
        self.identities.lock().expect("identities")
    }

    pub fn kill_scripts(&self) {
        self.groups.lock().expect("groups").iter().copied().for_each(crate::shell::kill_group);
    }
}
