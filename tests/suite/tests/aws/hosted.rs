//! Windows that the host holds itself: `snapfreezectl` sends one command, the agent's helper `snapfreeze-ebs` makes the call with the
//! instance's own role. Judges are the engine's history, the double's record and the snapshots' bytes.

use crate::common::{backup, by_tag, exit, in_window, policy_file};
use cloud_sim::{Call, Fault, Match, Moment, Rule, Window};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;
use suite::cloud::fleet::{Fleet, Member, setup, ssm_host};
use suite::cloud::programs::{ctl, program, said};
use suite::cloud::tools::tool_or_skip;
use suite::host::{Setup, What, kill, sleep_ms, with_text};
use suite::house::aws::iam_actions;

/// The helper begins with an empty environment: what points it at the double is put in front of it by a script.
fn hosted(n: usize) -> Fleet {
    let more = "[backup]\nsnapshotter = \"command\"\ncommand = [\"/bin/sh\", \"{disk}/ebs\"]\nhelper_covers = \"paths\"\n";
    let fleet = Fleet::iris(n, cloud_sim::Config::quick, &Setup { more: more.into(), ..setup() });
    for m in &fleet.members {
        fleet.sim.add_host(ssm_host(&m.id, &m.host).imds());
        let script = format!(
            "export AWS_EC2_METADATA_SERVICE_ENDPOINT={} AWS_ENDPOINT_URL_EC2={}\nexec {} --snapshot 300ms\n",
            fleet.sim.imds(&m.id).expect("metadata"),
            fleet.sim.endpoint(),
            program("snapfreeze-ebs").display()
        );
        std::fs::write(m.host.disk.path().join("ebs"), script).expect("a script");
    }
    fleet
}

fn with() -> Value {
    json!({ "held_by": "host", "hold": "20s", "snapshot": "300ms", "keep": { "pending": "1ms" } })
}

/// Snapshot calls that were no rehearsal.
fn taken(fleet: &Fleet) -> Vec<Call> {
    fleet.sim.calls_of("CreateSnapshots").into_iter().filter(|c| c.params["DryRun"] != "true").collect()
}

fn by_host(c: &Call, m: &Member) -> bool {
    c.principal.as_deref().is_some_and(|p| p.ends_with(&format!(":assumed-role/snapfreeze-host/{}", m.id)))
}

/// The snapshot call, not its rehearsal.
fn the_call() -> Match {
    Match::action("CreateSnapshots").contains("snapfreeze:frozen-at")
}

/// Each set's verdict; one word per set.
fn verdicts(fleet: &Fleet) -> Vec<String> {
    let snapshots = fleet.sim.snapshots();
    let sets = by_tag(&snapshots, "snapfreeze:backup-id");
    let of = |set: &Vec<&cloud_sim::Snapshot>| set.iter().map(|s| s.tags["snapfreeze:verdict"].clone()).collect::<BTreeSet<_>>();
    sets.values().map(|set| of(set).into_iter().collect::<Vec<_>>().join("+")).collect()
}

fn until(what: &str, mut now: impl FnMut() -> bool) {
    let there = (0..600).any(|_| {
        let there = now();
        if !there {
            sleep_ms(100);
        }
        there
    });
    assert!(there, "never: {what}");
}

/// Thawed, nothing under way; then `reap`.
fn settle(fleet: &Fleet, what: &str) {
    let ended = |s: &str| !["Pending", "InProgress", "Delayed"].contains(&s);
    until(&format!("{what}: quiet and thawed"), || {
        fleet.sim.invocations().iter().all(|i| ended(&i.status_details))
            && fleet.members.iter().all(|m| m.host.phase() == "idle" && !m.host.engine.frozen())
    });
    let policy = policy_file(fleet, &with());
    let reap = ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &["reap", "--policy", &policy, "--yes"]).output();
    let reap = reap.expect("it runs");
    assert_eq!(exit(&reap), 0, "{what}: {}", said(&reap));
}

