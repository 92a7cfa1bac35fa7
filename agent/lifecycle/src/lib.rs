//! The freeze machine, pure: `Machine::step(event, now)` gives effects; no I/O, no clock.
//!
//! Invariants, held by `tests/explore.rs` over every reachable state of machine × host:
//! - A freeze is sent only when its undo is durable: journal entry fsynced, watchdog armed.
//! - While the database may be frozen by us, the machine is on its way to a thaw, and it gives up only when the
//!   engine itself answers "not frozen".
//! - The watchdog is ended and the entry closed only after that answer.
//! - A window is called unbroken only when its owner asked for the thaw in time and the engine's own evidence says so.
//!
//! ```text
//! Idle → Arming → Freezing → Frozen → Thawing → Recording → Idle
//!                     └──────── every doubt ──────↑    └→ Guarding → Idle   (a killed freeze may still land)
//! ```
//! Read `step.rs` next. `judge.rs` is the window rule of contract §3.

mod judge;
mod start;
mod step;

pub use judge::judge;
pub use start::Found;

use protocol::outcome::WindowState;
use protocol::{BackupId, BootMs, Code, Known, Proof, WindowRules};
use std::collections::BTreeMap;

/// Arming is an fsync and a process start; a host that needs longer for it is in no state to be frozen.
pub const ARM_MS: u64 = 5_000;
/// How long a thaw waits for the kill of a freeze command: its reaping is bounded by 1 s, plus a breath.
pub const KILL_MS: u64 = 1_500;
/// A watchdog that died inside a window is replaced within this time, or we thaw.
pub const REARM_MS: u64 = 1_000;
/// From one thaw round's answer, or one guard question, to the next.
pub const AGAIN_MS: u64 = 1_000;

/// One freeze of one set of instances. The machine needs no more of it than this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Order {
    pub id: BackupId,
    pub rules: WindowRules,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Nothing of ours is frozen and none of our freezes may still land.
    Idle,
    /// The undo is being made durable; nothing has been frozen.
    Arming { order: Order, since: BootMs, thaw_by: BootMs },
    /// The freeze call is under way; it is killed at `give_up`.
    Freezing { order: Order, since: BootMs, thaw_by: BootMs, give_up: BootMs, dog: Dog },
    /// The engine confirmed; the caller makes its snapshot.
    Frozen { order: Order, since: BootMs, thaw_by: BootMs, dog: Dog },
    /// Until the engine answers "not frozen". Never ends by itself.
    Thawing { order: Order, since: BootMs, cause: Cause, freeze: FreezeCall, budget: Budget, step: ThawStep },
    /// Thaw confirmed; the result is being fsynced and is told afterwards.
    Recording { order: Order, window: WindowState, fault: Option<Code>, freeze: FreezeCall },
    /// Thawed, told, but a freeze that was killed might still land: ask each second, thaw on every yes.
    Guarding { order: Order, until: BootMs, step: GuardStep },
}

/// The watchdog inside a window.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dog {
    Armed,
    Rearming { by: BootMs },
}

/// Is the freeze command certainly over?
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FreezeCall {
    /// It ended by its own answer.
    Over,
    /// Killed, timed out, or outlived its agent: it may land until this time.
    Doubtful { until: BootMs },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// The owner asked, by id, in time.
    Asked,
    HoldExpired,
    /// A person asked for a thaw of whatever is frozen.
    Person,
    /// The freeze failed, timed out or was overtaken by a thaw.
    FreezeFault(Code),
    WatchdogLost,
    Stopping,
    /// Found open at the start of the agent.
    AgentLost,
    /// Found an unreadable journal at the start of the agent.
    JournalLost,
    /// A killed freeze landed while we were guarding.
    Zombie,
}

