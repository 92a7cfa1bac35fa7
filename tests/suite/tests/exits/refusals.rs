//! 4: refused before anything was frozen.

use super::{calm, ends, freeze, frozen_times, host, works_again};
use doors::clock::wall_now;
use suite::host::{Host, Setup, What, new_id};

#[track_caller]
fn nothing_was_sent(h: &Host) {
    assert!(h.engine.history().is_empty(), "{:?}", h.engine.history());
}

#[test]
fn a_late_order() {
    let h = host();
    let sent = wall_now().0 - 120_000;
    let (issued, until) = (sent.to_string(), (sent + 60_000).to_string());
    ends(&h.call(&["freeze", "--issued-at", &issued, "--not-after", &until]), 4, "Freeze.Refused.Late");
    ends(&h.call(&["freeze", "--issued-at", &issued]), 4, "Freeze.Refused.Late");
    nothing_was_sent(&h);
    let (issued, until) = (wall_now().0.to_string(), (wall_now().0 + 60_000).to_string());
    let id = new_id();
    let e = h.call(&["freeze", "--id", &id, "--issued-at", &issued, "--not-after", &until]);
    assert_eq!(e.code, Some(0), "an order in time: {e:?}");
    assert_eq!(h.call(&["thaw", "--id", &id]).code, Some(0));
    frozen_times(&h, 1);
}

#[test]
fn a_host_clock_that_is_behind_or_an_order_that_is_valid_too_long() {
    let h = Host::iris(Setup { env: vec![("SNAPFREEZE_WALL_STEP_MS".into(), "-60000".into())], ..calm() });
    let now = wall_now().0;
    ends(&h.call(&["freeze", "--issued-at", &now.to_string()]), 4, "Freeze.Refused.Clock");
    let (issued, until) = ((now - 60_000).to_string(), (now + 700_000).to_string());
    ends(&h.call(&["freeze", "--issued-at", &issued, "--not-after", &until]), 4, "Freeze.Refused.Clock");
    nothing_was_sent(&h);
    // The engine compares the order with its own clock, which is right: the agent's is set.
    assert!(h.agent.stop(10_000));
    h.agent.set_env(&[]);
    h.start_agent();
    works_again(&h);
}

#[test]
fn two_at_once_and_a_used_id() {
    let h = host();
    let (first, second) = (new_id(), new_id());
    freeze(&h, &first);
    ends(&h.call(&["freeze", "--id", &second]), 4, "Freeze.Refused");
    assert!(h.engine.frozen(), "the second order changed the first freeze");
    // A thaw with another id leaves this one alone, and keeps that id out.
    ends(&h.call(&["thaw", "--id", &second]), 4, "Thaw.UnknownId");
    assert!(h.engine.frozen());
    // A lost reply, asked again: the same answer.
    let again = h.call(&["freeze", "--id", &first, "--by", "somebody else", "--json"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.out.contains("\"by\":\"command line\""), "who asked first owns the window: {again:?}");
    assert_eq!(h.call(&["thaw", "--id", &first]).code, Some(0));
    h.until("an idle agent", 10_000, || h.phase() == "idle");
    ends(&h.call(&["freeze", "--id", &first]), 4, "Freeze.Refused.UsedId");
    ends(&h.call(&["freeze", "--id", &second]), 4, "Freeze.Refused.UsedId");
    frozen_times(&h, 1);
    works_again(&h);
}

#[test]
fn two_orders_in_the_same_moment() {
    let h = host();
    h.engine.sim().ctl(&["freeze_delay_ms=800"]);
    let calls: Vec<_> = (0..4).map(|_| h.spawn(&["rehearse", "--hold", "6s"])).collect();
    let codes: Vec<_> = calls.into_iter().map(|c| c.wait(60_000).code).collect();
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(codes.iter().all(|c| matches!(c, Some(0 | 4))), "{codes:?}");
    frozen_times(&h, codes.iter().filter(|c| **c == Some(0)).count());
}

#[test]
fn frozen_by_another_tool_is_refused_and_not_thawed() {
    let h = host();
    assert_eq!(h.engine.sim().other_tool("ExternalFreeze()"), Some(5));
    ends(&h.call(&["freeze"]), 4, "Freeze.Refused.AlreadyFrozen");
    let id = new_id();
    ends(&h.call(&["thaw", "--id", &id]), 4, "Thaw.UnknownId");
    // Neither does a start of the agent touch it.
    assert!(h.agent.stop(10_000));
    h.start_agent();
    ends(&h.call(&["freeze"]), 4, "Freeze.Refused.AlreadyFrozen");
    assert!(h.engine.frozen(), "we thawed what is not ours");
    assert!(!h.engine.history().iter().any(|x| matches!(x.what, What::Thawed | What::ThawCalled)), "{:?}", h.engine.history());
    assert_eq!(h.engine.sim().other_tool("ExternalThaw()"), Some(5));
    frozen_times(&h, 1);
    works_again(&h);
}

#[test]
fn a_hold_that_is_too_long() {
    let h = host();
    for hold in ["1180s", "500ms", "24s"] {
        ends(&h.call(&["freeze", "--hold", hold]), 4, "Freeze.Refused.Hold");
    }
    nothing_was_sent(&h);
}

#[test]
fn a_thaw_before_its_freeze_leaves_a_tombstone_that_survives_a_restart() {
    let h = host();
    let id = new_id();
    ends(&h.call(&["thaw", "--id", &id]), 4, "Thaw.UnknownId");
    ends(&h.call(&["freeze", "--id", &id]), 4, "Freeze.Refused.UsedId");
    assert!(h.agent.stop(10_000));
    h.start_agent();
    ends(&h.call(&["freeze", "--id", &id]), 4, "Freeze.Refused.UsedId");
    nothing_was_sent(&h);
    works_again(&h);
}

#[test]
fn an_instance_that_is_starting_refuses_logins_or_does_not_journal() {
    let h = host();
    for (fault, name) in
        [("state=starting", "Refused.Instance"), ("login=refused", "Refused.Instance"), ("journal_frozen=1", "Refused.Journaling")]
    {
        h.engine.sim().ctl(&[fault]);
        ends(&h.call(&["freeze"]), 4, name);
        let key = fault.split('=').next().unwrap();
        h.engine.sim().ctl(&[&format!("{key}=")]);
    }
    nothing_was_sent(&h);
    works_again(&h);
}

#[test]
fn an_instance_that_is_down_or_unknown() {
    let h = host();
    ends(&h.call(&["freeze", "--instance", "NOSUCH"]), 4, "Freeze.Refused.Instance");
    let (code, said) = h.engine.sim().iris(&["stop", "IRIS", "quietly"]);
    assert_eq!(code, Some(0), "{said}");
    ends(&h.call(&["freeze"]), 4, "Freeze.Refused.Instance");
    nothing_was_sent(&h);
    h.engine.sim().start();
    works_again(&h);
}
