//! The IRIS adapter against `iris-sim`, a working model of an instance. Every return path of a freeze, every rung of the
//! ladder, every way in which a window breaks; each with a look at the model itself, which the adapter cannot see.

#[path = "iris_support/mod.rs"]
mod support;

use doors::clock::boot_now;
use doors::exec::Cancel;
use engine::iris::config::Scope;
use engine::iris::{Iris, Product, discover_instances};
use engine::{Engine, FreezeAnswer, Journaling, Level, Role};
use protocol::wire::Frozen;
use protocol::{Disturbed, Known};
use std::time::Duration;
use support::{
    Sim, ask, assert_good, failed, freeze, frozen, id, is_other, order, rules, thaw, unknown,
};

/// The instance, or a test that is over (said by `sim_program`).
macro_rules! sim {
    ($($option:expr),*) => {
        match Sim::start(&[$($option),*]) {
            Some(sim) => sim,
            None => return,
        }
    };
}

// ---- the whole window ------------------------------------------------------------------------------------------------

#[test]
fn a_whole_window_is_unbroken_and_carries_its_journal_mark() {
    let sim = sim!();
    let iris = sim.open_with(|c| c.text = "said \"hello\" ) do halt".into());
    assert_eq!(ask(&iris), Frozen::No);
    let before = sim.state()["journal"].as_str().unwrap().to_owned();
    let held = frozen(freeze(&iris));
    assert!(sim.really_frozen());
    assert_eq!(ask(&iris), Frozen::Yes);
    let mark = &held.marks[0];
    let now = sim.state()["journal"].as_str().unwrap().to_owned();
    assert_ne!(before, now);
    assert_eq!(mark.switched.as_deref(), Some(now.as_str()));
    assert!(mark.offset.is_some() && mark.required.is_some());
    assert!(
        held.warnings
            .iter()
            .any(|w| w.contains("not being journalled")),
        "{:?}",
        held.warnings
    );
    assert!(
        held.evidence
            .iter()
            .any(|e| e.ends_with("System suspended")),
        "{:?}",
        held.evidence
    );
    let answer = thaw(&iris, Some(&held));
    assert_good(&answer);
    assert!(!sim.really_frozen());
    assert_eq!((answer.rungs.len(), answer.rungs[0].thawed), (1, true));
    assert!(
        answer
            .evidence
            .iter()
            .any(|e| e.starts_with("LogFile: ") && e.ends_with("System resumed"))
    );
    assert_eq!(ask(&iris), Frozen::No);
}

#[test]
fn an_open_transaction_makes_an_older_journal_required() {
    let sim = sim!();
    let iris = sim.open();
    let root = sim.root();
    let record = sim.path("record");
    let record = record.to_string_lossy().into_owned();
    let mut working = sim.start_workload(&[
        "--root",
        &root,
        "IRIS",
        "--record",
        &record,
        "--seconds",
        "20",
        "--rate",
        "200",
        "--hold-ms",
        "15000",
    ]);
    assert!(working.line(boot_now().plus(200)).is_ok());
    std::thread::sleep(Duration::from_millis(500));
    let held = frozen(freeze(&iris));
    let mark = &held.marks[0];
    assert!(
        mark.required.is_some() && mark.required < mark.switched,
        "{mark:?}"
    );
    assert_eq!(mark.restore_from(), mark.required.as_deref());
    assert_good(&thaw(&iris, Some(&held)));
}

#[test]
fn without_a_journal_switch_the_mark_is_the_current_file_and_offset() {
    let sim = sim!();
    let iris = sim.open_with(|c| c.switch_journal = false);
    let held = frozen(freeze(&iris));
    let state = sim.state();
    assert_eq!(held.marks[0].switched, None);
    assert_eq!(held.marks[0].restore_from(), state["journal"].as_str());
    assert_eq!(held.marks[0].offset, state["journal_offset"].as_u64());
    assert_good(&thaw(&iris, Some(&held)));
}

