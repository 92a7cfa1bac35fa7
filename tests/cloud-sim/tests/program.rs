//! The binary and its control API: what a shell can do with it.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the doors")]

mod common;

use common::{http, post};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

struct Program {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Program {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloud-sim"));
        let mut child = command.arg("--quick").arg("--state").arg(dir.path().join("state")).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned(), _dir: dir }
    }

    fn control(&self, method: &str, what: &str, body: Value) -> Result<Value, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, text) = http(method, &self.url, &format!("/_sim/{what}"), &[], &body).unwrap();
        if status == 200 { Ok(serde_json::from_str(&text).unwrap()) } else { Err(text) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn everything_is_set_up_and_read_over_http() {
    let p = Program::start();
    let bytes = tempfile::tempdir().unwrap();
    std::fs::write(bytes.path().join("a"), "1").unwrap();
    let volume = json!({ "id": "vol-1", "device": "/dev/sdf", "size": 8, "type": "st1", "dir": bytes.path() });
    p.control("POST", "instances", json!({ "id": "i-1", "tags": { "a": "b" }, "volumes": [volume] })).unwrap();
    let host = p.control("POST", "hosts", json!({ "id": "i-1", "env": { "A": "b" }, "imds": true })).unwrap();
    assert!(host["imds"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    p.control(
        "POST",
        "documents",
        json!({ "name": "d", "content": r#"{"schemaVersion":"2.2","mainSteps":[{"action":"aws:runShellScript","name":"step"}]}"# }),
    )
    .unwrap();
    let rule = json!({ "match": { "action": "CreateSnapshots" }, "fault": { "kind": "throttle" }, "times": 1 });
    let id = p.control("POST", "faults", rule).unwrap()["id"].clone();
    let form = "Action=CreateSnapshots&Version=2016-11-15&InstanceSpecification.InstanceId=i-1";
    let call = || post(&p.url, "/", &["content-type: application/x-www-form-urlencoded"], form).unwrap().0;
    assert_eq!((call(), call()), (503, 200));
    let faults = p.control("GET", "faults", Value::Null).unwrap();
    assert_eq!((&faults[0]["id"], &faults[0]["hits"], &faults[0]["seen"]), (&id, &json!(1), &json!(2)));
    p.control("POST", "windows", json!({ "name": "w", "from_ms": 0 })).unwrap();
    let calls = p.control("GET", "calls", Value::Null).unwrap();
    assert_eq!(
        (&calls[1]["action"], &calls[1]["windows"], &calls[0]["error"]),
        (&json!("CreateSnapshots"), &json!(["w"]), &json!("RequestLimitExceeded"))
    );
    let snapshots = p.control("GET", "snapshots", Value::Null).unwrap();
    assert_eq!(std::fs::read_to_string(format!("{}/a", snapshots[0]["dir"].as_str().unwrap())).unwrap(), "1");
    p.control("POST", "instances/i-1/state", json!({ "state": "terminated" })).unwrap();
    assert_eq!(call(), 400);
    assert!(p.control("GET", "invocations", Value::Null).unwrap().as_array().unwrap().is_empty());
}

#[test]
fn a_mistake_in_a_request_is_an_error_and_not_a_default() {
    let p = Program::start();
    for (what, body) in [
        ("hosts", json!({ "id": "i-1", "enviroment": {} })),
        ("faults", json!({ "match": { "acton": "x" }, "fault": { "kind": "throttle" } })),
        ("faults", json!({ "match": {}, "fault": { "kind": "thrtle" } })),
        ("documents", json!({ "name": "d", "content": "a: [" })),
        ("nothing", json!({})),
    ] {
        assert!(p.control("POST", what, body).is_err(), "{what}");
    }
    let out = Command::new(env!("CARGO_BIN_EXE_cloud-sim")).args(["--listen", "0.0.0.0:0", "--state"]).arg(p._dir.path()).output().unwrap();
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("loopback only"), "{out:?}");
}
