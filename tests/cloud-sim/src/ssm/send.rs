//! SendCommand: everything that it refuses, and the command that it makes.

use super::commands::{Command, Invocation, Odd};
use super::documents::{Parameter, Resolved, resolve};
use super::{need, report, runner, text, texts};
use crate::clock::{boot_ms, wall_ms};
use crate::faults::Fault;
use crate::sim::Sim;
use crate::wire::Fail;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const INSTANCES: usize = 50;
const COMMENT: usize = 100;
/// Seconds.
const TIMEOUT: std::ops::RangeInclusive<u64> = 30..=2_592_000;
const TIMEOUT_DEFAULT: u64 = 3_600;

pub type Parameters = BTreeMap<String, Vec<String>>;

fn invalid(message: String) -> Fail {
    Fail::new("InvalidParameters", message)
}

pub async fn send(sim: &Arc<Sim>, ask: &Value, faults: &[(u64, Fault)]) -> Result<Value, Fail> {
    let name = need(ask, "DocumentName")?;
    let comment = text(ask, "Comment").unwrap_or_default();
    let validation = |what: String| Err(Fail::new("ValidationException", what));
    if comment.chars().count() > COMMENT {
        return validation(format!("Comment: at most {COMMENT} characters"));
    }
    let timeout_s = ask.get("TimeoutSeconds").map_or(Some(TIMEOUT_DEFAULT), Value::as_u64);
    let Some(timeout_s) = timeout_s.filter(|t| TIMEOUT.contains(t)) else {
        return validation(format!("TimeoutSeconds: {} to {}", TIMEOUT.start(), TIMEOUT.end()));
    };
    let instances = targets(sim, ask)?;
    let document = resolve(sim, name, text(ask, "DocumentVersion")).await?;
    if text(ask, "DocumentHash").is_some_and(|h| h != document.hash) {
        return Err(Fail::new("InvalidDocument", "DocumentHash is not that of the document"));
    }
    let parameters = parameters(ask, &document)?;

    let id = uuid::Uuid::new_v4().to_string();
    let steps: Vec<(String, String)> = document.content.main_steps.iter().map(|s| (s.name.clone(), s.action.clone())).collect();
    let (now, odd) = (boot_ms(), Odd::of(faults));
    let delivery_ms = sim.config.ssm.delivery_timeout_ms.unwrap_or_else(|| (timeout_s + longest(&document)) * 1000);
    let command = Command {
        id: id.clone(),
        document: document.name.clone(),
        version: document.version.clone(),
        comment: comment.to_owned(),
        parameters: parameters.clone(),
        requested_wall_ms: wall_ms(),
        visible_at_ms: now + sim.config.ssm.visible_after_ms,
        timeout_s,
        delivery_ms,
        cancelled: BTreeSet::new(),
        invocations: instances.iter().map(|i| (i.clone(), Invocation::new(&steps))).collect(),
    };
    let answer = serde_json::json!({ "Command": report::command(&command) });
    sim.world().commands.insert(id.clone(), command);
    for instance in instances {
        let run =
            runner::Run { command: id.clone(), instance, document: document.clone(), parameters: parameters.clone(), odd: odd.clone() };
        tokio::spawn(runner::run(sim.clone(), run));
    }
    Ok(answer)
}

/// The time-out of delivery is TimeoutSeconds plus the document's own ("Understanding command timeout values").
fn longest(document: &Resolved) -> u64 {
    let steps = document.content.main_steps.iter();
    steps.map(|s| s.inputs.get("timeoutSeconds").map_or(TIMEOUT_DEFAULT, |t| super::script::seconds(t).unwrap_or(TIMEOUT_DEFAULT))).sum()
}