#[test]
fn all_arguments_reach_the_engine() {
    let sim = sim!();
    let secret = sim.secret("thaw.cred", "backup\nse\"cret\n");
    let log = sim.path("log/own file \"x\".log");
    let iris = sim.open_with(|c| {
        c.log_file = Some(log.clone());
        c.cluster_timeout = Some(20);
        c.cluster_hibernate = Some(1);
        c.cluster_verbose = Some(true);
        c.thaw_credentials_file = Some(secret);
    });
    let mut o = order(1, 10_000);
    o.rules = rules(1000, Some(77));
    let held = frozen(iris.freeze(&o, &Cancel::new().unwrap()));
    assert_eq!(sim.state()["limit_s"], 77);
    assert!(
        sim.history().contains("\"timeout_s\":600"),
        "{}",
        sim.history()
    );
    assert!(
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("System suspended")
    );
    assert_ne!(
        sim.other_tool("ExternalThaw()"),
        Some(5),
        "a thaw without the freeze's user and password is refused"
    );
    assert!(sim.really_frozen());
    let answer = thaw(&iris, Some(&held));
    assert_eq!(answer.frozen, Frozen::No);
    let shown = format!(
        "{answer:?} {held:?} {iris_config:?}",
        iris_config = sim.config()
    );
    assert!(!shown.contains("cret"), "{shown}");
}

#[test]
fn a_second_window_in_the_same_log_file_reads_only_its_own_lines() {
    let sim = sim!();
    let log = sim.path("log/fixed.log");
    let iris = sim.open_with(|c| c.log_file = Some(log));
    let mut last = None;
    for n in 0..2 {
        let held = frozen(iris.freeze(&order(n, 10_000), &Cancel::new().unwrap()));
        assert_ne!(held.marks[0].switched, last);
        last.clone_from(&held.marks[0].switched);
        assert_eq!(
            held.evidence
                .iter()
                .filter(|e| e.ends_with("System suspended"))
                .count(),
            1
        );
        assert_good(&thaw(&iris, Some(&held)));
    }
}

// ---- return paths of a freeze ----------------------------------------------------------------------------------------

#[test]
fn a_freeze_that_the_engine_refuses_is_failed_with_its_text() {
    let sim = sim!();
    let iris = sim.open();
    sim.ctl("freeze_fail=System failed to quiesce");
    assert!(failed(freeze(&iris)).contains("System failed to quiesce"));
    sim.ctl("freeze_fail=");
    sim.ctl("switch10=1");
    assert!(failed(freeze(&iris)).contains("switch 10 or 13"));
    sim.ctl("switch10=");
    sim.ctl("disk_full=1");
    assert!(failed(freeze(&iris)).contains("Failed to open logfile"));
    assert!(!sim.really_frozen());
}

#[test]
fn a_freeze_that_says_no_but_froze_is_unknown() {
    let sim = sim!();
    let iris = sim.open();
    sim.ctl("freeze_exit=3");
    unknown(freeze(&iris));
    assert!(sim.really_frozen());
    let answer = thaw(&iris, None);
    assert_eq!((answer.frozen, sim.really_frozen()), (Frozen::No, false));
    assert_ne!(answer.proof.alone, Ok(()));
}

#[test]
fn a_login_that_is_refused_or_inhibited_froze_nothing() {
    let sim = sim!();
    let iris = sim.open();
    for (setting, says) in [
        ("login=refused", "no login"),
        ("state=starting", "not up"),
        ("login=password", "no login"),
    ] {
        sim.ctl(setting);
        let why = failed(freeze(&iris));
        assert!(why.contains(says), "{setting}: {why}");
        assert!(matches!(ask(&iris), Frozen::Unknown(_)), "{setting}");
        sim.ctl(&format!("{}=ok", setting.split('=').next().unwrap()));
        assert!(!sim.really_frozen());
    }
}

#[test]
fn a_login_that_hangs_is_unknown_at_the_deadline_and_freezes_nothing_later() {
    let sim = sim!();
    let iris = sim.open();
    iris.discover(boot_now().plus(5000)).unwrap();
    sim.ctl("login=hang");
    let t = boot_now();
    unknown(iris.freeze(&order(1, 700), &Cancel::new().unwrap()));
    assert!(boot_now().since(t) < 2500);
    sim.ctl("login=ok");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!sim.really_frozen());
}

#[test]
fn a_freeze_that_hangs_is_cancelled_at_once() {
    let sim = sim!();
    let iris = sim.open();
    sim.ctl("freeze_hang=1");
    let cancel = Cancel::new().unwrap();
    let thrower = std::thread::spawn({
        let cancel = cancel.clone();
        move || {
            std::thread::sleep(Duration::from_millis(400));
            cancel.throw();
        }
    });
    let t = boot_now();
    unknown(iris.freeze(&order(1, 20_000), &cancel));
    assert!(boot_now().since(t) < 2500);
    thrower.join().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        !sim.really_frozen(),
        "the killed client's freeze was given up"
    );
}

