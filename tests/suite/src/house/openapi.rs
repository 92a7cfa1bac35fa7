//! `docs/openapi.json` against what the agent really says: a reply must be described, and everything described must
//! have been seen.

use super::agent::Reply;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Turns a schema into a checker: the validator is a crate of the tests.
pub type Compile = dyn Fn(&Value) -> Box<dyn Fn(&Value) -> Result<(), String>>;

pub struct Document {
    doc: Value,
    compile: Box<Compile>,
    /// `POST /v1/freezes 409`
    pub seen: BTreeSet<String>,
    /// Names of the schemas that a value was checked against, and `Name.property` for every property that had a value.
    pub schemas: BTreeSet<String>,
}

impl Document {
    pub fn new(text: &str, compile: Box<Compile>) -> Self {
        let doc = serde_json::from_str(text).expect("the document is JSON");
        Self { doc, compile, seen: BTreeSet::new(), schemas: BTreeSet::new() }
    }

    /// `path` as the document writes it, such as `/v1/freezes/{id}`.
    pub fn check(&mut self, method: &str, path: &str, reply: &Reply) -> Result<(), String> {
        let at = format!("{} {path} {}", method.to_uppercase(), reply.status);
        let response = &self.doc["paths"][path][method.to_lowercase()]["responses"][reply.status.to_string()];
        let content = response["content"].as_object().ok_or_else(|| format!("{at} is not described: {reply:?}"))?;
        let media = content
            .get(&reply.content_type)
            .ok_or_else(|| format!("{at}: content type {:?} is not described: {}", reply.content_type, reply.body))?;
        let schema = media["schema"].clone();
        let value = if reply.content_type == "application/json" { reply.json() } else { Value::String(reply.body.clone()) };
        self.valid(&schema, &value).map_err(|e| format!("{at}: {e}: {value}"))?;
        self.note(&schema, &value, "");
        self.seen.insert(at);
        Ok(())
    }

    /// A request body that the agent accepts must be valid by the document as well.
    pub fn request(&mut self, method: &str, path: &str, body: &str) -> Result<(), String> {
        let schema = self.doc["paths"][path][method.to_lowercase()]["requestBody"]["content"]["application/json"]["schema"].clone();
        let value: Value = serde_json::from_str(body).map_err(|e| e.to_string())?;
        self.valid(&schema, &value)?;
        self.note(&schema, &value, "");
        Ok(())
    }

    fn valid(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let mut whole = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "components": self.doc["components"] });
        let parts = whole.as_object_mut().expect("an object");
        parts.extend(schema.as_object().cloned().unwrap_or_default());
        (self.compile)(&whole)(value)
    }

    /// Follows `$ref`, `properties`, `items` and the fitting branch of `oneOf`, and notes what had a value.
    fn note(&mut self, schema: &Value, value: &Value, name: &str) {
        if let Some(target) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/components/schemas/")) {
            self.schemas.insert(target.to_owned());
            let inner = self.doc["components"]["schemas"][target].clone();
            return self.note(&inner, value, target);
        }
        for branch in schema["oneOf"].as_array().into_iter().flatten() {
            if self.valid(branch, value).is_ok() {
                self.note(branch, value, name);
            }
        }
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(v) = value.get(key).filter(|v| !v.is_null() && v.as_array().is_none_or(|a| !a.is_empty())) {
                self.schemas.insert(format!("{name}.{key}"));
                self.note(inner, v, name);
            }
        }
        for v in value.as_object().into_iter().flat_map(serde_json::Map::values).filter(|_| schema["additionalProperties"].is_object()) {
            self.note(&schema["additionalProperties"], v, name);
        }
        for v in value.as_array().into_iter().flatten() {
            self.note(&schema["items"], v, name);
        }
    }

    /// What is described and was never seen: replies, schemas and properties.
    pub fn unseen(&self) -> Vec<String> {
        let mut all = BTreeSet::new();
        for (path, methods) in self.doc["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                all.extend(
                    operation["responses"].as_object().expect("responses").keys().map(|s| format!("{} {path} {s}", method.to_uppercase())),
                );
            }
        }
        for (name, schema) in self.doc["components"]["schemas"].as_object().expect("schemas") {
            all.insert(name.clone());
            all.extend(schema["properties"].as_object().into_iter().flatten().map(|(k, _)| format!("{name}.{k}")));
        }
        all.into_iter().filter(|a| !self.seen.contains(a) && !self.schemas.contains(a)).collect()
    }
}
