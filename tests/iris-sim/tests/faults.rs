//! Each fault does what its line in `iris-sim ctl --list` says.

#![allow(clippy::disallowed_methods, reason = "the model is outside the agent's doors")]

mod common;
use common::{Sim, end, pause, until, verify};

const FREEZE: &str = "##Class(Backup.General).ExternalFreeze()";
const THAW: &str = "##Class(Backup.General).ExternalThaw()";

#[test]
fn a_killed_client_takes_its_freeze_along() {
    let sim = Sim::start(&[]);
    sim.ctl(&["freeze_hang=1"]);
    let mut client = sim.spawn_call(FREEZE);
    until("the freeze is called", || sim.happened("freeze_called"));
    client.kill().expect("kill");
    client.wait().expect("wait");
    until("the freeze is given up", || sim.happened("freeze_done"));
    assert!(!sim.suspended() && !sim.happened("suspended"));
}

#[test]
fn a_freeze_can_outlive_its_client_and_come_late() {
    let sim = Sim::start(&[]);
    sim.ctl(&["freeze_hang=1", "freeze_after_client_died=1", "freeze_late_ms=300"]);
    let mut client = sim.spawn_call(FREEZE);
    until("the freeze is called", || sim.happened("freeze_called"));
    client.kill().expect("kill");
    client.wait().expect("wait");
    assert_eq!(sim.call(THAW).code, 5, "this thaw comes too early");
    assert!(!sim.suspended());
    until("the old freeze freezes", || sim.suspended());
    assert_eq!(sim.call(THAW).code, 5);
    assert!(!sim.suspended());
}

#[test]
fn a_hanging_freeze_goes_on_when_told() {
    let sim = Sim::start(&[]);
    sim.ctl(&["freeze_hang=1"]);
    let mut client = sim.spawn_call(FREEZE);
    pause(200);
    assert!(client.try_wait().expect("wait").is_none());
    sim.ctl(&["freeze_hang=0"]);
    assert_eq!(client.wait().expect("wait").code(), Some(5));
    assert!(sim.suspended());
}

#[test]
fn a_lost_reply_leaves_the_system_frozen() {
    let sim = Sim::start(&[]);
    sim.ctl(&["freeze_reply_lost=1"]);
    let mut client = sim.spawn_call(FREEZE);
    until("it is frozen", || sim.suspended());
    pause(100);
    assert!(client.try_wait().expect("wait").is_none(), "nobody is told");
    client.kill().expect("kill");
    client.wait().expect("wait");
    assert!(sim.suspended());
}

#[test]
fn failures_answer_3_or_1_and_leave_the_system_as_it_was() {
    let sim = Sim::start(&[]);
    sim.ctl(&["freeze_fail=System failed to quiesce"]);
    let failed = sim.call(FREEZE);
    assert_eq!(failed.code, 3);
    assert!(failed.out.contains("System failed to quiesce"));
    assert!(!sim.suspended());
    sim.ctl(&["freeze_fail=", "native_freeze_fail=1"]);
    assert_eq!(sim.iris(&["freeze", "IRIS"]).code, 1);
    assert_eq!(sim.call(FREEZE).code, 5);
    sim.ctl(&["thaw_fail=1", "native_thaw_fail=1", "irisstat_w_fail=1"]);
    assert_eq!(sim.call(THAW).code, 3);
    assert_eq!(sim.iris(&["thaw", "IRIS"]).code, 1);
    sim.iris(&["stat", "IRIS", "-W"]);
    assert!(sim.suspended(), "all rungs are refused");
    sim.ctl(&["native_thaw_fail=0"]);
    assert_eq!(sim.iris(&["thaw", "IRIS"]).code, 0);
    assert!(!sim.suspended());
}

#[test]
fn forced_exit_codes_do_not_change_what_happens() {
    let sim = Sim::start(&[]);
    sim.ctl(&["freeze_exit=42", "thaw_exit=0", "issuspended_exit=17"]);
    assert_eq!(sim.call(FREEZE).code, 42);
    assert!(sim.suspended());
    assert_eq!(sim.suspended_exit(), 17);
    assert_eq!(sim.call(THAW).code, 0);
    assert!(!sim.suspended());
}

#[test]
fn logins_can_be_refused_or_hang_and_a_thaw_needs_none() {
    let sim = Sim::start(&[]);
    sim.call(FREEZE);
    sim.ctl(&["login=refused"]);
    let refused = sim.call("##Class(Backup.General).IsWDSuspendedExt()");
    assert!(refused.code != 5 && refused.code != 3 && refused.out.contains("Access Denied"));
    sim.ctl(&["login=hang"]);
    let mut hangs = sim.spawn_call(FREEZE);
    pause(200);
    assert!(hangs.try_wait().expect("wait").is_none());
    assert_eq!(sim.call(THAW).code, 5);
    hangs.kill().expect("kill");
    hangs.wait().expect("wait");
    sim.ctl(&["login=ok"]);
    assert_eq!(sim.suspended_exit(), 3);
}

