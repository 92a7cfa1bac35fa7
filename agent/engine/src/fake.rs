//! A database in memory, and faults around any engine.
//!
//! [`Fake`] freezes and thaws at once and counts switches, as GT.M's journal generations do; its clones are the same
//! database, so a test plays "another tool" with a clone. [`Faulty`] wraps any engine and does what its script says:
//! the engines themselves know no test mode.

use crate::{Engine, Error, Facts, FreezeAnswer, FreezeOrder, Held, Journaling, Place, Role, Rung, ThawAnswer};
use doors::clock::boot_now;
use doors::exec::Cancel;
use protocol::proof::{Disturbed, Known, Proof};
use protocol::wire::Frozen;
use protocol::{BootMs, JournalMark};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

#[derive(Debug, Default)]
struct Memory {
    frozen: bool,
    /// Every freeze and thaw that changed something, by whomever.
    switches: u64,
}

/// A database in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    memory: Arc<Mutex<Memory>>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Fake {
    pub fn new() -> Self {
        Self::default()
    }
    /// As another tool would set it; true when that changed something.
    pub fn set_frozen(&self, frozen: bool) -> bool {
        let mut m = lock(&self.memory);
        let changed = m.frozen != frozen;
        if changed {
            m.frozen = frozen;
            m.switches += 1;
        }
        changed
    }
    pub fn frozen(&self) -> bool {
        lock(&self.memory).frozen
    }
    /// Freezes and thaws so far: this database's own history.
    pub fn switches(&self) -> u64 {
        lock(&self.memory).switches
    }
}

impl Engine for Fake {
    fn discover(&self, by: BootMs) -> Result<Facts, Error> {
        Ok(Facts {
            engine: "fake".into(),
            version: "1".into(),
            running: true,
            status: "running".into(),
            frozen: self.is_frozen(by),
            journaling: Some(Journaling::Normal),
            mirror: None,
            has_suspend_limit: false,
            buffers_last_ms: None,
            guid: None,
            current_journal: Some(format!("/fake/journal.{}", self.switches())),
            checks: Vec::new(),
        })
    }

    fn freeze(&self, order: &FreezeOrder, cancel: &Cancel) -> FreezeAnswer {
        if cancel.thrown() || boot_now() >= order.by {
            return FreezeAnswer::Failed("no freeze was sent: too late or cancelled".into());
        }
        if !self.set_frozen(true) {
            return FreezeAnswer::NotOurs("no freeze was sent: frozen already".into());
        }
        let switches = self.switches();
        FreezeAnswer::Frozen(Held {
            marks: vec![JournalMark {
                region: String::new(),
                switched: Some(format!("/fake/journal.{switches}")),
                required: None,
                offset: Some(0),
            }],
            token: switches.into(),
            warnings: Vec::new(),
            evidence: vec!["frozen".into()],
            parts: Vec::new(),
            sent_after_ms: 0,
        })
    }

    fn is_frozen(&self, _by: BootMs) -> Frozen {
        if self.frozen() { Frozen::Yes } else { Frozen::No }
    }

    fn thaw(&self, held: Option<&Held>, _rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer {
        let before = self.switches();
        let released = self.set_frozen(false);
        let mut rungs = Vec::new();
        if released {
            let rung = Rung { ran: "fake thaw".into(), took_ms: 0, said: "thawed".into(), thawed: true };
            say(&rung);
            rungs.push(rung);
        }
        let known = if released { Known::Yes } else { Known::No };
        ThawAnswer {
            frozen: Frozen::No,
            proof: Proof {
                frozen_before: known,
                released: known,
                alone: match held.map(|h| h.token.as_u64()) {
                    Some(Some(then)) if then == before => Ok(()),
                    Some(Some(then)) => Err(Disturbed::Other(format!("{} switches inside the window", before.abs_diff(then)))),
                    Some(None) | None => Err(Disturbed::Unreadable("no freeze of ours is known".into())),
                },
                ..Proof::good()
            },
            rungs,
            evidence: Vec::new(),
            parts: Vec::new(),
        }
    }

    fn layout(&self, _by: BootMs) -> Result<Vec<Place>, Error> {
        Ok(vec![Place { role: Role::Database, path: "/fake/data".into() }])
    }
}

/// What a freeze call does instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FreezeFault {
    /// Says no, and nothing is frozen.
    Fails,
    /// Says no, but has frozen: undo on doubt.
    FailsFrozen,
    /// Freezes, and the answer is lost.
    AnswerLost,
    /// The answer is lost, and nothing was frozen.
    NothingHappened,
    /// Hangs until it is cancelled or its deadline comes; its order then lands on its own this long after the call.
    LandsLate { after_ms: u64 },
    /// Hangs until it is cancelled or its deadline comes; nothing is frozen.
    Hangs,
    /// Works, but takes this long.
    Slow { ms: u64 },
}

/// What a thaw call does instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThawFault {
    /// Every rung is refused; the state is asked truly.
    Refused,
    /// Thaws, but nobody can say so: frozen unknown, proof unknown.
    AnswerLost,
    /// Works, but takes this long.
    Slow { ms: u64 },
}

/// What a question for the state does instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskFault {
    Unknown,
    /// Answers after this long, or "unknown" at its deadline.
    Slow {
        ms: u64,
    },
    /// Lies. Only to show that a test can fail.
    Says(Frozen),
}

/// What was called, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    Discover,
    Freeze,
    IsFrozen,
    Thaw,
    Layout,
}

#[derive(Debug, Default)]
struct Plan {
    freeze: VecDeque<FreezeFault>,
    thaw: VecDeque<ThawFault>,
    ask: VecDeque<AskFault>,
    calls: Vec<(Called, BootMs)>,
}

