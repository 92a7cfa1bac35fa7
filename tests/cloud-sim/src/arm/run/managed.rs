//! `…/runCommands/NAME`: parallel, with an exit code; another PUT or a DELETE kills what runs.

use super::{ArmRun, Odd, Plan, TAIL, cancel, change, parameters, perform, running, tail};
use crate::arm::fault::ArmFault;
use crate::arm::lro::{self, Fate, State};
use crate::arm::page::page;
use crate::arm::sim::Sim;
use crate::arm::wire::{Ask, Fail, json_reply};
use crate::arm::{id, tags};
use crate::clock::{boot_us, iso, wall_ms};
use crate::wire::Reply;
use crate::world::Tags;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const PER_VM: usize = 25;
/// Seconds, when nothing is said.
const TIMEOUT_S: u64 = 5_400;

/// The resource.
#[derive(Clone, Debug)]
pub struct Run {
    pub id: String,
    pub name: String,
    pub location: String,
    pub tags: Tags,
    pub properties: Value,
    /// `Creating`, `Updating`, `Succeeded`, `Failed`
    pub provisioning: String,
    /// Its last run, in `World::ran`.
    pub n: usize,
    pub told: Option<Told>,
}

/// What the instance view tells once the end is known.
#[derive(Clone, Debug)]
pub struct Told {
    state: String,
    exit_code: i32,
    output: String,
    error: String,
    ended_wall_ms: i64,
}

fn vm_of(ask: &Ask) -> String {
    let t = ask.target();
    id::of(&t.subscription, t.group.as_deref().unwrap_or_default(), "virtualMachines", t.name.as_deref().unwrap_or_default())
}

pub fn put(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let vm = vm_of(ask);
    let location = running(sim, &vm)?;
    if ask.text("/location").is_none() {
        return Err(Fail::bad("LocationRequired", "The location property is required for this definition."));
    }
    let properties = ask.body.get("properties").cloned().unwrap_or(Value::Null);
    let Some(script) = properties.pointer("/source/script").and_then(Value::as_str) else {
        return Err(Fail::bad("InvalidParameter", "Required parameter 'source.script' is missing (the double has no other source)."));
    };
    let key = id::key(&ask.id());
    let mut given = parameters(properties.get("parameters"));
    given.extend(parameters(properties.get("protectedParameters")));
    let old = sim.world().runs.get(&key).cloned();
    let same = |old: &Run| ["source", "parameters", "protectedParameters"].iter().all(|k| old.properties.get(k) == properties.get(k));
    let (status, provisioning) = if old.is_some() { (200, "Updating") } else { (201, "Creating") };
    if let Some(old) = old.as_ref().filter(|o| same(o)) {
        // The goal state has not changed, so the guest does nothing.
        let (shared, body) = (sim.clone(), render(sim, old, false));
        let result = body.clone();
        return Ok(lro::accept(sim, ask, &location, status, Some(&body), move |op| async move {
            lro::end(&shared, &op, State::Succeeded(result))
        }));
    }
    let prefix = format!("{}/runcommands/", id::key(&vm));
    if old.is_none() && sim.world().runs.keys().filter(|k| k.starts_with(&prefix)).count() >= PER_VM {
        return Err(Fail::new(409, "OperationNotAllowed", format!("A VM has at most {PER_VM} run commands: {vm}")));
    }
    if let Some(old) = &old {
        cancel(sim, old.n);
    }
    let name = ask.resource_name().to_owned();
    let (script, tags) = (script.to_owned(), tags::read(&ask.body)?.unwrap_or_default());
    let run = {
        let mut world = sim.world();
        let n = world.ran.len();
        let run =
            ArmRun { vm: vm.clone(), name: Some(name.clone()), script: script.clone(), parameters: given.clone(), ..ArmRun::default() };
        world.ran.push(ArmRun { state: "Pending".into(), asked_us: boot_us(), ..run });
        let run =
            Run { id: ask.id(), name, location: location.clone(), tags, properties, provisioning: provisioning.into(), n, told: None };
        world.runs.insert(key.clone(), run.clone());
        run
    };
    let asynchronous = run.properties.get("asyncExecution").and_then(Value::as_bool).unwrap_or(false);
    let seconds = run.properties.get("timeoutInSeconds").and_then(Value::as_u64).filter(|s| *s > 0).unwrap_or(TIMEOUT_S);
    let (named, unnamed): (Vec<_>, Vec<_>) = given.into_iter().filter(|(_, v)| !v.is_empty()).partition(|(n, _)| !n.is_empty());
    let plan = Plan {
        vm,
        n: run.n,
        text: script,
        arguments: unnamed.iter().map(|(_, v)| format!(" {v}")).collect(),
        env: named,
        deliver_ms: sim.config.run.managed_deliver_ms,
        limit_ms: seconds * 1000,
        odd: Odd::of(faults),
    };
    let (shared, fate, body) = (sim.clone(), Fate::of(faults), render(sim, &run, false));
    Ok(lro::accept(sim, ask, &location, status, Some(&body), move |operation| work(shared, plan, fate, operation, key, asynchronous)))
}

