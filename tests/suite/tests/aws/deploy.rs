//! The templates deployed to emulators that other people wrote; a schedule fires; the state machine runs the real bootstrap; real
//! agents freeze and thaw. Then `aws` tells what is there.

use crate::common::{in_window, policy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use suite::cloud::fleet::setup;
use suite::cloud::programs::{ctl, said};
use suite::cloud::stacks::{Deployed, REGION};
use suite::host::sleep_ms;

/// Snapshots as the `aws` command line lists them: id → tags.
pub fn described(d: &Deployed) -> BTreeMap<String, BTreeMap<String, String>> {
    let v = d.moto.json(&["ec2", "describe-snapshots", "--owner-ids", "self", "--filters", "Name=tag-key,Values=snapfreeze:schema"]);
    let tags = |s: &Value| -> BTreeMap<String, String> {
        let all = s["Tags"].as_array().into_iter().flatten();
        all.map(|t| (t["Key"].as_str().unwrap_or_default().into(), t["Value"].as_str().unwrap_or_default().into())).collect()
    };
    v["Snapshots"].as_array().into_iter().flatten().map(|s| (s["SnapshotId"].as_str().unwrap_or_default().into(), tags(s))).collect()
}

#[test]
fn a_schedule_fires_and_every_host_has_one_held_set() {
    let Some(d) = Deployed::new(2, &setup(), 120, "a_schedule_fires_and_every_host_has_one_held_set") else { return };
    // The policy's own stack, with a schedule that is due.
    let policy = policy(&json!({ "hold": "20s" }));
    d.policy_stack(&policy);
    let mut run = None;
    for _ in 0..400 {
        run = d.executions().into_iter().find(|e| e["status"] == "SUCCEEDED" && !described(&d).is_empty());
        if run.is_some() {
            break;
        }
        sleep_ms(500);
    }
    let snapshots = described(&d);
    assert!(run.is_some(), "no run succeeded: {:#?}\n{:?}", d.executions(), d.fleet.sim.calls().iter().rev().take(5).collect::<Vec<_>>());
    assert_eq!(snapshots.len(), 4, "root and data of two hosts: {snapshots:#?}");
    let ids: std::collections::BTreeSet<&String> = snapshots.values().map(|t| &t["snapfreeze:backup-id"]).collect();
    assert_eq!(ids.len(), 2, "one set per host");
    assert!(snapshots.values().all(|t| t["snapfreeze:verdict"] == "held" && t["Name"].ends_with("HELD")), "{snapshots:#?}");
    assert!(snapshots.values().any(|t| !t["snapfreeze:journal-switched"].is_empty()));
    assert!(d.fleet.images().iter().all(|(_, clean)| *clean), "{:?}", d.fleet.images());
    assert!(d.fleet.members.iter().all(|m| in_window(&d.fleet, m)));
    assert!(!d.fleet.any_frozen());

    // A second engine that reads the same state machine: moto's interpreter, whose Lambda calls go to the same function.
    assert_eq!(d.on_moto(&policy, "second", 180), "SUCCEEDED", "{:?}", d.function_log());
    let after = described(&d);
    assert_eq!(after.len(), 8, "one more set per host");
    assert!(after.values().all(|t| t["snapfreeze:verdict"] == "held"), "{after:#?}");

    // The same story from snapfreezectl.
    for id in ids {
        let o = ctl(&d.fleet.sim.endpoint(), REGION, d.fleet.dir.path(), &["--json", "show", id]).output().expect("it runs");
        let text = String::from_utf8_lossy(&o.stdout).into_owned();
        let set: Value = text.lines().filter_map(|l| serde_json::from_str(l).ok()).find(|v: &Value| v["type"] == "set").unwrap_or_default();
        assert_eq!((set["id"].as_str(), set["state"].as_str()), (Some(id.as_str()), Some("held")), "{}", said(&o));
    }
}
