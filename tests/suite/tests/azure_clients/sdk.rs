//! `azure-mgmt-compute`: the whole work, and what it makes of refusals.

use crate::stage::{COMPUTE, SUB, Stage, VM};
use cloud_sim::arm::{ArmFault, ArmMatch, ArmPrincipal, ArmRule};
use serde_json::json;
use suite::cloud::azure_tools::AzureSdk;

#[test]
fn the_sdk_makes_tags_lists_and_deletes_snapshots() {
    let Some(sdk) = AzureSdk::or_skip("the_sdk_makes_tags_lists_and_deletes_snapshots") else { return };
    let stage = Stage::new();
    let got = sdk.run(
        &stage.sim,
        SUB,
        "sdk",
        &format!(
            r#"
vm = next(iter(compute.virtual_machines.list_all()))
disk = vm.storage_profile.data_disks[0]
def body(of): return {{'location': vm.location, 'tags': {{'snapfreeze:id': 'x'}}, 'incremental': True,
    'creationData': {{'createOption': 'Copy', 'sourceResourceId': of}}}}
def make(name, of):
    b = body(of)
    return compute.snapshots.begin_create_or_update('rg1', name, {{'location': b['location'], 'tags': b['tags'],
        'properties': {{'incremental': True, 'creationData': b['creationData']}}}})
s = make('s1', disk.managed_disk.id).result()
make('s2', '{COMPUTE}/disks/wij').result()
listed = sorted(x.name for x in compute.snapshots.list_by_resource_group('rg1'))
tagged = compute.snapshots.begin_update('rg1', 's1', {{'tags': {{'verdict': 'held'}}}}).result()
compute.snapshots.begin_delete('rg1', 's2').result()
answer({{'vm': vm.name, 'lun': disk.lun, 'state': s.provisioning_state, 'percent': s.completion_percent, 'tags': s.tags, 'size': s.disk_size_gb,
    'listed': listed, 'tagged': tagged.tags, 'left': [x.name for x in compute.snapshots.list()],
    'disk': compute.disks.get('rg1', 'data0').sku.name,
    'power': compute.virtual_machines.get('rg1', 'vm1', expand='instanceView').instance_view.statuses[1].code,
    'none': fails(lambda: compute.snapshots.get('rg1', 'none')),
    'bad': fails(lambda: make('bad', '{COMPUTE}/disks/none').result())}})
"#
        ),
    );
    let expected = json!({
        "vm": "vm1", "lun": 0, "state": "Succeeded", "percent": 100.0, "tags": { "snapfreeze:id": "x" }, "size": 8, "listed": ["s1", "s2"],
        "tagged": { "verdict": "held" }, "left": ["s1"], "disk": "Premium_LRS", "power": "PowerState/running",
        "none": [404, "ResourceNotFound"], "bad": [404, "ResourceNotFound"],
    });
    assert_eq!(got, expected);
    assert_eq!(stage.bytes("s1"), "data0");
    assert!(!stage.ops().contains(&"unknown".to_owned()), "{:?}", stage.ops());
}

