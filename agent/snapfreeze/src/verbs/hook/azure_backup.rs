//! `hook azure-backup`: pre and post script of Azure Backup's VM snapshots on Linux.
//!
//! Its plug-in host gives a script no name, reads none of its output, tries nothing again, and does not end a script whose time is
//! over: it goes on to the snapshot while the script does as it likes. Post comes after every pre that was started. So pre counts
//! its time from the moment at which it was forked, post takes whatever pre left, and each says 0 only of what is known.
//! Source: Azure/azure-linux-extensions, VMBackup (ScriptRunner.py, PluginHost.py, handle.py).

use super::plugin::{self, Plugin};
use super::turn::{Turn, Turns, started};
use super::{End, QUICK, kept, phase};
use crate::caller::Caller;
use crate::cli::AzureStage;
use crate::config::Config;
use crate::out::Out;
use crate::verbs::freeze::{end_window, interrupted, journals, new_id, say_frozen, taken_back};
use crate::verbs::pages;
use crate::verbs::prepare::blocking;
use doors::clock::{boot_now, wall_now};
use protocol::code::exit;
use protocol::outcome::Window;
use protocol::wire::{FreezeReply, FreezeRequest, Phase, Problem, StatusReply};
use protocol::{BackupId, BootMs, Code, WallMs};
use serde_json::{Value, json};
use std::time::Duration;

pub const BY: &str = protocol::wire::BY_AZURE_BACKUP;
/// For the lock of the turn: it is held for two small writes to tmpfs.
const LOCK_MS: u64 = 2_000;
/// For the record of a post: the disk may still be frozen.
const KEEP: Duration = Duration::from_secs(10);

pub async fn hook(config: &Config, stage: AzureStage, out: Out) -> u8 {
    match stage {
        AzureStage::Pre => pre(config, out).await,
        AzureStage::Post => post(config, out).await,
    }
}

async fn pre(config: &Config, out: Out) -> u8 {
    let turns = Turns::at(&config.dirs.run);
    let id = new_id();
    match frozen(config, &turns, id).await {
        Ok(r) if out.json => {
            say_frozen(&r, out);
            exit::DONE
        }
        Ok(r) => {
            out.say(format!("frozen {id} in {} ms, thaws by itself in {} s", r.freeze_ms, r.remaining_ms / 1000));
            exit::DONE
        }
        Err(p) => {
            // For the record of post. Without the turn's lock there is none, and post says less.
            let _ = turns.change(boot_now().plus(LOCK_MS), |t| {
                if t.id == Some(id) {
                    t.problem = Some(p.clone());
                }
            });
            out.fail(Some(id), &p)
        }
    }
}

/// Frozen, on the disks, in time and without a post that came first; or nothing is frozen by us unless it is `Thaw.LeftFrozen`.
async fn frozen(config: &Config, turns: &Turns, id: BackupId) -> Result<FreezeReply, Problem> {
    let begun = started().map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    let plugin = Plugin::read(&config.azure_backup.dir);
    let script_ms = plugin.and_then(|p| p.script_timeout_ms()).map_err(|why| {
        Problem::new(Code::ConfigInvalid, format!("how long Azure waits for this script is not known: {why}"))
            .next("run `snapfreeze check`")
    })?;
    let until = begun.plus(plugin::own_time_ms(script_ms));
    let caller = Caller::new(config);
    let lock = |e: std::io::Error| Problem::new(Code::Internal, format!("the turn of pre and post cannot be taken: {e}"));
    // Without an answer the turn stays as it is: it may be the only name of a window that is open.
    if let Some(other) = open(&caller, until).await? {
        // Azure runs one at a time. If it does not, no post knows whose it is, and neither window may be called consistent.
        turns.change(boot_now().plus(LOCK_MS), |t| t.disturbed = true).map_err(lock)?;
        let p = Problem::new(Code::RefusedBusy, format!("{}: {} by {}", Code::RefusedBusy.says(), other.0, other.1));
        return Err(p.next("see `snapfreeze status`"));
    }
    let late = || Problem::new(Code::RefusedLate, format!("{}: Azure gave this script up", Code::RefusedLate.says()));
    if !turns.change(boot_now().plus(LOCK_MS), |t| t.begin(id, begun)).map_err(lock)? || boot_now() >= until {
        return Err(late().next("look for what delayed it: a loaded host, a small timeoutInSeconds"));
    }
    let now = wall_now();
    let request = FreezeRequest {
        id,
        instances: vec![],
        hold_ms: Some(config.azure_backup.hold_ms),
        issued_at: Some(now),
        not_after: Some(WallMs(now.0.saturating_add_unsigned(left(until)))),
        by: BY.into(),
    };
    let reply = tokio::select! {
        a = pages::freeze(&caller, &request) => a?,
        () = interrupted() => return Err(taken_back(&caller, id, Code::Interrupted).await),
        () = tokio::time::sleep(Duration::from_millis(left(until))) => return Err(taken_back(&caller, id, Code::FreezeTimedOut).await),
    };
    if turns.change(boot_now().plus(LOCK_MS), |t| t.say_frozen(id)).unwrap_or(false) && boot_now() < until {
        return Ok(reply);
    }
    match taken_back(&caller, id, Code::RefusedLate).await {
        p if p.code == Code::RefusedLate => Err(Problem::new(Code::FreezeTimedOut, "the freeze came too late for Azure; thawed again")),
        p => Err(p),
    }
}

fn left(until: BootMs) -> u64 {
    until.0.saturating_sub(boot_now().0)
}

