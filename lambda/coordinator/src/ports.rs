//! Where the coordinator's world begins: hosts (over SSM, Run Command), disks (snapshots), a clock. Adapters hold no policy:
//! they carry one call to the cloud and say what became of it, never guessing. "No answer" is an answer of its own.

use crate::order::Target;
use protocol::wire::{Facts, FreezeReply, Problem};
use protocol::{BackupId, HoldMs, Verdict, WallMs, Window};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;

/// A freeze order to one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeCall {
    pub id: BackupId,
    pub hold: HoldMs,
    pub issued_at: WallMs,
    pub not_after: WallMs,
    pub by: String,
    /// For host-held backups: the policy's name, for the tags.
    pub policy: String,
    /// For host-held backups whose snapshots the cloud itself makes, with the host's scripts around them.
    pub snapshots: Option<SnapshotCall>,
    /// No answer is waited for after this.
    pub answer_by: WallMs,
}

/// What became of a freeze order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "with")]
pub enum FreezeAnswer {
    Frozen(FreezeReply),
    /// The host or the cloud said no, for certain before anything was frozen.
    Refused(Problem),
    /// It failed; the host says that it is not frozen, or still frozen (`Thaw.LeftFrozen`).
    Failed(Problem),
    /// No answer, or one that cannot be trusted: it may have frozen, or may still freeze.
    Unknown(String),
}

/// What became of a thaw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "with")]
pub enum ThawAnswer {
    /// Confirmed not frozen; the window as the host judged it.
    Thawed(Window),
    /// Nothing of this id was frozen, and never will be: the host refuses the id from now on.
    NeverFrozen,
    /// Open, and asked for by another owner: not ours to thaw.
    NotOurs,
    /// The host answers, and cannot confirm "not frozen".
    StillFrozen(Problem),
    /// No answer.
    Unknown(String),
}

/// What became of a host-held backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "with")]
pub enum BackupAnswer {
    Done { verdict: Verdict, window: Box<Window>, snapshots: Vec<Made> },
    Refused(Problem),
    Failed(Problem),
    Unknown(String),
}

/// A snapshot call for all volumes of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotCall {
    pub id: BackupId,
    pub exclude_boot: bool,
    pub exclude_volumes: Vec<String>,
    pub snapshotter: crate::policy::Snapshotter,
    /// On every snapshot, in the same call.
    pub tags: BTreeMap<String, String>,
    /// After this the answer does not count any more.
    pub answer_by: WallMs,
}

/// One snapshot as the call's answer names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub snapshot: String,
    pub volume: String,
}

/// What became of a snapshot call. It is sent at most once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "with")]
pub enum SnapshotAnswer {
    /// The point in time of each is fixed.
    Accepted(Vec<Made>),
    /// The cloud said no; nothing was made.
    Failed(Problem),
    /// No answer in time: there may be a set.
    Unknown(String),
}

/// What the cloud knows about a host before the freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Why it cannot be snapshotted: stopped, unknown, no permission (dry run), volumes in a state that forbids it.
    pub problem: Option<Problem>,
    pub volumes: Vec<CloudVolume>,
}

/// A volume attached to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudVolume {
    /// The cloud's name: EBS volume id, resource id of a managed disk.
    pub volume: String,
    /// As the host's agent names it (`VolumeFacts::volume`): the EBS volume id, `lun:3`, `os`.
    pub key: String,
    /// As the cloud names the attachment: `/dev/sdf`, `lun:3`.
    pub device: String,
    pub boot: bool,
    /// What a restore must recreate: type, size, IOPS, throughput.
    pub kind: String,
    pub size_gib: u64,
    /// Snapshots of it that are still pending, and how many may be.
    pub pending: u32,
    pub pending_max: u32,
    /// When its last snapshot began.
    pub last_snapshot: Option<WallMs>,
}

impl CloudVolume {
    /// Is it in this list, by either name?
    pub fn named(&self, list: &[String]) -> bool {
        list.iter().any(|n| *n == self.volume || *n == self.key)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Pending,
    Completed,
    Failed,
}

/// A snapshot as the cloud lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub snapshot: String,
    pub volume: String,
    pub started: WallMs,
    pub state: State,
    /// 0 to 100.
    pub progress: u8,
    pub size_gib: u64,
    pub tags: BTreeMap<String, String>,
}

