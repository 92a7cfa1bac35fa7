//! The last stdout line of every verb that is run over SSM, read by the reader that a coordinator uses.

use super::{answer, frozen_times, host};
use protocol::Code;
use protocol::answer::{BadAnswer, read};
use protocol::wire::{BackupReply, Facts, FreezeReply, Phase, Problem, StatusReply, ThawReply};
use suite::host::new_id;

#[test]
fn every_verb_ends_with_an_answer_that_is_read_whole() {
    let h = host("");
    let id = new_id();
    let e = h.call(&["facts", "--json", "--id", &id, "--hold", "6000ms"]);
    assert_eq!(answer(&e, Some(&id)).whole::<Facts>("facts").unwrap().phase, Phase::Idle);

    let e = h.call(&["freeze", "--json", "--id", &id, "--hold", "6000ms", "--by", "coordinator/1"]);
    let a = answer(&e, Some(&id));
    let frozen: FreezeReply = a.whole("freeze").unwrap();
    assert_eq!((frozen.by.as_str(), frozen.id.to_string()), ("coordinator/1", id.clone()));
    assert!(!frozen.instances[0].marks.is_empty() && a.body.is_some(), "{frozen:?}");
    assert!(a.line["remaining_ms"].as_u64().is_some() && a.line.get("instances").is_none(), "the last line is small: {}", a.line);

    let e = h.call(&["status", "--json"]);
    let status: StatusReply = answer(&e, Some(&id)).whole("status").unwrap();
    assert_eq!((status.phase, status.by.as_str()), (Phase::Frozen, "coordinator/1"));
    let other = new_id();
    let e = h.call(&["status", "--json", "--id", &other]);
    assert_eq!(answer(&e, Some(&other)).whole::<StatusReply>("status").unwrap().id, status.id, "the id of the question is repeated");

    let e = h.call(&["thaw", "--json", "--id", &id]);
    let window = answer(&e, Some(&id)).whole::<ThawReply>("window").unwrap().window;
    assert!(window.state.is_unbroken() && !window.evidence.is_empty(), "{window:?}");
    let e = h.call(&["rehearse", "--json", "--hold", "6s"]);
    assert!(answer(&e, None).whole::<ThawReply>("window").unwrap().window.state.is_unbroken());

    let to = h.disk.path().join("backups");
    std::fs::create_dir(&to).unwrap();
    let id = new_id();
    let helper = "echo READY; read go; echo snapshot=snap-1; echo DONE";
    let args =
        ["backup", "--json", "--id", &id, "--to", to.to_str().unwrap(), "--snapshotter", "command", "--command", "/bin/sh", "-c", helper];
    let e = h.call(&args);
    let b: BackupReply = answer(&e, Some(&id)).whole("backup").unwrap();
    assert_eq!((e.code, b.verdict.word(), b.produced[0]["snapshot"].as_str()), (Some(0), "held", "snap-1"), "{e:?}");
    frozen_times(&h, 3);
}

#[test]
fn every_problem_is_an_answer_too() {
    let h = host("");
    let id = new_id();
    let problem = |args: &[&str], id: Option<&str>, exit: i32, code: Code| {
        let e = h.call(args);
        let a = answer(&e, id);
        assert_eq!((e.code, a.code), (Some(exit), Some(code)), "{args:?}: {e:#?}");
        assert!(!a.detail().is_empty() && a.whole::<Problem>("problem").is_ok(), "{args:?}: {e:#?}");
    };
    problem(&["thaw", "--json", "--id", &id], Some(&id), 4, Code::ThawUnknownId);
    problem(&["freeze", "--json", "--id", &id], Some(&id), 4, Code::RefusedUsedId);
    problem(&["rehearse", "--json", "--hold", "1179s"], None, 4, Code::RefusedHold);
    problem(&["backup", "--json", "--id", &id, "--to", "/nowhere"], Some(&id), 2, Code::UsageInvalid);
    h.engine.sim().ctl(&["freeze_fail=System failed to quiesce"]);
    let other = new_id();
    problem(&["freeze", "--json", "--id", &other], Some(&other), 6, Code::FreezeFailed);
    h.engine.sim().ctl(&["freeze_fail="]);
    assert!(h.agent.stop(10_000));
    problem(&["facts", "--json", "--id", &id], Some(&id), 10, Code::AgentUnreachable);
    problem(&["freeze", "--json", "--id", &id], Some(&id), 10, Code::AgentUnreachable);
    problem(&["status", "--json", "--id", &id], Some(&id), 0, Code::AgentUnreachable);
    h.write_config("[nonsense]");
    problem(&["freeze", "--json", "--id", &id], Some(&id), 2, Code::ConfigInvalid);
    problem(&["facts", "--json", "--id", &id], Some(&id), 2, Code::ConfigInvalid);
    frozen_times(&h, 0);
}

