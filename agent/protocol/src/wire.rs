//! The agent API's bodies (`docs/openapi.json`), and the last line that SSM and Run Command trust.

use crate::outcome::{InstanceMarks, Verdict, Window};
use crate::{BackupId, Code, InstanceName, WallMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `POST /v1/freezes`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    pub id: BackupId,
    /// Empty: every configured instance.
    #[serde(default)]
    pub instances: Vec<InstanceName>,
    /// 1000 to 1179000; absent: the configured hold.
    #[serde(default)]
    pub hold_ms: Option<u64>,
    /// Wall clock of the sender; with `not_after` both or none.
    #[serde(default)]
    pub issued_at: Option<WallMs>,
    #[serde(default)]
    pub not_after: Option<WallMs>,
    /// Who asks, for `status` and the records: at most 128 characters.
    #[serde(default)]
    pub by: String,
}

/// 200 of `POST /v1/freezes`: the set is frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeReply {
    pub schema: u32,
    pub id: BackupId,
    /// Milliseconds until the host thaws by itself, at the moment of this reply.
    pub remaining_ms: u64,
    pub frozen_at: WallMs,
    pub freeze_ms: u64,
    pub instances: Vec<InstanceMarks>,
    pub warnings: Vec<String>,
    /// Who asked first. A repeated order gets the first one's answer: who finds another name here does not own the window.
    #[serde(default)]
    pub by: String,
    /// How long the page cache took to be written to the disks after the freeze. `None`: it was not, as in every reply of the
    /// agent itself; the command line fills it in, and `remaining_ms` is then the time after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_ms: Option<u64>,
}

/// `POST /v1/freezes/{id}/thaw`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThawRequest {
    /// Who asks. Another name than the open freeze's `by` leaves that freeze alone (`Thaw.NotYours`); absent: whoever opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// 200 of `POST /v1/freezes/{id}/thaw`: thawed, and what the window was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThawReply {
    pub schema: u32,
    #[serde(flatten)]
    pub window: Window,
}

/// `GET /v1/freezes/{id}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeState {
    pub schema: u32,
    pub id: BackupId,
    pub phase: Phase,
    pub window: Option<Window>,
}

/// Where the machine is. `Ended` and `Tombstone` are ids of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Idle,
    Arming,
    Freezing,
    Frozen,
    Thawing,
    Guarding,
    Ended,
    Tombstone,
}

/// IRIS's `IsWDSuspended`, for any engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "frozen", content = "why")]
pub enum Frozen {
    Yes,
    No,
    Unknown(String),
}

impl Frozen {
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// `GET /v1/frozen`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenReply {
    pub schema: u32,
    pub instances: Vec<InstanceFrozen>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFrozen {
    pub instance: InstanceName,
    #[serde(flatten)]
    pub frozen: Frozen,
}

/// `GET /v1/status`: is anything frozen, since when, by whom, when will it thaw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    pub schema: u32,
    pub agent_version: String,
    pub phase: Phase,
    pub id: Option<BackupId>,
    pub by: String,
    pub instances: Vec<InstanceName>,
    pub since: Option<WallMs>,
    pub thaw_in_ms: Option<u64>,
    pub watchdog_pid: Option<u32>,
    pub left_frozen: bool,
    pub alarms: Vec<String>,
    pub last: Option<Window>,
    /// Who asked for the last window (`by` of its freeze); empty from an agent that does not say, or after its restart.
    #[serde(default)]
    pub last_by: String,
}

/// Who asks for a freeze as Azure Backup's script: `by` of `hook azure-backup`.
pub const BY_AZURE_BACKUP: &str = "azure-backup";

/// `snapfreeze facts`: everything about this host that a coordinator decides on before a freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub schema: u32,
    pub agent_version: String,
    pub host: String,
    /// This host's wall clock.
    pub now: WallMs,
    pub phase: Phase,
    pub left_frozen: bool,
    /// The largest hold that the configured limits allow.
    pub largest_hold_ms: u64,
    pub instances: Vec<InstanceFacts>,
    /// Every cloud volume that carries a path of the instances.
    pub volumes: Vec<VolumeFacts>,
    /// What would be refused now; empty: a freeze is possible.
    pub problems: Vec<Problem>,
    /// `[tags] extra` of the host's configuration.
    #[serde(default)]
    pub extra_tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFacts {
    pub instance: InstanceName,
    /// `iris`, `cache`, `gtm`, `command`.
    pub engine: String,
    pub engine_version: String,
    #[serde(default)]
    pub guid: String,
    /// Mirror set's name; empty outside a mirror.
    #[serde(default)]
    pub mirror: String,
    /// The live role: `primary`, `backup`, `async`, or empty.
    #[serde(default)]
    pub member_role: String,
    #[serde(default)]
    pub scope: String,
    #[serde(flatten)]
    pub frozen: Frozen,
    /// How long the buffers would last at the present write rate.
    #[serde(default)]
    pub buffers_last_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// `vol-0123…`, or `lun:3`.
    pub volume: String,
    /// As the host names it.
    pub device: String,
    /// Mount points that lie on it.
    pub mounts: Vec<String>,
    /// `install`, `cpf`, `keys`, `data`, `wij`, `journal`, `altjournal`, `database`, `external`.
    pub roles: Vec<String>,
}

/// `snapfreeze restore mount`: volumes of a cloud set as a set of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReply {
    pub id: BackupId,
    /// Of the set on the host.
    pub dir: PathBuf,
    /// Mount point of the backup's host -> device.
    pub mounts: BTreeMap<String, String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// `snapfreeze restore plan` and `run`, as a caller across a cloud hears them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReply {
    pub id: BackupId,
    pub instance: InstanceName,
    /// A sentence each, in their order.
    pub steps: Vec<String>,
    pub notes: Vec<String>,
    pub done: bool,
    /// Where what was there is kept.
    pub aside: Vec<PathBuf>,
}

/// `snapfreeze backup`: the verdict and everything that a catalogue elsewhere needs to settle the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReply {
    pub schema: u32,
    pub id: BackupId,
    pub verdict: Verdict,
    /// Whole, with the journal marks.
    pub window: Window,
    pub window_ms: u64,
    /// With which a restore starts, one per journal.
    pub journals: Vec<String>,
    /// What the helper printed, a map per snapshot: `snapshot`, `volume`, …; empty for a local set.
    pub produced: Vec<BTreeMap<String, String>>,
    /// Every cloud volume that carries a path of the instances, where the host knows them.
    pub volumes: Vec<VolumeFacts>,
    /// Directory of the set on the host.
    pub set: String,
    pub by: String,
    #[serde(default)]
    pub policy: String,
    /// What people should know and what changes no verdict.
    pub notes: Vec<String>,
}

/// Every refusal and failure, with HTTP 4xx or 5xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub schema: u32,
    pub code: Code,
    pub detail: String,
    /// What the person does next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { schema: crate::SCHEMA, code, detail: detail.into(), next: String::new() }
    }
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }
}

/// The word before the JSON of the last stdout line; only that line is trusted over SSM and Run Command.
pub const MARKER: &str = "SNAPFREEZE ";
/// Run Command cuts at 4 KiB, SSM at 24,000 characters; the line stays far below both.
pub const MARKER_MAX: usize = 1024;