/// The faults to come, one per call of a method, first in first out; then the engine answers by itself. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Script {
    plan: Arc<Mutex<Plan>>,
}

impl Script {
    pub fn freeze(&self, fault: FreezeFault) -> &Self {
        lock(&self.plan).freeze.push_back(fault);
        self
    }
    pub fn thaw(&self, times: usize, fault: ThawFault) -> &Self {
        lock(&self.plan).thaw.extend(std::iter::repeat_n(fault, times));
        self
    }
    pub fn ask(&self, times: usize, fault: AskFault) -> &Self {
        lock(&self.plan).ask.extend(std::iter::repeat_n(fault, times));
        self
    }
    pub fn clear(&self) {
        let mut p = lock(&self.plan);
        (p.freeze, p.thaw, p.ask) = Default::default();
    }
    /// Every call with its time.
    pub fn calls(&self) -> Vec<(Called, BootMs)> {
        lock(&self.plan).calls.clone()
    }
    fn note(&self, called: Called) -> MutexGuard<'_, Plan> {
        let mut p = lock(&self.plan);
        p.calls.push((called, boot_now()));
        p
    }
}

/// Any engine with faults.
#[derive(Debug)]
pub struct Faulty<E> {
    inner: Arc<E>,
    script: Script,
}

impl<E: Engine + 'static> Faulty<E> {
    pub fn new(inner: E) -> Self {
        Self { inner: Arc::new(inner), script: Script::default() }
    }
    pub fn script(&self) -> Script {
        self.script.clone()
    }
    pub fn inner(&self) -> &E {
        &self.inner
    }

    fn refused(&self, rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer {
        let frozen = self.inner.is_frozen(boot_now().plus(rung_ms));
        let mut rungs = Vec::new();
        if frozen != Frozen::No {
            let rung = Rung { ran: "thaw".into(), took_ms: 0, said: "refused (fault)".into(), thawed: false };
            say(&rung);
            rungs.push(rung);
        }
        ThawAnswer {
            proof: Proof { frozen_before: Known::from(&frozen), released: Known::No, ..Proof::good() },
            frozen,
            rungs,
            evidence: Vec::new(),
            parts: Vec::new(),
        }
    }
}

/// Waits in small steps; true when the order was cancelled or late.
fn hang(order: &FreezeOrder, cancel: &Cancel, ms: u64) -> bool {
    let until = boot_now().plus(ms);
    while boot_now() < until {
        if cancel.thrown() || boot_now() >= order.by {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

impl<E: Engine + 'static> Engine for Faulty<E> {
    fn discover(&self, by: BootMs) -> Result<Facts, Error> {
        drop(self.script.note(Called::Discover));
        self.inner.discover(by)
    }

    fn freeze(&self, order: &FreezeOrder, cancel: &Cancel) -> FreezeAnswer {
        let fault = self.script.note(Called::Freeze).freeze.pop_front();
        let unknown = |why: &str| FreezeAnswer::Unknown(format!("{why} (fault)"));
        match fault {
            None => self.inner.freeze(order, cancel),
            Some(FreezeFault::Fails) => FreezeAnswer::Failed("refused (fault)".into()),
            Some(FreezeFault::FailsFrozen) => {
                self.inner.freeze(order, cancel);
                FreezeAnswer::Failed("refused (fault)".into())
            }
            Some(FreezeFault::AnswerLost) => {
                self.inner.freeze(order, cancel);
                unknown("the answer was lost")
            }
            Some(FreezeFault::NothingHappened) => unknown("the answer was lost"),
            Some(FreezeFault::Hangs) => {
                hang(order, cancel, u64::MAX / 4);
                unknown("hung")
            }
            Some(FreezeFault::LandsLate { after_ms }) => {
                let (inner, mut late) = (self.inner.clone(), order.clone());
                late.by = boot_now().plus(after_ms + 60_000);
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(after_ms));
                    if let Ok(nobody) = Cancel::new() {
                        inner.freeze(&late, &nobody);
                    }
                });
                hang(order, cancel, u64::MAX / 4);
                unknown("hung")
            }
            Some(FreezeFault::Slow { ms }) => {
                if hang(order, cancel, ms) {
                    return unknown("cancelled or late");
                }
                self.inner.freeze(order, cancel)
            }
        }
    }

    fn is_frozen(&self, by: BootMs) -> Frozen {
        let fault = self.script.note(Called::IsFrozen).ask.pop_front();
        match fault {
            None => self.inner.is_frozen(by),
            Some(AskFault::Unknown) => Frozen::Unknown("no answer (fault)".into()),
            Some(AskFault::Says(frozen)) => frozen,
            Some(AskFault::Slow { ms }) => {
                let left = by.since(boot_now());
                std::thread::sleep(Duration::from_millis(ms.min(left)));
                if ms >= left { Frozen::Unknown("no answer in time (fault)".into()) } else { self.inner.is_frozen(by) }
            }
        }
    }

    fn thaw(&self, held: Option<&Held>, rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer {
        let fault = self.script.note(Called::Thaw).thaw.pop_front();
        match fault {
            None => self.inner.thaw(held, rung_ms, say),
            Some(ThawFault::Refused) => self.refused(rung_ms, say),
            Some(ThawFault::AnswerLost) => {
                let mut answer = self.inner.thaw(held, rung_ms, say);
                answer.frozen = Frozen::Unknown("the answer was lost (fault)".into());
                answer.proof.released = Known::Unknown;
                answer
            }
            Some(ThawFault::Slow { ms }) => {
                std::thread::sleep(Duration::from_millis(ms));
                self.inner.thaw(held, rung_ms, say)
            }
        }
    }

    fn layout(&self, by: BootMs) -> Result<Vec<Place>, Error> {
        drop(self.script.note(Called::Layout));
        self.inner.layout(by)
    }
}
