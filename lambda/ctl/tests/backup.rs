//! `backup`: dry runs, refusals, interruption, a crash in the window.

mod common;

use cloud_sim::{Fault, Match, Moment, Rule};
use common::{Stage, ran, signal};
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_dry_run_looks_at_everything_and_sends_nothing_that_changes_anything() {
    let stage = Stage::new(2);
    let policy = stage.policy("nightly", json!({ "exclude_boot": true, "tags": { "CostCenter": "0042" } }));
    let plans = stage.run(&["backup", "--json", "--policy", &policy, "--dry-run"]).ended(0).objects("plan");
    assert_eq!(plans.len(), 2);
    for p in &plans {
        let m = &p["members"][0];
        assert_eq!((m["taken"].as_array().unwrap().len(), m["volumes"].as_array().unwrap().len()), (1, 2));
        assert_eq!((&m["tags"]["CostCenter"], &m["tags"]["snapfreeze:policy"]), (&json!("0042"), &json!("nightly")));
        assert_eq!(p["hold_ms"], 20_000);
    }
    let text = stage.run(&["backup", "--policy", &policy, "--dry-run"]).ended(0).out;
    assert!(text.contains("READY  db1") && text.contains("leave") && text.contains("nothing was frozen"), "{text}");
    assert_eq!(stage.changes(0), Vec::<String>::new());
    assert_eq!(stage.sim.snapshots().len() + stage.count("i-1", "freezes"), 0);
    assert!(stage.sim.calls().iter().any(|c| c.action == "CreateSnapshots"), "the snapshot call is rehearsed");

    stage.backup(&policy);
    let changes = stage.changes(0);
    assert!(
        changes.iter().filter(|a| *a == "CreateSnapshots").count() == 2 && changes.contains(&"CreateTags".into()),
        "the control: {changes:?}"
    );
}

#[test]
fn what_is_refused_before_the_freeze_has_its_name_and_freezes_nothing() {
    let stage = Stage::new(2);
    let refused = |args: &[&str], code: i32, name: &str| {
        let r = stage.run(&[&["backup", "--json"], args].concat()).ended(code);
        let p = r.objects("problem").pop().unwrap_or_else(|| r.object("backup")["problem"].clone());
        assert_eq!(p["code"], name, "{args:?}: {p}");
    };
    refused(&["--instance", "i-9"], 9, "Cloud.Refused");
    refused(&["--instance", "i-1", "--hold", "1180s"], 2, "Usage.Invalid");
    let none = stage.policy("none", json!({ "select": { "tags": { "fleet": "unknown" } } }));
    refused(&["--policy", &none], 9, "Cloud.Refused");
    let one = stage.policy("one", json!({ "select": { "ids": ["i-1"] } }));
    refused(&["--policy", &one, "--instance", "i-2"], 2, "Usage.Invalid");
    refused(&["--policy", "nowhere.json"], 2, "Config.Invalid");
    refused(&["--resume", "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e"], 1, "Catalogue.UnknownId");
    let excluded = stage.policy("excluded", json!({ "exclude_volumes": ["vol-data-1"], "select": { "ids": ["i-1"] } }));
    refused(&["--policy", &excluded], 4, "Freeze.Refused.NotCovered");
    stage.sim.set_state("i-2", "stopped");
    refused(&["--instance", "i-2"], 9, "Cloud.Refused");
    stage.sim.set_state("i-2", "running");
    stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::AccessDenied));
    refused(&["--instance", "i-2"], 9, "Cloud.Refused");
    assert_eq!(stage.changes(0), Vec::<String>::new());
    assert_eq!(stage.count("i-1", "freezes") + stage.count("i-2", "freezes"), 0);

    // One host refuses, the other one's set is held: the exit code is the refusal's.
    std::fs::write(stage.path("i-2").join("refuse"), "").unwrap();
    let all = stage.policy("all", json!({}));
    let ends = stage.run(&["backup", "--json", "--policy", &all]).ended(4).objects("backup");
    let states: Vec<_> =
        ends.iter().map(|b| (b["hosts"][0].as_str().unwrap(), b["state"].as_str().unwrap(), b["exit"].as_u64().unwrap())).collect();
    assert_eq!(states, [("i-1", "held", 0), ("i-2", "none", 4)]);
}

#[test]
fn without_waiting_the_verdict_is_written_and_the_copies_are_waited_for_later() {
    let stage = Stage::new(1);
    let forever = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::SnapshotsStayPending).nth(2));
    let b = stage.run(&["backup", "--json", "--instance", "i-1", "--hold", "20s", "--no-wait"]).ended(0).object("backup");
    assert_eq!((&b["state"], &b["problem"]), (&json!("completing"), &json!(null)));
    assert_eq!(stage.sim.hits(forever), 1);
    let id = b["id"].as_str().unwrap();
    assert!(stage.set(id).iter().all(|s| s.tags["snapfreeze:verdict"] == "held"));
    assert_eq!(stage.run(&["list", "--json"]).object("set")["state"], "completing");
    let again = stage.run(&["backup", "--json", "--resume", id, "--no-wait"]).ended(0).object("backup");
    assert_eq!((&again["state"], stage.count("i-1", "freezes")), (&json!("completing"), 1));
}