/// The control: what a channel may do to the output is seen by the reader.
#[test]
fn an_answer_that_was_cut_or_mixed_is_none() {
    let h = host("");
    let id = new_id();
    let e = h.call(&["facts", "--json", "--id", &id]);
    let asked = Some(id.parse().unwrap());
    assert!(read(&e.out, asked).is_ok());
    assert_eq!(read(&e.out.replacen("\"schema\":1", "\"schema\":2", 1), asked), Err(BadAnswer::Cut));
    assert_eq!(read(&e.out[1..], asked), Err(BadAnswer::Cut));
    assert_eq!(read(&format!("{}bye\n", e.out), asked), Err(BadAnswer::NoMarker));
    assert_eq!(read(&e.out[..e.out.len() / 2], asked), Err(BadAnswer::NoMarker));
    assert!(matches!(read(&e.out, Some(new_id().parse().unwrap())), Err(BadAnswer::OtherId { .. })));
}

/// One event, delivered twice: two callers under one id. The window is the first one's; only a thaw that names nobody, or its
/// opener, ends it.
#[test]
fn a_thaw_by_another_name_leaves_the_window_alone() {
    let h = host("");
    let id = new_id();
    assert_eq!(h.call(&["freeze", "--json", "--id", &id, "--hold", "30s", "--by", "one"]).code, Some(0));
    let e = h.call(&["freeze", "--json", "--id", &id, "--hold", "30s", "--by", "two"]);
    assert_eq!(answer(&e, Some(&id)).whole::<FreezeReply>("freeze").unwrap().by, "one", "the second one learns whose it is");
    let e = h.call(&["thaw", "--json", "--id", &id, "--by", "two"]);
    assert_eq!((e.code, answer(&e, Some(&id)).code), (Some(4), Some(Code::ThawNotYours)), "{e:?}");
    assert!(h.engine.frozen(), "left alone");
    let (status, body) = h.api("POST", &format!("/v1/freezes/{id}/thaw"), "{\"buy\":\"one\"}").unwrap();
    assert_eq!((status, body["code"].as_str()), (400, Some("Usage.Invalid")), "an unknown key is not taken for nobody: {body}");
    assert!(h.engine.frozen());
    let e = h.call(&["thaw", "--json", "--id", &id, "--by", "one"]);
    assert!(answer(&e, Some(&id)).whole::<ThawReply>("window").unwrap().window.state.is_unbroken(), "{e:?}");
    frozen_times(&h, 1);
    // What is over is told to everybody: there is nothing left to disturb.
    let e = h.call(&["thaw", "--json", "--id", &id, "--by", "two"]);
    assert_eq!(e.code, Some(0), "{e:?}");

    let id = new_id();
    assert_eq!(h.call(&["freeze", "--json", "--id", &id, "--hold", "30s", "--by", "one"]).code, Some(0));
    assert_eq!(h.call(&["thaw", "--json", "--id", &id]).code, Some(0), "a person who names nobody is obeyed");
    frozen_times(&h, 2);
}