#[test]
fn the_sdk_runs_commands_and_makes_restore_points() {
    let Some(sdk) = AzureSdk::or_skip("the_sdk_runs_commands_and_makes_restore_points") else { return };
    let stage = Stage::new();
    let got = sdk.run(
        &stage.sim,
        SUB,
        "sdk",
        &format!(
            r#"
done = compute.virtual_machines.begin_run_command('rg1', 'vm1', {{'commandId': 'RunShellScript', 'script': ['echo hello; exit 3']}}).result()
run = {{'location': 'westeurope', 'properties': {{'source': {{'script': 'echo "$A"; exit 3'}}, 'timeoutInSeconds': 30,
    'parameters': [{{'name': 'A', 'value': 'x y;z'}}]}}}}
compute.virtual_machine_run_commands.begin_create_or_update('rg1', 'vm1', 'm1', run).result()
view = compute.virtual_machine_run_commands.get_by_virtual_machine('rg1', 'vm1', 'm1', expand='instanceView').instance_view
listed = [r.name for r in compute.virtual_machine_run_commands.list_by_virtual_machine('rg1', 'vm1')]
compute.virtual_machine_run_commands.begin_delete('rg1', 'vm1', 'm1').result()
compute.restore_point_collections.create_or_update('rg1', 'c1', {{'location': 'westeurope', 'tags': {{'a': 'b'}},
    'properties': {{'source': {{'id': '{VM}'}}}}}})
point = compute.restore_points.begin_create('rg1', 'c1', 'p1', {{'properties': {{'consistencyMode': 'CrashConsistent'}}}}).result()
answer({{'message': done.value[0].message, 'view': [view.execution_state, view.exit_code, view.output], 'listed': listed,
    'mode': point.consistency_mode, 'state': point.provisioning_state,
    'disks': [d.lun for d in point.source_metadata.storage_profile.data_disks],
    'tags': compute.restore_point_collections.get('rg1', 'c1').tags}})
"#
        ),
    );
    let expected = json!({
        "message": "Enable succeeded: \n[stdout]\nhello\n\n[stderr]\n", "view": ["Failed", 3, "x y;z\n"], "listed": ["m1"],
        "mode": "CrashConsistent", "state": "Succeeded", "disks": [0, 1], "tags": { "a": "b" },
    });
    assert_eq!(got, expected);
    assert_eq!(stage.sim.run_names(VM), Vec::<String>::new());
    assert!(!stage.ops().contains(&"unknown".to_owned()), "{:?}", stage.ops());
}

#[test]
fn the_sdk_understands_throttles_failures_and_refusals() {
    let Some(sdk) = AzureSdk::or_skip("the_sdk_understands_throttles_failures_and_refusals") else { return };
    let stage = Stage::new();
    let rule = |m: ArmMatch, f: ArmFault| stage.sim.fault(ArmRule::new(m, f));
    let put = || ArmMatch::op("snapshots.put");
    let throttled = rule(put().name("later"), ArmFault::Throttle { retry_after_s: 1 });
    rule(put().name("fails"), ArmFault::LroFailed { code: "DiskServiceInternalError".into() });
    rule(put().name("endless"), ArmFault::EndlessAccepted);
    rule(put().name("conflict"), ArmFault::Conflict);
    stage.sim.add_principal(ArmPrincipal::new("reader").actions(&["*/read", "Microsoft.Compute/snapshots/write"]));
    let script = format!(
        r#"
def make(name): return compute.snapshots.begin_create_or_update('rg1', name, {{'location': 'westeurope',
    'properties': {{'incremental': True, 'creationData': {{'createOption': 'Copy', 'sourceResourceId': '{COMPUTE}/disks/data0'}}}}}})
begin = time.time()
later = make('later').result().provisioning_state
waited = time.time() - begin
endless = make('endless')
endless.wait(2)
answer({{'later': later, 'waited': waited >= 1, 'endless': endless.status(), 'fails': fails(lambda: make('fails').result()),
    'conflict': fails(lambda: make('conflict').result()), 'good': make('good').result().name}})
"#
    );
    let got = sdk.run(&stage.sim, SUB, "sdk", &script);
    assert_eq!(got["fails"][1], "DiskServiceInternalError");
    let mut rest = got.clone();
    rest["fails"] = json!("seen");
    let expected = json!({
        "later": "Succeeded", "waited": true, "endless": "InProgress", "fails": "seen", "conflict": [409, "Conflict"], "good": "good",
    });
    assert_eq!(rest, expected, "{got}");
    assert_eq!(stage.sim.hits(throttled), 1);
    let refused = sdk.run(
        &stage.sim,
        SUB,
        "reader",
        &format!(
            "answer([fails(lambda: compute.snapshots.begin_delete('rg1', 'good')), fails(lambda: compute.snapshots.begin_create_or_update('rg1', 'x', \
             {{'location': 'westeurope', 'properties': {{'creationData': {{'createOption': 'Copy', 'sourceResourceId': '{COMPUTE}/disks/data0'}}}}}}))])"
        ),
    );
    assert_eq!(refused, json!([[403, "AuthorizationFailed"], [403, "LinkedAuthorizationFailed"]]));
}
