//! Breadth first over the pure machine: whatever hosts and cloud may answer, for one host and for groups. What must be true is
//! computed here from the answers alone, and compared with what the saga says.

use crate::kit::{START, order, policy};
use coordinator::act::Action;
use coordinator::fake::Host;
use coordinator::ports::{BackupAnswer, FreezeAnswer, Look, Made, Snapshot, SnapshotAnswer, State, ThawAnswer};
use coordinator::saga::{Freeze, Inspected, Outcome, Phase, Saga, Step, Thaw};
use coordinator::{Order, admit};
use protocol::outcome::InstanceMarks;
use protocol::tags::{SetTags, to_tags};
use protocol::wire::{Facts, FreezeReply, Problem};
use protocol::{BrokenReason, Code, Verdict, WallMs, Window, WindowState};
use serde_json::json;
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

const HOLD: u64 = 60_000;
const SNAPSHOT: u64 = 5_000;
/// Whoever carries out steps is lost at most so often on one way, or it would never end.
const LOSSES: u8 = 1;
/// More states than this are no exploration but a loop without an end.
const MOST: usize = 300_000;

/// What a bug would do: to the answer before the saga sees it, to the saga after it, or to whoever drives it.
#[derive(Clone, Copy)]
pub struct Bug {
    pub answer: fn(&Saga, Outcome) -> Outcome,
    pub saga: fn(&mut Saga),
    pub ignores_the_hold: bool,
}

pub const NO_BUG: Bug = Bug { answer: |_, o| o, saga: |_| {}, ignores_the_hold: false };

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub states: usize,
    pub steps: usize,
    pub ends: usize,
    pub held: usize,
    pub broken: usize,
    pub left_frozen: usize,
    pub refused: usize,
    pub foreign: usize,
}

/// What has been said on this way, apart from the saga.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Past {
    freeze_sent: bool,
    snapshots_sent: u8,
    losses: u8,
    host: Vec<Said>,
    /// Tags were written, and the copies were seen complete: that is what `held` is told with.
    marked: bool,
    completed: bool,
    snapped: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Said {
    frozen: bool,
    certainly_not: bool,
    not_ours: bool,
    accepted: bool,
    unbroken: bool,
    not_frozen: bool,
    /// Host-held: the host itself said so, in its answer or on the snapshots.
    host_held: bool,
}

fn window(o: &Order, state: WindowState, ms: u64) -> Window {
    Window {
        backup_id: o.id,
        state,
        frozen_at: Some(START),
        thawed_at: Some(START),
        window_ms: ms,
        parts: vec![],
        marks: vec![],
        evidence: vec![],
    }
}

fn reply(o: &Order, by: &str, remaining_ms: u64) -> FreezeAnswer {
    FreezeAnswer::Frozen(FreezeReply {
        schema: 1,
        id: o.id,
        remaining_ms,
        frozen_at: START,
        freeze_ms: 1_000,
        instances: vec![InstanceMarks { instance: "IRIS".parse().unwrap(), marks: vec![] }],
        warnings: vec![],
        by: by.into(),
        sync_ms: Some(40),
    })
}

pub fn inspected(n: usize, now: WallMs) -> Inspected {
    let h = Host::new(&crate::kit::host_id(n));
    let facts = Facts { now, ..h.facts };
    Inspected { facts, look: Look { problem: None, volumes: h.volumes }, hop_ms: 600, asked_at: Some(now) }
}

fn made(s: &Saga, i: usize) -> Vec<Made> {
    let Some(plan) = &s.members[i].plan else { return vec![] };
    admit::taken(&s.order, plan).map(|v| Made { snapshot: format!("snap-{}", v.volume), volume: v.volume.clone() }).collect()
}

fn listed(s: &Saga, state: State, verdict: &Verdict) -> Vec<Snapshot> {
    let all: Vec<Made> = (0..s.members.len()).flat_map(|i| made(s, i)).collect();
    let mut t = SetTags::new(s.order.id);
    t.set_size = u32::try_from(all.len()).unwrap();
    t.verdict = verdict.clone();
    let one =
        |m: Made| Snapshot { snapshot: m.snapshot, volume: m.volume, started: START, state, progress: 0, size_gib: 1, tags: to_tags(&t) };
    all.into_iter().map(one).collect()
}

