//! Time: monotonic milliseconds since boot for limits and history, wall time for log lines.

use jiff::Zoned;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of CLOCK_BOOTTIME: comparable between processes of one host.
pub fn boot_ms() -> f64 {
    let t = clock_gettime(ClockId::Boottime);
    t.tv_sec as f64 * 1000.0 + t.tv_nsec as f64 / 1_000_000.0
}

/// `08/11/2021 05:49:43`, the form of the freeze log.
pub fn stamp_freeze_log(now: &Zoned) -> String {
    now.strftime("%m/%d/%Y %H:%M:%S").to_string()
}

/// `08/11/21-05:49:43:233`, the form of messages.log.
pub fn stamp_messages(now: &Zoned) -> String {
    format!("{}:{:03}", now.strftime("%m/%d/%y-%H:%M:%S"), now.millisecond())
}

/// `Wed Aug  4 07:12:45 2021`, the form of `iris list`.
pub fn stamp_ctime(now: &Zoned) -> String {
    now.strftime("%a %b %e %H:%M:%S %Y").to_string()
}
