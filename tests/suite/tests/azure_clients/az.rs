//! The `az` command line, logged in by the managed identity: the whole work.

use crate::stage::{COMPUTE, Stage, VM};
use cloud_sim::arm::{ArmFault, ArmMatch, ArmRule};
use serde_json::json;
use suite::cloud::azure_tools::Az;

#[test]
fn az_makes_tags_lists_and_deletes_snapshots() {
    let stage = Stage::new();
    let Some(az) = Az::or_skip(&stage.sim, stage.dir.path(), "az_makes_tags_lists_and_deletes_snapshots") else { return };
    let source = format!("{COMPUTE}/disks/data0");
    let make = [
        "snapshot",
        "create",
        "-g",
        "rg1",
        "--incremental",
        "true",
        "--location",
        "westeurope",
        "--source",
        &source,
        "--tags",
        "a=b",
        "-n",
    ];
    let made = az.json(&[&make[..], &["s1"]].concat());
    assert_eq!(
        (&made["provisioningState"], &made["incremental"], &made["tags"]),
        (&json!("Succeeded"), &json!(true), &json!({ "a": "b" }))
    );
    assert_eq!(stage.bytes("s1"), "data0");
    assert_eq!(az.json(&["snapshot", "update", "-g", "rg1", "-n", "s1", "--set", "tags.verdict=held"])["tags"]["verdict"], "held");
    let of = format!("{COMPUTE}/snapshots/s1");
    az.json(&["tag", "update", "--resource-id", &of, "--operation", "merge", "--tags", "x=y"]);
    let listed = az.json(&["snapshot", "list", "-g", "rg1"]);
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["tags"]), (1, &json!({ "a": "b", "verdict": "held", "x": "y" })));
    az.json(&["snapshot", "delete", "-g", "rg1", "-n", "s1"]);
    assert_eq!(az.json(&["snapshot", "list", "-g", "rg1"]), json!([]));

    stage.sim.fault(ArmRule::new(ArmMatch::op("snapshots.put"), ArmFault::LroFailed { code: "DiskServiceInternalError".into() }));
    let failed = az.output(&[&make[..], &["s2"]].concat());
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && said.contains("DiskServiceInternalError"), "the control: {said}");
    let principals: Vec<_> = stage.sim.calls_of("snapshots.put").into_iter().map(|c| c.principal).collect();
    assert!(principals.iter().all(|p| p.as_deref() == Some("system")), "by the managed identity: {principals:?}");
    assert!(!stage.ops().contains(&"unknown".to_owned()), "{:?}", stage.ops());
}

#[test]
fn az_runs_commands_and_makes_restore_points() {
    let stage = Stage::new();
    let Some(az) = Az::or_skip(&stage.sim, stage.dir.path(), "az_runs_commands_and_makes_restore_points") else { return };
    let invoke = ["vm", "run-command", "invoke", "-g", "rg1", "-n", "vm1", "--command-id", "RunShellScript"];
    let done = az.json(&[&invoke[..], &["--scripts", "echo $1 $a", "--parameters", "a=hello"]].concat());
    assert_eq!(done["value"][0]["message"], "Enable succeeded: \n[stdout]\nhello hello\n\n[stderr]\n");
    let of = ["-g", "rg1", "--vm-name", "vm1", "--run-command-name", "m1"];
    let create = ["--location", "westeurope", "--script", "echo \"$a\"; exit 3", "--parameters", "a=x;y"];
    let made = az.json(&[&["vm", "run-command", "create"][..], &of, &create].concat());
    assert_eq!(made["provisioningState"], "Succeeded");
    let view = az.json(&[&["vm", "run-command", "show"][..], &of, &["--instance-view"]].concat())["instanceView"].clone();
    assert_eq!((&view["executionState"], &view["exitCode"], &view["output"]), (&json!("Failed"), &json!(3), &json!("x;y\n")));
    az.json(&[&["vm", "run-command", "delete"][..], &of, &["-y"]].concat());
    let collection = ["restore-point", "collection", "create", "-g", "rg1", "--collection-name", "c1", "--source-id", VM, "--tags", "a=b"];
    assert_eq!(az.json(&collection)["tags"], json!({ "a": "b" }));
    let point =
        ["restore-point", "create", "-g", "rg1", "--collection-name", "c1", "--name", "p1", "--consistency-mode", "CrashConsistent"];
    let made = az.json(&point);
    assert_eq!((&made["provisioningState"], &made["consistencyMode"]), (&json!("Succeeded"), &json!("CrashConsistent")));
    assert_eq!(stage.sim.points()[0].disks.len(), 3);
    assert!(!stage.ops().contains(&"unknown".to_owned()), "{:?}", stage.ops());
}
