//! What the plug-in host does to its scripts.

use super::bed::{Bed, root, said};
use plugin_host::{Ended, code};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};
use suite::host::{Reply, new_id, signal};

const NO_SNAPSHOT: fn(bool) -> bool = |_| panic!("no snapshot may be made");

#[test]
fn pre_and_post_make_a_recovery_point_application_consistent() {
    if !root("pre_and_post_make_a_recovery_point_application_consistent") {
        return;
    }
    let b = Bed::new("");
    assert_eq!(b.complaints(), [""; 0], "the shipped files are good");
    for n in 1..=2 {
        let mut seen = (false, 0, false);
        let o = b.azure().backup(|fs| {
            seen = (b.h.engine.frozen(), b.h.watchdogs().len(), fs);
            true
        });
        assert!(o.app_consistent() && o.snapshot, "{} {:?} {:?}", o.code, o.pre, o.post);
        // The pipes of pre are closed by now: the watchdog does not depend on them.
        assert_eq!(seen, (true, 1, true));
        b.frozen_times(n);
        let records = b.records();
        assert_eq!(records.len(), n);
        let r = &records[n - 1];
        assert_eq!((&r["exit"], &r["type"], &r["window"]["state"]["state"]), (&json!(0), &json!("azure-backup"), &json!("unbroken")));
        assert_eq!(r["id"], r["window"]["backup_id"]);
        assert!(r["window"]["marks"][0]["marks"][0].is_object() && r["says"].as_str().unwrap().contains("application-consistent"), "{r}");
    }
}

#[test]
fn one_short_line_is_said_and_arguments_of_no_text_are_passed_over() {
    if !root("one_short_line_is_said_and_arguments_of_no_text_are_passed_over") {
        return;
    }
    let b = Bed::new("");
    for (stage, code) in [("pre", 0), ("post", 0), ("post", 1)] {
        let o = b.call(stage);
        assert_eq!(o.status.code() == Some(0), code == 0, "{}", said(&o));
        let all = o.stdout.len() + o.stderr.len();
        assert!((1..1_024).contains(&all), "{all} bytes: {}", said(&o));
        if code == 0 {
            assert_eq!((o.stdout.iter().filter(|c| **c == b'\n').count(), o.stderr.len()), (1, 0), "{}", said(&o));
        }
    }
    // Another argument is somebody's mistake: nothing is frozen for it.
    b.set("preScriptParams", json!(["--hold", "5s"]));
    b.set("continueBackupOnFailure", json!(false));
    let o = b.azure().backup(NO_SNAPSHOT);
    assert_eq!((o.code, o.pre), (code::PRE_FAILED, Some(Ended::With(Some(2)))));
    b.frozen_times(1);
}

#[test]
fn a_pre_that_fails_leaves_nothing_frozen_and_says_why_in_the_record() {
    if !root("a_pre_that_fails_leaves_nothing_frozen_and_says_why_in_the_record") {
        return;
    }
    let b = Bed::new("");
    b.h.engine.sim().ctl(&["freeze_fail=System failed to quiesce"]);
    // As shipped: no recovery point. With continueBackupOnFailure there is one, and it is not called consistent.
    let o = b.azure().backup(NO_SNAPSHOT);
    assert_eq!((o.code, o.pre), (code::PRE_FAILED, Some(Ended::With(Some(6)))));
    b.set("continueBackupOnFailure", json!(true));
    let o = b.azure().backup(|_| true);
    assert_eq!((o.code, o.snapshot), (code::SUCCESS, true));
    b.h.engine.sim().ctl(&["freeze_fail="]);
    let records = b.records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|r| r["exit"] != 0 && r["pre"]["code"] == "Freeze.Failed"), "{records:#?}");
    // Frozen by another tool: refused, and left to it.
    assert_eq!(b.h.engine.sim().other_tool("ExternalFreeze()"), Some(5));
    let o = b.azure().backup(|_| true);
    assert!(!o.app_consistent() && b.h.engine.frozen());
    assert_eq!(b.records().last().unwrap()["pre"]["code"], "Freeze.Refused.AlreadyFrozen");
    assert_eq!(b.h.engine.sim().other_tool("ExternalThaw()"), Some(5));
    b.frozen_times(1);
}

