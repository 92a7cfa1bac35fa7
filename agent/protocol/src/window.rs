//! Window rules 1–4: which hold fits which limits. A `WindowRules` that exists is valid.

use serde::{Deserialize, Serialize};

/// InterSystems Japan, external backup article: larger values are silently used as 1200, so we refuse them.
pub const MAX_LIMIT_S: u64 = 1200;
/// IRIS's own default of `ExternalFreezeTimeOut`.
pub const DEFAULT_FREEZE_TIMEOUT_S: u64 = 600;
/// What `fail-backup` adds to the hold for `wd_suspend_limit` when it is not set.
pub const SUSPEND_SLACK_S: u64 = 90;

/// The time that a caller asks for, 1 s to 1179 s, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct HoldMs(u64);

impl HoldMs {
    pub const MIN: u64 = 1_000;
    pub const MAX: u64 = 1_179_000;
    pub fn new(ms: u64) -> Result<Self, BadWindow> {
        if (Self::MIN..=Self::MAX).contains(&ms) { Ok(Self(ms)) } else { Err(BadWindow::Hold { ms }) }
    }
    pub const fn ms(self) -> u64 {
        self.0
    }
}
impl TryFrom<u64> for HoldMs {
    type Error = BadWindow;
    fn try_from(ms: u64) -> Result<Self, BadWindow> {
        Self::new(ms)
    }
}
impl From<HoldMs> for u64 {
    fn from(h: HoldMs) -> u64 {
        h.0
    }
}

/// Who loses when a backup takes too long.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOverrun {
    /// The write daemon resumes by itself; the overtaken backup is broken.
    #[default]
    FailBackup,
    /// The database stays frozen and users wait, up to the engine's 1200 s.
    BlockUsers,
}

/// The engine's own dead-man switch (IRIS argument 10).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuspendLimit {
    Secs(u64),
    /// Only by explicit wish with `block-users`, or an engine that has no such limit.
    None,
}

impl SuspendLimit {
    pub const fn secs(self) -> Option<u64> {
        match self {
            Self::Secs(s) => Some(s),
            Self::None => None,
        }
    }
}

/// Margins around a window, in ms. Each has a floor so that a test can use a hold of 1 s and an operator cannot set 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Margins {
    /// While the agent lives, the watchdog leaves it this long after `thaw_by` before it thaws itself.
    pub watchdog_ms: u64,
    /// After this long without a confirmed thaw the caller gets exit 8, while agent and watchdog go on.
    pub thaw_budget_ms: u64,
    /// One freeze command may take this long; IRIS waits about 1 s for a cycle of its write daemon.
    pub freeze_ms: u64,
    /// One rung of the thaw ladder may take this long before the next one starts beside it.
    pub rung_ms: u64,
    /// A freeze that was killed or timed out is looked for this long after its deadline.
    pub guard_ms: u64,
}

impl Default for Margins {
    fn default() -> Self {
        Self { watchdog_ms: 5_000, thaw_budget_ms: 15_000, freeze_ms: 30_000, rung_ms: 5_000, guard_ms: 60_000 }
    }
}

