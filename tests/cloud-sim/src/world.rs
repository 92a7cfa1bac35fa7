//! What there is in the account: instances with volumes, hosts, snapshots. Plain data behind one lock.

use crate::buckets::Buckets;
use crate::clock::boot_ms;
use crate::ssm::commands::Command;
use crate::ssm::documents::Document;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub type Tags = BTreeMap<String, String>;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub id: String,
    /// `running`, `stopped`, `terminated`, …
    #[serde(default = "running")]
    pub state: String,
    #[serde(default)]
    pub tags: Tags,
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// The volume on this device is the root volume.
    #[serde(default = "root_device")]
    pub root_device: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    pub id: String,
    pub device: String,
    /// GiB.
    #[serde(default = "one")]
    pub size: u32,
    /// `gp3`, `io2`, `st1`, …
    #[serde(default = "gp3", rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub iops: Option<u32>,
    #[serde(default)]
    pub throughput: Option<u32>,
    #[serde(default)]
    pub encrypted: bool,
    #[serde(default)]
    pub tags: Tags,
    /// The bytes. `None`: snapshots of it are empty.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// Set by the double.
    #[serde(default)]
    pub instance: Option<String>,
    /// Boot time of the last accepted snapshot call.
    #[serde(skip)]
    pub last_snapshot_ms: Option<u64>,
    /// Of one that CreateVolume made: from what, when, by which token, at which rate.
    #[serde(skip)]
    pub snapshot: Option<String>,
    #[serde(skip)]
    pub made_ms: Option<u64>,
    #[serde(skip)]
    pub token: String,
    #[serde(skip)]
    pub rate: Option<u32>,
    #[serde(skip)]
    pub attached_ms: Option<u64>,
}

/// A machine with the SSM agent. Its name is its instance's id.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub id: String,
    /// The whole environment of scripts, beside PATH and SSM's own variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// In front of PATH.
    #[serde(default)]
    pub path_prefix: Option<PathBuf>,
    /// Absolute path in a script → path that is run instead.
    #[serde(default)]
    pub paths: BTreeMap<String, PathBuf>,
    /// `false`: ping status ConnectionLost, nothing is delivered.
    #[serde(default = "yes")]
    pub online: bool,
    /// `Linux` or `Windows`; preconditions see it.
    #[serde(default = "linux")]
    pub platform: String,
    /// An SSM Agent before 3.3.2746.0: no ENV_VAR interpolation, parameters are pasted into the text.
    #[serde(default)]
    pub old_agent: bool,
    #[serde(default)]
    pub deliver_ms: Option<u64>,
    #[serde(default)]
    pub reply_ms: Option<u64>,
    /// Its `/dev/disk`, in which the links of attached volumes appear.
    #[serde(default)]
    pub disks: Option<PathBuf>,
    /// IMDS on a port of its own; its credentials may snapshot only this instance (`ec2:SourceInstanceARN`).
    #[serde(default)]
    pub imds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Completes,
    /// `error`, so long after the call's start.
    Fails {
        after_ms: u64,
    },
    StaysPending,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: String,
    pub volume: String,
    pub instance: Option<String>,
    pub region: String,
    pub size: u32,
    pub description: String,
    pub tags: Tags,
    pub encrypted: bool,
    /// Same for all snapshots of one request.
    pub start_wall_ms: i64,
    pub start_boot_ms: u64,
    pub fate: Fate,
    pub complete_after_ms: u64,
    /// Set for the one that made its set fail.
    pub cause: Option<String>,
    /// The bytes as they were between these two moments of CLOCK_BOOTTIME.
    pub dir: Option<PathBuf>,
    pub copy_from_us: u64,
    pub copy_to_us: u64,
    pub bytes: u64,
    pub lock: Option<Lock>,
    pub shared_with: BTreeSet<String>,
    pub fast_restore: BTreeSet<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lock {
    pub mode: String,
    pub days: Option<u32>,
    pub until: Option<String>,
    pub cool_off_hours: Option<u32>,
    pub created_wall_ms: i64,
}

impl Snapshot {
    pub fn status(&self) -> &'static str {
        let age = boot_ms().saturating_sub(self.start_boot_ms);
        match self.fate {
            Fate::Fails { after_ms } if age >= after_ms => "error",
            Fate::Completes if age >= self.complete_after_ms => "completed",
            _ => "pending",
        }
    }

    /// Percent.
    pub fn progress(&self) -> u64 {
        match self.status() {
            "completed" => 100,
            _ => (boot_ms().saturating_sub(self.start_boot_ms) * 100 / self.complete_after_ms.max(1)).min(99),
        }
    }
}

