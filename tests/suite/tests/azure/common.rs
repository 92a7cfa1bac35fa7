//! What these tests share: a policy, and our programs against the double.

use cloud_sim::arm::ArmSnapshot;
use serde_json::{Value, json};
use std::process::Output;
use suite::cloud::azure::AzureFleet;
use suite::cloud::fleet::TAG;
use suite::cloud::programs::program;

/// A policy named `p` that selects the fleet's tag; `with` overrides.
pub fn policy_file(fleet: &AzureFleet, with: &Value) -> String {
    let mut p =
        json!({ "name": "p", "select": { "tags": { TAG.0: TAG.1 } }, "hold": "20s", "held_by": "coordinator", "exclude_boot": true });
    for (k, v) in with.as_object().expect("an object") {
        p[k] = v.clone();
    }
    let path = fleet.dir.path().join(format!("policy-{}.json", suite::host::new_id()));
    std::fs::write(&path, p.to_string()).expect("the policy is written");
    path.display().to_string()
}

/// `snapfreeze-job VERB --policy …`, to its end.
pub fn job(fleet: &AzureFleet, verb: &str, with: &Value) -> Output {
    let policy = policy_file(fleet, with);
    fleet.program(&program("snapfreeze-job"), &[verb, "--policy", &policy]).output().expect("snapfreeze-job runs")
}

/// `snapfreezectl --cloud azure …`
pub fn ctl(fleet: &AzureFleet, args: &[&str]) -> Output {
    let all = [&["--cloud", "azure"], args].concat();
    fleet.program(&program("snapfreezectl"), &all).output().expect("snapfreezectl runs")
}

pub fn exit(o: &Output) -> i32 {
    o.status.code().unwrap_or(-1)
}

pub fn tag<'a>(s: &'a ArmSnapshot, name: &str) -> &'a str {
    s.tags.get(&format!("snapfreeze:{name}")).map_or("", String::as_str)
}

pub fn lines(o: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&o.stdout).lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}