#[test]
fn a_freeze_that_lands_after_its_client_died_is_found_and_thawed() {
    let sim = sim!();
    let iris = sim.open();
    sim.ctl("freeze_after_client_died=1");
    sim.ctl("freeze_delay_ms=600");
    unknown(iris.freeze(&order(1, 400), &Cancel::new().unwrap()));
    let until = boot_now().plus(5000);
    while ask(&iris) != Frozen::Yes {
        assert!(boot_now() < until, "it never froze");
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = thaw(&iris, None);
    assert_eq!(
        (answer.frozen, answer.proof.frozen_before),
        (Frozen::No, Known::Yes)
    );
    assert!(!sim.really_frozen());
}

#[test]
fn a_lost_reply_is_unknown_and_the_switched_journal_is_found_by_its_reason() {
    let sim = sim!();
    let iris = sim.open();
    let none_yet = iris.mark_after_lost_reply(boot_now().plus(5000)).unwrap();
    assert_eq!(none_yet, None);
    sim.ctl("freeze_reply_lost=1");
    unknown(iris.freeze(&order(1, 800), &Cancel::new().unwrap()));
    assert!(sim.really_frozen());
    let mark = iris
        .mark_after_lost_reply(boot_now().plus(5000))
        .unwrap()
        .unwrap();
    assert_eq!(mark.switched.as_deref(), sim.state()["journal"].as_str());
    assert_eq!(thaw(&iris, None).frozen, Frozen::No);
}

/// The script itself, fed to the engine after its deadline, as `docker exec` would after its client was killed.
#[test]
fn a_freeze_script_that_lands_late_freezes_nothing() {
    let sim = sim!();
    let kept = sim.path("kept");
    let keep = sim.script(
        "keep",
        &format!(
            "case \"$1\" in session) cat > {};; *) exec {} \"$@\";; esac",
            kept.display(),
            sim.bin("iris").display()
        ),
    );
    let iris = sim.open_with(|c| c.program = Some(keep[0].clone()));
    failed(iris.freeze(&order(1, 1500), &Cancel::new().unwrap()));
    let script = std::fs::read_to_string(&kept).unwrap();
    assert!(script.contains("ExternalFreeze("));
    let now = sim.session(&script);
    assert!(
        sim.really_frozen(),
        "in time it freezes (negative control): {now}"
    );
    assert_eq!(sim.other_tool("ExternalThaw()"), Some(5));
    std::thread::sleep(Duration::from_millis(1600));
    let late = sim.session(&script);
    assert!(late.contains("LATE=1") && !sim.really_frozen(), "{late}");
}

#[test]
fn what_somebody_else_froze_is_not_frozen_again() {
    let sim = sim!();
    let iris = sim.open();
    assert_eq!(sim.other_tool("ExternalFreeze()"), Some(5));
    assert!(failed(freeze(&iris)).contains("not by us"));
    assert!(sim.really_frozen());
}

#[test]
fn without_a_readable_log_nothing_is_frozen() {
    let sim = sim!();
    let iris = sim.open();
    iris.discover(boot_now().plus(5000)).unwrap();
    std::fs::remove_file(sim.messages()).unwrap();
    assert!(failed(freeze(&iris)).contains("nothing was frozen"));
    assert!(!sim.history().contains("freeze_called"));
}

// ---- the question ----------------------------------------------------------------------------------------------------

#[test]
fn the_question_falls_back_to_a_script_and_never_guesses() {
    let sim = sim!();
    let iris = sim.open();
    for code in ["0", "1", "4", "127", "239"] {
        sim.ctl(&format!("issuspended_exit={code}"));
        assert_eq!(ask(&iris), Frozen::No, "exit {code}: the script answers");
    }
    sim.ctl("issuspended_exit=");
    let held = frozen(freeze(&iris));
    sim.ctl("issuspended_exit=0");
    assert_eq!(ask(&iris), Frozen::Yes);
    sim.ctl("login=hang");
    assert!(matches!(
        iris.is_frozen(boot_now().plus(600)),
        Frozen::Unknown(_)
    ));
    sim.ctl("login=ok");
    sim.ctl("issuspended_exit=");
    assert_good(&thaw(&iris, Some(&held)));
}

#[test]
fn an_exit_code_3_with_words_is_no_answer() {
    let sim = sim!();
    let liar = sim.script("liar", "echo 'Access Denied'; exit 3");
    let iris = sim.open_with(|c| c.program = Some(liar[0].clone()));
    assert!(matches!(ask(&iris), Frozen::Unknown(_)));
    assert!(matches!(thaw(&iris, None).frozen, Frozen::Unknown(_)));
}

#[test]
fn an_instance_that_is_down_is_not_frozen() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    sim.iris(&["force", "IRIS"]);
    assert_eq!(ask(&iris), Frozen::No);
    let answer = thaw(&iris, Some(&held));
    assert_eq!(answer.frozen, Frozen::No);
    assert_ne!(answer.proof.frozen_before, Known::Yes);
    assert!(answer.proof.same_instance.is_err());
}

