//! Commands are resources that stay: a machine has room for 25. Ended ones are deleted when no window is open, and what a process
//! that died left behind an hour later. One that may still run is never touched: its deletion kills it.

use super::RunCommand;
use crate::id::VmId;
use coordinator::ports::Clock;
use protocol::WallMs;

const PREFIX: &str = "snapfreeze-";
/// Longer than any order may take.
const STALE_S: i64 = 3_600;

/// `snapfreeze-freeze-<seconds, hex>-<random>`: a name of its own each time, for the same script under the same name is not run again.
pub(super) fn name(verb: &str, now: WallMs) -> String {
    let random = uuid::Uuid::new_v4().as_u64_pair().0;
    format!("{PREFIX}{verb}-{:x}-{random:016x}", now.0 / 1000)
}

/// A restore may take two days, and its command is what carries it out.
fn stale_s(name: &str) -> i64 {
    if name.starts_with("snapfreeze-restore-") { 3 * 86_400 } else { STALE_S }
}

/// When a command of ours was made, by its name.
fn made_s(name: &str) -> Option<i64> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let (_, made, random) = (parts.next()?, parts.next()?, parts.next()?);
    (random.len() == 16 && parts.next().is_none()).then(|| i64::from_str_radix(made, 16).ok()).flatten()
}

impl RunCommand {
    /// Beside everything else: nobody waits for it, and nothing relies on it.
    pub(super) fn tidy(&self, vm: &VmId) {
        if self.arm.read_only() {
            return;
        }
        let mine: Vec<String> = {
            let mut ended = self.kept.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (here, rest) = std::mem::take(&mut *ended).into_iter().partition(|(of, _)| of == vm);
            *ended = rest;
            let here: Vec<(VmId, String)> = here;
            here.into_iter().map(|(_, name)| name).collect()
        };
        let (arm, vm, now) = (self.arm.clone(), vm.clone(), self.clock.now());
        tokio::spawn(async move {
            for name in mine {
                let _ = arm.delete_command(&vm, &name).await;
            }
            for c in arm.commands(&vm).await.unwrap_or_default() {
                let name = c.resource.name.unwrap_or_default();
                if made_s(&name).is_some_and(|at| now.0 / 1000 - at > stale_s(&name)) {
                    let _ = arm.delete_command(&vm, &name).await;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_a_restore_is_not_ended_by_a_backups_tidying() {
        assert!(stale_s(&name("restore", WallMs(0))) > 48 * 3_600 && stale_s(&name("freeze", WallMs(0))) == STALE_S);
    }

    #[test]
    fn only_our_own_names_are_ever_deleted() {
        let now = WallMs(1_800_000_000_000);
        let n = name("freeze", now);
        assert_eq!(made_s(&n), Some(1_800_000_000));
        assert_ne!(n, name("freeze", now));
        for other in ["RunShellScript", "snapfreeze-freeze", "snapfreeze-mine-1-2", "snapfreeze-a-zz-0123456789abcdef", ""] {
            assert_eq!(made_s(other), None, "{other}");
        }
    }
}
