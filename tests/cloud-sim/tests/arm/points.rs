//! Restore points: all disks, the consistency that was really reached, the guest's scripts.

use crate::stage::{COMPUTE, Stage, VM};
use cloud_sim::arm::{ArmDisk, ArmFault, ArmHost, Vm};
use serde_json::{Value, json};
use std::fs;

const SUB: &str = crate::stage::SUB;

fn collection(stage: &Stage, name: &str, vm: &str) -> String {
    let path = format!("{COMPUTE}/restorePointCollections/{name}");
    let body = json!({ "location": "westeurope", "tags": { "snapfreeze:id": "x" }, "properties": { "source": { "id": vm } } });
    let got = stage.ask("PUT", &path, body);
    assert_eq!(got.status, 201, "{got:?}");
    path
}

fn crash() -> Value {
    json!({ "properties": { "consistencyMode": "CrashConsistent" } })
}

/// A VM whose disks all may be in a crash consistent point.
fn plain(stage: &Stage) -> String {
    let disk = |n: &str| ArmDisk::new(&format!("p-{n}")).dir(stage.path(n));
    let vm = Vm::new(SUB, "rg1", "plain").data_disk(0, disk("data0")).data_disk(1, disk("wij"));
    let id = vm.id();
    stage.sim.add_vm(vm);
    id
}

#[test]
fn a_crash_consistent_point_has_all_disks_but_the_excluded() {
    let stage = Stage::quick();
    let vm = plain(&stage);
    let of = collection(&stage, "c1", &vm);
    let mut body = crash();
    body["properties"]["excludeDisks"] = json!([{ "id": format!("{COMPUTE}/disks/plain-os") }]);
    let got = stage.ask("PUT", &format!("{of}/restorePoints/p1"), body);
    assert_eq!((got.status, &got.body["properties"]["provisioningState"]), (201, &json!("Creating")));
    assert!(got.headers["azure-asyncoperation"].contains("/operations/"));
    let point = stage.ended(&got)["properties"]["output"].clone();
    assert_eq!(point["properties"]["consistencyMode"], "CrashConsistent");
    let disks = &point["properties"]["sourceMetadata"]["storageProfile"]["dataDisks"];
    assert_eq!((disks.as_array().unwrap().len(), &disks[1]["lun"]), (2, &json!(1)));
    assert_eq!(stage.get(&format!("{of}/restorePoints/p1")).body, point);
    let made = &stage.sim.points()[0];
    assert_eq!(made.disks.len(), 2);
    let of_data = made.disks[0].dir.as_ref().unwrap().join("file");
    assert_eq!(fs::read_to_string(of_data).unwrap(), "bytes of data0");
    let expanded = stage.get(&format!("{of}?$expand=restorePoints")).body;
    assert_eq!(expanded["properties"]["restorePoints"][0]["name"], "p1");
    assert_eq!(expanded["tags"]["snapfreeze:id"], "x", "the collection has the tags");
}

#[test]
fn no_two_at_once_three_in_an_hour_and_no_premium_v2() {
    let stage = Stage::with(|c| (c.points.limits, c.points.copy_after_ms) = (true, 400));
    let of = collection(&stage, "c1", VM);
    let refused = stage.ask("PUT", &format!("{of}/restorePoints/p"), crash());
    assert_eq!(refused.refused(), (409, "OperationNotAllowed"), "vm1 has a disk of Premium SSD v2");
    let mode = json!({ "properties": { "consistencyMode": "ApplicationConsistent" } });
    assert_eq!(stage.ask("PUT", &format!("{of}/restorePoints/p"), mode).refused(), (400, "InvalidParameter"));
    let of = collection(&stage, "c2", &plain(&stage));
    let first = stage.ask("PUT", &format!("{of}/restorePoints/p0"), crash());
    assert_eq!(stage.ask("PUT", &format!("{of}/restorePoints/p1"), crash()).refused(), (409, "Conflict"));
    stage.ended(&first);
    for n in 1..3 {
        stage.done("PUT", &format!("{of}/restorePoints/p{n}"), crash());
    }
    assert_eq!(stage.ask("PUT", &format!("{of}/restorePoints/p3"), crash()).refused(), (409, "OperationNotAllowed"));
    assert_eq!(stage.ask("PUT", &format!("{of}/restorePoints/p0"), crash()).status, 200, "that one is there");
    assert_eq!(stage.sim.points().len(), 3);
}

