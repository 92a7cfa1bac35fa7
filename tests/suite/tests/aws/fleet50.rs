//! Many hosts at once, each with a real agent and a database, under AWS's own rates with other traffic in the same bucket: every set
//! held, no call throttled while a database holds its writes, memory of the coordinator, duration against the bucket's own limit.

use crate::common::{by_tag, in_window, policy_file};
use cloud_sim::{Call, Config, Fault, Instance, Match, Rule, Volume, Window};
use serde_json::json;
use std::process::Child;
use std::time::Instant;
use suite::cloud::fleet::{Fleet, Member, TAG, instance_id, setup, ssm_host, volume_id};
use suite::cloud::programs::{ctl, said};
use suite::host::{Host, Setup, What, sleep_ms};

/// Contract: memory of the coordinator.
const RSS_KIB: u64 = 256 << 10;
/// Of the refill of 5 a second, the policy's default share of 50 %.
const PER_SECOND: f64 = 2.5;

const HOSTS: usize = 50;

/// AWS's numbers: buckets, 15 s for each volume, pending limits; commands that are seen late and take 0 to 1 s to a host.
fn fleet(n: usize) -> Fleet {
    let mut fleet = Fleet::iris(0, Config::new, &setup());
    fleet.sim.other_traffic("CreateSnapshots", 2.0);
    fleet.sim.other_traffic("CreateTags", 2.0);
    // What is measured is the coordinator: the databases have nothing to do.
    let each = |i: usize| {
        let more = format!("\n[layout]\nvolumes = {{ \"{{disk}}\" = \"{}\" }}\n", volume_id(i));
        Host::iris(Setup { workload: false, more, hold_ms: 30_000, window: "wd_suspend_limit = \"90s\"\n".into(), ..setup() })
    };
    let lanes = 4;
    let made: Vec<(usize, Host)> = std::thread::scope(|s| {
        let lane = |lane: usize| (1..=n).skip(lane).step_by(lanes).map(|i| (i, each(i))).collect::<Vec<_>>();
        let started: Vec<_> = (0..lanes).map(|l| s.spawn(move || lane(l))).collect();
        started.into_iter().flat_map(|h| h.join().expect("hosts start")).collect()
    });
    for (i, host) in made {
        let (id, volume) = (instance_id(i), volume_id(i));
        let root = Volume::new(&format!("vol-{:017x}", 0x1000 + i), "/dev/xvda");
        let data = Volume::new(&volume, "/dev/sdf").dir(host.engine.sim().root.clone());
        fleet.sim.add_instance(Instance::new(&id).tag(TAG.0, TAG.1).volume(root).volume(data));
        fleet.sim.add_host(ssm_host(&id, &host).deliver_ms((i as u64 * 331) % 1_000));
        fleet.members.push(Member { id, volume, host });
    }
    fleet
}

/// The most that it ever had resident, in KiB; its exit code.
fn peak(mut child: Child) -> (u64, Option<i32>) {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let hwm = text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak = peak.max(hwm.unwrap_or(0));
        if let Some(status) = child.try_wait().expect("its state") {
            return (peak, status.code());
        }
        sleep_ms(20);
    }
}

fn throttled(c: &Call) -> bool {
    c.error.as_deref().is_some_and(|e| ["RequestLimitExceeded", "ThrottlingException"].contains(&e))
}

/// The calls for a host inside its own window, by its engine's history.
fn inside(fleet: &Fleet) -> Vec<Call> {
    for m in &fleet.members {
        let history = m.host.engine.history();
        let at = |what: What| history.iter().filter(|h| h.what == what).map(|h| h.at_ms).collect::<Vec<_>>();
        let (from, to) = (at(What::FreezeCalled), at(What::Thawed));
        assert_eq!((from.len(), to.len()), (1, 1), "{}: frozen once, thawed once: {history:?}", m.id);
        fleet.sim.window(Window { name: m.id.clone(), from_ms: from[0], to_ms: Some(to[0]) });
    }
    let own = |c: &Call| c.instance.as_ref().is_some_and(|i| c.windows.contains(i));
    fleet.sim.calls().into_iter().filter(own).collect()
}