fn no(code: Code) -> Problem {
    Problem::new(code, "said no")
}

/// All combinations of one answer per host.
fn product<T: Clone>(alphabet: &[T], n: usize) -> Vec<Vec<T>> {
    (0..n).fold(vec![vec![]], |all, _| {
        all.iter().flat_map(|head| alphabet.iter().map(move |x| head.iter().cloned().chain([x.clone()]).collect())).collect()
    })
}

/// Every answer to the step, each with the time that it took.
fn answers(s: &Saga, step: &Step, n: usize) -> Vec<(u64, Outcome)> {
    let o = &s.order;
    let mut all: Vec<(u64, Outcome)> = vec![];
    match step {
        Step::Inspect => {
            let good: Vec<_> = (0..n).map(|i| Ok(inspected(i, START))).collect();
            let mut bad = good.clone();
            bad[n - 1] = Err(no(Code::AgentUnreachable));
            all.extend([(1_000, Outcome::Inspected(good)), (1_000, Outcome::Inspected(bad)), (1_000, Outcome::Inspected(vec![]))]);
        }
        Step::Freeze(_) => {
            let mut alphabet = vec![
                reply(o, &o.owner, HOLD - 1_500),
                reply(o, &o.owner, SNAPSHOT),
                reply(o, "somebody else", HOLD - 1_500),
                reply(o, "", HOLD - 1_500),
                FreezeAnswer::Refused(no(Code::RefusedBusy)),
                FreezeAnswer::Refused(no(Code::Internal)),
                FreezeAnswer::Failed(no(Code::FreezeFailed)),
                FreezeAnswer::Unknown("no answer".into()),
            ];
            if n > 1 {
                alphabet.retain(|a| !matches!(a, FreezeAnswer::Failed(_)));
            }
            for combo in product(&alphabet, n) {
                if n == 1 {
                    all.push((55_000, Outcome::Froze(combo.clone())));
                }
                all.push((2_000, Outcome::Froze(combo)));
            }
            all.push((2_000, Outcome::Froze(vec![])));
        }
        Step::Backup(_) => {
            let done =
                |verdict, state, snapshots: Vec<Made>| BackupAnswer::Done { verdict, window: Box::new(window(o, state, 3_000)), snapshots };
            let other = Window { backup_id: coordinator::order::derive_id("x", &[], START), ..window(o, WindowState::Unbroken, 3_000) };
            let broken = |why: BrokenReason| Verdict::Broken(why);
            let (yes, late) = (WindowState::Unbroken, WindowState::Broken(BrokenReason::HoldExpired));
            let alphabet = [
                done(Verdict::Held, yes.clone(), made(s, 0)),
                done(Verdict::Held, yes.clone(), vec![]),
                done(Verdict::Held, yes.clone(), made(s, 0)[..1].to_vec()),
                done(Verdict::Held, late.clone(), made(s, 0)),
                done(broken(BrokenReason::Interrupted), yes.clone(), made(s, 0)),
                done(broken(BrokenReason::HoldExpired), late, vec![]),
                done(broken(BrokenReason::SnapshotFailed("x".into())), yes.clone(), vec![]),
                done(broken(BrokenReason::SnapshotFailed("x".into())), yes.clone(), made(s, 0)),
                done(Verdict::Pending, yes, made(s, 0)),
                BackupAnswer::Done { verdict: Verdict::Held, window: Box::new(other), snapshots: made(s, 0) },
                BackupAnswer::Refused(no(Code::RefusedBusy)),
                BackupAnswer::Refused(no(Code::LeftFrozen)),
                BackupAnswer::Failed(no(Code::FreezeFailed)),
                BackupAnswer::Unknown("no answer".into()),
            ];
            all.extend(product(&alphabet, n).into_iter().map(|c| (5_000, Outcome::BackedUp(c))));
        }
        Step::Snapshot(_) => {
            let alphabet = ["all", "some", "none", "no", "unknown"];
            for combo in product(&alphabet, n) {
                let one = |(i, w): (usize, &&str)| match *w {
                    "all" => SnapshotAnswer::Accepted(made(s, i)),
                    "some" => SnapshotAnswer::Accepted(made(s, i)[..1].to_vec()),
                    "none" => SnapshotAnswer::Accepted(vec![]),
                    "no" => SnapshotAnswer::Failed(no(Code::CloudRefused)),
                    _ => SnapshotAnswer::Unknown("no answer".into()),
                };
                all.push((1_000, Outcome::Snapped(combo.iter().enumerate().map(one).collect())));
            }
            all.push((1_000, Outcome::Snapped(vec![])));
        }
        Step::Thaw(which) => {
            let mut alphabet = vec![
                ThawAnswer::Thawed(window(o, WindowState::Unbroken, 5_000)),
                // Unbroken for the host, and too short to be ours.
                ThawAnswer::Thawed(window(o, WindowState::Unbroken, 700)),
                ThawAnswer::Thawed(window(o, WindowState::Broken(BrokenReason::HoldExpired), 60_000)),
                ThawAnswer::NeverFrozen,
                ThawAnswer::StillFrozen(no(Code::LeftFrozen)),
                ThawAnswer::Unknown("no answer".into()),
            ];
            if n > 1 {
                alphabet.remove(1);
            } else {
                alphabet.push(ThawAnswer::NotOurs);
            }
            all.extend(product(&alphabet, which.len()).into_iter().map(|c| (45_000, Outcome::Thawed(c))));
            all.push((45_000, Outcome::Thawed(vec![])));
        }
        Step::Find => {
            let held = listed(s, State::Pending, &Verdict::Held);
            let mut cases = vec![Ok(vec![]), Ok(held[..1].to_vec()), Ok(held), Err(no(Code::CloudRefused))];
            for v in [Verdict::Pending, Verdict::Broken(BrokenReason::OverLimit)] {
                cases.push(Ok(listed(s, State::Pending, &v)));
            }
            all.extend(cases.into_iter().map(|c| (60_000, Outcome::Found(c))));
        }
        Step::Mark => all.extend([Ok(()), Err(no(Code::CloudRefused))].map(|r| (40_000, Outcome::Marked(r)))),
        Step::Complete => {
            let done = listed(s, State::Completed, &Verdict::Held);
            let mut bad = done.clone();
            bad[0].state = State::Failed;
            let mut more = done.clone();
            more[0].snapshot = "snap-twice".into();
            more.extend(done.clone());
            let cases =
                [Ok(done), Ok(listed(s, State::Pending, &Verdict::Held)), Ok(bad), Ok(vec![]), Ok(more), Err(no(Code::CloudRefused))];
            all.extend(cases.map(|c| (40_000, Outcome::Completion(c))));
        }
        Step::After => all.extend([vec![], vec![no(Code::CloudRefused)]].map(|p| (1_000, Outcome::Aftered(p)))),
        Step::Wait(_) | Step::Done => {}
    }
    all
}