#[test]
fn a_host_that_holds_its_own_window_makes_the_one_call_and_nothing_crosses_the_cloud_inside() {
    let fleet = hosted(2);
    let out = backup(&fleet, &with(), &[]);
    assert_eq!(exit(&out), 0, "{}", said(&out));

    // One command for each host, and one snapshot call by each host's own role.
    let sent: Vec<String> = fleet.sim.calls_of("SendCommand").into_iter().filter_map(|c| c.document).collect();
    let of = |d: &str| sent.iter().filter(|s| *s == d).count();
    assert_eq!((of("snapfreeze-backup"), of("snapfreeze-freeze"), of("snapfreeze-thaw")), (2, 0, 0), "{sent:?}");
    let calls = taken(&fleet);
    assert_eq!(calls.len(), 2, "{calls:?}");
    for m in &fleet.members {
        assert_eq!(calls.iter().filter(|c| by_host(c, m) && c.instance.as_ref() == Some(&m.id)).count(), 1, "{calls:?}");
    }

    let snapshots = fleet.sim.snapshots();
    assert_eq!((snapshots.len(), by_tag(&snapshots, "snapfreeze:backup-id").len()), (4, 2));
    for s in &snapshots {
        let tag = |n: &str| s.tags.get(&format!("snapfreeze:{n}")).cloned().unwrap_or_default();
        assert_eq!((tag("verdict").as_str(), tag("set-size").as_str(), tag("policy").as_str()), ("held", "2", "p"), "{:?}", s.tags);
        assert!(s.tags["Name"].ends_with("HELD"), "{:?}", s.tags);
        let whole = ["schema", "engine", "engine-version", "instance", "host", "journal-switched", "restore-from", "frozen-at"];
        for name in whole.iter().chain(&["thawed-at", "window-ms", "by", "agent-version", "instance-id", "device", "volume"]) {
            assert!(!tag(name).is_empty(), "{name}: {:?}", s.tags);
        }
        let data = fleet.members.iter().any(|m| m.volume == s.volume);
        assert_eq!(data, tag("roles").contains("database"), "{:?}", s.tags);
    }
    for m in &fleet.members {
        let verdict = |c: &&Call| by_host(c, m) && c.params.to_string().contains("snapfreeze:verdict");
        assert_eq!(fleet.sim.calls_of("CreateTags").iter().filter(verdict).count(), 1, "the helper writes the verdict with one call");
        assert!(in_window(&fleet, m), "the engine's own history: the copy lies inside the freeze");
    }
    let images = fleet.images();
    assert_eq!(images.len(), 2);
    assert!(images.iter().all(|(_, clean)| *clean), "{images:?}");
    for m in &fleet.members {
        let calls = inside(&fleet, m);
        let own: Vec<&str> = calls.iter().filter(|c| by_host(c, m)).map(|c| c.action.as_str()).collect();
        assert_eq!(own, ["CreateSnapshots"], "of the host itself");
        assert_eq!(sent_to(&calls, m), 0, "nothing is sent to a host that holds its own window: {calls:?}");
    }

    // What the helpers asked for is what the instance's role allows.
    let allowed = iam_actions("OwnSnapshots");
    let all = fleet.sim.calls();
    let ours = all.iter().filter(|c| c.service != "imds" && fleet.members.iter().any(|m| by_host(c, m)));
    let made: BTreeSet<String> = ours.map(|c| format!("{}:{}", c.service, c.action)).collect();
    assert_eq!(made, allowed, "every right of the role is used, and no other");

    // The control: held by the coordinator, the same hosts see a command inside their window, and make no call themselves.
    let out = backup(&fleet, &json!({ "hold": "20s", "snapshot": "300ms" }), &[]);
    assert_eq!(exit(&out), 0, "{}", said(&out));
    for m in &fleet.members {
        let calls = inside(&fleet, m);
        assert_eq!((sent_to(&calls, m), calls.iter().filter(|c| by_host(c, m)).count()), (1, 0), "{calls:?}");
    }
}

