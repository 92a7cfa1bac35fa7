//! Whole backups in the simulated world: every fault at every call, the process killed at every event, a second coordinator
//! with the same order. What the saga says is compared with what the hosts and disks really did.

use crate::kit::{START, host_id, order, policy};
use coordinator::act::Action;
use coordinator::drive::World;
use coordinator::fake::{Fault, Host, Op, Sim};
use coordinator::ops::run_reap;
use coordinator::policy::HeldBy;
use coordinator::ports::Clock;
use coordinator::saga::{CLOCKS_AGREE_MS, Freeze, Phase, SELF_THAW_MS, Saga, Thaw, plus};
use coordinator::sets::SetState;
use coordinator::{Order, Policy, ops};
use protocol::{BrokenReason, Code, Verdict};
use serde_json::json;
use std::collections::BTreeMap;

const DAY: u64 = 86_400_000;

/// What goes wrong on one host.
#[derive(Clone, Copy, Debug)]
pub struct Wrong {
    pub freeze: Fault,
    pub snapshot: Fault,
    pub thaw: [Fault; 2],
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Nothing,
    /// Another tool thaws and freezes again, so long after the freeze.
    Disturbed(u64),
    /// The engine does not resume for so long.
    Stuck(u64),
    SlowFreeze,
    Amnesia,
    /// A volume is attached between inspection and freeze.
    MoreVolumes,
    /// No thaw ever arrives.
    Unreachable,
}

pub const RIGHT: Wrong = Wrong { freeze: Fault::None, snapshot: Fault::None, thaw: [Fault::None; 2], what: What::Nothing };

#[derive(Debug, Default)]
pub struct Seen {
    pub runs: usize,
    pub held: usize,
    pub broken: usize,
    pub left_frozen: usize,
    pub refused: usize,
    pub inconsistent: usize,
    pub reaped: usize,
}

pub fn world(wrong: &[Wrong]) -> Sim {
    let sim = Sim::new(START);
    for (n, w) in wrong.iter().enumerate() {
        let mut h = Host::new(&host_id(n));
        h.tags.insert("snapfreeze".into(), "nightly".into());
        match w.what {
            What::Disturbed(ms) => h.disturbed_after = Some(ms),
            What::Stuck(ms) => h.stuck_until = Some(plus(START, ms)),
            What::SlowFreeze => h.freeze_ms = 25_000,
            What::Amnesia => h.amnesia = true,
            What::Nothing | What::MoreVolumes | What::Unreachable => {}
        }
        sim.add(h);
        sim.fault(&host_id(n), Op::Freeze, w.freeze);
        sim.fault(&host_id(n), Op::Snapshot, w.snapshot);
        if w.what == What::Unreachable {
            (0..60).for_each(|_| sim.fault(&host_id(n), Op::Thaw, Fault::LoseOrder));
        }
        for t in w.thaw {
            sim.fault(&host_id(n), Op::Thaw, t);
        }
    }
    sim
}

/// As `infra/aws/backup.asl.json`: an action per task; one that dies hands on the saga as it was before.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    pub action: usize,
    pub turns: usize,
}

