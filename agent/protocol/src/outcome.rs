//! What is said about a window and a backup afterwards. A missing answer is never "held".

use crate::{BackupId, InstanceName, JournalMark, WallMs};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a window is broken, or why a set of snapshots is. Closed: each is explained in `docs/errors/Window.Broken.md`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "detail")]
pub enum BrokenReason {
    /// The engine never confirmed the freeze, or we lost its answer.
    FreezeUnconfirmed,
    /// The hold ran out and we thawed by ourselves before the caller asked.
    HoldExpired,
    /// Not frozen any more immediately before our thaw: the engine's own limit, or another tool.
    NotFrozenBeforeThaw,
    /// Whether it was still frozen before the thaw could not be asked.
    StateUnknownBeforeThaw,
    /// The thaw released nothing (IRIS: `Already resumed`; GT.M: `OFRZNOTHELD`).
    ThawReleasedNothing,
    /// Another freeze or thaw took place inside the window, by the engine's log.
    OtherTool(String),
    /// The engine's log or our own evidence could not be read.
    EvidenceUnreadable(String),
    /// `irisstat -W` was needed.
    LastResort,
    /// The instance was restarted or its mirror role changed inside the window.
    InstanceChanged(String),
    /// The engine's log speaks against it (`WRTDMN panic`).
    EngineLog(String),
    /// The window was longer than the engine's limit.
    OverLimit,
    /// The agent was restarted, or the watchdog thawed.
    AgentLost,
    /// No result was stored.
    VerdictLost,
    /// A snapshot of the set failed or is missing.
    SnapshotFailed(String),
    /// A snapshot's point in time was not accepted before the thaw was sent.
    SnapshotLate,
    /// Interrupted by a person or a signal.
    Interrupted,
}

impl fmt::Display for BrokenReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreezeUnconfirmed => f.write_str("the freeze was not confirmed"),
            Self::HoldExpired => f.write_str("the hold ran out before the thaw was asked"),
            Self::NotFrozenBeforeThaw => f.write_str("it was not frozen any more before the thaw"),
            Self::StateUnknownBeforeThaw => f.write_str("it could not be asked before the thaw whether it was still frozen"),
            Self::ThawReleasedNothing => f.write_str("the thaw released nothing"),
            Self::OtherTool(d) => write!(f, "another freeze or thaw inside the window: {d}"),
            Self::EvidenceUnreadable(d) => write!(f, "evidence could not be read: {d}"),
            Self::LastResort => f.write_str("the last-resort thaw was needed"),
            Self::InstanceChanged(d) => write!(f, "the instance changed inside the window: {d}"),
            Self::EngineLog(d) => write!(f, "the engine's log says: {d}"),
            Self::OverLimit => f.write_str("the window was longer than the engine's limit"),
            Self::AgentLost => f.write_str("the agent was lost inside the window"),
            Self::VerdictLost => f.write_str("the result was lost"),
            Self::SnapshotFailed(d) => write!(f, "a snapshot failed: {d}"),
            Self::SnapshotLate => f.write_str("the snapshot was not finished before the thaw"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum WindowState {
    Unbroken,
    Broken(BrokenReason),
}

impl WindowState {
    pub const fn is_unbroken(&self) -> bool {
        matches!(self, Self::Unbroken)
    }
}

/// One part of a window: what, from when, how long; ms since the window began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    pub at_ms: u64,
    pub took_ms: u64,
}

/// What really passed, from just before the freeze call until the thaw is confirmed. The host states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub backup_id: BackupId,
    pub state: WindowState,
    /// Wall clock, UTC.
    pub frozen_at: Option<WallMs>,
    pub thawed_at: Option<WallMs>,
    pub window_ms: u64,
    pub parts: Vec<Part>,
    pub marks: Vec<InstanceMarks>,
    /// What the engine printed that the judgement rests on, a few lines.
    pub evidence: Vec<String>,
}

/// The journal marks of one instance of the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceMarks {
    pub instance: InstanceName,
    pub marks: Vec<JournalMark>,
}

/// Of a backup. Whoever made the snapshots gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "reason")]
pub enum Verdict {
    Pending,
    Held,
    Broken(BrokenReason),
}

impl Verdict {
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Broken(_) => "broken",
        }
    }
}

/// What became of the snapshots, in the order of messages (contract §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotFate {
    /// Every snapshot's point in time was accepted before the thaw was sent.
    AcceptedBeforeThaw,
    /// The answer came after the thaw was sent, or never.
    ReplyLost,
    Failed(String),
}

/// The verdict rule: `held` if and only if the window is unbroken and every snapshot was accepted inside it.
pub fn judge(window: Option<&WindowState>, fate: &SnapshotFate) -> Verdict {
    match (window, fate) {
        (_, SnapshotFate::Failed(why)) => Verdict::Broken(BrokenReason::SnapshotFailed(why.clone())),
        (_, SnapshotFate::ReplyLost) => Verdict::Broken(BrokenReason::SnapshotLate),
        (None, SnapshotFate::AcceptedBeforeThaw) => Verdict::Broken(BrokenReason::VerdictLost),
        (Some(WindowState::Broken(why)), SnapshotFate::AcceptedBeforeThaw) => Verdict::Broken(why.clone()),
        (Some(WindowState::Unbroken), SnapshotFate::AcceptedBeforeThaw) => Verdict::Held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_needs_an_unbroken_window_and_every_snapshot_inside_it() {
        let broken = WindowState::Broken(BrokenReason::HoldExpired);
        let fates = [SnapshotFate::AcceptedBeforeThaw, SnapshotFate::ReplyLost, SnapshotFate::Failed("x".into())];
        let mut held = 0;
        for w in [None, Some(&WindowState::Unbroken), Some(&broken)] {
            for f in &fates {
                if judge(w, f) == Verdict::Held {
                    held += 1;
                    assert_eq!((w, f), (Some(&WindowState::Unbroken), &SnapshotFate::AcceptedBeforeThaw));
                }
            }
        }
        assert_eq!(held, 1);
    }
}
