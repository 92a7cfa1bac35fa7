//! Wall-clock time that never steps: read once, then advanced by the monotonic clock.
//!
//! A Lambda sandbox is paused between invocations and its monotonic clock with it: start a new clock for every invocation.
#![allow(clippy::disallowed_methods, reason = "the agent's door to the clock is not linked here; this file is the only one that reads it")]

use coordinator::ports::Clock;
use protocol::WallMs;
use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    from: Instant,
    wall: WallMs,
}

impl WallClock {
    pub fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { from: Instant::now(), wall: WallMs(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)) }
    }

    /// From now until `at`; zero when that is past.
    pub fn until(&self, at: WallMs) -> Duration {
        Duration::from_millis(u64::try_from(at.0.saturating_sub(self.now().0)).unwrap_or(0))
    }

    /// `None`: it was not done by `deadline`, and was dropped.
    pub async fn by<T>(&self, deadline: WallMs, f: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.until(deadline), f).await.ok()
    }
}

impl Clock for WallClock {
    fn now(&self) -> WallMs {
        WallMs(self.wall.0.saturating_add(i64::try_from(self.from.elapsed().as_millis()).unwrap_or(i64::MAX)))
    }

    async fn sleep_until(&self, at: WallMs) {
        tokio::time::sleep(self.until(at)).await;
    }
}