// ---- the ladder ------------------------------------------------------------------------------------------------------

#[test]
fn a_plain_no_thaws_nothing() {
    let sim = sim!();
    let iris = sim.open();
    let answer = thaw(&iris, None);
    assert_eq!(
        (
            answer.frozen.clone(),
            answer.proof.frozen_before,
            answer.proof.released
        ),
        (Frozen::No, Known::No, Known::No)
    );
    assert_eq!(answer.rungs.len(), 1);
    assert!(!sim.history().contains("thaw_called"), "{}", sim.history());
}

#[test]
fn when_nobody_can_log_in_the_command_line_form_thaws() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    for (setting, back) in [("login=refused", "login=ok"), ("login=hang", "login=ok")] {
        sim.ctl(setting);
        let mut heard = 0;
        let shown = std::cell::RefCell::new(Vec::new());
        let answer = iris.thaw(Some(&held), 700, &|r| shown.borrow_mut().push(r.clone()));
        heard += shown.borrow().len();
        assert_eq!(heard, answer.rungs.len());
        assert!(!sim.really_frozen(), "{setting}: {answer:#?}");
        // The engine cannot be asked, so "not frozen" is not claimed.
        assert!(matches!(answer.frozen, Frozen::Unknown(_)), "{setting}");
        assert_eq!(answer.proof.frozen_before, Known::Unknown);
        assert!(
            answer.rungs[1].said.contains("exit 5"),
            "{:?}",
            answer.rungs
        );
        sim.ctl(back);
        assert_eq!(ask(&iris), Frozen::No);
        assert_eq!(sim.other_tool("ExternalFreeze()"), Some(5));
    }
}

#[test]
fn the_ladder_goes_on_to_iris_thaw_and_irisstat() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    sim.ctl("thaw_fail=1");
    let answer = thaw(&iris, Some(&held));
    assert_eq!(answer.frozen, Frozen::No, "{answer:#?}");
    assert!(answer.rungs.last().unwrap().ran.ends_with("thaw IRIS") && !answer.proof.last_resort);
    assert_eq!(
        (answer.rungs.len(), answer.proof.frozen_before),
        (3, Known::Yes)
    );
    let held = frozen(freeze(&iris));
    sim.ctl("native_thaw_fail=1");
    let answer = thaw(&iris, Some(&held));
    assert_eq!(
        (
            answer.frozen.clone(),
            answer.rungs.len(),
            answer.proof.last_resort
        ),
        (Frozen::No, 4, true),
        "{answer:#?}"
    );
    assert!(answer.rungs[3].ran.ends_with("stat IRIS -W") && answer.rungs[3].thawed);
}

#[test]
fn with_every_rung_refused_it_is_said_to_be_frozen() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    for fault in ["thaw_fail=1", "native_thaw_fail=1", "irisstat_w_fail=1"] {
        sim.ctl(fault);
    }
    let answer = thaw(&iris, Some(&held));
    assert_eq!(
        (answer.frozen.clone(), answer.rungs.len()),
        (Frozen::Yes, 4),
        "{answer:#?}"
    );
    assert!(sim.really_frozen() && answer.rungs.iter().all(|r| !r.thawed));
    for fault in ["thaw_fail=", "native_thaw_fail=", "irisstat_w_fail="] {
        sim.ctl(fault);
    }
    assert_eq!(thaw(&iris, Some(&held)).frozen, Frozen::No);
}

