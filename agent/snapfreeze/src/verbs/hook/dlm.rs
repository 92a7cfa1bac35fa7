//! `hook dlm`: pre and post script of AWS Data Lifecycle Manager, with the exit codes that its documents use.
//!
//! 0 is said only of what is known: pre, that everything is frozen and on the disks; post, that the window was unbroken and still
//! open when post began. DLM runs no post after a failed pre, so a failed pre leaves nothing frozen.

use super::{End, QUICK, kept, phase};
use crate::caller::Caller;
use crate::cli::DlmStage;
use crate::config::Config;
use crate::out::Out;
use crate::verbs::freeze::{end_window, interrupted, say_frozen, taken_back};
use crate::verbs::{facts, pages};
use doors::clock::wall_now;
use protocol::code::exit;
use protocol::wire::{FreezeRequest, Phase, Problem, StatusReply};
use protocol::{BackupId, Code, WallMs};
use serde_json::json;
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

const BY: &str = "dlm";

pub async fn hook(config: &Config, stage: DlmStage, execution_id: &str, out: Out) -> u8 {
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
    let before = phase(&caller, id).await;
    let window = match caller.thaw(id).await {
        Ok(w) => w,
        Err(p) => {
            let code = if p.code == Code::ThawUnknownId { THAWED_ALREADY } else { POST_FAILED };
            return failed(Some(id), &p, code, out);
        }
    };
    let (code, says) = dlm_says(End::of(&window.state, before.as_ref()));
    let kept = config.backup.to.first().map(|dir| kept(dir, BY, id, &json!({ "exit": code, "window": window })));
    end_window(&window, out);
    out.say(says);
    if let Some(Err(e)) = kept {
        out.note(format!("the window could not be recorded: {e}"));
    }
    code
}

const fn dlm_says(end: End) -> (u8, &'static str) {
    match end {
        End::Held => (exit::DONE, "the snapshots that were started since pre are consistent"),
        End::ByItself => (THAWED_BY_ITSELF, "203: it thawed by itself before post; the snapshots are not consistent"),
        End::Before => (THAWED_ALREADY, "205: it was thawed before post; whether the snapshots are consistent is not known"),
        End::Broken => (POST_FAILED, "202: the window was broken; the snapshots are not consistent"),
    }
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
