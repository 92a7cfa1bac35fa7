//! What breaks a window.

use crate::support::{ask, assert_good, freeze, frozen, is_other, order, rules, thaw};
use doors::clock::boot_now;
use doors::exec::Cancel;
use engine::Engine;
use protocol::wire::Frozen;
use protocol::{Disturbed, Known};
use std::time::Duration;

#[test]
fn another_tool_that_thaws_and_freezes_again_is_noticed() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    assert_eq!(sim.other_tool("ExternalThaw()"), Some(5));
    assert_eq!(sim.other_tool("ExternalFreeze()"), Some(5));
    assert_eq!(ask(&iris), Frozen::Yes);
    let answer = thaw(&iris, Some(&held));
    assert_eq!((answer.frozen.clone(), answer.proof.frozen_before, answer.proof.released), (Frozen::No, Known::Yes, Known::Yes));
    assert!(is_other(&answer), "{answer:#?}");
}

#[test]
fn another_tool_that_only_thaws_is_noticed() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    assert_eq!(sim.other_tool("ExternalThaw()"), Some(5));
    let answer = thaw(&iris, Some(&held));
    assert_eq!((answer.frozen.clone(), answer.proof.frozen_before, answer.proof.released), (Frozen::No, Known::No, Known::No));
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
    assert_eq!((answer.frozen, answer.proof.frozen_before, answer.proof.released), (Frozen::No, Known::No, Known::No));
}

#[test]
fn a_log_that_is_rotated_inside_the_window_is_followed() {
    let sim = sim!();
    let iris = sim.open();
    let held = frozen(freeze(&iris));
    sim.rotate_log();
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
    assert_eq!((answer.frozen.clone(), answer.proof.released), (Frozen::No, Known::Yes));
    assert!(matches!(answer.proof.alone, Err(Disturbed::Unreadable(_))), "{answer:#?}");
}

#[test]
fn a_write_daemon_in_panic_speaks_against_the_window() {
    let sim = sim!();
    let iris = sim.open();
    let (root, record) = (sim.root(), sim.path("record"));
    let record = record.to_string_lossy().into_owned();
    let _working = sim.start_workload(&["--root", &root, "IRIS", "--record", &record, "--seconds", "20"]);
    std::thread::sleep(Duration::from_millis(300));
    let held = frozen(freeze(&iris));
    sim.ctl("wd_panic=1");
    let until = boot_now().plus(3000);
    while !std::fs::read_to_string(sim.messages()).unwrap().to_lowercase().contains("panic") && boot_now() < until {
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
    assert_eq!((answer.frozen.clone(), answer.proof.frozen_before), (Frozen::No, Known::Yes));
    assert!(answer.proof.alone.is_err(), "{answer:#?}");
}

/// What the freeze noted of the instance is compared with what the thaw finds, point by point.
#[test]
fn another_role_start_or_lock_file_is_another_instance() {
    let sim = sim!();
    let iris = sim.open();
    let day = 86_400_000;
    let changes: [(&str, serde_json::Value, &str); 3] = [
        ("mirror", serde_json::json!("PRIMARY"), "mirror status"),
        ("started", serde_json::json!({"earliest_ms": -day, "latest_ms": -day}), "restarted"),
        ("lock_inode", serde_json::json!(1), "lock file"),
    ];
    for (key, value, says) in changes {
        let mut held = frozen(freeze(&iris));
        assert!(!held.token[key].is_null(), "{key}");
        held.token[key] = value;
        let answer = thaw(&iris, Some(&held));
        let why = answer.proof.same_instance.unwrap_err();
        assert!(why.contains(says), "{key}: {why}");
        assert_eq!(answer.proof.alone, Ok(()));
    }
}
