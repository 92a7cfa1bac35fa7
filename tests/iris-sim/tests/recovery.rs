//! Crash, start, restore: no committed transaction is lost, no open one stays; an image of a freeze is
//! clean, a plain copy of a busy instance is not.

#![allow(clippy::disallowed_methods, reason = "the model is outside the agent's doors")]

mod common;
use common::{SIM, Sim, end, fixture, pause, run, until, verify};
use serde_json::Value;
use std::process::Command;

/// Each worker's last recorded commit is in the recovered state, and nothing that was never tried is.
fn nothing_lost(sim: &Sim, report: &Value) {
    let record = sim.record();
    assert!(!record.is_empty(), "the workload committed something");
    for (worker, committed) in record {
        let found = report["recovered"]["seq"][&worker].as_u64().unwrap_or(0);
        // A commit may be done and its line not yet written.
        assert!(found == committed || found == committed + 1, "worker {worker}: recorded {committed}, found {found}");
    }
    assert_eq!(report["recovered"]["sum"], 0, "{report}");
}

#[test]
fn a_crash_loses_no_commit_and_leaves_nothing_open() {
    let sim = Sim::start(&[]);
    for round in 0..3 {
        let load = sim.workload(&["--seed", &round.to_string()]);
        pause(400);
        assert_eq!(sim.iris(&["force", "IRIS"]).code, 0);
        end(load);
        let (code, report) = verify(&sim.instance());
        assert_eq!(code, 0, "crash-consistent: {report}");
        nothing_lost(&sim, &report);
        assert!(report["recovered"]["rolled_back"].as_u64() > Some(0), "the keeper's transaction was open: {report}");
        assert_eq!(sim.iris(&["start", "IRIS"]).code, 0);
        assert_eq!(sim.iris(&["stop", "IRIS", "quietly"]).code, 0);
        let (code, report) = verify(&sim.instance());
        assert_eq!((code, &report["recovered"]["rolled_back"]), (0, &Value::from(0)), "{report}");
        nothing_lost(&sim, &report);
        assert_eq!(sim.iris(&["start", "IRIS"]).code, 0);
    }
}

#[test]
fn a_crash_in_a_freeze_recovers_too() {
    let sim = Sim::start(&[]);
    let load = sim.workload(&[]);
    pause(300);
    sim.call("##Class(Backup.General).ExternalFreeze()");
    pause(300);
    sim.iris(&["force", "IRIS"]);
    end(load);
    assert_eq!(sim.iris(&["start", "IRIS"]).code, 0);
    assert!(!sim.suspended(), "a suspension does not outlive the instance");
    sim.iris(&["stop", "IRIS"]);
    let (code, report) = verify(&sim.instance());
    assert_eq!(code, 0, "{report}");
    nothing_lost(&sim, &report);
}

/// Data Integrity Guide: the journal's positions are in the WIJ.
#[test]
fn without_its_wij_an_image_is_clean_and_its_start_recovers_nothing() {
    let sim = Sim::start(&[]);
    let load = sim.workload(&[]);
    pause(300);
    assert_eq!(sim.call("##Class(Backup.General).ExternalFreeze(\"\",\"\",1,,,,600,,,300)").code, 5);
    let image = sim.copy_to("image");
    assert_eq!(sim.call("##Class(Backup.General).ExternalThaw()").code, 5);
    end(load);
    let (code, report) = verify(&image);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["frozen_image"], true);
    assert_eq!(report["pending_blocks"], 0);
    assert!(report["recovered"]["rolled_back"].as_u64() > Some(0), "the keeper's transaction was open: {report}");
    std::fs::remove_file(image.join("wij/IRIS.WIJ")).expect("remove the image's WIJ");
    let (code, report) = verify(&image);
    assert_eq!(code, 0, "{report}");
    sim.iris(&["stop", "IRIS"]);
    std::fs::remove_dir_all(sim.instance()).expect("the disaster");
    std::fs::rename(&image, sim.instance()).expect("the restore");
    // For the administrator it ends in single-user mode.
    let ran = sim.iris(&["start", "IRIS", "EmergencyId=me,secret"]);
    assert!(ran.code == 1 && ran.out.contains("entering single user mode"), "{}", ran.out);
    assert!(sim.messages().contains("D ^STURECOV"));
    assert_eq!(sim.suspended_exit(), 239, "nobody gets in");
    let menu = sim.admin("do ^STURECOV\n9\n8\n\n");
    assert!(menu.contains("8) Reset system so journal is not restored at startup") && menu.contains("iris force"), "{menu}");
    assert!(menu.contains("is disabled for the next startup"), "{menu}");
    assert_eq!(sim.iris(&["force", "IRIS"]).code, 0);
    assert_eq!(sim.iris(&["start", "IRIS", "EmergencyId=me,secret"]).code, 0, "{}", sim.messages());
    assert_eq!(sim.suspended_exit(), 1, "an ordinary login is refused");
    let start = sim.history().into_iter().rfind(|e| e["event"] == "start").expect("a start");
    assert_eq!((&start["replayed"], &start["rolled_back"]), (&Value::from(0), &Value::from(0)), "nothing was recovered");
    sim.iris(&["stop", "IRIS"]);
    let (_, report) = verify(&sim.instance());
    assert_ne!(report["recovered"]["sum"], 0, "what was open stays half done: {report}");
}