async fn work(sim: Arc<Sim>, plan: Plan, fate: Fate, operation: String, key: String, asynchronous: bool) {
    let provisioned = || {
        let ok = lro::end_by(&sim, &operation, &fate, || {
            set(&sim, &key, plan.n, |r| r.provisioning = "Succeeded".into());
            resource(&sim, &key)
        });
        if !ok && !fate.endless {
            set(&sim, &key, plan.n, |r| r.provisioning = "Failed".into());
        }
    };
    let ended = perform(&sim, &plan, || {
        if asynchronous {
            provisioned();
        }
    })
    .await;
    let Some(ended) = ended else {
        if change(&sim, plan.n, |r| r.cancelled) == Some(true) {
            preempted(&sim, &operation);
        }
        return;
    };
    if change(&sim, plan.n, |r| r.cancelled) == Some(true) {
        return preempted(&sim, &operation);
    }
    let state = match ended.code {
        _ if ended.timed_out => "TimedOut",
        0 => "Succeeded",
        _ => "Failed",
    };
    let (state, exit_code) = plan.odd.report.clone().unwrap_or((state.into(), ended.code));
    let bytes = plan.odd.cut.unwrap_or(TAIL);
    let (output, error) = (tail(&ended.stdout, bytes).to_owned(), tail(&ended.stderr, bytes).to_owned());
    change(&sim, plan.n, |r| r.state = state.clone());
    let told = Told { state: state.clone(), exit_code, output, error, ended_wall_ms: wall_ms() };
    let strict = set(&sim, &key, plan.n, |r| {
        r.told = Some(told);
        r.properties.get("treatFailureAsDeploymentFailure").and_then(Value::as_bool).unwrap_or(false)
    });
    if asynchronous {
        return;
    }
    if strict == Some(true) && state != "Succeeded" {
        set(&sim, &key, plan.n, |r| r.provisioning = "Failed".into());
        let message = format!("VM has reported a failure when processing run command: exit code {exit_code}");
        return lro::end(&sim, &operation, State::Failed { code: "VMExtensionProvisioningError".into(), message });
    }
    provisioned();
}

fn preempted(sim: &Sim, operation: &str) {
    let message = "The operation was preempted by a more recent operation.".to_owned();
    if sim.world().operations.get(operation).is_some_and(|o| matches!(o.state, State::InProgress)) {
        lro::end(sim, operation, State::Failed { code: "OperationPreempted".into(), message });
    }
}

/// Unless another PUT or a DELETE came meanwhile.
fn set<T>(sim: &Sim, key: &str, n: usize, f: impl FnOnce(&mut Run) -> T) -> Option<T> {
    sim.world().runs.get_mut(key).filter(|r| r.n == n).map(f)
}

fn resource(sim: &Sim, key: &str) -> Value {
    let run = sim.world().runs.get(key).cloned();
    run.map_or(Value::Null, |r| render(sim, &r, false))
}

fn render(sim: &Sim, run: &Run, expand: bool) -> Value {
    let mut properties = run.properties.clone();
    if let Some(map) = properties.as_object_mut() {
        map.remove("protectedParameters");
    }
    properties["provisioningState"] = json!(run.provisioning);
    if expand {
        properties["instanceView"] = view(sim, run);
    }
    let kind = "Microsoft.Compute/virtualMachines/runCommands";
    json!({ "id": run.id, "name": run.name, "type": kind, "location": run.location, "tags": run.tags, "properties": properties })
}

fn view(sim: &Sim, run: &Run) -> Value {
    let started = change(sim, run.n, |r| r.started_us).flatten();
    let wall = |us: u64| iso(wall_ms() - ((boot_us() - us) / 1000) as i64);
    let mut view = match &run.told {
        Some(t) => json!({
            "executionState": t.state, "exitCode": t.exit_code, "output": t.output, "error": t.error, "endTime": iso(t.ended_wall_ms),
            "executionMessage": format!("Execution {}", t.state.to_ascii_lowercase()), "statuses": [],
        }),
        None => {
            let state = if started.is_some() { "Running" } else { "Pending" };
            json!({ "executionState": state, "executionMessage": "Execution in progress", "exitCode": 0, "output": "", "error": "", "statuses": [] })
        }
    };
    if let Some(us) = started {
        view["startTime"] = json!(wall(us));
    }
    view
}

fn expand(ask: &Ask) -> bool {
    ask.param("$expand").is_some_and(|e| e.eq_ignore_ascii_case("instanceView"))
}

pub fn get(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let run = sim.world().runs.get(&id::key(&ask.id())).cloned().ok_or_else(|| Fail::not_found(&ask.id()))?;
    Ok(json_reply(200, &render(sim, &run, expand(ask))))
}

pub fn list(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let vm = vm_of(ask);
    if !sim.world().vms.contains_key(&id::key(&vm)) {
        return Err(Fail::not_found(&vm));
    }
    let prefix = format!("{}/runcommands/", id::key(&vm));
    let own: BTreeMap<String, Run> =
        sim.world().runs.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(k, r)| (k.clone(), r.clone())).collect();
    Ok(page(sim, ask, &own, |r| render(sim, r, expand(ask))))
}

pub fn delete(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let key = id::key(&ask.id());
    let Some(run) = sim.world().runs.get(&key).cloned() else { return Ok(Reply::new(204, "application/json", "")) };
    cancel(sim, run.n);
    let (shared, fate) = (sim.clone(), Fate::of(faults));
    Ok(lro::accept(sim, ask, &run.location, 202, None, move |operation| async move {
        lro::end_by(&shared, &operation, &fate, || {
            shared.world().runs.remove(&key);
            Value::Null
        });
    }))
}
