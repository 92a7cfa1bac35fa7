//! Run Command: really runs what it is given, as the handler in the guest does (run-command-handler-linux).

pub mod action;
mod exec;
pub mod managed;

use super::fault::ArmFault;
use super::id;
use super::sim::Sim;
use super::wire::Fail;
use crate::clock::boot_us;
use crate::shell::kill_one;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub use managed::Run;

/// "Output is limited to the last 4,096 bytes."
const TAIL: usize = 4096;

/// One script that was asked for, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmRun {
    /// The VM's id, as it was asked.
    pub vm: String,
    /// Of the managed command; `None`: an action.
    pub name: Option<String>,
    /// As it was given, before parameters and paths.
    pub script: String,
    /// Name (or none) and value.
    pub parameters: Vec<(String, String)>,
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `TimedOut`, `Canceled`: what is told of it.
    pub state: String,
    /// Of bash; -1: killed.
    pub exit_code: Option<i32>,
    /// All of it, not only what is told.
    pub stdout: String,
    pub stderr: String,
    /// CLOCK_BOOTTIME.
    pub asked_us: u64,
    pub started_us: Option<u64>,
    pub ended_us: Option<u64>,
    /// Killed, or never started, because of a DELETE or another PUT.
    pub cancelled: bool,
    #[serde(skip)]
    pid: Option<i32>,
}

/// What the faults change in the run.
#[derive(Clone, Debug, Default)]
struct Odd {
    lost: bool,
    hangs: bool,
    start_ms: Option<u64>,
    cut: Option<usize>,
    report: Option<(String, i32)>,
    sample: bool,
}

impl Odd {
    fn of(faults: &[(u64, ArmFault)]) -> Self {
        let mut odd = Self::default();
        for (_, fault) in faults {
            match fault {
                ArmFault::RunLost => odd.lost = true,
                ArmFault::RunHang => odd.hangs = true,
                ArmFault::StartLate { ms } => odd.start_ms = Some(*ms),
                ArmFault::CutOutput { bytes } => odd.cut = Some(*bytes),
                ArmFault::ReportAs { execution_state, exit_code } => odd.report = Some((execution_state.clone(), *exit_code)),
                ArmFault::SampleScript => odd.sample = true,
                _ => {}
            }
        }
        odd
    }
}

/// What is to be run.
struct Plan {
    vm: String,
    /// Its place in `World::ran`.
    n: usize,
    /// With parameters put in, as far as they belong there.
    text: String,
    /// Behind the script's name, unquoted.
    arguments: String,
    env: Vec<(String, String)>,
    deliver_ms: u64,
    limit_ms: u64,
    odd: Odd,
}

/// `[{"name": …, "value": …}]`; the name may be absent.
fn parameters(value: Option<&Value>) -> Vec<(String, String)> {
    let text = |p: &Value, key: &str| p.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    value.and_then(Value::as_array).into_iter().flatten().map(|p| (text(p, "name"), text(p, "value"))).collect()
}

/// Of a VM that is there and runs: its location.
fn running(sim: &Sim, vm: &str) -> Result<String, Fail> {
    let world = sim.world();
    let found = world.vms.get(&id::key(vm)).ok_or_else(|| Fail::not_found(vm))?;
    if found.power != "running" {
        return Err(Fail::new(409, "OperationNotAllowed", "The operation requires the VM to be running (or set to run)."));
    }
    Ok(found.location.clone())
}

/// Delivers and runs. `None`: it was never started (lost, cancelled), or its end is never told.
async fn perform(sim: &Arc<Sim>, plan: &Plan, started: impl FnOnce()) -> Option<exec::Ended> {
    if plan.odd.lost {
        return None;
    }
    let host = || sim.world().host(&plan.vm).filter(|h| h.online).cloned();
    let deliver = plan.odd.start_ms.or(host().and_then(|h| h.deliver_ms)).unwrap_or(plan.deliver_ms);
    tokio::time::sleep(Duration::from_millis(deliver)).await;
    let host = loop {
        match host() {
            Some(host) => break host,
            None if cancelled(sim, plan.n) => return None,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    if cancelled(sim, plan.n) {
        return None;
    }
    change(sim, plan.n, |r| (r.state, r.started_us) = ("Running".into(), Some(boot_us())));
    started();
    let ended = exec::bash(sim, &host, plan).await.unwrap_or_else(|e| exec::Ended::broken(&e));
    change(sim, plan.n, |r| {
        (r.ended_us, r.exit_code, r.pid) = (Some(boot_us()), Some(ended.code), None);
        (r.stdout, r.stderr) = (ended.stdout.clone(), ended.stderr.clone());
    });
    if plan.odd.hangs {
        return None;
    }
    tokio::time::sleep(Duration::from_millis(host.reply_ms.unwrap_or(sim.config.run.reply_ms))).await;
    Some(ended)
}

fn change<T>(sim: &Sim, n: usize, f: impl FnOnce(&mut ArmRun) -> T) -> Option<T> {
    sim.world().ran.get_mut(n).map(f)
}

fn cancelled(sim: &Sim, n: usize) -> bool {
    change(sim, n, |r| r.cancelled).unwrap_or(true)
}

/// Kills bash and nothing that it started.
fn cancel(sim: &Sim, n: usize) {
    change(sim, n, |r| {
        if r.ended_us.is_none() {
            (r.cancelled, r.state) = (true, "Canceled".into());
            r.pid.into_iter().for_each(kill_one);
        }
    });
}

/// The last bytes, from the first whole character on.
fn tail(text: &str, bytes: usize) -> &str {
    let mut from = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
