//! SSM: JSON 1.1, `X-Amz-Target: AmazonSSM.Action`.

pub mod commands;
pub mod documents;
mod nodes;
mod report;
mod runner;
mod script;
mod send;

use crate::faults::Fault;
use crate::sim::Sim;
use crate::wire::{Fail, Reply, Wire};
use serde_json::{Value, json};
use std::sync::Arc;

const JSON: &str = "application/x-amz-json-1.1";

/// Answered here even when moto is behind.
pub fn ours(action: &str) -> bool {
    let all = ["SendCommand", "GetCommandInvocation", "ListCommandInvocations", "ListCommands", "CancelCommand"];
    all.contains(&action) || action == "DescribeInstanceInformation"
}

pub async fn answer(sim: &Arc<Sim>, wire: &Wire, faults: &[(u64, Fault)]) -> Result<Reply, Fail> {
    let ask = &wire.params;
    let value = match wire.action.as_str() {
        "CreateDocument" => documents::create(sim, ask)?,
        "UpdateDocument" => documents::update(sim, ask)?,
        "UpdateDocumentDefaultVersion" => documents::set_default(sim, ask)?,
        "GetDocument" => documents::get(sim, ask)?,
        "DescribeDocument" => documents::describe(sim, ask)?,
        "DeleteDocument" => documents::delete(sim, ask)?,
        "ListDocuments" => documents::list(sim, ask)?,
        "DescribeInstanceInformation" => nodes::describe(sim, ask)?,
        "SendCommand" => send::send(sim, ask, faults).await?,
        "GetCommandInvocation" => report::get(sim, ask)?,
        "ListCommandInvocations" => report::list_invocations(sim, ask)?,
        "ListCommands" => report::list_commands(sim, ask)?,
        "CancelCommand" => commands::cancel(sim, ask)?,
        other => return Err(Fail::new("UnknownOperationException", format!("the double has no ssm {other}"))),
    };
    let mut reply = Reply::new(200, JSON, value.to_string());
    reply.headers.push(("x-amzn-requestid".into(), uuid::Uuid::new_v4().to_string()));
    Ok(reply)
}

pub fn failure(fail: &Fail) -> Reply {
    let mut reply = Reply::new(fail.status, JSON, json!({ "__type": fail.code, "message": fail.message }).to_string());
    reply.headers.push(("x-amzn-requestid".into(), uuid::Uuid::new_v4().to_string()));
    reply.failed(&fail.code)
}

pub fn text<'a>(ask: &'a Value, key: &str) -> Option<&'a str> {
    ask.get(key).and_then(Value::as_str)
}

pub fn need<'a>(ask: &'a Value, key: &str) -> Result<&'a str, Fail> {
    text(ask, key).filter(|v| !v.is_empty()).ok_or_else(|| Fail::new("ValidationException", format!("{key} is missing")))
}

pub fn texts(ask: &Value, key: &str) -> Vec<String> {
    let list = ask.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// This page and the next token.
pub fn page<T>(ask: &Value, all: Vec<T>, most: usize) -> Result<(Vec<T>, Option<String>), Fail> {
    let size = ask.get("MaxResults").and_then(Value::as_u64).map_or(most, |n| (n as usize).clamp(1, most));
    let from = match text(ask, "NextToken") {
        None => 0,
        Some(t) => t.strip_prefix("page-").and_then(|t| t.parse::<usize>().ok()).ok_or(Fail::new("InvalidNextToken", "not a token"))?,
    };
    let token = (from + size < all.len()).then(|| format!("page-{}", from + size));
    Ok((all.into_iter().skip(from).take(size).collect(), token))
}
