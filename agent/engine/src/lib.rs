//! The databases. [`Engine`] is what every one of them can do; `iris`, `gtm` and `command` are the adapters,
//! `fake` and `fault` stand beside them for tests. Adapters hold no policy: `admit` decides from `Facts`,
//! the machine (`lifecycle`) judges by `Proof`.
//!
//! Every call has a deadline, may be repeated, and says what it changed.

pub mod admit;
pub mod command;
pub mod config;
pub mod fake;
pub mod gtm;
pub mod iris;
mod open;
pub mod restore;

pub use config::InstanceConfig;
pub use open::{discover, open};

use doors::exec::Cancel;
use protocol::outcome::Part;
use protocol::wire::Frozen;
use protocol::{BackupId, BootMs, InstanceName, JournalMark, Proof, WindowRules};

/// One database on this host. Five methods; the fake beside it and the contract test (`tests/contract.rs`) hold for all.
pub trait Engine: Send + Sync {
    /// What is there and in which state, changing nothing.
    fn discover(&self, by: BootMs) -> Result<Facts, Error>;
    /// One freeze call. Ends by `order.by` or soon after `cancel` is thrown; its process is killed and reaped then.
    fn freeze(&self, order: &FreezeOrder, cancel: &Cancel) -> FreezeAnswer;
    /// IRIS's `IsWDSuspended`. Changes nothing.
    fn is_frozen(&self, by: BootMs) -> Frozen;
    /// Asks, thaws by every rung of the engine's ladder until it answers "not frozen", asks again. Each rung has
    /// `rung_ms`, the next starts without waiting for its end. Thaws nothing when the first answer is a plain "no".
    /// `held` is what the freeze returned; without it the proof can never be good. `say` hears each rung as it ends.
    fn thaw(&self, held: Option<&Held>, rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer;
    /// Every path that a snapshot set must contain, by role.
    fn layout(&self, by: BootMs) -> Result<Vec<Place>, Error>;
}

/// A configured or discovered instance, ready to be used.
pub struct Instance {
    pub name: InstanceName,
    pub config: InstanceConfig,
    pub engine: Box<dyn Engine>,
}

#[derive(Clone, Debug)]
pub struct FreezeOrder {
    pub id: BackupId,
    pub rules: WindowRules,
    /// The freeze command is killed at this time; the engine itself compares its own deadline before it freezes.
    pub by: BootMs,
}

#[derive(Clone, Debug)]
pub enum FreezeAnswer {
    /// The engine confirmed the freeze.
    Frozen(Held),
    /// The call ended by itself and said no. It is thawed and asked all the same.
    Failed(String),
    /// Timed out, cancelled, or an answer that nobody knows: it may have frozen, or may yet.
    Unknown(String),
    /// It was frozen already, by another tool, and nothing was sent to it: it is not ours to thaw.
    NotOurs(String),
}

/// What the freeze of one instance left behind: for people, for the catalogue, and for the proof at the thaw.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Held {
    pub marks: Vec<JournalMark>,
    /// The engine's own: log inode and offset, process, mirror role, LogFile. Only the engine that made it reads it.
    pub token: serde_json::Value,
    pub warnings: Vec<String>,
    /// A few literal lines of the engine.
    pub evidence: Vec<String>,
    /// Names with ms since `freeze` was called.
    pub parts: Vec<Part>,
    /// ms since `freeze` was called until something was sent that can freeze: questions before it. The window begins there.
    #[serde(default)]
    pub sent_after_ms: u64,
}

/// One rung of the thaw ladder, as it was tried.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rung {
    /// What was run, without secrets, as a person would type it.
    pub ran: String,
    pub took_ms: u64,
    /// What it answered, one line.
    pub said: String,
    /// After it, "not frozen" was confirmed.
    pub thawed: bool,
}

#[derive(Clone, Debug)]
pub struct ThawAnswer {
    /// After the last rung.
    pub frozen: Frozen,
    pub proof: Proof,
    pub rungs: Vec<Rung>,
    pub evidence: Vec<String>,
    pub parts: Vec<Part>,
}

/// A path of the instance and what it is for (contract §7 `:roles`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    pub role: Role,
    pub path: std::path::PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Install,
    Cpf,
    Keys,
    Data,
    Wij,
    Journal,
    Altjournal,
    Database,
    External,
}

/// What `discover` found. Unknown is never taken for good.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// `iris`, `cache`, `gtm`, `command`.
    pub engine: String,
    pub version: String,
    pub running: bool,
    /// The engine's own words for its state.
    pub status: String,
    pub frozen: Frozen,
    /// `None`: the engine does not say.
    pub journaling: Option<Journaling>,
    pub mirror: Option<Mirror>,
    /// The engine can free itself (IRIS argument 10).
    pub has_suspend_limit: bool,
    /// How long its buffers last at the present write rate; `None`: unknown.
    pub buffers_last_ms: Option<u64>,
    pub guid: Option<String>,
    pub current_journal: Option<String>,
    /// What only this engine knows to check: a line each.
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Journaling {
    Normal,
    /// In the engine's words: Disabled, Suspended, Frozen, Paused.
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mirror {
    pub name: String,
    /// `Failover`, `Disaster Recovery`, …
    pub member_type: String,
    /// `PRIMARY`, `BACKUP`, …
    pub status: String,
}

/// One line of `check`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    pub name: String,
    pub level: Level,
    /// What was found, and for warn and fail what to do.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("instance {0} is not known to this host")]
    NoInstance(String),
    #[error("the configuration of instance {instance} is not valid: {why}")]
    Config { instance: String, why: String },
    #[error("{program} did not answer: {why}")]
    NoAnswer { program: String, why: String },
    #[error("{what} could not be read: {why}")]
    Unreadable { what: String, why: String },
    #[error(transparent)]
    Exec(#[from] doors::exec::Error),
}
