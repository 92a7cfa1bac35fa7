//! `status`: works without an agent, without a login, with a broken configuration.

use super::freeze::states;
use crate::caller::Caller;
use crate::cli;
use crate::config::Config;
use crate::journal;
use crate::out::Out;
use protocol::code::exit;
use protocol::wire::{Phase, StatusReply};
use serde_json::json;
use std::time::Duration;

const QUICK: Duration = Duration::from_secs(5);

pub async fn status(config: &Config, args: &cli::Status, out: Out) -> u8 {
    let answer = Caller::new(config).client().get::<StatusReply>("/v1/status", QUICK).await;
    match &answer {
        Ok(s) => say(s, out),
        Err(p) => {
            out.object("agent", &json!({ "reachable": false, "why": p.detail }));
            out.say(format!("agent: NOT REACHABLE ({})", p.detail));
            for e in open_entries(config) {
                out.object("open", &json!({ "id": e.intent.id, "by": e.intent.by, "at": e.intent.at }));
                out.say(format!("open freeze: {} by {}, ordered {}", e.intent.id, e.intent.by, crate::when(e.intent.at)));
            }
        }
    }
    match states(config).await {
        Ok(all) => {
            for i in all {
                out.object("frozen", &i);
                out.say(format!("{}: frozen: {}", i.instance, i.frozen.word()));
            }
        }
        Err(p) => {
            out.object("problem", &p);
            out.say(format!("engines: {} ({})", p.detail, p.code));
        }
    }
    // What was asked is answered, so the end is 0 even without an agent; the last line says which it is.
    match answer {
        Ok(s) => out.answer("status", &s, &json!({ "id": args.id.or(s.id), "phase": s.phase, "left_frozen": s.left_frozen })),
        Err(p) => out.answer("problem", &p, &json!({ "id": args.id, "code": p.code, "detail": p.detail })),
    }
    exit::DONE
}

fn say(s: &StatusReply, out: Out) {
    let phase = match s.phase {
        Phase::Idle => "nothing is frozen by us",
        Phase::Arming => "about to freeze",
        Phase::Freezing => "freezing",
        Phase::Frozen => "FROZEN",
        Phase::Thawing => "thawing",
        Phase::Guarding => "thawed; watching for a freeze that may land late",
        Phase::Ended | Phase::Tombstone => "ended",
    };
    out.say(format!("agent {}: {phase}", s.agent_version));
    if let Some(id) = s.id {
        let names: Vec<_> = s.instances.iter().map(ToString::to_string).collect();
        out.say(format!("  {id} by {}, instances {}", s.by, names.join(", ")));
    }
    if let Some(t) = s.since.filter(|_| s.phase != Phase::Idle) {
        out.say(format!("  since {}", crate::when(t)));
    }
    if let Some(ms) = s.thaw_in_ms {
        out.say(format!("  thaws by itself in {:.1} s", ms as f64 / 1000.0));
    }
    if s.left_frozen {
        out.say("  LEFT FROZEN: not confirmed as thawed; run `sudo snapfreeze thaw`");
    }
    for a in &s.alarms {
        out.say(format!("  alarm: {a}"));
    }
    if let Some(w) = &s.last {
        let state = match &w.state {
            protocol::WindowState::Unbroken => "unbroken".to_owned(),
            protocol::WindowState::Broken(r) => format!("broken: {r}"),
        };
        out.say(format!("last window: {} {} ms, {state}", w.backup_id, w.window_ms));
    }
}

/// What the journal names as open; readable by root only.
fn open_entries(config: &Config) -> Vec<journal::Entry> {
    let Ok(dir) = std::fs::read_dir(config.dirs.journal()) else { return vec![] };
    dir.flatten()
        .filter(|f| f.path().extension().is_some_and(|e| e == "entry"))
        .filter_map(|f| journal::parse(&std::fs::read(f.path()).ok()?))
        .filter(|e| e.outcome.is_none())
        .collect()
}
