//! One release of skew: answers as an older or a newer agent sends them, sagas as an older coordinator stored them.

use crate::kit::{host_id, order, policy};
use crate::story::{RIGHT, by_tasks, world};
use coordinator::ports::FreezeAnswer;
use coordinator::saga::{Freeze, Outcome, Phase, Saga};
use protocol::answer::{self, BadAnswer};
use protocol::wire::{Facts, FreezeReply, MARKER};
use protocol::{BackupId, Code};
use serde_json::{Value, json};

fn id() -> BackupId {
    order(policy(json!({})), 1, "one").id
}

fn frozen() -> Value {
    json!({ "schema": 1, "type": "freeze", "id": id(), "remaining_ms": 58000, "frozen_at": 1764000001000i64, "freeze_ms": 1100,
        "instances": [{ "instance": "IRIS", "marks": [{ "switched": "/j/1", "required": null, "offset": 7 }] }], "warnings": [],
        "by": "nightly one", "sync_ms": 40 })
}

/// As an adapter reads it: the last line, and the line before it with its digest.
fn output(kind: &str, body: &Value) -> String {
    let body = body.to_string();
    let digest = answer::digest_of(&body);
    format!("Last login: today\n{body}\n{MARKER}{}\n", json!({ "schema": 1, "type": kind, "id": id(), "body": digest }))
}

/// What the saga makes of a freeze's stdout: its phase afterwards, and whether the host has to be thawed.
fn after_freeze(stdout: &str) -> (Phase, bool) {
    let sim = world(&[RIGHT]);
    let o = order(policy(json!({})), 1, "one");
    let mut s = Saga::new(o);
    let world = coordinator::drive::World { hosts: &sim, disks: &sim, clock: &sim, told: &|_, _| {} };
    sim.run(world.act(coordinator::Action::Admit, &mut s, None));
    let now = coordinator::ports::Clock::now(&sim);
    s.begin(&s.next(now), now);
    let told = answer::read(stdout, Some(id())).and_then(|a| match a.code {
        Some(code) => Ok(FreezeAnswer::Refused(protocol::wire::Problem::new(code, a.detail()))),
        None => a.whole::<FreezeReply>("freeze").map(FreezeAnswer::Frozen),
    });
    let told = told.unwrap_or_else(|e: BadAnswer| FreezeAnswer::Unknown(e.to_string()));
    s.apply(Outcome::Froze(vec![told]), now);
    let thaws = s.phase == Phase::Thaw && !matches!(s.members[0].freeze, Freeze::Refused { .. } | Freeze::NotOurs { .. });
    (s.phase, thaws)
}

#[test]
fn answers_of_other_versions_and_what_the_saga_does() {
    let with = |key: &str, value: Value| {
        let mut v = frozen();
        v[key] = value;
        v
    };
    let without = |key: &str| {
        let mut v = frozen();
        v.as_object_mut().unwrap().remove(key);
        v
    };
    let problem = |code: &str| format!("{MARKER}{}\n", json!({ "schema": 1, "type": "problem", "id": id(), "code": code, "detail": "x" }));
    let table: Vec<(&str, String, (Phase, bool))> = vec![
        ("today's", output("freeze", &frozen()), (Phase::Snapshot, false)),
        ("a field that is not known yet", output("freeze", &with("queue_depth", json!({ "a": 1 }))), (Phase::Snapshot, false)),
        ("a newer schema with the same fields", output("freeze", &with("schema", json!(2))), (Phase::Snapshot, false)),
        ("older: it does not say who asked first", output("freeze", &without("by")), (Phase::Thaw, true)),
        ("older: it does not say that it wrote the page cache", output("freeze", &without("sync_ms")), (Phase::Thaw, true)),
        ("the page cache was not written", output("freeze", &with("sync_ms", Value::Null)), (Phase::Thaw, true)),
        ("no time left is stated", output("freeze", &without("remaining_ms")), (Phase::Thaw, true)),
        ("a field of another shape", output("freeze", &with("instances", json!("IRIS"))), (Phase::Thaw, true)),
        ("a kind of answer that is not known yet", output("freeze-v2", &frozen()), (Phase::Thaw, true)),
        ("a refusal that is known", problem("Freeze.Refused.Busy"), (Phase::Done, false)),
        ("a refusal that is not known yet", problem("Freeze.Refused.Moon"), (Phase::Thaw, true)),
        ("a failure", problem("Freeze.TimedOut"), (Phase::Thaw, true)),
        (
            "another backup's",
            output("freeze", &frozen()).replace(&id().to_string(), &BackupId::from_uuid(uuid(7)).to_string()),
            (Phase::Thaw, true),
        ),
        ("nothing at all", String::new(), (Phase::Thaw, true)),
    ];
    for (what, stdout, wanted) in &table {
        assert_eq!(after_freeze(stdout), *wanted, "{what}");
    }
    assert_eq!(table.len(), 14);
}

fn uuid(n: u128) -> ::uuid::Uuid {
    ::uuid::Uuid::from_u128(n)
}

#[test]
fn facts_without_the_optional_fields_are_read() {
    let old = json!({ "schema": 1, "agent_version": "0.0.9", "host": "a", "now": 0, "phase": "idle", "left_frozen": false, "more": true,
        "largest_hold_ms": 60000, "instances": [{ "instance": "IRIS", "engine": "iris", "engine_version": "2023.1", "frozen": "no" }],
        "volumes": [], "problems": [] });
    let f: Facts = serde_json::from_value(old).unwrap();
    assert!(f.extra_tags.is_empty() && f.instances[0].buffers_last_ms.is_none());
}

/// Everything that `saga.rs` gives a default: an older coordinator did not write it.
#[test]
fn a_saga_of_an_older_coordinator_goes_on() {
    let sim = world(&[RIGHT]);
    let o = order(policy(json!({})), 1, "one");
    let (saga, _) = by_tasks(&sim, &o, &[RIGHT], None);
    let mut v = serde_json::to_value(Saga::new(o.clone())).unwrap();
    let mut gone = 0;
    for new in ["frozen_by", "problem", "notes", "verdict", "marked", "frozen_from", "thaw_from", "since", "resume_at"] {
        gone += usize::from(v.as_object_mut().unwrap().remove(new).is_some());
    }
    for new in ["host_says", "plan"] {
        gone += usize::from(v["members"][0].as_object_mut().unwrap().remove(new).is_some());
    }
    v["of_the_future"] = json!(1);
    assert_eq!(gone, 11);
    assert_eq!(serde_json::from_value::<Saga>(v).unwrap(), Saga::new(o));
    // In the middle: the plan of an older one does not say when the host was asked.
    let mut v = serde_json::to_value(&saga).unwrap();
    assert!(v["members"][0]["plan"].as_object_mut().unwrap().remove("asked_at").is_some());
    assert!(serde_json::from_value::<Saga>(v).unwrap().members[0].plan.as_ref().unwrap().asked_at.is_none());
    assert_eq!((saga.result(), saga.members[0].target.id.as_str()), (Ok(()), host_id(0).as_str()));
    assert_eq!(Code::Internal.exit(), 1);
}
