//! What a coordinator's process says beside its answer: a line per step, and lines with metrics.
//! No tags, no owner, no output of hosts: a log is read by more people than a catalogue.

use coordinator::act::stage;
use coordinator::saga::Thaw;
use coordinator::watch::Watch;
use coordinator::{Phase, Saga, Step};
use protocol::{Verdict, WallMs};
use serde_json::{Value, json};

const NAMESPACE: &str = "snapfreeze";

/// Metric name, CloudWatch's unit, value.
type Metric = (&'static str, &'static str, u64);

/// A line with metrics.
#[derive(Clone, Debug)]
pub struct Line {
    now: WallMs,
    metrics: Vec<Metric>,
    line: Value,
}

impl Line {
    fn new(now: WallMs, policy: &str, metrics: Vec<Metric>, mut line: Value) -> Self {
        line["Policy"] = json!(policy);
        for (name, _, value) in &metrics {
            line[*name] = json!(value);
        }
        Self { now, metrics, line }
    }

    /// Each metric under its name.
    pub fn plain(mut self) -> Value {
        self.line["at"] = json!(self.now.0);
        self.line
    }

    /// In CloudWatch's embedded metric format.
    pub fn emf(mut self) -> Value {
        let names: Vec<Value> = self.metrics.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit })).collect();
        self.line["_aws"] = json!({ "Timestamp": self.now.0,
            "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": [["Policy"]], "Metrics": names }] });
        self.line
    }
}

/// Without any held set there is no age: the alarm treats a missing value as too old.
pub fn watched(now: WallMs, policy: &str, w: &Watch) -> Line {
    let mut metrics = vec![("SilentInstances", "Count", w.silent() as u64)];
    metrics.extend(w.worst_age_ms().map(|ms| ("AgeOfLastHeldSet", "Seconds", ms / 1000)));
    Line::new(now, policy, metrics, json!({ "message": "watch" }))
}

/// Of a saga that is over.
pub fn ended(now: WallMs, saga: &Saga) -> Line {
    let verdict = saga.result().is_ok();
    let is = |yes: bool| u64::from(yes);
    let broken = matches!(saga.verdict, Some(Verdict::Broken(_)));
    let left = saga.left_frozen().count() as u64;
    let mut metrics = vec![
        ("Held", "Count", is(verdict)),
        ("Broken", "Count", is(broken)),
        // Ended without any snapshot.
        ("Refused", "Count", is(!verdict && !broken)),
        ("LeftFrozen", "Count", left),
    ];
    let windows =
        saga.members.iter().filter_map(|m| if let Thaw::Confirmed { window: Some(w) } = &m.thaw { Some(w.window_ms) } else { None });
    metrics.extend(windows.max().map(|ms| ("WindowMs", "Milliseconds", ms)));
    let hop = saga.members.iter().filter_map(|m| m.plan.as_ref()).map(|p| p.hop_ms).max();
    metrics.extend(hop.map(|ms| ("FreezeHopMs", "Milliseconds", ms)));
    let line = json!({ "message": "ended", "backup_id": saga.order.id, "hosts": hosts(saga), "verdict": verdict_of(saga),
        "code": saga.result().err().map(|p| p.code.name()) });
    Line::new(now, &saga.order.policy.name, metrics, line)
}

pub fn step(now: WallMs, saga: &Saga, step: &Step) -> Value {
    json!({ "message": "step", "at": now.0, "step": word(step), "phase": stage(saga.phase), "backup_id": saga.order.id,
        "policy": saga.order.policy.name, "hosts": hosts(saga) })
}

/// `pending`, `held` or `broken`; what ended without a set is not held, so it is `broken`.
pub fn verdict_of(saga: &Saga) -> &'static str {
    match &saga.verdict {
        Some(v) if saga.problem.is_none() || saga.phase != Phase::Done => v.word(),
        Some(Verdict::Broken(_)) => "broken",
        Some(Verdict::Held | Verdict::Pending) | None if saga.phase == Phase::Done => "broken",
        Some(Verdict::Held | Verdict::Pending) | None => "pending",
    }
}

const fn word(s: &Step) -> &'static str {
    match s {
        Step::Inspect => "inspect",
        Step::Wait(_) => "wait",
        Step::Freeze(_) => "freeze",
        Step::Backup(_) => "backup",
        Step::Snapshot(_) => "snapshot",
        Step::Thaw(_) => "thaw",
        Step::Find => "find",
        Step::Mark => "mark",
        Step::Complete => "complete",
        Step::After => "after",
        Step::Done => "done",
    }
}

fn hosts(saga: &Saga) -> Vec<&str> {
    saga.members.iter().map(|m| m.target.id.as_str()).collect()
}
