//! What only a double injects: each fault does what it says, is counted, and without it the same call goes well.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the doors")]

mod common;

use cloud_sim::{Fault, Match, Moment, Rule, Window, boot_us};
use common::Stage;
use serde_json::json;
use std::time::Duration;

const SET: &str = "Action=CreateSnapshots&InstanceSpecification.InstanceId=i-1";

fn code(answer: &Option<(u16, String)>) -> String {
    let text = &answer.as_ref().expect("an answer").1;
    let inner = text.split_once("<Code>").and_then(|(_, r)| r.split_once("</Code>"));
    inner.map_or_else(String::new, |(c, _)| c.to_owned())
}

#[test]
fn a_refused_call_does_nothing_and_the_next_one_goes_well() {
    let refusals = [
        (Fault::Throttle, 503, "RequestLimitExceeded"),
        (Fault::AccessDenied, 403, "UnauthorizedOperation"),
        (Fault::Http { status: 500 }, 500, "InternalError"),
        (Fault::Error { code: "Odd".into(), message: "m".into() }, 400, "Odd"),
    ];
    for (fault, status, name) in refusals {
        let stage = Stage::quick();
        let rule = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), fault).nth(2));
        assert_eq!(stage.ec2(SET).unwrap().0, 200, "the first is not hit");
        let refused = stage.ec2(SET);
        assert_eq!((refused.as_ref().unwrap().0, code(&refused).as_str()), (status, name));
        assert_eq!(stage.sim.snapshots().len(), 3, "nothing was done");
        assert_eq!(stage.ec2(SET).unwrap().0, 200, "the third is not hit");
        assert_eq!((stage.sim.hits(rule), stage.sim.faults()[0].seen), (1, 3));
        assert_eq!(stage.sim.calls()[1].error.as_deref(), Some(name));
    }
}

#[test]
fn a_lost_reply_was_done_and_a_lost_request_was_not() {
    let stage = Stage::quick();
    stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::LostReply));
    assert_eq!(stage.ec2(SET), None);
    assert_eq!(stage.sim.snapshots().len(), 3);
    stage.sim.clear_faults();
    stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::LostRequest));
    assert_eq!(stage.ec2(SET), None);
    assert_eq!(stage.sim.snapshots().len(), 3, "still");
    let calls = stage.sim.calls();
    assert!(calls.iter().all(|c| c.out_us.is_none() && c.error.as_deref() == Some("(lost)")) && calls.len() == 2, "{calls:?}");
}

#[test]
fn a_call_whose_caller_dies_is_done_all_the_same() {
    let stage = Stage::quick();
    let rule = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::Hold { when: Moment::Before }));
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            use std::io::Write;
            let mut stream = std::net::TcpStream::connect(stage.sim.address()).unwrap();
            let body = format!("{SET}&Version=2016-11-15");
            let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length:";
            write!(stream, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
            assert!(stage.sim.wait_held(rule, Duration::from_secs(20)));
            // The stream is closed here: the caller was killed.
        });
        caller.join().unwrap();
    });
    assert_eq!(stage.sim.snapshots().len(), 0, "held");
    stage.sim.release(rule);
    wait(|| stage.sim.snapshots().len() == 3);
}

fn wait(there: impl Fn() -> bool) {
    for _ in 0..2000 {
        if there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not come");
}

#[test]
fn one_bad_snapshot_fails_its_whole_set() {
    let stage = Stage::quick();
    let fault = Fault::OneSnapshotFails { volume: Some("vol-journal".into()), after_ms: 0 };
    stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), fault));
    stage.ec2(SET).unwrap();
    let set = stage.sim.snapshots();
    assert!(set.iter().all(|s| s.status() == "error") && set.len() == 3);
    assert_eq!(set.iter().filter(|s| s.cause.is_some()).map(|s| s.volume.as_str()).collect::<Vec<_>>(), ["vol-journal"]);
    stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::SnapshotsStayPending));
    stage.ec2(SET).unwrap();
    stage.ec2(SET).unwrap();
    wait(|| stage.sim.snapshots().iter().filter(|s| s.status() == "completed").count() == 3);
    assert_eq!(stage.sim.snapshots().iter().filter(|s| s.status() == "pending").count(), 3);
    stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::OneSnapshotVanishes));
    stage.ec2(SET).unwrap();
    assert_eq!(stage.sim.snapshots().len(), 3 * 3 + 2);
}

