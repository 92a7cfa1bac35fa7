//! Runs cases on several hosts at once: most of a case is waiting for a hold or a guard.

use crate::case::{Case, Counter, Flow, Pre, Victims};
use crate::judge::{Shown, judge};
use doors::clock::boot_now;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use suite::host::{Host, Seen};

pub type Make = fn() -> Option<Host>;

/// The full matrices, with their counts.
pub fn long() -> bool {
    std::env::var_os("SNAPFREEZE_LONG").is_some_and(|v| v != "0")
}

const NOBODY: Victims = Victims { agent: false, caller: false, watchdog: false };
/// After the last guard of a killed freeze: arming, freeze, guard and one question.
const IDLE_MS: u64 = 30_000;
/// A hold may run out on a loaded machine, but not five times in a row.
const TRIES: usize = 5;

/// The points of an undisturbed run, `name#n` in their order; a second run must show the same.
pub fn record(make: Make, flow: Flow, pre: Pre) -> Vec<String> {
    let one = || {
        let host = make().expect("an engine");
        for _ in 0..TRIES {
            let case = Case { flow, pre, point: String::new(), victims: NOBODY, restart: pre == Pre::AgentRestarted };
            let facts = case.play(&host);
            let good = match flow {
                Flow::Rehearse | Flow::FreezeThaw => facts.callers.iter().all(|c| c.1.code == Some(0)),
                Flow::Abandoned => facts.callers[0].1.code == Some(0),
            };
            let points = host.points.seen();
            repair(&host).expect("the host is usable");
            if good {
                let mut counter = Counter::default();
                let keys: Vec<String> = since(&points, pre).iter().map(|n| counter.key(&n.name)).collect();
                return keys;
            }
            println!("an undisturbed run was not: {:?}", facts.callers);
        }
        panic!("no undisturbed run in {TRIES} tries: {}", host.agent_log());
    };
    let (first, second) = std::thread::scope(|s| {
        let other = s.spawn(one);
        (one(), other.join().expect("a second run"))
    });
    let sorted = |v: &[String]| {
        let mut v = v.to_vec();
        v.sort();
        v
    };
    assert_eq!(sorted(&first), sorted(&second), "two undisturbed runs went by different points");
    println!("{flow:?} {pre:?}: {} points: {}", first.len(), first.join(" "));
    first
}

/// Only what came after the first kill counts for a second one.
fn since(seen: &[Seen], pre: Pre) -> &[Seen] {
    let from = match pre {
        Pre::None => 0,
        Pre::AgentLost | Pre::AgentRestarted => seen.iter().position(|s| s.name == "caller.freeze.after").map_or(0, |n| n + 1),
    };
    &seen[from..]
}

pub struct Matrix<'a> {
    pub name: &'a str,
    pub make: Make,
    pub workers: usize,
}

#[derive(Default)]
pub struct Totals {
    pub ran: usize,
    /// The victim was not there: no watchdog before it is started, none after it was ended.
    pub without_kill: usize,
    pub frozen: usize,
    pub unbroken: usize,
    pub by_limit: usize,
    pub latest_ms: i64,
    /// Issued in time, by the point before the call, and heard late by the engine: a machine that was slow to start it.
    pub heard_late: usize,
    /// See [`Shown::landed_late`].
    pub landed_late: usize,
    pub codes: BTreeMap<String, usize>,
    pub failed: Vec<String>,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} kills, {} passed ({} more without their victim), {} frozen, {} unbroken, {} thawed by the engine's limit, latest first thaw {:+} ms from thaw_by ({} heard late), {} landed after a confirmed thaw, exit codes {:?}",
            self.ran,
            self.ran - self.failed.len(),
            self.without_kill,
            self.frozen,
            self.unbroken,
            self.by_limit,
            self.latest_ms,
            self.heard_late,
            self.landed_late,
            self.codes
        )
    }
}

