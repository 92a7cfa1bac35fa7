//! What there is in the subscriptions. Plain data behind one lock, keyed by lower-cased ids.

use super::id;
use super::lro::Operation;
use super::points::{Collection, Point};
use super::run::Run;
use super::snapshots::ArmSnapshot;
use crate::world::Tags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    pub subscription: String,
    pub group: String,
    pub name: String,
    #[serde(default = "westeurope")]
    pub location: String,
    #[serde(default = "size")]
    pub size: String,
    /// `running`, `deallocated`, `stopped`, `starting`, …
    #[serde(default = "running")]
    pub power: String,
    #[serde(default)]
    pub tags: Tags,
    #[serde(default)]
    pub zones: Vec<String>,
    pub os_disk: ArmDisk,
    #[serde(default)]
    pub data_disks: Vec<Attached>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    pub lun: u32,
    /// `None`, `ReadOnly`, `ReadWrite`
    #[serde(default = "caching")]
    pub caching: String,
    pub disk: ArmDisk,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmDisk {
    pub name: String,
    /// Absent: that of the VM.
    #[serde(default)]
    pub group: Option<String>,
    #[serde(default = "premium")]
    pub sku: String,
    /// GiB.
    #[serde(default = "one")]
    pub size: u32,
    #[serde(default)]
    pub iops: Option<u64>,
    #[serde(default)]
    pub mbps: Option<u64>,
    #[serde(default)]
    pub tags: Tags,
    /// `maxShares` above 1.
    #[serde(default)]
    pub shared: bool,
    /// The bytes. `None`: snapshots of it are empty.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// Set by the double: the disk's id, its VM's id and location.
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub vm: String,
    #[serde(default)]
    pub location: String,
    /// Boot times of the last snapshots.
    #[serde(skip)]
    pub snapshots_ms: Vec<u64>,
    /// Of one that was made of a snapshot.
    #[serde(skip)]
    pub source: Option<String>,
    #[serde(skip)]
    pub zones: Vec<String>,
    /// Its provisioningState.
    #[serde(skip)]
    pub state: Option<String>,
}

/// A machine with an agent that runs commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmHost {
    /// The VM's id.
    pub vm: String,
    /// The whole environment of scripts, beside PATH and named parameters.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// In front of PATH.
    #[serde(default)]
    pub path_prefix: Option<PathBuf>,
    /// Absolute path in a script → path that is run instead.
    #[serde(default)]
    pub paths: BTreeMap<String, PathBuf>,
    /// `false`: the agent does not answer; what is asked waits for ever, or until it does.
    #[serde(default = "yes")]
    pub online: bool,
    #[serde(default)]
    pub deliver_ms: Option<u64>,
    #[serde(default)]
    pub reply_ms: Option<u64>,
    /// Its `/dev/disk`, in which the links of attached disks appear.
    #[serde(default)]
    pub disks: Option<PathBuf>,
    /// VMSnapshotScriptPluginConfig.json: application consistent restore points run these.
    #[serde(default)]
    pub scripts: Option<PrePost>,
    /// Actions that the VM's own identity has; absent: everything on its own VM, disks and their snapshots.
    #[serde(default)]
    pub own_actions: Option<Vec<String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrePost {
    pub pre: PathBuf,
    pub post: PathBuf,
    /// Of each; the script is not killed then.
    #[serde(default = "thirty")]
    pub timeout_ms: u64,
    /// `continueBackupOnFailure`
    #[serde(default = "yes")]
    pub continue_on_failure: bool,
}

#[derive(Default)]
pub struct World {
    /// (subscription, group), lower-cased → its own spelling and location.
    pub groups: BTreeMap<(String, String), (String, String)>,
    pub vms: BTreeMap<String, Vm>,
    pub disks: BTreeMap<String, ArmDisk>,
    pub snapshots: BTreeMap<String, ArmSnapshot>,
    /// Snapshots that were deleted, or vanished.
    pub gone: Vec<ArmSnapshot>,
    pub collections: BTreeMap<String, Collection>,
    pub points: BTreeMap<String, Point>,
    pub runs: BTreeMap<String, Run>,
    /// Every run ever, in the order of its acceptance.
    pub ran: Vec<super::run::ArmRun>,
    pub hosts: BTreeMap<String, ArmHost>,
    /// VMs whose one slot of the action is taken, by the operation.
    pub slots: BTreeMap<String, String>,
    pub operations: BTreeMap<String, Operation>,
    pub plugged: Vec<crate::plug::Plugged>,
}

impl World {
    pub fn add_vm(&mut self, mut vm: Vm) {
        self.add_group(&vm.subscription, &vm.group, &vm.location);
        let id = vm.id();
        self.disks.retain(|_, d| id::key(&d.vm) != id::key(&id));
        vm.data_disks.sort_by_key(|a| a.lun);
        let (subscription, group, location) = (vm.subscription.clone(), vm.group.clone(), vm.location.clone());
        let all = std::iter::once(&mut vm.os_disk).chain(vm.data_disks.iter_mut().map(|a| &mut a.disk));
        for disk in all {
            let of = disk.group.clone().unwrap_or_else(|| group.clone());
            disk.id = id::of(&subscription, &of, "disks", &disk.name);
            (disk.vm, disk.location) = (id.clone(), location.clone());
            self.groups.entry((id::key(&subscription), id::key(&of))).or_insert((of, location.clone()));
            self.disks.insert(id::key(&disk.id), disk.clone());
        }
        self.vms.insert(id::key(&id), vm);
    }