#[test]
fn pre_ends_by_itself_before_azure_gives_it_up() {
    if !root("pre_ends_by_itself_before_azure_gives_it_up") {
        return;
    }
    let b = Bed::new("");
    b.h.engine.sim().ctl(&["freeze_delay_ms=60000"]);
    let begun = Instant::now();
    let o = b.azure().backup(NO_SNAPSHOT);
    assert!(o.code == code::PRE_FAILED && o.orphans.is_empty(), "{}: not 308", o.code);
    assert!(begun.elapsed() < Duration::from_secs(40));
    assert_eq!(b.records()[0]["pre"]["code"], "Freeze.TimedOut");
    b.h.engine.sim().ctl(&["freeze_delay_ms="]);
    b.frozen_times(0);
}

/// Its orphan comes to itself after post: the tombstone, the turn and the deadline keep its freeze out.
#[test]
fn a_late_orphan_freezes_nothing() {
    if !root("a_late_orphan_freezes_nothing") {
        return;
    }
    let b = Bed::new("");
    b.h.points.begin(|seen| if seen.name == "caller.freeze.before" { Reply::Hold } else { Reply::Go });
    let mut o = b.azure().backup(|_| true);
    assert_eq!((o.code, o.pre, o.orphans.len()), (code::PRE_TIMEOUT, Some(Ended::TimedOut), 1));
    assert!(matches!(o.post, Some(Ended::With(Some(c))) if c != 0), "{:?}", o.post);
    b.h.points.let_go();
    let status = o.orphans.remove(0).wait().unwrap();
    assert!(!status.success(), "{status}");
    b.frozen_times(0);
    assert!(b.h.engine.history().is_empty(), "not for a moment: {:?}", b.h.engine.history());

    // Late before it did anything: the shell slept. Its time counts from the shell's start.
    b.script("pre", &format!("sleep 12\n{}", b.wrapper("pre")));
    let mut o = b.azure().backup(|_| true);
    assert_eq!(o.code, code::PRE_TIMEOUT);
    assert!(!o.orphans.remove(0).wait().unwrap().success());
    assert!(b.h.engine.history().is_empty(), "{:?}", b.h.engine.history());

    // The control: without `exec` it counts from a later moment, freezes with no post to come, and `check` warns of it.
    b.script("pre", &format!("sleep 12\n{}", b.wrapper("pre").replace("\nexec ", "\n")));
    assert!(b.complaints().iter().any(|c| c.contains("does not `exec")), "{:?}", b.complaints());
    let mut o = b.azure().backup(|_| true);
    assert_eq!(o.code, code::PRE_TIMEOUT);
    let _ = o.orphans.remove(0).wait().unwrap();
    assert!(b.h.engine.frozen());
    assert_eq!(b.call("post").status.code(), Some(0), "a post by hand thaws it");
    b.frozen_times(1);
}

#[test]
fn a_pre_that_hangs_after_its_freeze_is_thawed_by_post_and_not_called_consistent() {
    if !root("a_pre_that_hangs_after_its_freeze_is_thawed_by_post_and_not_called_consistent") {
        return;
    }
    let b = Bed::new("");
    b.set("continueBackupOnFailure", json!(true));
    b.h.points.begin(|seen| if seen.name == "caller.freeze.after" { Reply::Hold } else { Reply::Go });
    let mut frozen = false;
    let mut o = b.azure().backup(|_| {
        frozen = b.h.engine.frozen();
        true
    });
    assert!(frozen && o.code == code::PRE_TIMEOUT, "the window was open, and nobody had said so");
    assert_eq!(o.post, Some(Ended::With(Some(3))));
    assert!(b.records()[0]["says"].as_str().unwrap().contains("pre did not end in its time"), "{:#?}", b.records());
    b.h.points.let_go();
    assert!(!o.orphans.remove(0).wait().unwrap().success(), "the orphan says no success after its post");
    b.frozen_times(1);
}

#[test]
fn post_without_pre_and_post_twice_thaw_nothing_and_are_no_success() {
    if !root("post_without_pre_and_post_twice_thaw_nothing_and_are_no_success") {
        return;
    }
    let b = Bed::new("");
    let o = b.call("post");
    assert!(!o.status.success() && said(&o).contains("no pre has frozen anything"), "{}", said(&o));
    // Another one's window is not post's to thaw.
    let id = new_id();
    assert_eq!(b.h.call(&["freeze", "--id", &id, "--hold", "30s"]).code, Some(0));
    let o = b.call("post");
    assert!(!o.status.success() && b.h.engine.frozen(), "{}", said(&o));
    assert_eq!(b.h.call(&["thaw", "--id", &id]).code, Some(0));
    assert!(b.azure().backup(|_| true).app_consistent());
    let o = b.call("post");
    assert!(!o.status.success(), "{}", said(&o));
    b.frozen_times(2);
    // Without its turn (a full tmpfs, a lost file) post asks the agent, thaws, and does not know enough for a success.
    // The kernel tells a process's start in ticks of 10 ms, rounded down: one so soon after a post counts as given up.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(b.call("pre").status.code(), Some(0));
    std::fs::remove_file(b.h.run_dir().join("azure-backup")).unwrap();
    let o = b.call("post");
    assert!(o.status.code() == Some(3) && said(&o).contains("pre did not end"), "{}", said(&o));
    b.frozen_times(3);
}

