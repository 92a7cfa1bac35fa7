//! The machine. `next(now)` names the step, `apply(outcome, now)` takes what became of it; both are total.
//!
//! ```text
//! Inspect ─ all fit ─> Freeze ─ all frozen, by us ─> Snapshot ─ answered or not ─> Thaw ─ all confirmed ─> Settle ─> Done
//!    └─ refused ─> Done      └─ any refusal or doubt ────────────────────────────> Thaw
//! ```
//!
//! What holds, whatever is answered, lost, repeated or resumed (`tests/explore.rs`):
//! - Once a freeze may have been sent, the only way on is through Thaw, which only "not frozen" of every host ends, or the
//!   point in time at which a person is called.
//! - A snapshot call is sent at most once per host, after every host's freeze reply, while the shortest hold covers it.
//! - `held` needs, of every host, an answer accepted before any thaw was sent and an unbroken window (contract §3).

mod apply;

use crate::order::{Order, Target};
use crate::policy::HeldBy;
use crate::ports::{BackupAnswer, FreezeAnswer, Look, Made, Snapshot, SnapshotAnswer, State, ThawAnswer};
use protocol::wire::{Facts, FreezeReply, Problem};
use protocol::{BrokenReason, Code, Verdict, WallMs, Window};
use serde::{Deserialize, Serialize};

/// One thaw may take this long on its way there and back before it is sent again; SSM delivers in seconds.
pub const THAW_TRY_MS: u64 = 30_000;
/// Between two tries of the same idempotent call.
pub const AGAIN_MS: u64 = 2_000;
/// After the host must have thawed by itself (hold, watchdog 5 s, thaw budget 15 s), a person is called.
pub const SELF_THAW_MS: u64 = 20_000;
/// A freeze may take this long to be answered after it was delivered: `Margins::freeze_ms` and the answer's way back.
pub const FREEZE_ANSWER_MS: u64 = 45_000;
/// The host's clock and two processes of the coordinator agree to this when durations are compared.
pub const CLOCKS_AGREE_MS: u64 = 500;
/// A host that held the window itself finishes its tags within this time: the helper lists what it made, a record is stored.
pub const HOST_TAIL_MS: u64 = 120_000;
/// The verdict's tags are tried for this long before the set is left to `reap`.
pub const MARK_FOR_MS: u64 = 120_000;
/// A snapshot whose answer was lost is looked for this long: EC2 lists with a delay ("eventual consistency").
pub const FIND_FOR_MS: u64 = 20_000;
/// How often the cloud is asked whether the copies are complete.
pub const COMPLETE_EVERY_MS: u64 = 30_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Inspect,
    Freeze,
    Snapshot,
    Thaw,
    /// Looking for snapshots whose answer was lost.
    Find,
    /// Writing tags.
    Mark,
    /// Waiting for the copies to complete, outside the window.
    Complete,
    /// Copy, lock, fast restore of a held set.
    After,
    Done,
}

