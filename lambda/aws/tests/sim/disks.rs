//! EBS: the look before the freeze, the one snapshot call, tags, the shelf, copies.

use crate::support::*;
use cloud_sim::{Fault, Instance, Match, Rule, Volume};
use coordinator::policy::{CopyTo, Lock, LockMode};
use coordinator::ports::{After, Clock, Disks, Look, Shelf, SnapshotAnswer, State};
use protocol::Code;
use std::collections::BTreeMap;

async fn look(cloud: &Cloud, id: &str) -> Look {
    cloud.ebs().look(&target(id), &snapshot_call(new_id())).await.unwrap()
}

#[tokio::test]
async fn a_look_names_every_volume_and_its_last_snapshot() {
    let cloud = Cloud::with(|c| c.ec2.complete_after_ms = 600_000);
    let cold = Volume { kind: "st1".into(), iops: None, ..Volume::new("vol-cold", "/dev/sdz") };
    let fast = Volume { iops: Some(3000), throughput: Some(125), size: 100, ..Volume::new("vol-fast", "/dev/sdy") };
    cloud.sim.add_instance(Instance::new("i-b").volume(Volume::new("vol-r", "/dev/xvda")).volume(cold).volume(fast));
    let before = look(&cloud, "i-b").await;
    assert_eq!(before.problem, None);
    let of = |l: &Look, id: &str| l.volumes.iter().find(|v| v.volume == id).unwrap().clone();
    assert_eq!(before.volumes.len(), 3);
    assert!(of(&before, "vol-r").boot && !of(&before, "vol-fast").boot);
    assert_eq!(of(&before, "vol-fast").kind, "gp3 100GiB 3000iops 125MiB/s");
    assert_eq!((of(&before, "vol-fast").device.as_str(), of(&before, "vol-fast").size_gib), ("/dev/sdy", 100));
    assert_eq!((of(&before, "vol-fast").pending_max, of(&before, "vol-cold").pending_max), (5, 1));
    assert_eq!((of(&before, "vol-cold").pending, of(&before, "vol-cold").last_snapshot), (0, None));
    assert_eq!(cloud.sim.snapshots().len(), 0, "a dry run makes nothing");

    let made = cloud.ebs().snapshot(&target("i-b"), &snapshot_call(new_id())).await;
    assert!(matches!(made, SnapshotAnswer::Accepted(m) if m.len() == 3));
    let after = look(&cloud, "i-b").await;
    let v = of(&after, "vol-cold");
    assert_eq!(v.pending, 1);
    let age = common::WallClock::start().now().0 - v.last_snapshot.unwrap().0;
    assert!((-1_000..60_000).contains(&age), "{age}");
}

#[tokio::test]
async fn what_forbids_a_snapshot_is_known_before_the_freeze() {
    let cloud = Cloud::start();
    let detail = |l: Look| l.problem.map(|p| (p.code, p.detail)).unwrap();

    let (code, why) = detail(look(&cloud, "i-0123456789abcdef0").await);
    assert_eq!((code, why.as_str()), (Code::CloudRefused, "no such instance in us-east-1"));
    let elsewhere = aws::Ebs::new(cloud.clients_in("eu-west-1", false), common::WallClock::start());
    let wrong_region = elsewhere.look(&target(HOST), &snapshot_call(new_id())).await.unwrap();
    assert_eq!(detail(wrong_region).1, "no such instance in eu-west-1");

    cloud.sim.set_state(HOST, "stopped");
    assert_eq!(detail(look(&cloud, HOST).await).1, "the instance is stopped");
    cloud.sim.set_state(HOST, "running");

    cloud.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::AccessDenied));
    let (code, why) = detail(look(&cloud, HOST).await);
    assert_eq!(code, Code::CloudRefused);
    assert!(why.starts_with("not permitted: ec2:CreateSnapshots"), "{why}");
    assert_eq!(look(&cloud, HOST).await.problem, None, "the control: without the denial it is allowed");

    cloud.sim.fault(Rule::new(Match::action("DescribeVolumes"), Fault::AccessDenied));
    let p = cloud.ebs().look(&target(HOST), &snapshot_call(new_id())).await.unwrap_err();
    assert!(p.detail.starts_with("not permitted: ec2:DescribeVolumes"), "{}", p.detail);
}

