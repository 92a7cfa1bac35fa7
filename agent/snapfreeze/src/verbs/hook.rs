//! `hook dlm`: pre and post script of AWS Data Lifecycle Manager, with the exit codes that its documents use.
//!
//! 0 is said only of what is known: pre, that everything is frozen and on the disks; post, that the window was unbroken and still
//! open when post began. DLM runs no post after a failed pre, so a failed pre leaves nothing frozen.

use super::facts;
use super::freeze::{end_window, interrupted, say_frozen, taken_back};
use super::pages;
use crate::caller::Caller;
use crate::cli::{self, DlmStage, HookOf};
use crate::config::Config;
use crate::out::Out;
use doors::clock::{boot_now, wall_now};
use protocol::code::exit;
use protocol::outcome::{BrokenReason, Window, WindowState};
use protocol::wire::{FreezeRequest, FreezeState, Phase, Problem, StatusReply};
use protocol::{BackupId, Code, SCHEMA, WallMs};
use serde_json::json;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

/// EBS User Guide, "Automate application-consistent snapshots with Data Lifecycle Manager": the documents' convention;
/// they show in the `cause` of DLM's event.
pub const BAD_PARAMETER: u8 = 1;
const PRE_FAILED: u8 = 201;
const POST_FAILED: u8 = 202;
const THAWED_BY_ITSELF: u8 = 203;
const FROZEN_ALREADY: u8 = 204;
const THAWED_ALREADY: u8 = 205;
const NOT_READY: u8 = 206;

const QUICK: Duration = Duration::from_secs(5);
/// A restarting agent thaws before it answers again.
const ASK_AGAIN_MS: u64 = 3_000;
const BY: &str = "dlm";

pub async fn hook(config: &Config, args: &cli::Hook, out: Out) -> u8 {
    let HookOf::Dlm { stage, execution_id } = &args.of;
    let id: Option<BackupId> = execution_id.parse().ok();
    let id = match (stage, id) {
        (DlmStage::DryRun, None) if execution_id == "None" => return dry_run(config, None, out).await,
        (DlmStage::DryRun, Some(id)) => return dry_run(config, Some(id), out).await,
        (DlmStage::Pre | DlmStage::Post, Some(id)) => id,
        (DlmStage::Pre | DlmStage::Post | DlmStage::DryRun, None) => {
            let p = Problem::new(Code::UsageInvalid, format!("{execution_id:?} is no execution id")).next("pass DLM's executionId, a UUID");
            return failed(None, &p, BAD_PARAMETER, out);
        }
    };
    match stage {
        DlmStage::Pre => pre(config, id, out).await,
        DlmStage::Post => post(config, id, out).await,
        DlmStage::DryRun => dry_run(config, Some(id), out).await,
    }
}

fn failed(id: Option<BackupId>, p: &Problem, code: u8, out: Out) -> u8 {
    out.fail(id, p);
    code
}

/// What DLM is told of a problem before anything was frozen, or after it was thawed again.
pub fn code_before(p: &Problem) -> u8 {
    match p.code {
        Code::RefusedAlreadyFrozen | Code::RefusedBusy => FROZEN_ALREADY,
        Code::RefusedUsedId | Code::RefusedLate | Code::RefusedClock => PRE_FAILED,
        c if matches!(c.exit(), exit::REFUSED | exit::UNREACHABLE | exit::USAGE) => NOT_READY,
        _ => PRE_FAILED,
    }
}

/// The part of DLM's time that the freeze may take; the rest is for a thaw that must still be sent.
const fn own_time_ms(script_timeout_ms: u64) -> u64 {
    script_timeout_ms * 4 / 5
}

async fn pre(config: &Config, id: BackupId, out: Out) -> u8 {
    let until = tokio::time::sleep(Duration::from_millis(own_time_ms(config.dlm.script_timeout_ms)));
    let caller = Caller::new(config);
    let sent = wall_now();
    let request = FreezeRequest {
        id,
        instances: vec![],
        hold_ms: Some(config.dlm.hold_ms),
        issued_at: Some(sent),
        not_after: Some(WallMs(sent.0.saturating_add_unsigned(own_time_ms(config.dlm.script_timeout_ms)))),
        by: BY.into(),
    };
    let freeze = async {
        // The same id again while it is frozen would get the first one's answer, and its hold is partly over.
        let status: StatusReply = caller.client().get("/v1/status", QUICK).await?;
        if let Some(open) = status.id.filter(|_| !matches!(status.phase, Phase::Idle | Phase::Guarding)) {
            let p = Problem::new(Code::RefusedBusy, format!("{}: {open} by {}", Code::RefusedBusy.says(), status.by));
            return Err(p.next("wait for its post script, or see `snapfreeze status`"));
        }
        pages::freeze(&caller, &request).await
    };
    let answer = tokio::select! {
        a = freeze => a,
        () = interrupted() => Err(taken_back(&caller, id, Code::Interrupted).await),
        () = until => Err(taken_back(&caller, id, Code::FreezeTimedOut).await),
    };
    match answer {
        Ok(r) if r.by != BY => {
            let p = Problem::new(Code::RefusedBusy, format!("{id} is held by {}", r.by)).next("see `snapfreeze status`");
            failed(Some(id), &p, FROZEN_ALREADY, out)
        }
        Ok(r) => {
            say_frozen(&r, out);
            exit::DONE
        }
        Err(p) => failed(Some(id), &p, code_before(&p), out),
    }
}

