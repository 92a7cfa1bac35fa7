//! Every exit code of the contract that a host can give comes from the binary here, and every error path leaves the
//! database as it was: nothing lost, nothing frozen, by the engine's own history.
#![allow(clippy::disallowed_methods, reason = "a test host stands outside the agent's doors")]

mod agent;
mod codes;
mod refusals;

use suite::host::{Ended, Host, Setup, What};

/// Room enough for a loaded machine: these tests are about answers, not about times.
fn calm() -> Setup {
    Setup {
        hold_ms: 6_000,
        window: "wd_suspend_limit = \"25s\"\n".into(),
        margins: "watchdog = \"1s\"\nthaw_budget = \"3s\"\nfreeze = \"4s\"\nrung = \"2s\"\nguard = \"1s\"\n".into(),
        workload: false,
        ..Setup::default()
    }
}

fn host() -> Host {
    Host::iris(calm())
}

/// Exit code and stable name.
#[track_caller]
fn ends(e: &Ended, code: i32, name: &str) {
    assert!(e.code == Some(code) && format!("{}{}", e.out, e.err).contains(name), "not {code} {name}: {e:#?}");
}

/// By the engine's history: how often it was frozen, and that every freeze has ended.
#[track_caller]
fn frozen_times(host: &Host, times: usize) {
    host.until("the thaw", 15_000, || !host.engine.frozen());
    let count = |w: What| host.engine.history().iter().filter(|h| h.what == w).count();
    assert_eq!(count(What::Frozen), times, "{:?}", host.engine.history());
    assert_eq!(count(What::Frozen), count(What::Thawed) + count(What::LimitThawed), "{:?}", host.engine.history());
}

/// The host is as good as new.
#[track_caller]
fn works_again(host: &Host) {
    host.until("an idle agent", 20_000, || host.phase() == "idle");
    let e = host.call(&["rehearse", "--hold", "6s"]);
    assert_eq!(e.code, Some(0), "{e:#?}\n{}", host.agent_log());
    assert!(!host.engine.frozen());
    host.until("no watchdog", 10_000, || host.watchdogs().is_empty());
}

#[track_caller]
fn freeze(host: &Host, id: &str) {
    let e = host.call(&["freeze", "--no-sync", "--id", id, "--json"]);
    assert_eq!(e.code, Some(0), "{e:#?}\n{}", host.agent_log());
    assert!(host.engine.frozen(), "told frozen, but it is not");
}
