//! Orders over SSM: the real documents on the double's hosts, whose stub of the agent answers with markers.

use crate::support::*;
use cloud_sim::{Fault, Match, Rule};
use coordinator::Target;
use coordinator::ports::{FreezeAnswer, FreezeCall, Hosts, ThawAnswer};
use protocol::{BackupId, Code, HoldMs};

async fn facts(cloud: &Cloud, target: &Target, ms: i64) -> Result<protocol::wire::Facts, protocol::wire::Problem> {
    cloud.ssm().facts(target, new_id(), HoldMs::new(60_000).unwrap(), in_ms(ms)).await
}

async fn freeze(cloud: &Cloud, call: &FreezeCall) -> FreezeAnswer {
    cloud.ssm().freeze(&target(HOST), call).await
}

async fn thaw(cloud: &Cloud, id: BackupId, ms: i64) -> ThawAnswer {
    cloud.ssm().thaw(&target(HOST), id, "test", in_ms(ms)).await
}

#[tokio::test]
async fn a_host_is_asked_frozen_and_thawed() {
    let cloud = Cloud::start();
    let f = facts(&cloud, &target(HOST), 20_000).await.unwrap();
    assert_eq!((f.host.as_str(), f.volumes[0].volume.as_str()), ("db-a", "vol-a-1"));

    let call = freeze_call(new_id(), 20_000);
    let FreezeAnswer::Frozen(reply) = freeze(&cloud, &call).await else { panic!("not frozen") };
    assert_eq!((reply.id, reply.by.as_str(), reply.remaining_ms), (call.id, "nightly 0197c4a2", 60_000));
    assert_eq!(cloud.state(HOST), "frozen");
    let ThawAnswer::Thawed(w) = thaw(&cloud, call.id, 20_000).await else { panic!("not thawed") };
    assert_eq!(w.backup_id, call.id);
    assert_eq!(cloud.state(HOST), "thawed");
    assert_eq!(thaw(&cloud, call.id, 20_000).await, ThawAnswer::Thawed(w), "a repeated thaw gets the first one's answer");
    assert_eq!(cloud.count("SendCommand"), 4);
    let sent = &cloud.sim.calls_of("SendCommand")[1];
    assert_eq!(sent.params["TimeoutSeconds"], 60, "delivered until not_after");
}

#[tokio::test]
async fn an_answer_that_is_not_there_yet_is_waited_for() {
    let cloud = Cloud::with(|c| c.ssm.visible_after_ms = 1_200);
    let throttled = cloud.sim.fault(Rule::new(Match::action("GetCommandInvocation"), Fault::Throttle).nth(3).times(2));
    let lost = cloud.sim.fault(Rule::new(Match::action("GetCommandInvocation"), Fault::LostReply).nth(2).times(1));
    let busy = cloud.sim.fault(Rule::new(Match::action("SendCommand"), Fault::Throttle).times(2));
    let f = freeze(&cloud, &freeze_call(new_id(), 30_000)).await;
    assert!(matches!(f, FreezeAnswer::Frozen(_)), "{f:?}");
    assert_eq!((cloud.sim.hits(throttled), cloud.sim.hits(lost), cloud.sim.hits(busy)), (2, 1, 2));
    assert_eq!(cloud.asked(HOST, "freeze"), 1);
    let gone = cloud.sim.calls_of("GetCommandInvocation").iter().filter(|c| c.error.as_deref() == Some("InvocationDoesNotExist")).count();
    assert!(gone > 0, "the control: it was not there at first");
}