#[test]
fn a_rung_that_hangs_does_not_keep_the_next_one() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    sim.ctl("thaw_hang=1");
    let t = boot_now();
    let answer = iris.thaw(Some(&held), 500, &|_| {});
    // All rungs but `irisstat -W` hang here; it is reached after three times 500 ms and a little.
    assert!(boot_now().since(t) < 4500, "{answer:#?}");
    assert_eq!(
        (answer.frozen.clone(), answer.proof.last_resort),
        (Frozen::No, true),
        "{answer:#?}"
    );
    assert!(!sim.really_frozen());
}

#[test]
fn a_thaw_that_cannot_write_its_log_file_still_thaws() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    std::fs::rename(sim.path("log"), sim.path("log-gone")).unwrap();
    let answer = thaw(&iris, Some(&held));
    assert_eq!(answer.frozen, Frozen::No);
    assert_eq!(
        answer.proof.released,
        Known::Yes,
        "by messages.log and our process number: {answer:#?}"
    );
}

#[test]
fn a_thaw_without_a_freeze_of_ours_is_never_good() {
    let sim = sim!();
    let iris = sim.open();
    let mut held = frozen(freeze(&iris));
    held.token = serde_json::json!({"from": "elsewhere"});
    let answer = thaw(&iris, Some(&held));
    assert_eq!(answer.frozen, Frozen::No);
    assert!(
        matches!(answer.proof.alone, Err(Disturbed::Unreadable(_)))
            && answer.proof.same_instance.is_err()
    );
}

// ---- what breaks a window --------------------------------------------------------------------------------------------

#[test]
fn another_tool_that_thaws_and_freezes_again_is_noticed() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    assert_eq!(sim.other_tool("ExternalThaw()"), Some(5));
    assert_eq!(sim.other_tool("ExternalFreeze()"), Some(5));
    assert_eq!(ask(&iris), Frozen::Yes);
    let answer = thaw(&iris, Some(&held));
    assert_eq!(
        (
            answer.frozen.clone(),
            answer.proof.frozen_before,
            answer.proof.released
        ),
        (Frozen::No, Known::Yes, Known::Yes)
    );
    assert!(is_other(&answer), "{answer:#?}");
}

#[test]
fn another_tool_that_only_thaws_is_noticed() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    assert_eq!(sim.other_tool("ExternalThaw()"), Some(5));
    let answer = thaw(&iris, Some(&held));
    assert_eq!(
        (
            answer.frozen.clone(),
            answer.proof.frozen_before,
            answer.proof.released
        ),
        (Frozen::No, Known::No, Known::No)
    );
    assert_ne!(answer.proof.alone, Ok(()));
}

#[test]
fn the_engines_own_limit_shows_as_not_frozen_before_the_thaw() {
    let sim = sim!("--time-scale", "0.05");
    let iris = sim.open();
    let mut o = order(1, 10_000);
    o.rules = rules(1000, Some(10));
    let held = frozen(iris.freeze(&o, &Cancel::new().unwrap()));
    std::thread::sleep(Duration::from_millis(900));
    assert!(!sim.really_frozen());
    let answer = thaw(&iris, Some(&held));
    assert_eq!(
        (
            answer.frozen,
            answer.proof.frozen_before,
            answer.proof.released
        ),
        (Frozen::No, Known::No, Known::No)
    );
}

#[test]
fn a_log_that_is_rotated_inside_the_window_is_followed() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    sim.ctl("rotate_log=1");
    assert_good(&thaw(&iris, Some(&held)));
    // And another tool's lines in the old file are seen through the rotation.
    let held = frozen(freeze(&iris));
    sim.other_tool("ExternalThaw()");
    sim.other_tool("ExternalFreeze()");
    let old = sim.messages().with_file_name("messages.log.old_2");
    std::fs::rename(sim.messages(), old).unwrap();
    std::fs::write(sim.messages(), "").unwrap();
    assert!(is_other(&thaw(&iris, Some(&held))));
}

#[test]
fn a_log_that_is_gone_is_no_proof() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    std::fs::remove_file(sim.messages()).unwrap();
    std::fs::write(sim.messages(), "").unwrap();
    let answer = thaw(&iris, Some(&held));
    assert_eq!(
        (answer.frozen.clone(), answer.proof.released),
        (Frozen::No, Known::Yes)
    );
    assert!(
        matches!(answer.proof.alone, Err(Disturbed::Unreadable(_))),
        "{answer:#?}"
    );
}