/// The saga at its end, and the turns that each action had.
pub fn by_tasks(sim: &Sim, order: &Order, wrong: &[Wrong], kill: Option<Kill>) -> (Saga, Vec<usize>) {
    let mut saga = Saga::new(order.clone());
    let mut turns = Vec::new();
    let mut action = Action::Admit;
    loop {
        assert!(turns.len() < 4_000, "no end: {saga:?}");
        // What Step Functions keeps is text.
        let text = serde_json::to_string(&saga).unwrap();
        let mut mine: Saga = serde_json::from_str(&text).unwrap();
        assert_eq!(mine, saga);
        let limit = kill.filter(|k| k.action == turns.len()).map_or(usize::MAX, |k| k.turns);
        let world = World { hosts: sim, disks: sim, clock: sim, told: &|_, _| {} };
        let stop = plus(sim.now(), 840_000);
        let (done, had) = sim.run_or_kill(world.act(action, &mut mine, Some(stop)), limit);
        turns.push(had);
        if action == Action::Admit {
            for (n, w) in wrong.iter().enumerate() {
                if w.what == What::MoreVolumes && turns.len() == 1 {
                    sim.with_host(&host_id(n), |h| {
                        let mut v = h.volumes[1].clone();
                        v.volume += "-2";
                        h.volumes.push(v);
                    });
                }
            }
        }
        if done.is_some() {
            saga = mine;
        }
        action = match (action, saga.phase) {
            (_, Phase::Done) => return (saga, turns),
            (Action::Admit, Phase::Freeze) => Action::Freeze,
            (Action::Admit, _) => Action::Admit,
            (Action::Freeze, Phase::Snapshot) if done.is_some() => Action::Snapshot,
            (Action::Freeze | Action::Snapshot, _) => Action::Thaw,
            // With `left_frozen` the state machine calls a person, and goes on; without a confirmation it asks again.
            (Action::Thaw, Phase::Thaw) => Action::Thaw,
            (Action::Thaw, _) if done.is_none() => Action::Thaw,
            (Action::Thaw | Action::Settle, _) => Action::Settle,
            (Action::Backup, _) => unreachable!("not a task"),
        };
        if action == Action::Settle {
            sim.pass(30_000);
        }
    }
}

/// The oracle against what was said. `Err` is a finding.
pub fn compare(sim: &Sim, policy: &Policy, sagas: &[Saga], seen: &mut Seen) -> Result<(), String> {
    sim.pass(DAY / 4);
    let (truths, taken) = (sim.truth(), sim.taken());
    for t in &truths {
        let until = t.until.ok_or_else(|| format!("left frozen for ever: {t:?}"))?;
        if t.thaw_began.is_none_or(|b| b > t.thaw_by) {
            return Err(format!("frozen beyond its hold: {t:?}, until {until:?}"));
        }
    }
    let id = sagas[0].order.id;
    let consistent = !taken.is_empty() && taken.iter().all(|t| t.consistent);
    seen.inconsistent += usize::from(!taken.is_empty() && !consistent);
    for s in sagas {
        if s.phase != Phase::Done {
            return Err(format!("not done: {s:?}"));
        }
        for m in &s.members {
            let thawed = !matches!(m.thaw, Thaw::NotConfirmed { .. }) || matches!(m.freeze, Freeze::NotSent);
            let needed = !matches!(m.freeze, Freeze::NotSent | Freeze::Refused { .. } | Freeze::NotOurs { .. });
            if needed && (!thawed || matches!(m.thaw, Thaw::NotNeeded)) {
                return Err(format!("a freeze may have been sent, and no thaw followed: {m:?}"));
            }
        }
        seen.left_frozen += usize::from(s.left_frozen().next().is_some());
        seen.refused += usize::from(s.verdict.is_none());
        seen.broken += usize::from(matches!(s.verdict, Some(Verdict::Broken(_))));
        if s.verdict == Some(Verdict::Held) && !consistent {
            return Err(format!("a false held: {taken:?} of {truths:?}"));
        }
    }
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    let arrived = sim.calls();
    for c in &arrived {
        *calls.entry(&c.host).or_default() += 1;
    }
    if let Some((host, n)) = calls.iter().find(|(_, n)| **n > 1) {
        return Err(format!("{n} snapshot calls of {host}"));
    }
    let held = sagas.iter().filter(|s| s.result().is_ok()).count();
    seen.held += held;
    seen.runs += 1;
    let before = sim.run(ops::catalogue(sim)).map_err(|p| p.detail)?;
    let state = before.sets.iter().find(|s| s.id == id).map(|s| s.state.clone());
    if matches!(state, Some(SetState::Held | SetState::Completing)) && !consistent {
        return Err(format!("tags claim held: {taken:?} of {truths:?}"));
    }
    if held > 0 && state != Some(SetState::Held) {
        return Err(format!("success, and the catalogue says {state:?}"));
    }
    let reaped = sim.run(run_reap(sim, policy, sim.now(), true)).map_err(|p| p.detail)?;
    seen.reaped += reaped.planned.len();
    let after = sim.run(ops::catalogue(sim)).map_err(|p| p.detail)?;
    for s in &after.sets {
        match &s.state {
            SetState::Pending => return Err(format!("still pending after reap: {s:?}")),
            SetState::Held | SetState::Completing if !consistent => return Err("held after reap, and it is not".into()),
            SetState::Held | SetState::Completing | SetState::Broken(_) => {}
        }
        let claims = s.snapshots.iter().filter(|(_, t)| t.verdict == Verdict::Held).count();
        if matches!(s.state, SetState::Broken(_)) && claims > 0 {
            return Err("a broken set with a snapshot that claims held".into());
        }
    }
    if !after.unreadable.is_empty() {
        return Err(format!("tags that nobody can read: {:?}", after.unreadable));
    }
    Ok(())
}