/// Notes what was said. Written from contract §3 and the ports' documents, not from the saga.
fn remember(p: &mut Past, s: &Saga, step: &Step, said: &Outcome, took: u64) {
    match (step, said) {
        (Step::Freeze(_), Outcome::Froze(all)) => {
            for (h, a) in p.host.iter_mut().zip(all) {
                h.frozen = matches!(a, FreezeAnswer::Frozen(r) if r.by == s.order.owner);
                h.not_ours = matches!(a, FreezeAnswer::Frozen(r) if !r.by.is_empty() && r.by != s.order.owner);
                h.certainly_not = matches!(a, FreezeAnswer::Refused(p) if p.code == Code::RefusedBusy);
            }
        }
        (Step::Backup(_), Outcome::BackedUp(all)) => {
            for (i, (h, a)) in p.host.iter_mut().zip(all).enumerate() {
                if let BackupAnswer::Done { verdict, window, snapshots } = a
                    && window.backup_id == s.order.id
                {
                    (h.frozen, h.not_frozen, h.unbroken) = (true, true, window.state.is_unbroken());
                    h.accepted = *verdict == Verdict::Held && *snapshots == made(s, i);
                    h.host_held = *verdict == Verdict::Held && window.state.is_unbroken();
                }
                h.certainly_not = matches!(a, BackupAnswer::Refused(p) if p.code == Code::RefusedBusy);
            }
        }
        (Step::Snapshot(_), Outcome::Snapped(all)) => {
            p.snapped = true;
            for (i, (h, a)) in p.host.iter_mut().zip(all).enumerate() {
                h.accepted = matches!(a, SnapshotAnswer::Accepted(m) if *m == made(s, i));
            }
        }
        (Step::Thaw(which), Outcome::Thawed(all)) => {
            for (i, a) in which.iter().zip(all) {
                let h = &mut p.host[*i];
                match a {
                    ThawAnswer::Thawed(w) => {
                        h.not_frozen = true;
                        h.unbroken = w.state.is_unbroken() && w.window_ms >= 2_000;
                    }
                    ThawAnswer::NeverFrozen | ThawAnswer::NotOurs => h.not_frozen = !h.frozen,
                    ThawAnswer::StillFrozen(_) | ThawAnswer::Unknown(_) => {}
                }
            }
        }
        (Step::Find, Outcome::Found(Ok(found))) => {
            let told = coordinator::marks::verdict_on(found);
            for h in &mut p.host {
                // Nothing was heard of the window, or that it was unbroken: then the host's word stands.
                h.host_held |= told == Some(Verdict::Held);
            }
        }
        (Step::Mark, Outcome::Marked(r)) => p.marked = r.is_ok(),
        (Step::Complete, Outcome::Completion(Ok(all))) => {
            p.completed = all.iter().all(|s| s.state == State::Completed) && all.len() == s.made().len();
        }
        _ => {}
    }
    let _ = took;
}