#[test]
fn a_write_daemon_in_panic_speaks_against_the_window() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    sim.ctl("wd_panic=1");
    let until = boot_now().plus(3000);
    while !std::fs::read_to_string(sim.messages())
        .unwrap()
        .to_lowercase()
        .contains("panic")
        && boot_now() < until
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    let answer = thaw(&iris, Some(&held));
    assert!(answer.proof.log_clean.is_err(), "{answer:#?}");
}

#[test]
fn a_restart_inside_the_window_is_noticed() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    sim.iris(&["force", "IRIS"]);
    sim.iris(&["start", "IRIS"]);
    assert_eq!(sim.other_tool("ExternalFreeze()"), Some(5));
    let answer = thaw(&iris, Some(&held));
    assert_eq!(
        (answer.frozen.clone(), answer.proof.frozen_before),
        (Frozen::No, Known::Yes)
    );
    assert!(answer.proof.alone.is_err(), "{answer:#?}");
}

// ---- ways in ---------------------------------------------------------------------------------------------------------

#[test]
fn with_a_credentials_file_it_logs_in_by_password() {
    let sim = sim!();
    sim.ctl("login_user=backup");
    sim.ctl("login_password=sec%ret");
    sim.ctl("login=password");
    let without = sim.open();
    assert!(matches!(ask(&without), Frozen::Unknown(_)));
    let file = sim.secret("cred", "backup\nsec%ret\n");
    let iris = sim.open_with(|c| c.credentials_file = Some(file));
    let held = frozen(freeze(&iris));
    assert_eq!(ask(&iris), Frozen::Yes);
    assert_good(&thaw(&iris, Some(&held)));
    let wrong = sim.secret("wrong", "backup\nnope\n");
    let iris = sim.open_with(|c| c.credentials_file = Some(wrong));
    assert!(failed(freeze(&iris)).contains("no login"));
}

#[test]
fn credentials_that_nobody_asks_for_are_not_shown() {
    let sim = sim!();
    let file = sim.secret("cred", "backup\nhidden(word)\n");
    let iris = sim.open_with(|c| c.credentials_file = Some(file));
    let held = frozen(freeze(&iris));
    let answer = thaw(&iris, Some(&held));
    assert_eq!(answer.frozen, Frozen::No);
    sim.ctl("state=starting");
    let why = failed(freeze(&iris));
    assert!(
        !format!("{held:?}{answer:?}{why}")
            .to_lowercase()
            .contains("hidden(word)")
    );
}

#[test]
fn a_site_s_own_programs_replace_only_the_two_calls() {
    let sim = sim!();
    let bin = sim.bin("iris").display().to_string();
    let f = sim.script("instfreeze", &format!("exec {bin} freeze IRIS"));
    let t = sim.script("instthaw", &format!("exec {bin} thaw IRIS"));
    let iris = sim.open_with(|c| {
        c.freeze_with = Some(f);
        c.thaw_with = Some(t);
    });
    let held = frozen(freeze(&iris));
    assert_eq!(
        held.marks[0].switched.as_deref(),
        sim.state()["journal"].as_str()
    );
    let answer = thaw(&iris, Some(&held));
    assert_good(&answer);
    assert!(answer.rungs[0].ran.ends_with("instthaw"));
    // Its failure is a failure; a thaw of its that does nothing is followed by the ladder.
    let bad = sim.script("bad", "echo broken; exit 1");
    let iris = sim.open_with(|c| {
        c.freeze_with = Some(bad.clone());
        c.thaw_with = Some(bad);
    });
    assert!(failed(freeze(&iris)).contains("broken"));
    assert_eq!(sim.other_tool("ExternalFreeze()"), Some(5));
    let answer = thaw(&iris, None);
    assert_eq!(
        (
            answer.frozen,
            answer.rungs.len(),
            answer.proof.frozen_before
        ),
        (Frozen::No, 2, Known::Yes)
    );
    // One that says yes and froze nothing.
    let liar = sim.script("liar", "exit 0");
    let iris = sim.open_with(|c| {
        c.freeze_with = Some(liar.clone());
        c.thaw_with = Some(liar);
    });
    unknown(freeze(&iris));
}

