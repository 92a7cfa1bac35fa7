//! `/_sim/…`: the same as the Rust API, as JSON, for the program.
//!
//! | request | body → answer |
//! |---|---|
//! | `POST vms`, `hosts`, `principals`, `snapshots` | a VM, a host, a principal, a snapshot that is there already → `{}` |
//! | `POST groups` | `{"subscription", "group"}` |
//! | `POST power` | `{"vm", "power": "deallocated"}`; `POST online`: `{"vm", "online": false}` |
//! | `POST imds` | `{"vm"}` → `{"url"}`; `POST token`: `{"principal"}` → `{"token"}` |
//! | `GET identity` | `{"IDENTITY_ENDPOINT", "IDENTITY_HEADER"}` |
//! | `POST faults` | a rule → `{"id": 1}`; `GET faults`: all with their hits; `DELETE faults` |
//! | `POST release` | `{"rule": 1}`; `POST wait-held`: `{"rule": 1, "timeout_ms": 5000}` → `{"held": true}` |
//! | `POST windows` | `{"name", "from_ms", "to_ms"}` |
//! | `GET calls`, `snapshots`, `points`, `runs` | what there is |

use super::handle::{self, ArmRule};
use super::identity;
use super::sim::Sim;
use crate::control::Held;
use crate::record::Window;
use crate::wire::Reply;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub async fn answer(sim: &Arc<Sim>, method: &str, path: &str, body: &[u8]) -> Reply {
    match act(sim, method, path.trim_start_matches("/_sim/"), body).await {
        Ok(value) => Reply::json(&value),
        Err(why) => Reply::text(400, format!("{method} {path}: {why}\n")),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| e.to_string())
}

fn field(body: &[u8], key: &str) -> Result<String, String> {
    let value: Value = read(body)?;
    value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or(format!("{key}: a text is needed"))
}

async fn act(sim: &Arc<Sim>, method: &str, what: &str, body: &[u8]) -> Result<Value, String> {
    match (method, what) {
        ("POST", "vms") => sim.world().add_vm(read(body)?),
        ("POST", "hosts") => handle::add_host(sim, read(body)?),
        ("POST", "principals") => sim.identities().add(read(body)?),
        ("POST", "snapshots") => handle::put_snapshot(sim, read(body)?),
        ("POST", "groups") => sim.world().add_group(&field(body, "subscription")?, &field(body, "group")?, "westeurope"),
        ("POST", "power") => {
            let vm = super::id::key(&field(body, "vm")?);
            sim.world().vms.get_mut(&vm).ok_or("no such VM")?.power = field(body, "power")?;
        }
        ("POST", "online") => {
            let value: Value = read(body)?;
            let online = value.get("online").and_then(Value::as_bool).ok_or("online: true or false")?;
            let vm = super::id::key(&field(body, "vm")?);
            sim.world().hosts.get_mut(&vm).ok_or("no such host")?.online = online;
        }
        ("POST", "imds") => {
            let url = handle::imds(sim, &field(body, "vm")?, &tokio::runtime::Handle::current());
            return Ok(json!({ "url": url.map_err(|e| e.to_string())? }));
        }
        ("POST", "token") => return Ok(json!({ "token": sim.mint(&field(body, "principal")?, "https://management.azure.com/").0 })),
        ("GET", "identity") => return Ok(json!({ "IDENTITY_ENDPOINT": "/msi/token", "IDENTITY_HEADER": identity::SECRET })),
        ("POST", "faults") => return Ok(json!({ "id": sim.faults.add(read::<ArmRule>(body)?) })),
        ("GET", "faults") => return Ok(json!(sim.faults.list())),
        ("DELETE", "faults") => sim.faults.clear(),
        ("POST", "release") => sim.faults.release(read::<Held>(body)?.rule),
        ("POST", "wait-held") => {
            let held: Held = read(body)?;
            return Ok(json!({ "held": sim.faults.wait_held(held.rule, Duration::from_millis(held.timeout_ms)).await }));
        }
        ("POST", "windows") => sim.record.window(read::<Window>(body)?),
        ("GET", "calls") => return Ok(json!(sim.record.calls())),
        ("GET", "snapshots") => return Ok(json!(handle::snapshots(sim))),
        ("GET", "points") => return Ok(json!(handle::points(sim))),
        ("GET", "runs") => return Ok(json!(sim.world().ran)),
        _ => return Err("no such request".into()),
    }
    Ok(json!({}))
}
