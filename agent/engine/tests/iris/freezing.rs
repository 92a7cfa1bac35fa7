//! Return paths of a freeze.

use crate::support::{ask, failed, freeze, order, thaw, unknown};
use doors::clock::boot_now;
use doors::exec::Cancel;
use engine::Engine;
use protocol::Known;
use protocol::wire::Frozen;
use std::time::Duration;

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
    for (setting, says) in [("login=refused", "no login"), ("state=starting", "not up"), ("login=password", "no login")] {
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
    assert!(!sim.really_frozen(), "the killed client's freeze was given up");
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
    assert_eq!((answer.frozen, answer.proof.frozen_before), (Frozen::No, Known::Yes));
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
    let mark = iris.mark_after_lost_reply(boot_now().plus(5000)).unwrap().unwrap();
    assert_eq!(mark.switched.as_deref(), sim.state()["journal"].as_str());
    assert_eq!(thaw(&iris, None).frozen, Frozen::No);
}

/// The script itself, fed to the engine after its deadline, as `docker exec` would after its client was killed.
#[test]
fn a_freeze_script_that_lands_late_freezes_nothing() {
    let sim = sim!();
    let kept = sim.path("kept");
    let keep = sim
        .script("keep", &format!("case \"$1\" in session) cat > {};; *) exec {} \"$@\";; esac", kept.display(), sim.bin("iris").display()));
    let iris = sim.open_with(|c| c.program = Some(keep[0].clone()));
    failed(iris.freeze(&order(1, 1500), &Cancel::new().unwrap()));
    let script = std::fs::read_to_string(&kept).unwrap();
    assert!(script.contains("ExternalFreeze("));
    let now = sim.session(&script);
    assert!(sim.really_frozen(), "in time it freezes (negative control): {now}");
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
    let answer = freeze(&iris);
    assert!(matches!(&answer, engine::FreezeAnswer::NotOurs(why) if why.contains("not by us")), "{answer:?}");
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
