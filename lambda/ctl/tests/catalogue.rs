//! `list`, `show`, `keep`, `prune`, `reap`, `report`, `watch` on sets that real sagas made in the double.

mod common;

use cloud_sim::{Fault, Match, Moment, Rule};
use common::Stage;
use serde_json::json;
use std::time::Duration;

#[test]
fn what_a_backup_made_is_listed_and_shown_whole() {
    let stage = Stage::new(2);
    let policy = stage.policy("nightly", json!({}));
    let ids = stage.backup(&policy);
    assert_eq!(ids.len(), 2);
    assert_eq!(stage.sim.snapshots().len(), 4, "root and data of two hosts");

    let sets = stage.run(&["list", "--json"]).ended(0).objects("set");
    assert_eq!(sets.len(), 2);
    for s in &sets {
        assert_eq!((&s["state"], &s["policy"], &s["volumes"], &s["set_size"]), (&json!("held"), &json!("nightly"), &json!(2), &json!(2)));
        assert_eq!(s["restore_from"], json!(["/jrn/20261126.001"]));
        assert!(s["window_ms"].is_u64());
    }
    let of = |args: &[&str]| stage.run(&[&["list", "--json"], args].concat()).ended(0).objects("set").len();
    assert_eq!((of(&["--host", "db1"]), of(&["--host", "db9"]), of(&["--policy", "nightly"]), of(&["--policy", "x"])), (1, 0, 2, 0));
    assert_eq!(
        (of(&["--state", "held"]), of(&["--state", "broken"]), of(&["--since", "1h"]), of(&["--since", "9999-01-01"])),
        (2, 0, 2, 0)
    );
    let table = stage.run(&["list"]).ended(0).out;
    assert!(ids.iter().all(|id| table.contains(id)) && table.contains("RESTORE FROM") && table.contains("db1/IRIS"), "{table}");

    let set = stage.run(&["show", "--json", &ids[0]]).ended(0).object("set");
    let data = set["snapshots"].as_array().unwrap().iter().find(|s| s["roles"] == json!(["data"])).unwrap();
    assert_eq!((&data["mount"], &data["device"]), (&json!("/data"), &json!("/dev/nvme1n1 as /dev/sdf")));
    assert!(data["kind"].as_str().unwrap().starts_with("gp3"));
    let text = stage.run(&["show", &ids[0]]).ended(0).out;
    for part in ["HELD", "required", "/jrn/20261126.001", "/jrn/20261126.002", "4711", "restore: snapfreezectl restore ", "window"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(stage.run(&["show", "--json", "latest"]).ended(0).object("set")["state"], "held");
    let by_snapshot = &stage.set(&ids[1])[0].id;
    assert_eq!(stage.run(&["show", "--json", by_snapshot]).ended(0).object("set")["id"], json!(ids[1]));
    let p = stage.run(&["show", "--json", "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e"]).ended(1).object("problem");
    assert_eq!(p["code"], "Catalogue.UnknownId");
}

#[test]
fn a_set_is_kept_by_a_person_and_let_go_again() {
    let stage = Stage::moving(2);
    let policy = stage.policy("nightly", json!({ "keep": { "last": 1 } }));
    let old = stage.backup_of(&policy, "i-1");
    stage.backup_of(&policy, "i-2");
    let fate = |id: &str| {
        let all = stage.run(&["prune", "--json", "--policy", &policy]).ended(0).objects("fate");
        all.into_iter().find(|f| f["id"] == id).unwrap()
    };
    assert_eq!(fate(&old)["delete"], true, "the control");

    let before = stage.sim.calls().len();
    stage.run(&["keep", &old, "--dry-run"]).ended(0);
    assert_eq!((stage.changes(before), &fate(&old)["delete"]), (vec![], &json!(true)));

    let kept = stage.run(&["keep", &old, "--json", "--until", "2999-01-31", "--reason", "before the upgrade"]).ended(0).object("keep");
    assert_eq!(kept["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(stage.changes(before), ["CreateTags"], "one call for the whole set");
    assert_eq!(fate(&old)["delete"], false);
    assert!(stage.run(&["show", &old]).out.contains("before the upgrade"));
    assert!(stage.run(&["list"]).out.contains("until 2999-01-31"));

    stage.run(&["keep", &old, "--drop"]).ended(0);
    assert_eq!(fate(&old)["delete"], true);
    stage.run(&["keep", &old]).ended(0);
    assert_eq!(fate(&old)["delete"], false, "for ever");
    stage.run(&["keep", &old, "--reason", &"x".repeat(257)]).ended(2);
    stage.run(&["keep", &old, "--until", "tomorrow"]).ended(2);
}

#[test]
fn prune_deletes_only_with_yes_and_only_what_it_listed() {
    let stage = Stage::moving(3);
    let policy = stage.policy("nightly", json!({ "keep": { "last": 1 } }));
    let ids = ["i-1", "i-2", "i-3"].map(|i| stage.backup_of(&policy, i));
    let before = stage.sim.calls().len();
    for extra in [&[][..], &["--dry-run"]] {
        let r = stage.run(&[&["prune", "--json", "--policy", &policy], extra].concat()).ended(0);
        assert_eq!(r.objects("fate").len(), 3);
        assert_eq!((&r.object("summary")["planned"], &r.object("summary")["done"]), (&json!(2), &json!(0)));
    }
    let text = stage.run(&["prune", "--policy", &policy]).ended(0).out;
    assert!(text.contains("2 sets to delete (4 snapshots); nothing was deleted"), "{text}");
    assert_eq!(stage.changes(before), Vec::<String>::new());
    assert_eq!(stage.sim.snapshots().len(), 6);

    let r = stage.run(&["prune", "--json", "--policy", &policy, "--yes"]).ended(0);
    assert_eq!((r.objects("deleting").len(), &r.object("summary")["done"]), (2, &json!(2)));
    let left: Vec<String> = stage.sim.snapshots().iter().map(|s| s.tags["snapfreeze:backup-id"].clone()).collect();
    assert_eq!(left, vec![ids[2].clone(), ids[2].clone()], "the newest stays");
    assert_eq!(stage.changes(before).iter().filter(|a| *a == "DeleteSnapshot").count(), 4, "the control: changing calls are seen");

    // Another policy's sets are not its business.
    let other = stage.policy("weekly", json!({ "keep": { "last": 1 } }));
    assert!(stage.run(&["prune", "--json", "--policy", &other]).ended(0).objects("fate").is_empty());
}

#[test]
fn prune_says_what_it_could_not_delete() {
    let stage = Stage::moving(2);
    let policy = stage.policy("nightly", json!({ "keep": { "last": 1 } }));
    stage.backup_of(&policy, "i-1");
    stage.backup_of(&policy, "i-2");
    let denied = stage.sim.fault(Rule::new(Match::action("DeleteSnapshot"), Fault::AccessDenied).always());
    let r = stage.run(&["prune", "--json", "--policy", &policy, "--yes"]).ended(9);
    assert!(stage.sim.hits(denied) > 0);
    assert_eq!(r.object("problem")["code"], "Cloud.Refused");
    assert!(r.object("problem")["detail"].as_str().unwrap().contains("ec2:DeleteSnapshot"));
    assert_eq!(r.object("summary")["failed"], 1);
}

#[test]
fn a_set_whose_coordinator_is_gone_is_reaped_and_never_offered() {
    let stage = Stage::new(1);
    let policy = stage.policy("nightly", json!({ "keep": { "pending": "1ms" } }));
    // Killed when the verdict is about to be written.
    let hold = stage.sim.fault(Rule::new(Match::action("CreateTags"), Fault::Hold { when: Moment::Before }));
    let mut child = stage.start(&["backup", "--policy", &policy]);
    assert!(stage.sim.wait_held(hold, Duration::from_secs(60)));
    child.kill().unwrap();
    child.wait().unwrap();
    let id = stage.run(&["list", "--json", "--state", "pending"]).ended(0).object("set")["id"].as_str().unwrap().to_owned();
    stage.run(&["show", "latest"]).ended(1);

    let before = stage.sim.calls().len();
    let young = stage.run(&["reap", "--json"]).ended(0);
    assert!(young.objects("reap").is_empty(), "an hour has not passed: its coordinator may live");
    let r = stage.run(&["reap", "--json", "--policy", &policy]).ended(0);
    assert_eq!((&r.object("reap")["id"], &r.object("summary")["done"]), (&json!(id), &json!(0)));
    assert_eq!(stage.changes(before), Vec::<String>::new());

    stage.run(&["reap", "--policy", &policy, "--yes"]).ended(0);
    let set = stage.run(&["list", "--json", "--state", "broken"]).ended(0).object("set");
    assert_eq!((&set["id"], &set["reason"]), (&json!(id), &json!("the result was lost")));
    assert!(stage.set(&id).iter().all(|s| s.tags["snapfreeze:verdict"] == "broken"));
    assert!(stage.run(&["reap", "--policy", &policy]).ended(0).out.contains("every set has a verdict"));
    assert!(stage.run(&["show", &id]).ended(0).out.contains("restore: no"));
}

#[test]
fn a_host_that_is_silent_gives_exit_3_and_critical() {
    let stage = Stage::new(2);
    let one = stage.policy("one", json!({ "select": { "ids": ["i-1"] } }));
    let two = stage.policy("one", json!({ "select": { "ids": ["i-1", "i-2"] } }));
    let blind = stage.policy("blind", json!({ "select": { "tags": { "fleet": "none" } } }));
    stage.run(&["watch", "--policy", &one]).ended(3);
    std::fs::write(&one, r#"{"name":"one","select":{"ids":["i-1"]},"hold":"20s","snapshot":"1s"}"#).unwrap();
    stage.backup(&one);

    stage.run(&["watch", "--policy", &one]).ended(0);
    assert!(stage.run(&["watch", "--policy", &one, "--nagios"]).ended(0).out.starts_with("SNAPFREEZE OK - 1 hosts"));
    let r = stage.run(&["report", "--json", "--policy", &one]).ended(0);
    let host = r.object("host");
    assert_eq!((&host["family"], &host["silent"], &host["held"], &host["sets"]), (&json!("db1/IRIS"), &json!(false), &json!(1), &json!(1)));
    assert!(host["window_p50_ms"].is_u64() && host["window_p50_ms"] == host["window_p99_ms"]);

    // It lives, and its last set is too old.
    let old = stage.run(&["report", "--json", "--policy", &one, "--max-age", "1ms"]).ended(3);
    assert_eq!((&old.object("host")["silent"], &old.object("report")["silent"]), (&json!(true), &json!(1)));

    // A second host that the policy selects has never been backed up.
    std::fs::write(&two, r#"{"name":"one","select":{"ids":["i-1","i-2"]}}"#).unwrap();
    assert_eq!(stage.run(&["watch", "--json", "--policy", &two]).ended(3).object("watch")["never"], json!(["i-2"]));
    let nagios = stage.run(&["watch", "--policy", &two, "--nagios"]).ended(2).out;
    assert!(nagios.starts_with("SNAPFREEZE CRITICAL - silent: i-2"), "{nagios}");
    assert!(stage.run(&["report", "--policy", &two]).ended(3).out.contains("i-2: SILENT"));

    // A policy that selects nothing is an alarm, and so is a cloud that does not answer.
    assert!(stage.run(&["watch", "--policy", &blind, "--nagios"]).ended(2).out.contains("selects no host"));
    stage.run(&["report", "--policy", &blind]).ended(3);
    stage.run(&["report"]).ended(0);
    stage.sim.fault(Rule::new(Match::action("DescribeSnapshots"), Fault::AccessDenied).always());
    assert!(stage.run(&["watch", "--policy", &one, "--nagios"]).ended(3).out.starts_with("SNAPFREEZE UNKNOWN"));
    stage.run(&["report"]).ended(9);
}

#[test]
fn what_cannot_be_read_is_shown_and_never_touched() {
    let stage = Stage::moving(2);
    let policy = stage.policy("nightly", json!({ "keep": { "last": 1, "broken": "1ms", "pending": "1ms" } }));
    let id = stage.backup_of(&policy, "i-1");
    stage.backup_of(&policy, "i-2");
    for s in stage.set(&id) {
        stage.tag(&s.id, "snapfreeze:schema", "99");
    }
    let before = stage.sim.calls().len();
    let r = stage.run(&["list", "--json"]).ended(0);
    let newer = r.objects("unreadable");
    assert_eq!((newer.len(), &newer[0]["newer"], &newer[0]["backup_id"]), (2, &json!(true), &json!(id)));
    stage.run(&["prune", "--policy", &policy, "--yes"]).ended(0);
    stage.run(&["reap", "--policy", &policy, "--yes"]).ended(0);
    assert_eq!(stage.changes(before), Vec::<String>::new());
    let p = stage.run(&["show", "--json", &id]).ended(1).object("problem");
    assert!(p["detail"].as_str().unwrap().contains("newer snapfreeze"));
    assert_eq!(stage.run(&["report", "--json"]).ended(0).object("report")["unreadable"], 2);
}
