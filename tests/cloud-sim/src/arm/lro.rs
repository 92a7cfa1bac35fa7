//! Long running operations as Compute has them: `Azure-AsyncOperation` is polled for `status`, `Location` for the result.

use super::fault::ArmFault;
use super::sim::Sim;
use super::wire::{Ask, Fail, json_reply};
use crate::clock::{iso, wall_ms};
use crate::wire::Reply;
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum State {
    InProgress,
    /// With the result, or Null for a deletion.
    Succeeded(Value),
    Failed {
        code: String,
        message: String,
    },
}

#[derive(Clone, Debug)]
pub struct Operation {
    pub subscription: String,
    /// The path that was asked.
    pub about: String,
    pub started_wall_ms: i64,
    pub ended_wall_ms: Option<i64>,
    pub state: State,
}

/// How the faults of a call change its operation.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    pub endless: bool,
    pub fails: Option<String>,
}

impl Fate {
    pub fn of(faults: &[(u64, ArmFault)]) -> Self {
        let mut fate = Self::default();
        for (_, fault) in faults {
            match fault {
                ArmFault::EndlessAccepted => fate.endless = true,
                ArmFault::LroFailed { code } => fate.fails = Some(code.clone()),
                _ => {}
            }
        }
        fate
    }
}

/// `DiskOperations` for disks and snapshots, `operations` for the rest.
fn segment(kind: &str) -> &'static str {
    if ["snapshots", "disks"].contains(&kind) { "DiskOperations" } else { "operations" }
}

/// Accepts: registers the operation, runs `work` in a task of its own, and answers `status` with the headers to poll by.
pub fn accept<F>(sim: &Arc<Sim>, ask: &Ask, location: &str, status: u16, body: Option<&Value>, work: impl FnOnce(String) -> F) -> Reply
where
    F: Future<Output = ()> + Send + 'static,
{
    let (id, t) = (uuid::Uuid::new_v4().to_string(), ask.target());
    let about = ask.path.clone();
    let new = Operation {
        about,
        subscription: t.subscription.clone(),
        started_wall_ms: wall_ms(),
        ended_wall_ms: None,
        state: State::InProgress,
    };
    sim.world().operations.insert(id.clone(), new);
    tokio::spawn(work(id.clone()));
    let version = ask.param("api-version").unwrap_or_default();
    let url = format!(
        "{}/subscriptions/{}/providers/Microsoft.Compute/locations/{location}/{}/{id}?p={}&api-version={version}",
        ask.base,
        t.subscription,
        segment(&t.kind),
        uuid::Uuid::new_v4()
    );
    let mut reply = match body {
        Some(value) => json_reply(status, value),
        None => Reply::new(status, "application/json", ""),
    };
    reply.headers.push(("Azure-AsyncOperation".into(), url.clone()));
    reply.headers.push(("Azure-AsyncNotification".into(), "Enabled".into()));
    reply.headers.push(("Location".into(), format!("{url}&monitor=true")));
    reply.headers.push(("Retry-After".into(), sim.config.retry_after_s.to_string()));
    reply
}

pub fn end(sim: &Sim, operation: &str, state: State) {
    if let Some(op) = sim.world().operations.get_mut(operation) {
        (op.state, op.ended_wall_ms) = (state, Some(wall_ms()));
    }
}

/// The end that the fate says: success with `result`, failure, or none at all. `true`: success.
pub fn end_by(sim: &Sim, operation: &str, fate: &Fate, result: impl FnOnce() -> Value) -> bool {
    if fate.endless {
        return false;
    }
    match &fate.fails {
        Some(code) => end(sim, operation, State::Failed { code: code.clone(), message: "the double was told to fail this".into() }),
        None => end(sim, operation, State::Succeeded(result())),
    }
    fate.fails.is_none()
}

pub fn poll(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let (t, name) = (ask.target(), ask.resource_name());
    let known = sim.world().operations.get(name).cloned();
    let known = known.filter(|o| o.subscription.eq_ignore_ascii_case(&t.subscription));
    let Some(op) = known else {
        return Err(Fail::new(404, "NotFound", format!("The entity {name} was not found.")));
    };
    let later = ("Retry-After".to_owned(), sim.config.retry_after_s.to_string());
    if ask.param("monitor").is_some() {
        return Ok(match op.state {
            State::InProgress => {
                let mut reply = Reply::new(202, "application/json", "");
                reply.headers.extend([("Location".to_owned(), format!("{}{}?{}", ask.base, ask.path, ask.query)), later]);
                reply
            }
            State::Succeeded(Value::Null) => Reply::new(204, "application/json", ""),
            State::Succeeded(value) => json_reply(200, &value),
            State::Failed { code, message } => Fail::new(409, &code, message).reply(),
        });
    }
    let mut body = json!({ "startTime": iso(op.started_wall_ms), "name": name });
    if let Some(at) = op.ended_wall_ms {
        body["endTime"] = json!(iso(at));
    }
    body["status"] = match &op.state {
        State::InProgress => json!("InProgress"),
        State::Succeeded(value) => {
            if !value.is_null() {
                body["properties"] = json!({ "output": value });
            }
            json!("Succeeded")
        }
        State::Failed { code, message } => {
            body["error"] = json!({ "code": code, "message": message });
            json!("Failed")
        }
    };
    let mut reply = json_reply(200, &body);
    if matches!(op.state, State::InProgress) {
        reply.headers.push(later);
    }
    Ok(reply)
}
