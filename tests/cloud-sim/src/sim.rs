//! The double itself: configuration, world, faults and record, shared by all connections.

use crate::config::Config;
use crate::faults::Faults;
use crate::proxy::Client;
use crate::record::Record;
use crate::world::World;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

#[derive(Clone, Default)]
struct Behind {
    upstream: Option<String>,
    lambda: Option<String>,
}

pub struct Sim {
    pub config: Config,
    pub faults: Faults,
    pub record: Record,
    pub client: Client,
    /// `http://127.0.0.1:PORT` of IMDS per host that asked for it.
    pub imds: Mutex<BTreeMap<String, String>>,
    world: Mutex<World>,
    /// moto and ministack: from the configuration, or told later, because they want to know this double's port first.
    behind: Mutex<Behind>,
    /// Commands that each host runs at once.
    workers: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Sim {
    pub fn new(config: Config) -> Self {
        let behind = Behind { upstream: config.upstream.clone(), lambda: config.lambda.clone() };
        Self {
            behind: Mutex::new(behind),
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

    pub fn upstream(&self) -> Option<String> {
        self.behind.lock().expect("behind").upstream.clone()
    }

    pub fn lambda(&self) -> Option<String> {
        self.behind.lock().expect("behind").lambda.clone()
    }

    /// What is `None` stays as it was.
    pub fn set_behind(&self, upstream: Option<String>, lambda: Option<String>) {
        let mut behind = self.behind.lock().expect("behind");
        behind.upstream = upstream.or(behind.upstream.take());
        behind.lambda = lambda.or(behind.lambda.take());
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
