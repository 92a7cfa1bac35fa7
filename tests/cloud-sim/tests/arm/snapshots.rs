//! Snapshots: the operation, the bytes and their moment, what is refused.

use crate::stage::{COMPUTE, SUB, Stage, snapshot_of, wait};
use cloud_sim::arm::{ArmFault, ArmMatch, ArmRule};
use serde_json::{Value, json};
use std::fs;

#[test]
fn a_snapshot_is_accepted_then_copied_then_succeeded() {
    let stage = Stage::with(|c| c.snapshots.copy_after_ms = 500);
    let got = stage.snapshot("s1", "data0");
    assert_eq!((got.status, &got.body["properties"]["provisioningState"]), (202, &json!("Updating")));
    assert!(got.headers["azure-asyncoperation"].contains("/locations/westeurope/DiskOperations/"));
    assert!(got.headers["location"].ends_with("&monitor=true") && got.headers["retry-after"] == "0");
    assert_eq!(stage.get(&format!("{COMPUTE}/snapshots/s1")).body["properties"]["provisioningState"], "Updating");
    assert_eq!(stage.follow(&got.headers["location"]).status, 202);
    let end = stage.ended(&got);
    assert_eq!(end["status"], "Succeeded");
    let made = stage.get(&format!("{COMPUTE}/snapshots/s1")).body;
    assert_eq!(end["properties"]["output"], made);
    assert_eq!(stage.follow(&got.headers["location"]).body, made);
    let p = &made["properties"];
    assert_eq!(
        (&p["provisioningState"], &p["incremental"], &p["diskSizeGB"], &p["completionPercent"], &made["tags"]["snapfreeze:id"]),
        (&json!("Succeeded"), &json!(true), &json!(8), &json!(100.0), &json!("x"))
    );
    let s = &stage.sim.snapshots()[0];
    assert!(s.put_us < s.copy_from_us && s.copy_from_us <= s.copy_to_us && s.copy_to_us < s.end_us, "{s:?}");
    assert_eq!(fs::read_to_string(s.dir.as_ref().unwrap().join("file")).unwrap(), "bytes of data0");
}

#[test]
fn the_bytes_are_those_of_the_copy_and_not_those_of_the_acceptance() {
    let stage = Stage::quick();
    for (after, expected) in [(1000, "changed after the 202"), (0, "bytes of data0")] {
        fs::write(stage.path("data0/file"), "bytes of data0").unwrap();
        stage.fault("snapshots.put", ArmFault::CopyAfter { ms: after });
        let got = stage.snapshot(&format!("s{after}"), "data0");
        if after == 0 {
            wait(|| stage.sim.snapshots().last().unwrap().copy_to_us > 0);
        }
        fs::write(stage.path("data0/file"), "changed after the 202").unwrap();
        assert_eq!(stage.ended(&got)["status"], "Succeeded");
        let dir = stage.sim.snapshots().last().unwrap().dir.clone().unwrap();
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), expected);
    }
}

#[test]
fn the_same_put_again_takes_no_second_copy_and_another_source_is_refused() {
    let stage = Stage::quick();
    let path = format!("{COMPUTE}/snapshots/s1");
    stage.done("PUT", &path, snapshot_of("data0"));
    let before = stage.sim.snapshots();
    fs::write(stage.path("data0/file"), "later").unwrap();
    let mut other = snapshot_of("data0");
    other["tags"] = json!({ "b": "2" });
    let again = stage.ask("PUT", &path.to_uppercase().replace("/SNAPSHOTS/S1", "/snapshots/S1"), other);
    assert_eq!((again.status, &again.body["tags"]), (200, &json!({ "b": "2" })));
    let after = stage.sim.snapshots();
    assert_eq!((after.len(), after[0].copy_to_us, &after[0].dir), (1, before[0].copy_to_us, &before[0].dir));
    assert_eq!(stage.ask("PUT", &path, snapshot_of("wij")).refused(), (409, "PropertyChangeNotAllowed"));
}

#[test]
fn tags_are_replaced_by_a_patch_and_a_deletion_takes_its_time() {
    let stage = Stage::with(|c| (c.snapshots.change_ms, c.snapshots.copy_after_ms) = (400, 400));
    let path = format!("{COMPUTE}/snapshots/s1");
    let first = stage.snapshot("s1", "data0");
    assert_eq!(stage.ask("PATCH", &path, json!({ "tags": {} })).refused(), (409, "AnotherOperationInProgress"));
    stage.ended(&first);
    let patched = stage.done("PATCH", &path, json!({ "tags": { "verdict": "held" } }));
    assert_eq!((&patched["tags"], &stage.get(&path).body["tags"]), (&json!({ "verdict": "held" }), &json!({ "verdict": "held" })));
    assert_eq!(stage.ask("PATCH", &path, json!({ "tags": { "a/b": "" } })).refused(), (400, "InvalidTagNameCharacters"));
    let got = stage.ask("DELETE", &path, Value::Null);
    assert_eq!((got.status, stage.get(&path).status), (202, 200), "still there");
    assert_eq!(stage.ended(&got)["status"], "Succeeded");
    assert_eq!(stage.follow(&got.headers["location"]).status, 204);
    assert_eq!(stage.get(&path).refused(), (404, "ResourceNotFound"));
    assert_eq!(stage.ask("DELETE", &path, Value::Null).status, 204);
    assert_eq!(stage.sim.gone_snapshots().len(), 1);
}

