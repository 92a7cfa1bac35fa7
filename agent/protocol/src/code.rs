//! Every refusal and failure that an outsider may react to: stable name, exit code, one sentence.
//! `docs/errors/NAME.md` is the page of each; a test compares the two.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Exit codes of contract §4. 5 is never used (IRIS means success by it), nor 194 and 3010 (SSM reads them as "reboot").
pub mod exit {
    pub const DONE: u8 = 0;
    pub const OTHER: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const BROKEN: u8 = 3;
    pub const REFUSED: u8 = 4;
    pub const FREEZE_FAILED: u8 = 6;
    pub const SNAPSHOT_FAILED: u8 = 7;
    pub const LEFT_FROZEN: u8 = 8;
    pub const CLOUD_REFUSED: u8 = 9;
    pub const UNREACHABLE: u8 = 10;
    pub const INTERRUPTED: u8 = 130;
}

macro_rules! codes {
    ($($variant:ident = $name:literal, $exit:ident, $says:literal;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code { $($variant),* }
        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];
            pub const fn name(self) -> &'static str { match self { $(Code::$variant => $name),* } }
            pub const fn exit(self) -> u8 { match self { $(Code::$variant => exit::$exit),* } }
            /// One sentence for people: what happened.
            pub const fn says(self) -> &'static str { match self { $(Code::$variant => $says),* } }
        }
    };
}

codes! {
    LeftFrozen = "Thaw.LeftFrozen", LEFT_FROZEN, "a freeze was sent and \"not frozen\" is not confirmed: a person must act now";
    Interrupted = "Interrupted", INTERRUPTED, "interrupted; the thaw is confirmed";
    FreezeFailed = "Freeze.Failed", FREEZE_FAILED, "the engine did not freeze; the thaw is confirmed";
    FreezeTimedOut = "Freeze.TimedOut", FREEZE_FAILED, "the freeze took longer than it may; the thaw is confirmed";
    SnapshotFailed = "Snapshot.Failed", SNAPSHOT_FAILED, "the snapshot failed; the thaw is confirmed";
    WindowBroken = "Window.Broken", BROKEN, "thawed, but the window was broken: the snapshots are not consistent";
    RefusedLate = "Freeze.Refused.Late", REFUSED, "the freeze order arrived after its not_after";
    RefusedClock = "Freeze.Refused.Clock", REFUSED, "this host's clock and the order's times do not fit together";
    RefusedBusy = "Freeze.Refused.Busy", REFUSED, "another freeze is open on this host";
    RefusedGuarding = "Freeze.Refused.Guarding", REFUSED, "an earlier freeze was killed and might still land; new freezes wait until that is over";
    RefusedAlreadyFrozen = "Freeze.Refused.AlreadyFrozen", REFUSED, "the database is frozen already, and not by us";
    RefusedUsedId = "Freeze.Refused.UsedId", REFUSED, "this backup id has been thawed already";
    RefusedHold = "Freeze.Refused.Hold", REFUSED, "the hold does not fit the engine's limits";
    RefusedInstance = "Freeze.Refused.Instance", REFUSED, "the instance is not there, not running or cannot be logged in to";
    RefusedRole = "Freeze.Refused.Role", REFUSED, "this mirror member is not the one to be backed up";
    RefusedJournaling = "Freeze.Refused.Journaling", REFUSED, "journaling is not in its normal state";
    RefusedNotCovered = "Freeze.Refused.NotCovered", REFUSED, "a path of the instance lies outside the snapshot set";
    RefusedSplitFilesystem = "Freeze.Refused.SplitFilesystem", REFUSED, "a file system spans disks that are not snapshotted in one call";
    RefusedBuffers = "Freeze.Refused.Buffers", REFUSED, "the engine's buffers would not last for the hold at the present write rate";
    RefusedTooSlow = "Freeze.Refused.TooSlow", REFUSED, "the snapshot is estimated to take longer than the hold";
    RefusedNotArmed = "Freeze.Refused.NotArmed", REFUSED, "the undo could not be made durable (journal entry or watchdog), so nothing was frozen";
    RefusedStopping = "Freeze.Refused.Stopping", REFUSED, "the agent is stopping";
    ThawUnknownId = "Thaw.UnknownId", REFUSED, "no freeze with this id is known; the id is now refused for a freeze";
    ThawNotYours = "Thaw.NotYours", REFUSED, "this freeze was asked for by another caller; it was left alone";
    CloudRefused = "Cloud.Refused", CLOUD_REFUSED, "the cloud refused before the freeze; nothing is frozen";
    AgentUnreachable = "Agent.Unreachable", UNREACHABLE, "the agent cannot be reached; no freeze was sent";
    ConfigInvalid = "Config.Invalid", USAGE, "the configuration is not valid";
    UsageInvalid = "Usage.Invalid", USAGE, "the command's arguments are not valid";
    NotAllowed = "NotAllowed", OTHER, "this caller may not do that";
    CatalogueUnknown = "Catalogue.UnknownId", OTHER, "no such backup in the catalogue";
    CatalogueDamaged = "Catalogue.Damaged", OTHER, "the set does not match its manifest";
    RestoreImpossible = "Restore.Impossible", REFUSED, "this restore cannot succeed; nothing was changed";
    RestoreFailed = "Restore.Failed", OTHER, "a step of the restore failed; what was there is kept aside";
    ShipFailed = "Journals.ShipFailed", OTHER, "not every journal could be shipped; the recovery point stays where it was";
    DrillFailed = "Drill.Failed", OTHER, "the drill failed: this backup, as it is, does not come back";
    RestoreUnfinished = "Restore.Unfinished", REFUSED, "another restore is running, or was interrupted and waits";
    Internal = "Internal", OTHER, "something else failed; no freeze was sent";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;
    fn from_str(s: &str) -> Result<Self, UnknownCode> {
        Code::ALL.iter().copied().find(|c| c.name().eq_ignore_ascii_case(s)).ok_or_else(|| UnknownCode(s.into()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no error name of snapfreeze; `snapfreeze explain` lists them")]
pub struct UnknownCode(String);

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}
impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_uses_an_exit_that_others_read_differently() {
        for c in Code::ALL {
            assert!(![0, 5, 194].contains(&c.exit()), "{c}");
            assert_eq!(c.name().parse::<Code>().unwrap(), *c);
        }
    }
}
