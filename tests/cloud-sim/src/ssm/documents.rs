//! Command documents of schema 2.2: kept with their versions, and read as the agent reads them.

use super::{need, text};
use crate::clock::{epoch_s, wall_ms};
use crate::proxy;
use crate::sim::Sim;
use crate::wire::Fail;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// "Document <= 64 KB".
const MAX_BYTES: usize = 64 * 1024;
const RESERVED: [&str; 6] = ["aws", "amazon", "amzn", "AWSEC2", "AWSSupport", "AWSConfigRemediation"];

#[derive(Clone)]
pub struct Document {
    pub name: String,
    /// From version 1.
    versions: Vec<Version>,
    default: usize,
    target_type: Option<String>,
    tags: Value,
}

#[derive(Clone)]
struct Version {
    content: String,
    format: String,
    parsed: Content,
    created_ms: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    pub schema_version: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    #[serde(default)]
    pub main_steps: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub default: Option<Value>,
    #[serde(default)]
    pub allowed_pattern: Option<String>,
    #[serde(default)]
    pub allowed_values: Option<Vec<Value>>,
    #[serde(default)]
    pub min_chars: Option<usize>,
    #[serde(default)]
    pub max_chars: Option<usize>,
    #[serde(default)]
    pub interpolation_type: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub action: String,
    pub name: String,
    #[serde(default)]
    pub precondition: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub inputs: Value,
    #[serde(default)]
    pub on_failure: Option<String>,
    #[serde(default)]
    pub on_success: Option<String>,
    #[serde(default)]
    pub is_end: bool,
    #[serde(default)]
    pub finally_step: bool,
}

/// One version, ready to run.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub name: String,
    pub version: String,
    pub content: Content,
    pub hash: String,
}

/// Name of an ARN `arn:…:document/NAME`, else itself.
pub fn short_name(name: &str) -> String {
    name.rsplit_once(":document/").map_or(name, |(_, n)| n).to_owned()
}

fn hash(content: &str) -> String {
    format!("{:x}", Sha256::digest(content.as_bytes()))
}

/// Everything that CreateDocument refuses in a content.
pub fn parse(content: &str, format: &str) -> Result<Content, Fail> {
    let bad = |why: String| Fail::new("InvalidDocumentContent", why);
    if content.len() > MAX_BYTES {
        return Err(Fail::new("MaxDocumentSizeExceeded", "The size limit of a document is 64 KB"));
    }
    let parsed: Content = match format {
        "YAML" => serde_saphyr::from_str(content).map_err(|e| bad(e.to_string()))?,
        "JSON" => serde_json::from_str(content).map_err(|e| bad(e.to_string()))?,
        other => return Err(bad(format!("the double reads no {other}"))),
    };
    if parsed.schema_version != "2.2" {
        return Err(Fail::new("InvalidDocumentSchemaVersion", format!("the double runs 2.2 only, not {}", parsed.schema_version)));
    }
    if parsed.main_steps.is_empty() {
        return Err(bad("mainSteps is empty".into()));
    }
    for (name, p) in &parsed.parameters {
        // The agent ignores parameters with any other character.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(bad(format!("parameter name {name}")));
        }
        if !["String", "StringList", "Boolean", "Integer", "MapList", "StringMap"].contains(&p.kind.as_str()) {
            return Err(bad(format!("parameter {name}: type {}", p.kind)));
        }
        if p.interpolation_type.as_deref().is_some_and(|t| t != "ENV_VAR" || p.kind != "String") {
            return Err(bad(format!("parameter {name}: interpolationType is ENV_VAR, and for String only")));
        }
        if let Some(Err(e)) = p.allowed_pattern.as_deref().map(regex::Regex::new) {
            return Err(bad(format!("parameter {name}: {e}")));
        }
    }
    let mut names: Vec<&str> = parsed.main_steps.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() != parsed.main_steps.len() {
        return Err(bad("step names are not unique".into()));
    }
    Ok(parsed)
}

fn format_of(ask: &Value) -> String {
    text(ask, "DocumentFormat").unwrap_or("JSON").to_owned()
}

fn version(content: &str, format: &str) -> Result<Version, Fail> {
    Ok(Version { content: content.to_owned(), format: format.to_owned(), parsed: parse(content, format)?, created_ms: wall_ms() })
}

fn unknown(name: &str) -> Fail {
    Fail::new("InvalidDocument", format!("Document with name {name} does not exist."))
}

