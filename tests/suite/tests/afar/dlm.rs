//! `hook dlm`: every code of DLM's convention, and that 0 is never said of what is not known.

use super::{answer, frozen_times, host, reconfigure};
use protocol::Code;
use protocol::wire::{Facts, FreezeReply, ThawReply};
use rustix::process::Signal;
use suite::host::{Ended, Host, new_id, signal};

fn hook(h: &Host, stage: &str, id: &str) -> Ended {
    h.call(&["hook", "dlm", stage, "--execution-id", id, "--json"])
}

#[track_caller]
fn ends(e: &Ended, code: i32, why: &str) {
    assert!(e.code == Some(code) && format!("{}{}", e.out, e.err).contains(why), "not {code} {why}: {e:#?}");
}

#[test]
fn pre_freezes_post_thaws_and_the_window_is_recorded() {
    let h = host("");
    let to = h.disk.path().join("sets");
    let text = std::fs::read_to_string(h.config_path()).unwrap();
    reconfigure(&h, &format!("{text}[backup]\nto = [\"{}\"]\n", to.display()));
    let e = hook(&h, "dry-run", "None");
    ends(&e, 0, "IRIS");
    assert_eq!(answer(&e, None).whole::<Facts>("facts").unwrap().problems, []);
    assert_eq!(h.call(&["hook", "dlm", "dry-run"]).code, Some(0), "DLM's default is None");
    assert!(h.engine.history().is_empty());

    let id = new_id();
    let e = hook(&h, "pre", &id);
    ends(&e, 0, "");
    let frozen: FreezeReply = answer(&e, Some(&id)).whole("freeze").unwrap();
    assert!(h.engine.frozen() && (70_000..=80_000).contains(&frozen.remaining_ms), "twice 10 s and 60 s: {frozen:?}");
    let e = hook(&h, "post", &id);
    ends(&e, 0, "unbroken");
    let window = answer(&e, Some(&id)).whole::<ThawReply>("window").unwrap().window;
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(to.join(format!("dlm/{id}.json"))).unwrap()).unwrap();
    assert_eq!((&kept["exit"], &kept["window"]["state"]["state"]), (&0.into(), &"unbroken".into()));
    assert_eq!(kept["window"]["marks"], serde_json::to_value(&window.marks).unwrap());
    // DLM's own words for the stages.
    let id = new_id();
    ends(&hook(&h, "pre-script", &id), 0, "");
    ends(&hook(&h, "post-script", &id), 0, "unbroken");
    frozen_times(&h, 2);
}

#[test]
fn code_1_bad_parameters() {
    let h = host("");
    for (stage, id) in [("pre", "None"), ("post", "None"), ("pre", "; reboot"), ("post", ""), ("dry-run", "none")] {
        ends(&hook(&h, stage, id), 1, "Usage.Invalid");
    }
    for args in [&["hook", "dlm", "sideways"][..], &["hook", "dlm"], &["hook", "dlm", "pre", "--nonsense"]] {
        assert_eq!(h.call(args).code, Some(1), "{args:?}");
    }
    assert!(h.engine.history().is_empty());
}

#[test]
fn code_204_frozen_already_and_it_stays_with_its_owner() {
    let h = host("");
    let id = new_id();
    ends(&hook(&h, "pre", &id), 0, "");
    ends(&hook(&h, "pre", &id), 204, "Freeze.Refused.Busy");
    ends(&hook(&h, "pre", &new_id()), 204, "Freeze.Refused.Busy");
    assert!(h.engine.frozen());
    ends(&hook(&h, "post", &id), 0, "unbroken");
    h.until("an idle agent", 10_000, || h.phase() == "idle");
    assert_eq!(h.engine.sim().other_tool("ExternalFreeze()"), Some(5));
    ends(&hook(&h, "pre", &new_id()), 204, "Freeze.Refused.AlreadyFrozen");
    assert!(h.engine.frozen(), "another tool's freeze is not thawed");
    ends(&hook(&h, "dry-run", &new_id()), 206, "Freeze.Refused.AlreadyFrozen");
    assert_eq!(h.engine.sim().other_tool("ExternalThaw()"), Some(5));
    frozen_times(&h, 2);
}

#[test]
fn code_205_thawed_already() {
    let h = host("");
    ends(&hook(&h, "post", &new_id()), 205, "Thaw.UnknownId");
    let id = new_id();
    ends(&hook(&h, "pre", &id), 0, "");
    // A person thaws by id between the scripts: unbroken, but nobody knows whether the snapshot came before it.
    assert_eq!(h.call(&["thaw", "--id", &id]).code, Some(0));
    ends(&hook(&h, "post", &id), 205, "unbroken");
    ends(&hook(&h, "post", &id), 205, "unbroken");
    ends(&hook(&h, "pre", &id), 201, "Freeze.Refused.UsedId");
    frozen_times(&h, 1);
}

