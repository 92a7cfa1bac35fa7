//! Two clocks that must not be mixed: `BootMs` decides, `WallMs` is for people and for rule 6 of the window rules.

use serde::{Deserialize, Serialize};

/// Milliseconds of `CLOCK_BOOTTIME`; means something only together with the `BootId` it was read under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootMs(pub u64);

impl BootMs {
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Milliseconds from `earlier` to `self`, 0 when it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since 1970-01-01 UTC, by the host's wall clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallMs(pub i64);

/// `/proc/sys/kernel/random/boot_id`: another boot id means that every stored `BootMs` has expired.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);