#[derive(Default)]
pub struct World {
    pub instances: BTreeMap<String, Instance>,
    pub volumes: BTreeMap<String, Volume>,
    /// Instance → its volumes, by device.
    attached: BTreeMap<String, Vec<String>>,
    pub hosts: BTreeMap<String, Host>,
    pub snapshots: BTreeMap<String, Snapshot>,
    pub documents: BTreeMap<String, Document>,
    pub commands: BTreeMap<String, Command>,
    pub buckets: Buckets,
    /// Access key → principal.
    pub principals: BTreeMap<String, String>,
    pub plugged: Vec<crate::plug::Plugged>,
}

impl World {
    pub fn add_instance(&mut self, mut instance: Instance) {
        instance.volumes.sort_by(|a, b| a.device.cmp(&b.device));
        let ids: Vec<String> = instance.volumes.iter().map(|v| v.id.clone()).collect();
        for id in self.attached.insert(instance.id.clone(), ids).into_iter().flatten() {
            self.volumes.remove(&id);
        }
        for mut volume in instance.volumes.drain(..) {
            volume.instance = Some(instance.id.clone());
            self.volumes.insert(volume.id.clone(), volume);
        }
        self.instances.insert(instance.id.clone(), instance);
    }

    pub fn attach(&mut self, volume: &str, instance: &str, device: &str) {
        if let Some(v) = self.volumes.get_mut(volume) {
            (v.instance, v.device, v.attached_ms) = (Some(instance.to_owned()), device.to_owned(), Some(boot_ms()));
        }
        let mut all = self.attached.remove(instance).unwrap_or_default();
        all.push(volume.to_owned());
        all.sort_by_key(|id| self.volumes.get(id).map(|v| v.device.clone()));
        self.attached.insert(instance.to_owned(), all);
    }

    /// By device.
    pub fn volumes_of(&self, instance: &str) -> Vec<&Volume> {
        self.attached.get(instance).into_iter().flatten().filter_map(|id| self.volumes.get(id)).collect()
    }
}

/// `prefix-` and 17 hexadecimal digits.
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}-{}", &uuid::Uuid::new_v4().simple().to_string()[..17])
}

fn running() -> String {
    "running".into()
}
fn root_device() -> String {
    "/dev/xvda".into()
}
fn gp3() -> String {
    "gp3".into()
}
fn linux() -> String {
    "Linux".into()
}
fn one() -> u32 {
    1
}
fn yes() -> bool {
    true
}

impl Instance {
    pub fn new(id: &str) -> Self {
        Self { id: id.into(), state: running(), tags: Tags::new(), volumes: Vec::new(), root_device: root_device() }
    }
    pub fn state(mut self, state: &str) -> Self {
        self.state = state.into();
        self
    }
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }
    pub fn volume(mut self, volume: Volume) -> Self {
        self.volumes.push(volume);
        self
    }
}

/// A volume is being created, and attached, for so long.
const VOLUME_MS: u64 = 300;

impl Volume {
    pub fn status(&self) -> &'static str {
        let young = self.made_ms.is_some_and(|at| boot_ms().saturating_sub(at) < VOLUME_MS);
        match (&self.instance, young) {
            (Some(_), _) => "in-use",
            (None, true) => "creating",
            (None, false) => "available",
        }
    }
    pub fn attachment(&self) -> &'static str {
        if self.attached_ms.is_some_and(|at| boot_ms().saturating_sub(at) < VOLUME_MS) { "attaching" } else { "attached" }
    }
    /// 1 GiB of gp3.
    pub fn new(id: &str, device: &str) -> Self {
        Self {
            id: id.into(),
            device: device.into(),
            size: 1,
            kind: gp3(),
            iops: Some(3000),
            throughput: Some(125),
            encrypted: false,
            tags: Tags::new(),
            dir: None,
            instance: None,
            last_snapshot_ms: None,
            snapshot: None,
            made_ms: None,
            token: String::new(),
            rate: None,
            attached_ms: None,
        }
    }
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }
    pub fn kind(mut self, kind: &str) -> Self {
        self.kind = kind.into();
        self
    }
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }
}

impl Host {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            env: BTreeMap::new(),
            path_prefix: None,
            paths: BTreeMap::new(),
            online: true,
            platform: linux(),
            old_agent: false,
            deliver_ms: None,
            reply_ms: None,
            disks: None,
            imds: false,
        }
    }
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }
    /// Scripts that name `from` run `to`.
    pub fn path(mut self, from: &str, to: impl Into<PathBuf>) -> Self {
        self.paths.insert(from.into(), to.into());
        self
    }
    pub fn deliver_ms(mut self, ms: u64) -> Self {
        self.deliver_ms = Some(ms);
        self
    }
    pub fn disks(mut self, dir: impl Into<PathBuf>) -> Self {
        self.disks = Some(dir.into());
        self
    }
    pub fn offline(mut self) -> Self {
        self.online = false;
        self
    }
    pub fn imds(mut self) -> Self {
        self.imds = true;
        self
    }
}
