//! What a freeze leaves behind for its own thaw: `Held::token`. Only this engine reads it.

use super::files::Position;
use protocol::BackupId;
use serde::{Deserialize, Serialize};

/// `$ZHOROLOG` and our clock are read a moment apart.
pub const UP_TOLERANCE_MS: i64 = 2_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub id: BackupId,
    /// messages.log just before the freeze.
    pub log: Position,
    /// Who wrote our freeze's lines there; `None` with `freeze_with`.
    pub freeze_pid: Option<u32>,
    /// Inode of `iris.lck`, made anew by each start.
    pub lock_inode: Option<u64>,
    pub started: Option<Started>,
    /// `NOTINIT`, `PRIMARY`, …
    pub mirror: String,
}

/// When the instance started, on our boot clock: somewhere between the two, as the answer took a while to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub earliest_ms: i64,
    pub latest_ms: i64,
}

impl Started {
    /// `up_s`: what the engine answered to a question sent at `sent_ms` whose answer was read at `read_ms`.
    pub fn new(up_s: f64, sent_ms: u64, read_ms: u64) -> Self {
        let up_ms = (up_s * 1000.0) as i64;
        Self { earliest_ms: sent_ms as i64 - up_ms, latest_ms: read_ms as i64 - up_ms }
    }
    pub fn could_be(self, other: Self) -> bool {
        self.earliest_ms - UP_TOLERANCE_MS <= other.latest_ms && other.earliest_ms - UP_TOLERANCE_MS <= self.latest_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_between_two_answers_shows() {
        let at_freeze = Started::new(1000.0, 5_000_000, 5_001_500);
        assert!(at_freeze.could_be(Started::new(1031.2, 5_030_000, 5_031_200)));
        assert!(!at_freeze.could_be(Started::new(4.0, 5_030_000, 5_031_200)));
    }
}