/// How long the caller waits before it is told that the database is left frozen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Budget {
    Until(BootMs),
    Told,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ThawStep {
    /// The freeze command is being killed and reaped.
    Killing { until: BootMs },
    /// A round of the ladder is under way.
    Round,
    /// The engine did not say "not frozen"; again at `at`.
    Waiting { at: BootMs },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GuardStep {
    Asking,
    Waiting { at: BootMs },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    FreezeAsked(Order),
    ThawAsked(BackupId),
    /// Thaw whatever is open.
    ThawAllAsked,
    Armed(BackupId),
    ArmFailed(BackupId),
    FreezeAnswered(BackupId, FreezeOutcome),
    ThawAnswered(BackupId, ThawOutcome),
    GuardAnswered(BackupId, Known),
    /// The result is on disk, or could not be written.
    Recorded(BackupId, Stored),
    WatchdogLost(BackupId),
    /// Time passed; sent when `next_wake` is reached.
    Tick,
    Stop,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FreezeOutcome {
    Frozen,
    /// The call ended by itself and said no.
    Failed,
    /// Killed, timed out, or an answer that nobody knows.
    Unknown,
    /// The database was frozen by another tool, and nothing was sent to it: not ours to thaw.
    NotOurs,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ThawOutcome {
    NotFrozen(Proof),
    StillFrozen,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stored {
    Durable,
    Lost,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Write and fsync the entry, end older watchdogs, start ours, wait for its READY → `Armed` or `ArmFailed`.
    Arm {
        order: Order,
        thaw_by: BootMs,
        freeze_by: BootMs,
    },
    /// Another watchdog for the open entry → `Armed` or `ArmFailed`.
    Rearm {
        id: BackupId,
    },
    /// All instances in parallel → `FreezeAnswered`.
    Freeze {
        id: BackupId,
        by: BootMs,
    },
    /// Kill and reap the freeze commands; their `FreezeAnswered` follows.
    KillFreeze {
        id: BackupId,
    },
    /// One round of the ladder on every instance → `ThawAnswered`.
    Thaw {
        id: BackupId,
    },
    /// Is anything frozen? → `GuardAnswered`.
    Ask {
        id: BackupId,
    },
    /// Store the result and fsync → `Recorded`. With `guard` the entry stays open for the guard until `Disarm`.
    Record {
        id: BackupId,
        window: WindowState,
        fault: Option<Code>,
        guard: Option<BootMs>,
    },
    /// Store that a freeze with this id is refused for ever.
    Tombstone {
        id: BackupId,
    },
    /// End the watchdog, and the guard in the entry; close the entry if it has no result yet ("never frozen").
    Disarm {
        id: BackupId,
    },
    /// Answer everybody who waits for this id.
    Tell {
        id: BackupId,
        news: News,
    },
    Exit,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum News {
    Frozen,
    /// Nothing was frozen.
    Refused(Code),
    /// Not frozen any more, confirmed and stored. `fault`: why the freeze itself failed.
    Thawed {
        window: WindowState,
        fault: Option<Code>,
    },
    /// Not confirmed within the thaw budget; we go on trying.
    LeftFrozen,
}

/// What is known of ids that are not open any more. Kept 30 days.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Past {
    Ended { window: WindowState, fault: Option<Code> },
    Tombstone,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Machine {
    pub state: State,
    pub past: BTreeMap<BackupId, Past>,
    pub stopping: bool,
}

impl State {
    pub fn order(&self) -> Option<&Order> {
        match self {
            Self::Idle => None,
            Self::Arming { order, .. }
            | Self::Freezing { order, .. }
            | Self::Frozen { order, .. }
            | Self::Thawing { order, .. }
            | Self::Recording { order, .. }
            | Self::Guarding { order, .. } => Some(order),
        }
    }

    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Arming { .. } => "Arming",
            Self::Freezing { .. } => "Freezing",
            Self::Frozen { .. } => "Frozen",
            Self::Thawing { .. } => "Thawing",
            Self::Recording { .. } => "Recording",
            Self::Guarding { .. } => "Guarding",
        }
    }
}

impl Machine {
    /// When `Tick` is due; `None` while idle: no wake-ups.
    pub fn next_wake(&self) -> Option<BootMs> {
        match &self.state {
            State::Idle | State::Recording { .. } => None,
            State::Arming { since, thaw_by, .. } => Some(step::arm_by(*since, *thaw_by)),
            State::Freezing { give_up, dog, .. } => Some(earlier(*give_up, dog)),
            State::Frozen { thaw_by, dog, .. } => Some(earlier(*thaw_by, dog)),
            State::Thawing { budget, step, .. } => {
                let told = match budget {
                    Budget::Until(t) => Some(*t),
                    Budget::Told => None,
                };
                let again = match step {
                    ThawStep::Killing { until } => Some(*until),
                    ThawStep::Round => None,
                    ThawStep::Waiting { at } => Some(*at),
                };
                [told, again].into_iter().flatten().min()
            }
            State::Guarding { step, .. } => match step {
                GuardStep::Asking => None,
                GuardStep::Waiting { at } => Some(*at),
            },
        }
    }
}

fn earlier(t: BootMs, dog: &Dog) -> BootMs {
    match dog {
        Dog::Armed => t,
        Dog::Rearming { by } => t.min(*by),
    }
}