/// After the verdict `held`, outside any window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After<'a> {
    Copy(&'a crate::policy::CopyTo),
    Lock(&'a crate::policy::Lock),
    FastRestore(&'a [String]),
}

/// Orders to the agent on a host.
pub trait Hosts: Sync {
    /// `hold`: the one that will be asked for. An `Err` is told to people as it is.
    fn facts(&self, target: &Target, id: BackupId, hold: HoldMs, by: WallMs) -> impl Future<Output = Result<Facts, Problem>> + Send;
    fn freeze(&self, target: &Target, call: &FreezeCall) -> impl Future<Output = FreezeAnswer> + Send;
    /// `owner`: the order's. A window of the same id that another owner opened is left alone.
    fn thaw(&self, target: &Target, id: BackupId, owner: &str, by: WallMs) -> impl Future<Output = ThawAnswer> + Send;
    fn backup(&self, target: &Target, call: &FreezeCall) -> impl Future<Output = BackupAnswer> + Send;
}

/// Snapshots. Every call has a deadline of its own inside the adapter; `snapshot` is never retried, the others may be.
pub trait Disks: Sync {
    /// `tags`: a dry run of the snapshot call with them.
    fn look(&self, target: &Target, call: &SnapshotCall) -> impl Future<Output = Result<Look, Problem>> + Send;
    fn snapshot(&self, target: &Target, call: &SnapshotCall) -> impl Future<Output = SnapshotAnswer> + Send;
    /// Everything that carries this backup's id.
    fn find(&self, id: BackupId) -> impl Future<Output = Result<Vec<Snapshot>, Problem>> + Send;
    /// The same tags on all of them, in one call.
    fn tag(&self, snapshots: &[String], tags: &BTreeMap<String, String>) -> impl Future<Output = Result<(), Problem>> + Send;
    /// Copy, lock, fast restore.
    fn after(&self, snapshots: &[Made], what: &After<'_>) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// The fleet: which hosts a policy selects. An unknown tag selects none, which is an error of whoever asks.
pub trait Fleet: Sync {
    fn select(&self, select: &crate::policy::Select) -> impl Future<Output = Result<Vec<Candidate>, Problem>> + Send;
    /// Where it looks, for people: the region.
    fn place(&self) -> &str;
}

/// A host that a policy selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub target: Target,
    pub tags: BTreeMap<String, String>,
    pub volumes: Vec<String>,
}

/// Every snapshot that carries our tags, and their removal.
pub trait Shelf: Sync {
    fn all(&self) -> impl Future<Output = Result<Vec<Snapshot>, Problem>> + Send;
    fn delete(&self, snapshot: &str) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// Where volumes go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Berth {
    /// The cloud's name of the place in which a volume must be made: availability zone; region and zone.
    pub place: String,
    /// Device names that something has: `/dev/sdf`, `lun:3`.
    pub taken: Vec<String>,
}

/// A volume that is to be made of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewVolume {
    /// Of what is made for one restore; a repetition finds it by this.
    pub run: String,
    pub snapshot: String,
    pub kind: crate::restore::Kind,
    pub size_gib: u64,
    pub place: String,
    pub rate: Option<u32>,
    /// For people.
    pub of: String,
}

/// A volume that a run has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeVolume {
    pub volume: String,
    pub snapshot: String,
    pub state: VolumeState,
    /// Where it is, or is being, attached.
    pub device: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeState {
    Making,
    /// Can be attached.
    Ready,
    Attaching,
    /// To the host of the plan.
    Attached,
    /// To another one.
    Elsewhere(String),
    Failed(String),
}

/// Volumes for a restore. Every call may be repeated.
pub trait Volumes: Sync {
    /// The host must be there.
    fn berth(&self, target: &Target) -> impl Future<Output = Result<Berth, Problem>> + Send;
    /// Everything that this plan's run has made.
    fn made(&self, plan: &crate::restore::Plan) -> impl Future<Output = Result<Vec<MadeVolume>, Problem>> + Send;
    /// The same again makes no second one. The volume's name.
    fn make(&self, target: &Target, planned: &crate::restore::Planned) -> impl Future<Output = Result<String, Problem>> + Send;
    fn attach(&self, target: &Target, volumes: &[(crate::restore::Planned, String)]) -> impl Future<Output = Result<(), Problem>> + Send;
    /// As the host's agent names it.
    fn key(&self, planned: &crate::restore::Planned, volume: &str) -> String;
}

/// Orders of a restore to the agent on a host.
pub trait Orders: Sync {
    /// The answer's body; an error is told to people as it is.
    fn restore(
        &self,
        target: &Target,
        order: &crate::restore::RestoreOrder,
        by: WallMs,
    ) -> impl Future<Output = Result<serde_json::Value, Problem>> + Send;
}

/// Wall-clock time that never steps inside one process: read once, then advanced by a monotonic clock.
pub trait Clock: Sync {
    fn now(&self) -> WallMs;
    fn sleep_until(&self, at: WallMs) -> impl Future<Output = ()> + Send;
}