/// The window that is open, and who asked for it. An agent that is just restarting is asked again: nobody else tries again for us.
async fn open(caller: &Caller<'_>, until: BootMs) -> Result<Option<(BackupId, String)>, Problem> {
    let give_up = boot_now().plus(left(until) / 2);
    loop {
        match caller.client().get::<StatusReply>("/v1/status", QUICK).await {
            Ok(s) => {
                let open = !matches!(s.phase, Phase::Idle | Phase::Guarding | Phase::Ended | Phase::Tombstone);
                return Ok(s.id.filter(|_| open).map(|id| (id, s.by)));
            }
            Err(p) if p.code != Code::AgentUnreachable || boot_now() >= give_up => return Err(p),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn post(config: &Config, out: Out) -> u8 {
    let turns = Turns::at(&config.dirs.run);
    let caller = Caller::new(config);
    // Thaw first, whatever the turn says: a lock that cannot be had or a tmpfs that is full costs the verdict, not the thaw.
    let (turn, sure) = match turns.change(boot_now().plus(LOCK_MS), |t| t.end(boot_now())) {
        Ok(t) => (t, true),
        Err(_) => (turns.peek(), false),
    };
    let id = match turn.id {
        Some(id) => Some(id),
        None => match open(&caller, boot_now()).await {
            Ok(o) => o.filter(|o| o.1 == BY).map(|o| o.0),
            Err(p) => return out.fail(None, &p),
        },
    };
    let Some(id) = id else {
        let p = Problem::new(Code::ThawUnknownId, "no pre has frozen anything since the last post");
        return out.fail(None, &p.next("see `snapfreeze status`; the recovery point is not application-consistent"));
    };
    let before = phase(&caller, id).await;
    let thawed = caller.thaw(id).await;
    // From here on a write may take its time.
    let told = told(&turn, sure, before.as_ref(), &thawed);
    let code = told.code;
    match &thawed {
        Ok(w) if out.json => {
            end_window(w, out);
        }
        Ok(w) => out.say(line(w, told.says)),
        Err(p) => {
            out.fail(Some(id), p);
        }
    }
    let to = config.backup.to.first().unwrap_or(&config.dirs.state).clone();
    let record = told.record;
    match tokio::time::timeout(KEEP, blocking(move || kept(&to, BY, id, &record))).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(e))) => out.note(format!("the run could not be recorded: {e}")),
        Ok(Err(p)) => out.note(format!("the run could not be recorded: {}", p.detail)),
        Err(_) => out.note("the run could not be recorded: the disk does not answer"),
    }
    code
}

fn line(w: &Window, says: &str) -> String {
    let from = journals(&w.marks);
    let journal = if from.is_empty() { String::new() } else { format!("; a restore starts with journal {}", from.join(", ")) };
    format!("thawed {}, window {} ms: {says}{journal}", w.backup_id, w.window_ms)
}

struct Told {
    code: u8,
    says: &'static str,
    record: Value,
}

/// Success needs all of it: pre said so in time, nobody came between, the window was unbroken, and it was open when post began.
fn told(turn: &Turn, sure: bool, before: Option<&Phase>, thawed: &Result<Window, Problem>) -> Told {
    let (code, says) = match thawed {
        Err(p) if p.code == Code::LeftFrozen => (p.code.exit(), "LEFT FROZEN: run `sudo snapfreeze thaw` now"),
        Err(p) => (p.code.exit(), "nothing was frozen; not application-consistent"),
        Ok(w) => match End::of(&w.state, before) {
            End::Held if turn.frozen && !turn.disturbed && sure => (exit::DONE, "unbroken; application-consistent"),
            End::Held if turn.disturbed => (exit::BROKEN, "another run came between; not application-consistent"),
            End::Held => (exit::BROKEN, "pre did not end in its time; not application-consistent"),
            End::ByItself => (exit::BROKEN, "it thawed by itself before post; not application-consistent"),
            End::Before => (exit::BROKEN, "it was thawed before post; whether it is application-consistent is not known"),
            End::Broken => (exit::BROKEN, "broken; not application-consistent"),
        },
    };
    let mut record = json!({ "exit": code, "says": says, "post_at": wall_now() });
    match thawed {
        Ok(w) => record["window"] = json!(w),
        Err(p) => record["problem"] = json!(p),
    }
    if let Some(p) = &turn.problem {
        record["pre"] = json!(p);
    }
    Told { code, says, record }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::outcome::{BrokenReason, WindowState};

    #[test]
    fn post_says_0_of_one_case_only() {
        let window = |state| Window {
            backup_id: new_id(),
            state,
            frozen_at: None,
            thawed_at: None,
            window_ms: 1,
            parts: vec![],
            marks: vec![],
            evidence: vec![],
        };
        let ends = || {
            [
                Ok(window(WindowState::Unbroken)),
                Ok(window(WindowState::Broken(BrokenReason::HoldExpired))),
                Err(Problem::new(Code::ThawUnknownId, "")),
                Err(Problem::new(Code::LeftFrozen, "")),
            ]
        };
        let mut good = 0;
        for n in 0..8 {
            let turn = Turn { id: Some(new_id()), frozen: n & 1 > 0, disturbed: n & 2 > 0, ..Turn::default() };
            for before in [None, Some(Phase::Frozen), Some(Phase::Ended), Some(Phase::Freezing)] {
                for end in ends() {
                    let t = told(&turn, n & 4 > 0, before.as_ref(), &end);
                    assert_eq!(t.code == 0, t.says.starts_with("unbroken"));
                    assert_eq!(t.record["exit"], t.code);
                    good += usize::from(t.code == 0);
                }
            }
        }
        assert_eq!(good, 1);
        assert_eq!(told(&Turn::default(), true, None, &ends()[3]).code, exit::LEFT_FROZEN);
    }
}
