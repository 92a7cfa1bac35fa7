//! The coordinator killed at every call it makes, before and after the call was carried out; the reply of every call lost; for
//! one host and for a group. Never left frozen, never a false `held`, never a pending set after `reap`.
//!
//! The points are those of an undisturbed run. The database's own history and the snapshots' bytes are the judges.

use crate::common::{backup, by_tag, exit, in_window, policy_file};
use cloud_sim::{Fault, Instance, Match, Moment, Rule, Volume};
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;
use suite::cloud::fleet::{Fleet, setup};
use suite::cloud::programs::{ctl, said};
use suite::host::{Setup, sleep_ms};

/// A call of the undisturbed run: action, document, and the how-manieth of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    action: String,
    document: Option<String>,
    nth: u64,
    /// The snapshot call itself, not its rehearsal.
    counts: bool,
}

impl Point {
    fn rule(&self, fault: Fault) -> Rule {
        let mut m = Match::action(&self.action);
        if let Some(d) = &self.document {
            m = m.document(d);
        }
        Rule::new(m, fault).nth(self.nth)
    }
}

/// Short enough that a host that was left alone has thawed soon.
const HOLD: &str = "6s";

fn short() -> Setup {
    Setup { hold_ms: 6_000, ..setup() }
}

fn with(group: bool) -> serde_json::Value {
    let mut select = json!({ "tags": { "snapfreeze": "nightly" } });
    if group {
        select["group_by"] = json!("cluster");
    }
    json!({ "hold": HOLD, "snapshot": "300ms", "select": select, "keep": { "pending": "1ms" } })
}

fn fleet(n: usize) -> Fleet {
    let fleet = Fleet::iris(n, cloud_sim::Config::quick, &short());
    for m in &fleet.members {
        let i = Instance::new(&m.id).tag("snapfreeze", "nightly").tag("cluster", "c1");
        fleet.sim.add_instance(i.volume(Volume::new(&m.volume, "/dev/sdf").dir(m.host.engine.sim().root.clone())));
    }
    fleet
}

/// Every kind of call of a run, with each repetition that does not come from polling.
fn points(fleet: &Fleet, group: bool) -> Vec<Point> {
    let before = fleet.sim.calls().len();
    let out = backup(fleet, &with(group), &[]);
    assert_eq!(exit(&out), 0, "the undisturbed run: {}", said(&out));
    let mut points: Vec<Point> = Vec::new();
    for c in &fleet.sim.calls()[before..] {
        let same = points.iter().filter(|p| p.action == c.action && p.document == c.document).count() as u64;
        let polled = c.action == "GetCommandInvocation" || c.action == "DescribeSnapshots";
        if !polled || same == 0 {
            let counts = c.action == "CreateSnapshots" && c.params["DryRun"] != "true";
            points.push(Point { action: c.action.clone(), document: c.document.clone(), nth: same + 1, counts });
        }
    }
    points
}

/// What must hold afterwards, whatever happened.
fn judge(fleet: &Fleet, what: &str) {
    // By itself, within the hold (6 s), watchdog and thaw budget (6 s); the rest is patience on a loaded machine.
    let mut thawed = false;
    for _ in 0..300 {
        // An order that was under way when its sender died may still freeze.
        let quiet = fleet.sim.invocations().iter().all(|i| !["Pending", "InProgress", "Delayed"].contains(&i.status_details.as_str()));
        let idle = fleet.members.iter().all(|m| m.host.phase() == "idle");
        thawed = quiet && idle && !fleet.any_frozen();
        if thawed {
            break;
        }
        sleep_ms(100);
    }
    assert!(thawed, "{what}: LEFT FROZEN");
    let policy = policy_file(fleet, &with(false));
    let mut args = vec!["reap", "--policy", &policy, "--yes"];
    let reap = ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &args).output().expect("it runs");
    assert_eq!(exit(&reap), 0, "{what}: {}", said(&reap));
    args.clear();
    let snapshots = fleet.sim.snapshots();
    for (id, set) in by_tag(&snapshots, "snapfreeze:backup-id") {
        let verdicts: Vec<&str> = set.iter().map(|s| s.tags["snapfreeze:verdict"].as_str()).collect();
        assert!(!verdicts.contains(&"pending"), "{what}: {id} is an orphan: {verdicts:?}");
        if verdicts.contains(&"held") {
            assert!(verdicts.iter().all(|v| *v == "held"), "{what}: half a verdict: {verdicts:?}");
            for s in set {
                let m = fleet.members.iter().find(|m| m.volume == s.volume).expect("a volume of ours");
                assert!(in_window(fleet, m), "{what}: FALSE held: {id} has a copy outside of the freeze");
            }
        }
        for m in &fleet.members {
            let of_host = snapshots.iter().filter(|s| s.volume == m.volume && s.tags["snapfreeze:backup-id"] == id).count();
            assert!(of_host <= 1, "{what}: {id} has {of_host} snapshots of one volume");
        }
    }
}

