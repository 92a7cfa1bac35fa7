//! The double itself: configuration, world, faults and record, shared by all connections.

use crate::config::Config;
use crate::faults::Faults;
use crate::proxy::Client;
use crate::record::Record;
use crate::world::World;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

pub struct Sim {
    pub config: Config,
    pub faults: Faults,
    pub record: Record,
    pub client: Client,
    /// `http://127.0.0.1:PORT` of IMDS per host that asked for it.
    pub imds: Mutex<BTreeMap<String, String>>,
    world: Mutex<World>,
    /// Commands that each host runs at once.
    workers: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Sim {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            faults: Faults::default(),
            record: Record::default(),
            client: Client::default(),
            imds: Mutex::default(),
            world: Mutex::default(),
            workers: Mutex::default(),
        }
    }

    /// Never held across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("world")
    }

    pub fn workers(&self, instance: &str) -> Arc<Semaphore> {
        let new = || Arc::new(Semaphore::new(self.config.ssm.workers));
        self.workers.lock().expect("workers").entry(instance.to_owned()).or_insert_with(new).clone()
    }

    pub fn principal(&self, access_key: &str) -> String {
        self.world().principals.get(access_key).cloned().unwrap_or_else(|| access_key.to_owned())
    }

    pub fn document_of(&self, command: &str) -> Option<String> {
        self.world().commands.get(command).map(|c| c.document.clone())
    }
}