#[test]
fn a_fleet_at_once_is_held_and_no_call_is_throttled_inside_a_window() {
    let n = HOSTS;
    let started = Instant::now();
    let fleet = fleet(n);
    println!("{n} hosts up after {:.1} s", started.elapsed().as_secs_f64());

    let policy = policy_file(&fleet, &json!({ "hold": "30s", "snapshot": "2s", "rate_percent": 50 }));
    let (out, err) = (fleet.dir.path().join("ctl.out"), fleet.dir.path().join("ctl.err"));
    let file = |p| std::fs::File::create(p).expect("a file");
    let mut c = ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &["--json", "backup", "--policy", &policy]);
    let (begun, begun_us) = (Instant::now(), cloud_sim::boot_us());
    let (kib, code) = peak(c.stdout(file(&out)).stderr(file(&err)).spawn().expect("snapfreezectl starts"));
    let took = begun.elapsed().as_secs_f64();
    let read = |p| std::fs::read_to_string(p).unwrap_or_default();
    assert_eq!(code, Some(0), "{}\n{}", read(&out), read(&err));

    let snapshots = fleet.sim.snapshots();
    let sets = by_tag(&snapshots, "snapfreeze:backup-id");
    let held = sets.values().filter(|set| set.len() == 2 && set.iter().all(|s| s.tags["snapfreeze:verdict"] == "held")).count();
    assert_eq!((sets.len(), held), (n, n), "a held set of root and data volume for each host");
    assert!(fleet.members.iter().all(|m| in_window(&fleet, m)), "every copy lies inside its host's freeze");
    assert!(!fleet.any_frozen());
    let images = fleet.images();
    assert_eq!(images.iter().filter(|(_, clean)| *clean).count(), n, "{images:?}");

    let crossing = inside(&fleet);
    assert!(crossing.len() >= 2 * n, "snapshot call and thaw of every host lie in its window: {}", crossing.len());
    let bad: Vec<&Call> = crossing.iter().filter(|c| throttled(c)).collect();
    assert!(bad.is_empty(), "throttled inside a window: {bad:?}");
    let calls = fleet.sim.calls();
    let outside = calls.iter().filter(|c| throttled(c)).count();

    let taken = calls.iter().filter(|c| c.action == "CreateSnapshots" && c.params["DryRun"] != "true");
    let mut at: Vec<u64> = taken.map(|c| c.in_us).collect();
    at.sort_unstable();
    assert_eq!(at.len(), n, "one snapshot call for each host");
    let slot_s = |i: usize| i as f64 / PER_SECOND;
    let after_s = |i: usize| (at[i] - begun_us) as f64 / 1e6;
    println!(
        "{n} hosts: {took:.1} s; last snapshot call after {:.1} s, at {PER_SECOND}/s not before {:.1} s; \
         throttled: 0 inside, {outside} outside; peak memory {:.1} MiB",
        after_s(n - 1),
        slot_s(n - 1),
        kib as f64 / 1024.0
    );
    assert!(kib > 0 && kib <= RSS_KIB, "{kib} KiB");
    let early: Vec<usize> = (0..n).filter(|i| after_s(*i) < slot_s(*i)).collect();
    assert!(early.is_empty(), "calls before their slot, beyond the policy's share of the rate: {early:?}");
}

/// The control: a bucket that others empty throttles, and nothing is frozen for that; a throttle inside a window is seen as one.
#[test]
fn a_throttle_is_seen_and_told_apart_by_where_it_falls() {
    let fleet = fleet(1);
    let policy = policy_file(&fleet, &json!({ "hold": "30s", "snapshot": "2s" }));
    let backup = || {
        let args = ["--json", "backup", "--policy", &policy];
        ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &args).output().expect("snapfreezectl runs")
    };
    fleet.sim.set_tokens("CreateSnapshots", 0.0);
    fleet.sim.other_traffic("CreateSnapshots", 50.0);
    let out = backup();
    assert_eq!(out.status.code(), Some(9), "{}", said(&out));
    assert!(fleet.sim.calls().iter().any(throttled), "the double throttles, and its record says so");
    assert_eq!((fleet.freezes(), fleet.sim.snapshots().len()), (0, 0));

    fleet.sim.other_traffic("CreateSnapshots", 0.0);
    fleet.sim.set_tokens("CreateSnapshots", 100.0);
    let the_call = Match::action("CreateSnapshots").contains("snapfreeze:frozen-at");
    let rule = fleet.sim.fault(Rule::new(the_call, Fault::Throttle));
    let out = backup();
    assert_eq!((fleet.sim.hits(rule), out.status.code()), (1, Some(7)), "{}", said(&out));
    assert_eq!(inside(&fleet).iter().filter(|c| throttled(c)).count(), 1);
    assert!(!fleet.any_frozen() && fleet.sim.snapshots().is_empty());
}