#[tokio::test]
async fn one_call_takes_all_volumes_with_all_tags() {
    let cloud = Cloud::start();
    let id = new_id();
    let mut call = snapshot_call(id);
    call.exclude_boot = true;
    call.exclude_volumes = vec!["vol-a-2".into()];
    let SnapshotAnswer::Accepted(made) = cloud.ebs().snapshot(&target(HOST), &call).await else { panic!("not accepted") };
    assert_eq!(made.iter().map(|m| m.volume.as_str()).collect::<Vec<_>>(), ["vol-a-1"]);
    assert_eq!(cloud.count("CreateSnapshots"), 1);
    assert_eq!(cloud.count("CreateTags"), 0, "the tags are in the call");
    let on_it = &cloud.sim.snapshots()[0];
    assert_eq!(on_it.tags, call.tags);
    let found = cloud.ebs().find(id).await.unwrap();
    assert_eq!((found.len(), &found[0].tags, &found[0].snapshot), (1, &call.tags, &made[0].snapshot));
    assert_eq!(cloud.ebs().find(new_id()).await.unwrap(), []);
}

/// What the answer proves, for everything that can go wrong with the one call that is not repeated.
#[tokio::test]
async fn a_snapshot_call_is_sent_once_and_only_a_certain_no_is_a_failure() {
    let error = |code: &str| Fault::Error { code: code.into(), message: "said the cloud".into() };
    let cases = [
        (Fault::Throttle, true, 0),
        (Fault::AccessDenied, true, 0),
        (error("SnapshotCreationPerVolumeRateExceeded"), true, 0),
        (error("ConcurrentSnapshotLimitExceeded"), true, 0),
        (error("InvalidInstanceID.NotFound"), true, 0),
        (Fault::Http { status: 500 }, false, 0),
        (Fault::Http { status: 503 }, false, 0),
        (Fault::LostRequest, false, 0),
        (Fault::LostReply, false, 3),
        (Fault::SlowReply { ms: 60_000 }, false, 3),
    ];
    let (mut certain, mut doubts) = (0, 0);
    for (fault, fails, made) in cases {
        let cloud = Cloud::start();
        let rule = cloud.sim.fault(Rule::new(Match::action("CreateSnapshots"), fault.clone()).always());
        let mut call = snapshot_call(new_id());
        call.answer_by = in_ms(if matches!(fault, Fault::SlowReply { .. }) { 1_500 } else { 20_000 });
        match cloud.ebs().snapshot(&target(HOST), &call).await {
            SnapshotAnswer::Failed(p) => {
                assert!(fails, "{fault:?}: {p:?}");
                assert_eq!(p.code, Code::CloudRefused);
                certain += 1;
            }
            SnapshotAnswer::Unknown(_) => {
                assert!(!fails, "{fault:?}");
                doubts += 1;
            }
            SnapshotAnswer::Accepted(m) => panic!("{fault:?}: {m:?}"),
        }
        assert_eq!((cloud.count("CreateSnapshots"), cloud.sim.hits(rule)), (1, 1), "{fault:?}");
        cloud.sim.clear_faults();
        assert_eq!(cloud.ebs().find(call.id).await.unwrap().len(), made, "{fault:?}");
    }
    assert_eq!((certain, doubts), (5, 5));
}

#[tokio::test]
async fn the_shelf_is_read_page_by_page_and_tagged_in_calls_of_a_thousand() {
    let cloud = Cloud::start();
    let mut big = Instance::new("i-big");
    for n in 0..100 {
        big = big.volume(Volume::new(&format!("vol-big-{n}"), &format!("/dev/sd{n}")));
    }
    cloud.sim.add_instance(big);
    let id = new_id();
    for _ in 0..11 {
        assert!(matches!(cloud.ebs().snapshot(&target("i-big"), &snapshot_call(id)).await, SnapshotAnswer::Accepted(_)));
    }
    let all = cloud.ebs().find(id).await.unwrap();
    assert_eq!(all.len(), 1100);
    assert_eq!(cloud.count("DescribeSnapshots"), 2, "two pages");
    assert_eq!(cloud.ebs().all().await.unwrap().len(), 1100);

    let ids: Vec<String> = all.iter().map(|s| s.snapshot.clone()).collect();
    let held = BTreeMap::from([("snapfreeze:verdict".to_owned(), "held".to_owned())]);
    cloud.ebs().tag(&ids, &held).await.unwrap();
    assert_eq!(cloud.count("CreateTags"), 2);
    assert!(cloud.sim.snapshots().iter().all(|s| s.tags["snapfreeze:verdict"] == "held"));
}