struct Node {
    saga: Saga,
    now: WallMs,
    past: Past,
}

impl Node {
    fn key(&self) -> u64 {
        let mut h = DefaultHasher::new();
        let mut same = self.saga.clone();
        // What is for people only makes no other state.
        same.notes.clear();
        for m in &mut same.members {
            m.plan = None;
            if let Thaw::NotConfirmed { tries } = &mut m.thaw {
                *tries = 0;
            }
        }
        (serde_json::to_string(&same.members).unwrap(), same.phase, same.since, same.resume_at, same.thaw_from).hash(&mut h);
        (same.frozen_from, format!("{:?} {:?} {:?}", same.verdict, same.marked, same.problem), self.now, &self.past).hash(&mut h);
        h.finish()
    }
}

pub fn explore(hosts: usize, change: serde_json::Value, bug: Bug) -> Result<Counts, String> {
    let order = order(policy(change), hosts, "one");
    let host_held = order.policy.held_by == coordinator::policy::HeldBy::Host;
    let past = Past { host: vec![Said::default(); hosts], ..Past::default() };
    let first = Node { saga: Saga::new(order), now: START, past };
    let mut seen = HashSet::from([first.key()]);
    let mut open = VecDeque::from([first]);
    let mut c = Counts::default();
    while let Some(node) = open.pop_front() {
        c.states += 1;
        if c.states > MOST {
            return Err(format!(
                "no end: {c:?}, {} open, now +{} s, {}",
                open.len(),
                (node.now.0 - START.0) / 1000,
                serde_json::to_string(&node.saga).unwrap()
            ));
        }
        let step = node.saga.next(node.now);
        if c.states % 8 == 1 {
            check_state(&node, &mut c)?;
        }
        if step == Step::Done {
            c.ends += 1;
            check_end(&node, host_held, &mut c)?;
            continue;
        }
        let mut push = |n: Node| {
            c.steps += 1;
            if seen.insert(n.key()) {
                open.push_back(n);
            }
        };
        if let Step::Wait(at) = step {
            push(Node { now: at, ..node });
            continue;
        }
        if !bug.ignores_the_hold && node.saga.too_late_to_snapshot(node.now) {
            let mut saga = node.saga.clone();
            saga.skip_snapshot();
            push(Node { saga, now: node.now, past: node.past });
            continue;
        }
        let mut begun = Node { saga: node.saga.clone(), now: node.now, past: node.past.clone() };
        begun.saga.begin(&step, begun.now);
        check_step(&mut begun, &step)?;
        for (took, said) in answers(&begun.saga, &step, hosts) {
            let mut n =
                Node { saga: begun.saga.clone(), now: WallMs(begun.now.0 + i64::try_from(took).unwrap()), past: begun.past.clone() };
            remember(&mut n.past, &n.saga, &step, &said, took);
            let said = (bug.answer)(&n.saga, said);
            n.saga.apply(said.clone(), n.now);
            (bug.saga)(&mut n.saga);
            // Told twice: nothing more, except where the same question is asked again.
            let mut twice = n.saga.clone();
            if n.saga.phase != begun.saga.phase {
                twice.apply(said, n.now);
                if twice != n.saga {
                    return Err(format!("a repeated answer changed {:?}", begun.saga.phase));
                }
            }
            push(n);
        }
        // The process is gone, before or after the effect; the next one has the saga as it began, or as it was before.
        // In a group only where it decides something; the others' losses are those of one host.
        let decides = matches!(node.saga.phase, Phase::Freeze | Phase::Snapshot);
        if begun.past.losses < LOSSES && (hosts == 1 || decides) {
            for (from, ms) in [(&begun.saga, 0), (&node.saga, 1_000)] {
                let mut n = Node { saga: from.clone(), now: WallMs(begun.now.0 + ms), past: begun.past.clone() };
                n.past.losses += 1;
                n.saga.apply(Outcome::Lost, n.now);
                (bug.saga)(&mut n.saga);
                push(n);
            }
        }
    }
    Ok(c)
}

