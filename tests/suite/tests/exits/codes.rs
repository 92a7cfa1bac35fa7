//! 0, 1, 2, 3, 6, 7, 8, 10, 130.

use super::{calm, ends, freeze, frozen_times, host, works_again};
use rustix::process::Signal;
use suite::host::{Host, Setup, What, new_id, signal, sleep_ms};

#[test]
fn code_0_freeze_ask_thaw() {
    let h = host();
    let id = new_id();
    freeze(&h, &id);
    let e = h.call(&["frozen"]);
    ends(&e, 0, "IRIS: yes");
    let e = h.call(&["status"]);
    ends(&e, 0, "FROZEN");
    let e = h.call(&["thaw", "--id", &id, "--json"]);
    ends(&e, 0, "unbroken");
    assert_eq!(e.marker().unwrap()["state"]["state"], "unbroken");
    // The same again: the same answer.
    ends(&h.call(&["thaw", "--id", &id]), 0, "unbroken");
    ends(&h.call(&["frozen"]), 0, "IRIS: no");
    ends(&h.call(&["thaw"]), 0, "writes resumed");
    frozen_times(&h, 1);
}

#[test]
fn code_1_unknown_backup() {
    let h = host();
    let to = h.disk.path().join("backups");
    std::fs::create_dir_all(&to).unwrap();
    ends(&h.call(&["show", &new_id(), "--to", to.to_str().unwrap()]), 1, "Catalogue.UnknownId");
}

#[test]
fn code_2_bad_arguments_and_a_bad_configuration_where_the_emergency_still_works() {
    let h = host();
    for args in [
        &["freeze", "--hold", "soon"][..],
        &["freeze", "--id", "1"],
        &["nonsense"],
        &["freeze", "--not-after", "1"],
        &["thaw", "--hold", "1s"],
    ] {
        let e = h.call(args);
        assert_eq!(e.code, Some(2), "{args:?}: {e:?}");
    }
    let good = h.config_text();
    freeze(&h, &new_id());
    for bad in [format!("{good}\n[nonsense]\nx = 1\n"), good.replace("hold = \"6000ms\"", "hold = \"1180s\""), "= what".into()] {
        h.write_config(&bad);
        ends(&h.call(&["freeze"]), 2, "Config.Invalid");
        ends(&h.call(&["rehearse"]), 2, "Config.Invalid");
        ends(&h.call(&["status"]), 0, "warning");
        let e = h.call(&["frozen"]);
        assert!(e.err.contains("warning"), "{e:?}");
    }
    // No agent is found at the default place, and no instance either; that is said, not hidden.
    let e = h.call(&["thaw"]);
    assert!(e.err.contains("warning") && [Some(0), Some(8)].contains(&e.code), "{e:?}");
    h.write_config(&good);
    ends(&h.call(&["thaw"]), 0, "writes resumed");
    frozen_times(&h, 1);
    works_again(&h);
}

#[test]
fn code_3_the_hold_ran_out() {
    let h = host();
    let id = new_id();
    let e = h.call(&["freeze", "--no-sync", "--id", &id, "--hold", "1s"]);
    assert_eq!(e.code, Some(0), "{e:?}");
    h.until("the thaw by itself", 4_000, || h.engine.history().iter().any(|x| x.what == What::Thawed));
    ends(&h.call(&["thaw", "--id", &id]), 3, "hold ran out");
    frozen_times(&h, 1);
    works_again(&h);
}

#[test]
fn code_3_another_tool_thawed() {
    let h = host();
    let id = new_id();
    freeze(&h, &id);
    assert_eq!(h.engine.sim().other_tool("ExternalThaw()"), Some(5));
    let e = h.call(&["thaw", "--id", &id, "--json"]);
    ends(&e, 3, "not-frozen-before-thaw");
    frozen_times(&h, 1);
    works_again(&h);
}

#[test]
fn code_3_another_tool_thawed_and_froze_again() {
    let h = host();
    let id = new_id();
    freeze(&h, &id);
    assert_eq!(h.engine.sim().other_tool("ExternalThaw()"), Some(5));
    assert_eq!(h.engine.sim().other_tool("ExternalFreeze()"), Some(5));
    let e = h.call(&["thaw", "--id", &id, "--json"]);
    ends(&e, 3, "other-tool");
    frozen_times(&h, 2);
    works_again(&h);
}

#[test]
fn code_6_the_freeze_fails() {
    let h = host();
    h.engine.sim().ctl(&["freeze_fail=System failed to quiesce"]);
    ends(&h.call(&["freeze"]), 6, "System failed to quiesce");
    frozen_times(&h, 0);
    h.engine.sim().ctl(&["freeze_fail="]);
    works_again(&h);
}

