//! The Rust side of the double of ARM.

use super::config::ArmConfig;
use super::fault::{ArmFault, ArmMatch};
use super::identity::{self, ArmPrincipal};
use super::points::{Collection, Point};
use super::run::ArmRun;
use super::serve::{self, Port};
use super::sim::Sim;
use super::snapshots::ArmSnapshot;
use super::wire::ArmCall;
use super::world::{ArmHost, Vm};
use super::{id, tls};
use crate::faults::{Rule, RuleState};
use crate::record::Window;
use crate::serving::Serving;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

pub type ArmRule = Rule<ArmMatch, ArmFault>;
pub type ArmRuleState = RuleState<ArmMatch, ArmFault>;

/// A running double. Dropped: the server is gone, and so are the scripts that it started and that had not ended.
pub struct ArmSim {
    sim: Arc<Sim>,
    serving: Serving,
    tls: Option<SocketAddr>,
}

impl ArmSim {
    /// Errors: no loopback address, the port is taken, the state directory cannot be made.
    pub fn start(mut config: ArmConfig) -> io::Result<Self> {
        std::fs::create_dir_all(&config.state)?;
        config.state = config.state.canonicalize()?;
        let sim = Arc::new(Sim::new(config));
        let (shared, listen) = (sim.clone(), sim.config.listen.clone());
        let serving = Serving::start("arm-sim", listen, move |listener| serve::accept(shared, listener, Port::Plain))?;
        let mut tls = None;
        if sim.config.tls {
            let acceptor = tls::acceptor(&sim.config.state.join("tls.pem"))?;
            let (address, listener) = Serving::port(&serving.runtime)?;
            serving.runtime.spawn(serve::accept(sim.clone(), listener, Port::Tls(acceptor)));
            tls = Some(address);
        }
        Ok(Self { sim, serving, tls })
    }