/// Waits in the window for a person who interrupts. The hold is longer than `wait_thawed` waits: a thaw that comes by itself fails.
fn interrupted(when: Moment, sig: Signal) -> (Stage, String) {
    let stage = Stage::new(1);
    // The first CreateSnapshots is the dry run.
    let hold = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::Hold { when }).nth(2));
    let child = stage.start(&["backup", "--json", "--instance", "i-1", "--hold", "300s"]);
    assert!(stage.sim.wait_held(hold, LONG));
    assert!(stage.is_frozen("i-1"), "the control: in the window");
    signal(&child, sig);
    stage.wait_thawed("i-1");
    // Only now the cloud carries out what was asked, or answers.
    stage.sim.release(hold);
    let r = ran(child.wait_with_output().unwrap()).ended(130);
    assert!(!stage.is_frozen("i-1"));
    assert_eq!((stage.count("i-1", "freezes"), stage.count("i-1", "thaws")), (1, 1));
    let b = r.object("backup");
    assert_eq!((&b["problem"]["code"], &b["exit"]), (&json!("Interrupted"), &json!(130)));
    assert_ne!(b["state"], "held");
    let id = b["id"].as_str().unwrap().to_owned();
    (stage, id)
}

#[test]
fn ctrl_c_in_the_window_thaws_and_marks_what_was_made_broken() {
    let mut seen = 0;
    for (when, sig) in
        [(Moment::Before, Signal::INT), (Moment::Before, Signal::TERM), (Moment::After, Signal::INT), (Moment::After, Signal::HUP)]
    {
        let (stage, id) = interrupted(when, sig);
        assert_eq!(stage.sim.calls_of("CreateSnapshots").iter().filter(|c| c.params["DryRun"] != "true").count(), 1);
        assert_eq!(stage.set(&id).len(), 2);
        assert!(stage.set(&id).iter().all(|s| s.tags["snapfreeze:verdict"] == "broken"), "{when:?}: {:?}", stage.set(&id));
        assert_eq!(stage.run(&["show", "--json", &id]).ended(0).object("set")["state"], "broken");
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn a_group_is_thawed_whole() {
    let stage = Stage::new(2);
    let policy = stage.policy("group", json!({ "hold": "300s", "select": { "tags": { "fleet": "yes" }, "group_by": "fleet" } }));
    let hold = stage.sim.fault(Rule::new(Match::action("CreateSnapshots").instance("i-2"), Fault::Hold { when: Moment::Before }).nth(2));
    let child = stage.start(&["backup", "--json", "--policy", &policy]);
    assert!(stage.sim.wait_held(hold, LONG));
    assert!(stage.is_frozen("i-1") && stage.is_frozen("i-2"), "the control");
    signal(&child, Signal::INT);
    stage.wait_thawed("i-1");
    stage.wait_thawed("i-2");
    stage.sim.release(hold);
    let b = ran(child.wait_with_output().unwrap()).ended(130).object("backup");
    let set = stage.set(b["id"].as_str().unwrap());
    assert!(set.len() == 4 && set.iter().all(|s| s.tags["snapfreeze:verdict"] == "broken"));
    // Undisturbed, one of its hosts named stands for the group.
    let b = stage.run(&["backup", "--json", "--policy", &policy, "--instance", "i-2"]).ended(0).object("backup");
    assert_eq!((&b["hosts"], &b["state"]), (&json!(["i-1", "i-2"]), &json!("held")));
}

#[test]
fn a_second_ctrl_c_says_that_it_is_thawing_and_changes_nothing() {
    let stage = Stage::new(1);
    let snapshot = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::Hold { when: Moment::Before }).nth(2));
    let thaw = stage.sim.fault(Rule::new(Match::action("SendCommand").document("snapfreeze-thaw"), Fault::Hold { when: Moment::Before }));
    let mut child = stage.start(&["backup", "--instance", "i-1", "--hold", "300s"]);
    assert!(stage.sim.wait_held(snapshot, LONG));
    signal(&child, Signal::INT);
    assert!(stage.sim.wait_held(thaw, LONG));
    signal(&child, Signal::INT);
    signal(&child, Signal::TERM);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none() && stage.is_frozen("i-1"), "it goes on thawing");
    stage.sim.clear_faults();
    let r = ran(child.wait_with_output().unwrap()).ended(130);
    assert!(r.err.contains("still thawing") && r.err.contains("Interrupted: thawed"), "{}", r.err);
    assert!(!stage.is_frozen("i-1"));
}

