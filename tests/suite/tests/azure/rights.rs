//! The roles of infra/azure/roles.json are enough, and no action of the coordinator's can be left out: a run with exactly these, and
//! runs with one less each.

use crate::common::{exit, job};
use crate::hosted::hosted_with;
use cloud_sim::arm::{ArmConfig, ArmFault, ArmMatch, ArmPrincipal, ArmRule};
use serde_json::{Value, json};
use suite::cloud::azure::AzureFleet;
use suite::cloud::fleet::setup;
use suite::cloud::programs::said;
use suite::host::sleep_ms;

fn actions(role: &str) -> Vec<String> {
    let roles: Value = serde_json::from_str(&suite::house::rules::read("infra/azure/roles.json")).expect("JSON");
    let all = roles[role]["actions"].as_array().expect("actions");
    all.iter().map(|a| a.as_str().expect("text").to_owned()).collect()
}

fn without<'a>(all: &'a [String], one: &str) -> Vec<&'a str> {
    all.iter().map(String::as_str).filter(|a| *a != one).collect()
}

/// So that seven snapshots in five minutes do not end this.
fn age(fleet: &AzureFleet) {
    for s in fleet.sim.snapshots() {
        fleet.sim.put_snapshot(cloud_sim::arm::ArmSnapshot { created_wall_ms: s.created_wall_ms - 600_000, ..s });
    }
}

#[test]
fn the_coordinators_role_has_what_a_backup_needs_and_nothing_else() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let all = actions("coordinator");
    assert!(all.iter().all(|a| a.starts_with("Microsoft.Compute/") && !a.contains('*')), "{all:?}");
    let run = |may: &[&str]| {
        fleet.sim.add_principal(ArmPrincipal::new("system").actions(may));
        let out = job(&fleet, "backup", &json!({ "hold": "5s", "snapshot": "500ms" }));
        assert!(!fleet.any_frozen(), "{}", said(&out));
        age(&fleet);
        out
    };
    let whole = without(&all, "");
    let out = run(&whole);
    assert_eq!(exit(&out), 0, "{}", said(&out));
    for one in &all {
        let out = run(&without(&all, one));
        match one.rsplit('/').next().unwrap_or_default() {
            // It only tidies up.
            "delete" => {
                assert_eq!(exit(&out), 0, "without {one}: {}", said(&out));
                sleep_ms(300);
                assert!(fleet.sim.run_names(&fleet.members[0].id).len() >= 3, "{one} is what deletes ended commands");
            }
            // The way out where a machine takes no managed command.
            _ if one.contains("runCommand/") || one.contains("/operations/") => {
                assert_eq!(exit(&out), 0, "without {one}: {}", said(&out));
                let none = ArmFault::Status { status: 409, code: "OperationNotAllowed".into(), retry_after_s: None };
                fleet.sim.fault(ArmRule::new(ArmMatch::op("run.put"), none).always());
                assert_eq!((exit(&run(&without(&all, one))) == 0, exit(&run(&whole))), (false, 0), "{one}");
                fleet.sim.clear_faults();
            }
            _ => assert_ne!(exit(&out), 0, "{one} can be left out"),
        }
    }
}

#[test]
fn restore_points_need_their_role_and_nothing_else() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let (base, points) = (actions("coordinator"), actions("points"));
    let run = |less: &str| {
        let may: Vec<&str> = base.iter().chain(&points).map(String::as_str).filter(|a| *a != less).collect();
        fleet.sim.add_principal(ArmPrincipal::new("system").actions(&may));
        let out = job(&fleet, "backup", &json!({ "snapshotter": "restore-point", "hold": "5s", "snapshot": "500ms" }));
        assert!(!fleet.any_frozen(), "{}", said(&out));
        out
    };
    let out = run("");
    assert_eq!(exit(&out), 0, "{}", said(&out));
    for one in &points {
        assert_ne!(exit(&run(one)), 0, "{one} can be left out");
    }
}

#[test]
fn the_hosts_role_and_the_upkeeps_have_what_they_need() {
    let all = actions("host");
    let with = json!({ "held_by": "host", "hold": "5s", "snapshot": "500ms" });
    for less in ["", "Microsoft.Compute/virtualMachines/read", "Microsoft.Compute/snapshots/write"] {
        let may = without(&all, less);
        let fleet = hosted_with(1, Some(&may));
        let out = job(&fleet, "backup", &with);
        assert_eq!(exit(&out) == 0, less.is_empty(), "without {less:?}: {}", said(&out));
        assert!(!fleet.any_frozen());
    }
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let keep = json!({ "keep": { "last": 1, "max_age": "1h" } });
    for _ in 0..2 {
        assert_eq!(exit(&job(&fleet, "backup", &keep)), 0);
    }
    let all = actions("upkeep");
    let run = |verb: &str, may: &[&str]| {
        fleet.sim.add_principal(ArmPrincipal::new("system").actions(may));
        exit(&job(&fleet, verb, &keep))
    };
    for verb in ["watch", "reap", "prune"] {
        assert_eq!(run(verb, &without(&all, "")), 0, "{verb}");
    }
    let missing = |verb: &str, action: &str| run(verb, &without(&all, action));
    assert_ne!(missing("watch", "Microsoft.Compute/virtualMachines/read"), 0);
    assert_ne!(missing("watch", "Microsoft.Compute/snapshots/read"), 0);
}