#[test]
fn a_killed_or_ended_pre_leaves_nothing_frozen() {
    if !root("a_killed_or_ended_pre_leaves_nothing_frozen") {
        return;
    }
    let b = Bed::new("");
    for (sig, point) in [
        (Signal::KILL, "caller.freeze.before"),
        (Signal::KILL, "caller.freeze.after"),
        (Signal::TERM, "agent.freezer.before"),
        (Signal::KILL, "agent.freezer.before"),
    ] {
        // This bed's own: other tests have a pre under way at the same time.
        let mark = b.h.points.path().display().to_string();
        let is_pre = |args: &[String]| args.iter().any(|a| a == "azure-backup") && args.iter().any(|a| a == "pre");
        let hook = move || suite::host::with_text(&mark).into_iter().find(|p| is_pre(&p.args)).map(|p| p.pid);
        b.h.points.begin(move |seen| {
            if seen.name == point {
                signal(hook().expect("a pre under way"), sig);
            }
            Reply::Go
        });
        let o = b.azure().backup(NO_SNAPSHOT);
        assert_eq!(o.code, code::PRE_FAILED, "{sig:?} at {point}");
        assert!(b.h.points.has(point));
        b.h.points.clear();
        b.h.until("the thaw", 15_000, || !b.h.engine.frozen());
        b.h.until("an idle agent", 60_000, || b.h.phase() == "idle");
    }
    assert!(b.azure().backup(|_| true).app_consistent(), "and the next one is good");
}

#[test]
fn two_runs_at_once_are_both_no_success() {
    if !root("two_runs_at_once_are_both_no_success") {
        return;
    }
    let b = Bed::new("");
    let mut inner = None;
    let outer = b.azure().backup(|_| {
        inner = Some(b.azure().backup(NO_SNAPSHOT));
        true
    });
    let inner = inner.unwrap();
    assert_eq!((inner.code, inner.pre), (code::PRE_FAILED, Some(Ended::With(Some(4)))));
    assert_eq!(outer.code, code::POST_FAILED, "the inner post has thawed its window");
    b.frozen_times(1);
    assert!(b.records().iter().all(|r| r["exit"] != 0), "{:#?}", b.records());
    assert!(b.azure().backup(|_| true).app_consistent());
}

#[test]
fn a_pre_without_an_agent_leaves_an_open_turn_to_its_post() {
    if !root("a_pre_without_an_agent_leaves_an_open_turn_to_its_post") {
        return;
    }
    let b = Bed::new("");
    let turn = || std::fs::read_to_string(b.h.run_dir().join("azure-backup")).unwrap();
    assert_eq!(b.call("pre").status.code(), Some(0));
    let first = turn();
    assert!(b.h.agent.stop(10_000));
    let o = b.call("pre");
    assert_eq!(o.status.code(), Some(10), "{}", said(&o));
    assert_eq!(turn(), first, "the only name of a window that may be open");
    b.h.start_agent();
    assert!(!b.call("post").status.success());
    assert_ne!(turn(), first);
    b.frozen_times(1);
}

#[test]
fn an_agent_that_is_just_restarting_is_waited_for() {
    if !root("an_agent_that_is_just_restarting_is_waited_for") {
        return;
    }
    let b = Bed::new("");
    assert!(b.h.agent.stop(10_000));
    let o = std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(Duration::from_secs(2));
            b.h.agent.start();
        });
        b.azure().backup(|_| true)
    });
    assert!(o.app_consistent(), "{} {:?}", o.code, o.pre);
    // An agent that does not come back, and a configuration that is broken.
    assert!(b.h.agent.stop(10_000));
    let o = b.azure().backup(NO_SNAPSHOT);
    assert_eq!((o.code, o.pre), (code::PRE_FAILED, Some(Ended::With(Some(10)))));
    let text = std::fs::read_to_string(b.h.config_path()).unwrap();
    b.h.write_config("[nonsense]");
    assert_eq!(b.azure().backup(NO_SNAPSHOT).pre, Some(Ended::With(Some(2))));
    b.h.write_config(&text);
    b.frozen_times(1);
}
