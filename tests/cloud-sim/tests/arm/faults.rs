//! Each fault does what it says, is counted, and without it the same call goes well.

use crate::stage::{COMPUTE, Stage, snapshot_of, wait};
use cloud_sim::arm::{ArmFault, ArmMatch, ArmRule};
use cloud_sim::{Moment, Window, boot_us};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn a_refused_call_does_nothing_and_the_next_one_goes_well() {
    for (fault, status, code, retry) in [
        (ArmFault::Throttle { retry_after_s: 7 }, 429, "OperationNotAllowed", Some("7")),
        (ArmFault::Conflict, 409, "Conflict", None),
        (ArmFault::Status { status: 503, code: "ServiceUnavailable".into(), retry_after_s: Some(2) }, 503, "ServiceUnavailable", Some("2")),
        (ArmFault::Status { status: 403, code: "AuthorizationFailed".into(), retry_after_s: None }, 403, "AuthorizationFailed", None),
    ] {
        let stage = Stage::quick();
        let rule = stage.sim.fault(ArmRule::new(ArmMatch::op("snapshots.put"), fault).nth(2));
        assert_eq!(stage.snapshot("s1", "data0").status, 202, "the first is not hit");
        let refused = stage.snapshot("s2", "data0");
        assert_eq!((refused.refused(), refused.headers.get("retry-after").map(String::as_str)), ((status, code), retry));
        assert_eq!(stage.sim.snapshots().len(), 1, "nothing was done");
        assert_eq!(stage.snapshot("s2", "data0").status, 202, "the third is not hit");
        assert_eq!((stage.sim.hits(rule), stage.sim.faults()[0].seen), (1, 3));
        let calls = stage.sim.calls_of("snapshots.put");
        assert_eq!((calls[1].error.as_deref(), calls[1].status, &calls[1].faults), (Some(code), Some(status), &vec![rule]));
        assert_eq!(refused.headers.contains_key("x-ms-ratelimit-remaining-resource"), status == 429);
    }
}

#[test]
fn a_rule_is_about_what_it_names() {
    let stage = Stage::quick();
    let rule = |m: ArmMatch| stage.sim.fault(ArmRule::new(m, ArmFault::Conflict).always());
    let rules = [
        rule(ArmMatch::op("snapshots.put").name_contains("WIJ")),
        rule(ArmMatch::op("snapshots.put").contains("disks/vm1-os")),
        rule(ArmMatch::any().name("exact")),
        rule(ArmMatch::any().principal("somebody else")),
    ];
    let status =
        [("a-wij-b", "data0"), ("a", "vm1-os"), ("Exact", "data0"), ("b", "data0")].map(|(name, disk)| stage.snapshot(name, disk).status);
    assert_eq!(status, [409, 409, 409, 202]);
    assert_eq!(rules.map(|r| stage.sim.hits(r)), [1, 1, 1, 0]);
    stage.sim.clear_faults();
    assert_eq!(stage.snapshot("a-wij-b", "data0").status, 202);
}

#[test]
fn a_lost_reply_was_done_and_a_lost_request_was_not() {
    let stage = Stage::quick();
    let path = format!("{COMPUTE}/snapshots/s1");
    stage.fault("snapshots.put", ArmFault::LostRequest);
    assert_eq!(stage.try_ask("PUT", &path, snapshot_of("data0")), None);
    assert_eq!(stage.sim.snapshots().len(), 0);
    stage.fault("snapshots.put", ArmFault::LostReply);
    assert_eq!(stage.try_ask("PUT", &path, snapshot_of("data0")), None);
    wait(|| stage.get(&path).body["properties"]["provisioningState"] == "Succeeded");
    let calls = stage.sim.calls_of("snapshots.put");
    assert!(calls.iter().all(|c| c.to_us.is_none() && c.status.is_none() && c.error.as_deref() == Some("(lost)")), "{calls:?}");
}

#[test]
fn a_call_whose_caller_dies_is_done_all_the_same() {
    let stage = Stage::quick();
    let rule = stage.fault("snapshots.put", ArmFault::Hold { when: Moment::Before });
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            use std::io::Write;
            let body = snapshot_of("data0").to_string();
            let mut stream = std::net::TcpStream::connect(stage.sim.address()).unwrap();
            let head = format!("PUT {COMPUTE}/snapshots/s1?api-version=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer t");
            write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
            assert!(stage.sim.wait_held(rule, Duration::from_secs(20)));
            // The stream is closed here: the caller was killed.
        });
        caller.join().unwrap();
    });
    assert_eq!(stage.sim.snapshots().len(), 0, "held");
    stage.sim.release(rule);
    wait(|| stage.sim.snapshots().len() == 1);
    assert!(!stage.sim.wait_held(rule, Duration::from_millis(20)));
}