fn tell(wrong: &[Wrong], kill: Option<Kill>, sim: &Sim, r: Result<(), String>) {
    if let Err(e) = r {
        panic!("{e}\nwith {wrong:?} {kill:?}\nwindows {:#?}\ncalls {:?}", sim.truth(), sim.calls());
    }
}

fn play(policy: &Policy, wrong: &[Wrong], kill: Option<Kill>, seen: &mut Seen) -> Vec<usize> {
    let sim = world(wrong);
    let (saga, turns) = by_tasks(&sim, &order(policy.clone(), wrong.len(), "one"), wrong, kill);
    tell(wrong, kill, &sim, compare(&sim, policy, &[saga], seen));
    turns
}

const FREEZES: [Fault; 10] = [
    Fault::None,
    Fault::LoseOrder,
    Fault::LoseReply,
    Fault::LateOrder(20_000),
    Fault::LateOrder(130_000),
    Fault::LateReply(40_000),
    Fault::LateReply(100_000),
    Fault::Refuse(Code::RefusedBusy),
    Fault::Refuse(Code::Internal),
    Fault::Fail(Code::FreezeFailed),
];
const SNAPSHOTS: [Fault; 8] = [
    Fault::None,
    Fault::LoseOrder,
    Fault::LoseReply,
    Fault::LateOrder(3_000),
    Fault::LateOrder(200_000),
    Fault::LateReply(45_000),
    Fault::LateReply(200_000),
    Fault::Refuse(Code::CloudRefused),
];
const THAWS: [[Fault; 2]; 7] = [
    [Fault::None, Fault::None],
    [Fault::LoseOrder, Fault::None],
    [Fault::LoseReply, Fault::None],
    [Fault::LateOrder(20_000), Fault::None],
    [Fault::LateReply(40_000), Fault::None],
    [Fault::LoseReply, Fault::LoseOrder],
    [Fault::LoseOrder, Fault::LateOrder(50_000)],
];
const WHATS: [What; 9] = [
    What::Nothing,
    What::Disturbed(50),
    What::Disturbed(900),
    What::Stuck(40_000),
    What::Stuck(3_600_000),
    What::SlowFreeze,
    What::Amnesia,
    What::MoreVolumes,
    What::Unreachable,
];

fn wrongs(freezes: &[Fault], snapshots: &[Fault], thaws: &[[Fault; 2]], whats: &[What]) -> Vec<Wrong> {
    let mut all = Vec::new();
    for freeze in freezes {
        for snapshot in snapshots {
            for thaw in thaws {
                for what in whats {
                    all.push(Wrong { freeze: *freeze, snapshot: *snapshot, thaw: *thaw, what: *what });
                }
            }
        }
    }
    all
}

#[test]
fn one_host_with_every_fault_at_every_call() {
    let p = policy(json!({}));
    let mut seen = Seen::default();
    for w in wrongs(&FREEZES, &SNAPSHOTS, &THAWS, &WHATS) {
        play(&p, &[w], None, &mut seen);
    }
    println!("one host: {seen:?}");
    assert_eq!(seen.runs, 10 * 8 * 7 * 9);
    assert!(seen.held > 50 && seen.broken > 1_000 && seen.left_frozen > 100 && seen.refused > 1_000, "{seen:?}");
    assert!(seen.inconsistent > 100 && seen.reaped > 10, "torn snapshots and orphans were there to be found: {seen:?}");
}

