//! Commands and what became of them on each host.

use super::{need, texts};
use crate::clock::boot_ms;
use crate::faults::Fault;
use crate::shell::kill_group;
use crate::sim::Sim;
use crate::wire::Fail;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub struct Command {
    pub id: String,
    pub document: String,
    pub version: String,
    pub comment: String,
    pub parameters: BTreeMap<String, Vec<String>>,
    pub requested_wall_ms: i64,
    /// Boot time from which GetCommandInvocation knows it.
    pub visible_at_ms: u64,
    pub timeout_s: u64,
    /// From SendCommand until DeliveryTimedOut.
    pub delivery_ms: u64,
    /// Instances on which it is to be cancelled.
    pub cancelled: BTreeSet<String>,
    pub invocations: BTreeMap<String, Invocation>,
}

/// What is reported of one host, and what really happened there.
#[derive(Clone)]
pub struct Invocation {
    /// `Pending`, `InProgress`, `Success`, `Failed`, `DeliveryTimedOut`, `ExecutionTimedOut`, `Cancelled`, …
    pub details: String,
    pub steps: Vec<StepState>,
    /// Process group of the script that runs now.
    pub group: Option<i32>,
    /// Whether a script was ever started, whatever is reported.
    pub ran: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StepState {
    pub name: String,
    pub action: String,
    pub details: String,
    /// −1: not started.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub start_wall_ms: Option<i64>,
    pub end_wall_ms: Option<i64>,
}

/// One invocation as tests see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InvocationView {
    pub command: String,
    pub document: String,
    pub instance: String,
    pub parameters: BTreeMap<String, Vec<String>>,
    pub status_details: String,
    pub ran: bool,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Invocation {
    pub fn new(steps: &[(String, String)]) -> Self {
        let state = |(name, action): &(String, String)| StepState {
            name: name.clone(),
            action: action.clone(),
            details: "Pending".into(),
            code: -1,
            stdout: String::new(),
            stderr: String::new(),
            start_wall_ms: None,
            end_wall_ms: None,
        };
        Self { details: "Pending".into(), steps: steps.iter().map(state).collect(), group: None, ran: false }
    }
}

/// `Status` from `StatusDetails`.
pub fn status(details: &str) -> &str {
    match details {
        "DeliveryTimedOut" | "ExecutionTimedOut" => "TimedOut",
        "Undeliverable" | "Terminated" | "InvalidPlatform" | "AccessDenied" => "Failed",
        other => other,
    }
}

pub fn terminal(details: &str) -> bool {
    !["Pending", "InProgress", "Delayed", "Cancelling"].contains(&details)
}

/// What the faults of a SendCommand change in the run.
#[derive(Clone, Debug, Default)]
pub struct Odd {
    /// The report is DeliveryTimedOut whatever happens.
    pub undelivered: bool,
    /// Start so long after SendCommand; with `undelivered` and `None`: never.
    pub start_ms: Option<u64>,
    pub cut: Option<usize>,
    pub report_as: Option<String>,
    pub never_reported: bool,
}

impl Odd {
    pub fn of(faults: &[(u64, Fault)]) -> Self {
        let mut odd = Self::default();
        for (_, fault) in faults {
            match fault {
                Fault::DeliveryTimesOut { start_late_ms } => (odd.undelivered, odd.start_ms) = (true, *start_late_ms),
                Fault::StartLate { ms } => odd.start_ms = Some(*ms),
                Fault::CutOutput { chars } => odd.cut = Some(*chars),
                Fault::ReportAs { status_details } => odd.report_as = Some(status_details.clone()),
                Fault::NeverReported => odd.never_reported = true,
                _ => {}
            }
        }
        odd
    }
}

/// Changes one invocation, if it is still there.
pub fn change<T>(sim: &Sim, command: &str, instance: &str, f: impl FnOnce(&mut Invocation) -> T) -> Option<T> {
    let mut world = sim.world();
    world.commands.get_mut(command).and_then(|c| c.invocations.get_mut(instance)).map(f)
}

pub fn is_cancelled(sim: &Sim, command: &str, instance: &str) -> bool {
    sim.world().commands.get(command).is_some_and(|c| c.cancelled.contains(instance))
}

/// What is not delivered yet never runs; what runs is killed.
pub fn cancel(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let (id, only) = (need(ask, "CommandId")?, texts(ask, "InstanceIds"));
    let mut world = sim.world();
    let command = world.commands.get_mut(id).ok_or_else(|| Fail::new("InvalidCommandId", id.to_owned()))?;
    if let Some(other) = only.iter().find(|i| !command.invocations.contains_key(*i)) {
        return Err(Fail::new("InvalidInstanceId", other.clone()));
    }
    for (instance, invocation) in &mut command.invocations {
        if (!only.is_empty() && !only.contains(instance)) || terminal(&invocation.details) {
            continue;
        }
        command.cancelled.insert(instance.clone());
        match invocation.group {
            Some(group) => {
                invocation.details = "Cancelling".into();
                kill_group(group);
            }
            None => invocation.details = "Cancelled".into(),
        }
    }
    Ok(json!({}))
}

pub fn kill_all(sim: &Sim) {
    let mut world = sim.world();
    for command in world.commands.values_mut() {
        command.cancelled.extend(command.invocations.keys().cloned());
        command.invocations.values().filter_map(|i| i.group).for_each(kill_group);
    }
}

pub fn all(sim: &Sim) -> Vec<InvocationView> {
    let world = sim.world();
    let mut commands: Vec<&Command> = world.commands.values().collect();
    commands.sort_by_key(|c| c.visible_at_ms);
    let views = commands.iter().flat_map(|c| c.invocations.iter().map(|(instance, i)| view(c, instance, i)));
    views.collect()
}

fn view(c: &Command, instance: &str, i: &Invocation) -> InvocationView {
    let last = i.steps.iter().rev().find(|s| s.code != -1).or(i.steps.first());
    InvocationView {
        command: c.id.clone(),
        document: c.document.clone(),
        instance: instance.to_owned(),
        parameters: c.parameters.clone(),
        status_details: i.details.clone(),
        ran: i.ran,
        code: last.map_or(-1, |s| s.code),
        stdout: last.map(|s| s.stdout.clone()).unwrap_or_default(),
        stderr: last.map(|s| s.stderr.clone()).unwrap_or_default(),
    }
}

impl Command {
    pub fn visible(&self) -> bool {
        boot_ms() >= self.visible_at_ms
    }
}
