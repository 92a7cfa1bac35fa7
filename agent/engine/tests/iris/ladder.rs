//! The thaw ladder, rung by rung.

use crate::support::{ask, freeze, frozen, thaw};
use doors::clock::boot_now;
use engine::Engine;
use protocol::wire::Frozen;
use protocol::{Disturbed, Known};

#[test]
fn a_plain_no_thaws_nothing() {
    let sim = sim!();
    let iris = sim.open();
    let answer = thaw(&iris, None);
    assert_eq!((answer.frozen.clone(), answer.proof.frozen_before, answer.proof.released), (Frozen::No, Known::No, Known::No));
    assert_eq!(answer.rungs, vec![]);
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
        assert!(answer.rungs[1].said.contains("exit 5"), "{:?}", answer.rungs);
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
    assert_eq!((answer.rungs.len(), answer.proof.frozen_before), (3, Known::Yes));
    let held = frozen(freeze(&iris));
    sim.ctl("native_thaw_fail=1");
    let answer = thaw(&iris, Some(&held));
    assert_eq!((answer.frozen.clone(), answer.rungs.len(), answer.proof.last_resort), (Frozen::No, 4, true), "{answer:#?}");
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
    assert_eq!((answer.frozen.clone(), answer.rungs.len()), (Frozen::Yes, 4), "{answer:#?}");
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
    assert_eq!((answer.frozen.clone(), answer.proof.last_resort), (Frozen::No, true), "{answer:#?}");
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
    assert_eq!(answer.proof.released, Known::Yes, "by messages.log and our process number: {answer:#?}");
}

#[test]
fn a_thaw_without_a_freeze_of_ours_is_never_good() {
    let sim = sim!();
    let iris = sim.open();
    let mut held = frozen(freeze(&iris));
    held.token = serde_json::json!({"from": "elsewhere"});
    let answer = thaw(&iris, Some(&held));
    assert_eq!(answer.frozen, Frozen::No);
    assert!(matches!(answer.proof.alone, Err(Disturbed::Unreadable(_))) && answer.proof.same_instance.is_err());
}