/// The calls between the last freeze of this host and its thaw, by the engine's own history.
fn inside(fleet: &Fleet, m: &Member) -> Vec<Call> {
    let history = m.host.engine.history();
    let last = |what: What| history.iter().rev().find(|h| h.what == what).map(|h| h.at_ms);
    let (from_ms, to_ms) = (last(What::Frozen).expect("a freeze"), last(What::ThawCalled).expect("a thaw"));
    assert!(from_ms <= to_ms && last(What::Thawed) >= Some(to_ms), "{history:?}");
    fleet.sim.window(Window { name: m.id.clone(), from_ms, to_ms: Some(to_ms) });
    fleet.sim.calls().into_iter().filter(|c| c.windows.contains(&m.id)).collect()
}

/// Commands sent to this host. That the coordinator asks for a result now and then holds nobody up.
fn sent_to(calls: &[Call], m: &Member) -> usize {
    calls.iter().filter(|c| c.action == "SendCommand" && c.instance.as_ref() == Some(&m.id)).count()
}

#[test]
fn a_coordinator_lost_after_its_command_costs_a_host_held_backup_nothing() {
    let fleet = hosted(1);
    let m = &fleet.members[0];
    let document = "snapfreeze-backup";
    let moments = [
        ("before it hears that the command was taken", Match::action("SendCommand").document(document), Moment::After),
        ("when it first asks for the result", Match::action("GetCommandInvocation").document(document), Moment::Before),
    ];
    for (n, (what, matches, when)) in moments.into_iter().enumerate() {
        let rule = fleet.sim.fault(Rule::new(matches, Fault::Hold { when }));
        let policy = policy_file(&fleet, &with());
        let mut c = ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &["--json", "backup", "--policy", &policy]);
        let mut child = c.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("snapfreezectl starts");
        let reached = fleet.sim.wait_held(rule, Duration::from_secs(60));
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        fleet.sim.clear_faults();
        assert!(reached, "{what}: not reached");
        until(&format!("{what}: held by the host's own verdict"), || verdicts(&fleet) == vec!["held"; n + 1]);
        settle(&fleet, what);
        assert_eq!(verdicts(&fleet), vec!["held"; n + 1], "{what}");
        assert_eq!(taken(&fleet).len(), n + 1, "{what}: one call");
        assert!(taken(&fleet).iter().all(|c| by_host(c, m)), "{what}");
        assert!(in_window(&fleet, m), "{what}");
    }
    let tags: Vec<Call> = fleet.sim.calls_of("CreateTags");
    assert!(tags.iter().all(|c| by_host(c, m)), "the coordinator wrote no tag: {tags:?}");
    assert_eq!(fleet.images().iter().filter(|(_, clean)| *clean).count(), 2);
}

/// A backup during which `act` is done while the host's `rule` holds a call: its exit code.
fn during(fleet: &Fleet, rule: Rule, act: impl FnOnce()) -> i32 {
    let rule = fleet.sim.fault(rule);
    let policy = policy_file(fleet, &with());
    let mut c = ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &["--json", "backup", "--policy", &policy]);
    let mut child = c.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("snapfreezectl starts");
    let reached = fleet.sim.wait_held(rule, Duration::from_secs(60));
    if reached {
        act();
    }
    fleet.sim.clear_faults(); // what was held goes on: the cloud does what it was asked
    let code = child.wait().expect("its end").code().unwrap_or(-1);
    assert!(reached, "the call was not held");
    code
}

fn kill_helper(m: &Member) {
    let disk = m.host.disk.path().display().to_string();
    let helpers: Vec<u32> = with_text(&disk).into_iter().filter(|p| p.exe.ends_with("snapfreeze-ebs")).map(|p| p.pid).collect();
    assert_eq!(helpers.len(), 1, "one helper runs");
    helpers.into_iter().for_each(kill);
}

