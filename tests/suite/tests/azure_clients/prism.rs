//! The published descriptions of Compute's API, by Prism: requests that they allow, and the double's own answers.

use crate::stage::{COMPUTE, Stage, VM};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use suite::cloud::azure_tools::Prism;

/// Status and body.
fn ask(url: &str, method: &str, path: &str, body: &Value, bearer: bool) -> (u16, Value) {
    let address = url.trim_start_matches("http://");
    let mut s = TcpStream::connect(address).unwrap();
    s.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let bearer = if bearer { "authorization: Bearer x\r\n" } else { "" };
    let head = format!("{method} {path}?api-version=2019-03-01 HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{bearer}");
    write!(s, "{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut text = String::new();
    s.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
    (status, text.split_once("\r\n\r\n").and_then(|(_, b)| serde_json::from_str(b).ok()).unwrap_or(Value::Null))
}

fn wait(there: impl Fn() -> bool) {
    for _ in 0..1000 {
        if there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not come");
}

fn snapshot() -> Value {
    let creation = json!({ "createOption": "Copy", "sourceResourceId": format!("{COMPUTE}/disks/data0") });
    json!({ "location": "westeurope", "properties": { "incremental": true, "creationData": creation } })
}

#[test]
fn the_descriptions_allow_a_good_call_and_refuse_a_bad_one() {
    let Some(prism) = Prism::or_skip("the_descriptions_allow_a_good_call_and_refuse_a_bad_one") else { return };
    let stage = Stage::new();
    let checked = prism.strict(&stage.sim.endpoint(), stage.dir.path());
    let path = format!("{COMPUTE}/snapshots/s1");
    let good = ask(&checked.url(), "PUT", &path, &snapshot(), true);
    assert_eq!((good.0, &good.1["properties"]["provisioningState"]), (202, &json!("Updating")));
    assert_eq!(ask(&checked.url(), "PUT", &path, &snapshot(), false).0, 401);
    let mut bad = snapshot();
    bad["properties"]["creationData"]["createOption"] = json!("Copi");
    bad.as_object_mut().unwrap().remove("location");
    let refused = ask(&checked.url(), "PUT", &path, &bad, true);
    assert_eq!((refused.0, refused.1["validation"].as_array().map(Vec::len)), (422, Some(2)), "{refused:?}");
    assert_eq!(stage.sim.calls_of("snapshots.put").len(), 1, "only the good one came through");
    assert_eq!(ask(&checked.url(), "GET", &format!("{VM}/runCommands"), &Value::Null, true).0, 404, "not described");
}

#[test]
fn the_doubles_answers_are_as_described_and_what_is_not_described_passes() {
    let Some(prism) = Prism::or_skip("the_doubles_answers_are_as_described_and_what_is_not_described_passes") else { return };
    let stage = Stage::new();
    let checked = prism.watching(&stage.sim.endpoint(), stage.dir.path());
    let go = |method: &str, path: &str, body: Value| ask(&checked.url(), method, path, &body, true).0;
    assert_eq!(go("PUT", &format!("{COMPUTE}/snapshots/s1"), snapshot()), 202);
    wait(|| stage.sim.snapshots().iter().all(|s| s.state == "Succeeded"));
    assert_eq!(go("PATCH", &format!("{COMPUTE}/snapshots/s1"), json!({ "tags": { "a": "b" } })), 202);
    for path in ["snapshots/s1", "snapshots", "disks/data0", "disks", "virtualMachines/vm1", "virtualMachines"] {
        assert_eq!(go("GET", &format!("{COMPUTE}/{path}"), Value::Null), 200, "{path}");
    }
    assert_eq!(go("POST", &format!("{VM}/runCommand"), json!({ "commandId": "RunShellScript", "script": ["true"] })), 202);
    assert_eq!(go("DELETE", &format!("{COMPUTE}/snapshots/s1"), Value::Null), 202);
    assert_eq!(go("GET", &format!("{VM}/runCommands"), Value::Null), 200, "not described, not refused");
    wait(|| checked.unchecked() == 1); // The last one is noted, so all are.
    assert_eq!((checked.bad_requests(), checked.bad_answers()), (vec![], vec![]));
    // The control: a request that breaks the description is noted, although it passes.
    let mut bad = snapshot();
    bad["properties"]["incremental"] = json!("yes");
    go("PUT", &format!("{COMPUTE}/snapshots/s2"), bad);
    wait(|| !checked.bad_requests().is_empty());
    let noted = checked.bad_requests();
    assert!(noted.len() == 1 && noted[0].contains("incremental"), "{noted:?}");
}
