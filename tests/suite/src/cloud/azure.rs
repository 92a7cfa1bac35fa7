//! Hosts as virtual machines of the ARM double: each database lies on three managed disks, each agent is reached by Run Command.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use super::fleet::TAG;
use crate::host::{Host, Setup, What, snapfreeze};
use cloud_sim::arm::{ArmConfig, ArmDisk, ArmHost, ArmSim, ArmSnapshot, Vm};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const SUBSCRIPTION: &str = "11111111-2222-3333-4444-555555555555";
pub const GROUP: &str = "rg-db";

/// One VM: its host, and what Azure calls it.
pub struct AzureMember {
    pub id: String,
    pub name: String,
    pub host: Host,
}

pub struct AzureFleet {
    pub sim: ArmSim,
    pub members: Vec<AzureMember>,
    pub dir: tempfile::TempDir,
}

/// What lies on a member's data disks, by LUN: the instance with its databases, the journals, the write image journal.
pub const DISKS: [&str; 3] = ["iris", "jrn", "wij"];

impl AzureMember {
    pub fn disk_name(&self, lun: usize) -> String {
        format!("{}-{}", self.name, DISKS[lun])
    }

    /// Is it a snapshot of one of this member's disks?
    pub fn owns(&self, s: &ArmSnapshot) -> bool {
        let disk = s.disk_id.rsplit('/').next().unwrap_or_default();
        disk.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('-'))
    }

    /// Freezes by the engine's own history, in milliseconds of boot time.
    pub fn windows(&self) -> Vec<(u64, u64)> {
        let history = self.host.engine.history();
        let frozen = history.iter().enumerate().filter(|(_, h)| h.what == What::Frozen);
        frozen
            .map(|(i, h)| {
                let end = history[i + 1..].iter().find(|h| matches!(h.what, What::Thawed | What::LimitThawed));
                (h.at_ms, end.map_or(u64::MAX, |h| h.at_ms))
            })
            .collect()
    }
}

impl AzureFleet {
    /// `n` hosts on `iris-sim`, tagged [`TAG`].
    pub fn iris(n: usize, config: impl FnOnce(PathBuf) -> ArmConfig, setup: &Setup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let sim = ArmSim::start(config(dir.path().join("cloud"))).expect("the double starts");
        let mut fleet = Self { sim, members: Vec::new(), dir };
        for i in 1..=n {
            fleet.add(&format!("db{i}"), setup);
        }
        fleet
    }

    /// One more host, and its VM.
    pub fn add(&mut self, name: &str, setup: &Setup) -> &AzureMember {
        let disk = tempfile::tempdir().expect("a directory");
        let of = |what: &str| disk.path().join(what).display().to_string();
        for d in ["jrn/1", "jrn/2", "wij"] {
            std::fs::create_dir_all(disk.path().join(d)).expect("a directory");
        }
        let mut setup = setup.clone();
        let places = ["--journal", &of("jrn/1"), "--altjournal", &of("jrn/2"), "--wij", &of("wij")].map(String::from);
        setup.sim.extend(places);
        let volumes: Vec<String> = DISKS.iter().enumerate().map(|(lun, d)| format!("\"{{disk}}/{d}\" = \"lun:{lun}\"")).collect();
        setup.more.push_str(&format!("\n[layout]\nvolumes = {{ {} }}\n", volumes.join(", ")));
        let dirs = DISKS.map(|d| disk.path().join(d));
        let host = Host::iris_on(disk, setup);
        let mut vm = Vm::new(SUBSCRIPTION, GROUP, name).tag(TAG.0, TAG.1).os_disk(ArmDisk::new(&format!("{name}-os")));
        for (lun, (what, dir)) in (0u32..).zip(DISKS.iter().zip(dirs)) {
            vm = vm.data_disk(lun, ArmDisk::new(&format!("{name}-{what}")).dir(dir));
        }
        let id = vm.id();
        self.sim.add_vm(vm);
        self.sim.add_host(run_host(&id, &host));
        self.members.push(AzureMember { id, name: name.into(), host });
        self.members.last().expect("just pushed")
    }

    /// Snapshots by backup id.
    pub fn sets(&self) -> BTreeMap<String, Vec<ArmSnapshot>> {
        let mut sets: BTreeMap<String, Vec<ArmSnapshot>> = BTreeMap::new();
        for s in self.sim.snapshots() {
            sets.entry(s.tags.get("snapfreeze:backup-id").cloned().unwrap_or_default()).or_default().push(s);
        }
        sets
    }

    /// Of each set of this member with all data disks: are the bytes clean together, by `iris-sim verify`?
    pub fn images(&self, m: &AzureMember) -> Vec<(String, bool)> {
        let sets = self.sets().into_iter().map(|(id, set)| {
            let of = |what: &str| set.iter().find(|s| s.disk_id.ends_with(&format!("/{}-{what}", m.name))).and_then(|s| s.dir.clone());
            let dirs: Option<Vec<PathBuf>> = DISKS.iter().map(|d| of(d)).collect();
            (id, dirs.is_some_and(|d| clean(&d)))
        });
        sets.collect()
    }

    /// Do the copies of these snapshots lie inside freezes of this member? `false` without any of its disks.
    pub fn in_window(&self, m: &AzureMember, set: &[ArmSnapshot]) -> bool {
        let own: Vec<&ArmSnapshot> = set.iter().filter(|s| m.owns(s)).collect();
        let windows = m.windows();
        let inside = |s: &&ArmSnapshot| {
            let (from, to) = (s.copy_from_us / 1000, s.copy_to_us.div_ceil(1000));
            s.copy_to_us > 0 && windows.iter().any(|(f, t)| *f <= from && to <= *t)
        };
        !own.is_empty() && own.iter().all(inside)
    }

    pub fn freezes(&self) -> usize {
        self.members.iter().map(|m| m.windows().len()).sum()
    }

    pub fn any_frozen(&self) -> bool {
        self.members.iter().any(|m| m.host.engine.frozen())
    }

    /// A program of ours that talks to the double with the identity of the place where it runs.
    pub fn program(&self, program: &Path, args: &[&str]) -> Command {
        let mut c = Command::new(program);
        c.args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SNAPFREEZE_ARM_ENDPOINT", self.sim.endpoint())
            .env("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION)
            .envs(self.sim.identity_env())
            .env("XDG_STATE_HOME", self.dir.path())
            .stdin(Stdio::null());
        c
    }
}

/// What Run Command needs to run a script on a host: the program's path rewritten to the one under test.
pub fn run_host(id: &str, host: &Host) -> ArmHost {
    ArmHost::new(id)
        .disks(host.disk.path().join("dev/disk"))
        .env("SNAPFREEZE_CONFIG", &host.config_path().to_string_lossy())
        .env("SNAPFREEZE_POINTS", &host.points.path().to_string_lossy())
        .path("/usr/bin/snapfreeze", snapfreeze())
}

/// `iris-sim verify` of the directories together: every block whole, nothing that a power failure could not have left.
pub fn clean(dirs: &[PathBuf]) -> bool {
    let out = Command::new(crate::host::iris_sim()).arg("verify").args(dirs).output().expect("iris-sim runs");
    out.status.success()
}