    /// `http://127.0.0.1:PORT`, for `SNAPFREEZE_ARM_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.serving.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.serving.address
    }

    /// `https://localhost:PORT`, if `ArmConfig::tls` is set. [`Self::ca_file`] is its certificate.
    pub fn tls_endpoint(&self) -> Option<String> {
        self.tls.map(|a| format!("https://localhost:{}", a.port()))
    }

    pub fn ca_file(&self) -> PathBuf {
        self.sim.config.state.join("tls.pem")
    }

    pub fn config(&self) -> &ArmConfig {
        &self.sim.config
    }

    /// IDENTITY_ENDPOINT and IDENTITY_HEADER, as Container Apps and Functions set them. Without a client id it is `system`.
    pub fn identity_env(&self) -> Vec<(String, String)> {
        vec![("IDENTITY_ENDPOINT".into(), format!("{}/msi/token", self.endpoint())), ("IDENTITY_HEADER".into(), identity::SECRET.into())]
    }

    /// `http://127.0.0.1:PORT` of this VM's metadata service, for `AZURE_POD_IDENTITY_AUTHORITY_HOST`. Its own identity may do
    /// nothing beyond that VM (`ArmHost::own_actions` narrows it).
    pub fn imds(&self, vm: &str) -> String {
        imds(&self.sim, vm, &self.serving.runtime).expect("a port for IMDS")
    }

    /// A bearer of this principal.
    pub fn token(&self, principal: &str) -> String {
        self.sim.mint(principal, "https://management.azure.com/").0
    }

    /// Replaces the one of the same name. `system` is who asks IDENTITY_ENDPOINT without a client id; nobody added may do everything.
    pub fn add_principal(&self, principal: ArmPrincipal) {
        self.sim.identities().add(principal);
    }

    /// Replaces the one of the same id, and its disks.
    pub fn add_vm(&self, vm: Vm) {
        self.sim.world().add_vm(vm);
    }

    /// A group with nothing in it yet.
    pub fn add_group(&self, subscription: &str, group: &str) {
        self.sim.world().add_group(subscription, group, "westeurope");
    }

    pub fn set_power(&self, vm: &str, power: &str) {
        self.sim.world().vms.get_mut(&id::key(vm)).expect("a VM").power = power.into();
    }

    /// The VM is gone; its disks stay.
    /// Somebody deletes it.
    pub fn remove_snapshot(&self, snapshot: &str) {
        self.sim.world().forget(&super::id::key(snapshot));
    }

    pub fn remove_vm(&self, vm: &str) {
        self.sim.world().vms.remove(&id::key(vm));
    }

    /// Replaces the one of the same VM.
    pub fn add_host(&self, host: ArmHost) {
        add_host(&self.sim, host);
    }

    pub fn set_online(&self, vm: &str, online: bool) {
        self.sim.world().hosts.get_mut(&id::key(vm)).expect("a host").online = online;
    }

    /// Frees the slot of an action that hangs.
    pub fn free_slot(&self, vm: &str) {
        self.sim.world().slots.remove(&id::key(vm));
    }

    pub fn fault(&self, rule: ArmRule) -> u64 {
        self.sim.faults.add(rule)
    }

    pub fn hits(&self, rule: u64) -> u64 {
        self.sim.faults.get(rule).map_or(0, |s| s.hits)
    }

    pub fn faults(&self) -> Vec<ArmRuleState> {
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

    /// Others with the same principal drew: so many `writes`, `deletes` or `reads` are left in every bucket that was used.
    pub fn set_tokens(&self, kind: &str, left: f64) {
        self.sim.throttle.lock().expect("buckets").drain(kind, left);
    }

    pub fn calls(&self) -> Vec<ArmCall> {
        self.sim.record.calls()
    }

    pub fn calls_of(&self, op: &str) -> Vec<ArmCall> {
        self.calls().into_iter().filter(|c| c.op == op).collect()
    }

    pub fn window(&self, window: Window) {
        self.sim.record.window(window);
    }

    /// Those that are there, in the order of their acceptance.
    pub fn snapshots(&self) -> Vec<ArmSnapshot> {
        snapshots(&self.sim)
    }

    /// Those that were deleted, or vanished.
    pub fn gone_snapshots(&self) -> Vec<ArmSnapshot> {
        self.sim.world().gone.clone()
    }

    /// A snapshot that is there already, with the bytes of `dir` as they are: for tests of lists, retention and alarms.
    pub fn put_snapshot(&self, snapshot: ArmSnapshot) {
        put_snapshot(&self.sim, snapshot);
    }

    /// In the order of their acceptance.
    pub fn points(&self) -> Vec<Point> {
        points(&self.sim)
    }

    /// Collections of restore points, by name.
    pub fn collections(&self) -> Vec<Collection> {
        let mut all: Vec<Collection> = self.sim.world().collections.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// As if this point had been made so long before.
    pub fn age_points(&self, ms: i64) {
        for p in self.sim.world().points.values_mut() {
            p.created_wall_ms -= ms;
        }
    }

    /// Every script that was asked for, in the order of its acceptance.
    pub fn runs(&self) -> Vec<ArmRun> {
        self.sim.world().ran.clone()
    }

    /// Names of the managed run commands that this VM has now.
    pub fn run_names(&self, vm: &str) -> Vec<String> {
        let prefix = format!("{}/runcommands/", id::key(vm));
        self.sim.world().runs.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(_, r)| r.name.clone()).collect()
    }
}

pub fn snapshots(sim: &Sim) -> Vec<ArmSnapshot> {
    let mut all: Vec<ArmSnapshot> = sim.world().snapshots.values().cloned().collect();
    all.sort_by_key(|s| s.put_us);
    all
}

pub fn points(sim: &Sim) -> Vec<Point> {
    let mut all: Vec<Point> = sim.world().points.values().cloned().collect();
    all.sort_by_key(|p| p.put_us);
    all
}

pub fn put_snapshot(sim: &Sim, snapshot: ArmSnapshot) {
    sim.world().snapshots.insert(id::key(&snapshot.id), snapshot);
}

pub fn add_host(sim: &Sim, host: ArmHost) {
    let own = ArmPrincipal {
        name: identity::of_vm(&host.vm),
        client_id: None,
        actions: host.own_actions.clone(),
        only_vm: Some(host.vm.clone()),
    };
    sim.identities().add(own);
    sim.world().hosts.insert(id::key(&host.vm), host);
}

pub fn imds(sim: &Arc<Sim>, vm: &str, runtime: &Handle) -> io::Result<String> {
    let key = id::key(vm);
    if let Some(url) = sim.imds.lock().expect("imds").get(&key) {
        return Ok(url.clone());
    }
    let (address, listener) = Serving::port(runtime)?;
    let url = format!("http://{address}");
    sim.imds.lock().expect("imds").insert(key, url.clone());
    runtime.spawn(serve::accept(sim.clone(), listener, Port::Imds(vm.to_owned())));
    Ok(url)
}

impl Drop for ArmSim {
    fn drop(&mut self) {
        self.clear_faults();
        self.serving.stop();
        self.sim.kill_scripts();
    }
}