impl Matrix<'_> {
    pub fn run(&self, cases: Vec<Case>) -> Totals {
        let queue = Mutex::new(VecDeque::from(cases));
        let totals = Mutex::new(Totals { latest_ms: i64::MIN, ..Totals::default() });
        std::thread::scope(|s| {
            for _ in 0..self.workers {
                s.spawn(|| self.work(&queue, &totals));
            }
        });
        totals.into_inner().expect("no panic")
    }

    fn work(&self, queue: &Mutex<VecDeque<Case>>, totals: &Mutex<Totals>) {
        let mut host = None;
        loop {
            let Some(case) = queue.lock().expect("no panic").pop_front() else { return };
            if host.is_none() {
                host = (self.make)();
            }
            let Some(h) = host.as_ref() else { return };
            let result = catch_unwind(AssertUnwindSafe(|| reached(h, &case)))
                .unwrap_or_else(|p| Err(format!("{case}: {}", p.downcast_ref::<String>().map_or("panicked", String::as_str))));
            let mut t = totals.lock().expect("no panic");
            match result {
                Ok((shown, killed)) => {
                    println!("{}: {case}: {}", self.name, line(&shown, killed));
                    t.count(&shown, killed);
                }
                Err(why) => {
                    println!("{}: FAILED {why}\n{}", self.name, h.agent_log());
                    t.ran += 1;
                    t.failed.push(why);
                    drop(t);
                    host = None;
                }
            }
        }
    }
}

fn line(s: &Shown, killed: bool) -> String {
    let thaw = s.issued_ms.map_or("nothing frozen".into(), |ms| {
        format!("thaw {ms:+} ms from thaw_by{}", if s.by_limit { " by the engine's limit" } else { "" })
    });
    format!("{}{thaw}{}, exit {:?}", if killed { "" } else { "no such victim; " }, if s.unbroken { ", unbroken" } else { "" }, s.codes)
}

impl Totals {
    fn count(&mut self, s: &Shown, killed: bool) {
        if !killed {
            self.without_kill += 1;
            return;
        }
        self.ran += 1;
        self.frozen += usize::from(s.frozen);
        self.unbroken += usize::from(s.unbroken);
        self.by_limit += usize::from(s.by_limit);
        self.heard_late += usize::from(s.heard_late);
        self.landed_late += usize::from(s.landed_late);
        if let (Some(ms), false) = (s.issued_ms, s.both_dead) {
            self.latest_ms = self.latest_ms.max(ms);
        }
        for c in &s.codes {
            *self.codes.entry(c.map_or("killed".into(), |c| c.to_string())).or_default() += 1;
        }
    }
}

/// On a loaded machine a hold may run out before the point is reached; then the case is played again.
fn reached(host: &Host, case: &Case) -> Result<(Shown, bool), String> {
    for _ in 0..TRIES {
        if let (shown, Some(killed)) = one(host, case)? {
            return Ok((shown, killed));
        }
    }
    Err(format!("{case}: the point was not reached in {TRIES} tries"))
}

/// Plays a case, judges it, and sees that the host is as good as before. The second value: the point was reached, and
/// every victim was there.
fn one(host: &Host, case: &Case) -> Result<(Shown, Option<bool>), String> {
    let facts = case.play(host);
    let shown = judge(case, host, &facts)?;
    repair(host).map_err(|e| format!("{case}: {e}"))?;
    let wanted = usize::from(case.victims.agent) + usize::from(case.victims.watchdog);
    let died = facts.died.iter().filter(|d| **d != "caller").count();
    Ok((shown, facts.killed_ms.map(|_| died >= wanted)))
}

/// At the end: not frozen, the agent is back and idle, no watchdog is left after its guard, and the next freeze works.
fn repair(host: &Host) -> Result<(), String> {
    host.points.clear();
    host.agent.set_restart(true);
    host.start_agent();
    let mut phase = String::new();
    let by = boot_now().plus(IDLE_MS);
    while phase != "idle" {
        phase = host.phase();
        if boot_now() > by {
            return Err(format!("the agent is {phase:?} for ever"));
        }
        suite::host::sleep_ms(50);
    }
    if !host.comes_true(5_000, &mut || host.watchdogs().is_empty()) {
        return Err("a watchdog was left behind".into());
    }
    if host.engine.frozen() {
        return Err("left frozen".into());
    }
    let mut said = String::new();
    for _ in 0..TRIES {
        host.points.clear();
        let e = host.call(&["rehearse", "--hold", "3s"]);
        // Its watchdog is ended after it was told.
        let disarmed = host.points.wait("agent.disarm.after", 10_000).is_some();
        if e.code == Some(0) && disarmed {
            return Ok(());
        }
        said = format!("{e:?}");
    }
    Err(format!("the next freeze did not work: {said}"))
}