#[test]
fn one_host_killed_at_every_event() {
    let p = policy(json!({}));
    let (mut seen, mut points) = (Seen::default(), 0);
    let few = wrongs(&[Fault::None, Fault::LoseReply, Fault::LateOrder(20_000)], &SNAPSHOTS[..5], &THAWS[..3], &WHATS[..2]);
    for w in few {
        let undisturbed = play(&p, &[w], None, &mut seen);
        for (action, had) in undisturbed.iter().enumerate().take(7) {
            for turns in 0..*had.min(&30) {
                points += 1;
                play(&p, &[w], Some(Kill { action, turns }), &mut seen);
            }
        }
    }
    println!("one host, killed: {points} points, {seen:?}");
    assert!(points > 1_000 && seen.held > 50 && seen.broken > 500, "{points} {seen:?}");
}

#[test]
fn a_group_of_two_with_every_pair_of_faults() {
    let p = policy(json!({}));
    let mut seen = Seen::default();
    let each = wrongs(
        &[Fault::None, Fault::LoseOrder, Fault::LoseReply, Fault::LateOrder(20_000), Fault::Refuse(Code::RefusedBusy)],
        &[Fault::None, Fault::LoseReply, Fault::LateReply(200_000), Fault::Refuse(Code::CloudRefused)],
        &THAWS[..2],
        &[What::Nothing, What::Disturbed(50)],
    );
    for (i, a) in each.iter().enumerate() {
        for b in &each[i..] {
            play(&p, &[*a, *b], None, &mut seen);
        }
    }
    println!("two hosts: {seen:?}");
    assert_eq!(seen.runs, 80 * 81 / 2);
    assert!(seen.held > 5 && seen.broken > 300 && seen.inconsistent > 100, "{seen:?}");
}

#[test]
fn a_group_of_three_with_kills() {
    let p = policy(json!({}));
    let (mut seen, mut points) = (Seen::default(), 0);
    let each = wrongs(&[Fault::None, Fault::LoseReply], &[Fault::None, Fault::LoseReply], &THAWS[..1], &WHATS[..2]);
    for (i, a) in each.iter().enumerate() {
        for (j, b) in each.iter().enumerate().skip(i) {
            for c in &each[j..] {
                let undisturbed = play(&p, &[*a, *b, *c], None, &mut seen);
                for (action, had) in undisturbed.iter().enumerate().take(4) {
                    for turns in (0..*had).step_by(5) {
                        points += 1;
                        play(&p, &[*a, *b, *c], Some(Kill { action, turns }), &mut seen);
                    }
                }
            }
        }
    }
    println!("three hosts: {points} kills, {seen:?}");
    assert!(points > 300 && seen.held > 2 && seen.broken > 100, "{points} {seen:?}");
}

#[test]
fn a_window_that_the_host_holds_with_every_fault_and_kills() {
    let p = policy(json!({ "held_by": "host" }));
    let (mut seen, mut points) = (Seen::default(), 0);
    for what in [What::Nothing, What::Disturbed(50), What::Stuck(40_000), What::SlowFreeze, What::MoreVolumes] {
        for fault in FREEZES {
            for hidden in [0, 5_000] {
                let run = |kill: Option<Kill>, seen: &mut Seen| {
                    let w = Wrong { what, ..RIGHT };
                    let sim = world(&[w]);
                    sim.fault(&host_id(0), Op::Backup, fault);
                    sim.hide_for(hidden);
                    let (saga, turns) = by_tasks(&sim, &order(p.clone(), 1, "one"), &[w], kill);
                    tell(&[w], kill, &sim, compare(&sim, &p, &[saga], seen));
                    turns
                };
                let undisturbed = run(None, &mut seen);
                for (action, had) in undisturbed.iter().enumerate().take(4) {
                    for turns in 0..*had.min(&12) {
                        points += 1;
                        run(Some(Kill { action, turns }), &mut seen);
                    }
                }
            }
        }
    }
    println!("host-held: {points} kills, {seen:?}");
    assert!(points > 500 && seen.held > 100 && seen.broken > 50, "{points} {seen:?}");
}

