//! Programs that other people wrote for Azure, pointed at the double of ARM: the official Python SDK, the `az` command line,
//! and Prism, which holds requests and answers against the OpenAPI descriptions of Compute.
//!
//! `make setup` installs them at pinned versions; `SNAPFREEZE_TOOLS` names their directory.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use super::tools::{Server, free_port, tool_or_skip, tools};
use cloud_sim::arm::{ArmCall, ArmSim};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// `az`, logged in at a double by its managed identity (`system`). The double must have TLS: `az` takes nothing else.
pub struct Az {
    program: PathBuf,
    env: Vec<(String, String)>,
}

impl Az {
    /// `None`: not installed, and `test` says that it is skipped. Its configuration lies below `dir`.
    pub fn or_skip(sim: &ArmSim, dir: &Path, test: &str) -> Option<Self> {
        let program = tool_or_skip("az", "az", test)?;
        let url = sim.tls_endpoint().expect("ArmConfig::tls");
        let mut env = sim.identity_env();
        let own = [
            ("AZURE_CONFIG_DIR", dir.join("az").display().to_string()),
            ("REQUESTS_CA_BUNDLE", sim.ca_file().display().to_string()),
            ("AZURE_CORE_COLLECT_TELEMETRY", "0".into()),
            ("AZURE_CORE_ONLY_SHOW_ERRORS", "1".into()),
            ("AZURE_CORE_NO_COLOR", "1".into()),
            ("HOME", dir.display().to_string()),
            ("PATH", format!("{}:/usr/bin:/bin", program.parent().expect("bin").display())),
        ];
        env.extend(own.map(|(k, v)| (k.to_owned(), v)));
        let az = Self { program, env };
        az.json(&["cloud", "register", "-n", "double", "--endpoint-resource-manager", &url]);
        az.json(&["cloud", "set", "-n", "double"]);
        az.json(&["login", "--identity"]);
        Some(az)
    }

    pub fn output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(args).args(["-o", "json"]).env_clear().envs(self.env.iter().map(|(k, v)| (k, v))).output().expect("az runs")
    }

    /// Its JSON answer, Null if it says nothing; anything but success ends the test.
    pub fn json(&self, args: &[&str]) -> Value {
        let o = self.output(args);
        assert!(o.status.success(), "az {args:?}: {}", String::from_utf8_lossy(&o.stderr));
        serde_json::from_slice(&o.stdout).unwrap_or(Value::Null)
    }
}

/// `azure-mgmt-compute`.
pub struct AzureSdk {
    python: PathBuf,
}

const PREAMBLE: &str = r#"
import json, os, sys, time
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.mgmt.compute import ComputeManagementClient
class Credential:
    def get_token(self, *scopes, **kw): return AccessToken(os.environ['ARM_TOKEN'], int(time.time()) + 3600)
compute = ComputeManagementClient(Credential(), os.environ['ARM_SUBSCRIPTION'], base_url=os.environ['ARM_URL'],
    credential_scopes=['https://management.azure.com/.default'])
def fails(f):
    try: f()
    except HttpResponseError as e: return [e.status_code, e.error.code if e.error else None]
    return None
def answer(x): print(json.dumps(x, default=str))
"#;

impl AzureSdk {
    pub fn or_skip(test: &str) -> Option<Self> {
        tool_or_skip("azsdk", "python", test).map(|python| Self { python })
    }

    /// Runs Python with `compute`, `fails(f)` (status and code of the error) and `answer(x)`, as `principal`; the last line of
    /// its output is the answer. The double must have TLS.
    pub fn run(&self, sim: &ArmSim, subscription: &str, principal: &str, script: &str) -> Value {
        let mut command = Command::new(&self.python);
        command.arg("-c").arg(format!("{PREAMBLE}\n{script}")).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("ARM_URL", sim.tls_endpoint().expect("ArmConfig::tls")).env("REQUESTS_CA_BUNDLE", sim.ca_file());
        command.env("ARM_TOKEN", sim.token(principal)).env("ARM_SUBSCRIPTION", subscription);
        let out = command.output().expect("python runs");
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_str(text.lines().last().expect("an answer")).expect("JSON")
    }
}

/// What a request asks for, so that the requests of two clients for the same thing can be compared: method, path in lower case,
/// and the body without what is empty and without `sku`, which `az` always names. The api-version is each client's own.
pub fn essence(call: &ArmCall) -> Value {
    let mut body = call.body.clone();
    if let Some(map) = body.as_object_mut() {
        map.remove("sku");
    }
    serde_json::json!([call.method, call.path.to_ascii_lowercase(), full(&body)])
}

/// Without nulls, empty lists and empty objects.
fn full(value: &Value) -> Value {
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), full(v))).filter(|(_, v)| !empty(v)).collect::<Map<_, _>>().into(),
        Value::Array(list) => list.iter().map(full).collect(),
        other => other.clone(),
    }
}

/// Prism, the validating proxy.
pub struct Prism {
    program: PathBuf,
    specs: PathBuf,
}

/// Disks and snapshots; VMs; the action of Run Command. All of 2019-03-01, the newest that are packaged: no restore points and
/// no managed run commands.
pub const SPECS: [&str; 3] = ["compute-disk", "compute", "compute-runCommands"];

impl Prism {
    pub fn or_skip(test: &str) -> Option<Self> {
        let specs = tools().join("prism");
        let program = specs.join("node_modules/.bin/prism");
        if program.is_file() && SPECS.iter().all(|s| specs.join(s).with_extension("json").is_file()) {
            return Some(Self { program, specs });
        }
        println!("SKIP {test}: no prism (make setup installs it)");
        None
    }

