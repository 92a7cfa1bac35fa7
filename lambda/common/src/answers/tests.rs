//! Every way in which a command can end, and what it means for each order.

use super::*;
use protocol::answer::digest_of;
use serde_json::{Value, json};

const ID: &str = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e";
const OTHER: &str = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6f";

fn id() -> BackupId {
    ID.parse().unwrap()
}
fn marked(kind: &str, id: &str, body: &Value) -> String {
    let line = body.to_string();
    let marker = json!({ "schema": 1, "type": kind, "id": id, "body": digest_of(&line) });
    format!("Last login: today\n{line}\nSNAPFREEZE {marker}\n")
}
fn problem_of(code: &str) -> String {
    let line = json!({ "schema": 1, "type": "problem", "code": code, "detail": "d", "next": "n" }).to_string();
    let marker = json!({ "schema": 1, "type": "problem", "id": ID, "code": code, "detail": "d", "body": digest_of(&line) });
    format!("{line}\nSNAPFREEZE {marker}\n")
}
fn ended(status: &str, stdout: impl Into<String>) -> Ran {
    Ran::Ended { status: status.into(), output: Output { stdout: stdout.into(), stderr: String::new(), kept: 24_000 } }
}
fn frozen(id: &str) -> Value {
    json!({ "schema": 1, "id": id, "remaining_ms": 50_000, "frozen_at": 1, "freeze_ms": 9, "instances": [], "warnings": [], "by": "me" })
}
fn window(id: &str) -> Value {
    json!({ "schema": 1, "backup_id": id, "state": { "state": "unbroken" }, "frozen_at": 1, "thawed_at": 2, "window_ms": 3, "parts": [],
        "marks": [], "evidence": [] })
}

/// SSM reports finished commands as timed out, and failed scripts as successes: neither changes what the agent said.
#[test]
fn the_marker_counts_whatever_the_status_says() {
    for status in ["Success", "Failed", "DeliveryTimedOut", "Undeliverable", "Cancelled", "ExecutionTimedOut"] {
        assert!(matches!(freeze(ended(status, marked("freeze", ID, &frozen(ID))), id()), FreezeAnswer::Frozen(r) if r.by == "me"));
        assert!(matches!(thaw(ended(status, marked("window", ID, &window(ID))), id()), ThawAnswer::Thawed(w) if w.window_ms == 3));
        // And without one nothing is known, least of all that nothing was frozen.
        for stdout in ["", "frozen\n", "SNAPFREEZE {\"type\":\"freeze\"}\n", "SNAPFREEZE {\n"] {
            assert!(matches!(freeze(ended(status, stdout), id()), FreezeAnswer::Unknown(_)), "{status} {stdout}");
            assert!(matches!(thaw(ended(status, stdout), id()), ThawAnswer::Unknown(_)), "{status} {stdout}");
            assert!(matches!(backup(ended(status, stdout), id()), BackupAnswer::Unknown(_)), "{status} {stdout}");
        }
    }
}

#[test]
fn an_answer_about_another_backup_is_no_answer() {
    for out in [marked("freeze", OTHER, &frozen(OTHER)), marked("freeze", ID, &frozen(OTHER)), marked("window", ID, &window(ID))] {
        assert!(matches!(freeze(ended("Success", out), id()), FreezeAnswer::Unknown(_)));
    }
    for out in [marked("window", OTHER, &window(OTHER)), marked("window", ID, &window(OTHER)), marked("freeze", ID, &frozen(ID))] {
        assert!(matches!(thaw(ended("Success", out), id()), ThawAnswer::Unknown(_)));
    }
    // "No such freeze" and "refused" about another id are no thaw and no refusal of this one.
    for code in ["Thaw.UnknownId", "Freeze.Refused.Late"] {
        let out = problem_of(code).replace(ID, OTHER);
        assert!(matches!(thaw(ended("Failed", out.clone()), id()), ThawAnswer::Unknown(_)), "{code}");
        assert!(matches!(freeze(ended("Failed", out.clone()), id()), FreezeAnswer::Unknown(_)), "{code}");
        assert!(matches!(backup(ended("Failed", out), id()), BackupAnswer::Unknown(_)), "{code}");
    }
}

