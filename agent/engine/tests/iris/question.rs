//! "Is it frozen?"

use crate::support::{ask, assert_good, freeze, frozen, thaw};
use doors::clock::boot_now;
use engine::Engine;
use protocol::Known;
use protocol::wire::Frozen;

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
    assert!(matches!(iris.is_frozen(boot_now().plus(600)), Frozen::Unknown(_)));
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