#[test]
fn code_6_the_freeze_hangs() {
    let h = host();
    h.engine.sim().ctl(&["freeze_hang=1"]);
    ends(&h.call(&["freeze"]), 6, "Freeze.TimedOut");
    // While it may still land nobody freezes.
    ends(&h.call(&["freeze"]), 4, "Freeze.Refused.Guarding");
    h.engine.sim().ctl(&["freeze_hang=0"]);
    frozen_times(&h, 0);
    works_again(&h);
}

#[test]
fn code_6_and_the_guard_thaws_what_lands_late() {
    let h = host();
    h.engine.sim().ctl(&["freeze_delay_ms=4500", "freeze_after_client_died=1", "freeze_late_ms=700"]);
    ends(&h.call(&["freeze"]), 6, "Freeze.TimedOut");
    assert!(!h.engine.history().iter().any(|x| x.what == What::Frozen), "it landed too early for this test");
    h.until("the late landing", 10_000, || h.engine.history().iter().any(|x| x.what == What::Frozen));
    let landed = h.engine.history().iter().find(|x| x.what == What::Frozen).unwrap().at_ms;
    frozen_times(&h, 1);
    let thawed = h.engine.history().iter().find(|x| x.what == What::Thawed).unwrap().at_ms;
    assert!(thawed - landed < 4_000, "the guard took {} ms", thawed - landed);
    h.engine.sim().ctl(&["freeze_delay_ms=", "freeze_after_client_died=", "freeze_late_ms="]);
    works_again(&h);
}

#[test]
fn code_7_the_snapshot_fails() {
    use std::os::unix::fs::PermissionsExt;
    let h = host();
    let helper = h.disk.path().join("helper");
    std::fs::write(&helper, "#!/bin/sh\necho READY\nread go\necho no space left >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let to = h.disk.path().join("backups");
    std::fs::create_dir_all(&to).unwrap();
    let e = h.call(&["backup", "--to", to.to_str().unwrap(), "--snapshotter", "command", "--json", "--command", helper.to_str().unwrap()]);
    ends(&e, 7, "Snapshot.Failed");
    frozen_times(&h, 1);
    works_again(&h);
}

const REFUSED: [&str; 3] = ["thaw_fail=1", "native_thaw_fail=1", "irisstat_w_fail=1"];
const GRANTED: [&str; 3] = ["thaw_fail=", "native_thaw_fail=", "irisstat_w_fail="];

#[test]
fn code_8_every_rung_refused_and_the_recovery_afterwards() {
    let h = Host::iris(Setup { window: "wd_suspend_limit = \"600s\"\n".into(), ..calm() });
    let id = new_id();
    freeze(&h, &id);
    h.engine.sim().ctl(&REFUSED);
    ends(&h.call(&["thaw", "--id", &id]), 8, "Thaw.LeftFrozen");
    assert!(h.engine.frozen() && h.status()["left_frozen"] == true, "{}", h.status());
    let e = h.call(&["thaw"]);
    ends(&e, 8, "STILL FROZEN: run");
    assert!(e.out.contains("stat IRIS -W"), "every rung is printed: {}", e.out);
    let e = h.call(&["status"]);
    ends(&e, 0, "LEFT FROZEN");
    assert!(h.engine.frozen(), "agent and watchdog cannot do it either");
    // They never gave up.
    h.engine.sim().ctl(&GRANTED);
    frozen_times(&h, 1);
    h.until("the agent's own confirmation", 10_000, || h.phase() == "idle");
    ends(&h.call(&["thaw", "--id", &id]), 3, "thawed");
    works_again(&h);
    assert_eq!(h.status()["left_frozen"], false);
}

#[test]
fn code_10_no_agent() {
    let h = host();
    assert!(h.agent.stop(10_000));
    ends(&h.call(&["freeze"]), 10, "Agent.Unreachable");
    ends(&h.call(&["rehearse"]), 10, "Agent.Unreachable");
    ends(&h.call(&["thaw", "--id", &new_id()]), 10, "Agent.Unreachable");
    // What an emergency needs goes without.
    ends(&h.call(&["status"]), 0, "NOT REACHABLE");
    ends(&h.call(&["frozen"]), 0, "IRIS: no");
    assert_eq!(h.engine.sim().other_tool("ExternalFreeze()"), Some(5));
    ends(&h.call(&["thaw"]), 0, "writes resumed");
    frozen_times(&h, 1);
}

#[test]
fn code_130_interrupted_while_it_freezes_and_while_it_thaws() {
    let h = host();
    h.engine.sim().ctl(&["freeze_delay_ms=1500"]);
    for verb in ["freeze", "rehearse"] {
        h.points.clear();
        let c = h.spawn(&[verb]);
        h.points.wait("agent.freezer.before", 10_000).expect("a freeze under way");
        sleep_ms(300);
        signal(c.pid(), Signal::INT);
        ends(&c.wait(30_000), 130, "Interrupted");
        assert!(!h.engine.frozen());
        h.until("an idle agent", 20_000, || h.phase() == "idle");
    }
    h.engine.sim().ctl(&["freeze_delay_ms="]);
    works_again(&h);
}
