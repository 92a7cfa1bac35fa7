//! Lists in pages, with a `nextLink` that holds where the next one begins.

use super::id;
use super::sim::Sim;
use super::wire::{Ask, json_reply};
use crate::wire::Reply;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Those of the subscription or group that was asked for, in the order of their ids.
pub fn page<T>(sim: &Sim, ask: &Ask, all: &BTreeMap<String, T>, render: impl Fn(&T) -> Value) -> Reply {
    let t = ask.target();
    let scope = match &t.group {
        Some(group) => format!("/subscriptions/{}/resourceGroups/{group}/", t.subscription),
        None => format!("/subscriptions/{}/", t.subscription),
    };
    let (scope, after) = (id::key(&scope) + "/", ask.param("$skiptoken").and_then(|t| unhex(&t)).unwrap_or_default());
    let mut left = all.iter().filter(|(key, _)| key.starts_with(&scope) && **key > after);
    let shown: Vec<(&String, &T)> = left.by_ref().take(sim.config.page_size.max(1)).collect();
    let mut body = json!({ "value": shown.iter().map(|(_, v)| render(v)).collect::<Vec<_>>() });
    if left.next().is_some()
        && let Some((last, _)) = shown.last()
    {
        let kept = form_urlencoded::parse(ask.query.as_bytes()).filter(|(k, _)| !k.eq_ignore_ascii_case("$skiptoken"));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept).append_pair("$skiptoken", &hex(last));
        body["nextLink"] = json!(format!("{}{}?{}", ask.base, ask.path, query.finish()));
    }
    json_reply(200, &body)
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(|n| u8::from_str_radix(text.get(n..n + 2)?, 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}
