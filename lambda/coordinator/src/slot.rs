//! Start slots: a fleet shares the cloud's rate of snapshot calls without a shared store. Each backup may start at the run's
//! start + index / rate, so that inside no window a call is throttled.

use protocol::WallMs;

/// EC2 User Guide, "Request throttling for the Amazon EC2 API": CreateSnapshots has a bucket of 100, refilled with 5 a second.
pub const EBS_REFILL_PER_S: u32 = 5;

/// When the backup with this index may freeze; `calls` are the snapshot calls of all backups before it.
pub fn slot(start: WallMs, calls_before: u64, refill_per_s: u32, rate_percent: u32) -> WallMs {
    let per_1000_s = u64::from(refill_per_s.max(1)) * u64::from(rate_percent.clamp(1, 100)) * 10;
    let ms = calls_before.saturating_mul(1_000_000) / per_1000_s;
    WallMs(start.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_hosts_need_what_the_bucket_needs() {
        let at = |i, percent| slot(WallMs(0), i, EBS_REFILL_PER_S, percent).0;
        assert_eq!((at(0, 100), at(5, 100), at(10_000, 100)), (0, 1_000, 2_000_000));
        assert_eq!(at(10_000, 50), 4_000_000, "half the share, twice the time");
        assert!((1..10_000).all(|i| at(i, 37) >= at(i - 1, 37)));
    }
}