#[test]
fn spacing_pending_limits_and_the_bucket_shared_with_others() {
    let stage = Stage::with(|c| c.ec2.per_volume_rate_ms = 60_000);
    assert_eq!(stage.ec2(SET).unwrap().0, 200);
    assert_eq!(code(&stage.ec2(SET)), "SnapshotCreationPerVolumeRateExceeded");

    let stage = Stage::with(|c| (c.ec2.pending_limits, c.ec2.complete_after_ms) = (true, 600_000));
    let refused: Vec<String> = (0..6).map(|_| code(&stage.ec2(SET))).collect();
    assert_eq!(refused, ["", "", "", "", "", "ConcurrentSnapshotLimitExceeded"]);

    let stage = Stage::with(|c| c.ec2.buckets = true);
    stage.sim.other_traffic("CreateSnapshots", 1_000_000.0);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(code(&stage.ec2(SET)), "RequestLimitExceeded");
    stage.sim.other_traffic("CreateSnapshots", 0.0);
    stage.sim.set_tokens("CreateSnapshots", 1.0);
    assert_eq!(stage.ec2(SET).unwrap().0, 200);
}

#[test]
fn an_orphan_starts_after_it_was_given_up() {
    let stage = Stage::with(|c| c.ssm.delivery_timeout_ms = Some(100));
    let marker = stage.path("ran");
    let parameters = json!({ "commands": [format!("echo late > {}", marker.display())] });
    stage.sim.fault(Rule::new(
        Match::action("SendCommand").document("AWS-RunShellScript"),
        Fault::DeliveryTimesOut { start_late_ms: Some(700) },
    ));
    let got = stage.run("AWS-RunShellScript", parameters.clone());
    assert_eq!((&got["Status"], &got["StatusDetails"], &got["ResponseCode"]), (&json!("TimedOut"), &json!("DeliveryTimedOut"), &json!(-1)));
    wait(|| marker.exists());
    wait(|| stage.sim.invocations()[0].ran);
    assert_eq!(stage.sim.invocations()[0].status_details, "DeliveryTimedOut", "the report stays");

    std::fs::remove_file(&marker).unwrap();
    stage.sim.fault(Rule::new(Match::action("SendCommand"), Fault::DeliveryTimesOut { start_late_ms: None }));
    stage.run("AWS-RunShellScript", parameters.clone());
    assert!(!marker.exists(), "that one never runs");
    stage.sim.clear_faults();
    assert_eq!(stage.run("AWS-RunShellScript", parameters)["Status"], "Success", "the control");
}

#[test]
fn what_is_reported_may_differ_from_what_happened() {
    let stage = Stage::quick();
    let say = json!({ "commands": ["echo one; echo two"] });
    stage.sim.fault(Rule::new(Match::action("SendCommand"), Fault::ReportAs { status_details: "Failed".into() }));
    let got = stage.run("AWS-RunShellScript", say.clone());
    assert_eq!((&got["Status"], &got["StandardOutputContent"]), (&json!("Failed"), &json!("one\ntwo\n")));
    stage.sim.fault(Rule::new(Match::action("SendCommand"), Fault::CutOutput { chars: 5 }));
    assert_eq!(stage.run("AWS-RunShellScript", say.clone())["StandardOutputContent"], "one\nt");
    // A question about a command is matched by the command's document.
    let about = Match::action("GetCommandInvocation").document("AWS-RunShellScript");
    let rule = stage.sim.fault(Rule::new(about, Fault::Throttle).times(2));
    assert_eq!(stage.run("AWS-RunShellScript", say)["Status"], "Success");
    assert_eq!(stage.sim.hits(rule), 2);
    let throttled = stage.sim.calls().into_iter().filter(|c| c.error.as_deref() == Some("ThrottlingException"));
    assert!(throttled.filter(|c| c.document.as_deref() == Some("AWS-RunShellScript")).count() == 2);
}

#[test]
fn the_record_says_what_was_called_inside_a_window() {
    let stage = Stage::quick();
    stage.ec2("Action=DescribeInstances").unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let from_ms = boot_us() / 1000;
    stage.ec2(SET).unwrap();
    let to_ms = Some(boot_us() / 1000 + 1);
    std::thread::sleep(Duration::from_millis(5));
    stage.ec2("Action=DescribeVolumes").unwrap();
    stage.sim.window(Window { name: "w".into(), from_ms, to_ms });
    let calls = stage.sim.calls();
    let inside: Vec<&str> = calls.iter().filter(|c| c.windows == ["w"]).map(|c| c.action.as_str()).collect();
    assert_eq!((calls.len(), inside), (3, vec!["CreateSnapshots"]));
    assert_eq!(calls[1].instance.as_deref(), Some("i-1"));
    assert!(calls[1].out_us.unwrap() >= calls[1].in_us);
}

#[test]
fn an_instance_that_is_terminated_in_between_is_gone_for_both_services() {
    let stage = Stage::quick();
    stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::Terminate { instance: "i-1".into() }));
    assert_eq!(code(&stage.ec2(SET)), "InvalidInstanceID.NotFound");
    let ask = json!({ "DocumentName": "AWS-RunShellScript", "InstanceIds": ["i-1"], "Parameters": { "commands": ["true"] } });
    assert_eq!(stage.ssm("SendCommand", &ask).unwrap().1["__type"], "InvalidInstanceId");
}
