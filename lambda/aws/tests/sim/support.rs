//! A cloud of doubles: instances with volumes, hosts on which the real SSM documents run a stub of the agent.

use aws::{Clients, Ebs, Ssm};
use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use cloud_sim::{CloudSim, Config, Host, Instance, Volume};
use common::{Limiter, WallClock};
use coordinator::Target;
use coordinator::ports::{Clock, FreezeCall, SnapshotCall};
use protocol::{BackupId, HoldMs, WallMs};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub const REGION: &str = "us-east-1";
pub const HOST: &str = "i-0000000000000000a";

pub struct Cloud {
    pub sim: CloudSim,
    dir: tempfile::TempDir,
}

impl Cloud {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::quick(dir.path().join("cloud"));
        change(&mut config);
        let sim = CloudSim::start(config).unwrap();
        for (name, content) in documents() {
            sim.put_document(&name, &content).unwrap();
        }
        let cloud = Self { sim, dir };
        cloud.host(HOST, 2);
        cloud
    }

    /// An instance with a root volume and `data` others, `vol-ID-1` and on, and the stub on it.
    pub fn host(&self, id: &str, data: usize) {
        let tag = &id[id.len() - 1..];
        let mut instance = Instance::new(id).tag("snapfreeze", "nightly").tag("Name", &format!("db-{tag}"));
        instance = instance.volume(Volume::new(&format!("vol-{tag}-root"), "/dev/xvda"));
        for n in 1..=data {
            instance = instance.volume(Volume::new(&format!("vol-{tag}-{n}"), &format!("/dev/sd{}", char::from(b'e' + n as u8))));
        }
        self.sim.add_instance(instance);
        let stub = self.stub(id);
        std::fs::create_dir_all(&stub).unwrap();
        let agent = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/agent.sh");
        let host = Host::new(id)
            .env("STUB", stub.to_str().unwrap())
            .env("STUB_HOST", &format!("db-{tag}"))
            .env("STUB_VOLUME", &format!("vol-{tag}-1"))
            .path("/usr/bin/snapfreeze", agent);
        self.sim.add_host(host);
    }

    /// The stub's memory.
    pub fn stub(&self, id: &str) -> PathBuf {
        self.dir.path().join("stub").join(id)
    }

    /// What the stub's verb prints instead, and its exit code.
    pub fn says(&self, verb: &str, out: &str, code: u8) {
        std::fs::write(self.stub(HOST).join(format!("{verb}.out")), out).unwrap();
        std::fs::write(self.stub(HOST).join(format!("{verb}.rc")), code.to_string()).unwrap();
    }

    /// `frozen`, `thawed`, or empty when it was never frozen.
    pub fn state(&self, id: &str) -> String {
        std::fs::read_to_string(self.stub(id).join("state")).unwrap_or_default().trim().to_owned()
    }

    /// How often the stub was asked for it.
    pub fn asked(&self, id: &str, verb: &str) -> usize {
        let all = std::fs::read_to_string(self.stub(id).join("asked")).unwrap_or_default();
        all.lines().filter(|l| l.starts_with(&format!("{verb} "))).count()
    }

    pub fn clients(&self) -> Clients {
        self.clients_in(REGION, false)
    }

    pub fn clients_in(&self, region: &str, read_only: bool) -> Clients {
        let keys = Credentials::new("AKIDCOORDINATOR", "secret", None, None, "test");
        let config = aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region.to_owned()))
            .endpoint_url(self.sim.endpoint())
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .http_client(aws::client::http())
            .build();
        Clients::from_config(config, read_only).unwrap()
    }

    pub fn ebs(&self) -> Ebs {
        Ebs::new(self.clients(), WallClock::start())
    }

    pub fn ssm(&self) -> Ssm {
        Ssm::new(self.clients(), WallClock::start(), Arc::new(Limiter::new(1000, 100)), aws::ssm::DOCUMENTS)
    }

    pub fn count(&self, action: &str) -> usize {
        self.sim.calls_of(action).len()
    }
}

/// The SSM documents as they are deployed.
fn documents() -> Vec<(String, String)> {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/aws/documents.yaml")).unwrap();
    let template: Value = serde_saphyr::from_str(&template).unwrap();
    let resources = template["Resources"].as_object().unwrap();
    let of = |name: &str| {
        let document = resources.values().map(|r| &r["Properties"]).find(|p| p["Name"] == name).unwrap();
        (name.to_owned(), document["Content"].to_string())
    };
    ["snapfreeze-facts", "snapfreeze-freeze", "snapfreeze-thaw", "snapfreeze-backup"].map(of).to_vec()
}

pub fn target(id: &str) -> Target {
    Target { id: id.into(), name: String::new() }
}

pub fn new_id() -> BackupId {
    BackupId::from_uuid(uuid::Uuid::now_v7())
}

pub fn in_ms(ms: i64) -> WallMs {
    WallMs(WallClock::start().now().0 + ms)
}

pub fn freeze_call(id: BackupId, answer_ms: i64) -> FreezeCall {
    FreezeCall {
        id,
        hold: HoldMs::new(60_000).unwrap(),
        issued_at: in_ms(0),
        not_after: in_ms(60_000),
        by: "nightly 0197c4a2".into(),
        policy: "nightly".into(),
        snapshots: None,
        answer_by: in_ms(answer_ms),
    }
}

pub fn snapshot_call(id: BackupId) -> SnapshotCall {
    let tags = BTreeMap::from([
        ("snapfreeze:schema".to_owned(), "1".to_owned()),
        ("snapfreeze:backup-id".to_owned(), id.to_string()),
        ("snapfreeze:verdict".to_owned(), "pending".to_owned()),
    ]);
    let snapshotter = coordinator::policy::Snapshotter::Disks;
    SnapshotCall { id, exclude_boot: false, exclude_volumes: Vec::new(), snapshotter, tags, answer_by: in_ms(5_000) }
}

pub fn policy_json(more: Value) -> Value {
    let mut p = json!({ "name": "nightly", "select": { "tags": { "snapfreeze": "nightly" } } });
    for (key, value) in more.as_object().unwrap() {
        p[key] = value.clone();
    }
    p
}
