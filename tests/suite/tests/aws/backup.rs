//! A backup of real agents through the double, by `snapfreezectl`: one set per host, whole tags, clean bytes; and what happens
//! when the snapshot falls outside the window or the document lies.

use crate::common::{backup, by_tag, exit, in_window, policy_file};
use serde_json::{Value, json};
use suite::cloud::fleet::{Fleet, setup};
use suite::cloud::programs::{ctl, said};

#[test]
fn one_set_per_host_with_whole_tags_and_clean_bytes() {
    let fleet = Fleet::iris(2, cloud_sim::Config::quick, &setup());
    let out = backup(&fleet, &json!({ "hold": "20s", "tags": { "CostCenter": "0042" } }), &[]);
    assert_eq!(exit(&out), 0, "{}", said(&out));

    let snapshots = fleet.sim.snapshots();
    assert_eq!(snapshots.len(), 4, "root and data volume of two hosts");
    let by_id = by_tag(&snapshots, "snapfreeze:backup-id");
    assert_eq!(by_id.len(), 2, "one set per host: {by_id:?}");
    for s in &snapshots {
        let tag = |n: &str| s.tags.get(&format!("snapfreeze:{n}")).cloned().unwrap_or_default();
        assert_eq!((tag("verdict").as_str(), tag("set-size").as_str(), tag("policy").as_str()), ("held", "2", "p"), "{:?}", s.tags);
        assert_eq!(s.tags.get("CostCenter").map(String::as_str), Some("0042"));
        assert!(s.tags["Name"].ends_with("HELD"), "{:?}", s.tags);
        for whole in ["schema", "engine", "instance", "host", "journal-switched", "restore-from", "frozen-at", "thawed-at", "window-ms"] {
            assert!(!tag(whole).is_empty(), "{whole}: {:?}", s.tags);
        }
        let data = fleet.members.iter().any(|m| m.volume == s.volume);
        assert_eq!(data, tag("roles").contains("database"), "{:?}", s.tags);
    }
    let images = fleet.images();
    assert_eq!(images.len(), 2);
    assert!(images.iter().all(|(_, clean)| *clean), "{images:?}");
    assert!(!fleet.any_frozen());
    assert_eq!(fleet.freezes(), 2);
    for m in &fleet.members {
        assert!(in_window(&fleet, m), "the engine's own history: the copy lies inside the freeze");
    }

    let shown = ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &["--json", "show", "latest"]).output().expect("it runs");
    assert_eq!(exit(&shown), 0, "{}", said(&shown));
    let text = String::from_utf8_lossy(&shown.stdout);
    let set: Value = text.lines().filter_map(|l| serde_json::from_str(l).ok()).find(|v: &Value| v["type"] == "set").expect("a set");
    assert!(by_id.contains_key(set["id"].as_str().expect("an id")), "{set}");
    assert_eq!(set["state"], "held", "{set}");
}

/// The negative control of the one above: without the freeze the bytes are torn, and nobody calls them held.
#[test]
fn a_document_that_does_nothing_and_exits_0_never_gives_a_held_set() {
    let fleet = Fleet::iris(1, cloud_sim::Config::quick, &setup());
    let lie = json!({ "schemaVersion": "2.2", "parameters": {
        "backupId": { "type": "String" }, "hold": { "type": "String" }, "issuedAt": { "type": "String" }, "notAfter": { "type": "String" },
        "by": { "type": "String" }, "instances": { "type": "String", "default": "" } },
        "mainSteps": [{ "action": "aws:runShellScript", "name": "snapfreeze", "inputs": { "runCommand": ["exit 0"] } }] });
    fleet.sim.put_document("snapfreeze-freeze", &lie.to_string()).expect("SSM takes it");
    let out = backup(&fleet, &json!({ "hold": "20s" }), &[]);
    assert_eq!(exit(&out), 6, "{}", said(&out));
    assert_eq!(fleet.sim.snapshots().len(), 0, "no snapshot without a freeze reply");
    assert_eq!(fleet.freezes(), 0);
}

#[test]
fn a_snapshot_that_falls_outside_the_window_is_torn_and_called_broken() {
    let fleet = Fleet::iris(1, cloud_sim::Config::quick, &setup());
    // The cloud takes longer over its copy than the host holds.
    let slow = cloud_sim::Rule::new(cloud_sim::Match::action("CreateSnapshots"), cloud_sim::Fault::Slow { ms: 9_000 });
    let rule = fleet.sim.fault(slow.nth(2)); // the first one is the dry run
    let out = backup(&fleet, &json!({ "hold": "8s", "snapshot": "1s" }), &[]);
    assert_eq!(fleet.sim.hits(rule), 1, "the call that counts was the slow one");
    assert_eq!(exit(&out), 3, "{}", said(&out));
    // Made all the same, and told as what it is.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while fleet.sim.snapshots().is_empty() && std::time::Instant::now() < deadline {
        suite::host::sleep_ms(100);
    }
    let policy = policy_file(&fleet, &json!({ "keep": { "pending": "1ms" } }));
    let reap =
        ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &["reap", "--policy", &policy, "--yes"]).output().expect("it runs");
    assert_eq!(exit(&reap), 0, "{}", said(&reap));
    let snapshots = fleet.sim.snapshots();
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots.iter().all(|s| s.tags["snapfreeze:verdict"] == "broken"), "{snapshots:?}");
    assert!(!in_window(&fleet, &fleet.members[0]), "the control: this copy lies outside of every freeze");
}

/// A mirror of two, each with its own live role: the policy's member is chosen by it.
#[test]
fn a_group_is_frozen_together_snapshotted_together_and_has_one_verdict() {
    let fleet = Fleet::iris(2, cloud_sim::Config::quick, &setup());
    for m in &fleet.members {
        let mut i = cloud_sim::Instance::new(&m.id).tag("snapfreeze", "nightly").tag("cluster", "c1");
        i = i.volume(cloud_sim::Volume::new(&m.volume, "/dev/sdf").dir(m.host.engine.sim().root.clone()));
        fleet.sim.add_instance(i);
    }
    let out = backup(&fleet, &json!({ "hold": "20s", "select": { "tags": { "snapfreeze": "nightly" }, "group_by": "cluster" } }), &[]);
    assert_eq!(exit(&out), 0, "{}", said(&out));
    let snapshots = fleet.sim.snapshots();
    assert_eq!(by_tag(&snapshots, "snapfreeze:backup-id").len(), 1, "one backup");
    assert!(snapshots.iter().all(|s| s.tags["snapfreeze:set-size"] == "2" && s.tags["snapfreeze:verdict"] == "held"), "{snapshots:?}");
    // Every copy lies inside both hosts' freezes.
    assert!(fleet.members.iter().all(|m| in_window(&fleet, m)));
    assert!(fleet.images().iter().all(|(_, clean)| *clean));

    // One of the group refuses: no snapshot at all, the other one is thawed.
    fleet.sim.set_online(&fleet.members[1].id, false);
    let out = backup(&fleet, &json!({ "hold": "20s", "select": { "tags": { "snapfreeze": "nightly" }, "group_by": "cluster" } }), &[]);
    assert_eq!(exit(&out), 10, "{}", said(&out));
    assert_eq!(fleet.sim.snapshots().len(), 2, "no new one");
    assert!(!fleet.any_frozen());
}