/// The prefix is a program of ours that plays the container: everything must go through it.
#[test]
fn in_a_container_everything_goes_through_the_prefix() {
    let sim = sim!();
    let seen = sim.path("seen");
    let prefix = sim.script(
        "inside",
        &format!("echo \"$1\" >> {}; exec \"$@\"", seen.display()),
    );
    let iris = sim.open_with(|c| c.exec_prefix = prefix);
    let facts = iris.discover(boot_now().plus(10_000)).unwrap();
    assert!(facts.running && facts.frozen == Frozen::No);
    let held = frozen(freeze(&iris));
    assert!(held.marks[0].offset.is_some());
    sim.ctl("rotate_log=1");
    assert_good(&thaw(&iris, Some(&held)));
    let seen = std::fs::read_to_string(seen).unwrap();
    for program in ["cat", "stat", "tail", "find"] {
        assert!(seen.lines().any(|l| l == program), "{program} in {seen}");
    }
}

#[test]
fn as_another_user_it_runs_through_setpriv() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: not root");
        return;
    }
    let sim = sim!();
    let iris = sim.open_with(|c| {
        c.run_as = Some("nobody".into());
        c.program = Some("/usr/bin/id".into());
    });
    let Frozen::Unknown(why) = ask(&iris) else {
        panic!()
    };
    assert!(!why.is_empty());
    let mut c = sim.config();
    c.run_as = Some("no-such-user".into());
    assert!(
        Iris::open(&c, Product::Iris)
            .err()
            .unwrap()
            .to_string()
            .contains("no-such-user")
    );
}

// ---- discovery, facts, layout ----------------------------------------------------------------------------------------

#[test]
fn instances_are_discovered_and_their_facts_read() {
    let sim = sim!(
        "--mirror-type",
        "Failover",
        "--mirror-status",
        "Primary",
        "--mirror-name",
        "MIR"
    );
    let found = discover_instances(&[sim.path("root/bin")]).unwrap();
    assert!(
        found
            .iter()
            .any(|(p, c)| *p == Product::Iris && c.name.as_str() == "IRIS"),
        "{found:?}"
    );
    let iris = sim.open();
    let facts = iris.discover(boot_now().plus(5000)).unwrap();
    assert!(
        facts.version.starts_with("IRIS for UNIX") && facts.running && facts.has_suspend_limit,
        "{facts:#?}"
    );
    assert_eq!(
        (facts.frozen, facts.journaling),
        (Frozen::No, Some(Journaling::Normal))
    );
    let mirror = facts.mirror.unwrap();
    assert_eq!(
        (
            mirror.name.as_str(),
            mirror.member_type.as_str(),
            mirror.status.as_str()
        ),
        ("MIR", "Failover", "PRIMARY")
    );
    assert_eq!(
        facts.current_journal.as_deref(),
        sim.state()["journal"].as_str()
    );
    assert!(
        facts.checks.iter().all(|c| c.level != Level::Fail),
        "{:?}",
        facts.checks
    );
    assert_eq!(facts.buffers_last_ms, None);
}

#[test]
fn what_is_wrong_shows_in_the_facts() {
    let sim = sim!();
    let iris = sim.open();
    let look = || iris.discover(boot_now().plus(3000)).unwrap();
    let failing = |f: &engine::Facts| {
        f.checks
            .iter()
            .filter(|c| c.level == Level::Fail)
            .map(|c| c.name.clone())
            .collect::<Vec<_>>()
    };
    sim.ctl("health=hung");
    assert_eq!(failing(&look()), ["health"]);
    sim.ctl("health=ok");
    sim.ctl("journal_frozen=1");
    let f = look();
    assert_eq!(
        (f.journaling.clone(), failing(&f)),
        (
            Some(Journaling::Other("Frozen".into())),
            vec!["journaling".to_owned()]
        )
    );
    sim.ctl("journal_frozen=");
    sim.ctl("login=refused");
    let f = look();
    assert_eq!(failing(&f), ["login"]);
    assert!(matches!(f.frozen, Frozen::Unknown(_)));
    sim.ctl("login=ok");
    sim.iris(&["force", "IRIS"]);
    let f = look();
    assert_eq!(
        (f.running, f.frozen.clone(), failing(&f)),
        (false, Frozen::No, vec!["instance".to_owned()])
    );
    let mut other = sim.config();
    other.name = "OTHER".parse().unwrap();
    assert!(
        Iris::open(&other, Product::Iris)
            .unwrap()
            .discover(boot_now().plus(3000))
            .is_err()
    );
}

