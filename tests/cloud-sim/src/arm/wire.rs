//! A request as it came in, and the refusals in ARM's words.

use super::id::Target;
use super::identity::Who;
use super::route;
use super::sim::Sim;
use crate::clock::boot_us;
use crate::record::{End, Recorded};
use crate::wire::Reply;
use bytes::Bytes;
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub struct Ask {
    pub method: String,
    pub path: String,
    pub query: String,
    pub parts: Parts,
    /// JSON or, of a form, an object of texts. Null if there is none.
    pub body: Value,
    pub target: Option<Target>,
    /// `path`; of a question about an operation, the path that started it.
    pub about: String,
    pub op: &'static str,
    /// The action of a role that the call needs; empty: none.
    pub action: &'static str,
    pub who: Option<Who>,
    /// `http://127.0.0.1:PORT` as the caller named it.
    pub base: String,
    pub in_us: u64,
}

impl Ask {
    pub fn read(sim: &Sim, scheme: &str, imds_of: Option<&str>, parts: Parts, body: &Bytes) -> Self {
        let in_us = boot_us();
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let form = header("content-type").is_some_and(|t| t.contains("form-urlencoded"));
        let body = if form {
            form_urlencoded::parse(body)
                .map(|(k, v)| (k.into_owned(), Value::from(v.into_owned())))
                .collect::<serde_json::Map<_, _>>()
                .into()
        } else {
            serde_json::from_slice(body).unwrap_or(Value::Null)
        };
        let path = percent(parts.uri.path());
        let target = Target::parse(&path);
        let (op, action) = route::classify(parts.method.as_str(), &path, target.as_ref(), imds_of.is_some());
        let who = header("authorization").and_then(|a| a.strip_prefix("Bearer ").map(|t| sim.who(t.trim())));
        let operation = target.as_ref().filter(|_| op == "operation.get").and_then(|t| t.child_name.clone());
        let about = operation.and_then(|o| sim.world().operations.get(&o).map(|o| o.about.clone())).unwrap_or_else(|| path.clone());
        let host = header("host").unwrap_or_default();
        Self {
            method: parts.method.to_string(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            path,
            body,
            target,
            about,
            op,
            action,
            who,
            base: format!("{scheme}://{host}"),
            in_us,
            parts,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok())
    }

    pub fn param(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes()).find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.into_owned())
    }

    pub fn principal_name(&self) -> Option<&str> {
        self.who.as_ref().map(|w| w.name.as_str())
    }

    /// The name of what it is about: for a question about an operation, of what was asked for.
    pub fn about_name(&self) -> String {
        let of_operation = Target::parse(&self.about).and_then(|t| t.child_name.or(t.name));
        of_operation.unwrap_or_default()
    }

    /// Of what the path ends with: the child if it has one.
    pub fn resource_name(&self) -> &str {
        let target = self.target.as_ref();
        target.and_then(|t| t.child_name.as_deref().or(t.name.as_deref())).unwrap_or_default()
    }

    /// For calls whose operation has a name: route.rs gives no such operation without one.
    pub fn target(&self) -> &Target {
        self.target.as_ref().expect("an operation on a resource")
    }
    pub fn id(&self) -> String {
        self.target().id()
    }
    pub fn text<'a>(&'a self, pointer: &str) -> Option<&'a str> {
        self.body.pointer(pointer).and_then(Value::as_str)
    }
}

/// `%24skiptoken`, `%20`: as far as a path of ours needs it.
fn percent(path: &str) -> String {
    let bytes = path.as_bytes();
    let (mut out, mut n) = (Vec::with_capacity(bytes.len()), 0);
    while n < bytes.len() {
        let hex = (bytes[n] == b'%').then(|| path.get(n + 1..n + 3).and_then(|h| u8::from_str_radix(h, 16).ok())).flatten();
        out.push(hex.unwrap_or(bytes[n]));
        n += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// One request as it was, in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmCall {
    /// From 1.
    pub n: u64,
    /// `snapshots.put`, …: src/arm/route.rs.
    pub op: String,
    pub method: String,
    pub path: String,
    /// `path`; of a question about an operation, the path that started it.
    pub about: String,
    /// Undecoded.
    pub query: String,
    pub body: Value,
    pub principal: Option<String>,
    /// The action of a role that it needs; empty: none.
    pub action: String,
    pub status: Option<u16>,
    /// ARM's code of the error.
    pub error: Option<String>,
    /// CLOCK_BOOTTIME.
    pub from_us: u64,
    /// `None`: not answered yet, or never (lost).
    pub to_us: Option<u64>,
    /// Rules that hit it.
    pub faults: Vec<u64>,
    /// Registered windows in which it began or ended. Filled when it is read.
    pub windows: Vec<String>,
}

impl ArmCall {
    pub fn of(ask: &Ask, faults: Vec<u64>) -> Self {
        Self {
            op: ask.op.into(),
            method: ask.method.clone(),
            path: ask.path.clone(),
            about: ask.about.clone(),
            query: ask.query.clone(),
            body: ask.body.clone(),
            principal: ask.principal_name().map(str::to_owned),
            action: ask.action.into(),
            from_us: ask.in_us,
            faults,
            ..Self::default()
        }
    }
}

impl Recorded for ArmCall {
    fn number(&mut self, n: u64) {
        self.n = n;
    }
    fn ended(&mut self, end: End, now_us: u64) {
        self.to_us = end.status.map(|_| now_us);
        (self.status, self.error) = (end.status, end.error);
    }
    fn span(&self) -> (u64, Option<u64>) {
        (self.from_us, self.to_us)
    }
    fn touches(&mut self, windows: Vec<String>) {
        self.windows = windows;
    }
}

/// A refusal: `{"error":{"code","message"}}`.
#[derive(Debug)]
pub struct Fail {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub retry_after_s: Option<u64>,
}

impl Fail {
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), retry_after_s: None }
    }
    pub fn bad(code: &str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }
    /// The Resource 'Microsoft.Compute/snapshots/x' …
    pub fn not_found(id: &str) -> Self {
        let (group, rest) = id.split_once("/resourceGroups/").and_then(|(_, r)| r.split_once("/providers/")).unwrap_or(("", id));
        Self::new(404, "ResourceNotFound", format!("The Resource '{rest}' under resource group '{group}' was not found."))
    }
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message)
    }
    pub fn throttled(retry_after_s: u64) -> Self {
        let what = "The server rejected the request because too many requests have been received for this subscription.";
        Self { retry_after_s: Some(retry_after_s), ..Self::new(429, "OperationNotAllowed", what) }
    }

    pub fn reply(self) -> Reply {
        let mut error = json!({ "code": self.code, "message": self.message });
        if self.status == 429 {
            error["details"] = json!([{ "code": "TooManyRequests", "target": "HighCostGet30Min", "message": self.message }]);
        }
        let mut reply = Reply::new(self.status, "application/json; charset=utf-8", json!({ "error": error }).to_string());
        if let Some(s) = self.retry_after_s {
            reply.headers.push(("Retry-After".into(), s.to_string()));
        }
        if self.status == 429 {
            reply.headers.push(("x-ms-ratelimit-remaining-resource".into(), "Microsoft.Compute/HighCostGet30Min;0".into()));
        }
        reply.failed(&self.code)
    }
}

pub fn json_reply(status: u16, value: &Value) -> Reply {
    Reply::new(status, "application/json; charset=utf-8", value.to_string())
}
