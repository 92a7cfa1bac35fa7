//! The clock door. `boot_now` decides, `wall_now` is for people.

use protocol::{BootId, BootMs, WallMs};
use rustix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;

/// Milliseconds of `CLOCK_BOOTTIME`: goes on while the host is suspended, and no clock step moves it.
pub fn boot_now() -> BootMs {
    let t = clock_gettime(ClockId::Boottime);
    BootMs(t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000)
}

/// Microseconds of `CLOCK_BOOTTIME`, for figures.
pub fn boot_now_us() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}

/// Wall clock, UTC. `SNAPFREEZE_WALL_STEP_MS` moves what this program believes, so that tests step *its* clock
/// and never the machine's. It is read once.
pub fn wall_now() -> WallMs {
    static STEP: OnceLock<i64> = OnceLock::new();
    let step = *STEP.get_or_init(|| std::env::var("SNAPFREEZE_WALL_STEP_MS").ok().and_then(|v| v.parse().ok()).unwrap_or(0));
    let t = clock_gettime(ClockId::Realtime);
    WallMs(t.tv_sec * 1000 + t.tv_nsec / 1_000_000 + step)
}

/// `/proc/sys/kernel/random/boot_id`.
pub fn boot_id() -> std::io::Result<BootId> {
    Ok(BootId(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned()))
}