#[test]
fn without_a_mode_the_guests_scripts_run_around_the_copy() {
    for (pre_exit, post_exit, goes_on, expected) in [
        (0, 0, true, Some("ApplicationConsistent")),
        (2, 0, true, Some("FileSystemConsistent")),
        (0, 1, true, Some("FileSystemConsistent")),
        (2, 0, false, None),
    ] {
        let stage = Stage::quick();
        let (pre, post, file) = (stage.path("pre"), stage.path("post"), stage.path("data0/file"));
        fs::write(&pre, format!("[ $# = 2 ] && [ -z \"$1\" ] || exit 9\necho frozen > {}; exit {pre_exit}", file.display())).unwrap();
        fs::write(&post, format!("echo thawed > {}; exit {post_exit}", file.display())).unwrap();
        let mut host = ArmHost::new(VM).pre_post(&pre, &post);
        host.scripts.as_mut().unwrap().continue_on_failure = goes_on;
        stage.sim.add_host(host);
        let of = collection(&stage, "c1", VM);
        let got = stage.ask("PUT", &format!("{of}/restorePoints/p1"), json!({}));
        let end = stage.ended(&got);
        let made = &stage.sim.points()[0];
        assert_eq!((made.pre, made.post), (Some(pre_exit), Some(post_exit)), "post runs whenever pre was started");
        assert_eq!(fs::read_to_string(&file).unwrap(), "thawed\n");
        match expected {
            Some(kind) => {
                assert_eq!(end["properties"]["output"]["properties"]["consistencyMode"], kind);
                let disk = made.disks.iter().find(|d| d.lun == Some(3)).unwrap();
                assert_eq!(fs::read_to_string(disk.dir.as_ref().unwrap().join("file")).unwrap(), "frozen\n");
            }
            None => assert_eq!((&end["status"], made.disks.len()), (&json!("Failed"), 0)),
        }
    }
}

#[test]
fn without_scripts_it_is_file_system_consistent_and_a_slow_pre_script_is_not_killed() {
    let stage = Stage::quick();
    let of = collection(&stage, "c1", VM);
    let done = stage.done("PUT", &format!("{of}/restorePoints/p1"), json!({}));
    assert_eq!(done["properties"]["consistencyMode"], "FileSystemConsistent");
    let (pre, post, late) = (stage.path("pre"), stage.path("post"), stage.path("late"));
    fs::write(&pre, format!("sleep 0.5; echo > {}", late.display())).unwrap();
    fs::write(&post, "exit 0").unwrap();
    let mut host = ArmHost::new(VM).pre_post(&pre, &post);
    host.scripts.as_mut().unwrap().timeout_ms = 100;
    stage.sim.add_host(host);
    let done = stage.done("PUT", &format!("{of}/restorePoints/p2"), json!({}));
    assert_eq!(done["properties"]["consistencyMode"], "FileSystemConsistent");
    assert_eq!((stage.sim.points()[1].pre, stage.sim.points()[1].post), (None, Some(0)));
    crate::stage::wait(|| late.exists());
}

#[test]
fn a_collection_is_tagged_listed_and_deleted_with_its_points() {
    let stage = Stage::quick();
    let of = collection(&stage, "c1", &plain(&stage));
    stage.done("PUT", &format!("{of}/restorePoints/p1"), crash());
    stage.done("PUT", &format!("{of}/restorePoints/p2"), crash());
    assert_eq!(stage.ask("PATCH", &of, json!({ "tags": { "a": "b" } })).body["tags"], json!({ "a": "b" }));
    let listed = stage.get(&format!("{COMPUTE}/restorePointCollections")).body;
    assert_eq!(listed["value"][0]["tags"]["a"], "b");
    stage.done("DELETE", &format!("{of}/restorePoints/p1"), Value::Null);
    assert_eq!(stage.get(&format!("{of}/restorePoints/p1")).status, 404);
    stage.done("DELETE", &of, Value::Null);
    assert!(stage.sim.points().is_empty() && stage.get(&of).status == 404);
    let other = json!({ "location": "westeurope", "properties": { "source": { "id": format!("{VM}x") } } });
    assert_eq!(stage.ask("PUT", &of, other).refused(), (404, "ResourceNotFound"));
}

#[test]
fn a_point_that_fails_and_one_that_never_ends() {
    let stage = Stage::quick();
    let of = collection(&stage, "c1", &plain(&stage));
    stage.fault("points.put", ArmFault::LroFailed { code: "RestorePointCreationFailed".into() });
    let got = stage.ask("PUT", &format!("{of}/restorePoints/p1"), crash());
    assert_eq!(stage.ended(&got)["error"]["code"], "RestorePointCreationFailed");
    assert_eq!(stage.get(&format!("{of}/restorePoints/p1")).body["properties"]["provisioningState"], "Failed");
    stage.fault("points.put", ArmFault::EndlessAccepted);
    let got = stage.ask("PUT", &format!("{of}/restorePoints/p2"), crash());
    std::thread::sleep(std::time::Duration::from_millis(150));
    assert_eq!(stage.follow(&got.headers["azure-asyncoperation"]).body["status"], "InProgress");
    assert_eq!(stage.ask("PUT", &format!("{of}/restorePoints/p3"), crash()).status, 409, "and it is in the way");
}