/// The same event twice: two processes, one order, each its own owner.
#[test]
fn two_coordinators_with_one_order_make_at_most_one_set() {
    let p = policy(json!({}));
    let (mut runs, mut held, mut cut) = (0, 0, 0);
    for hosts in [1, 2] {
        for first in [Fault::None, Fault::LoseReply, Fault::LoseOrder, Fault::LateOrder(4_000), Fault::LateReply(70_000)] {
            for second in [Fault::None, Fault::LoseReply, Fault::LoseOrder, Fault::LateOrder(4_000), Fault::LateReply(70_000)] {
                for apart in (0..4_000).step_by(150) {
                    let sim = world(&vec![Wrong { freeze: first, ..RIGHT }; hosts]);
                    for n in 0..hosts {
                        let h = host_id(n);
                        sim.with_host(&h, |h| h.snapshot_ms = 4_000);
                        sim.fault(&h, Op::Freeze, second);
                    }
                    let mut sagas = [Saga::new(order(p.clone(), hosts, "one")), Saga::new(order(p.clone(), hosts, "two"))];
                    assert_eq!(sagas[0].order.id, sagas[1].order.id);
                    let [a, b] = &mut sagas;
                    let run = |saga, at: i64| {
                        let sim = sim.clone();
                        async move {
                            sim.sleep_until(protocol::WallMs(START.0 + at)).await;
                            World { hosts: &sim, disks: &sim, clock: &sim, told: &|_, _| {} }.act(Action::Backup, saga, None).await;
                        }
                    };
                    sim.run_all(vec![Box::pin(run(a, 0)), Box::pin(run(b, apart))]);
                    let mut seen = Seen::default();
                    compare(&sim, &p, &sagas, &mut seen).unwrap_or_else(|e| panic!("{e}\n{first:?} {second:?} {apart} of {hosts}"));
                    runs += 1;
                    held += seen.held;
                    cut += usize::from(sagas.iter().any(|s| matches!(&s.verdict, Some(Verdict::Broken(_)))));
                    assert!(seen.held <= 1);
                }
            }
        }
    }
    println!("two coordinators: {runs} runs, {held} held, {cut} cut");
    assert!(runs == 2 * 25 * 27 && held > 100, "{runs} {held} {cut}");
}

/// The second one dies between its freeze and the answer; its thaw names its owner, so the first one's window is left alone.
#[test]
fn a_thaw_by_a_second_coordinator_leaves_the_owners_window_alone() {
    let seen = thawed_meanwhile_by("two");
    println!("a second coordinator's thaw: {seen:?}");
    assert!(seen.runs == 960 && seen.held > 800 && seen.short == 0 && seen.unseen == 0, "{seen:?}");
}

/// A thaw without a name is whoever's opened it: a person's, or the control of the one above. The host's window is then shorter
/// than what we saw of it, but for a moment: what happens less than the freeze order's way before our own thaw cannot be told from it.
#[test]
fn a_thaw_in_the_owners_name_is_seen_unless_it_comes_within_one_hop_of_our_own() {
    let seen = thawed_meanwhile_by("one");
    println!("a thaw in our name: {seen:?}");
    assert!(seen.runs == 960 && seen.held > 300 && seen.short > 200 && (1..15).contains(&seen.unseen), "{seen:?}");
}

#[derive(Debug, Default)]
struct Meanwhile {
    runs: usize,
    held: usize,
    /// Broken, because the window was too short to be ours.
    short: usize,
    /// Held, and thawed before the snapshot.
    unseen: usize,
}