#[test]
fn held_after_it_was_done() {
    let stage = Stage::quick();
    let rule = stage.fault("snapshots.put", ArmFault::Hold { when: Moment::After });
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| stage.snapshot("s1", "data0").status);
        assert!(stage.sim.wait_held(rule, Duration::from_secs(20)));
        assert_eq!(stage.sim.snapshots().len(), 1, "done, not told");
        wait(|| stage.sim.snapshots()[0].state == "Succeeded");
        stage.sim.release(rule);
        assert_eq!(caller.join().unwrap(), 202);
    });
}

#[test]
fn slow_before_and_slow_after() {
    let stage = Stage::quick();
    for (fault, done_late) in [(ArmFault::Delay { ms: 250 }, true), (ArmFault::DelayReply { ms: 250 }, false)] {
        stage.fault("snapshots.put", fault);
        let (begin, from) = (Instant::now(), boot_us());
        stage.snapshot(&format!("s{done_late}"), "data0");
        assert!(begin.elapsed() >= Duration::from_millis(240));
        assert_eq!(stage.sim.snapshots().last().unwrap().put_us - from > 200_000, done_late);
    }
}

#[test]
fn an_operation_that_never_ends_and_one_that_fails() {
    let stage = Stage::quick();
    stage.fault("snapshots.put", ArmFault::EndlessAccepted);
    let endless = stage.snapshot("s1", "data0");
    wait(|| stage.sim.snapshots()[0].copy_to_us > 0);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(stage.follow(&endless.headers["azure-asyncoperation"]).body["status"], "InProgress");
    assert_eq!(stage.get(&format!("{COMPUTE}/snapshots/s1")).body["properties"]["provisioningState"], "Updating");
    stage.fault("snapshots.put", ArmFault::LroFailed { code: "InternalDiskManagementError".into() });
    let fails = stage.snapshot("s2", "data0");
    let end = stage.ended(&fails);
    assert_eq!((&end["status"], &end["error"]["code"]), (&json!("Failed"), &json!("InternalDiskManagementError")));
    assert_eq!(stage.follow(&fails.headers["location"]).refused(), (409, "InternalDiskManagementError"));
    assert_eq!(stage.get(&format!("{COMPUTE}/snapshots/s2")).body["properties"]["provisioningState"], "Failed");
    stage.fault("snapshots.patch", ArmFault::LroFailed { code: "X".into() });
    stage.done("PUT", &format!("{COMPUTE}/snapshots/s3"), snapshot_of("data0"));
    let patch = stage.ask("PATCH", &format!("{COMPUTE}/snapshots/s3"), json!({ "tags": {} }));
    assert_eq!(stage.ended(&patch)["status"], "Failed");
    assert_eq!(stage.sim.snapshots()[2].tags.len(), 1, "and the tags are what they were");
    stage.fault("snapshots.delete", ArmFault::EndlessAccepted);
    stage.ask("DELETE", &format!("{COMPUTE}/snapshots/s3"), Value::Null);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(stage.get(&format!("{COMPUTE}/snapshots/s3")).status, 200);
}

#[test]
fn a_snapshot_that_vanishes_and_an_answer_about_an_operation_that_is_refused() {
    let stage = Stage::quick();
    stage.fault("snapshots.put", ArmFault::Vanishes);
    let got = stage.snapshot("s1", "data0");
    assert_eq!(stage.ended(&got)["status"], "Succeeded");
    wait(|| stage.get(&format!("{COMPUTE}/snapshots/s1")).status == 404);
    assert_eq!(stage.sim.gone_snapshots()[0].name, "s1");
    let got = stage.snapshot("s2", "data0");
    stage.fault("operation.get", ArmFault::Throttle { retry_after_s: 1 });
    assert_eq!(stage.follow(&got.headers["azure-asyncoperation"]).status, 429);
    assert_eq!(stage.ended(&got)["status"], "Succeeded");
    let unknown =
        got.headers["azure-asyncoperation"].replace(got.body["name"].as_str().unwrap(), "").replace("DiskOperations/", "DiskOperations/0");
    assert_eq!(stage.follow(&unknown).refused(), (404, "NotFound"));
}

#[test]
fn the_record_says_what_was_called_inside_a_window() {
    let stage = Stage::quick();
    stage.ended(&stage.snapshot("before", "data0"));
    let from_ms = boot_us() / 1000 + 1;
    std::thread::sleep(Duration::from_millis(5));
    let inside = stage.snapshot("inside", "data0");
    std::thread::sleep(Duration::from_millis(5));
    stage.sim.window(Window { name: "w".into(), from_ms, to_ms: Some(boot_us() / 1000) });
    std::thread::sleep(Duration::from_millis(5));
    stage.ended(&inside);
    let calls = stage.sim.calls();
    let within: Vec<&str> = calls.iter().filter(|c| c.windows == ["w"]).map(|c| c.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(within, ["inside"]);
    assert!(calls.iter().any(|c| c.op == "operation.get" && c.windows.is_empty()));
    let first = &calls[0];
    assert_eq!(
        (first.n, first.method.as_str(), first.query.as_str(), first.principal.as_deref()),
        (1, "PUT", "api-version=2024-03-02", Some("tester"))
    );
    assert_eq!(first.body, snapshot_of("data0"));
}