/// Every code there is: a refusal is certain only for those whose exit class says that nothing was frozen.
#[test]
fn a_problem_is_a_refusal_only_by_its_exit_class() {
    let (mut refused, mut failed) = (0, 0);
    for code in Code::ALL {
        let out = problem_of(code.name());
        let certain = matches!(code.exit(), exit::REFUSED | exit::USAGE | exit::CLOUD_REFUSED | exit::UNREACHABLE);
        match freeze(ended("Failed", out.clone()), id()) {
            FreezeAnswer::Refused(p) if certain => {
                assert_eq!((p.code, p.detail.as_str(), p.next.as_str()), (*code, "d", "n"));
                refused += 1;
            }
            FreezeAnswer::Failed(p) if !certain => {
                assert_eq!(p.code, *code);
                failed += 1;
            }
            other => panic!("{code}: {other:?}"),
        }
        let thawed = thaw(ended("Failed", out.clone()), id());
        match code {
            Code::ThawUnknownId => assert_eq!(thawed, ThawAnswer::NeverFrozen),
            Code::ThawNotYours => assert_eq!(thawed, ThawAnswer::NotOurs),
            Code::LeftFrozen => assert!(matches!(thawed, ThawAnswer::StillFrozen(_))),
            _ => assert!(matches!(thawed, ThawAnswer::Unknown(_)), "{code}"),
        }
        match backup(ended("Failed", out), id()) {
            BackupAnswer::Refused(_) => assert!(certain, "{code}"),
            BackupAnswer::Failed(_) => assert!(!certain, "{code}"),
            other => panic!("{code}: {other:?}"),
        }
    }
    assert!(refused > 10 && failed > 5, "{refused} {failed}");
    // A newer agent's refusal that is not known here is doubt.
    assert!(matches!(freeze(ended("Failed", problem_of("Freeze.Refused.Moon")), id()), FreezeAnswer::Failed(_)));
}

#[test]
fn what_was_not_sent_froze_nothing_and_thawed_nothing() {
    let p = Problem::new(Code::AgentUnreachable, "offline");
    assert_eq!(freeze(Ran::NotSent(p.clone()), id()), FreezeAnswer::Refused(p.clone()));
    assert_eq!(backup(Ran::NotSent(p.clone()), id()), BackupAnswer::Refused(p.clone()));
    assert_eq!(thaw(Ran::NotSent(p.clone()), id()), ThawAnswer::Unknown("offline".into()));
    assert_eq!(facts(Ran::NotSent(p.clone()), id()), Err(p));
    assert!(matches!(freeze(Ran::Lost("gone".into()), id()), FreezeAnswer::Unknown(_)));
    assert!(matches!(thaw(Ran::Lost("gone".into()), id()), ThawAnswer::Unknown(_)));
}

#[test]
fn cut_output_is_called_cut_and_stderr_is_shown() {
    let cut = marked("facts", ID, &json!({ "schema": 1 })).replace("\"schema\":1}\n", "\"schema\":1, }\n");
    let p = facts(ended("Success", cut), id()).unwrap_err();
    assert!(p.detail.contains("was cut"), "{}", p.detail);
    let long = "x".repeat(24_000);
    let p = facts(ended("Success", long), id()).unwrap_err();
    assert!(p.detail.contains("24000 characters"), "{}", p.detail);
    let shell = Ran::Ended { status: "Failed".into(), output: Output { stderr: "snapfreeze: not found".into(), ..Output::default() } };
    assert!(facts(shell, id()).unwrap_err().detail.ends_with("stderr ends with: snapfreeze: not found"));
}

#[test]
fn a_host_held_backup_names_its_snapshots() {
    let mut body = json!({ "schema": 1, "id": ID, "verdict": { "verdict": "held" }, "window": window(ID), "window_ms": 3, "journals": [],
        "produced": [{ "snapshot": "snap-1", "volume": "vol-1" }, { "log": "x" }], "volumes": [], "set": "/s", "by": "me", "notes": [] });
    let BackupAnswer::Done { verdict, snapshots, .. } = backup(ended("Success", marked("backup", ID, &body)), id()) else { panic!() };
    assert_eq!((verdict, snapshots.len()), (protocol::Verdict::Held, 1));
    body["window"]["backup_id"] = json!(OTHER);
    assert!(matches!(backup(ended("Success", marked("backup", ID, &body)), id()), BackupAnswer::Unknown(_)));
}
