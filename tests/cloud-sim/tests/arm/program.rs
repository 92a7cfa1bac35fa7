//! The program and its control API.

use crate::stage::{COMPUTE, SUB, VM, http, snapshot_of};
use cloud_sim::arm::{ArmDisk, ArmHost, ArmPrincipal, Vm};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

struct Program {
    child: Child,
    url: String,
    tls: Option<(String, String)>,
    _dir: tempfile::TempDir,
}

impl Program {
    fn start(tls: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloud-sim"));
        command.args(["--arm", "--quick"]).args(tls.then_some("--tls")).arg("--state").arg(dir.path().join("state"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let url = lines.next().unwrap();
        let tls = tls.then(|| (lines.next().unwrap(), lines.next().unwrap()));
        Self { child, url, tls, _dir: dir }
    }

    fn control(&self, method: &str, what: &str, body: Value) -> Result<Value, String> {
        let got = http(method, &self.url, &format!("/_sim/{what}"), &[], &body).unwrap();
        if got.status == 200 { Ok(got.body) } else { Err(got.text) }
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
    let p = Program::start(false);
    let bytes = tempfile::tempdir().unwrap();
    std::fs::write(bytes.path().join("a"), "1").unwrap();
    let vm = Vm::new(SUB, "rg1", "vm1").data_disk(0, ArmDisk::new("data0").dir(bytes.path()));
    p.control("POST", "vms", json!(vm)).unwrap();
    let minimal = json!({ "subscription": SUB, "group": "rg1", "name": "vm2", "os_disk": { "name": "vm2-os" } });
    p.control("POST", "vms", minimal).unwrap();
    p.control("POST", "hosts", json!(ArmHost::new(VM))).unwrap();
    p.control("POST", "groups", json!({ "subscription": SUB, "group": "rg2" })).unwrap();
    p.control("POST", "principals", json!(ArmPrincipal::new("reader").actions(&["*/read"]))).unwrap();
    let token = p.control("POST", "token", json!({ "principal": "reader" })).unwrap()["token"].as_str().unwrap().to_owned();
    let imds = p.control("POST", "imds", json!({ "vm": VM })).unwrap()["url"].as_str().unwrap().to_owned();
    assert!(imds.starts_with("http://127.0.0.1:"));
    let rule = json!({ "match": { "op": "snapshots.put" }, "fault": { "kind": "throttle", "retry_after_s": 1 }, "times": 1 });
    let id = p.control("POST", "faults", rule).unwrap()["id"].clone();
    let put = |bearer: &str| {
        let path = format!("{COMPUTE}/snapshots/s1?api-version=1");
        http("PUT", &p.url, &path, &[&format!("authorization: Bearer {bearer}")], &snapshot_of("data0")).unwrap().status
    };
    assert_eq!((put("any"), put(&token), put("any")), (429, 403, 202));
    let faults = p.control("GET", "faults", Value::Null).unwrap();
    assert_eq!((&faults[0]["id"], &faults[0]["hits"], &faults[0]["seen"]), (&id, &json!(1), &json!(3)));
    p.control("POST", "windows", json!({ "name": "w", "from_ms": 0 })).unwrap();
    let calls = p.control("GET", "calls", Value::Null).unwrap();
    assert_eq!(
        (&calls[0]["op"], &calls[0]["windows"], &calls[1]["error"]),
        (&json!("snapshots.put"), &json!(["w"]), &json!("AuthorizationFailed"))
    );
    crate::stage::wait(|| p.control("GET", "snapshots", Value::Null).unwrap()[0]["state"] == "Succeeded");
    let snapshots = p.control("GET", "snapshots", Value::Null).unwrap();
    assert_eq!(std::fs::read_to_string(format!("{}/a", snapshots[0]["dir"].as_str().unwrap())).unwrap(), "1");
    let mut more = snapshots[0].clone();
    more["id"] = json!(format!("{COMPUTE}/snapshots/s2"));
    p.control("POST", "snapshots", more).unwrap();
    assert_eq!(p.control("GET", "snapshots", Value::Null).unwrap().as_array().unwrap().len(), 2);
    p.control("POST", "power", json!({ "vm": VM, "power": "deallocated" })).unwrap();
    p.control("POST", "online", json!({ "vm": VM, "online": false })).unwrap();
    for none in ["points", "runs"] {
        assert_eq!(p.control("GET", none, Value::Null).unwrap(), json!([]));
    }
    assert!(p.control("GET", "identity", Value::Null).unwrap()["IDENTITY_HEADER"].is_string());
}

#[test]
fn a_mistake_is_an_error_and_not_a_default() {
    let p = Program::start(true);
    for (what, body) in [
        ("hosts", json!({ "vm": VM, "enviroment": {} })),
        ("vms", json!({ "subscription": SUB, "group": "rg1", "name": "vm2" })),
        ("faults", json!({ "match": { "opp": "x" }, "fault": { "kind": "conflict" } })),
        ("faults", json!({ "match": {}, "fault": { "kind": "conflikt" } })),
        ("power", json!({ "vm": "/none", "power": "running" })),
        ("nothing", json!({})),
    ] {
        assert!(p.control("POST", what, body).is_err(), "{what}");
    }
    let (url, file) = p.tls.clone().unwrap();
    assert!(url.starts_with("https://localhost:") && std::fs::read_to_string(file).unwrap().contains("BEGIN CERTIFICATE"));
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_cloud-sim")).args(args).arg("--state").arg(p._dir.path()).output().unwrap();
    assert!(!run(&["--tls"]).status.success(), "TLS is ARM's");
    let out = run(&["--arm", "--listen", "0.0.0.0:0"]);
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("loopback only"), "{out:?}");
}
