//! Two official clients ask the double for the same things: their requests are the same, so they are what ours are compared with.

use crate::stage::{COMPUTE, SUB, Stage, VM};
use cloud_sim::arm::ArmCall;
use serde_json::Value;
use std::collections::BTreeMap;
use suite::cloud::azure_tools::{Az, AzureSdk, essence};

/// What changes something, by operation.
fn asked(calls: &[ArmCall]) -> BTreeMap<String, Vec<Value>> {
    let mut by = BTreeMap::<String, Vec<Value>>::new();
    for c in calls.iter().filter(|c| c.method != "GET") {
        by.entry(c.op.clone()).or_default().push(essence(c));
    }
    by
}

#[test]
fn az_and_the_sdk_ask_for_the_same_work_in_the_same_way() {
    let name = "az_and_the_sdk_ask_for_the_same_work_in_the_same_way";
    let (one, two) = (Stage::new(), Stage::new());
    let Some(sdk) = AzureSdk::or_skip(name) else { return };
    let Some(az) = Az::or_skip(&one.sim, one.dir.path(), name) else { return };
    let source = format!("{COMPUTE}/disks/data0");
    let snapshot = ["snapshot", "create", "-g", "rg1", "-n", "s1", "--incremental", "true", "--location", "westeurope", "--tags", "a=b"];
    az.json(&[&snapshot[..], &["--source", &source]].concat());
    az.json(&["snapshot", "delete", "-g", "rg1", "-n", "s1"]);
    az.json(&["vm", "run-command", "invoke", "-g", "rg1", "-n", "vm1", "--command-id", "RunShellScript", "--scripts", "echo 1"]);
    let managed = ["vm", "run-command", "create", "-g", "rg1", "--vm-name", "vm1", "--run-command-name", "m1", "--location", "westeurope"];
    az.json(
        &[&managed[..], &["--script", "echo $A", "--parameters", "A=x", "--timeout-in-seconds", "30", "--async-execution", "false"]]
            .concat(),
    );
    az.json(&[
        "restore-point",
        "collection",
        "create",
        "-g",
        "rg1",
        "--collection-name",
        "c1",
        "--source-id",
        VM,
        "--location",
        "westeurope",
    ]);
    az.json(&["restore-point", "create", "-g", "rg1", "--collection-name", "c1", "--name", "p1", "--consistency-mode", "CrashConsistent"]);
    sdk.run(
        &two.sim,
        SUB,
        "sdk",
        &format!(
            r#"
compute.snapshots.begin_create_or_update('rg1', 's1', {{'location': 'westeurope', 'tags': {{'a': 'b'}},
    'properties': {{'incremental': True, 'creationData': {{'createOption': 'Copy', 'sourceResourceId': '{source}'}}}}}}).result()
compute.snapshots.begin_delete('rg1', 's1').result()
compute.virtual_machines.begin_run_command('rg1', 'vm1', {{'commandId': 'RunShellScript', 'script': ['echo 1']}}).result()
compute.virtual_machine_run_commands.begin_create_or_update('rg1', 'vm1', 'm1', {{'location': 'westeurope', 'properties': {{
    'source': {{'script': 'echo $A'}}, 'parameters': [{{'name': 'A', 'value': 'x'}}], 'timeoutInSeconds': 30, 'asyncExecution': False}}}}).result()
compute.restore_point_collections.create_or_update('rg1', 'c1', {{'location': 'westeurope', 'properties': {{'source': {{'id': '{VM}'}}}}}})
compute.restore_points.begin_create('rg1', 'c1', 'p1', {{'properties': {{'consistencyMode': 'CrashConsistent'}}}}).result()
answer(None)
"#
        ),
    );
    let (by_az, by_sdk) = (asked(&one.sim.calls()), asked(&two.sim.calls()));
    let ops = ["collections.put", "points.put", "run.action", "run.put", "snapshots.delete", "snapshots.put"];
    assert_eq!(by_az.keys().map(String::as_str).collect::<Vec<_>>(), ops);
    assert_eq!(by_az, by_sdk);
}
