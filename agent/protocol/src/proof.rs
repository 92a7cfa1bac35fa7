//! What an engine found out while it thawed; the machine judges by it.

use crate::wire::Frozen;

/// Facts around one thaw. `Err` and `Unknown` always count against the window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proof {
    /// Asked immediately before the thaw.
    pub frozen_before: Known,
    /// The thaw itself released something (IRIS `System resumed`, GT.M a `FILERENAME` per region).
    pub released: Known,
    /// No other freeze or thaw in between, by the engine's own log: `Err((unreadable, what))`.
    pub alone: Result<(), Disturbed>,
    /// Process, mirror role and instance are those of the freeze.
    pub same_instance: Result<(), String>,
    /// The engine's log says nothing against it (`WRTDMN panic`).
    pub log_clean: Result<(), String>,
    /// `irisstat -W` was needed.
    pub last_resort: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Disturbed {
    /// Another tool's freeze or thaw, with the log line.
    Other(String),
    /// The log or our own evidence could not be read.
    Unreadable(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    Yes,
    No,
    Unknown,
}

impl Known {
    /// Of several instances: all yes is yes, one no is no.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

impl From<&Frozen> for Known {
    fn from(f: &Frozen) -> Self {
        match f {
            Frozen::Yes => Self::Yes,
            Frozen::No => Self::No,
            Frozen::Unknown(_) => Self::Unknown,
        }
    }
}

impl Proof {
    /// Proof of a thaw that found everything in order.
    pub const fn good() -> Self {
        Self {
            frozen_before: Known::Yes,
            released: Known::Yes,
            alone: Ok(()),
            same_instance: Ok(()),
            log_clean: Ok(()),
            last_resort: false,
        }
    }
    /// The proof for a set is as good as its worst member's.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            frozen_before: self.frozen_before.and(other.frozen_before),
            released: self.released.and(other.released),
            alone: self.alone.and(other.alone),
            same_instance: self.same_instance.and(other.same_instance),
            log_clean: self.log_clean.and(other.log_clean),
            last_resort: self.last_resort || other.last_resort,
        }
    }
}