#[test]
fn code_203_thawed_by_itself_before_post() {
    let h = host("[dlm]\nhold = \"2s\"\n");
    let id = new_id();
    ends(&hook(&h, "pre", &id), 0, "");
    h.until("the thaw by itself", 10_000, || !h.engine.frozen());
    ends(&hook(&h, "post", &id), 203, "hold-expired");
    h.until("an idle agent", 10_000, || h.phase() == "idle");
    // Thawed behind the agent's back, as by the engine's own limit.
    let id = new_id();
    ends(&hook(&h, "pre", &id), 0, "");
    assert_eq!(h.engine.sim().other_tool("ExternalThaw()"), Some(5));
    ends(&hook(&h, "post", &id), 203, "not-frozen-before-thaw");
    frozen_times(&h, 2);
}

#[test]
fn code_202_the_window_is_broken_or_the_thaw_is_not_confirmed() {
    let h = host("");
    let id = new_id();
    ends(&hook(&h, "pre", &id), 0, "");
    assert_eq!(h.engine.sim().other_tool("ExternalThaw()"), Some(5));
    assert_eq!(h.engine.sim().other_tool("ExternalFreeze()"), Some(5));
    ends(&hook(&h, "post", &id), 202, "other-tool");
    h.until("an idle agent", 10_000, || h.phase() == "idle");
    let id = new_id();
    ends(&hook(&h, "pre", &id), 0, "");
    h.engine.sim().ctl(&["thaw_fail=1", "native_thaw_fail=1", "irisstat_w_fail=1"]);
    ends(&hook(&h, "post", &id), 202, "Thaw.LeftFrozen");
    assert!(h.engine.frozen());
    h.engine.sim().ctl(&["thaw_fail=", "native_thaw_fail=", "irisstat_w_fail="]);
    frozen_times(&h, 3);
}

#[test]
fn code_201_a_freeze_that_fails_leaves_no_instance_frozen() {
    let h = host("");
    h.engine.sim().ctl(&["freeze_fail=System failed to quiesce"]);
    ends(&hook(&h, "pre", &new_id()), 201, "Freeze.Failed");
    h.engine.sim().ctl(&["freeze_fail="]);
    frozen_times(&h, 0);
    // A second instance that does not freeze: the first is thawed again.
    let text = std::fs::read_to_string(h.config_path()).unwrap();
    let second = "[[instance]]\nengine = \"command\"\nname = \"SECOND\"\nfreeze = [\"/bin/sh\", \"-c\", \"sleep 2; exit 7\"]\n\
                  thaw = [\"/bin/true\"]\nis_frozen = [\"/bin/false\"]\ncontinuity = \"trust\"\n";
    reconfigure(&h, &format!("{text}{second}"));
    let id = new_id();
    let e = hook(&h, "pre", &id);
    ends(&e, 201, "SECOND");
    assert_eq!(answer(&e, Some(&id)).code, Some(Code::FreezeFailed));
    frozen_times(&h, 1);
    ends(&hook(&h, "post", &id), 202, "freeze-unconfirmed");
}

#[test]
fn code_201_a_pre_that_runs_out_of_its_own_time_or_is_ended_thaws() {
    let h = host("");
    h.engine.sim().ctl(&["freeze_delay_ms=60000"]);
    let begun = doors::clock::boot_now();
    let e = hook(&h, "pre", &new_id());
    ends(&e, 201, "Freeze.TimedOut");
    // Its own 8 s, not the agent's 30 s for a freeze call.
    assert!(e.at_ms - begun.0 < 25_000, "after {} ms", e.at_ms - begun.0);
    frozen_times(&h, 0);
    // A freeze that was killed is looked for until its 30 s are over.
    h.until("an idle agent", 60_000, || h.phase() == "idle");
    h.points.clear();
    let c = h.spawn(&["hook", "dlm", "pre", "--execution-id", &new_id(), "--json"]);
    h.points.wait("agent.freezer.before", 10_000).expect("a freeze under way");
    signal(c.pid(), Signal::TERM);
    ends(&c.wait(30_000), 201, "Interrupted");
    h.engine.sim().ctl(&["freeze_delay_ms="]);
    frozen_times(&h, 0);
}

#[test]
fn code_206_not_ready_and_no_instance_is_never_success() {
    let h = host("");
    h.engine.sim().ctl(&["journal_frozen=1"]);
    for stage in ["pre", "dry-run"] {
        ends(&hook(&h, stage, &new_id()), 206, "Freeze.Refused.Journaling");
    }
    h.engine.sim().ctl(&["journal_frozen="]);
    let (code, said) = h.engine.sim().iris(&["stop", "IRIS", "quietly"]);
    assert_eq!(code, Some(0), "{said}");
    for stage in ["pre", "dry-run"] {
        ends(&hook(&h, stage, &new_id()), 206, "Freeze.Refused.Instance");
    }
    // The published sample ends with 0 here.
    let text = h.config_text();
    reconfigure(&h, &text[..text.find("[[instance]]").unwrap()]);
    for stage in ["pre", "dry-run"] {
        ends(&hook(&h, stage, &new_id()), 206, "Freeze.Refused.Instance");
    }
    assert!(h.agent.stop(10_000));
    for stage in ["pre", "dry-run"] {
        ends(&hook(&h, stage, &new_id()), 206, "Agent.Unreachable");
    }
    ends(&hook(&h, "post", &new_id()), 202, "Agent.Unreachable");
    h.write_config("[nonsense]");
    ends(&hook(&h, "pre", &new_id()), 206, "Config.Invalid");
    assert!(h.engine.history().is_empty(), "{:?}", h.engine.history());
}
