//! A request as it came in, and what the double needs to know of it before it answers: service, action, who, about what.

use crate::clock::boot_us;
use crate::ec2::query::Query;
use crate::sim::Sim;
use bytes::Bytes;
use hyper::http::request::Parts;
use serde_json::{Value, json};

pub struct Wire {
    pub parts: Parts,
    pub body: Bytes,
    pub service: String,
    pub action: String,
    pub principal: Option<String>,
    pub region: Option<String>,
    /// The first of `instances`.
    pub instance: Option<String>,
    pub instances: Vec<String>,
    pub document: Option<String>,
    /// Query parameters or the JSON body.
    pub params: Value,
    pub in_us: u64,
}

/// An answer. `error` is the code that the record keeps.
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub body: Bytes,
    pub headers: Vec<(String, String)>,
    pub error: Option<String>,
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: content_type.into(), body: body.into(), headers: Vec::new(), error: None }
    }
    pub fn json(value: &Value) -> Self {
        Self::new(200, "application/json", value.to_string())
    }
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, "text/plain", body)
    }
    pub fn failed(mut self, code: &str) -> Self {
        self.error = Some(code.into());
        self
    }
}

/// A refusal in the service's own words.
#[derive(Debug)]
pub struct Fail {
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl Fail {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code: code.into(), message: message.into() }
    }
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

/// `Credential=KEY/DATE/REGION/SERVICE/aws4_request` of the Authorization header: `(key, region, service)`.
fn credential(parts: &Parts) -> Option<(String, String, String)> {
    let header = parts.headers.get("authorization")?.to_str().ok()?;
    let (_, scope) = header.split_once("Credential=")?;
    let mut fields = scope.split([',', ' ']).next()?.split('/');
    let (key, _date, region, service) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some((key.into(), region.into(), service.into()))
}

impl Wire {
    pub fn read(sim: &Sim, parts: Parts, body: Bytes) -> Self {
        let in_us = boot_us();
        let scope = credential(&parts);
        let principal = scope.as_ref().map(|(key, ..)| sim.principal(key));
        let region = scope.as_ref().map(|(_, region, _)| region.clone());
        let scoped = scope.map_or_else(|| "unknown".to_owned(), |(.., service)| service);
        let path = parts.uri.path().to_owned();
        let target = parts.headers.get("x-amz-target").and_then(|t| t.to_str().ok()).map(str::to_owned);
        let form = parts.headers.get("content-type").and_then(|t| t.to_str().ok()).is_some_and(|t| t.contains("form-urlencoded"));

        let (service, action, params) = if let Some(target) = target {
            let (prefix, action) = target.split_once('.').unwrap_or(("", &target));
            let service = if prefix == "AmazonSSM" { "ssm".to_owned() } else { scoped };
            (service, action.to_owned(), serde_json::from_slice(&body).unwrap_or(Value::Null))
        } else if path.starts_with("/2015-03-31/functions/") {
            let action = if path.ends_with("/invocations") { "Invoke".into() } else { format!("{} {path}", parts.method) };
            (String::from("lambda"), action, json!({ "path": path }))
        } else if path.starts_with("/latest/") {
            (String::from("imds"), format!("{} {path}", parts.method), Value::Null)
        } else if form {
            let query = Query::parse(&body);
            let service = match query.get("Version") {
                Some("2016-11-15") => "ec2".to_owned(),
                Some("2011-06-15") => "sts".to_owned(),
                _ => scoped,
            };
            (service, query.get("Action").unwrap_or_default().to_owned(), query.to_json())
        } else {
            (scoped, format!("{} {path}", parts.method), Value::Null)
        };
        let mut wire =
            Self { parts, body, service, action, principal, region, instance: None, instances: vec![], document: None, params, in_us };
        wire.subjects(sim);
        wire
    }

    /// Which instances and which document it is about; a question about a command is about the command's document.
    fn subjects(&mut self, sim: &Sim) {
        let text = |p: &Value, key: &str| p.get(key).and_then(Value::as_str).map(str::to_owned);
        match self.service.as_str() {
            "ec2" => {
                let keys = |k: &&String| k.ends_with("InstanceId") || k.starts_with("InstanceId.");
                let object = self.params.as_object();
                self.instances =
                    object.iter().flat_map(|o| o.keys().filter(keys).filter_map(|k| o[k].as_str().map(str::to_owned))).collect();
            }
            "ssm" => {
                self.instances = text(&self.params, "InstanceId").into_iter().collect();
                let list = self.params.get("InstanceIds").and_then(Value::as_array);
                self.instances.extend(list.into_iter().flatten().filter_map(|i| i.as_str().map(str::to_owned)));
                let of_command = || text(&self.params, "CommandId").and_then(|id| sim.document_of(&id));
                let named = text(&self.params, "DocumentName").or_else(|| text(&self.params, "Name"));
                self.document = named.map(|n| crate::ssm::documents::short_name(&n)).or_else(of_command);
            }
            _ => {}
        }
        self.instance = self.instances.first().cloned();
    }

    pub fn query(&self) -> Query {
        Query::parse(&self.body)
    }
}