fn thawed_meanwhile_by(owner: &str) -> Meanwhile {
    let p = policy(json!({}));
    let mut seen = Meanwhile::default();
    for snapshot_ms in [400, 4_000, 12_000] {
        for at in (0..16_000).step_by(50) {
            let sim = world(&[RIGHT]);
            sim.with_host(&host_id(0), |h| h.snapshot_ms = snapshot_ms);
            let mut a = Saga::new(order(policy(json!({ "snapshot": "15s" })), 1, "one"));
            let mut b = Saga::new(order(p.clone(), 1, owner));
            {
                let world = World { hosts: &sim, disks: &sim, clock: &sim, told: &|_, _| {} };
                let thaw = async {
                    world.act(Action::Admit, &mut b, None).await;
                    sim.sleep_until(protocol::WallMs(START.0 + at)).await;
                    world.act(Action::Thaw, &mut b, None).await;
                    world.act(Action::Settle, &mut b, None).await;
                };
                sim.run_all(vec![Box::pin(world.act(Action::Backup, &mut a, None)), Box::pin(thaw)]);
            }
            let short = matches!(&a.verdict, Some(Verdict::Broken(BrokenReason::OtherTool(_))));
            seen.short += usize::from(short);
            seen.held += usize::from(a.result().is_ok());
            seen.runs += 1;
            let (from, by, thaw) = (a.frozen_from, a.frozen_by, a.thaw_from);
            if let Err(e) = compare(&sim, &p, &[a], &mut Seen::default()) {
                let began = sim.truth()[0].thaw_began.unwrap().0;
                let way = by.unwrap().0 - from.unwrap().0 - 1_100 + i64::try_from(CLOCKS_AGREE_MS).unwrap();
                assert!(e.starts_with("a false held") && began >= thaw.unwrap().0 - way, "{snapshot_ms} {at}: {e}");
                seen.unseen += 1;
            }
        }
    }
    seen
}

#[test]
fn a_done_saga_is_done_for_every_action() {
    let sim = world(&[RIGHT]);
    let (saga, _) = by_tasks(&sim, &order(policy(json!({})), 1, "one"), &[RIGHT], None);
    assert_eq!(saga.result(), Ok(()));
    for a in Action::ALL {
        let mut again = saga.clone();
        sim.run(World { hosts: &sim, disks: &sim, clock: &sim, told: &|_, _| {} }.act(a, &mut again, None));
        assert_eq!(again, saga, "{a:?}");
    }
    assert_eq!(sim.calls().len(), 1);
}

#[test]
fn a_hold_of_1179_s_ends_in_time_whatever_hangs() {
    for (what, snapshot) in [(What::Nothing, Fault::None), (What::Nothing, Fault::LoseReply), (What::Unreachable, Fault::None)] {
        let p = policy(json!({ "hold": "1179s" }));
        let w = Wrong { what, snapshot, ..RIGHT };
        let sim = world(&[w]);
        let (saga, _) = by_tasks(&sim, &order(p.clone(), 1, "one"), &[w], None);
        let took = (sim.now().0 - START.0) / 1000;
        compare(&sim, &p, std::slice::from_ref(&saga), &mut Seen::default()).unwrap();
        let longest = 1_179 + 60 + 45 + i64::try_from(SELF_THAW_MS / 1000).unwrap() + 250;
        assert!(took < longest, "{what:?}: {took} s");
        assert_eq!(saga.result().is_ok(), what == What::Nothing && snapshot == Fault::None, "{:?}", saga.result());
        assert_eq!(saga.left_frozen().count(), usize::from(what == What::Unreachable));
    }
    // Whole in one process of 900 s it is refused before anything is frozen.
    let sim = world(&[RIGHT]);
    let mut saga = Saga::new(order(policy(json!({ "hold": "1179s" })), 1, "one"));
    let stop = Some(plus(START, 890_000));
    sim.run(World { hosts: &sim, disks: &sim, clock: &sim, told: &|_, _| {} }.act(Action::Backup, &mut saga, stop));
    assert_eq!(saga.result().unwrap_err().code, Code::RefusedTooSlow);
    assert!(sim.truth().is_empty() && saga.order.policy.held_by == HeldBy::Coordinator);
}
