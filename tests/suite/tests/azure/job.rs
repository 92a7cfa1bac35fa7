//! A run of `snapfreeze-job`: three disks, one freeze, one window, three tagged snapshots, and a verdict that `az` reads.

use crate::common::{ctl, exit, job, lines, policy_file, tag};
use cloud_sim::arm::{ArmConfig, ArmFault, ArmMatch, ArmRule};
use serde_json::json;
use std::process::Stdio;
use std::time::{Duration, Instant};
use suite::cloud::azure::AzureFleet;
use suite::cloud::fleet::setup;
use suite::cloud::programs::{program, said};
use suite::host::sleep_ms;

#[test]
fn three_disks_one_freeze_one_window_three_tagged_snapshots_and_a_verdict() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let m = &fleet.members[0];
    let out = job(&fleet, "backup", &json!({ "tags": { "CostCenter": "0042" } }));
    assert_eq!(exit(&out), 0, "{}", said(&out));
    assert_eq!(fleet.freezes(), 1);
    assert!(!fleet.any_frozen());

    let set = fleet.sim.snapshots();
    assert_eq!(set.len(), 3, "{set:?}");
    let mut disks: Vec<&str> = set.iter().filter_map(|s| s.disk_id.rsplit('/').next()).collect();
    disks.sort_unstable();
    assert_eq!(disks, ["db1-iris", "db1-jrn", "db1-wij"]);
    for s in &set {
        assert_eq!((tag(s, "verdict"), tag(s, "set-size"), tag(s, "policy")), ("held", "3", "p"), "{:?}", s.tags);
        assert_eq!(s.tags.get("CostCenter").map(String::as_str), Some("0042"));
        assert!(s.incremental && s.tags["Name"].ends_with("HELD"), "{:?}", s.tags);
        for whole in
            ["schema", "engine", "instance", "host", "journal-switched", "restore-from", "frozen-at", "thawed-at", "window-ms", "roles"]
        {
            assert!(!tag(s, whole).is_empty(), "{whole}: {:?}", s.tags);
        }
        // Whole, and of this host: the journal is there.
        assert!(std::path::Path::new(tag(s, "journal-switched")).is_file(), "{:?}", s.tags);
    }
    assert!(fleet.in_window(m, &set), "the engine's own history: every copy lies inside the freeze");
    assert_eq!(fleet.images(m).into_iter().map(|(_, clean)| clean).collect::<Vec<_>>(), [true]);

    // Each snapshot was asked for once, and every one before any was waited for.
    let puts = fleet.sim.calls_of("snapshots.put");
    assert_eq!(puts.len(), 3, "{puts:?}");
    let end = lines(&out).pop().expect("a last line");
    assert_eq!((end["message"].as_str(), end["good"].as_bool()), (Some("end"), Some(true)), "{end}");

    let shown = ctl(&fleet, &["--json", "list"]);
    let listed: Vec<_> = lines(&shown).into_iter().filter(|l| l["type"] == "set").collect();
    assert_eq!((listed.len(), listed[0]["state"].as_str()), (1, Some("held")), "{}", said(&shown));
    // Nothing of ours stays on the machine.
    let gone = (0..100).any(|_| {
        sleep_ms(50);
        fleet.sim.run_names(&m.id).len() <= 1
    });
    assert!(gone, "{:?}", fleet.sim.run_names(&m.id));
}

/// The control of the one above: bytes that are copied outside the window are torn or outside, and nobody calls them held.
#[test]
fn snapshots_that_azure_takes_after_the_window_are_broken_and_seen_by_the_judges() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let m = &fleet.members[0];
    let late = ArmRule::new(ArmMatch::op("snapshots.put").contains("db1-iris"), ArmFault::CopyAfter { ms: 12_000 });
    let rule = fleet.sim.fault(late);
    let out = job(&fleet, "backup", &json!({ "hold": "8s", "snapshot": "1s" }));
    assert_eq!(fleet.sim.hits(rule), 1);
    assert_eq!(exit(&out), 3, "{}", said(&out));
    let by = Instant::now() + Duration::from_secs(30);
    while fleet.sim.snapshots().iter().any(|s| s.copy_to_us == 0) && Instant::now() < by {
        sleep_ms(100);
    }
    assert_eq!(exit(&job(&fleet, "reap", &json!({ "keep": { "pending": "1ms" } }))), 0);
    let set = fleet.sim.snapshots();
    assert!(set.len() == 3 && set.iter().all(|s| tag(s, "verdict") == "broken"), "{set:?}");
    assert!(!fleet.in_window(m, &set), "the control: one of these copies lies outside of every freeze");
    assert!(!fleet.any_frozen());
}