#[test]
fn an_old_version_is_found_out_and_frozen_with_fewer_arguments() {
    let sim = sim!("--old-freeze");
    let iris = sim.open();
    let facts = iris.discover(boot_now().plus(5000)).unwrap();
    assert!(
        !facts.has_suspend_limit
            && facts
                .checks
                .iter()
                .any(|c| c.name == "suspend-limit" && c.level == Level::Warn)
    );
    let held = frozen(freeze(&iris));
    assert!(
        held.warnings
            .iter()
            .any(|w| w.contains("no WDSuspendLimit")),
        "{:?}",
        held.warnings
    );
    assert_eq!(held.marks[0].required, None);
    assert_eq!(
        ask(&iris),
        Frozen::Yes,
        "without IsWDSuspendedExt the script answers"
    );
    assert_good(&thaw(&iris, Some(&held)));
}

#[test]
fn an_eight_field_qlist_is_enough() {
    let sim = sim!("--qlist-fields", "8");
    let iris = sim.open();
    assert!(iris.discover(boot_now().plus(5000)).unwrap().running);
    let held = frozen(freeze(&iris));
    assert_good(&thaw(&iris, Some(&held)));
}

#[test]
fn the_layout_names_everything_where_it_lies() {
    let sim = sim!("--split");
    let iris = sim.open();
    let places = iris.layout(boot_now().plus(5000)).unwrap();
    for role in [
        Role::Install,
        Role::Data,
        Role::Cpf,
        Role::Wij,
        Role::Journal,
        Role::Altjournal,
    ] {
        assert_eq!(
            places.iter().filter(|p| p.role == role).count(),
            1,
            "{role:?} in {places:#?}"
        );
    }
    assert!(
        places.iter().filter(|p| p.role == Role::Database).count() >= 4,
        "{places:#?}"
    );
    for p in &places {
        assert!(p.path.exists(), "{p:?}");
    }
    let wij = &places.iter().find(|p| p.role == Role::Wij).unwrap().path;
    assert!(wij.join("IRIS.WIJ").exists());
    let one = places
        .iter()
        .find(|p| p.role == Role::Database)
        .unwrap()
        .path
        .clone();
    let iris = sim.open_with(|c| {
        c.scope = Scope::Databases;
        c.databases = vec![one.join("")];
    });
    let some = iris.layout(boot_now().plus(5000)).unwrap();
    assert_eq!(
        some.iter()
            .filter(|p| p.role == Role::Database)
            .map(|p| &p.path)
            .collect::<Vec<_>>(),
        [&one]
    );
    let iris = sim.open_with(|c| c.databases = vec!["/no/such/db".into()]);
    assert!(iris.layout(boot_now().plus(5000)).is_err());
}

#[test]
fn cache_is_the_same_engine_under_its_old_names() {
    let Some(sim) = Sim::start(&["--flavor", "cache", "--old-freeze"]) else {
        return;
    };
    let mut c = sim.config();
    c.program = Some(sim.bin("ccontrol").to_string_lossy().into_owned());
    let cache = Iris::open(&c, Product::Cache).unwrap();
    assert_eq!(
        cache.discover(boot_now().plus(5000)).unwrap().engine,
        "cache"
    );
    let held = match cache.freeze(&order(1, 10_000), &Cancel::new().unwrap()) {
        FreezeAnswer::Frozen(h) => h,
        other => panic!("{other:?}"),
    };
    assert_good(&thaw(&cache, Some(&held)));
    assert!(
        cache
            .layout(boot_now().plus(5000))
            .unwrap()
            .iter()
            .any(|p| p.role == Role::Wij)
    );
}

#[test]
fn several_windows_in_a_row_are_all_unbroken() {
    let sim = sim!();
    let iris = sim.open();
    for n in 0..10 {
        let held = frozen(iris.freeze(&order(n, 10_000), &Cancel::new().unwrap()));
        assert_eq!(held.token["id"], serde_json::json!(id(n)));
        assert_good(&thaw(&iris, Some(&held)));
    }
}