async fn post(config: &Config, id: BackupId, out: Out) -> u8 {
    let caller = Caller::new(config);
    // Whether it was open when post began: the snapshots were started before.
    let before = state(&caller, id).await;
    let window = match caller.thaw(id).await {
        Ok(w) => w,
        Err(p) => {
            let code = if p.code == Code::ThawUnknownId { THAWED_ALREADY } else { POST_FAILED };
            return failed(Some(id), &p, code, out);
        }
    };
    let code = code_after(&window.state, before.as_ref());
    let kept = config.backup.to.first().map(|dir| record(dir, &window, code));
    end_window(&window, out);
    out.say(dlm_says(code));
    if let Some(Err(e)) = kept {
        out.note(format!("the window could not be recorded: {e}"));
    }
    code
}

async fn state(caller: &Caller<'_>, id: BackupId) -> Option<Phase> {
    let by = boot_now().plus(ASK_AGAIN_MS);
    loop {
        match caller.client().get::<FreezeState>(&format!("/v1/freezes/{id}"), QUICK).await {
            Ok(s) => return Some(s.phase),
            Err(p) if p.code == Code::ThawUnknownId || boot_now() >= by => return None,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Success needs a window that is unbroken and that was open when post began.
fn code_after(window: &WindowState, before: Option<&Phase>) -> u8 {
    match (window, before) {
        (WindowState::Unbroken, Some(Phase::Frozen)) => exit::DONE,
        (WindowState::Unbroken, Some(Phase::Ended | Phase::Tombstone | Phase::Thawing)) => THAWED_ALREADY,
        (WindowState::Unbroken, _) => POST_FAILED, // nobody knows since when it is thawed
        // Thawed without being asked: by the hold, by the engine's limit, by watchdog or restarted agent.
        (WindowState::Broken(BrokenReason::HoldExpired | BrokenReason::NotFrozenBeforeThaw | BrokenReason::AgentLost), _) => {
            THAWED_BY_ITSELF
        }
        (WindowState::Broken(_), _) => POST_FAILED,
    }
}

const fn dlm_says(code: u8) -> &'static str {
    match code {
        exit::DONE => "the snapshots that were started since pre are consistent",
        THAWED_BY_ITSELF => "203: it thawed by itself before post; the snapshots are not consistent",
        THAWED_ALREADY => "205: it was thawed before post; whether the snapshots are consistent is not known",
        _ => "202: the window was broken; the snapshots are not consistent",
    }
}

/// Beside the sets, `dlm/<id>.json`, renamed into place.
fn record(to: &Path, window: &Window, code: u8) -> std::io::Result<()> {
    let dir = to.join("dlm");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let text = json!({ "schema": SCHEMA, "type": "dlm", "id": window.backup_id, "exit": code, "window": window });
    let path = dir.join(format!("{}.json", window.backup_id));
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{text}\n"))?;
    std::fs::rename(&new, &path)
}

async fn dry_run(config: &Config, id: Option<BackupId>, out: Out) -> u8 {
    let f = match facts::gather(config, id, Some(config.dlm.hold_ms), &[]).await {
        Ok(f) => f,
        Err(p) => return failed(id, &p, NOT_READY, out),
    };
    facts::say(&f, id, out);
    let names: Vec<String> = f.instances.iter().map(|i| i.instance.to_string()).collect();
    let own = own_time_ms(config.dlm.script_timeout_ms);
    out.say(format!("pre would freeze {} within {own} ms and hold for at most {} s", names.join(", "), config.dlm.hold_ms / 1000));
    if f.problems.is_empty() && !f.instances.is_empty() { exit::DONE } else { NOT_READY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn post_succeeds_only_with_an_unbroken_window_that_was_open_when_it_began() {
        let states = [
            WindowState::Unbroken,
            WindowState::Broken(BrokenReason::HoldExpired),
            WindowState::Broken(BrokenReason::OtherTool("x".into())),
        ];
        let phases = [
            None,
            Some(Phase::Idle),
            Some(Phase::Freezing),
            Some(Phase::Frozen),
            Some(Phase::Thawing),
            Some(Phase::Guarding),
            Some(Phase::Ended),
            Some(Phase::Tombstone),
        ];
        let mut good = 0;
        for s in &states {
            for p in &phases {
                if code_after(s, p.as_ref()) == 0 {
                    good += 1;
                    assert_eq!((s, p), (&WindowState::Unbroken, &Some(Phase::Frozen)));
                }
            }
        }
        assert_eq!(good, 1);
        assert_eq!(code_after(&states[1], Some(&Phase::Ended)), 203);
        assert_eq!(code_after(&states[2], Some(&Phase::Frozen)), 202);
        assert_eq!(code_after(&states[0], Some(&Phase::Ended)), 205);
    }

    #[test]
    fn no_problem_before_the_freeze_is_success() {
        for c in Code::ALL {
            let code = code_before(&Problem::new(*c, ""));
            assert!((201..=206).contains(&code), "{c}: {code}");
        }
        let of = |c| code_before(&Problem::new(c, ""));
        assert_eq!((of(Code::RefusedInstance), of(Code::AgentUnreachable), of(Code::ConfigInvalid)), (206, 206, 206));
        assert_eq!((of(Code::FreezeFailed), of(Code::FreezeTimedOut), of(Code::LeftFrozen)), (201, 201, 201));
    }

    #[test]
    fn the_own_time_ends_before_dlms() {
        for s in [10_000, 11_000, 60_000, 120_000] {
            assert!(own_time_ms(s) + 2_000 <= s, "{s}");
        }
    }
}
