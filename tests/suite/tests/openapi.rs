//! `docs/openapi.json` and the running agent say the same: every path, method and status, every schema. And the bounds
//! of the API: who may call, how large, how many, how long.
#![allow(clippy::disallowed_methods, reason = "tests measure with a clock of their own")]

use serde_json::json;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use suite::host::{Host, Setup, new_id, sleep_ms};
use suite::house::agent::{Agent, Reply, exchange};
use suite::house::openapi::Document;

/// Replies of an agent that ends while it answers or that panicked, and of a host whose `iris qlist` hangs: described for
/// completeness, not to be had on order.
const NOT_ON_ORDER: [&str; 6] = [
    "GET /v1/frozen 409",
    "GET /metrics 500",
    "GET /v1/freezes/{id} 500",
    "GET /v1/frozen 500",
    "GET /v1/layout 500",
    "GET /v1/status 500",
];

/// What depends on the disks of this machine and on the engine: `agent/storage` has recorded trees of each kind.
const OF_THE_HOST: [&str; 7] = ["Device", "Volume", "Mount.", "HostPlace.owner", "Owner", "Facts.mirror", "Facts.buffers_last_ms"];

/// Whether it may be missing here.
fn may_be_unseen(what: &str) -> bool {
    NOT_ON_ORDER.contains(&what) || OF_THE_HOST.iter().any(|p| what.starts_with(p))
}

fn document() -> Document {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json")).unwrap();
    Document::new(
        &text,
        Box::new(|schema| {
            let v = jsonschema::draft202012::new(schema).expect("the schema is valid");
            Box::new(move |value| v.validate(value).map_err(|e| format!("{} at {}", e, e.instance_path())))
        }),
    )
}

/// A document, an agent, and a call that must be as described.
struct Talk {
    doc: Document,
    agent: Agent,
}

impl Talk {
    #[track_caller]
    fn ask(&mut self, method: &str, path: &str, id: &str, body: &str, status: u16) -> serde_json::Value {
        let reply = self.agent.call(method, &path.replace("{id}", id), body);
        self.must(method, path, &reply, status);
        if status == 200 && !body.is_empty() {
            self.doc.request(method, path, body).unwrap();
        }
        if reply.content_type == "application/json" { reply.json() } else { reply.body.into() }
    }

    #[track_caller]
    fn must(&mut self, method: &str, path: &str, reply: &Reply, status: u16) {
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        self.doc.check(method, path, reply).unwrap();
    }

    #[track_caller]
    fn refused(&mut self, body: serde_json::Value, status: u16, code: &str) {
        let p = self.ask("POST", "/v1/freezes", "", &body.to_string(), status);
        assert_eq!(p["code"], code, "{p}");
    }
}

fn order(id: &str) -> String {
    let now = jiff::Timestamp::now().as_millisecond();
    json!({ "id": id, "instances": ["T"], "hold_ms": 5000, "issued_at": now, "not_after": now + 60_000, "by": "test" }).to_string()
}

#[test]
fn every_described_reply_schema_and_property_is_seen_and_valid() {
    let mut t = Talk { doc: document(), agent: Agent::start() };
    asking(&mut t);
    refusing(&mut t);
    freezing(&mut t);
    failing(&mut t);
    let mut t = Talk {
        doc: t.doc,
        agent: Agent::start_with(
            "[[instance]]\nengine = \"command\"\nname = \"T\"\nfreeze = [\"/bin/true\"]\nthaw = [\"/bin/true\"]\nis_frozen = [\"/bin/true\"]\n",
        ),
    };
    for (method, path, body) in [("GET", "/v1/frozen", ""), ("GET", "/v1/layout", ""), ("POST", "/v1/freezes", &order(&new_id()))] {
        assert_eq!(t.ask(method, path, "", body, 400)["code"], "Config.Invalid");
    }
    assert_ne!(t.ask("GET", "/v1/status", "", "", 200)["alarms"], json!([]));
    let gtm = format!("[[instance]]\nengine = \"gtm\"\nname = \"G\"\nglobal_directory = \"{}/no.gld\"\n", t.agent.dir.path().display());
    if suite::gtm::installed_or_skip("layout_of_a_lost_database").is_some() {
        let mut t = Talk { doc: t.doc, agent: Agent::start_with(&gtm) };
        t.ask("GET", "/v1/layout", "", "", 409);
        with_journals(&mut t.doc, &Host::iris(Setup::default()));
        with_journals(&mut t.doc, &Host::gtm(Setup::default(), "marks").expect("GT.M is here"));
        let unseen: Vec<_> = t.doc.unseen().into_iter().filter(|u| !may_be_unseen(u)).collect();
        assert!(unseen.is_empty(), "described, but never seen: {unseen:#?}");
    }
}

