//! Start slots: a fleet shares the cloud's rate of snapshot calls without a shared store. Each backup may start at the run's
//! start + index / rate, so that inside no window a call is throttled.

use protocol::WallMs;

/// When the backup with this index may freeze; `calls` are the snapshot calls of all backups before it.
pub fn slot(start: WallMs, calls_before: u64, calls_per_hour: u32, rate_percent: u32) -> WallMs {
    let per_100_hours = u64::from(calls_per_hour.max(1)) * u64::from(rate_percent.clamp(1, 100));
    let ms = calls_before.saturating_mul(360_000_000) / per_100_hours;
    WallMs(start.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_hosts_need_what_the_bucket_needs() {
        let at = |i, percent| slot(WallMs(0), i, crate::cloud::rules(crate::Cloud::Ebs).calls_per_hour, percent).0;
        assert_eq!((at(0, 100), at(5, 100), at(10_000, 100)), (0, 1_000, 2_000_000));
        assert_eq!(at(10_000, 50), 4_000_000, "half the share, twice the time");
        assert!((1..10_000).all(|i| at(i, 37) >= at(i - 1, 37)));
    }
}