#[test]
fn nine_in_ten_plain_copies_of_a_busy_instance_are_torn() {
    const TRIES: usize = 20;
    let sim = Sim::start(&["--blocks", "2048"]);
    let load = sim.workload(&[]);
    pause(300);
    let torn = (0..TRIES).filter(|_| verify(&sim.copy_to("copy")).0 == 1).count();
    let mut clean = 0;
    for _ in 0..TRIES {
        assert_eq!(sim.iris(&["freeze", "IRIS"]).code, 0);
        let (code, report) = verify(&sim.copy_to("copy"));
        assert_eq!(code, 0, "{report}");
        clean += 1;
        assert_eq!(sim.iris(&["thaw", "IRIS"]).code, 0);
    }
    end(load);
    println!("{torn} of {TRIES} unfrozen copies torn, {clean} of {TRIES} frozen copies clean");
    // The figure proper is that of tests/torn.rs; here the machine's load has a say.
    assert!(torn * 10 >= TRIES * 7, "only {torn} of {TRIES}");
}

#[test]
fn a_write_daemon_that_ignores_the_suspension_is_found_out() {
    let sim = Sim::start(&["--blocks", "2048"]);
    let load = sim.workload(&[]);
    sim.ctl(&["wd_ignore=1"]);
    pause(300);
    let mut torn = 0;
    for _ in 0..10 {
        sim.iris(&["freeze", "IRIS"]);
        torn += usize::from(verify(&sim.copy_to("copy")).0 == 1);
        sim.iris(&["thaw", "IRIS"]);
    }
    end(load);
    assert!(torn >= 5, "only {torn} of 10");
}

#[test]
fn required_file_is_the_oldest_journal_with_an_open_transaction() {
    let _ = fixture("backup-2024.1.log");
    let sim = Sim::start(&[]);
    let before = sim.state()["journal"].as_str().expect("a path").to_string();
    let load = sim.workload(&["--threads", "1", "--hold-ms", "60000", "--rate", "50"]);
    until("the keeper has begun", || sim.state()["open_transactions"].as_u64() > Some(0) && sim.state()["commits"].as_u64() > Some(3));
    let ran = sim.script("s sc=##class(Backup.General).ExternalFreeze(\"\",\"\",1,,,,,,,,.req) w \"<\",sc,\"|\",req,\"|\",##class(%SYS.Journal.System).GetCurrentFileName(),\">\"\n");
    sim.call("##Class(Backup.General).ExternalThaw()");
    end(load);
    let inside = ran.out.split_once('<').and_then(|(_, rest)| rest.split_once('>')).expect("the values").0;
    let parts: Vec<&str> = inside.split('|').collect();
    assert_eq!(parts[0], "1");
    assert_eq!(parts[1], before, "the journal before the switch is required");
    assert!(parts[2] > parts[1], "{inside}");
}

#[test]
fn an_image_without_its_required_journal_says_so() {
    let sim = Sim::start(&[]);
    let load = sim.workload(&["--hold-ms", "60000"]);
    pause(300);
    sim.iris(&["freeze", "IRIS"]);
    let image = sim.copy_to("image");
    sim.iris(&["thaw", "IRIS"]);
    end(load);
    let mut journals: Vec<_> = std::fs::read_dir(image.join("journal1")).expect("journals").flatten().map(|e| e.path()).collect();
    journals.sort();
    std::fs::remove_file(&journals[0]).expect("remove the oldest");
    let (code, report) = verify(&image);
    assert_eq!(code, 1);
    assert!(report["problems"][0].as_str().expect("a text").contains("journals do not cover the image"), "{report}");
}