    /// Refuses what the descriptions do not allow (422), or do not know (404), and answers that break them (500).
    pub fn strict(&self, behind: &str, dir: &Path) -> Checked {
        self.start(behind, dir, &["--errors"])
    }

    /// Lets everything through and notes it, so that programs that also use what the descriptions lack can work through it.
    pub fn watching(&self, behind: &str, dir: &Path) -> Checked {
        self.start(behind, dir, &[])
    }

    fn start(&self, behind: &str, dir: &Path, flags: &[&str]) -> Checked {
        let (port, spec) = (free_port(), dir.join("compute-merged.json"));
        let all = SPECS.map(|s| std::fs::read_to_string(self.specs.join(s).with_extension("json")).expect("a description"));
        let merged = merge(SPECS.iter().zip(all).map(|(name, text)| (*name, serde_json::from_str(&text).expect("JSON"))));
        std::fs::write(&spec, merged.to_string()).expect("the description is written");
        let mut command = Command::new(&self.program);
        // The node that came with it, where there is no other.
        let path = format!("{}:{}", std::env::var("PATH").unwrap_or_default(), self.specs.join("node/bin").display());
        command.env("PATH", path).args(["proxy", "-h", "127.0.0.1", "-p", &port.to_string()]).args(flags).arg(spec).arg(behind);
        let name = format!("prism-{port}.log");
        Checked { server: Server::start(command, port, dir.join(name), Duration::from_secs(90)) }
    }
}

const UNKNOWN: &str = "Selected route not found";

/// A double behind Prism. Operations to poll have absolute URLs, so their polls do not pass here.
pub struct Checked {
    server: Server,
}

impl Checked {
    /// In place of the double's own endpoint.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What requests did against the descriptions, in Prism's words, a moment after they were answered.
    pub fn bad_requests(&self) -> Vec<String> {
        self.violations("Violation: request").into_iter().filter(|v| !v.contains(UNKNOWN)).collect()
    }

    /// Requests that passed unchecked, because the descriptions have no such path.
    pub fn unchecked(&self) -> usize {
        self.violations(UNKNOWN).len()
    }

    /// What the double's answers did. A refusal (4xx) is none: the descriptions have good answers only.
    pub fn bad_answers(&self) -> Vec<String> {
        self.violations("Violation: response").into_iter().filter(|v| !v.contains("Unable to match the returned status code")).collect()
    }

    fn violations(&self, what: &str) -> Vec<String> {
        let log = std::fs::read_to_string(&self.server.log).unwrap_or_default();
        log.lines().filter_map(|l| l.find(what).map(|at| l[at..].to_owned())).collect()
    }
}

/// One description of several whose parts may have the same names: each part is named after its description.
fn merge(all: impl Iterator<Item = (&'static str, Value)>) -> Value {
    let mut whole = Value::Null;
    for (name, mut one) in all {
        rename(&mut one, name);
        let parts = one["components"].as_object_mut().expect("components");
        for (_, map) in parts.iter_mut().filter(|(kind, _)| *kind != "securitySchemes") {
            let renamed = map.as_object_mut().map(std::mem::take).unwrap_or_default();
            *map = renamed.into_iter().map(|(k, v)| (part(name, &k), v)).collect::<Map<_, _>>().into();
        }
        if whole.is_null() {
            whole = one;
            continue;
        }
        let (into, from) = (whole["paths"].as_object_mut().expect("paths"), one["paths"].take());
        for (path, methods) in from.as_object().into_iter().flatten() {
            into.entry(path).or_insert_with(|| methods.clone());
        }
        for (kind, map) in one["components"].take().as_object().into_iter().flatten() {
            if whole["components"].get(kind).is_none() {
                whole["components"][kind] = Value::Object(Map::new());
            }
            let into = whole["components"][kind].as_object_mut().expect("components");
            into.extend(map.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        }
    }
    whole
}

fn part(of: &str, name: &str) -> String {
    format!("{}__{name}", of.replace('-', "_"))
}

fn rename(value: &mut Value, of: &str) {
    match value {
        Value::Object(map) => {
            for (key, v) in map.iter_mut() {
                match v {
                    Value::String(text) if key == "$ref" => {
                        if let Some((kind, name)) = text.strip_prefix("#/components/").and_then(|t| t.split_once('/')) {
                            *text = format!("#/components/{kind}/{}", part(of, name));
                        }
                    }
                    other => rename(other, of),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|v| rename(v, of)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_essence_of_a_request_leaves_out_what_says_nothing_and_keeps_the_rest() {
        let call = |path: &str, body: Value| essence(&ArmCall { method: "PUT".into(), path: path.into(), body, ..ArmCall::default() });
        let a = call("/A", json!({ "sku": { "name": "x" }, "tags": {}, "properties": { "p": 1, "q": null, "r": [] } }));
        assert_eq!(a, call("/a", json!({ "properties": { "p": 1 } })));
        assert_ne!(a, call("/a", json!({ "properties": { "p": 2 } })));
    }

    #[test]
    fn descriptions_with_parts_of_the_same_name_stay_apart() {
        let one = |kind: &str, path: &str| {
            json!({
                "paths": { path: { "$ref": "#/components/schemas/R" } },
                "components": { "schemas": { "R": { "type": kind } }, "securitySchemes": { "auth": {} } },
            })
        };
        let merged = merge([("a-b", one("string", "/a")), ("c", one("integer", "/c"))].into_iter());
        assert_eq!(merged["paths"]["/a"]["$ref"], "#/components/schemas/a_b__R");
        assert_eq!(merged["components"]["schemas"]["c__R"]["type"], "integer");
        assert_eq!(merged["components"]["schemas"]["a_b__R"]["type"], "string");
        assert_eq!(merged["components"]["securitySchemes"], json!({ "auth": {} }));
    }
}
