//! `freeze`, `frozen`, `rehearse`.

use super::pages;
use crate::caller::Caller;
use crate::cli;
use crate::config::Config;
use crate::instances;
use crate::out::Out;
use protocol::code::exit;
use protocol::outcome::{InstanceMarks, Window, WindowState};
use protocol::wire::{FreezeReply, FreezeRequest, FrozenReply, InstanceFrozen, Problem};
use protocol::{BackupId, Code};
use serde_json::json;
use std::time::Duration;

const ASK: Duration = Duration::from_secs(15);

pub fn new_id() -> BackupId {
    BackupId::from_uuid(uuid::Uuid::now_v7())
}

pub async fn freeze(config: &Config, args: &cli::Freeze, out: Out) -> u8 {
    let id = args.id.unwrap_or_else(new_id);
    let caller = Caller::new(config).by(&args.by);
    let request = FreezeRequest {
        id,
        instances: args.instances.clone(),
        hold_ms: args.hold,
        issued_at: args.issued_at,
        not_after: args.not_after,
        by: args.by.clone(),
    };
    let freeze = async { if args.no_sync { caller.freeze(&request).await } else { pages::freeze(&caller, &request).await } };
    let answer = tokio::select! {
        a = freeze => a,
        () = interrupted() => return interrupted_freeze(&caller, id, out).await,
    };
    match &answer {
        Ok(r) if args.print_id => out.say(r.id.to_string()),
        Ok(r) => say_frozen(r, out),
        Err(p) => return out.fail(Some(id), p),
    }
    exit::DONE
}

async fn interrupted_freeze(caller: &Caller<'_>, id: BackupId, out: Out) -> u8 {
    out.fail(Some(id), &taken_back(caller, id, Code::Interrupted).await)
}

/// Thaws a freeze that may be under way, or keeps it out; what is then to be said. `why` has nothing frozen left.
pub async fn taken_back(caller: &Caller<'_>, id: BackupId, why: Code) -> Problem {
    match caller.thaw(id).await {
        Ok(_) => Problem::new(why, why.says()),
        Err(p) if p.code == Code::ThawUnknownId => Problem::new(why, format!("{}: nothing was frozen", why.says())),
        Err(p) => p,
    }
}

/// Ctrl-C, SIGTERM, or the terminal is gone.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
        (Ok(mut i), Ok(mut t), Ok(mut h)) => {
            tokio::select! { _ = i.recv() => {}, _ = t.recv() => {}, _ = h.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}

pub fn say_frozen(r: &FreezeReply, out: Out) {
    let small = json!({ "id": r.id, "state": "frozen", "remaining_ms": r.remaining_ms, "journals": journals(&r.instances) });
    out.answer("freeze", r, &small);
    out.say(format!("frozen  {}  in {} ms, thaws by itself in {:.1} s", r.id, r.freeze_ms, r.remaining_ms as f64 / 1000.0));
    if let Some(ms) = r.sync_ms {
        out.say(format!("  the page cache was written to the disks in {ms} ms"));
    }
    say_marks(&r.instances, out);
    for w in &r.warnings {
        out.note(format!("warning: {w}"));
    }
}

pub fn say_marks(marks: &[InstanceMarks], out: Out) {
    for i in marks {
        for m in &i.marks {
            let region = if m.region.is_empty() { String::new() } else { format!(" {}", m.region) };
            if let Some(from) = m.restore_from() {
                out.say(format!("  {}{region}: a restore starts with journal {from}", i.instance));
            }
        }
    }
}

/// Where a restore starts, one per journal.
pub fn journals(marks: &[InstanceMarks]) -> Vec<&str> {
    marks.iter().flat_map(|i| i.marks.iter().filter_map(|m| m.restore_from())).collect()
}

/// A window as the end of a verb. Gives the exit code.
pub fn end_window(w: &Window, out: Out) -> u8 {
    let small =
        json!({ "id": w.backup_id, "state": w.state, "window_ms": w.window_ms, "thawed_at": w.thawed_at, "journals": journals(&w.marks) });
    out.answer("window", w, &small);
    say_window(w, out)
}

/// A window for a person: one line, its parts. Gives the exit code.
pub fn say_window(w: &Window, out: Out) -> u8 {
    let (word, code) = match &w.state {
        WindowState::Unbroken => ("unbroken".to_owned(), exit::DONE),
        WindowState::Broken(r) => (format!("BROKEN: {r}"), exit::BROKEN),
    };
    out.say(format!("thawed  {}  window {} ms, {word}", w.backup_id, w.window_ms));
    for p in &w.parts {
        out.say(format!("  {:>8} ms  +{} ms  {}", p.at_ms, p.took_ms, p.name));
    }
    code
}

pub async fn frozen(config: &Config, out: Out) -> u8 {
    match states(config).await {
        Ok(all) => {
            for i in &all {
                out.object("frozen", i);
                let why = match &i.frozen {
                    protocol::wire::Frozen::Unknown(why) => format!(" ({why})"),
                    protocol::wire::Frozen::Yes | protocol::wire::Frozen::No => String::new(),
                };
                out.say(format!("{}: {}{why}", i.instance, i.frozen.word()));
            }
            exit::DONE
        }
        Err(p) => out.problem(&p),
    }
}

/// From the agent, or from the engines themselves when there is none.
pub async fn states(config: &Config) -> Result<Vec<InstanceFrozen>, Problem> {
    if let Ok(r) = Caller::new(config).client().get::<FrozenReply>("/v1/frozen", ASK).await {
        return Ok(r.instances);
    }
    let set = instances::open(config)?;
    Ok(instances::ask(&set, ASK.as_millis() as u64).into_iter().map(|(instance, frozen)| InstanceFrozen { instance, frozen }).collect())
}

pub async fn rehearse(config: &Config, args: &cli::Rehearse, out: Out) -> u8 {
    let id = new_id();
    let caller = Caller::new(config);
    let request = FreezeRequest {
        id,
        instances: args.instances.clone(),
        hold_ms: Some(args.hold),
        issued_at: None,
        not_after: None,
        by: "rehearse".into(),
    };
    let reply = tokio::select! {
        a = caller.freeze(&request) => a,
        () = interrupted() => return interrupted_freeze(&caller, id, out).await,
    };
    let reply = match reply {
        Ok(r) => r,
        Err(p) => return out.fail(Some(id), &p),
    };
    let asked = states(config).await;
    let thawed = caller.thaw(id).await;
    // Thaw first, speak after: what is written to may lie on a frozen disk.
    match out.json {
        true => out.object("freeze", &reply),
        false => say_frozen(&reply, out),
    }
    match thawed {
        Ok(w) => {
            if let Ok(all) = &asked {
                for i in all {
                    out.say(format!("  {} while frozen: {}", i.instance, i.frozen.word()));
                }
            }
            end_window(&w, out)
        }
        Err(p) => out.fail(Some(id), &p),
    }
}