impl Document {
    /// `$DEFAULT`, `$LATEST`, a number, or nothing (the default version). From 0.
    fn at(&self, version: Option<&str>) -> Result<usize, Fail> {
        let found = match version {
            None | Some("$DEFAULT" | "") => Some(self.default),
            Some("$LATEST") => Some(self.versions.len() - 1),
            Some(n) => n.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|n| *n < self.versions.len()),
        };
        found.ok_or_else(|| Fail::new("InvalidDocumentVersion", format!("{}: no version {}", self.name, version.unwrap_or_default())))
    }

    fn description(&self, at: usize, sim: &Sim) -> Value {
        let v = &self.versions[at];
        let parameters = v.parsed.parameters.iter().map(|(name, p)| {
            let default = p.default.as_ref().map(|d| d.as_str().map_or_else(|| d.to_string(), str::to_owned));
            json!({ "Name": name, "Type": p.kind, "Description": p.description, "DefaultValue": default })
        });
        json!({
            "Name": self.name, "Hash": hash(&v.content), "HashType": "Sha256", "Owner": sim.config.account, "Status": "Active",
            "CreatedDate": epoch_s(v.created_ms), "DocumentVersion": (at + 1).to_string(), "Description": v.parsed.description,
            "Parameters": parameters.collect::<Vec<_>>(), "PlatformTypes": ["Linux", "Windows", "MacOS"], "DocumentType": "Command",
            "SchemaVersion": v.parsed.schema_version, "LatestVersion": self.versions.len().to_string(),
            "DefaultVersion": (self.default + 1).to_string(), "DocumentFormat": v.format, "TargetType": self.target_type, "Tags": self.tags,
        })
    }
}

pub fn create(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let (name, content) = (need(ask, "Name")?, need(ask, "Content")?);
    let valid = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !(3..=128).contains(&name.len()) || !name.chars().all(valid) || RESERVED.iter().any(|r| name.starts_with(r)) {
        return Err(Fail::new("ValidationException", format!("Name {name}: 3 to 128 of a-zA-Z0-9_.-, and not a reserved prefix")));
    }
    if text(ask, "DocumentType").is_some_and(|t| t != "Command") {
        return Err(Fail::new("ValidationException", "the double has Command documents only"));
    }
    let first = version(content, &format_of(ask))?;
    let target_type = text(ask, "TargetType").map(str::to_owned);
    let tags = ask.get("Tags").cloned().unwrap_or_else(|| json!([]));
    let mut world = sim.world();
    if world.documents.contains_key(name) {
        return Err(Fail::new("DocumentAlreadyExists", format!("Document with name {name} already exists.")));
    }
    let document = Document { name: name.to_owned(), versions: vec![first], default: 0, target_type, tags };
    let answer = json!({ "DocumentDescription": document.description(0, sim) });
    world.documents.insert(name.to_owned(), document);
    Ok(answer)
}

/// The new version is the latest, not the default.
pub fn update(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let (name, new) = (need(ask, "Name")?, version(need(ask, "Content")?, &format_of(ask))?);
    let mut world = sim.world();
    let document = world.documents.get_mut(name).ok_or_else(|| unknown(name))?;
    if document.versions.iter().any(|v| v.content == new.content) {
        return Err(Fail::new("DuplicateDocumentContent", "The content of the document is a duplicate of another version"));
    }
    document.versions.push(new);
    Ok(json!({ "DocumentDescription": document.description(document.versions.len() - 1, sim) }))
}

pub fn set_default(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let name = need(ask, "Name")?;
    let mut world = sim.world();
    let document = world.documents.get_mut(name).ok_or_else(|| unknown(name))?;
    document.default = document.at(Some(need(ask, "DocumentVersion")?))?;
    Ok(json!({ "Description": { "Name": name, "DefaultVersion": (document.default + 1).to_string() } }))
}

pub fn get(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let name = short_name(need(ask, "Name")?);
    let world = sim.world();
    let document = world.documents.get(&name).ok_or_else(|| unknown(&name))?;
    let at = document.at(text(ask, "DocumentVersion"))?;
    let v = &document.versions[at];
    // Any JSON is YAML; the other way it is converted.
    let format = text(ask, "DocumentFormat").unwrap_or(&v.format);
    let content = match (format, v.format.as_str()) {
        ("JSON", "YAML") => serde_saphyr::from_str::<Value>(&v.content).map_or_else(|e| e.to_string(), |c| c.to_string()),
        _ => v.content.clone(),
    };
    Ok(json!({
        "Name": name, "DocumentVersion": (at + 1).to_string(), "Status": "Active", "Content": content, "DocumentType": "Command",
        "DocumentFormat": format, "CreatedDate": epoch_s(v.created_ms),
    }))
}