fn targets(sim: &Sim, ask: &Value) -> Result<Vec<String>, Fail> {
    let mut ids = texts(ask, "InstanceIds");
    let world = sim.world();
    let by_target = ask.get("Targets").and_then(Value::as_array);
    for target in by_target.into_iter().flatten() {
        let (key, values) = (text(target, "Key").unwrap_or_default(), texts(target, "Values"));
        match (key, key.strip_prefix("tag:")) {
            ("InstanceIds" | "instanceids", _) => ids.extend(values),
            (_, Some(tag)) => {
                let has = |id: &&String| world.instances.get(*id).and_then(|i| i.tags.get(tag)).is_some_and(|v| values.contains(v));
                ids.extend(world.hosts.keys().filter(has).cloned());
            }
            _ => return Err(Fail::new("InvalidTarget", format!("the double has no target {key}"))),
        }
    }
    if ids.is_empty() && by_target.is_none() {
        return Err(Fail::new("ValidationException", "InstanceIds or Targets are needed"));
    }
    if texts(ask, "InstanceIds").len() > INSTANCES {
        return Err(Fail::new("ValidationException", format!("InstanceIds: at most {INSTANCES}")));
    }
    if ids.iter().collect::<BTreeSet<_>>().len() != ids.len() {
        return Err(Fail::new("DuplicateInstanceId", "an instance id is there twice"));
    }
    // "SSM Agent isn't registered, or the managed node isn't in a valid state."
    let managed = |id: &&String| world.hosts.contains_key(*id) && world.instances.get(*id).is_none_or(|i| i.state == "running");
    let bad: Vec<&str> = ids.iter().filter(|id| !managed(id)).map(String::as_str).collect();
    if !bad.is_empty() {
        return Err(Fail::new(
            "InvalidInstanceId",
            format!("Instances [[{}]] not in a valid state for account {}", bad.join(", "), sim.config.account),
        ));
    }
    Ok(ids)
}

/// Given ones checked, others from their defaults.
fn parameters(ask: &Value, document: &Resolved) -> Result<Parameters, Fail> {
    let known = &document.content.parameters;
    let mut all = Parameters::new();
    if let Some(given) = ask.get("Parameters").and_then(Value::as_object) {
        for (name, values) in given {
            let Some(parameter) = known.get(name) else {
                return Err(invalid(format!("Parameter {name} is not in the document {}", document.name)));
            };
            let values = values.as_array().ok_or_else(|| invalid(format!("Parameter {name}: a list is needed")))?;
            let values: Vec<String> = values.iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect();
            check(name, parameter, &values)?;
            all.insert(name.clone(), values);
        }
    }
    for (name, parameter) in known.iter().filter(|(n, _)| !all.contains_key(*n)).collect::<Vec<_>>() {
        let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let values = match &parameter.default {
            None => return Err(invalid(format!("Parameter {name} is missing and has no default"))),
            Some(Value::Array(list)) => list.iter().map(plain).collect(),
            Some(one) => vec![plain(one)],
        };
        all.insert(name.clone(), values);
    }
    Ok(all)
}

fn check(name: &str, p: &Parameter, values: &[String]) -> Result<(), Fail> {
    if p.kind == "String" && values.len() != 1 {
        return Err(invalid(format!("Parameter {name}: exactly one value is needed")));
    }
    for value in values {
        // Not anchored, as the agent's own validator: a pattern without ^ and $ lets anything around it pass.
        let pattern = p.allowed_pattern.as_deref().and_then(|p| regex::Regex::new(p).ok());
        if pattern.is_some_and(|r| !r.is_match(value)) {
            return Err(invalid(format!("Parameter {name}: the value does not match the allowedPattern")));
        }
        if p.allowed_values.as_ref().is_some_and(|a| !a.iter().any(|a| a.as_str() == Some(value))) {
            return Err(invalid(format!("Parameter {name}: the value is not one of the allowedValues")));
        }
        let length = value.chars().count();
        if p.min_chars.is_some_and(|m| length < m) || p.max_chars.is_some_and(|m| length > m) {
            return Err(invalid(format!("Parameter {name}: {length} characters")));
        }
    }
    Ok(())
}