#[test]
fn ctrl_c_before_the_freeze_freezes_nothing() {
    let stage = Stage::new(1);
    let hold = stage.sim.fault(Rule::new(Match::action("DescribeVolumes"), Fault::Hold { when: Moment::Before }));
    let child = stage.start(&["backup", "--json", "--instance", "i-1"]);
    assert!(stage.sim.wait_held(hold, LONG));
    signal(&child, Signal::INT);
    let r = ran(child.wait_with_output().unwrap()).ended(130);
    assert_eq!(r.object("backup")["problem"]["code"], "Interrupted");
    assert_eq!((stage.count("i-1", "freezes"), stage.changes(0)), (0, vec![]));
}

#[test]
fn ctrl_c_while_the_freeze_is_on_its_way_thaws_it() {
    let stage = Stage::new(1);
    let hold = stage
        .sim
        .fault(Rule::new(Match::action("GetCommandInvocation").document("snapfreeze-freeze"), Fault::Hold { when: Moment::Before }));
    let child = stage.start(&["backup", "--json", "--instance", "i-1", "--hold", "300s"]);
    assert!(stage.sim.wait_held(hold, LONG));
    stage.wait_frozen("i-1");
    signal(&child, Signal::INT);
    stage.wait_thawed("i-1");
    let r = ran(child.wait_with_output().unwrap()).ended(130);
    assert_eq!(r.object("backup")["state"], "none");
    assert!(!stage.is_frozen("i-1") && stage.count("i-1", "thaws") == 1);
    assert_eq!(stage.sim.snapshots().len(), 0);
}

/// Killed with the snapshot call on its way, then resumed.
fn killed(when: Moment) {
    let stage = Stage::new(1);
    let hold = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::Hold { when }).nth(2));
    let mut child = stage.start(&["backup", "--json", "--instance", "i-1", "--hold", "20s"]);
    assert!(stage.sim.wait_held(hold, LONG));
    assert!(stage.is_frozen("i-1"));
    child.kill().unwrap();
    child.wait().unwrap();
    stage.sim.release(hold);
    assert!(stage.is_frozen("i-1"), "the control: nobody thawed");

    // The next one says so; it is about another host, and leaves the lost one alone.
    let hint = stage.run(&["backup", "--instance", "i-9"]).ended(9).err;
    let id = hint.split("--resume ").nth(1).and_then(|t| t.split_whitespace().next()).expect("a hint").to_owned();

    let before = stage.sim.calls().len();
    let r = stage.run(&["backup", "--json", "--resume", &id]).ended(3);
    let b = r.object("backup");
    assert_eq!((&b["id"], &b["state"]), (&json!(id), &json!("broken")));
    assert!(!stage.is_frozen("i-1"));
    let first = stage.changes(before);
    assert_eq!(first.first().map(String::as_str), Some("SendCommand"), "thaw first: {first:?}");
    assert!(!first.contains(&"CreateSnapshots".into()), "no second set");
    assert_eq!((stage.set(&id).len(), stage.count("i-1", "freezes")), (2, 1));
    assert!(stage.set(&id).iter().all(|s| s.tags["snapfreeze:verdict"] == "broken"));
    stage.run(&["backup", "--json", "--resume", &id]).ended(1);
}

#[test]
fn a_crash_in_the_window_is_resumed_with_a_thaw_and_no_second_set() {
    killed(Moment::Before);
    killed(Moment::After);
}

#[test]
fn a_backup_that_is_driven_cannot_be_resumed_beside_it() {
    let stage = Stage::new(1);
    let hold = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::Hold { when: Moment::Before }).nth(2));
    let child = stage.start(&["backup", "--json", "--instance", "i-1", "--hold", "20s"]);
    assert!(stage.sim.wait_held(hold, LONG));
    let file = std::fs::read_dir(stage.path(".local/state/snapfreeze"))
        .unwrap()
        .flatten()
        .find(|e| e.path().extension().is_some_and(|x| x == "json"));
    let id = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
    assert_eq!(stage.run(&["backup", "--json", "--resume", &id]).ended(4).object("problem")["code"], "Freeze.Refused.UsedId");
    stage.sim.release(hold);
    assert_eq!(ran(child.wait_with_output().unwrap()).ended(0).object("backup")["state"], "held");
}

#[test]
fn help_pages_and_completions_need_no_cloud() {
    let stage = Stage::new(0);
    assert!(stage.run(&["explain", "freeze.refused.late"]).ended(0).out.starts_with("# Freeze.Refused.Late"));
    assert!(stage.run(&["explain", "--json"]).ended(0).objects("code").len() > 20);
    stage.run(&["explain", "Nonsense"]).ended(2);
    assert!(stage.run(&["completions", "bash"]).ended(0).out.contains("snapfreezectl"));
    stage.run(&["backup"]).ended(2);
    stage.run(&["man", stage.dir.path().to_str().unwrap()]).ended(0);
    assert!(stage.path("snapfreezectl.1").exists());
    assert!(stage.sim.calls().is_empty());
}