    pub fn add_group(&mut self, subscription: &str, group: &str, location: &str) {
        let spelled = (group.to_owned(), location.to_owned());
        self.groups.entry((id::key(subscription), id::key(group))).or_insert(spelled);
    }

    /// The snapshot is no more.
    pub fn forget(&mut self, key: &str) {
        let gone = self.snapshots.remove(key);
        self.gone.extend(gone);
    }

    pub fn host(&self, vm: &str) -> Option<&ArmHost> {
        self.hosts.get(&id::key(vm))
    }
}

fn westeurope() -> String {
    "westeurope".into()
}
fn size() -> String {
    "Standard_D4s_v3".into()
}
fn running() -> String {
    "running".into()
}
fn caching() -> String {
    "None".into()
}
fn premium() -> String {
    "Premium_LRS".into()
}
fn one() -> u32 {
    1
}
fn yes() -> bool {
    true
}
fn thirty() -> u64 {
    30_000
}

impl Vm {
    /// Running in westeurope, with an OS disk `NAME-os` of no bytes.
    pub fn new(subscription: &str, group: &str, name: &str) -> Self {
        Self {
            subscription: subscription.into(),
            group: group.into(),
            name: name.into(),
            location: westeurope(),
            size: size(),
            power: running(),
            tags: Tags::new(),
            zones: Vec::new(),
            os_disk: ArmDisk::new(&format!("{name}-os")),
            data_disks: Vec::new(),
        }
    }
    pub fn id(&self) -> String {
        id::of(&self.subscription, &self.group, "virtualMachines", &self.name)
    }
    pub fn location(mut self, location: &str) -> Self {
        self.location = location.into();
        self
    }
    pub fn power(mut self, power: &str) -> Self {
        self.power = power.into();
        self
    }
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }
    pub fn os_disk(mut self, disk: ArmDisk) -> Self {
        self.os_disk = disk;
        self
    }
    pub fn data_disk(mut self, lun: u32, disk: ArmDisk) -> Self {
        self.data_disks.push(Attached { lun, caching: caching(), disk });
        self
    }
    /// Host caching of the data disk on this LUN: `ReadOnly`, `ReadWrite`.
    pub fn caching(mut self, lun: u32, caching: &str) -> Self {
        self.data_disks.iter_mut().filter(|a| a.lun == lun).for_each(|a| a.caching = caching.into());
        self
    }
}

impl ArmDisk {
    /// 1 GiB of Premium_LRS.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            group: None,
            sku: premium(),
            size: 1,
            iops: None,
            mbps: None,
            tags: Tags::new(),
            shared: false,
            dir: None,
            id: String::new(),
            vm: String::new(),
            location: String::new(),
            snapshots_ms: Vec::new(),
            source: None,
            zones: Vec::new(),
            state: None,
        }
    }
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }
    pub fn sku(mut self, sku: &str) -> Self {
        self.sku = sku.into();
        self
    }
    /// GiB.
    pub fn size(mut self, size: u32) -> Self {
        self.size = size;
        self
    }
    pub fn iops(mut self, iops: u64) -> Self {
        self.iops = Some(iops);
        self
    }
    pub fn mbps(mut self, mbps: u64) -> Self {
        self.mbps = Some(mbps);
        self
    }
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.into());
        self
    }
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }
    /// Its snapshots are copied in the background, and are of no use before 100 %.
    pub fn hydrates(&self) -> bool {
        ["PremiumV2_LRS", "UltraSSD_LRS"].contains(&self.sku.as_str())
    }
}

impl ArmHost {
    pub fn new(vm: &str) -> Self {
        Self {
            vm: vm.into(),
            env: BTreeMap::new(),
            path_prefix: None,
            paths: BTreeMap::new(),
            online: true,
            deliver_ms: None,
            reply_ms: None,
            disks: None,
            scripts: None,
            own_actions: None,
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
    pub fn path_prefix(mut self, dir: impl Into<PathBuf>) -> Self {
        self.path_prefix = Some(dir.into());
        self
    }
    pub fn deliver_ms(mut self, ms: u64) -> Self {
        self.deliver_ms = Some(ms);
        self
    }
    pub fn reply_ms(mut self, ms: u64) -> Self {
        self.reply_ms = Some(ms);
        self
    }
    pub fn offline(mut self) -> Self {
        self.online = false;
        self
    }
    pub fn disks(mut self, dir: impl Into<PathBuf>) -> Self {
        self.disks = Some(dir.into());
        self
    }
    pub fn pre_post(mut self, pre: impl Into<PathBuf>, post: impl Into<PathBuf>) -> Self {
        self.scripts = Some(PrePost { pre: pre.into(), post: post.into(), timeout_ms: thirty(), continue_on_failure: true });
        self
    }
    pub fn own_actions(mut self, actions: &[&str]) -> Self {
        self.own_actions = Some(actions.iter().map(|a| (*a).to_owned()).collect());
        self
    }
}
