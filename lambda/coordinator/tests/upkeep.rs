//! The catalogue, what is kept, what is reaped, who is silent: the rules by themselves, and carried out in the simulated world.

use coordinator::Policy;
use coordinator::act::Action;
use coordinator::drive::World;
use coordinator::fake::{Fault, Host, Op, Sim};
use coordinator::marks;
use coordinator::ops::{self, Run, orders, run_prune, run_reap, run_watch};
use coordinator::ports::{Clock, Snapshot, State};
use coordinator::retain::{Keep, prune, reap};
use coordinator::saga::{Freeze, Saga, plus};
use coordinator::sets::{Catalogue, SetState, read};
use proptest::prelude::*;
use protocol::outcome::InstanceMarks;
use protocol::tags::{SetTags, to_tags};
use protocol::{BackupId, BrokenReason, Code, JournalMark, Verdict, WallMs};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const NOW: WallMs = WallMs(1_764_000_000_000);
const DAY: i64 = 86_400_000;

fn policy(change: Value) -> Policy {
    let mut v = json!({ "name": "nightly", "select": { "tags": { "snapfreeze": "nightly" } }, "hold": "60s" });
    for (k, x) in change.as_object().unwrap() {
        v[k] = x.clone();
    }
    serde_json::from_value(v).unwrap()
}

/// A set of one host as the cloud lists it.
#[derive(Clone, Debug)]
struct Make {
    n: u128,
    days_ago: i64,
    host: &'static str,
    verdict: Verdict,
    states: Vec<State>,
    size: u32,
    marks: JournalMark,
    keep_until: Option<WallMs>,
}

impl Make {
    fn new(n: u128, days_ago: i64) -> Self {
        let states = vec![State::Completed; 2];
        Self { n, days_ago, host: "a", verdict: Verdict::Held, states, size: 2, marks: JournalMark::default(), keep_until: None }
    }
    fn id(&self) -> BackupId {
        BackupId::from_uuid(uuid::Uuid::from_u128(self.n + 1))
    }
    fn snaps(&self) -> Vec<Snapshot> {
        let mut t = SetTags::new(self.id());
        t.host = self.host.into();
        t.policy = "nightly".into();
        t.set_size = self.size;
        t.verdict = self.verdict.clone();
        t.keep_until = self.keep_until;
        t.instances = vec![InstanceMarks { instance: "IRIS".parse().unwrap(), marks: vec![self.marks.clone()] }];
        let one = |(i, state): (usize, &State)| Snapshot {
            snapshot: format!("snap-{}-{i}", self.n),
            volume: format!("vol-{}-{i}", self.host),
            started: WallMs(NOW.0 - self.days_ago * DAY),
            state: *state,
            progress: 100,
            size_gib: 10,
            tags: to_tags(&t),
        };
        self.states.iter().enumerate().map(one).collect()
    }
}

fn catalogue(all: &[Make]) -> Catalogue {
    read(all.iter().flat_map(Make::snaps).collect())
}

fn fates(all: &[Make], keep: Value) -> BTreeMap<u128, (bool, String)> {
    let keep: Keep = serde_json::from_value(keep).unwrap();
    let found = prune(&catalogue(all), "nightly", &keep, NOW);
    all.iter().map(|m| (m.n, found.iter().find(|f| f.id == m.id()).map(|f| (f.delete, f.reason.clone())).unwrap())).collect()
}

#[test]
fn every_state_of_a_set_is_read_from_its_tags() {
    let state = |change: &dyn Fn(&mut Make)| {
        let mut m = Make::new(1, 0);
        change(&mut m);
        catalogue(&[m]).sets[0].state.clone()
    };
    assert_eq!(state(&|_| {}), SetState::Held);
    assert_eq!(state(&|m| m.states[1] = State::Pending), SetState::Completing);
    assert_eq!(state(&|m| m.verdict = Verdict::Pending), SetState::Pending);
    assert!(matches!(state(&|m| m.verdict = Verdict::Broken(BrokenReason::HoldExpired)), SetState::Broken(w) if w.contains("hold")));
    assert!(matches!(state(&|m| m.states[0] = State::Failed), SetState::Broken(w) if w.contains("snap-1-0")));
    assert!(matches!(state(&|m| m.size = 3), SetState::Broken(w) if w.contains("3 were made")), "partial");
    assert!(matches!(state(&|m| m.size = 1), SetState::Broken(_)), "more than there should be");
    let mut snaps = Make::new(1, 0).snaps();
    snaps.extend(Make::new(1, 0).snaps().into_iter().map(|s| Snapshot { snapshot: format!("{}b", s.snapshot), ..s }));
    assert!(matches!(&read(snaps).sets[0].state, SetState::Broken(_)), "a call that was carried out twice");
    // Others' and unreadable ones.
    let mut newer = Make::new(2, 0).snaps();
    newer[0].tags.insert("snapfreeze:schema".into(), "9".into());
    newer[1].tags.insert("snapfreeze:verdict".into(), "fine".into());
    let foreign = Snapshot { tags: BTreeMap::from([("a".to_owned(), "b".to_owned())]), ..newer[0].clone() };
    newer.push(foreign);
    let c = read(newer);
    assert_eq!((c.sets.len(), c.unreadable.len()), (0, 2));
    assert!(c.unreadable[0].newer && !c.unreadable[1].newer);
}