#[test]
fn premium_v2_is_copied_in_the_background_and_incremental_only() {
    let stage = Stage::with(|c| c.snapshots.hydrate_ms = 600);
    let mut full = snapshot_of("wij");
    full["properties"]["incremental"] = json!(false);
    let path = format!("{COMPUTE}/snapshots/s1");
    assert_eq!(stage.ask("PUT", &path, full).refused(), (400, "InvalidParameter"));
    let made = stage.done("PUT", &path, snapshot_of("wij"));
    assert_eq!(made["properties"]["provisioningState"], "Succeeded");
    assert!(made["properties"]["completionPercent"].as_f64().unwrap() < 100.0, "succeeded, not complete");
    wait(|| stage.get(&path).body["properties"]["completionPercent"] == 100.0);
}

#[test]
fn what_is_wrong_in_a_put_is_named() {
    let stage = Stage::quick();
    let put = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut body = snapshot_of("data0");
        change(&mut body);
        let got = stage.ask("PUT", &format!("{COMPUTE}/snapshots/{name}"), body);
        (got.status, got.code().to_owned())
    };
    let bad = |code: &str| (400, code.to_owned());
    assert_eq!(put(&"x".repeat(81), &|_| {}), bad("InvalidParameter"));
    assert_eq!(put("a.b", &|_| {}), bad("InvalidParameter"));
    assert_eq!(put("s", &|b| drop(b.as_object_mut().unwrap().remove("location"))), bad("LocationRequired"));
    assert_eq!(put("s", &|b| b["location"] = json!("eastus")), bad("InvalidParameter"));
    assert_eq!(put("s", &|b| b["sku"]["name"] = json!("UltraSSD_LRS")), bad("InvalidParameter"));
    assert_eq!(put("s", &|b| b["properties"]["creationData"]["createOption"] = json!("Empty")), bad("InvalidParameter"));
    assert_eq!(put("s", &|b| *b = json!("x")), bad("InvalidRequestContent"));
    let gone = json!(format!("{COMPUTE}/disks/none"));
    assert_eq!(put("s", &|b| b["properties"]["creationData"]["sourceResourceId"] = gone.clone()), (404, "ResourceNotFound".into()));
    assert!(stage.sim.snapshots().is_empty());
    assert_eq!(put(&"x".repeat(80), &|b| b["location"] = json!("West Europe")).0, 202, "the control");
}

#[test]
fn seven_in_five_minutes_and_three_that_are_not_complete() {
    let stage = Stage::with(|c| (c.snapshots.limits, c.snapshots.hydrate_ms) = (true, 600_000));
    let made = |disk: &str, n: usize| -> Vec<u16> { (0..n).map(|i| stage.snapshot(&format!("{disk}{i}"), disk).status).collect() };
    assert_eq!(made("data0", 8), [202, 202, 202, 202, 202, 202, 202, 409]);
    assert_eq!(made("wij", 4), [202, 202, 202, 409]);
    assert_eq!(stage.snapshot("data08", "data0").refused(), (409, "OperationNotAllowed"));
    let elsewhere = format!("/subscriptions/{SUB}/resourceGroups/none/providers/Microsoft.Compute/snapshots/s");
    assert_eq!(stage.ask("PUT", &elsewhere, snapshot_of("data0")).refused(), (404, "ResourceGroupNotFound"));
    assert_eq!(stage.sim.fault(ArmRule::new(ArmMatch::any(), ArmFault::Conflict)), 1);
}

#[test]
fn five_hundred_of_a_disk_are_all() {
    let stage = Stage::with(|c| c.snapshots.limits = true);
    stage.ended(&stage.snapshot("one", "data0"));
    let one = stage.sim.snapshots()[0].clone();
    for n in 1..500 {
        let mut more = one.clone();
        more.id = format!("{COMPUTE}/snapshots/n{n}");
        stage.sim.put_snapshot(more);
    }
    assert_eq!(stage.snapshot("s501", "data0").refused(), (409, "OperationNotAllowed"));
}
