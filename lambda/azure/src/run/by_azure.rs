//! A backup whose window the machine's own scripts hold: an application-consistent restore point makes Azure call the pre and post
//! script of `hook azure-backup`. We ask for it, and believe it only when Azure says `ApplicationConsistent` **and** the agent shows
//! a window that was not there before, asked for by `hook azure-backup`, unbroken.

use super::{ORDER_S, Order, RunCommand, TAIL_MS};
use crate::disks::points::{self, Scripted};
use crate::id::VmId;
use common::answers;
use coordinator::Target;
use coordinator::ports::{BackupAnswer, FreezeCall, SnapshotCall, ThawAnswer};
use protocol::outcome::{BrokenReason, Window, WindowState};
use protocol::wire::{BY_AZURE_BACKUP, Phase, Problem, StatusReply};
use protocol::{BackupId, Code, Verdict, WallMs};

/// Left for the host's word after Azure's.
const STATUS_MS: i64 = 20_000;

impl RunCommand {
    async fn status(&self, vm: &VmId, id: BackupId, by: WallMs) -> Result<StatusReply, Problem> {
        answers::status(self.ask(vm, Order::new("status", id, ORDER_S), WallMs(by.0 - TAIL_MS)).await, id)
    }

    pub(super) async fn by_azure(&self, vm: &VmId, target: &Target, call: &FreezeCall, set: &SnapshotCall) -> BackupAnswer {
        let Some(disks) = &self.disks else {
            return BackupAnswer::Refused(Problem::new(Code::ConfigInvalid, "restore points are not set up here"));
        };
        let before = match self.status(vm, call.id, call.not_after).await {
            Ok(s) if s.phase == Phase::Idle => s.last.map(|w| w.backup_id),
            Ok(_) => return BackupAnswer::Refused(Problem::new(Code::RefusedBusy, Code::RefusedBusy.says()).next("snapfreeze status")),
            Err(p) => return BackupAnswer::Refused(Problem { code: Code::AgentUnreachable, ..p }),
        };
        self.kept.by_azure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(call.id);
        let set = SnapshotCall { answer_by: WallMs(call.answer_by.0 - STATUS_MS), ..set.clone() };
        let done = points::scripted(disks, target, &set).await;
        if let Scripted::Refused(p) = done {
            return BackupAnswer::Refused(p);
        }
        let window = self.status(vm, call.id, call.answer_by).await.map(|s| scripts_own(s, before));
        self.tidy(vm);
        judged(done, window, call.id)
    }

    /// Nothing is frozen under our id, and the scripts' window is not open either.
    pub(super) async fn nor_by_azure(&self, vm: &VmId, id: BackupId, by: WallMs) -> ThawAnswer {
        if !self.kept.by_azure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&id) {
            return ThawAnswer::NeverFrozen;
        }
        match self.status(vm, id, by).await {
            Ok(s) if matches!(s.phase, Phase::Idle | Phase::Ended | Phase::Tombstone) => ThawAnswer::NeverFrozen,
            Ok(s) => ThawAnswer::Unknown(format!("a window of {} is still open; it is thawed by its post script, or by its hold", s.by)),
            Err(p) => ThawAnswer::Unknown(p.detail),
        }
    }
}

/// The last window, if it is new and the scripts' own: another backup's window on this host proves nothing about this point.
fn scripts_own(s: StatusReply, before: Option<BackupId>) -> Option<Window> {
    let own = s.last_by == BY_AZURE_BACKUP;
    s.last.filter(|w| own && Some(w.backup_id) != before)
}

/// Held needs both words, Azure's and the host's.
fn judged(done: Scripted, window: Result<Option<Window>, Problem>, id: BackupId) -> BackupAnswer {
    let (snapshots, why) = match done {
        Scripted::Refused(p) => return BackupAnswer::Refused(p),
        Scripted::Lost(why) => return BackupAnswer::Unknown(why),
        Scripted::Made { snapshots, wrong } => (snapshots, wrong),
    };
    let window = match window {
        Ok(Some(w)) => Window { backup_id: id, ..w },
        Ok(None) => {
            let why = why.unwrap_or_else(|| "Azure calls it application-consistent".into());
            return BackupAnswer::Failed(
                Problem::new(Code::FreezeFailed, format!("{why}, and no script has frozen anything")).next("on the host: snapfreeze check"),
            );
        }
        Err(p) => return BackupAnswer::Unknown(format!("the window of the scripts is not known: {}", p.detail)),
    };
    let verdict = match (&window.state, why) {
        (WindowState::Unbroken, None) => Verdict::Held,
        (WindowState::Unbroken, Some(why)) => Verdict::Broken(BrokenReason::SnapshotFailed(why)),
        (WindowState::Broken(r), _) => Verdict::Broken(r.clone()),
    };
    BackupAnswer::Done { verdict, window: Box::new(window), snapshots }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator::ports::Made;

    #[test]
    fn held_needs_azures_word_and_the_hosts() {
        let id: BackupId = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap();
        let window = |state| Window {
            backup_id: "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6f".parse().unwrap(),
            state,
            frozen_at: None,
            thawed_at: None,
            window_ms: 1,
            parts: vec![],
            marks: vec![],
            evidence: vec![],
        };
        let made = |wrong: Option<&str>| Scripted::Made {
            snapshots: vec![Made { snapshot: "s".into(), volume: "v".into() }],
            wrong: wrong.map(str::to_owned),
        };
        let held = |a: &BackupAnswer| matches!(a, BackupAnswer::Done { verdict: Verdict::Held, .. });
        let good = judged(made(None), Ok(Some(window(WindowState::Unbroken))), id);
        assert!(held(&good) && matches!(good, BackupAnswer::Done { window, .. } if window.backup_id == id));
        for (done, window) in [
            (made(Some("FileSystemConsistent")), Ok(Some(window(WindowState::Unbroken)))),
            (made(None), Ok(Some(window(WindowState::Broken(BrokenReason::HoldExpired))))),
            (made(None), Ok(None)),
            (made(None), Err(Problem::new(Code::AgentUnreachable, ""))),
            (Scripted::Lost("?".into()), Ok(Some(window(WindowState::Unbroken)))),
        ] {
            assert!(!held(&judged(done, window, id)));
        }
    }

    #[test]
    fn only_a_new_window_of_the_scripts_counts() {
        let (old, new): (BackupId, BackupId) =
            ("0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap(), "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6f".parse().unwrap());
        let status = |by: &str| -> StatusReply {
            let window = serde_json::json!({
                "backup_id": new, "state": WindowState::Unbroken, "frozen_at": null, "thawed_at": null, "window_ms": 1,
                "parts": [], "marks": [], "evidence": [],
            });
            let mut v = serde_json::json!({
                "schema": 1, "agent_version": "0", "phase": "idle", "id": null, "by": "", "instances": [], "since": null,
                "thaw_in_ms": null, "watchdog_pid": null, "left_frozen": false, "alarms": [], "last": window,
            });
            if !by.is_empty() {
                v["last_by"] = by.into();
            }
            serde_json::from_value(v).unwrap()
        };
        assert!(scripts_own(status(BY_AZURE_BACKUP), Some(old)).is_some());
        assert!(scripts_own(status(BY_AZURE_BACKUP), Some(new)).is_none(), "it was there before");
        assert!(scripts_own(status("nightly"), Some(old)).is_none(), "another backup's");
        assert!(scripts_own(status(""), None).is_none(), "an older agent names nobody");
    }
}