fn asking(t: &mut Talk) {
    assert_eq!(t.ask("GET", "/v1/status", "", "", 200)["phase"], "idle");
    assert_eq!(t.ask("GET", "/v1/frozen", "", "", 200)["instances"][0]["frozen"], "no");
    assert_eq!(t.ask("GET", "/v1/layout", "", "", 200)["instances"][0]["instance"], "T");
    let figures = t.ask("GET", "/metrics", "", "", 200);
    assert!(figures.as_str().unwrap().contains("snapfreeze_frozen 0"), "{figures}");
    t.agent.set("is_frozen.exit", Some("7"));
    assert_eq!(t.ask("GET", "/v1/frozen", "", "", 200)["instances"][0]["frozen"], "unknown");
    t.refused(json!({ "id": new_id() }), 409, "Freeze.Refused.Instance");
    t.agent.set("is_frozen.exit", None);
}

fn refusing(t: &mut Talk) {
    let id = new_id();
    for (body, status) in [("", 400), ("{", 400), ("[]", 422), ("{}", 422), (r#"{"id":7}"#, 422), (r#"{"id":"not-a-uuid"}"#, 422)] {
        assert_eq!(t.ask("POST", "/v1/freezes", "", body, status)["code"], "Usage.Invalid", "{body}");
    }
    for more in [
        json!({ "holt_ms": 1 }),
        json!({ "hold_ms": -1 }),
        json!({ "hold_ms": "30s" }),
        json!({ "instances": ["a b"] }),
        json!({ "instances": "T" }),
    ] {
        let mut body = json!({ "id": id });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        t.refused(body, 422, "Usage.Invalid");
    }
    let reply = t.agent.send("POST", "/v1/freezes", &[], order(&id).as_bytes());
    t.must("POST", "/v1/freezes", &reply, 415);
    t.refused(json!({ "id": id, "not_after": 1 }), 400, "Usage.Invalid");
    t.refused(json!({ "id": id, "by": "x".repeat(129) }), 400, "Usage.Invalid");
    t.refused(json!({ "id": id, "by": "a\nb" }), 400, "Usage.Invalid");
    t.refused(json!({ "id": id, "hold_ms": 999 }), 409, "Freeze.Refused.Hold");
    t.refused(json!({ "id": id, "hold_ms": 1_180_000 }), 409, "Freeze.Refused.Hold");
    t.refused(json!({ "id": id, "instances": ["U"] }), 409, "Freeze.Refused.Instance");
    t.refused(json!({ "id": id, "issued_at": 1_000_000_000_000_i64 }), 409, "Freeze.Refused.Late");
    t.refused(json!({ "id": id, "issued_at": 9_000_000_000_000_i64 }), 409, "Freeze.Refused.Clock");
    t.refused(json!({ "id": id, "issued_at": 1, "not_after": 9_000_000_000_000_i64 }), 409, "Freeze.Refused.Clock");
    for path in ["/v1/freezes/{id}/thaw", "/v1/freezes/{id}"] {
        let method = if path.ends_with("thaw") { "POST" } else { "GET" };
        assert_eq!(t.ask(method, path, "no-uuid", "", 400)["code"], "Usage.Invalid");
    }
    assert_eq!(t.ask("GET", "/v1/freezes/{id}", &id, "", 404)["code"], "Thaw.UnknownId");
    assert_eq!(t.ask("POST", "/v1/thaw", "", "", 409)["code"], "Thaw.UnknownId");
    // A thaw that overtakes its freeze: the id is kept, and its freeze refused.
    let early = new_id();
    assert_eq!(t.ask("POST", "/v1/freezes/{id}/thaw", &early, "", 409)["code"], "Thaw.UnknownId");
    t.refused(json!({ "id": early }), 409, "Freeze.Refused.UsedId");
    assert_eq!(t.ask("GET", "/v1/freezes/{id}", &early, "", 200)["phase"], "tombstone");
    assert_eq!(t.ask("GET", "/v1/status", "", "", 200)["phase"], "idle", "nothing of all this froze");
    assert!(!t.agent.dir.path().join("frozen").exists());
}

fn freezing(t: &mut Talk) {
    let id = new_id();
    let first = t.ask("POST", "/v1/freezes", "", &order(&id), 200);
    assert_eq!(first["id"], *id);
    let other = order(&id).replace("\"by\":\"test\"", "\"by\":\"another\"");
    let again = t.ask("POST", "/v1/freezes", "", &other, 200);
    assert_eq!(again["frozen_at"], first["frozen_at"], "the same answer again");
    assert_eq!((&first["by"], &again["by"]), (&json!("test"), &json!("test")), "who asked first owns the window");
    t.refused(json!({ "id": new_id() }), 409, "Freeze.Refused.Busy");
    assert_eq!(t.ask("GET", "/v1/status", "", "", 200)["phase"], "frozen");
    assert_eq!(t.ask("GET", "/v1/freezes/{id}", &id, "", 200)["phase"], "frozen");
    assert_eq!(t.ask("GET", "/v1/frozen", "", "", 200)["instances"][0]["frozen"], "yes");
    let other = json!({ "by": "nobody that asked for it" }).to_string();
    t.doc.request("POST", "/v1/freezes/{id}/thaw", &other).unwrap();
    assert_eq!(t.ask("POST", "/v1/freezes/{id}/thaw", &id, &other, 409)["code"], "Thaw.NotYours");
    let window = t.ask("POST", "/v1/freezes/{id}/thaw", &id, "", 200);
    assert_eq!(window["state"]["state"], "unbroken", "{window}");
    assert_eq!(t.ask("POST", "/v1/freezes/{id}/thaw", &id, "", 200), window, "the same result again");
    assert_eq!(t.ask("GET", "/v1/freezes/{id}", &id, "", 200)["window"]["window_ms"], window["window_ms"]);
    t.refused(json!({ "id": id }), 409, "Freeze.Refused.UsedId");
    // A person thaws whatever is open.
    let id = new_id();
    t.ask("POST", "/v1/freezes", "", &order(&id), 200);
    assert_eq!(t.ask("POST", "/v1/thaw", "", "{}", 200)["state"]["reason"]["kind"], "interrupted");
    assert_eq!(t.ask("GET", "/v1/status", "", "", 200)["last"]["backup_id"], *id);
}

fn failing(t: &mut Talk) {
    t.agent.set("freeze.exit", Some("3"));
    t.refused(json!({ "id": new_id() }), 500, "Freeze.Failed");
    t.agent.set("freeze.exit", None);
    t.agent.set("freeze.sleep", Some("30"));
    t.refused(json!({ "id": new_id() }), 500, "Freeze.TimedOut");
    assert_eq!(t.ask("GET", "/v1/status", "", "", 200)["phase"], "guarding");
    t.agent.set("freeze.sleep", None);
    t.refused(json!({ "id": new_id() }), 409, "Freeze.Refused.Guarding");
    let begun = Instant::now();
    while t.ask("GET", "/v1/status", "", "", 200)["phase"] != "idle" {
        assert!(begun.elapsed() < Duration::from_secs(20), "the guard does not end");
        sleep_ms(200);
    }
    // Thaws that do not work: left frozen by id and by "whatever is open"; then mended, and it ends by itself.
    let id = new_id();
    t.ask("POST", "/v1/freezes", "", &order(&id), 200);
    t.agent.set("thaw.exit", Some("1"));
    assert_eq!(t.ask("POST", "/v1/freezes/{id}/thaw", &id, "", 500)["code"], "Thaw.LeftFrozen");
    assert_eq!(t.ask("GET", "/v1/status", "", "", 200)["left_frozen"], true);
    t.agent.set("thaw.exit", None);
    wait_idle(t);
    let id = new_id();
    t.ask("POST", "/v1/freezes", "", &order(&id), 200);
    t.agent.set("thaw.exit", Some("1"));
    assert_eq!(t.ask("POST", "/v1/thaw", "", "", 500)["code"], "Thaw.LeftFrozen");
    t.agent.set("thaw.exit", None);
    wait_idle(t);
    let large = "x".repeat((16 << 10) + 1);
    for path in ["/v1/freezes", "/v1/freezes/{id}/thaw", "/v1/thaw"] {
        t.ask("POST", path, &new_id(), &large, 413);
    }
}

fn wait_idle(t: &mut Talk) {
    let begun = Instant::now();
    while t.ask("GET", "/v1/status", "", "", 200)["phase"] != "idle" {
        assert!(begun.elapsed() < Duration::from_secs(20), "not idle after 20 s");
        sleep_ms(200);
    }
}

/// The toy database has no journals; IRIS's model and GT.M have.
fn with_journals(doc: &mut Document, host: &Host) {
    let mut ask = |method: &str, path: &str, id: &str, body: &str| {
        let (status, body) = host.api(method, &path.replace("{id}", id), body).expect("an answer");
        let reply = Reply { status, content_type: "application/json".into(), body: body.to_string() };
        doc.check(method, path, &reply).unwrap();
        assert_eq!(status, 200, "{method} {path}: {body}");
        body
    };
    ask("GET", "/v1/layout", "", "");
    let id = new_id();
    let reply = ask("POST", "/v1/freezes", "", &json!({ "id": id }).to_string());
    assert_ne!(reply["instances"][0]["marks"], json!([]), "{reply}");
    ask("POST", "/v1/freezes/{id}/thaw", &id, "");
}

#[test]
fn a_document_that_lies_is_found_out() {
    let agent = Agent::start();
    let reply = agent.call("GET", "/v1/status", "");
    assert!(document().check("GET", "/v1/status", &reply).is_ok());
    assert!(document().check("GET", "/v1/nothing", &reply).is_err(), "an undescribed path");
    let broken = Reply { status: 200, content_type: reply.content_type.clone(), body: reply.body.replace("\"idle\"", "\"asleep\"") };
    assert!(document().check("GET", "/v1/status", &broken).unwrap_err().contains("/phase"));
    assert!(document().unseen().len() > 50, "nothing was seen yet");
}

#[test]
fn other_paths_and_methods_get_a_problem() {
    let agent = Agent::start();
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/freezes/", 404),
        ("POST", "/v2/freezes", 404),
        ("GET", "/v1/freezes", 405),
        ("DELETE", "/v1/thaw", 405),
        ("PUT", "/v1/status", 405),
        ("GET", "/v1/thaw", 405),
    ] {
        let r = agent.call(method, path, "");
        assert_eq!((r.status, r.json()["code"].as_str()), (status, Some("Usage.Invalid")), "{method} {path}");
    }
    for garbage in [&b"\0\x01\x02\r\n\r\n"[..], b"GET /v1/status HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n"] {
        let r = agent.raw(garbage);
        assert!(r.as_ref().map_or(true, |r| r.status == 400 || r.status == 505), "{r:?}");
    }
    assert_eq!(agent.call("GET", "/v1/status", "").status, 200, "it goes on");
}

