//! Clocks: CLOCK_BOOTTIME orders and measures (the agent uses the same one), the wall clock is for what AWS shows.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds of `CLOCK_BOOTTIME`.
pub fn boot_us() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000
}

pub fn boot_ms() -> u64 {
    boot_us() / 1000
}

/// Unix milliseconds.
pub fn wall_ms() -> i64 {
    let t = clock_gettime(ClockId::Realtime);
    t.tv_sec * 1000 + t.tv_nsec / 1_000_000
}

/// `2026-11-30T01:02:03.004Z`, as EC2 and GetCommandInvocation write it.
pub fn iso(wall_ms: i64) -> String {
    let t = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    t.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Seconds with a fraction, as JSON 1.1 writes times.
pub fn epoch_s(wall_ms: i64) -> f64 {
    wall_ms as f64 / 1000.0
}