#[test]
fn counts_are_per_family_and_the_last_held_set_always_stays() {
    let mut all: Vec<Make> = (0..6).map(|n| Make::new(n, i64::try_from(n).unwrap())).collect();
    all.push(Make { host: "b", ..Make::new(10, 300) });
    let f = fates(&all, json!({ "daily": 2, "max_age": "30d" }));
    let kept: Vec<u128> = f.iter().filter(|(_, d)| !d.0).map(|(n, _)| *n).collect();
    assert_eq!(kept, [0, 1, 10], "{f:?}");
    assert!(f[&10].1.contains("last held"), "{f:?}");
}

#[test]
fn a_set_that_is_still_copied_does_not_cost_the_last_complete_one() {
    let newest = Make { states: vec![State::Pending; 2], ..Make::new(1, 0) };
    let f = fates(&[newest, Make::new(2, 1), Make::new(3, 2)], json!({ "last": 1 }));
    assert_eq!((f[&1].0, f[&2].0, f[&3].0), (false, false, true), "{f:?}");
    assert!(f[&2].1.contains("complete"));
}

#[test]
fn what_a_person_keeps_and_what_a_kept_set_needs_stays_along_the_chain() {
    let mark = |switched: &str, required: Option<&str>| JournalMark {
        switched: Some(switched.into()),
        required: required.map(Into::into),
        ..JournalMark::default()
    };
    let newest = Make { marks: mark("/j/4", Some("/j/3")), ..Make::new(1, 0) };
    let second = Make { marks: mark("/j/3", Some("/j/2")), ..Make::new(2, 1) };
    let third = Make { marks: mark("/j/2", None), ..Make::new(3, 2) };
    let fourth = Make { marks: mark("/j/1", None), ..Make::new(4, 3) };
    let kept = Make { keep_until: Some(plus(NOW, 1)), marks: mark("/j/0", None), ..Make::new(5, 4) };
    let over = Make { keep_until: Some(NOW), marks: mark("/j/x", None), ..Make::new(6, 5) };
    let f = fates(&[newest, second, third, fourth, kept, over], json!({ "last": 1 }));
    let deleted: Vec<u128> = f.iter().filter(|(_, d)| d.0).map(|(n, _)| *n).collect();
    assert_eq!(deleted, [4, 6], "{f:?}");
    assert!(f[&2].1.contains("needs its journal") && f[&3].1.contains("needs its journal") && f[&5].1.contains("person"));
}

fn any_set(n: u128) -> impl Strategy<Value = Make> {
    let verdict = prop_oneof![4 => Just(Verdict::Held), 1 => Just(Verdict::Pending), 1 => Just(Verdict::Broken(BrokenReason::OverLimit))];
    let state = prop_oneof![5 => Just(State::Completed), 1 => Just(State::Pending), 1 => Just(State::Failed)];
    let host = prop_oneof![Just("a"), Just("b")];
    (verdict, prop::collection::vec(state, 1..3), 0i64..500, host, 1u32..3).prop_map(move |(verdict, states, days_ago, host, size)| Make {
        verdict,
        states,
        host,
        size,
        ..Make::new(n, days_ago)
    })
}

