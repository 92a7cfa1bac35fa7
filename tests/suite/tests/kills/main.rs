//! `kill -9` of agent, caller and watchdog, alone and in pairs, at every named point of an undisturbed run.
//!
//! The points are taken from a run of the binary itself and compared with a second one. Each case stops the processes
//! exactly there, kills, and lets the host go on; the engine's own history then says what became of the database.
//! `SNAPFREEZE_LONG=1` runs the full matrices.
#![allow(clippy::disallowed_methods, reason = "a test host stands outside the agent's doors")]

mod case;
mod judge;
mod matrix;

use case::{Case, Flow, Pre, Victims};
use matrix::{Make, Matrix, long, record};
use suite::host::{Host, Setup, What};

const A: Victims = Victims { agent: true, caller: false, watchdog: false };
const C: Victims = Victims { agent: false, caller: true, watchdog: false };
const W: Victims = Victims { agent: false, caller: false, watchdog: true };
const AC: Victims = Victims { agent: true, caller: true, watchdog: false };
const AW: Victims = Victims { agent: true, caller: false, watchdog: true };
const CW: Victims = Victims { agent: false, caller: true, watchdog: true };
/// Alone and in pairs.
const ALL: [Victims; 6] = [A, C, W, AC, AW, CW];

/// Hosts at once: a case is mostly waiting.
const WORKERS: usize = 10;

/// A real freeze takes about 1 s; a tenth of that leaves room in a hold of 1 s and still lets a kill meet it on its way.
fn iris() -> Setup {
    Setup { ctl: vec!["freeze_delay_ms=60".into(), "thaw_delay_ms=60".into()], ..Setup::default() }
}

fn iris_host() -> Option<Host> {
    Some(Host::iris(iris()))
}

fn gtm_host() -> Option<Host> {
    Host::gtm(Setup::default(), "kills on GT.M")
}

/// Every victim at every point; the agent's death is followed by a restart or not, in the short run by turns.
fn cases(flow: Flow, points: &[String], sets: &[Victims], both: bool, restart_always: bool) -> Vec<Case> {
    let mut list = Vec::new();
    for (n, point) in points.iter().enumerate() {
        for (m, victims) in sets.iter().enumerate() {
            let restarts: &[bool] = match (victims.agent, both) {
                (false, _) => &[true],
                (true, _) if restart_always => &[true],
                (true, true) => &[true, false],
                (true, false) => {
                    if (n + m) % 2 == 0 {
                        &[true]
                    } else {
                        &[false]
                    }
                }
            };
            list.extend(restarts.iter().map(|r| Case { flow, pre: Pre::None, point: point.clone(), victims: *victims, restart: *r }));
        }
    }
    list
}

fn run(name: &str, make: Make, workers: usize, cases: Vec<Case>, at_least: usize) {
    let m = Matrix { name, make, workers };
    let totals = m.run(cases);
    println!("{name}: {totals}");
    assert!(totals.failed.is_empty(), "{name}: {} of {} cases failed:\n{}", totals.failed.len(), totals.ran, totals.failed.join("\n"));
    assert!(totals.ran >= at_least, "{name}: only {} cases ran", totals.ran);
    assert!(totals.frozen > 0 && totals.unbroken > 0, "{name}: {totals}: nothing was frozen, or no window was unbroken");
}

#[test]
fn iris_rehearse() {
    let points = record(iris_host, Flow::Rehearse, Pre::None);
    assert!(points.len() > 20, "only {} points: {points:?}", points.len());
    run("iris rehearse", iris_host, WORKERS, cases(Flow::Rehearse, &points, &ALL, long(), false), points.len() * 4);
}

#[test]
fn iris_freeze_and_thaw() {
    let points = record(iris_host, Flow::FreezeThaw, Pre::None);
    assert!(points.len() > 20, "only {} points: {points:?}", points.len());
    let sets: &[Victims] = if long() { &ALL } else { &[A, C, AW] };
    run("iris freeze, thaw", iris_host, WORKERS, cases(Flow::FreezeThaw, &points, sets, long(), false), points.len() * 2);
}

/// While a call is inside the engine: a freeze that lost its client, a thaw that did, each with a client that lives on.
#[test]
fn iris_calls_in_flight() {
    let points: Vec<String> = ["FreezeCalled", "Frozen", "ThawCalled", "Thawed"].map(|w| format!("engine.{w}")).into();
    let host = || Some(Host::iris(Setup { ctl: vec!["freeze_delay_ms=150".into(), "thaw_delay_ms=150".into()], ..Setup::default() }));
    run("iris in flight", host, WORKERS, cases(Flow::Rehearse, &points, &ALL, true, false), 30);
    // The engine carries on although its client was killed with its agent, or lands later still.
    let zombie = || {
        let ctl = ["freeze_delay_ms=150", "freeze_after_client_died=1", "freeze_late_ms=300"].map(Into::into).into();
        Some(Host::iris(Setup { ctl, ..Setup::default() }))
    };
    run("iris zombies", zombie, WORKERS, cases(Flow::Rehearse, &points[..1], &ALL, true, false), 7);
}

