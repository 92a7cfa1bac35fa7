//! Token buckets of the EC2 API, one per action, account and region ("Request throttling for the Amazon EC2 API"),
//! shared with other traffic of the account, which a test sets.

use std::collections::BTreeMap;

/// `(bucket, refill per second)`.
pub fn size(action: &str, narrow: bool) -> (f64, f64) {
    match action {
        "CreateSnapshots" | "CreateSnapshot" | "DeleteSnapshot" | "CopySnapshot" => (100.0, 5.0),
        "CreateTags" | "DeleteTags" => (100.0, 10.0),
        // "Unfiltered and unpaginated" describes have a smaller one.
        "DescribeSnapshots" | "DescribeInstances" | "DescribeVolumes" if !narrow => (50.0, 10.0),
        a if a.starts_with("Describe") => (100.0, 20.0),
        _ => (50.0, 5.0),
    }
}

#[derive(Default)]
pub struct Buckets {
    by_action: BTreeMap<String, Bucket>,
}

struct Bucket {
    capacity: f64,
    refill: f64,
    /// Tokens per second that others draw.
    other: f64,
    tokens: f64,
    at_us: u64,
}

impl Bucket {
    fn new(action: &str, narrow: bool, now_us: u64) -> Self {
        let (capacity, refill) = size(action, narrow);
        Self { capacity, refill, other: 0.0, tokens: capacity, at_us: now_us }
    }

    fn advance(&mut self, now_us: u64) {
        let seconds = now_us.saturating_sub(self.at_us) as f64 / 1e6;
        self.tokens = (self.tokens + (self.refill - self.other) * seconds).clamp(0.0, self.capacity);
        self.at_us = now_us;
    }
}

impl Buckets {
    fn bucket(&mut self, action: &str, narrow: bool, now_us: u64) -> &mut Bucket {
        let name = if narrow || !action.starts_with("Describe") { action.to_owned() } else { format!("{action}:all") };
        let bucket = self.by_action.entry(name).or_insert_with(|| Bucket::new(action, narrow, now_us));
        bucket.advance(now_us);
        bucket
    }

    /// `false`: RequestLimitExceeded.
    pub fn take(&mut self, action: &str, narrow: bool, now_us: u64) -> bool {
        let bucket = self.bucket(action, narrow, now_us);
        let there = bucket.tokens >= 1.0;
        if there {
            bucket.tokens -= 1.0;
        }
        there
    }

    pub fn set_other(&mut self, action: &str, per_second: f64, now_us: u64) {
        self.bucket(action, true, now_us).other = per_second;
    }

    pub fn set_tokens(&mut self, action: &str, tokens: f64, now_us: u64) {
        self.bucket(action, true, now_us).tokens = tokens;
    }

    pub fn tokens(&mut self, action: &str, now_us: u64) -> f64 {
        self.bucket(action, true, now_us).tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_hundred_calls_at_once_then_five_a_second() {
        let mut b = Buckets::default();
        assert_eq!((0..150).filter(|_| b.take("CreateSnapshots", true, 0)).count(), 100);
        assert_eq!((0..150).filter(|_| b.take("CreateSnapshots", true, SECOND)).count(), 5);
        assert!(b.take("CreateTags", true, SECOND), "another bucket");
    }

    #[test]
    fn other_traffic_empties_the_same_bucket() {
        let mut b = Buckets::default();
        b.set_other("CreateSnapshots", 25.0, 0);
        assert!(b.take("CreateSnapshots", true, 0));
        assert!(!b.take("CreateSnapshots", true, 6 * SECOND), "99 - 20/s * 6 s");
        b.set_other("CreateSnapshots", 0.0, 6 * SECOND);
        assert!(b.take("CreateSnapshots", true, 7 * SECOND));
    }
}
