//! Credentials, wrappers, containers, other users.

use crate::support::{ask, assert_good, failed, freeze, frozen, thaw, unknown};
use doors::clock::boot_now;
use engine::Engine;
use engine::iris::{Iris, Product};
use protocol::Known;
use protocol::wire::Frozen;

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
    assert!(!format!("{held:?}{answer:?}{why}").to_lowercase().contains("hidden(word)"));
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
    assert_eq!(held.marks[0].switched.as_deref(), sim.state()["journal"].as_str());
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
    assert_eq!((answer.frozen, answer.rungs.len(), answer.proof.frozen_before), (Frozen::No, 2, Known::Yes));
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
    let prefix = sim.script("inside", &format!("echo \"$1\" >> {}; exec \"$@\"", seen.display()));
    let iris = sim.open_with(|c| c.exec_prefix = prefix);
    let facts = iris.discover(boot_now().plus(10_000)).unwrap();
    assert!(facts.running && facts.frozen == Frozen::No);
    let held = frozen(freeze(&iris));
    assert!(held.marks[0].offset.is_some());
    sim.rotate_log();
    assert_good(&thaw(&iris, Some(&held)));
    let seen = std::fs::read_to_string(seen).unwrap();
    for program in ["cat", "stat", "tail", "find"] {
        assert!(seen.lines().any(|l| l == program), "{program} in {seen}");
    }
}

#[test]
fn as_another_user_it_runs_through_setpriv() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: not root");
        return;
    }
    let sim = sim!();
    std::fs::set_permissions(sim.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let who = sim.script("who", "id -un; exit 1");
    let iris = sim.open_with(|c| {
        c.run_as = Some("nobody".into());
        c.freeze_with = Some(who.clone());
        c.thaw_with = Some(who);
    });
    assert!(failed(freeze(&iris)).ends_with("exit 1: nobody"));
    let mut c = sim.config();
    c.run_as = Some("no-such-user".into());
    let error = Iris::open(&c, Product::Iris).err().unwrap().to_string();
    assert!(error.contains("no-such-user"), "{error}");
}