#[test]
fn requests_are_bounded_in_size() {
    let agent = Agent::start();
    let head = format!("GET /v1/status HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let r = agent.raw(head.as_bytes());
    assert!(r.as_ref().map_or(true, |r| r.status == 431), "{r:?}");
    // Without a length, in pieces.
    let body = format!("{{\"id\":\"{}\",\"by\":\"{}\"}}", new_id(), "z".repeat(20 << 10));
    let chunked = format!(
        "POST /v1/freezes HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(agent.raw(chunked.as_bytes()).unwrap().status, 413);
    assert!(!agent.dir.path().join("frozen").exists());
}

#[test]
fn requests_are_bounded_in_number_and_time_and_idle_callers_do_not_keep_others_out() {
    let agent = Agent::start();
    let idle: Vec<UnixStream> = (0..32).map(|_| UnixStream::connect(agent.socket()).unwrap()).collect();
    let mut half = UnixStream::connect(agent.socket()).unwrap();
    half.write_all(b"GET /v1/status HTTP/1.1\r\n").unwrap();
    sleep_ms(200);
    let begun = Instant::now();
    assert_eq!(agent.call("GET", "/v1/status", "").status, 200);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1), "33 callers at once were let in: {took:?}");
    assert!(took < Duration::from_secs(25), "callers who say nothing kept others out for {took:?}");
    drop(idle);
}

