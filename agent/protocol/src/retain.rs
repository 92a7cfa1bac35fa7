//! What `prune` may delete: a pure rule. In doubt a set stays.
//!
//! Never deleted, whatever the policy says: the newest held set · what a person keeps · sets of a newer schema · what is
//! damaged or not ours · a pending set younger than `pending_grace` (its backup may be running).

use crate::WallMs;
use std::collections::BTreeSet;

/// Counts are of held sets only. All zero and no `max_age`: nothing held is ever deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The newest so many.
    pub keep_last: u32,
    /// The newest of each of the last so many days (weeks from Monday, months) that have one, by UTC.
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    /// Older sets go even if a count would keep them. Without counts, younger sets stay.
    pub max_age_ms: Option<u64>,
    /// A pending set is given up after this: the longest window is 20 minutes, checksums of terabytes take hours.
    pub pending_grace_ms: u64,
    /// A broken set is of use for this long, to find out why.
    pub broken_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        const DAY: u64 = 86_400_000;
        Self { keep_last: 0, daily: 0, weekly: 0, monthly: 0, max_age_ms: None, pending_grace_ms: 2 * DAY, broken_ms: 7 * DAY }
    }
}

/// A catalogue entry as the rule sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub name: String,
    pub at: WallMs,
    pub kind: Kind,
    /// A person's `:keep-until`.
    pub kept_until: Option<WallMs>,
    /// `:expires`.
    pub expires: Option<WallMs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Held,
    Broken,
    Pending,
    /// A removal that was begun.
    Partial,
    Newer,
    Damaged,
    Foreign,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Decision {
    pub name: String,
    pub delete: bool,
    /// For people.
    pub reason: String,
}

/// One decision per item, newest first.
pub fn plan(items: &[Item], policy: &Policy, now: WallMs) -> Vec<Decision> {
    let mut order: Vec<&Item> = items.iter().collect();
    order.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.name.cmp(&a.name)));
    let last_held = order.iter().find(|i| i.kind == Kind::Held).map(|i| i.name.as_str());
    let mut counts = Counts::new(policy);
    order
        .into_iter()
        .map(|i| {
            // Counted even when another rule decides, so that keeping one set does not stretch the others' stay.
            let counted = if i.kind == Kind::Held { counts.next(i.at) } else { None };
            let (delete, reason) = decide(i, policy, now, last_held == Some(&i.name), counted);
            Decision { name: i.name.clone(), delete, reason }
        })
        .collect()
}

fn decide(i: &Item, policy: &Policy, now: WallMs, is_last_held: bool, counted: Option<&'static str>) -> (bool, String) {
    let age_ms = now.0.saturating_sub(i.at.0).max(0) as u64;
    let keep = |why: &str| (false, why.to_owned());
    let delete = |why: String| (true, why);
    if let Some(until) = i.kept_until.filter(|t| *t > now)
        && i.kind != Kind::Partial
    {
        return (false, format!("kept by a person until {}", crate::tags::text::utc(until)));
    }
    match i.kind {
        Kind::Partial => delete("its removal was begun".into()),
        Kind::Newer => keep("written by a newer snapfreeze"),
        Kind::Damaged => keep("damaged: a person decides"),
        Kind::Foreign => keep("not a set of snapfreeze"),
        Kind::Pending if age_ms < policy.pending_grace_ms => keep("its backup may still be running"),
        Kind::Pending => delete(format!("pending for {}: its backup never ended", span(age_ms))),
        Kind::Broken if age_ms < policy.broken_ms => keep("broken, kept to find out why"),
        Kind::Broken => delete(format!("broken {} ago", span(age_ms))),
        Kind::Held if is_last_held => keep("the last held set"),
        Kind::Held => {
            if let Some(t) = i.expires.filter(|t| *t <= now) {
                delete(format!("expired at {}", crate::tags::text::utc(t)))
            } else if policy.max_age_ms.is_some_and(|max| age_ms > max) {
                delete(format!("{} old, older than max_age", span(age_ms)))
            } else if let Some(why) = counted {
                keep(why)
            } else if policy.counts() {
                delete("no count of the policy keeps it".into())
            } else {
                keep("the policy names no count")
            }
        }
    }
}

impl Policy {
    fn counts(&self) -> bool {
        [self.keep_last, self.daily, self.weekly, self.monthly].iter().any(|n| *n > 0)
    }
}

/// Walks held sets from the newest to the oldest.
struct Counts<'a> {
    policy: &'a Policy,
    seen: u32,
    days: BTreeSet<i64>,
    weeks: BTreeSet<i64>,
    months: BTreeSet<(i64, i64)>,
}

impl<'a> Counts<'a> {
    fn new(policy: &'a Policy) -> Self {
        Self { policy, seen: 0, days: BTreeSet::new(), weeks: BTreeSet::new(), months: BTreeSet::new() }
    }

    fn next(&mut self, at: WallMs) -> Option<&'static str> {
        let day = at.0.div_euclid(86_400_000);
        // 1970-01-01 was a Thursday; weeks begin on Monday.
        let week = (day + 3).div_euclid(7);
        let month = crate::tags::text::year_month(at);
        self.seen += 1;
        let mut why = (self.seen <= self.policy.keep_last).then_some("among the newest (keep_last)");
        let p = self.policy;
        if self.days.len() < p.daily as usize && self.days.insert(day) {
            why = why.or(Some("the newest of its day (daily)"));
        }
        if self.weeks.len() < p.weekly as usize && self.weeks.insert(week) {
            why = why.or(Some("the newest of its week (weekly)"));
        }
        if self.months.len() < p.monthly as usize && self.months.insert(month) {
            why = why.or(Some("the newest of its month (monthly)"));
        }
        why
    }
}

fn span(ms: u64) -> String {
    match ms / 1000 {
        s if s < 7200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests;