#[tokio::test]
async fn calls_outside_a_window_are_patient_and_deleting_twice_is_done() {
    let cloud = Cloud::start();
    let SnapshotAnswer::Accepted(made) = cloud.ebs().snapshot(&target(HOST), &snapshot_call(new_id())).await else { panic!() };
    let throttled = cloud.sim.fault(Rule::new(Match::action("CreateTags"), Fault::Throttle).times(2));
    cloud.ebs().tag(&[made[0].snapshot.clone()], &BTreeMap::from([("k".into(), "v".into())])).await.unwrap();
    assert_eq!(cloud.sim.hits(throttled), 2);
    let lost = cloud.sim.fault(Rule::new(Match::action("DeleteSnapshot"), Fault::LostReply));
    cloud.ebs().delete(&made[0].snapshot).await.unwrap();
    assert_eq!(cloud.sim.hits(lost), 1);
    cloud.ebs().delete(&made[0].snapshot).await.unwrap();
    assert_eq!(cloud.sim.snapshots().len(), 2);
    cloud.sim.fault(Rule::new(Match::action("DeleteSnapshot"), Fault::AccessDenied));
    let p = cloud.ebs().delete(&made[1].snapshot).await.unwrap_err();
    assert!(p.detail.starts_with("not permitted: ec2:DeleteSnapshot"), "{}", p.detail);
}

#[tokio::test]
async fn a_snapshot_that_ended_in_error_is_seen_as_failed() {
    let cloud = Cloud::start();
    cloud.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::SnapshotsFail { after_ms: 0 }));
    let id = new_id();
    assert!(matches!(cloud.ebs().snapshot(&target(HOST), &snapshot_call(id)).await, SnapshotAnswer::Accepted(_)));
    assert!(cloud.ebs().find(id).await.unwrap().iter().all(|s| s.state == State::Failed));
}

#[tokio::test]
async fn a_held_set_is_copied_with_its_tags_once_shared_locked_and_warmed() {
    let cloud = Cloud::start();
    let call = snapshot_call(new_id());
    let SnapshotAnswer::Accepted(made) = cloud.ebs().snapshot(&target(HOST), &call).await else { panic!() };
    while cloud.ebs().find(call.id).await.unwrap().iter().any(|s| s.state != State::Completed) {}
    let to = CopyTo { region: "eu-west-1".into(), account: Some("210987654321".into()), kms_key: None };
    for _ in 0..2 {
        cloud.ebs().after(&made, &After::Copy(&to)).await.unwrap();
    }
    let copies: Vec<_> = cloud.sim.snapshots().into_iter().filter(|s| s.region == "eu-west-1").collect();
    assert_eq!(copies.len(), 3, "a second time copies nothing");
    assert!(copies.iter().all(|c| c.tags == call.tags && c.shared_with.contains("210987654321")));

    let lock = Lock { mode: LockMode::Governance, days: 7, cool_off_hours: None };
    cloud.ebs().after(&made, &After::Lock(&lock)).await.unwrap();
    cloud.ebs().after(&made, &After::FastRestore(&["us-east-1a".into()])).await.unwrap();
    let here: Vec<_> = cloud.sim.snapshots().into_iter().filter(|s| s.region == REGION).collect();
    assert_eq!(here.iter().filter(|s| s.lock.as_ref().is_some_and(|l| l.days == Some(7)) && s.fast_restore.len() == 1).count(), 3);
    let p = cloud.ebs().delete(&made[0].snapshot).await.unwrap_err();
    assert!(p.detail.contains("SnapshotLocked"), "{}", p.detail);
}