/// What is to be done now. Indices are of `Saga::members`; the answers come back in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Inspect,
    Wait(WallMs),
    Freeze(Vec<usize>),
    /// Host-held: the whole backup in one order.
    Backup(Vec<usize>),
    Snapshot(Vec<usize>),
    Thaw(Vec<usize>),
    Find,
    Mark,
    Complete,
    After,
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One per member: what the host and the cloud said, and how long the way to the host and back took, in ms.
    Inspected(Vec<Result<Inspected, Problem>>),
    Froze(Vec<FreezeAnswer>),
    BackedUp(Vec<BackupAnswer>),
    Snapped(Vec<SnapshotAnswer>),
    Thawed(Vec<ThawAnswer>),
    Found(Result<Vec<Snapshot>, Problem>),
    Marked(Result<(), Problem>),
    Completion(Result<Vec<Snapshot>, Problem>),
    Aftered(Vec<Problem>),
    /// Whoever carried out this step is gone; what it did is not known.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    pub facts: Facts,
    pub look: Look,
    /// From sending the order until its answer was read.
    pub hop_ms: u64,
    /// When the order was sent: the host's clock is judged by it.
    #[serde(default)]
    pub asked_at: Option<WallMs>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub target: Target,
    #[serde(default)]
    pub plan: Option<Inspected>,
    pub freeze: Freeze,
    pub snapshot: Snap,
    pub thaw: Thaw,
    /// Why a host that held the window itself calls its backup broken, whatever the window was.
    #[serde(default)]
    pub host_says: Option<BrokenReason>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Freeze {
    NotSent,
    /// `ends`: not later than the host's own `thaw_by`.
    Frozen {
        reply: Box<FreezeReply>,
        ends: WallMs,
    },
    /// Certainly nothing frozen by us.
    Refused {
        problem: Problem,
    },
    /// Answered, or not: it may have frozen.
    Doubtful {
        problem: Problem,
    },
    /// Another owner's window under the same id: not ours to snapshot, nor to thaw.
    NotOurs {
        owner: String,
    },
    /// The host held the window itself and told what it was.
    HeldByHost,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Snap {
    NotSent,
    Accepted {
        made: Vec<Made>,
    },
    Failed {
        problem: Problem,
    },
    /// Sent, and no answer before the thaw.
    Lost,
    /// Lost, and found later by its tags: it belongs to the set, and never makes it held.
    Found {
        made: Vec<Made>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Thaw {
    NotConfirmed {
        tries: u32,
    },
    Confirmed {
        window: Option<Box<Window>>,
    },
    /// No thaw was needed: no freeze of ours was sent.
    NotNeeded,
    /// "Not frozen" is not confirmed: a person must act now.
    LeftFrozen {
        problem: Problem,
    },
}

/// One backup, from the order to the settled verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saga {
    pub schema: u32,
    pub order: Order,
    pub phase: Phase,
    pub members: Vec<Member>,
    /// Why it did not go on to a snapshot; or, later, what went wrong beside the verdict.
    #[serde(default)]
    pub problem: Option<Problem>,
    #[serde(default)]
    pub notes: Vec<String>,
    /// `None`: no snapshot was ever asked for.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// The verdict that the tags show.
    #[serde(default)]
    pub marked: Option<Verdict>,
    /// When the freeze orders were sent, the first thaw, and the phase that runs.
    #[serde(default)]
    pub frozen_from: Option<WallMs>,
    /// When the last freeze reply was read.
    #[serde(default)]
    pub frozen_by: Option<WallMs>,
    #[serde(default)]
    pub thaw_from: Option<WallMs>,
    #[serde(default)]
    pub since: Option<WallMs>,
    /// Nothing is done before this moment.
    #[serde(default)]
    pub resume_at: Option<WallMs>,
}

impl Saga {
    pub fn new(order: Order) -> Self {
        let member = |t: &Target| Member {
            target: t.clone(),
            plan: None,
            freeze: Freeze::NotSent,
            snapshot: Snap::NotSent,
            thaw: Thaw::NotConfirmed { tries: 0 },
            host_says: None,
        };
        let members = order.targets.iter().map(member).collect();
        Self {
            schema: protocol::SCHEMA,
            order,
            phase: Phase::Inspect,
            members,
            problem: None,
            notes: Vec::new(),
            verdict: None,
            marked: None,
            frozen_from: None,
            frozen_by: None,
            thaw_from: None,
            since: None,
            resume_at: None,
        }
    }

    pub fn next(&self, now: WallMs) -> Step {
        if let Some(at) = self.resume_at.filter(|at| *at > now) {
            return Step::Wait(at);
        }
        let all = || (0..self.members.len()).collect();
        match self.phase {
            Phase::Inspect => Step::Inspect,
            Phase::Freeze => match self.order.policy.held_by {
                HeldBy::Coordinator => Step::Freeze(all()),
                HeldBy::Host => Step::Backup(all()),
            },
            Phase::Snapshot => Step::Snapshot(all()),
            Phase::Thaw => Step::Thaw(self.to_thaw()),
            Phase::Find => Step::Find,
            Phase::Mark => Step::Mark,
            Phase::Complete => Step::Complete,
            Phase::After => Step::After,
            Phase::Done => Step::Done,
        }
    }

    /// No snapshot call may begin later than this: contract §2 rule 7, the smallest remaining hold counts.
    pub fn snapshot_by(&self) -> Option<WallMs> {
        self.shortest_hold().map(|ends| minus(ends, self.order.policy.snapshot_ms))
    }

    /// The first moment at which a host may thaw by itself.
    pub fn shortest_hold(&self) -> Option<WallMs> {
        self.members.iter().filter_map(|m| if let Freeze::Frozen { ends, .. } = &m.freeze { Some(*ends) } else { None }).min()
    }

    /// The snapshot call may not be begun any more.
    pub fn too_late_to_snapshot(&self, now: WallMs) -> bool {
        self.phase == Phase::Snapshot && self.snapshot_by().is_none_or(|by| now > by)
    }

    /// To be called when a step begins: what is about to be sent is on record before it is sent.
    pub fn begin(&mut self, step: &Step, now: WallMs) {
        match step {
            Step::Freeze(_) | Step::Backup(_) => self.frozen_from = Some(now),
            Step::Thaw(_) => {
                self.thaw_from.get_or_insert(now);
            }
            Step::Find | Step::Mark | Step::Complete => {
                self.since.get_or_insert(now);
            }
            Step::Inspect | Step::Wait(_) | Step::Snapshot(_) | Step::After | Step::Done => {}
        }
    }

    /// Every snapshot that is known to belong to the backup.
    pub fn made(&self) -> Vec<Made> {
        let of = |m: &Member| match &m.snapshot {
            Snap::Accepted { made } | Snap::Found { made } => made.clone(),
            Snap::NotSent | Snap::Failed { .. } | Snap::Lost => Vec::new(),
        };
        self.members.iter().flat_map(of).collect()
    }

    /// Hosts of which "not frozen" is not confirmed.
    pub fn left_frozen(&self) -> impl Iterator<Item = (&Target, &Problem)> {
        self.members.iter().filter_map(|m| if let Thaw::LeftFrozen { problem } = &m.thaw { Some((&m.target, problem)) } else { None })
    }

    /// `Ok` only for a held, complete set. The code is the backup's exit code and the Lambda's error name.
    pub fn result(&self) -> Result<(), Problem> {
        if let Some(p) = self.problem.as_ref().filter(|p| p.code == Code::LeftFrozen) {
            return Err(p.clone());
        }
        match (&self.verdict, &self.problem) {
            (Some(Verdict::Held), None) if self.phase == Phase::Done => Ok(()),
            (Some(Verdict::Broken(BrokenReason::SnapshotFailed(why))), _) => Err(Problem::new(Code::SnapshotFailed, why.clone())),
            // What went wrong first says more than what the verdict rests on.
            (Some(Verdict::Broken(why)), Some(p)) => {
                Err(Problem { code: Code::WindowBroken, detail: format!("{}; {why}", p.detail), ..p.clone() })
            }
            (Some(Verdict::Broken(why)), None) => Err(Problem::new(Code::WindowBroken, why.to_string())),
            (_, Some(p)) => Err(p.clone()),
            (Some(Verdict::Held | Verdict::Pending) | None, None) => Err(Problem::new(Code::Internal, "not finished yet")),
        }
    }
}

/// Saturating.
pub fn plus(at: WallMs, ms: u64) -> WallMs {
    WallMs(at.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
}
/// Saturating.
pub fn minus(at: WallMs, ms: u64) -> WallMs {
    WallMs(at.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)))
}
