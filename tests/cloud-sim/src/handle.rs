//! The Rust side of the double of EC2 and SSM.

use crate::config::Config;
use crate::faults::{Rule, RuleState};
use crate::imds;
use crate::record::{Call, Window};
use crate::server;
use crate::serving::Serving;
use crate::sim::Sim;
use crate::ssm::commands::InvocationView;
use crate::world::{Host, Instance, Snapshot};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// A running double. Dropped: the server is gone, and so are the scripts that it started.
pub struct CloudSim {
    sim: Arc<Sim>,
    serving: Serving,
}

impl CloudSim {
    /// Errors: no loopback address, the port is taken, the state directory cannot be made.
    pub fn start(mut config: Config) -> io::Result<Self> {
        std::fs::create_dir_all(&config.state)?;
        config.state = config.state.canonicalize()?;
        let sim = Arc::new(Sim::new(config));
        let shared = sim.clone();
        let listen = shared.config.listen.clone();
        let serving = Serving::start("cloud-sim", listen, move |listener| server::accept(shared, listener, None))?;
        Ok(Self { sim, serving })
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL` and its like.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.serving.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.serving.address
    }

    pub fn config(&self) -> &Config {
        &self.sim.config
    }

    /// moto from now on, as `http://127.0.0.1:PORT`: for those that must know this double's port before they start.
    pub fn set_upstream(&self, url: &str) {
        self.sim.set_behind(Some(url.into()), None);
    }

    /// ministack from now on.
    pub fn set_lambda(&self, url: &str) {
        self.sim.set_behind(None, Some(url.into()));
    }

    /// Replaces the one of the same id.
    pub fn add_instance(&self, instance: Instance) {
        self.sim.world().add_instance(instance);
    }

    /// Volumes that CreateVolume made.
    pub fn made_volumes(&self) -> Vec<crate::world::Volume> {
        self.sim.world().volumes.values().filter(|v| v.made_ms.is_some()).cloned().collect()
    }

    pub fn set_state(&self, instance: &str, state: &str) {
        self.sim.world().instances.get_mut(instance).expect("an instance").state = state.into();
    }

    /// Replaces the one of the same id. With `imds`, [`Self::imds`] is there afterwards.
    pub fn add_host(&self, host: Host) {
        add_host(&self.sim, host, &self.serving.runtime).expect("a port for IMDS");
    }

    pub fn set_online(&self, instance: &str, online: bool) {
        self.sim.world().hosts.get_mut(instance).expect("a host").online = online;
    }

    /// For `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub fn imds(&self, instance: &str) -> Option<String> {
        self.sim.imds.lock().expect("imds").get(instance).cloned()
    }

    /// Calls signed with this access key are recorded as this principal's.
    pub fn principal(&self, access_key: &str, name: &str) {
        self.sim.world().principals.insert(access_key.into(), name.into());
    }

    /// As CreateDocument, or UpdateDocument and UpdateDocumentDefaultVersion. Errors: what SSM says of the content.
    pub fn put_document(&self, name: &str, content: &str) -> Result<(), String> {
        crate::ssm::documents::put(&self.sim, name, content).map_err(|e| format!("{}: {}", e.code, e.message))
    }

    pub fn fault(&self, rule: Rule) -> u64 {
        self.sim.faults.add(rule)
    }

    pub fn hits(&self, rule: u64) -> u64 {
        self.sim.faults.get(rule).map_or(0, |s| s.hits)
    }

    pub fn faults(&self) -> Vec<RuleState> {
        self.sim.faults.list()
    }

    /// Held calls go on.
    pub fn clear_faults(&self) {
        self.sim.faults.clear();
    }

    pub fn release(&self, rule: u64) {
        self.sim.faults.release(rule);
    }

    /// Waits until a call is held by this rule. `false`: none was in time.
    pub fn wait_held(&self, rule: u64, timeout: Duration) -> bool {
        self.sim.faults.wait_held_here(rule, timeout)
    }

    /// Others in the account draw so many tokens per second of this action's bucket.
    pub fn other_traffic(&self, action: &str, per_second: f64) {
        self.sim.world().buckets.set_other(action, per_second, crate::clock::boot_us());
    }

    pub fn set_tokens(&self, action: &str, tokens: f64) {
        self.sim.world().buckets.set_tokens(action, tokens, crate::clock::boot_us());
    }

    pub fn calls(&self) -> Vec<Call> {
        self.sim.record.calls()
    }

    pub fn calls_of(&self, action: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|c| c.action == action).collect()
    }

    pub fn window(&self, window: Window) {
        self.sim.record.window(window);
    }

    /// In the order of their start. With an upstream: only those that this double copied.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let mut all: Vec<Snapshot> = self.sim.world().snapshots.values().cloned().collect();
        all.sort_by(|a, b| (a.start_boot_ms, &a.volume).cmp(&(b.start_boot_ms, &b.volume)));
        all
    }

    /// Where this snapshot's bytes lie.
    pub fn snapshot_dir(&self, id: &str) -> Option<PathBuf> {
        self.sim.world().snapshots.get(id).and_then(|s| s.dir.clone())
    }

    /// Every command's every invocation, in the order of SendCommand.
    pub fn invocations(&self) -> Vec<InvocationView> {
        crate::ssm::commands::all(&self.sim)
    }
}

/// Not async, so that a test may call it inside and outside of a runtime.
pub fn add_host(sim: &Arc<Sim>, host: Host, runtime: &Handle) -> io::Result<()> {
    let id = host.id.clone();
    if host.imds && !sim.imds.lock().expect("imds").contains_key(&id) {
        let (address, listener) = Serving::port(runtime)?;
        sim.imds.lock().expect("imds").insert(id.clone(), format!("http://{address}"));
        runtime.spawn(server::accept(sim.clone(), listener, Some(id.clone())));
    }
    let mut world = sim.world();
    world.principals.insert(imds::access_key(&id), imds::principal(&sim.config.account, &id));
    world.hosts.insert(id, host);
    Ok(())
}

impl Drop for CloudSim {
    fn drop(&mut self) {
        self.clear_faults();
        crate::ssm::commands::kill_all(&self.sim);
        self.serving.stop();
    }
}