#[test]
fn a_starting_instance_answers_239_and_a_down_one_is_down() {
    let sim = Sim::start(&[]);
    sim.ctl(&["state=starting"]);
    let call = sim.call(FREEZE);
    assert_eq!(call.code, 239);
    assert_eq!(call.out, "Sign-on inhibited: Startup or Installation in progress\n");
    assert!(sim.iris(&["list"]).out.contains("status:       starting"));
    assert!(sim.iris(&["qall"]).out.contains("\nst >IRIS"));
    sim.ctl(&["state=down"]);
    assert_eq!(sim.call(FREEZE).code, 1);
    assert!(sim.iris(&["qlist"]).out.contains("^down^"));
    sim.ctl(&["state=ok"]);
    assert_eq!(sim.iris(&["stop", "IRIS", "quietly"]).code, 0);
    assert_eq!(sim.call(FREEZE).code, 1);
    assert!(sim.iris(&["qlist"]).out.contains("^down, last used "));
    assert!(sim.iris(&["qall"]).out.contains("\ndn >IRIS"));
}

#[test]
fn a_full_disk_fails_the_freeze_by_log_or_by_journal() {
    let sim = Sim::start(&[]);
    sim.ctl(&["disk_full=1"]);
    let failed = sim.call("##Class(Backup.General).ExternalFreeze(\"f.log\")");
    assert_eq!(failed.code, 3);
    assert!(failed.out.contains("Failed to open logfile") && failed.out.contains("f.log for output"), "{}", failed.out);
    sim.ctl(&["disk_full=journal"]);
    let failed = sim.call(FREEZE);
    assert_eq!(failed.code, 3);
    assert!(failed.out.contains("Failed to switch journal file. Status = "), "{}", failed.out);
    assert!(!sim.suspended());
    sim.ctl(&["disk_full=0"]);
    let real = sim.call("##Class(Backup.General).ExternalFreeze(\"/nowhere/f.log\")");
    assert_eq!(real.code, 3, "a log that cannot be opened is an error without any fault");
}

#[test]
fn a_panic_of_the_write_daemon_tears_a_frozen_image() {
    let sim = Sim::start(&[]);
    let load = sim.workload(&[]);
    pause(300);
    sim.call(FREEZE);
    let (code, report) = verify(&sim.copy_to("before"));
    assert_eq!(code, 0, "{report}");
    until("blocks are dirty", || sim.state()["dirty"].as_u64() > Some(0));
    sim.ctl(&["wd_panic=1"]);
    until("it panics", || sim.happened("wd_panic"));
    let log = sim.messages();
    assert!(log.contains("WRTDMN Panic: SFN ") && log.contains(" written directly to database"), "{log}");
    let (code, report) = verify(&sim.copy_to("after"));
    assert_eq!(code, 1, "{report}");
    sim.call(THAW);
    end(load);
}

#[test]
fn a_rotated_log_begins_anew() {
    let sim = Sim::start(&[]);
    sim.call(FREEZE);
    sim.ctl(&["rotate_log=1"]);
    until("it is rotated", || sim.messages().is_empty());
    sim.call(THAW);
    let log = sim.messages();
    assert!(log.ends_with("ExternalThaw: System resumed\n") && !log.contains("ExternalFreeze"), "{log}");
    let old = std::fs::read_dir(sim.instance().join("mgr"))
        .expect("mgr")
        .flatten()
        .any(|e| e.file_name().to_string_lossy().starts_with("messages.old_"));
    assert!(old);
}

#[test]
fn another_tool_can_thaw_and_freeze_again() {
    let sim = Sim::start(&[]);
    sim.call("##Class(Backup.General).ExternalFreeze(\"ours.log\")");
    sim.iris(&["thaw", "IRIS"]);
    sim.iris(&["freeze", "IRIS"]);
    assert_eq!(sim.suspended_exit(), 5, "memory alone would not notice");
    let log = sim.messages();
    assert_eq!(log.matches("ExternalFreeze: System suspended").count(), 2);
    assert_eq!(log.matches("ExternalThaw: System resumed").count(), 1);
}

#[test]
fn an_unknown_key_is_an_error() {
    let sim = Sim::start(&[]);
    let ran = common::run(std::process::Command::new(common::SIM).args(["ctl", "--root"]).arg(&sim.root).args(["IRIS", "freeez=1"]));
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("no such key: freeez"));
}
