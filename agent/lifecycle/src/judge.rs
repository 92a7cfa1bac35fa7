//! The window rule (contract §3): unbroken if and only if everything speaks for it.

use crate::Cause;
use protocol::outcome::{BrokenReason, WindowState};
use protocol::{Disturbed, Known, Proof, WindowRules};

/// `window_ms` runs from just before the freeze call until the thaw is confirmed.
pub fn judge(cause: Cause, proof: &Proof, window_ms: u64, rules: &WindowRules) -> WindowState {
    use BrokenReason as B;
    let by_cause = match cause {
        Cause::Asked => None,
        Cause::HoldExpired => Some(B::HoldExpired),
        Cause::Person => Some(B::Interrupted),
        Cause::FreezeFault(_) => Some(B::FreezeUnconfirmed),
        Cause::WatchdogLost | Cause::Stopping | Cause::AgentLost | Cause::JournalLost => Some(B::AgentLost),
        Cause::Zombie => Some(B::FreezeUnconfirmed),
    };
    let by_proof = || {
        if proof.last_resort {
            return Some(B::LastResort);
        }
        match proof.frozen_before {
            Known::Yes => {}
            Known::No => return Some(B::NotFrozenBeforeThaw),
            Known::Unknown => return Some(B::StateUnknownBeforeThaw),
        }
        match &proof.alone {
            Ok(()) => {}
            Err(Disturbed::Other(line)) => return Some(B::OtherTool(line.clone())),
            Err(Disturbed::Unreadable(what)) => return Some(B::EvidenceUnreadable(what.clone())),
        }
        if let Err(what) = &proof.same_instance {
            return Some(B::InstanceChanged(what.clone()));
        }
        if let Err(line) = &proof.log_clean {
            return Some(B::EngineLog(line.clone()));
        }
        match proof.released {
            Known::Yes => None,
            Known::No => Some(B::ThawReleasedNothing),
            Known::Unknown => Some(B::EvidenceUnreadable("whether the thaw released anything".into())),
        }
    };
    let limit_s = rules.wd_suspend_limit.secs().map_or(rules.external_freeze_timeout_s, |l| l.min(rules.external_freeze_timeout_s));
    let by_limit = || (window_ms >= limit_s * 1000).then_some(B::OverLimit);
    by_cause.or_else(by_proof).or_else(by_limit).map_or(WindowState::Unbroken, WindowState::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::window::{HoldMs, Margins, OnOverrun};

    fn rules() -> WindowRules {
        WindowRules::new(HoldMs::new(30_000).unwrap(), OnOverrun::FailBackup, None, None, Margins::default()).unwrap()
    }

    #[test]
    fn unbroken_needs_every_single_fact() {
        assert_eq!(judge(Cause::Asked, &Proof::good(), 5, &rules()), WindowState::Unbroken);
        let worse: Vec<Proof> = vec![
            Proof { frozen_before: Known::No, ..Proof::good() },
            Proof { frozen_before: Known::Unknown, ..Proof::good() },
            Proof { released: Known::No, ..Proof::good() },
            Proof { released: Known::Unknown, ..Proof::good() },
            Proof { alone: Err(Disturbed::Other("x".into())), ..Proof::good() },
            Proof { alone: Err(Disturbed::Unreadable("x".into())), ..Proof::good() },
            Proof { same_instance: Err("x".into()), ..Proof::good() },
            Proof { log_clean: Err("x".into()), ..Proof::good() },
            Proof { last_resort: true, ..Proof::good() },
        ];
        for p in worse {
            assert!(!judge(Cause::Asked, &p, 5, &rules()).is_unbroken(), "{p:?}");
            assert!(!judge(Cause::Asked, &Proof::good().and(p.clone()), 5, &rules()).is_unbroken(), "one of a set: {p:?}");
        }
    }

    #[test]
    fn only_the_owners_thaw_can_end_an_unbroken_window() {
        use protocol::Code;
        for c in [
            Cause::HoldExpired,
            Cause::Person,
            Cause::FreezeFault(Code::FreezeFailed),
            Cause::WatchdogLost,
            Cause::Stopping,
            Cause::AgentLost,
            Cause::JournalLost,
            Cause::Zombie,
        ] {
            assert!(!judge(c, &Proof::good(), 5, &rules()).is_unbroken(), "{c:?}");
        }
    }

    #[test]
    fn a_window_longer_than_the_engines_limit_is_broken() {
        assert_eq!(judge(Cause::Asked, &Proof::good(), 119_999, &rules()), WindowState::Unbroken);
        assert_eq!(judge(Cause::Asked, &Proof::good(), 120_000, &rules()), WindowState::Broken(BrokenReason::OverLimit));
    }
}