/// For each way in which a freeze order can go wrong: is it certain that nothing was frozen?
#[tokio::test]
async fn a_freeze_is_refused_only_when_nothing_was_sent_or_the_agent_says_so() {
    let send = |f: Fault| Rule::new(Match::action("SendCommand").document("snapfreeze-freeze"), f).always();
    let doubtful = [
        send(Fault::LostRequest),
        send(Fault::LostReply),
        send(Fault::Http { status: 500 }),
        send(Fault::Http { status: 503 }),
        send(Fault::DeliveryTimesOut { start_late_ms: None }),
        send(Fault::ReportAs { status_details: "Undeliverable".into() }),
        send(Fault::CutOutput { chars: 40 }),
        send(Fault::NeverReported),
        Rule::new(Match::action("GetCommandInvocation"), Fault::AccessDenied).always(),
        Rule::new(Match::action("GetCommandInvocation"), Fault::LostReply).always(),
    ];
    let mut doubts = 0;
    for rule in doubtful {
        let cloud = Cloud::start();
        let what = format!("{:?}", rule.fault);
        let marked = matches!(rule.fault, Fault::ReportAs { .. });
        let hit = cloud.sim.fault(rule);
        match freeze(&cloud, &freeze_call(new_id(), if marked { 20_000 } else { 1_500 })).await {
            FreezeAnswer::Unknown(_) if !marked => doubts += 1,
            FreezeAnswer::Frozen(_) if marked => {}
            other => panic!("{what}: {other:?}"),
        }
        assert!(cloud.sim.hits(hit) > 0, "{what}");
    }
    assert_eq!(doubts, 9);

    let refused = async |cloud: &Cloud| match freeze(cloud, &freeze_call(new_id(), 10_000)).await {
        FreezeAnswer::Refused(p) => p,
        other => panic!("{other:?}"),
    };
    let cloud = Cloud::start();
    cloud.sim.fault(send(Fault::AccessDenied));
    let p = refused(&cloud).await;
    assert!(p.code == Code::CloudRefused && p.detail.contains("not permitted: ssm:SendCommand"), "{p:?}");
    cloud.sim.clear_faults();
    cloud.sim.fault(send(Fault::Throttle));
    let p = refused(&cloud).await;
    assert!(p.code == Code::CloudRefused && p.detail.contains("throttled"), "{p:?}");
    cloud.sim.clear_faults();
    cloud.sim.set_state(HOST, "stopped");
    assert_eq!(refused(&cloud).await.code, Code::AgentUnreachable);
    cloud.sim.set_state(HOST, "running");
    assert_eq!(cloud.asked(HOST, "freeze"), 0, "none of these reached the host");

    let mut late = freeze_call(new_id(), 10_000);
    late.not_after = in_ms(-1_000);
    assert!(matches!(freeze(&cloud, &late).await, FreezeAnswer::Refused(p) if p.code == Code::RefusedLate));
    let none = aws::Ssm::new(cloud.clients(), common::WallClock::start(), Default::default(), "other-");
    let FreezeAnswer::Refused(p) = none.freeze(&target(HOST), &freeze_call(new_id(), 10_000)).await else { panic!() };
    assert!(p.detail.contains("no SSM document other-freeze in us-east-1"), "{p:?}");
}

/// A release that is half rolled out: the document is older than the function and knows no owner.
#[tokio::test]
async fn a_document_without_an_owner_is_thawed_by_all_the_same() {
    let cloud = Cloud::start();
    let call = freeze_call(new_id(), 20_000);
    assert!(matches!(freeze(&cloud, &call).await, FreezeAnswer::Frozen(_)));
    let older = serde_json::json!({ "schemaVersion": "2.2", "parameters": { "backupId": { "type": "String" } },
        "mainSteps": [{ "action": "aws:runShellScript", "name": "snapfreeze",
            "inputs": { "runCommand": ["exec /usr/bin/snapfreeze thaw --json --id {{backupId}}"] } }] });
    cloud.sim.put_document("snapfreeze-thaw", &older.to_string()).unwrap();
    assert!(matches!(thaw(&cloud, call.id, 20_000).await, ThawAnswer::Thawed(_)));
}

