//! The coordinator killed at every call it makes, before and after the call was carried out; the reply of every call lost. Never left
//! frozen, never a false `held`, never a pending set after `reap`.
//!
//! The points are those of an undisturbed run. The database's own history and the snapshots' bytes are the judges.

use crate::common::{ctl, exit, policy_file, tag};
use cloud_sim::Moment;
use cloud_sim::arm::{ArmConfig, ArmFault, ArmMatch, ArmRule};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use suite::cloud::azure::{AzureFleet, GROUP};
use suite::cloud::fleet::setup;
use suite::cloud::programs::{program, said};
use suite::host::{Setup, sleep_ms};

/// A call of the undisturbed run: which, for what, and the how-manieth of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    op: String,
    /// Of a Run Command the verb, of a snapshot the disk.
    of: Option<String>,
    nth: u64,
}

impl Point {
    fn rule(&self, fault: ArmFault) -> ArmRule {
        let mut m = ArmMatch::op(&self.op);
        if let Some(of) = &self.of {
            m = m.contains(of);
        }
        ArmRule::new(m, fault).nth(self.nth)
    }
    /// The snapshot itself: its lost reply is never made good.
    fn counts(&self) -> bool {
        self.op == "snapshots.put"
    }
}

fn with() -> Value {
    json!({ "hold": "6s", "snapshot": "300ms", "keep": { "pending": "1ms" } })
}

fn fleet() -> AzureFleet {
    AzureFleet::iris(1, ArmConfig::quick, &Setup { hold_ms: 6_000, ..setup() })
}

const OF: [&str; 6] = ["snapfreeze-facts-", "snapfreeze-freeze-", "snapfreeze-thaw-", "db1-iris", "db1-jrn", "db1-wij"];

/// Every kind of call of a run, with each repetition that does not come from polling.
fn points(fleet: &AzureFleet) -> Vec<Point> {
    let policy = policy_file(fleet, &with());
    let out = ctl(fleet, &["--json", "--resource-group", GROUP, "backup", "--policy", &policy]);
    assert_eq!(exit(&out), 0, "the undisturbed run: {}", said(&out));
    let mut points: Vec<Point> = Vec::new();
    for c in fleet.sim.calls() {
        let of = OF.iter().find(|of| c.path.contains(**of) || c.body.to_string().contains(**of)).map(|of| (*of).to_owned());
        let of = of.filter(|_| c.op.starts_with("run.") || c.op == "snapshots.put");
        let same = points.iter().filter(|p| p.op == c.op && p.of == of).count() as u64;
        let polled = ["run.get", "operation.get", "snapshots.list"].contains(&c.op.as_str());
        let beside = ["run.delete", "run.list", "token"].contains(&c.op.as_str());
        if !beside && (!polled || same == 0) {
            points.push(Point { op: c.op.clone(), of, nth: same + 1 });
        }
    }
    points
}

/// What must hold afterwards, whatever happened.
fn judge(fleet: &AzureFleet, what: &str) {
    let m = &fleet.members[0];
    let thawed = (0..300).any(|_| {
        sleep_ms(100);
        // An order that was under way when its sender died may still freeze.
        let quiet = fleet.sim.runs().iter().all(|r| !["Pending", "Running"].contains(&r.state.as_str()));
        quiet && m.host.phase() == "idle" && !fleet.any_frozen()
    });
    assert!(thawed, "{what}: LEFT FROZEN");
    let settled = (0..100).any(|_| {
        sleep_ms(50);
        fleet.sim.snapshots().iter().all(|s| s.state != "Updating")
    });
    assert!(settled, "{what}: the cloud goes on");
    let policy = policy_file(fleet, &with());
    let reap = ctl(fleet, &["reap", "--policy", &policy, "--yes"]);
    assert_eq!(exit(&reap), 0, "{what}: {}", said(&reap));
    for (id, set) in fleet.sets() {
        let verdicts: Vec<&str> = set.iter().map(|s| tag(s, "verdict")).collect();
        assert!(!verdicts.contains(&"pending"), "{what}: {id} is an orphan: {verdicts:?}");
        if verdicts.contains(&"held") {
            assert!(verdicts.iter().all(|v| *v == "held") && set.len() == 3, "{what}: half a verdict: {verdicts:?}");
            assert!(fleet.in_window(m, &set), "{what}: FALSE held: {id} has a copy outside of the freeze");
        }
        let mut disks: Vec<&str> = set.iter().map(|s| s.disk_id.as_str()).collect();
        disks.sort_unstable();
        disks.dedup();
        assert_eq!(disks.len(), set.len(), "{what}: {id} has two snapshots of one disk");
    }
    // So that Azure's seven in five minutes do not end this.
    for s in fleet.sim.snapshots() {
        let aged = cloud_sim::arm::ArmSnapshot { created_wall_ms: s.created_wall_ms - 600_000, ..s };
        fleet.sim.put_snapshot(aged);
    }
}

fn kill_at(fleet: &AzureFleet, point: &Point, when: Moment) -> bool {
    let rule = fleet.sim.fault(point.rule(ArmFault::Hold { when }));
    let policy = policy_file(fleet, &with());
    let args = ["--json", "--cloud", "azure", "--resource-group", GROUP, "backup", "--policy", &policy];
    let mut c = fleet.program(&program("snapfreezectl"), &args);
    let mut child = c.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("snapfreezectl starts");
    let reached = fleet.sim.wait_held(rule, Duration::from_secs(30));
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    fleet.sim.clear_faults(); // what was held goes on: the cloud does what it was asked
    judge(fleet, &format!("killed {when:?} {point:?}"));
    reached
}

fn lose_reply(fleet: &AzureFleet, point: &Point) -> bool {
    let rule = fleet.sim.fault(point.rule(ArmFault::LostReply));
    let policy = policy_file(fleet, &with());
    let out = ctl(fleet, &["--json", "--resource-group", GROUP, "backup", "--no-wait", "--policy", &policy]);
    let hit = fleet.sim.hits(rule) > 0;
    fleet.sim.clear_faults();
    let what = format!("reply lost: {point:?}: {}", said(&out));
    if hit && point.counts() {
        assert_eq!(exit(&out), 3, "{what}");
    }
    assert_ne!(exit(&out), 8, "{what}");
    judge(fleet, &what);
    hit
}

#[test]
fn killed_or_unanswered_at_every_call_of_a_backup() {
    let first = fleet();
    let points = points(&first);
    for wanted in ["run.put", "snapshots.put", "snapshots.patch", "operation.get", "vms.get", "disks.get"] {
        assert!(points.iter().any(|p| p.op == wanted), "{wanted} is no point: {points:?}");
    }
    assert_eq!(points.iter().filter(|p| p.counts()).count(), 3, "one snapshot call for each disk: {points:?}");
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
                    let fleet = own.unwrap_or_else(fleet);
                    let mine = cases.iter().skip(lane).step_by(lanes);
                    mine.filter(|(p, when)| match when {
                        Some(w) => kill_at(&fleet, p, *w),
                        None => lose_reply(&fleet, p),
                    })
                    .count()
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().expect("a lane")).sum()
    });
    println!("{} points, {total} cases, {reached} reached", points.len());
    assert!(total >= 45, "{total}");
    assert!(reached * 10 >= total * 8, "{reached} of {total} reached");
}
