//! A token bucket that all sagas of one process share: what they ask SSM together stays below a rate that is known to pass.
//! AWS publishes no rate for SendCommand and GetCommandInvocation; a throttled poll costs more time than one that waited.

use crate::clock::WallClock;
use coordinator::ports::Clock;
use protocol::WallMs;
use std::sync::Mutex;

/// Calls per second, and how many may go at once.
const PER_SECOND: u64 = 20;
const BURST: u64 = 20;

#[derive(Debug)]
pub struct Limiter {
    every_ms: i64,
    saved_ms: i64,
    /// When the next call may go.
    next: Mutex<i64>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new(PER_SECOND, BURST)
    }
}

impl Limiter {
    /// 1 to 1000 calls per second.
    pub fn new(per_second: u64, burst: u64) -> Self {
        let every_ms = 1000 / i64::try_from(per_second.clamp(1, 1000)).unwrap_or(1);
        Self { every_ms, saved_ms: every_ms * i64::try_from(burst.saturating_sub(1)).unwrap_or(0), next: Mutex::new(i64::MIN) }
    }

    /// Waits for its turn.
    pub async fn take(&self, clock: &WallClock) {
        let at = self.turn(clock.now());
        clock.sleep_until(at).await;
    }

    fn turn(&self, now: WallMs) -> WallMs {
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = (*next).max(now.0 - self.saved_ms);
        *next = at + self.every_ms;
        WallMs(at)
    }
}

/// 80 to 120 % of it, so that hosts that began together do not ask together.
pub fn jittered(ms: u64) -> u64 {
    let random = uuid::Uuid::new_v4().as_u64_pair().0;
    ms * (80 + random % 41) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_one_at_a_time() {
        let l = Limiter::new(20, 5);
        let waits = |now: i64, n: usize| -> Vec<i64> { (0..n).map(|_| (l.turn(WallMs(now)).0 - now).max(0)).collect() };
        assert_eq!(waits(1_000_000, 8), [0, 0, 0, 0, 0, 50, 100, 150]);
        assert_eq!(waits(1_000_400, 6), [0, 0, 0, 0, 0, 50], "a rest fills it, and no more than the burst");
        assert!((0..1000).all(|_| (200..=300).contains(&jittered(250))));
    }
}