#[test]
fn a_helper_killed_or_unanswered_after_go_gives_a_thawed_host_and_a_broken_set() {
    let fleet = hosted(1);
    let m = &fleet.members[0];
    let hold = |when| Rule::new(the_call(), Fault::Hold { when });

    // The control: a call that only waited gives a held set.
    assert_eq!(during(&fleet, hold(Moment::Before), || sleep_ms(200)), 0);
    settle(&fleet, "held up");
    assert_eq!(verdicts(&fleet), ["held"]);

    let mut sets = 1;
    for when in [Moment::Before, Moment::After] {
        let code = during(&fleet, hold(when), || kill_helper(m));
        assert_eq!(code, 7, "killed, {when:?} the call was done");
        sets += 1;
        one_more_broken(&fleet, sets, &format!("killed {when:?}"));
    }

    let lost = fleet.sim.fault(Rule::new(the_call(), Fault::LostReply));
    let out = backup(&fleet, &with(), &[]);
    assert_eq!((fleet.sim.hits(lost), exit(&out)), (1, 7), "{}", said(&out));
    fleet.sim.clear_faults();
    one_more_broken(&fleet, sets + 1, "reply lost");
    assert_eq!(taken(&fleet).len(), 4, "no call was sent a second time");
    assert!(taken(&fleet).iter().all(|c| by_host(c, m)));
}

fn one_more_broken(fleet: &Fleet, sets: usize, what: &str) {
    until(&format!("{what}: the cloud made what it was asked"), || verdicts(fleet).len() == sets);
    settle(fleet, what);
    let mut all = verdicts(fleet);
    all.sort();
    let mut want = vec!["broken"; sets - 1];
    want.push("held");
    assert_eq!(all, want, "{what}");
}

/// The window was good, and the one who should have said so on the snapshots is dead: the coordinator, which has the host's answer, does.
#[test]
fn a_verdict_that_the_helper_did_not_live_to_write_is_written_by_the_coordinator() {
    let fleet = hosted(1);
    let m = &fleet.members[0];
    let verdict = Match::action("CreateTags").contains("snapfreeze:verdict");
    let code = during(&fleet, Rule::new(verdict, Fault::Hold { when: Moment::Before }), || kill_helper(m));
    assert_eq!((code, verdicts(&fleet)), (0, vec!["held".to_owned()]));
    settle(&fleet, "killed before its verdict");
    assert_eq!(verdicts(&fleet), ["held"]);
    let wrote = |c: &&Call| c.action == "CreateTags" && c.params.to_string().contains("snapfreeze:verdict") && !by_host(c, m);
    assert!(fleet.sim.calls().iter().any(|c| wrote(&c)), "by the coordinator");
    assert!(in_window(&fleet, m) && !m.host.engine.frozen());
}

#[test]
fn the_role_of_an_instance_snapshots_that_instance_and_no_other() {
    let test = "the_role_of_an_instance_snapshots_that_instance_and_no_other";
    let Some(aws) = tool_or_skip("aws", "aws", test) else { return };
    let fleet = hosted(2);
    let (own, other) = (&fleet.members[0], &fleet.members[1]);
    let create = |instance: &str| {
        let o = Command::new(&aws)
            .args(["--region", "us-east-1", "ec2", "create-snapshots", "--instance-specification", &format!("InstanceId={instance}")])
            .env_clear()
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", fleet.sim.imds(&own.id).expect("metadata"))
            .env("AWS_ENDPOINT_URL", fleet.sim.endpoint())
            .env("AWS_CONFIG_FILE", "/nonexistent")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
            .output()
            .expect("aws runs");
        (o.status.success(), String::from_utf8_lossy(&o.stderr).into_owned())
    };
    let (made, said) = create(&other.id);
    assert!(!made && said.contains("UnauthorizedOperation"), "{said}");
    assert_eq!(fleet.sim.snapshots().len(), 0);
    let (made, said) = create(&own.id);
    assert!(made, "the control: its own is allowed: {said}");
    assert_eq!(fleet.sim.snapshots().len(), 2);
}
