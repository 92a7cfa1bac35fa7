//! ExternalFreezeTimeOut, WDSuspendLimit, finite buffers, credentials: what the class documentation says,
//! in scaled seconds.

mod common;
use common::{Sim, end, pause, until};

const THAW: &str = "##Class(Backup.General).ExternalThaw(0)";

/// Freeze with ExternalFreezeTimeOut and WDSuspendLimit.
fn freeze(timeout: &str, limit: &str) -> String {
    format!("##Class(Backup.General).ExternalFreeze(\"\",\"\",1,,,,{timeout},,,{limit})")
}

#[test]
fn the_limit_resumes_and_a_thaw_afterwards_says_already_resumed() {
    let sim = Sim::start(&["--time-scale", "0.01"]);
    assert_eq!(sim.call(&freeze("600", "30")).code, 5);
    assert!(sim.suspended());
    until("the limit of 0.3 s resumes", || !sim.suspended());
    assert!(sim.happened("limit_resumed"));
    assert_eq!(sim.suspended_exit(), 3);
    let thaw = sim.call(THAW);
    assert_eq!(thaw.code, 5, "exit 5 is no proof");
    assert!(thaw.out.ends_with("Backup.General.ExternalThaw: Already resumed\n"), "{}", thaw.out);
    assert!(!thaw.out.contains("System resumed"));
}

#[test]
fn the_limit_comes_when_it_is_due() {
    let sim = Sim::start(&[]);
    assert_eq!(sim.call(&freeze("600", "1")).code, 5);
    until("the limit resumes", || !sim.suspended());
    let at = |event: &str| sim.history().iter().find(|e| e["event"] == event).and_then(|e| e["t_ms"].as_f64()).expect("it happened");
    let took = at("limit_resumed") - at("suspended");
    assert!((1000.0..3000.0).contains(&took), "{took} ms");
}

#[test]
fn after_the_time_out_updates_block_and_logins_hang_but_the_write_daemon_stays_suspended() {
    let sim = Sim::start(&["--time-scale", "0.01"]);
    let load = sim.workload(&["--hold-ms", "0", "--readers", "1"]);
    pause(200);
    assert_eq!(sim.call(&freeze("20", "0")).code, 5);
    until("updates block", || sim.state()["blocked"] == true);
    assert!(sim.suspended(), "the time-out does not thaw");
    until("the workload is stalled", || sim.state()["stalled_now"].as_u64() > Some(0));
    let mut login = sim.spawn_call("##Class(Backup.General).IsWDSuspendedExt()");
    pause(300);
    assert!(login.try_wait().expect("wait").is_none(), "a new login hangs");
    assert_eq!(sim.call(THAW).code, 5, "the thaw needs no login");
    assert_eq!(login.wait().expect("wait").code(), Some(3), "the login goes on after the thaw");
    until("updates go on", || sim.state()["stalled_now"] == 0);
    pause(100);
    let words = end(load);
    assert!(words["longest_stall_ms"].as_f64() > Some(250.0), "{words}");
    assert!(words["longest_read_ms"].as_f64() < words["longest_stall_ms"].as_f64(), "who only reads is never blocked: {words}");
    assert!(words["reads"].as_u64() > Some(20), "{words}");
    assert!(sim.happened("updates_stalled") && sim.happened("updates_resumed"));
}

#[test]
fn irisstat_w_works_while_logins_hang() {
    let sim = Sim::start(&["--time-scale", "0.001"]);
    sim.call(&freeze("10", "0"));
    until("updates block", || sim.state()["blocked"] == true);
    assert_eq!(sim.iris(&["stat", "IRIS", "-W"]).code, 0);
    assert!(!sim.suspended());
    assert_eq!(sim.suspended_exit(), 3);
}

#[test]
fn a_time_out_over_1200_s_is_cut_and_0_is_600() {
    let sim = Sim::start(&["--time-scale", "0.001"]);
    for (given, seconds) in [("5000", 1200.0), ("0", 600.0)] {
        let before = sim.history().len();
        sim.call(&freeze(given, "0"));
        until("updates block", || sim.state()["blocked"] == true);
        sim.call(THAW);
        let events = sim.history().split_off(before);
        let at = |event: &str| events.iter().find(|e| e["event"] == event).and_then(|e| e["t_ms"].as_f64()).expect("it happened");
        let took = at("timeout_blocked") - at("suspended");
        assert!((seconds..seconds + 2000.0).contains(&took), "{given}: {took} ms");
    }
}

#[test]
fn buffers_run_out_in_a_freeze_and_updates_wait_for_the_thaw() {
    let sim = Sim::start(&["--buffers", "60"]);
    let load = sim.workload(&[]);
    pause(200);
    sim.call(&freeze("600", "0"));
    until("all buffers are dirty", || sim.state()["stalled_now"].as_u64() >= Some(4));
    let state = sim.state();
    assert!(state["dirty"].as_u64() >= Some(50) && state["blocked"] == false, "{state}");
    pause(300);
    let commits = state["commits"].clone();
    assert_eq!(sim.state()["commits"], commits, "nothing commits meanwhile");
    sim.call(THAW);
    until("updates go on", || sim.state()["commits"].as_u64() > commits.as_u64());
    let words = end(load);
    assert!(words["longest_stall_ms"].as_f64() > Some(300.0), "{words}");
}

#[test]
fn whoever_froze_with_credentials_must_thaw_with_them() {
    let sim = Sim::start(&[]);
    assert_eq!(sim.call(r#"##Class(Backup.General).ExternalFreeze("","",,,,,,"anna","secret")"#).code, 5);
    for wrong in ["", r#""","anna","wrong""#, r#""","bert","secret""#] {
        assert_eq!(sim.call(&format!("##Class(Backup.General).ExternalThaw({wrong})")).code, 3, "{wrong}");
        assert!(sim.suspended(), "on an error the system may still be suspended");
    }
    assert_eq!(sim.call(r#"##Class(Backup.General).ExternalThaw("","anna","secret")"#).code, 5);
    assert!(!sim.suspended());
}

#[test]
fn a_second_freeze_fails_with_the_vendors_text_and_the_first_stays() {
    let sim = Sim::start(&[]);
    assert_eq!(sim.call(&freeze("600", "0")).code, 5);
    let second = sim.call(&freeze("600", "0"));
    assert_eq!(second.code, 3);
    assert!(second.out.contains("Backup.General.ExternalFreeze cannot run with switch 10 or 13 already set"));
    assert!(sim.suspended());
    assert_eq!(sim.iris(&["freeze", "IRIS"]).code, 1);
    sim.call(THAW);
    sim.ctl(&["switch10=1"]);
    assert_eq!(sim.call(&freeze("600", "0")).code, 3);
    assert!(!sim.suspended());
}

#[test]
fn delays_are_the_settings() {
    let sim = Sim::start(&[]);
    sim.ctl(&["freeze_delay_ms=300", "thaw_delay_ms=200", "login_delay_ms=100"]);
    sim.call(&freeze("600", "0"));
    sim.call(THAW);
    let events = sim.history();
    let at = |event: &str| events.iter().find(|e| e["event"] == event).and_then(|e| e["t_ms"].as_f64()).expect("it happened");
    let froze = at("freeze_done") - at("freeze_called");
    let thawed = at("thaw_done") - at("thaw_called");
    assert!((300.0..2000.0).contains(&froze), "{froze}");
    assert!((200.0..2000.0).contains(&thawed), "{thawed}");
    assert!(at("resumed") - at("thaw_called") < 150.0, "the write daemon resumes first");
}