impl Margins {
    const FLOORS: [(&'static str, u64); 5] = [("watchdog", 500), ("thaw_budget", 1_000), ("freeze", 500), ("rung", 250), ("guard", 1_000)];

    fn check(&self) -> Result<(), BadWindow> {
        let values = [self.watchdog_ms, self.thaw_budget_ms, self.freeze_ms, self.rung_ms, self.guard_ms];
        for ((name, floor), ms) in Self::FLOORS.into_iter().zip(values) {
            if !(floor..=600_000).contains(&ms) {
                return Err(BadWindow::Margin { name, ms, floor });
            }
        }
        Ok(())
    }
}

/// A checked set of limits for one freeze.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct WindowRules {
    pub hold: HoldMs,
    pub on_overrun: OnOverrun,
    pub external_freeze_timeout_s: u64,
    pub wd_suspend_limit: SuspendLimit,
    pub margins: Margins,
}

impl WindowRules {
    /// `wd_suspend_limit` `None` means "not set": it follows from `on_overrun` (rule 2).
    pub fn new(
        hold: HoldMs,
        on_overrun: OnOverrun,
        external_freeze_timeout_s: Option<u64>,
        wd_suspend_limit: Option<SuspendLimit>,
        margins: Margins,
    ) -> Result<Self, BadWindow> {
        margins.check()?;
        let timeout = external_freeze_timeout_s.unwrap_or(match on_overrun {
            OnOverrun::FailBackup => DEFAULT_FREEZE_TIMEOUT_S,
            OnOverrun::BlockUsers => MAX_LIMIT_S,
        });
        if !(1..=MAX_LIMIT_S).contains(&timeout) {
            return Err(BadWindow::FreezeTimeout { s: timeout });
        }
        let limit = match (wd_suspend_limit, on_overrun) {
            (Some(SuspendLimit::None), OnOverrun::FailBackup) => return Err(BadWindow::NoLimit),
            (Some(SuspendLimit::Secs(s)), _) if !(1..=MAX_LIMIT_S).contains(&s) => {
                return Err(BadWindow::SuspendLimit { s });
            }
            (Some(l), _) => l,
            (None, OnOverrun::FailBackup) => SuspendLimit::Secs((hold.ms().div_ceil(1000) + SUSPEND_SLACK_S).min(timeout)),
            (None, OnOverrun::BlockUsers) => SuspendLimit::Secs(MAX_LIMIT_S),
        };
        let needs_ms = hold.ms() + margins.watchdog_ms + margins.thaw_budget_ms;
        let shortest = limit.secs().map_or(timeout, |l| l.min(timeout));
        if needs_ms >= shortest * 1000 {
            return Err(BadWindow::TooLong { hold_ms: hold.ms(), needs_ms, limit_s: shortest });
        }
        Ok(Self { hold, on_overrun, external_freeze_timeout_s: timeout, wd_suspend_limit: limit, margins })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    #[error("a hold of {ms} ms is not possible: use 1s to 1179s (the engine's limit of 1200 s less the margins for thaw and watchdog)")]
    Hold { ms: u64 },
    #[error("external_freeze_timeout = {s} s is not possible: use 1 to 1200 s (IRIS would silently use 1200)")]
    FreezeTimeout { s: u64 },
    #[error("wd_suspend_limit = {s} s is not possible: use 1 to 1200 s, or \"none\" with on_overrun = \"block-users\"")]
    SuspendLimit { s: u64 },
    #[error("wd_suspend_limit = \"none\" needs on_overrun = \"block-users\": with \"fail-backup\" the engine must be able to free itself")]
    NoLimit,
    #[error("margin {name} = {ms} ms is not possible: use {floor} to 600000 ms")]
    Margin { name: &'static str, ms: u64, floor: u64 },
    #[error(
        "a hold of {hold_ms} ms with its margins needs {needs_ms} ms, but the engine's shortest limit is {limit_s} s: shorten the hold or raise the limit"
    )]
    TooLong { hold_ms: u64, needs_ms: u64, limit_s: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hold_s: u64, over: OnOverrun, t: Option<u64>, l: Option<SuspendLimit>) -> Result<WindowRules, BadWindow> {
        WindowRules::new(HoldMs::new(hold_s * 1000)?, over, t, l, Margins::default())
    }

    #[test]
    fn the_largest_hold_is_1179_s() {
        assert!(rules(1179, OnOverrun::BlockUsers, None, None).is_ok());
        assert_eq!(rules(1180, OnOverrun::BlockUsers, None, None), Err(BadWindow::Hold { ms: 1_180_000 }));
    }

    #[test]
    fn more_than_1200_s_is_an_error_that_says_so() {
        let e = rules(30, OnOverrun::FailBackup, Some(1201), None).unwrap_err();
        assert!(e.to_string().contains("silently use 1200"), "{e}");
    }

    #[test]
    fn fail_backup_gives_the_engine_hold_plus_90_s() {
        assert_eq!(rules(30, OnOverrun::FailBackup, None, None).unwrap().wd_suspend_limit, SuspendLimit::Secs(120));
        assert_eq!(rules(550, OnOverrun::FailBackup, None, None).unwrap().wd_suspend_limit, SuspendLimit::Secs(600));
        assert!(rules(580, OnOverrun::FailBackup, None, None).is_err(), "580 + 20 is not less than 600");
        assert_eq!(rules(30, OnOverrun::FailBackup, None, Some(SuspendLimit::None)), Err(BadWindow::NoLimit));
    }

    #[test]
    fn block_users_gives_1200_for_both() {
        let r = rules(900, OnOverrun::BlockUsers, None, None).unwrap();
        assert_eq!((r.external_freeze_timeout_s, r.wd_suspend_limit), (1200, SuspendLimit::Secs(1200)));
        assert_eq!(rules(900, OnOverrun::BlockUsers, None, Some(SuspendLimit::None)).unwrap().wd_suspend_limit, SuspendLimit::None);
    }

    proptest::proptest! {
        #[test]
        fn valid_rules_always_leave_room_for_thaw_and_watchdog(hold in 0u64..1_300_000, t in 0u64..1300, l in 0u64..1300, block: bool) {
            let over = if block { OnOverrun::BlockUsers } else { OnOverrun::FailBackup };
            if let Ok(r) = HoldMs::new(hold).and_then(|h| WindowRules::new(h, over, Some(t), Some(SuspendLimit::Secs(l)), Margins::default())) {
                assert!(r.hold.ms() + 20_000 < r.external_freeze_timeout_s * 1000);
                assert!(r.hold.ms() + 20_000 < r.wd_suspend_limit.secs().unwrap() * 1000);
                assert!(r.external_freeze_timeout_s <= 1200);
            }
        }
    }
}
