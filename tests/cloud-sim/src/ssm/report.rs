//! What is told of a command: GetCommandInvocation, ListCommandInvocations, ListCommands.

use super::commands::{Command, Invocation, StepState, status, terminal};
use super::{need, page, text};
use crate::clock::{epoch_s, iso};
use crate::sim::Sim;
use crate::wire::Fail;
use serde_json::{Value, json};

/// "The first 24,000 characters written by the plugin to stdout", 8,000 to stderr; 2,500 in ListCommandInvocations.
const STDOUT: usize = 24_000;
const STDERR: usize = 8_000;
const OUTPUT: usize = 2_500;
/// The agent ends a cut text with this (pluginutil).
const CUT: &str = "--output truncated--";

pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - CUT.len()).chain(CUT.chars()).collect()
}

fn find<'a>(world: &'a crate::world::World, id: &str) -> Result<&'a Command, Fail> {
    world.commands.get(id).ok_or_else(|| Fail::new("InvalidCommandId", id.to_owned()))
}

pub fn get(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let (id, instance) = (need(ask, "CommandId")?, need(ask, "InstanceId")?);
    let world = sim.world();
    // Right after SendCommand nothing is known of it, not even that it is a command.
    let missing = || Fail::new("InvocationDoesNotExist", "");
    let command = world.commands.get(id).filter(|c| c.visible()).ok_or_else(missing)?;
    let invocation = command.invocations.get(instance).ok_or_else(missing)?;
    let step = match text(ask, "PluginName") {
        Some(name) => invocation.steps.iter().find(|s| s.name == name),
        None => invocation.steps.first().filter(|_| invocation.steps.len() == 1),
    };
    let step = step.ok_or_else(|| Fail::new("InvalidPluginName", "the name of a step is needed"))?;
    Ok(one(command, instance, invocation, step))
}

fn one(command: &Command, instance: &str, invocation: &Invocation, step: &StepState) -> Value {
    let times = step.start_wall_ms.zip(step.end_wall_ms);
    let elapsed = times.map(|(s, e)| format!("PT{}.{:03}S", (e - s) / 1000, (e - s) % 1000));
    // A step of a command that was never delivered has no state of its own.
    let details = if step.code == -1 && terminal(&invocation.details) { &invocation.details } else { &step.details };
    json!({
        "CommandId": command.id, "InstanceId": instance, "Comment": command.comment, "DocumentName": command.document,
        "DocumentVersion": command.version, "PluginName": step.name, "ResponseCode": step.code,
        "ExecutionStartDateTime": step.start_wall_ms.map(iso).unwrap_or_default(),
        "ExecutionElapsedTime": elapsed.unwrap_or_default(),
        "ExecutionEndDateTime": step.end_wall_ms.map(iso).unwrap_or_default(),
        "Status": status(details), "StatusDetails": details,
        "StandardOutputContent": cut(&step.stdout, STDOUT), "StandardOutputUrl": "",
        "StandardErrorContent": cut(&step.stderr, STDERR), "StandardErrorUrl": "",
        "CloudWatchOutputConfig": { "CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": false },
    })
}

pub fn list_invocations(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let world = sim.world();
    let (id, instance) = (text(ask, "CommandId"), text(ask, "InstanceId"));
    let details = ask.get("Details").and_then(Value::as_bool).unwrap_or(false);
    let mut all = Vec::new();
    for command in world.commands.values().filter(|c| c.visible() && id.is_none_or(|id| c.id == id)) {
        for (name, invocation) in command.invocations.iter().filter(|(i, _)| instance.is_none_or(|w| *i == w)) {
            let plugin = |s: &StepState| {
                let error = if s.stderr.is_empty() { String::new() } else { format!("\n----------ERROR-------\n{}", s.stderr) };
                json!({
                    "Name": s.name, "Status": status(&s.details), "StatusDetails": s.details, "ResponseCode": s.code,
                    "ResponseStartDateTime": s.start_wall_ms.map(epoch_s), "ResponseFinishDateTime": s.end_wall_ms.map(epoch_s),
                    "Output": cut(&format!("{}{error}", s.stdout), OUTPUT),
                })
            };
            let plugins: Vec<Value> = if details { invocation.steps.iter().map(plugin).collect() } else { Vec::new() };
            all.push(json!({
                "CommandId": command.id, "InstanceId": name, "InstanceName": "", "Comment": command.comment,
                "DocumentName": command.document, "DocumentVersion": command.version, "RequestedDateTime": epoch_s(command.requested_wall_ms),
                "Status": status(&invocation.details), "StatusDetails": invocation.details, "CommandPlugins": plugins,
            }));
        }
    }
    let (page, next) = page(ask, all, 50)?;
    Ok(json!({ "CommandInvocations": page, "NextToken": next }))
}

pub fn list_commands(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let world = sim.world();
    let (id, instance) = (text(ask, "CommandId"), text(ask, "InstanceId"));
    if let Some(id) = id {
        find(&world, id)?;
    }
    let mut all: Vec<&Command> = world.commands.values().filter(|c| c.visible() && id.is_none_or(|id| c.id == id)).collect();
    all.retain(|c| instance.is_none_or(|i| c.invocations.contains_key(i)));
    // "Newest first."
    all.sort_by_key(|c| std::cmp::Reverse(c.visible_at_ms));
    let (page, next) = page(ask, all, 50)?;
    Ok(json!({ "Commands": page.into_iter().map(command).collect::<Vec<_>>(), "NextToken": next }))
}

pub fn command(c: &Command) -> Value {
    let ends: Vec<&str> = c.invocations.values().map(|i| i.details.as_str()).filter(|d| terminal(d)).collect();
    let count = |d: &str| ends.iter().filter(|e| **e == d).count();
    let (total, good, undelivered) = (c.invocations.len(), count("Success"), count("DeliveryTimedOut"));
    let details = match () {
        () if ends.len() < total && c.invocations.values().all(|i| i.details == "Pending") => "Pending",
        () if ends.len() < total => "InProgress",
        () if good == total => "Success",
        () if count("Cancelled") > 0 => "Cancelled",
        () if undelivered == total => "DeliveryTimedOut",
        () if count("ExecutionTimedOut") > 0 => "ExecutionTimedOut",
        () if good + undelivered == total => "Incomplete",
        () => "Failed",
    };
    let status = if details == "Incomplete" { "Failed" } else { status(details) };
    json!({
        "CommandId": c.id, "DocumentName": c.document, "DocumentVersion": c.version, "Comment": c.comment, "Parameters": c.parameters,
        "InstanceIds": c.invocations.keys().collect::<Vec<_>>(), "RequestedDateTime": epoch_s(c.requested_wall_ms),
        "ExpiresAfter": epoch_s(c.requested_wall_ms + c.delivery_ms as i64), "Status": status, "StatusDetails": details,
        "MaxConcurrency": "50", "MaxErrors": "0", "TargetCount": total, "CompletedCount": ends.len(),
        "ErrorCount": ends.len() - good - undelivered - count("Cancelled"), "DeliveryTimedOutCount": undelivered,
        "TimeoutSeconds": c.timeout_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_loses_its_end_and_says_so() {
        assert_eq!(cut("ä".repeat(24_000).as_str(), STDOUT).chars().count(), 24_000);
        let long = cut(&"x".repeat(24_001), STDOUT);
        assert!(long.ends_with(CUT) && long.len() == 24_000);
    }
}
