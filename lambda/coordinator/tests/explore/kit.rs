//! Policies and orders of the tests.

use coordinator::{Order, Policy, Target};
use protocol::WallMs;
use serde_json::{Value, json};

pub const START: WallMs = WallMs(1_764_000_000_000);

pub fn policy(change: Value) -> Policy {
    let mut v = json!({ "name": "nightly", "select": { "tags": { "snapfreeze": "nightly" } }, "hold": "60s", "snapshot": "5s",
        "complete": "2m" });
    for (k, x) in change.as_object().unwrap() {
        v[k] = x.clone();
    }
    serde_json::from_value(v).unwrap()
}

pub fn host_id(n: usize) -> String {
    format!("i-{n}")
}

pub fn order(policy: Policy, hosts: usize, nonce: &str) -> Order {
    let targets = (0..hosts).map(|n| Target { id: host_id(n), name: String::new() }).collect();
    Order::new(policy, "run-1", targets, nonce, START, START)
}