fn kill_at(fleet: &Fleet, point: &Point, when: Moment, group: bool) -> bool {
    let rule = fleet.sim.fault(point.rule(Fault::Hold { when }));
    let policy = policy_file(fleet, &with(group));
    let mut c = ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &["--json", "backup", "--policy", &policy]);
    let mut child = c.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("snapfreezectl starts");
    let reached = fleet.sim.wait_held(rule, Duration::from_secs(30));
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    fleet.sim.clear_faults(); // what was held goes on: the cloud does what it was asked
    judge(fleet, &format!("killed {when:?} {point:?}"));
    reached
}

fn lose_reply(fleet: &Fleet, point: &Point, group: bool) -> bool {
    let rule = fleet.sim.fault(point.rule(Fault::LostReply));
    let out = backup(fleet, &with(group), &["--no-wait"]);
    let hit = fleet.sim.hits(rule) > 0;
    fleet.sim.clear_faults();
    let what = format!("reply lost: {point:?}: {}", said(&out));
    // A lost reply to the call that counts is never made good; any other may be asked again.
    if hit && point.counts {
        assert_eq!(exit(&out), 3, "{what}");
    }
    assert_ne!(exit(&out), 8, "{what}");
    judge(fleet, &what);
    hit
}

/// All cases, over fleets of their own side by side.
fn matrix(hosts: usize, group: bool) -> (usize, usize) {
    let first = fleet(hosts);
    let points = points(&first, group);
    for wanted in ["SendCommand", "CreateSnapshots", "CreateTags", "GetCommandInvocation", "DescribeInstances"] {
        assert!(points.iter().any(|p| p.action == wanted), "{wanted} is no point: {points:?}");
    }
    assert_eq!(points.iter().filter(|p| p.counts).count(), hosts, "one snapshot call for each host: {points:?}");
    let mut cases: Vec<(Point, Option<Moment>)> = Vec::new();
    for p in &points {
        cases.extend([(p.clone(), Some(Moment::Before)), (p.clone(), Some(Moment::After)), (p.clone(), None)]);
    }
    let lanes = 6;
    let total = cases.len();
    let reached: usize = std::thread::scope(|s| {
        let mut lane_first = Some(first);
        let handles: Vec<_> = (0..lanes)
            .map(|lane| {
                let own = lane_first.take();
                let cases = &cases;
                s.spawn(move || {
                    let fleet = own.unwrap_or_else(|| fleet(hosts));
                    let mine = cases.iter().skip(lane).step_by(lanes);
                    mine.filter(|(p, when)| match when {
                        Some(w) => kill_at(&fleet, p, *w, group),
                        None => lose_reply(&fleet, p, group),
                    })
                    .count()
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().expect("a lane")).sum()
    });
    println!("{} points, {total} cases, {reached} reached", points.len());
    (total, reached)
}

#[test]
fn killed_or_unanswered_at_every_call_of_a_backup_of_one_host() {
    let (total, reached) = matrix(1, false);
    assert!(total >= 30, "{total}");
    assert!(reached * 10 >= total * 9, "{reached} of {total} reached");
}

#[test]
fn killed_or_unanswered_at_every_call_of_a_backup_of_a_group() {
    let (total, reached) = matrix(2, true);
    assert!(total >= 45, "{total}");
    assert!(reached * 10 >= total * 9, "{reached} of {total} reached");
}
