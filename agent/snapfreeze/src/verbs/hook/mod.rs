//! The contracts of other schedulers, whose pre and post scripts we are. What they share: success is said of a window that was
//! unbroken and still open when post began, and of no other.

pub mod azure_backup;
pub mod dlm;
pub mod plugin;
mod turn;

use crate::caller::Caller;
use crate::cli::{self, HookOf};
use crate::config::Config;
use crate::out::{Out, typed};
use doors::clock::boot_now;
use protocol::outcome::{BrokenReason, WindowState};
use protocol::wire::{FreezeState, Phase};
use protocol::{BackupId, Code};
use serde_json::Value;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

const QUICK: Duration = Duration::from_secs(5);
/// A restarting agent thaws before it answers again.
const ASK_AGAIN_MS: u64 = 3_000;

pub async fn hook(config: &Config, args: &cli::Hook, out: Out) -> u8 {
    match &args.of {
        HookOf::Dlm { stage, execution_id } => dlm::hook(config, *stage, execution_id, out).await,
        HookOf::AzureBackup { stage, .. } => azure_backup::hook(config, *stage, out).await,
    }
}

/// Where a window stands, asked of the agent right before its thaw.
async fn phase(caller: &Caller<'_>, id: BackupId) -> Option<Phase> {
    let by = boot_now().plus(ASK_AGAIN_MS);
    loop {
        match caller.client().get::<FreezeState>(&format!("/v1/freezes/{id}"), QUICK).await {
            Ok(s) => return Some(s.phase),
            Err(p) if p.code == Code::ThawUnknownId || boot_now() >= by => return None,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// What post may say of what was snapshotted since pre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Unbroken, and open when post began: the only success.
    Held,
    /// Thawed without being asked: by the hold, by the engine's limit, by watchdog or restarted agent.
    ByItself,
    /// Unbroken, but over before post began: nobody knows which snapshots came before its end.
    Before,
    Broken,
}

impl End {
    fn of(window: &WindowState, before: Option<&Phase>) -> Self {
        match (window, before) {
            (WindowState::Unbroken, Some(Phase::Frozen)) => Self::Held,
            (WindowState::Unbroken, Some(Phase::Ended | Phase::Tombstone | Phase::Thawing)) => Self::Before,
            (WindowState::Unbroken, _) => Self::Broken, // nobody knows since when it is thawed
            (WindowState::Broken(BrokenReason::HoldExpired | BrokenReason::NotFrozenBeforeThaw | BrokenReason::AgentLost), _) => {
                Self::ByItself
            }
            (WindowState::Broken(_), _) => Self::Broken,
        }
    }
}

/// A record beside the sets: `<to>/<kind>/<id>.json`, renamed into place. Only after the thaw: the disk may be frozen before.
fn kept(to: &Path, kind: &str, id: BackupId, what: &Value) -> std::io::Result<()> {
    let dir = to.join(kind);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let mut text = typed(kind, what);
    text["id"] = Value::String(id.to_string());
    let path = dir.join(format!("{id}.json"));
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{text}\n"))?;
    std::fs::rename(&new, &path)
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
                if End::of(s, p.as_ref()) == End::Held {
                    good += 1;
                    assert_eq!((s, p), (&WindowState::Unbroken, &Some(Phase::Frozen)));
                }
            }
        }
        assert_eq!(good, 1);
        assert_eq!(End::of(&states[1], Some(&Phase::Ended)), End::ByItself);
        assert_eq!(End::of(&states[2], Some(&Phase::Frozen)), End::Broken);
        assert_eq!(End::of(&states[0], Some(&Phase::Ended)), End::Before);
    }
}
