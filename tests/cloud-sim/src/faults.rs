//! Rules that make a call go wrong. Each counts what it saw and what it hit.

use crate::clock::boot_us;
use crate::wire::Wire;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Fault {
    /// EC2: 503 RequestLimitExceeded; SSM: 400 ThrottlingException "Rate exceeded". Nothing is done.
    Throttle,
    /// EC2: 403 UnauthorizedOperation; SSM: 400 AccessDeniedException.
    AccessDenied,
    /// A bare HTTP status with an InternalError. Nothing is done.
    Http { status: u16 },
    /// Any error of the service, with status 400. Nothing is done.
    Error { code: String, message: String },
    /// The connection closes before anything is done.
    LostRequest,
    /// Everything is done, then the connection closes without an answer.
    LostReply,
    /// Nothing happens for so long, then the call goes on.
    Slow { ms: u64 },
    /// The answer is held back for so long after everything was done.
    SlowReply { ms: u64 },
    /// The call waits for `release`.
    Hold { when: Moment },
    /// CreateSnapshot(s): all go to `error`.
    SnapshotsFail { after_ms: u64 },
    /// CreateSnapshot(s): they never leave `pending`.
    SnapshotsStayPending,
    /// CreateSnapshots: one fails (this volume, or the first), so all go to `error`, as AWS documents it.
    OneSnapshotFails { volume: Option<String>, after_ms: u64 },
    /// CreateSnapshots: the last of the set is gone without a trace when it should complete: a partial set.
    OneSnapshotVanishes,
    /// SendCommand: reported DeliveryTimedOut. It never runs, or starts this long after SendCommand all the same.
    DeliveryTimesOut { start_late_ms: Option<u64> },
    /// SendCommand: runs, but only this long after SendCommand.
    StartLate { ms: u64 },
    /// SendCommand: standard output is cut after so many characters.
    CutOutput { chars: usize },
    /// SendCommand: runs to its end, but the end is reported so (`Failed`, `DeliveryTimedOut`, …).
    ReportAs { status_details: String },
    /// SendCommand: runs, and stays InProgress for ever.
    NeverReported,
    /// The instance is terminated when the call arrives.
    Terminate { instance: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    Before,
    After,
}

/// Every field that is set must agree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    pub service: Option<String>,
    pub action: Option<String>,
    pub instance: Option<String>,
    /// Of the command, for SendCommand and for questions about it.
    pub document: Option<String>,
    pub principal: Option<String>,
    /// Some text in the parameters' JSON.
    pub contains: Option<String>,
}

impl Match {
    pub fn action(action: &str) -> Self {
        Self { action: Some(action.into()), ..Self::default() }
    }
    pub fn instance(mut self, id: &str) -> Self {
        self.instance = Some(id.into());
        self
    }
    pub fn document(mut self, name: &str) -> Self {
        self.document = Some(name.into());
        self
    }
    pub fn contains(mut self, text: &str) -> Self {
        self.contains = Some(text.into());
        self
    }
}

impl Matching for Match {
    type Call = Wire;

    fn agrees(&self, wire: &Wire) -> bool {
        let same = |want: &Option<String>, has: Option<&str>| want.as_deref().is_none_or(|w| has == Some(w));
        same(&self.service, Some(&wire.service))
            && same(&self.action, Some(&wire.action))
            && same(&self.document, wire.document.as_deref())
            && same(&self.principal, wire.principal.as_deref())
            && self.instance.as_deref().is_none_or(|w| wire.instances.iter().any(|i| i == w))
            && self.contains.as_deref().is_none_or(|w| wire.params.to_string().contains(w))
    }
}

/// Says which calls of its cloud a rule is about.
pub trait Matching {
    type Call;
    fn agrees(&self, call: &Self::Call) -> bool;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule<M = Match, F = Fault> {
    #[serde(rename = "match")]
    pub matches: M,
    pub fault: F,
    /// The first matching call that is hit, from 1.
    #[serde(default = "first")]
    pub nth: u64,
    /// How many are hit from there on; absent: all.
    #[serde(default)]
    pub times: Option<u64>,
}

fn first() -> u64 {
    1
}

impl<M, F> Rule<M, F> {
    /// Hits the first matching call only.
    pub fn new(matches: M, fault: F) -> Self {
        Self { matches, fault, nth: 1, times: Some(1) }
    }
    pub fn nth(mut self, nth: u64) -> Self {
        self.nth = nth;
        self
    }
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }
}

/// A rule and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleState<M = Match, F = Fault> {
    pub id: u64,
    pub rule: Rule<M, F>,
    /// Calls that matched.
    pub seen: u64,
    /// Calls that it made go wrong.
    pub hits: u64,
    /// Calls that wait for `release` now.
    pub held: u64,
}

pub struct Faults<M = Match, F = Fault> {
    rules: Mutex<BTreeMap<u64, RuleState<M, F>>>,
    next: Mutex<u64>,
    released: watch::Sender<BTreeSet<u64>>,
}

impl<M, F> Default for Faults<M, F> {
    fn default() -> Self {
        Self { rules: Mutex::default(), next: Mutex::default(), released: watch::Sender::default() }
    }
}

impl<M: Matching + Clone, F: Clone> Faults<M, F> {
    pub fn add(&self, rule: Rule<M, F>) -> u64 {
        let mut next = self.next.lock().expect("ids");
        *next += 1;
        self.rules.lock().expect("rules").insert(*next, RuleState { id: *next, rule, seen: 0, hits: 0, held: 0 });
        *next
    }

    /// Held calls go on.
    pub fn clear(&self) {
        let ids: Vec<u64> = self.rules.lock().expect("rules").keys().copied().collect();
        ids.iter().for_each(|id| self.release(*id));
        self.rules.lock().expect("rules").clear();
    }

    pub fn list(&self) -> Vec<RuleState<M, F>> {
        self.rules.lock().expect("rules").values().cloned().collect()
    }

    pub fn get(&self, id: u64) -> Option<RuleState<M, F>> {
        self.rules.lock().expect("rules").get(&id).cloned()
    }

    pub fn matching(&self, call: &M::Call) -> Vec<(u64, F)> {
        let mut rules = self.rules.lock().expect("rules");
        let mut hit = Vec::new();
        for state in rules.values_mut().filter(|s| s.rule.matches.agrees(call)) {
            state.seen += 1;
            if state.seen >= state.rule.nth && state.rule.times.is_none_or(|t| state.hits < t) {
                state.hits += 1;
                hit.push((state.id, state.rule.fault.clone()));
            }
        }
        hit
    }

    /// The calls that this rule holds, now and later, go on.
    pub fn release(&self, id: u64) {
        self.released.send_modify(|r| {
            r.insert(id);
        });
    }

    pub async fn hold(&self, id: u64) {
        let change = |by: i64| {
            if let Some(state) = self.rules.lock().expect("rules").get_mut(&id) {
                state.held = state.held.saturating_add_signed(by);
            }
        };
        change(1);
        let mut released = self.released.subscribe();
        // The sender lives as long as self.
        let _ = released.wait_for(|r| r.contains(&id)).await;
        change(-1);
    }

    pub async fn wait_held(&self, id: u64, timeout: Duration) -> bool {
        let there = async {
            while self.get(id).is_none_or(|s| s.held == 0) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(timeout, there).await.is_ok()
    }

    /// The same without a runtime. `false`: none was held in time.
    pub fn wait_held_here(&self, id: u64, timeout: Duration) -> bool {
        let until = boot_us() + timeout.as_micros() as u64;
        while self.get(id).is_none_or(|s| s.held == 0) {
            if boot_us() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}
