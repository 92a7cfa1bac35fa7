//! Hosts as instances of the double: each database lies on an emulated volume, each agent is reached by the documents of
//! `infra/aws/documents.yaml`.

use crate::host::{Host, Setup, What, snapfreeze};
use cloud_sim::{CloudSim, Config, Instance, Volume};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One instance: its host, and what the cloud calls it.
pub struct Member {
    pub id: String,
    pub volume: String,
    pub host: Host,
}

pub struct Fleet {
    pub sim: CloudSim,
    pub members: Vec<Member>,
    pub dir: tempfile::TempDir,
}

/// The tag by which the tests' policies select.
pub const TAG: (&str, &str) = ("snapfreeze", "nightly");

/// A host whose limits leave room for a hold that crosses SSM on a loaded machine.
pub fn setup() -> Setup {
    Setup {
        hold_ms: 20_000,
        window: "wd_suspend_limit = \"60s\"\n".into(),
        margins: "watchdog = \"1s\"\nthaw_budget = \"5s\"\nfreeze = \"10s\"\nrung = \"2s\"\nguard = \"2s\"\n".into(),
        ..Setup::default()
    }
}

pub fn instance_id(n: usize) -> String {
    format!("i-{n:017x}")
}
pub fn volume_id(n: usize) -> String {
    format!("vol-{n:017x}")
}

impl Fleet {
    /// `n` hosts on `iris-sim`, tagged [`TAG`], their documents in place.
    pub fn iris(n: usize, config: impl FnOnce(PathBuf) -> Config, setup: &Setup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let sim = CloudSim::start(config(dir.path().join("cloud"))).expect("the double starts");
        for (name, content) in documents() {
            sim.put_document(&name, &content).expect("SSM takes the document");
        }
        let mut fleet = Self { sim, members: Vec::new(), dir };
        for i in 1..=n {
            fleet.add(i, setup);
        }
        fleet
    }

    /// No host and no document yet: what is there comes from an emulator behind the double.
    pub fn empty(config: impl FnOnce(PathBuf) -> Config) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let sim = CloudSim::start(config(dir.path().join("cloud"))).expect("the double starts");
        Self { sim, members: Vec::new(), dir }
    }

    /// One more host, and its instance.
    pub fn add(&mut self, n: usize, setup: &Setup) -> &Member {
        self.add_as(&instance_id(n), &format!("vol-{:017x}", 0x1000 + n), &volume_id(n), setup)
    }

    /// The same under given names.
    pub fn add_as(&mut self, id: &str, root: &str, volume: &str, setup: &Setup) -> &Member {
        let (id, volume) = (id.to_owned(), volume.to_owned());
        let mut setup = setup.clone();
        setup.more.push_str(&format!("\n[layout]\nvolumes = {{ \"{{disk}}/iris\" = \"{volume}\" }}\n"));
        let host = Host::iris(setup);
        self.sim.add_instance(
            Instance::new(&id)
                .tag(TAG.0, TAG.1)
                .volume(Volume::new(root, "/dev/xvda"))
                .volume(Volume::new(&volume, "/dev/sdf").dir(host.engine.sim().root.clone())),
        );
        self.sim.add_host(ssm_host(&id, &host));
        self.members.push(Member { id, volume, host });
        self.members.last().expect("just pushed")
    }

    pub fn member(&self, id: &str) -> &Member {
        self.members.iter().find(|m| m.id == id).expect("a member")
    }

    /// The bytes of each snapshot of a database's volume: is the image clean, by `iris-sim verify`?
    pub fn images(&self) -> Vec<(String, bool)> {
        let of_database = |v: &str| self.members.iter().any(|m| m.volume == v);
        let dirs = self.sim.snapshots().into_iter().filter(|s| of_database(&s.volume));
        dirs.map(|s| (s.id.clone(), s.dir.as_deref().is_some_and(clean))).collect()
    }

    /// Freezes of all hosts that the engines saw.
    pub fn freezes(&self) -> usize {
        let frozen = |m: &Member| m.host.engine.history().iter().filter(|h| h.what == What::Frozen).count();
        self.members.iter().map(frozen).sum()
    }

    pub fn any_frozen(&self) -> bool {
        self.members.iter().any(|m| m.host.engine.frozen())
    }
}

/// Name and content of every SSM document, as the template has them.
pub fn documents() -> Vec<(String, String)> {
    let text = crate::house::rules::read("infra/aws/documents.yaml");
    let template: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
    let resources = template["Resources"].as_object().expect("resources").values();
    let documents = resources.filter(|r| r["Type"] == "AWS::SSM::Document").map(|r| &r["Properties"]);
    documents.map(|p| (p["Name"].as_str().expect("a name").to_owned(), p["Content"].to_string())).collect()
}

/// What SSM needs to run a document on a host: the program's path rewritten to the one under test.
pub fn ssm_host(id: &str, host: &Host) -> cloud_sim::Host {
    cloud_sim::Host::new(id)
        .disks(host.disk.path().join("dev/disk"))
        .env("SNAPFREEZE_CONFIG", &host.config_path().to_string_lossy())
        .env("SNAPFREEZE_POINTS", &host.points.path().to_string_lossy())
        .path("/usr/bin/snapfreeze", snapfreeze())
}

/// `iris-sim verify`: every block whole, nothing that a power failure could not have left.
#[allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]
pub fn clean(image: &Path) -> bool {
    let out = Command::new(crate::host::iris_sim()).arg("verify").arg(image).output().expect("iris-sim runs");
    out.status.success()
}