fn many() -> impl Strategy<Value = Vec<Make>> {
    (1u128..12).prop_flat_map(|n| (0..n).map(any_set).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn prune_never_removes_the_last_good_set_of_a_family(
        all in many(),
        (last, daily) in (0u32..3, 0u32..3),
        old in prop::option::of(1u64..90),
    ) {
        let keep = Keep { last, daily, max_age_ms: old.map(|d| d * 86_400_000), ..Keep::default() };
        let c = catalogue(&all);
        let fates = prune(&c, "nightly", &keep, NOW);
        let gone: BTreeSet<BackupId> = fates.iter().filter(|f| f.delete).map(|f| f.id).collect();
        for s in &c.sets {
            let better = |o: &&coordinator::sets::Set| o.family() == s.family() && o.state == SetState::Held && !gone.contains(&o.id);
            if s.state == SetState::Held {
                prop_assert!(c.sets.iter().any(|o| better(&o)), "no complete set of {} is left", s.family());
            }
            if s.state == SetState::Pending {
                prop_assert!(!gone.contains(&s.id));
            }
        }
    }

    #[test]
    fn after_reap_nothing_old_is_pending_and_no_broken_set_claims_more(all in many()) {
        let c = catalogue(&all);
        for r in reap(&c, &Keep::default(), NOW) {
            let s = c.sets.iter().find(|s| s.id == r.id).unwrap();
            prop_assert!(!matches!(s.state, SetState::Held | SetState::Completing));
        }
        let planned: BTreeSet<BackupId> = reap(&c, &Keep::default(), NOW).iter().map(|r| r.id).collect();
        for s in &c.sets {
            let claims = s.snapshots.iter().any(|(_, t)| t.verdict == Verdict::Held);
            let wrong = matches!(&s.state, SetState::Broken(_)) && claims;
            let old = s.state == SetState::Pending && NOW.0 - s.at.0 >= 3_600_000;
            prop_assert_eq!(planned.contains(&s.id), wrong || old, "{:?}", s.state);
        }
    }
}

fn world(hosts: &[(&str, &[(&str, &str)])]) -> Sim {
    let sim = Sim::new(NOW);
    for (id, tags) in hosts {
        let mut h = Host::new(id);
        h.tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        h.tags.insert("snapfreeze".into(), "nightly".into());
        sim.add(h);
    }
    sim
}

fn backup(sim: &Sim, policy: &Policy, execution: &str) -> Vec<Saga> {
    let run = Run { execution, nonce: "one", started: sim.now(), cloud: coordinator::Cloud::Ebs };
    let all = sim.run(orders(sim, policy, &run)).unwrap();
    let world = World { hosts: sim, disks: sim, clock: sim, told: &|_, _| {} };
    let one = |o| {
        let mut s = Saga::new(o);
        sim.run(world.act(Action::Backup, &mut s, None));
        s
    };
    all.into_iter().map(one).collect()
}

#[test]
fn orders_are_per_host_group_or_mirror_each_with_its_slot() {
    let sim = world(&[("i-0", &[("g", "x")]), ("i-1", &[("g", "x")]), ("i-2", &[])]);
    let made = |change: Value| {
        let run = Run { execution: "e", nonce: "n", started: NOW, cloud: coordinator::Cloud::Ebs };
        sim.run(orders(&sim, &policy(change), &run))
    };
    let shape = |all: &[coordinator::Order]| all.iter().map(|o| (o.targets.len(), o.slot.0 - NOW.0)).collect::<Vec<_>>();
    assert_eq!(shape(&made(json!({ "rate_percent": 100 })).unwrap()), [(1, 0), (1, 200), (1, 400)]);
    let tags = json!({ "snapfreeze": "nightly" });
    let by = |key: &str| made(json!({ "rate_percent": 100, "select": { "tags": tags, key: "g" } })).unwrap();
    assert_eq!(shape(&by("group_by")), [(2, 0), (1, 400)], "a group makes as many calls as it has hosts");
    assert_eq!(shape(&by("mirror_by")), [(2, 0), (1, 200)], "of a mirror one is snapshotted");
    let both = made(json!({ "select": { "tags": tags, "ids": ["i-0"] } })).unwrap();
    let ids: BTreeSet<BackupId> = both.iter().map(|o| o.id).collect();
    assert_eq!((both.len(), ids.len()), (3, 3));
    let none = made(json!({ "select": { "tags": { "snapfreeze": "nightyl" } } })).unwrap_err();
    assert!(none.code == Code::CloudRefused && none.detail.contains("nightly") && none.next.contains("select"), "{none:?}");
}

#[test]
fn an_interrupted_prune_leaves_no_set_that_looks_held_and_one_that_cannot_begin_leaves_it_good() {
    for (stop_at, wanted) in [(0, "held"), (1, "broken")] {
        let sim = world(&[("i-0", &[])]);
        let p = policy(json!({ "keep": { "last": 1 } }));
        let old = backup(&sim, &p, "old")[0].order.id;
        sim.pass(86_400_000);
        backup(&sim, &p, "new");
        (0..stop_at).for_each(|_| sim.fault("", Op::Delete, Fault::None));
        sim.fault("", Op::Delete, Fault::Refuse(Code::CloudRefused));
        let done = sim.run(run_prune(&sim, &p, sim.now(), true, |_| {})).unwrap();
        assert_eq!((done.planned.len(), done.failed.len()), (2, 1));
        let c = sim.run(ops::catalogue(&sim)).unwrap();
        let set = c.sets.iter().find(|s| s.id == old).unwrap();
        assert_eq!(set.state.word(), wanted, "{:?}", set.state);
        let name = &set.snapshots[0].0.tags["Name"];
        assert!(name.ends_with(&wanted.to_uppercase()), "{name}");
        assert!(c.unreadable.is_empty() && c.sets.iter().any(|s| s.id != old && s.state == SetState::Held));
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let sim = world(&[("i-0", &[])]);
    let p = policy(json!({ "keep": { "last": 1 } }));
    for e in ["1", "2"] {
        backup(&sim, &p, e);
        sim.pass(86_400_000);
    }
    let before = sim.with_snaps(|s| s.clone());
    let planned = sim.run(run_prune(&sim, &p, sim.now(), false, |_| panic!("told"))).unwrap().planned;
    sim.run(run_reap(&sim, &p, sim.now(), false)).unwrap();
    assert_eq!((planned.iter().filter(|f| f.delete).count(), sim.with_snaps(|s| s.clone())), (1, before));
}

#[test]
fn silence_is_seen_without_any_schedule() {
    let sim = world(&[("i-0", &[]), ("i-1", &[])]);
    let p = policy(json!({ "max_age": "26h" }));
    let watch = |p: &Policy| sim.run(run_watch(&sim, p, sim.now())).unwrap();
    assert_eq!((watch(&p).never.len(), watch(&p).silent()), (2, 2), "never backed up");
    backup(&sim, &p, "1");
    assert_eq!(watch(&p).silent(), 0, "the control");
    sim.pass(27 * 3_600_000);
    assert_eq!(watch(&p).silent(), 2, "the schedule is disabled");
    sim.with_host("i-1", |h| h.tags.clear());
    backup(&sim, &p, "2");
    let w = watch(&p);
    assert_eq!((w.all.len(), w.silent(), w.never.len()), (2, 1, 0), "the tag was removed: the family is still watched");
    assert!(w.all.iter().any(|x| x.silent && x.family.starts_with("i-1")) && w.worst_age_ms() > Some(26 * 3_600_000));
    let blind = policy(json!({ "name": "weekly", "select": { "tags": { "snapfreeze": "none" } } }));
    assert!(watch(&blind).blind && watch(&blind).silent() == 1);
}

#[test]
fn what_is_written_on_the_snapshots_is_whole_and_the_verdict_comes_last() {
    let path = format!("/jrn/{}", "x".repeat(500));
    let sim = world(&[("i-0", &[("g", "x")]), ("i-1", &[("g", "x")])]);
    let p = policy(json!({ "select": { "tags": { "snapfreeze": "nightly" }, "group_by": "g" }, "tags": { "CostCenter": "0042" } }));
    let mut s = backup(&sim, &p, "1").remove(0);
    assert_eq!(s.result(), Ok(()));
    let c = sim.run(ops::catalogue(&sim)).unwrap();
    let set = &c.sets[0];
    assert_eq!((c.sets.len(), set.snapshots.len(), set.tags.set_size, set.hosts.len()), (1, 4, 4, 2));
    for (snap, t) in &set.snapshots {
        assert_eq!(t.extra["CostCenter"], "0042");
        assert_eq!(t.mount.is_empty(), snap.volume.ends_with("boot"), "what each volume is");
        assert!(t.window_ms.is_some() && t.thawed_at.is_some() && t.restore_from() == ["/jrn/20261125.003"]);
        assert!(snap.tags["Name"].ends_with("HELD"));
    }
    // A long path is kept whole; no volume's tags carry a verdict.
    for m in &mut s.members {
        if let Freeze::Frozen { reply, .. } = &mut m.freeze {
            reply.instances[0].marks[0].switched = Some(path.clone());
        }
        m.thaw = coordinator::saga::Thaw::NotNeeded;
    }
    let tags = marks::at_freeze(&s, 0);
    assert!(tags.contains_key("snapfreeze:journal-switched.2") && tags.values().all(|v| v.chars().count() <= 256) && tags.len() <= 50);
    assert_eq!(protocol::tags::from_tags(&tags).unwrap().restore_from(), [path.as_str()]);
    let of = marks::of_volumes(&s);
    assert_eq!(of.len(), 4);
    assert!(
        of.iter().all(|(_, t)| !t.contains_key("snapfreeze:verdict") && !t.contains_key("Name") && !t.keys().any(|k| k.contains("reason")))
    );
    // The role may write no others after the creation (infra/aws/template.yaml, VerdictOnOurSnapshots).
    assert!(of.iter().all(|(_, t)| t.keys().all(|k| k.starts_with("snapfreeze:"))), "{of:?}");
    assert_eq!(marks::verdict(&s).keys().collect::<Vec<_>>(), ["Name", "snapfreeze:verdict"]);
    assert_eq!(marks::too_many(&s), Ok(()));
    for m in &mut s.members {
        if let Freeze::Frozen { reply, .. } = &mut m.freeze {
            reply.instances[0].marks[0].switched = Some("/y".repeat(6_000));
        }
    }
    let p = marks::too_many(&s).unwrap_err();
    assert!(p.detail.contains("i-0") && p.detail.contains("50") && !p.next.is_empty(), "{p:?}");
}