fn check_state(n: &Node, c: &mut Counts) -> Result<(), String> {
    let text = serde_json::to_string(&n.saga).unwrap();
    if serde_json::from_str::<Saga>(&text).map_err(|e| e.to_string())? != n.saga {
        return Err("the saga does not read back as it was written".into());
    }
    // Answers to other steps: repetitions of the past, or of another process.
    let foreign = [
        (Phase::Inspect, Outcome::Inspected(vec![])),
        (Phase::Freeze, Outcome::Froze(vec![])),
        (Phase::Freeze, Outcome::BackedUp(vec![])),
        (Phase::Snapshot, Outcome::Snapped(vec![SnapshotAnswer::Accepted(vec![]); 2])),
        (Phase::Thaw, Outcome::Thawed(vec![ThawAnswer::NeverFrozen; 2])),
        (Phase::Find, Outcome::Found(Ok(vec![]))),
        (Phase::Mark, Outcome::Marked(Ok(()))),
        (Phase::Complete, Outcome::Completion(Ok(vec![]))),
        (Phase::After, Outcome::Aftered(vec![])),
    ];
    for (phase, outcome) in foreign {
        let mut other = n.saga.clone();
        other.apply(outcome, n.now);
        c.foreign += 1;
        if phase != n.saga.phase && other != n.saga {
            return Err(format!("an answer to {phase:?} changed a saga at {:?}", n.saga.phase));
        }
        let _ = other.next(n.now);
    }
    for a in Action::ALL {
        let mut other = n.saga.clone();
        a.take_up(&mut other, n.now);
        let behind = matches!(n.saga.phase, Phase::Freeze | Phase::Snapshot) && matches!(a, Action::Thaw | Action::Settle);
        let fine = if behind { !matches!(other.phase, Phase::Freeze | Phase::Snapshot | Phase::Inspect) } else { other == n.saga };
        if !fine {
            return Err(format!("{a:?} took up {:?} as {:?}", n.saga.phase, other.phase));
        }
    }
    Ok(())
}

