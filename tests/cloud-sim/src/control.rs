//! `/_sim/…`: the same as the Rust API, as JSON, for the binary.
//!
//! | request | body → answer |
//! |---|---|
//! | `POST instances`, `hosts` | an instance, a host → `{}` or `{"imds": URL}` |
//! | `POST instances/ID/state` | `{"state": "stopped"}` |
//! | `POST hosts/ID/online` | `{"online": false}` |
//! | `POST documents` | `{"name", "content"}` |
//! | `POST behind` | `{"upstream": URL, "lambda": URL}`: moto, ministack |
//! | `POST principals` | `{"access_key", "name"}` |
//! | `POST faults` | a rule → `{"id": 1}`; `GET faults`: all with their hits; `DELETE faults` |
//! | `POST release` | `{"rule": 1}` |
//! | `POST wait-held` | `{"rule": 1, "timeout_ms": 5000}` → `{"held": true}` |
//! | `POST traffic` | `{"action", "other_per_s", "tokens"}` |
//! | `POST windows` | `{"name", "from_ms", "to_ms"}` |
//! | `GET calls`, `snapshots`, `invocations` | what there is |

use crate::clock::boot_us;
use crate::faults::Rule;
use crate::record::Window;
use crate::sim::Sim;
use crate::wire::Reply;
use crate::world::{Host, Instance};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Traffic {
    action: String,
    #[serde(default)]
    other_per_s: Option<f64>,
    #[serde(default)]
    tokens: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    pub rule: u64,
    #[serde(default)]
    pub timeout_ms: u64,
}

pub async fn answer(sim: &Arc<Sim>, method: &str, path: &str, body: &[u8]) -> Reply {
    match act(sim, method, path.trim_start_matches("/_sim/"), body).await {
        Ok(value) => Reply::json(&value),
        Err(why) => Reply::text(400, format!("{method} {path}: {why}\n")),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| e.to_string())
}

fn field<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value.get(key).and_then(Value::as_str).ok_or(format!("{key}: a text is needed"))
}

async fn act(sim: &Arc<Sim>, method: &str, what: &str, body: &[u8]) -> Result<Value, String> {
    let parts: Vec<&str> = what.split('/').collect();
    match (method, parts.as_slice()) {
        ("POST", ["instances"]) => sim.world().add_instance(read::<Instance>(body)?),
        ("POST", ["instances", id, "state"]) => {
            let value: Value = read(body)?;
            sim.world().instances.get_mut(*id).ok_or("no such instance")?.state = field(&value, "state")?.to_owned();
        }
        ("POST", ["hosts"]) => {
            let host: Host = read(body)?;
            let id = host.id.clone();
            crate::handle::add_host(sim, host, &tokio::runtime::Handle::current()).map_err(|e| e.to_string())?;
            return Ok(json!({ "imds": sim.imds.lock().expect("imds").get(&id) }));
        }
        ("POST", ["hosts", id, "online"]) => {
            let value: Value = read(body)?;
            let online = value.get("online").and_then(Value::as_bool).ok_or("online: true or false")?;
            sim.world().hosts.get_mut(*id).ok_or("no such host")?.online = online;
        }
        ("POST", ["documents"]) => {
            let value: Value = read(body)?;
            let put = crate::ssm::documents::put(sim, field(&value, "name")?, field(&value, "content")?);
            put.map_err(|e| format!("{}: {}", e.code, e.message))?;
        }
        ("POST", ["behind"]) => {
            let value: Value = read(body)?;
            let url = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
            sim.set_behind(url("upstream"), url("lambda"));
        }
        ("POST", ["principals"]) => {
            let value: Value = read(body)?;
            sim.world().principals.insert(field(&value, "access_key")?.to_owned(), field(&value, "name")?.to_owned());
        }
        ("POST", ["faults"]) => return Ok(json!({ "id": sim.faults.add(read::<Rule>(body)?) })),
        ("GET", ["faults"]) => return Ok(json!(sim.faults.list())),
        ("DELETE", ["faults"]) => sim.faults.clear(),
        ("POST", ["release"]) => sim.faults.release(read::<Held>(body)?.rule),
        ("POST", ["wait-held"]) => {
            let held: Held = read(body)?;
            return Ok(json!({ "held": sim.faults.wait_held(held.rule, Duration::from_millis(held.timeout_ms)).await }));
        }
        ("POST", ["traffic"]) => {
            let traffic: Traffic = read(body)?;
            let mut world = sim.world();
            if let Some(other) = traffic.other_per_s {
                world.buckets.set_other(&traffic.action, other, boot_us());
            }
            if let Some(tokens) = traffic.tokens {
                world.buckets.set_tokens(&traffic.action, tokens, boot_us());
            }
            return Ok(json!({ "tokens": world.buckets.tokens(&traffic.action, boot_us()) }));
        }
        ("POST", ["windows"]) => sim.record.window(read::<Window>(body)?),
        ("GET", ["calls"]) => return Ok(json!(sim.record.calls())),
        ("GET", ["snapshots"]) => {
            let list = |s: &crate::world::Snapshot| {
                let mut value = json!(s);
                value["status"] = json!(s.status());
                value
            };
            return Ok(sim.world().snapshots.values().map(list).collect());
        }
        ("GET", ["invocations"]) => return Ok(json!(crate::ssm::commands::all(sim))),
        _ => return Err("no such request".into()),
    }
    Ok(json!({}))
}
