//! `thaw --id` touches only its own freeze. `thaw` without an id is the emergency: whatever is frozen, every rung.

use super::freeze::{end_window, say_window};
use crate::caller::{Caller, ladder};
use crate::cli;
use crate::config::Config;
use crate::instances::{self, Set};
use crate::out::Out;
use doors::clock::boot_now;
use protocol::code::exit;
use protocol::wire::{Frozen, ThawReply};
use protocol::{BackupId, Code, InstanceName};
use serde_json::json;
use std::time::Duration;

/// The agent is asked first, but a stuck one is not waited for.
const AGENT: Duration = Duration::from_secs(8);
const ASK_MS: u64 = 5_000;

pub async fn thaw(config: &Config, args: &cli::Thaw, out: Out) -> u8 {
    match args.id {
        Some(id) => by_id(config, id, args.by.as_deref(), out).await,
        None => emergency(config, out).await,
    }
}

async fn by_id(config: &Config, id: BackupId, by: Option<&str>, out: Out) -> u8 {
    let caller = Caller::new(config);
    let caller = if let Some(by) = by { caller.by(by) } else { caller };
    match caller.thaw(id).await {
        Ok(w) => end_window(&w, out),
        Err(p) => out.fail(Some(id), &p),
    }
}

async fn emergency(config: &Config, out: Out) -> u8 {
    match Caller::new(config).client().post::<_, ThawReply>("/v1/thaw", &json!({}), AGENT).await {
        Ok(r) => {
            out.object("window", &r.window);
            say_window(&r.window, out);
        }
        Err(p) if p.code == Code::ThawUnknownId => out.say("the agent holds no freeze"),
        Err(p) => out.note(format!("the agent did not thaw ({}: {}); going on without it", p.code, p.detail)),
    }
    let set = match openable(config, out) {
        Ok(s) => s,
        Err(code) => return code,
    };
    let before = instances::ask(&set, ASK_MS);
    for (name, f) in &before {
        out.object("frozen", &json!({ "instance": name, "frozen": f.word() }));
        out.say(format!("{name}: frozen: {}", f.word()));
    }
    let say = |name: &InstanceName, r: &engine::Rung| {
        out.object("rung", &json!({ "instance": name, "ran": r.ran, "took_ms": r.took_ms, "said": r.said, "thawed": r.thawed }));
        out.say(format!("{name}: {} -> {} ({} ms)", r.ran, r.said, r.took_ms));
    };
    let margins = &config.window.margins;
    let by = boot_now().plus(margins.thaw_budget_ms);
    let thawed = ladder(&set, margins.rung_ms, by, &say);
    if thawed {
        out.object("thaw", &json!({ "thawed": true }));
        out.say("writes resumed");
        exit::DONE
    } else {
        let after = instances::ask(&set, ASK_MS);
        let left: Vec<&InstanceName> = after.iter().filter(|(_, f)| *f != Frozen::No).map(|(n, _)| n).collect();
        out.object("thaw", &json!({ "thawed": false, "instances": left }));
        for n in left {
            out.say(format!(
                "STILL FROZEN: run `irisstat -W` in the bin directory of {n} (IRIS), or `mupip freeze -off -override \"*\"` (GT.M)"
            ));
        }
        exit::LEFT_FROZEN
    }
}

/// With a broken configuration what can be found is used; both failing is said loudly.
fn openable(config: &Config, out: Out) -> Result<Set, u8> {
    let first = match instances::open(config) {
        Ok(s) => return Ok(s),
        Err(p) => p,
    };
    out.note(format!("warning: the configured instances cannot be used ({}); looking for what is there", first.detail));
    match instances::open(&Config::default()) {
        Ok(s) if !s.is_empty() => Ok(s),
        Ok(_) | Err(_) => {
            out.say("STILL FROZEN or unknown: no instance can be reached; run `irisstat -W` in the instance's bin directory");
            Err(exit::LEFT_FROZEN)
        }
    }
}
