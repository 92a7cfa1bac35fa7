//! A timer on `CLOCK_BOOTTIME` for tokio: goes off on time after a suspend, and costs no wake-up while it is off.

use doors::clock::boot_now;
use protocol::BootMs;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

pub struct AlarmClock(AsyncFd<OwnedFd>);

/// A descriptor that tokio waits on.
pub fn watch(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open and the same for as long as the `AsyncFd` owns it.
    #[expect(unsafe_code, reason = "tokio's only way to register a descriptor")]
    unsafe { AsyncFd::register(fd) }.map_err(|e| e.into_parts().1)
}

impl AlarmClock {
    pub fn new() -> std::io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(watch(fd)?))
    }

    /// `None` switches it off.
    pub fn set(&self, at: Option<BootMs>) -> std::io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = at.map_or(zero, |t| {
            let t = t.0.max(1);
            Timespec { tv_sec: (t / 1000) as i64, tv_nsec: ((t % 1000) * 1_000_000) as i64 }
        });
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval: zero, it_value })?;
        Ok(())
    }

    /// Returns when it goes off; cancel-safe.
    pub async fn rings(&self) {
        loop {
            let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
            let mut count = [0u8; 8];
            if let Ok(Ok(_)) = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut count)?)) {
                return;
            }
        }
    }

    /// Waits until `at`.
    pub async fn until(&self, at: BootMs) {
        while boot_now() < at {
            if self.set(Some(at)).is_err() {
                return;
            }
            self.rings().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_on_time_and_stays_silent_when_off() {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        rt.block_on(async {
            let c = AlarmClock::new().unwrap();
            let start = boot_now();
            c.until(start.plus(50)).await;
            let took = boot_now().since(start);
            assert!((50..2000).contains(&took), "{took}");
            c.set(None).unwrap();
            let off = tokio::time::timeout(std::time::Duration::from_millis(80), c.rings()).await;
            assert!(off.is_err());
        });
    }
}
