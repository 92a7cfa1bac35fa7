//! What these tests share: a policy, a backup by `snapfreezectl`, and the oracle of windows.

use cloud_sim::Snapshot;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Output;
use suite::cloud::fleet::{Fleet, Member, TAG};
use suite::cloud::programs::ctl;
use suite::host::What;

/// A policy named `p` that selects the fleet's tag; `with` overrides.
pub fn policy(with: &Value) -> Value {
    let mut p = json!({ "name": "p", "select": { "tags": { TAG.0: TAG.1 } } });
    for (k, v) in with.as_object().expect("an object") {
        p[k] = v.clone();
    }
    p
}

pub fn policy_file(fleet: &Fleet, with: &Value) -> String {
    let path = fleet.dir.path().join(format!("policy-{}.json", suite::host::new_id()));
    std::fs::write(&path, policy(with).to_string()).expect("the policy is written");
    path.display().to_string()
}

/// `snapfreezectl --json backup --policy …`, to its end.
pub fn backup(fleet: &Fleet, with: &Value, more: &[&str]) -> Output {
    let policy = policy_file(fleet, with);
    let mut args = vec!["--json", "backup", "--policy", &policy];
    args.extend(more);
    ctl(&fleet.sim.endpoint(), &fleet.sim.config().region, fleet.dir.path(), &args).output().expect("snapfreezectl runs")
}

pub fn exit(o: &Output) -> i32 {
    o.status.code().unwrap_or(-1)
}

pub fn by_tag<'a>(snapshots: &'a [Snapshot], tag: &str) -> BTreeMap<String, Vec<&'a Snapshot>> {
    let mut by: BTreeMap<String, Vec<&Snapshot>> = BTreeMap::new();
    for s in snapshots {
        by.entry(s.tags.get(tag).cloned().unwrap_or_default()).or_default().push(s);
    }
    by
}

/// Do all copies of this member's volume lie inside freezes, by the engine's own history? `false` without any copy.
pub fn in_window(fleet: &Fleet, m: &Member) -> bool {
    let history = m.host.engine.history();
    let windows: Vec<(u64, u64)> = history
        .iter()
        .enumerate()
        .filter(|(_, h)| h.what == What::Frozen)
        .map(|(i, h)| {
            let end = history[i + 1..].iter().find(|h| matches!(h.what, What::Thawed | What::LimitThawed));
            (h.at_ms, end.map_or(u64::MAX, |h| h.at_ms))
        })
        .collect();
    let copies: Vec<(u64, u64)> = fleet
        .sim
        .snapshots()
        .iter()
        .filter(|s| s.volume == m.volume)
        .map(|s| (s.copy_from_us / 1000, s.copy_to_us.div_ceil(1000)))
        .collect();
    !copies.is_empty() && copies.iter().all(|(from, to)| windows.iter().any(|(f, t)| f <= from && to <= t))
}
