//! ARM's token buckets: per subscription, principal and kind of request ("Understand how Azure Resource Manager throttles").

use super::wire::Ask;
use crate::clock::boot_us;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Throttle {
    /// (subscription, principal, kind) → tokens and when they were counted.
    buckets: BTreeMap<(String, String, &'static str), (f64, u64)>,
}

/// Kind, size, refill per second.
fn bucket(method: &str) -> (&'static str, f64, f64) {
    match method {
        "GET" | "HEAD" => ("reads", 250.0, 25.0),
        "DELETE" => ("deletes", 200.0, 10.0),
        _ => ("writes", 200.0, 10.0),
    }
}

impl Throttle {
    /// Takes a token. `(header, what is left)`, and the seconds until there is one if there is none.
    pub fn take(&mut self, ask: &Ask) -> (String, u64, Option<u64>) {
        let (kind, size, refill) = bucket(&ask.method);
        let subscription = ask.target.as_ref().map(|t| t.subscription.to_ascii_lowercase()).unwrap_or_default();
        let key = (subscription, ask.principal_name().unwrap_or_default().to_owned(), kind);
        let now = boot_us();
        let (tokens, at) = self.buckets.entry(key).or_insert((size, now));
        *tokens = (*tokens + (now - *at) as f64 / 1e6 * refill).min(size);
        *at = now;
        let header = format!("x-ms-ratelimit-remaining-subscription-{kind}");
        if *tokens < 1.0 {
            return (header, 0, Some((((1.0 - *tokens) / refill).ceil() as u64).max(1)));
        }
        *tokens -= 1.0;
        (header, *tokens as u64, None)
    }

    /// Others of the same principal drew so many: what is left for this kind in every bucket that exists.
    pub fn drain(&mut self, kind: &str, left: f64) {
        let now = boot_us();
        self.buckets.iter_mut().filter(|((.., k), _)| *k == kind).for_each(|(_, b)| *b = (left, now));
    }
}