/// Facts §1.5: a freeze that nobody waits for any more may start later. The order's time and the thaw's id stop it.
#[tokio::test]
async fn a_freeze_that_starts_after_everybody_gave_up_freezes_nothing() {
    let cloud = Cloud::start();
    cloud.sim.fault(Rule::new(Match::action("SendCommand").document("snapfreeze-freeze"), Fault::StartLate { ms: 2_500 }));
    let call = freeze_call(new_id(), 1_000);
    assert!(matches!(freeze(&cloud, &call).await, FreezeAnswer::Unknown(_)));
    assert_eq!(thaw(&cloud, call.id, 20_000).await, ThawAnswer::NeverFrozen);
    let until = std::time::Duration::from_secs(20);
    let cancelled = async {
        while cloud.count("CancelCommand") == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(until, cancelled).await.expect("a freeze without a listener is cancelled");
    // It starts all the same when the cancellation comes too late.
    cloud.sim.fault(Rule::new(Match::action("CancelCommand"), Fault::LostRequest).always());
    let late = Fault::DeliveryTimesOut { start_late_ms: Some(2_500) };
    cloud.sim.fault(Rule::new(Match::action("SendCommand").document("snapfreeze-freeze"), late));
    let call = freeze_call(new_id(), 1_000);
    assert!(matches!(freeze(&cloud, &call).await, FreezeAnswer::Unknown(_)));
    assert_eq!(thaw(&cloud, call.id, 20_000).await, ThawAnswer::NeverFrozen);
    let late = async {
        while cloud.asked(HOST, "freeze") == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    };
    tokio::time::timeout(until, late).await.expect("it started late");
    assert_eq!(cloud.state(HOST), "", "and froze nothing");
}

#[tokio::test]
async fn a_thaw_counts_only_when_the_host_confirms_it() {
    let cloud = Cloud::start();
    let call = freeze_call(new_id(), 20_000);
    assert!(matches!(freeze(&cloud, &call).await, FreezeAnswer::Frozen(_)));
    let never = cloud.sim.fault(Rule::new(Match::action("SendCommand").document("snapfreeze-thaw"), Fault::NeverReported));
    assert!(matches!(thaw(&cloud, call.id, 1_500).await, ThawAnswer::Unknown(_)));
    assert_eq!(cloud.sim.hits(never), 1);
    assert_eq!(cloud.count("CancelCommand"), 0, "a thaw is never called back");
    let left = "SNAPFREEZE {\"type\":\"problem\",\"id\":\"@ID@\",\"code\":\"Thaw.LeftFrozen\",\"detail\":\"still frozen\"}\n";
    cloud.says("thaw", left, 8);
    assert!(matches!(thaw(&cloud, call.id, 20_000).await, ThawAnswer::StillFrozen(p) if p.detail == "still frozen"));
    cloud.says("thaw", "thawed\n", 0);
    assert!(matches!(thaw(&cloud, call.id, 20_000).await, ThawAnswer::Unknown(_)), "an exit 0 proves nothing");
    cloud.says("thaw", &left.replace("@ID@", &new_id().to_string()), 8);
    assert!(matches!(thaw(&cloud, call.id, 20_000).await, ThawAnswer::Unknown(why) if why.contains("asked was")));
}

#[tokio::test]
async fn a_host_without_an_agent_is_named_before_the_freeze() {
    let cloud = Cloud::start();
    cloud.sim.set_online(HOST, false);
    let p = facts(&cloud, &target(HOST), 60_000).await.unwrap_err();
    assert_eq!((p.code, p.detail.as_str()), (Code::AgentUnreachable, "the SSM agent is not connected"));
    let p = facts(&cloud, &target("i-nowhere"), 60_000).await.unwrap_err();
    assert_eq!(p.code, Code::AgentUnreachable);
    cloud.sim.set_online(HOST, true);
    cloud.says("facts", "", 127);
    let p = facts(&cloud, &target(HOST), 20_000).await.unwrap_err();
    assert!(p.code == Code::AgentUnreachable && p.detail.contains("no last line"), "{p:?}");
    let denied = cloud.sim.fault(Rule::new(Match::action("DescribeInstanceInformation"), Fault::AccessDenied).always());
    std::fs::remove_file(cloud.stub(HOST).join("facts.out")).unwrap();
    assert!(facts(&cloud, &target(HOST), 20_000).await.is_ok(), "that it cannot be asked proves nothing");
    assert!(cloud.sim.hits(denied) > 0);
}
