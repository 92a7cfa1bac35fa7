//! Azure's limits, before the freeze; and Run Command's: one action at a time, 4 KiB, values that are no shell text.

use crate::common::{exit, job, lines, tag};
use cloud_sim::arm::{ArmConfig, ArmDisk, ArmFault, ArmMatch, ArmRule};
use serde_json::json;
use suite::cloud::azure::AzureFleet;
use suite::cloud::fleet::setup;
use suite::cloud::programs::said;

#[test]
fn the_eighth_snapshot_in_five_minutes_is_refused_before_the_freeze() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    for n in 0..7 {
        let out = job(&fleet, "backup", &json!({}));
        assert_eq!(exit(&out), 0, "{n}: {}", said(&out));
    }
    let out = job(&fleet, "backup", &json!({}));
    assert_eq!(exit(&out), 9, "{}", said(&out));
    assert!(said(&out).contains("five minutes"), "{}", said(&out));
    assert_eq!(fleet.freezes(), 7, "the eighth was not frozen");
}

/// A machine that takes no managed commands: the action carries the orders, one at a time, its exit code hidden.
#[test]
fn a_machine_without_managed_commands_is_served_by_the_action() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let none = ArmFault::Status { status: 409, code: "OperationNotAllowed".into(), retry_after_s: None };
    fleet.sim.fault(ArmRule::new(ArmMatch::op("run.put"), none).always());
    let out = job(&fleet, "backup", &json!({}));
    assert_eq!(exit(&out), 0, "{}", said(&out));
    assert_eq!(fleet.sim.calls_of("run.action").len(), 3, "facts, freeze, thaw");
    let set = fleet.sim.snapshots();
    assert!(set.len() == 3 && set.iter().all(|s| tag(s, "verdict") == "held"), "{set:?}");
    assert!(fleet.in_window(&fleet.members[0], &set));
}

#[test]
fn an_output_that_was_cut_is_doubt_and_doubt_is_thawed() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let cut = ArmRule::new(ArmMatch::op("run.put").name_contains("snapfreeze-freeze-"), ArmFault::CutOutput { bytes: 600 });
    let rule = fleet.sim.fault(cut);
    let out = job(&fleet, "backup", &json!({}));
    assert_eq!((fleet.sim.hits(rule), fleet.sim.snapshots().len()), (1, 0), "{}", said(&out));
    assert_eq!(exit(&out), 6, "{}", said(&out));
    assert!(said(&out).contains("cut"), "{}", said(&out));
    assert!(!fleet.any_frozen());
}

#[test]
fn a_disk_that_cannot_be_snapshotted_now_is_named() {
    let mut fleet = AzureFleet::iris(0, ArmConfig::quick, &setup());
    fleet.add("db1", &setup());
    let m = &fleet.members[0];
    let vm = cloud_sim::arm::Vm::new(suite::cloud::azure::SUBSCRIPTION, suite::cloud::azure::GROUP, "db1")
        .tag("snapfreeze", "nightly")
        .os_disk(ArmDisk::new("db1-os"));
    // The data's disk is gone from the machine, as far as Azure knows.
    fleet.sim.add_vm(vm.data_disk(1, ArmDisk::new("db1-jrn").dir(m.host.disk.path().join("jrn"))));
    let out = job(&fleet, "backup", &json!({}));
    assert_eq!(exit(&out), 4, "{}", said(&out));
    assert!(lines(&out).iter().any(|l| l["code"] == "Freeze.Refused.NotCovered"), "{}", said(&out));
    assert_eq!(fleet.freezes(), 0);
}