#[test]
fn a_body_that_never_comes_gives_its_place_back() {
    let agent = Agent::start();
    let begun = Instant::now();
    let head = "POST /v1/freezes HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let mut half = UnixStream::connect(agent.socket()).unwrap();
    half.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    half.write_all(head.as_bytes()).unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut half, &mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!agent.dir.path().join("frozen").exists());
}

#[test]
fn the_socket_is_for_root_and_the_group_alone() {
    let agent = Agent::start();
    let meta = std::fs::metadata(agent.socket()).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    assert_eq!(meta.uid(), rustix::process::geteuid().as_raw());
    if !rustix::process::geteuid().is_root() {
        println!("SKIP the_socket_is_for_root_and_the_group_alone: not root");
        return;
    }
    let socket = agent.socket();
    let as_user = |uid: u32| {
        let socket = socket.clone();
        let thread = std::thread::spawn(move || {
            use rustix::fs::{Gid, Uid};
            rustix::thread::set_thread_groups(&[]).unwrap();
            let (gid, uid) = (Gid::from_raw(uid), Uid::from_raw(uid));
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            exchange(&socket, b"GET /v1/status HTTP/1.1\r\nhost: t\r\n\r\n").map(|r| r.status)
        });
        thread.join().unwrap()
    };
    assert_eq!(as_user(0), Ok(200));
    let nobody = as_user(65_534).unwrap_err();
    assert!(nobody.contains("ermission"), "{nobody}");
}
