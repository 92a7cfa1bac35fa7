//! `POST …/runCommand`: one at a time, no exit code, no cancelling.

use super::{ArmRun, Odd, Plan, TAIL, change, parameters, perform, running, tail};
use crate::arm::fault::ArmFault;
use crate::arm::id;
use crate::arm::lro::{self, Fate, State};
use crate::arm::sim::Sim;
use crate::arm::wire::{Ask, Fail};
use crate::clock::boot_us;
use crate::wire::Reply;
use serde_json::{Value, json};
use std::sync::Arc;

const BUSY: &str = "Run command extension execution is in progress. Please wait for completion before invoking a run command.";
const SAMPLE: &str = "/bin/echo 'this is the sample script'";

pub fn post(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let t = ask.target();
    let vm = id::of(&t.subscription, t.group.as_deref().unwrap_or_default(), "virtualMachines", t.name.as_deref().unwrap_or_default());
    let location = running(sim, &vm)?;
    if ask.text("/commandId") != Some("RunShellScript") {
        return Err(Fail::bad(
            "InvalidParameter",
            "Required parameter 'commandId' is missing, or not RunShellScript (the double has no other).",
        ));
    }
    let lines = ask.body.get("script").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let (script, given, odd) = (lines.collect::<Vec<_>>().join("\n"), parameters(ask.body.get("parameters")), Odd::of(faults));
    let text = if odd.sample { SAMPLE.to_owned() } else { with_parameters(&script, &given) };
    let n = {
        let mut world = sim.world();
        if world.slots.contains_key(&id::key(&vm)) {
            return Err(Fail::conflict(BUSY));
        }
        world.slots.insert(id::key(&vm), "taken".into());
        let run = ArmRun { vm: vm.clone(), script, parameters: given, state: "Pending".into(), asked_us: boot_us(), ..ArmRun::default() };
        world.ran.push(run);
        world.ran.len() - 1
    };
    let config = &sim.config.run;
    let plan = Plan {
        vm,
        n,
        text,
        arguments: String::new(),
        env: Vec::new(),
        deliver_ms: config.action_deliver_ms,
        limit_ms: config.action_timeout_ms,
        odd,
    };
    let (shared, fate) = (sim.clone(), Fate::of(faults));
    Ok(lro::accept(sim, ask, &location, 202, None, move |operation| work(shared, plan, fate, operation)))
}

/// "These parameters are parsed and added at the top of your script" as `export a=x b=y` and `set -- x y` (azure-cli#10400):
/// pasted into its text, so that a value with a space or a `;` is more than a value.
fn with_parameters(script: &str, given: &[(String, String)]) -> String {
    if given.is_empty() {
        return script.to_owned();
    }
    let named: Vec<String> = given.iter().filter(|(n, _)| !n.is_empty()).map(|(n, v)| format!("{n}={v}")).collect();
    let values: Vec<&str> = given.iter().map(|(_, v)| v.as_str()).collect();
    format!("export {}\nset -- {}\n{script}", named.join(" "), values.join(" "))
}

async fn work(sim: Arc<Sim>, plan: Plan, fate: Fate, operation: String) {
    let ended = perform(&sim, &plan, || {}).await;
    let Some(ended) = ended.filter(|_| !fate.endless) else { return };
    change(&sim, plan.n, |r| r.state = "Succeeded".into());
    sim.world().slots.remove(&id::key(&plan.vm));
    if ended.timed_out {
        let what = "VM has reported a failure when processing extension 'RunCommandLinux': the script did not end in time.";
        return lro::end(&sim, &operation, State::Failed { code: "VMExtensionProvisioningTimeout".into(), message: what.into() });
    }
    let bytes = plan.odd.cut.unwrap_or(TAIL);
    let message = format!("Enable succeeded: \n[stdout]\n{}\n[stderr]\n{}", tail(&ended.stdout, bytes), tail(&ended.stderr, bytes));
    lro::end_by(&sim, &operation, &fate, || {
        json!({ "value": [{
            "code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded", "message": message,
        }] })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_pasted_above_the_script() {
        let given = [("a".to_owned(), "x; y".to_owned()), (String::new(), "z".to_owned())];
        assert_eq!(with_parameters("echo", &given), "export a=x; y\nset -- x; y z\necho");
        assert_eq!(with_parameters("echo", &[]), "echo");
    }
}