pub fn describe(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let name = short_name(need(ask, "Name")?);
    let world = sim.world();
    let document = world.documents.get(&name).ok_or_else(|| unknown(&name))?;
    Ok(json!({ "Document": document.description(document.at(text(ask, "DocumentVersion"))?, sim) }))
}

pub fn delete(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let name = need(ask, "Name")?;
    sim.world().documents.remove(name).map(|_| json!({})).ok_or_else(|| unknown(name))
}

pub fn list(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let world = sim.world();
    let all = world.documents.values().map(|d| {
        let v = &d.versions[d.default];
        json!({
            "Name": d.name, "Owner": sim.config.account, "DocumentVersion": (d.default + 1).to_string(), "DocumentType": "Command",
            "SchemaVersion": v.parsed.schema_version, "DocumentFormat": v.format, "PlatformTypes": ["Linux"], "Tags": d.tags,
        })
    });
    let (page, next) = super::page(ask, all.collect(), 50)?;
    Ok(json!({ "DocumentIdentifiers": page, "NextToken": next }))
}

/// A document for tests: made, or replaced with a new default version. `{` begins JSON, all else is YAML.
pub fn put(sim: &Sim, name: &str, content: &str) -> Result<(), Fail> {
    let format = if content.trim_start().starts_with('{') { "JSON" } else { "YAML" };
    let new = version(content, format)?;
    let mut world = sim.world();
    let empty = || Document { name: name.to_owned(), versions: Vec::new(), default: 0, target_type: None, tags: json!([]) };
    let document = world.documents.entry(name.to_owned()).or_insert_with(empty);
    document.versions.push(new);
    document.default = document.versions.len() - 1;
    Ok(())
}

/// What SendCommand runs: as this double or moto has it, or AWS's own AWS-RunShellScript.
pub async fn resolve(sim: &Sim, name: &str, wanted: Option<&str>) -> Result<Resolved, Fail> {
    let name = short_name(name);
    if name == "AWS-RunShellScript" {
        let content = parse(RUN_SHELL_SCRIPT, "JSON")?;
        return Ok(Resolved { name, version: "1".into(), content, hash: hash(RUN_SHELL_SCRIPT) });
    }
    let Some(upstream) = sim.upstream() else {
        let world = sim.world();
        let document = world.documents.get(&name).ok_or_else(|| unknown(&name))?;
        let at = document.at(wanted)?;
        let v = &document.versions[at];
        return Ok(Resolved { name, version: (at + 1).to_string(), content: v.parsed.clone(), hash: hash(&v.content) });
    };
    from_moto(sim, &upstream, name, wanted).await
}

/// moto 5.2 keeps CloudFormation's content as a Python dict and hands out its repr, unless the other format is asked for.
async fn from_moto(sim: &Sim, upstream: &str, name: String, wanted: Option<&str>) -> Result<Resolved, Fail> {
    for format in ["JSON", "YAML"] {
        let mut ask = json!({ "Name": name, "DocumentFormat": format });
        if let Some(wanted) = wanted {
            ask["DocumentVersion"] = json!(wanted);
        }
        let got = proxy::ask_json(sim, upstream, "AmazonSSM.GetDocument", &ask).await;
        let got = got.map_err(|e| Fail::new("InvalidDocument", format!("{name}: {e}")))?;
        let content = text(&got, "Content").unwrap_or_default();
        if format == "JSON" && serde_json::from_str::<Value>(content).is_err() {
            continue;
        }
        let version = text(&got, "DocumentVersion").unwrap_or("1").to_owned();
        return Ok(Resolved { name, version, content: parse(content, format)?, hash: hash(content) });
    }
    Err(Fail::new("InvalidDocument", format!("{name}: no content that can be read")))
}

/// In the shape of AWS's own document.
const RUN_SHELL_SCRIPT: &str = r#"{"schemaVersion": "2.2", "description": "Run a shell script or specify the commands to run.",
 "parameters": {"commands": {"type": "StringList"}, "workingDirectory": {"type": "String", "default": "", "maxChars": 4096},
  "executionTimeout": {"type": "String", "default": "3600", "allowedPattern": "^([1-9][0-9]{0,4}|1[0-6][0-9]{4}|17[0-1][0-9]{3}|172[0-7][0-9]{2}|172800)$"}},
 "mainSteps": [{"action": "aws:runShellScript", "name": "runShellScript", "inputs": {"runCommand": "{{ commands }}",
  "workingDirectory": "{{ workingDirectory }}", "timeoutSeconds": "{{ executionTimeout }}"}}]}"#;