#[test]
fn verify_of_nothing_is_a_usage_error() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(verify(dir.path()).0, 2);
    assert_eq!(run(Command::new(SIM).args(["verify", "/nowhere"])).code, 2);
    assert_eq!(run(Command::new(SIM).arg("verify")).code, 2);
}

#[test]
fn a_server_ends_when_its_root_is_gone() {
    let sim = Sim::start(&[]);
    let pid = sim.state()["pid"].as_u64().expect("a pid");
    std::fs::remove_dir_all(&sim.root).expect("remove the root");
    until("the server ends", || !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|t| !t.contains(") Z")));
}

#[test]
fn an_image_starts_elsewhere_once_it_is_adopted() {
    let sim = Sim::start(&[]);
    sim.script("set ^prebackup=1\n");
    let load = sim.workload(&[]);
    pause(300);
    sim.iris(&["freeze", "IRIS"]);
    let image = sim.copy_to("image");
    sim.script("set ^postbackup=1\n");
    sim.iris(&["thaw", "IRIS"]);
    end(load);
    let mut adopt = Command::new(SIM);
    adopt.args(["adopt", "--name", "IRIS2", "--root"]).arg(&sim.root).arg("--image").arg(&image);
    assert_eq!(run(&mut adopt).code, 0);
    assert_eq!(sim.iris(&["start", "IRIS2"]).code, 0, "both run at the same time");
    let script = "write \"<<\",$get(^prebackup),\",\",$get(^postbackup,\"none\"),\">>\"\n";
    let mut other = Command::new("sh");
    other.arg("-c").arg(format!("printf '%s' '{script}' | {} session IRIS2 -U%SYS", sim.bin("iris").display()));
    let out = run(&mut other).out;
    assert!(out.contains("<<1,none>>"), "{out}");
    assert!(sim.script(script).out.contains("<<1,1>>"), "the source goes on");
    assert_eq!(sim.iris(&["stop", "IRIS2"]).code, 0);
    assert_eq!(verify(&image).0, 0);
}

#[test]
fn closed_journals_may_be_called_z_and_still_count() {
    let sim = Sim::start(&["--compress"]);
    let load = sim.workload(&[]);
    pause(200);
    sim.iris(&["freeze", "IRIS"]);
    let image = sim.copy_to("image");
    sim.iris(&["thaw", "IRIS"]);
    sim.iris(&["force", "IRIS"]);
    end(load);
    let names: Vec<String> = std::fs::read_dir(image.join("journal1"))
        .expect("journals")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().any(|n| n.ends_with(".001z")) && names.iter().any(|n| n.ends_with(".002")), "{names:?}");
    assert_eq!(verify(&image).0, 0);
    assert_eq!(sim.iris(&["start", "IRIS"]).code, 0);
    sim.iris(&["stop", "IRIS"]);
    let (code, report) = verify(&sim.instance());
    assert_eq!(code, 0, "{report}");
    nothing_lost(&sim, &report);
}

#[test]
fn two_servers_never_share_files_and_an_emergency_start_is_for_the_administrator() {
    let sim = Sim::start(&[]);
    let mut second = Command::new(SIM);
    second.args(["server", "--name", "IRIS", "--root"]).arg(&sim.root);
    let ran = run(&mut second);
    assert!(ran.code == 1 && ran.out.contains("another server runs this instance"), "{}", ran.out);
    sim.iris(&["stop", "IRIS", "quietly"]);
    assert_eq!(sim.iris(&["start", "IRIS", "EmergencyId=me,secret"]).code, 0);
    assert_eq!(sim.suspended_exit(), 1);
    let call = ["session", "IRIS", "-B", "-U%SYS", "##Class(Backup.General).IsWDSuspendedExt()"];
    assert_eq!(sim.iris(&call).code, 3);
    assert_eq!(sim.iris(&["stop", "IRIS", "quietly", "restart"]).code, 0);
    assert_eq!(sim.suspended_exit(), 3);
}

#[test]
fn journals_roll_at_their_size() {
    let sim = Sim::start(&["--journal-mb", "1"]);
    let load = sim.workload(&["--rate", "3000"]);
    let first = sim.state()["journal"].clone();
    until("the journal rolls", || sim.state()["journal"] != first);
    end(load);
    let out = sim.script("w \"<<\",##class(%SYS.Journal.File).GetReason(##class(%SYS.Journal.System).GetCurrentFileName()),\">>\"\n").out;
    assert!(out.contains("<<file size limit reached>>"), "{out}");
    sim.iris(&["stop", "IRIS"]);
    assert_eq!(verify(&sim.instance()).0, 0);
}