/// The caller never comes back: the agent thaws by itself, and is killed while it does.
#[test]
fn iris_hold_expires() {
    let all = record(iris_host, Flow::Abandoned, Pre::None);
    let from = all.iter().position(|p| p.starts_with("agent.reply.after")).expect("a reply");
    let sets: &[Victims] = if long() { &[A, W, AW] } else { &[A, AW] };
    run_without_unbroken("iris hold expires", cases(Flow::Abandoned, &all[from..], sets, long(), false), 15);
}

/// The agent is gone after the freeze. Then the watchdog is killed at each of its own points, and the agent's next
/// start at each of its.
#[test]
fn iris_second_kills() {
    let mut list = Vec::new();
    for pre in [Pre::AgentLost, Pre::AgentRestarted] {
        let points = record(iris_host, Flow::Abandoned, pre);
        println!("{pre:?}: {points:?}");
        assert!(points.len() >= if pre == Pre::AgentLost { 4 } else { 8 }, "{pre:?}: {points:?}");
        let (sets, restart): (&[Victims], _) = if pre == Pre::AgentLost { (&[W], false) } else { (&[A, AW], true) };
        list.extend(cases(Flow::Abandoned, &points, sets, false, restart).into_iter().map(|c| Case { pre, restart, ..c }));
    }
    run_without_unbroken("iris second kills", list, 20);
}

fn run_without_unbroken(name: &str, cases: Vec<Case>, at_least: usize) {
    let totals = Matrix { name, make: iris_host, workers: WORKERS }.run(cases);
    println!("{name}: {totals}");
    assert!(totals.failed.is_empty(), "{name}: {} of {} cases failed:\n{}", totals.failed.len(), totals.ran, totals.failed.join("\n"));
    assert!(totals.ran >= at_least && totals.frozen >= at_least, "{name}: {totals}");
    assert_eq!(totals.unbroken, 0, "{name}: an unbroken window that nobody thawed");
}

/// GT.M has no limit of its own: with both dead there is the service manager alone, so it always restarts the agent.
#[test]
fn gtm_rehearse() {
    if suite::gtm::installed_or_skip("gtm_rehearse").is_none() {
        return;
    }
    let points = record(gtm_host, Flow::Rehearse, Pre::None);
    assert!(points.len() > 20, "only {} points: {points:?}", points.len());
    let list: Vec<Case> = if long() {
        cases(Flow::Rehearse, &points, &ALL, true, false)
    } else {
        // Where something is frozen, or may be in a moment.
        let (from, to) = (at(&points, "agent.watchdog.after"), at(&points, "agent.disarm.before"));
        cases(Flow::Rehearse, &points[from..to], &[A, AW], false, false)
    };
    let list = list.into_iter().map(|c| Case { restart: c.restart || (c.victims.agent && c.victims.watchdog), ..c }).collect();
    run_gtm(list);
}

fn run_gtm(mut list: Vec<Case>) {
    list.dedup();
    let totals = Matrix { name: "gtm rehearse", make: gtm_host, workers: 6 }.run(list);
    println!("gtm rehearse: {totals}");
    assert!(totals.failed.is_empty(), "{} of {} cases failed:\n{}", totals.failed.len(), totals.ran, totals.failed.join("\n"));
    assert!(totals.ran >= 15 && totals.frozen > 0, "{totals}");
}

fn at(points: &[String], name: &str) -> usize {
    points.iter().position(|p| p.starts_with(name)).unwrap_or_else(|| panic!("no point {name} in {points:?}"))
}

/// The oracle can fail: agent and watchdog dead, no restart, the engine's limit off: the harness says "left frozen".
#[test]
fn with_every_line_of_defence_gone_it_is_found_left_frozen() {
    let setup = Setup {
        window: "on_overrun = \"block-users\"\nexternal_freeze_timeout = \"1200s\"\nwd_suspend_limit = \"none\"\n".into(),
        ..iris()
    };
    let host = Host::iris(setup);
    let case = Case { flow: Flow::Abandoned, pre: Pre::None, point: "caller.freeze.after#1".into(), victims: AW, restart: false };
    let facts = case.play(&host);
    let said = judge::judge(&case, &host, &facts).expect_err("a database left frozen must not pass");
    assert!(said.contains("left frozen"), "{said}");
    assert!(host.engine.frozen(), "{said}");
    assert!(!facts.history.iter().any(|h| matches!(h.what, What::Thawed | What::LimitThawed)), "{:?}", facts.history);
    // And what every user is told to do then helps.
    let ended = host.call(&["thaw"]);
    assert!(ended.code == Some(0) && ended.out.contains("writes resumed"), "{ended:?}");
    assert!(!host.engine.frozen());
}