#[test]
fn a_signal_thaws_first_and_a_killed_run_leaves_nothing_frozen_and_nothing_pending() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &suite::host::Setup { hold_ms: 8_000, ..setup() });
    for (signal, code) in [("TERM", Some(130)), ("KILL", None)] {
        let policy = policy_file(&fleet, &json!({ "hold": "8s", "snapshot": "1s" }));
        let hold = ArmFault::Hold { when: cloud_sim::Moment::Before };
        let rule = fleet.sim.fault(ArmRule::new(ArmMatch::op("snapshots.put").contains("db1-iris"), hold));
        let mut c = fleet.program(&program("snapfreeze-job"), &["backup", "--policy", &policy]);
        let mut child = c.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        assert!(fleet.sim.wait_held(rule, Duration::from_secs(30)), "{signal}: the snapshot is asked for");
        assert!(fleet.any_frozen(), "{signal}: inside the window");
        let pid = child.id().to_string();
        std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill runs");
        if signal == "TERM" {
            // The held call is not waited for.
            fleet.sim.release(rule);
        }
        assert_eq!(child.wait().expect("its end").code(), code, "{signal}");
        if signal == "TERM" {
            assert!(!fleet.any_frozen(), "thawed before its end");
        }
        fleet.sim.clear_faults();
        let thawed = (0..300).any(|_| {
            sleep_ms(100);
            !fleet.any_frozen() && fleet.members[0].host.phase() == "idle"
        });
        assert!(thawed, "{signal}: LEFT FROZEN");
        assert_eq!(exit(&job(&fleet, "reap", &json!({ "keep": { "pending": "1ms" } }))), 0);
        assert!(fleet.sim.snapshots().iter().all(|s| tag(s, "verdict") == "broken"), "{signal}: {:?}", fleet.sim.snapshots());
    }
}

#[test]
fn two_runs_at_once_give_one_window_and_one_set() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let policy = policy_file(&fleet, &json!({}));
    let start = || {
        let mut c = fleet.program(&program("snapfreeze-job"), &["backup", "--policy", &policy]);
        c.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let outs = [start(), start()].map(|c| c.wait_with_output().expect("its end"));
    let mut codes: Vec<i32> = outs.iter().map(exit).collect();
    codes.sort_unstable();
    // The other one was refused (4), or came after it.
    assert!(codes == [0, 4] || codes == [0, 0], "{codes:?}: {} {}", said(&outs[0]), said(&outs[1]));
    let held = fleet.sets().into_values().filter(|set| set.iter().all(|s| tag(s, "verdict") == "held")).count();
    assert_eq!(held, codes.iter().filter(|c| **c == 0).count());
    assert_eq!(fleet.freezes(), held, "no window was opened twice");
    assert!(fleet.sets().values().all(|set| fleet.in_window(&fleet.members[0], set)));
}

#[test]
fn as_a_functions_handler_a_post_is_a_run() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let policy = std::fs::read_to_string(policy_file(&fleet, &json!({}))).expect("a policy");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port().to_string();
    let mut c = fleet.program(&program("snapfreeze-job"), &["serve"]);
    let mut child =
        c.env("SNAPFREEZE_POLICY", &policy).env("FUNCTIONS_CUSTOMHANDLER_PORT", &port).stdout(Stdio::null()).spawn().expect("it starts");
    let post = |function: &str| {
        let body = json!({ "Data": { "timer": {} }, "Metadata": {} }).to_string();
        let url = format!("http://127.0.0.1:{port}/{function}");
        let args = ["-s", "-m", "90", "-w", "\n%{http_code}", "-H", "content-type: application/json", "-d", &body, &url];
        let o = std::process::Command::new("curl").args(args).output().expect("curl runs");
        let text = String::from_utf8_lossy(&o.stdout).into_owned();
        text.rsplit_once('\n').map(|(b, c)| (c.to_owned(), b.to_owned())).unwrap_or_default()
    };
    let up = (0..100).any(|_| {
        sleep_ms(50);
        post("nothing").0 == "404"
    });
    assert!(up, "it listens");
    let (status, body) = post("backup");
    assert_eq!(status, "200", "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert!(
        answer["ReturnValue"].is_null() && answer["Outputs"].is_object() && answer["Logs"].as_array().is_some_and(|l| l.len() > 3),
        "{answer}"
    );
    assert!(fleet.sim.snapshots().len() == 3 && fleet.sim.snapshots().iter().all(|s| tag(s, "verdict") == "held"));
    fleet.sim.set_online(&fleet.members[0].id, false);
    assert_eq!(post("backup").0, "500", "a failed run is a failed function");
    suite::host::kill(child.id());
    let _ = child.wait();
}