/// Before anything is sent.
fn check_step(n: &mut Node, step: &Step) -> Result<(), String> {
    match step {
        Step::Freeze(_) | Step::Backup(_) => {
            if n.past.freeze_sent {
                return Err("a second freeze".into());
            }
            n.past.freeze_sent = true;
        }
        Step::Snapshot(all) => {
            n.past.snapshots_sent += 1;
            if n.past.snapshots_sent > 1 {
                return Err("a second snapshot call".into());
            }
            if all.len() != n.past.host.len() || !n.past.host.iter().all(|h| h.frozen) {
                return Err("a snapshot call before every host's freeze reply".into());
            }
            let ends = n.saga.members.iter().filter_map(|m| match &m.freeze {
                Freeze::Frozen { reply, .. } => Some(n.saga.frozen_from?.0 + i64::try_from(reply.remaining_ms.min(HOLD)).ok()?),
                _ => None,
            });
            if ends.min().is_none_or(|e| n.now.0 + i64::try_from(SNAPSHOT).unwrap() > e) {
                return Err("a snapshot call that the hold does not cover".into());
            }
        }
        _ => {}
    }
    Ok(())
}

fn check_end(n: &Node, host_held: bool, c: &mut Counts) -> Result<(), String> {
    let (s, p) = (&n.saga, &n.past);
    let result = s.result();
    let called = result.as_ref().err().is_some_and(|p| p.code == Code::LeftFrozen);
    c.left_frozen += usize::from(called);
    for (m, h) in s.members.iter().zip(&p.host) {
        let safe = !p.freeze_sent || h.not_frozen || h.certainly_not || h.not_ours;
        if !safe && !matches!(m.thaw, Thaw::LeftFrozen { .. }) {
            return Err(format!("ended without a thaw of {}, and nobody is called: {:?}", m.target.id, m.freeze));
        }
        if !safe && !called {
            return Err("a host may be frozen, and the result does not say so".into());
        }
    }
    let by_coordinator = p.host.iter().all(|h| h.frozen && h.accepted && h.unbroken) && p.snapped;
    let by_host = p.host.iter().all(|h| h.host_held && (h.unbroken || !h.frozen && h.not_frozen));
    let may_be_held = if host_held { by_host } else { by_coordinator };
    let held = s.verdict == Some(Verdict::Held);
    if held && !may_be_held {
        return Err(format!("a false held: {p:?}"));
    }
    if result.is_ok() && !(held && p.marked && p.completed) {
        return Err(format!("success without a complete set that is marked so: {p:?}"));
    }
    if by_coordinator && p.losses == 0 && p.marked && p.completed && result.is_err() {
        return Err(format!("everything went well, and the result is {result:?}"));
    }
    if s.marked == Some(Verdict::Held) && !may_be_held {
        return Err("tags that claim what is not so".into());
    }
    c.held += usize::from(result.is_ok());
    c.broken += usize::from(matches!(s.verdict, Some(Verdict::Broken(_))));
    c.refused += usize::from(!p.freeze_sent);
    Ok(())
}

#[test]
fn one_host_whatever_is_answered() {
    let c = explore(1, json!({}), NO_BUG).unwrap();
    println!("one host: {c:?}");
    assert!(c.states > 1_000 && c.held > 0 && c.broken > 10 && c.left_frozen > 5 && c.refused > 0, "{c:?}");
}

#[test]
fn one_host_with_copies_and_a_lock_whatever_is_answered() {
    let c = explore(1, json!({ "copy_to": [{ "region": "eu-west-1" }] }), NO_BUG).unwrap();
    println!("one host, copies: {c:?}");
    assert!(c.states > 1_000 && c.held > 0, "{c:?}");
}

#[test]
fn a_host_that_holds_the_window_itself_whatever_is_answered() {
    let c = explore(1, json!({ "held_by": "host" }), NO_BUG).unwrap();
    println!("host-held: {c:?}");
    assert!(c.states > 500 && c.held > 0 && c.broken > 5 && c.left_frozen > 0, "{c:?}");
}

#[test]
fn a_group_of_two_whatever_is_answered() {
    let c = explore(2, json!({}), NO_BUG).unwrap();
    println!("a group of two: {c:?}");
    assert!(c.states > 20_000 && c.held > 0 && c.broken > 100 && c.left_frozen > 50, "{c:?}");
}
