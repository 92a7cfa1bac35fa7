//! What may go: `prune` by the policy's counts, `reap` for what no backup will finish any more. Pure; in doubt a set stays.
//!
//! On top of `protocol::retain`, which knows the counts and the last held set: sets of each host are counted by themselves;
//! a set whose journals a newer kept set needs stays; unreadable and newer ones are never touched.

use crate::sets::{Catalogue, Set, SetState};
use crate::span;
use protocol::retain::{Decision, Item, Kind, Policy as Rule, plan};
use protocol::{BackupId, BrokenReason, WallMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of a policy; counts are of held sets, per host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    pub last: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    /// Older ones go even if a count would keep them.
    #[serde(rename = "max_age", with = "span::option", skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u64>,
    /// A broken set is of use for this long, to find out why.
    #[serde(rename = "broken", with = "span")]
    pub broken_ms: u64,
    /// A set that is still pending after this long has lost its coordinator.
    #[serde(rename = "pending", with = "span")]
    pub pending_ms: u64,
}

impl Default for Keep {
    fn default() -> Self {
        // The longest window is 20 minutes; an order may wait for its start slot, but its snapshots are made after that.
        Self { last: 0, daily: 0, weekly: 0, monthly: 0, max_age_ms: None, broken_ms: 7 * 86_400_000, pending_ms: 3_600_000 }
    }
}

impl Keep {
    fn rule(&self) -> Rule {
        Rule {
            keep_last: self.last,
            daily: self.daily,
            weekly: self.weekly,
            monthly: self.monthly,
            max_age_ms: self.max_age_ms,
            // What is pending is `reap`'s: it is marked first, and goes as broken.
            pending_grace_ms: u64::MAX,
            broken_ms: self.broken_ms,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    pub id: BackupId,
    pub family: String,
    pub at: WallMs,
    pub size_gib: u64,
    pub snapshots: Vec<String>,
    pub delete: bool,
    pub reason: String,
}

/// One fate per set that was made under the policy of this name, the newest first.
pub fn prune(catalogue: &Catalogue, policy: &str, keep: &Keep, now: WallMs) -> Vec<Fate> {
    let mut families: BTreeMap<String, Vec<&Set>> = BTreeMap::new();
    for s in catalogue.sets.iter().filter(|s| s.tags.policy == policy) {
        families.entry(s.family()).or_default().push(s);
    }
    let mut all: Vec<Fate> = families.into_values().flat_map(|sets| of_family(&sets, keep, now)).collect();
    all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.id.cmp(&a.id)));
    all
}

fn of_family(sets: &[&Set], keep: &Keep, now: WallMs) -> Vec<Fate> {
    let items: Vec<Item> = sets.iter().map(|s| item(s)).collect();
    let mut decided: BTreeMap<String, Decision> = plan(&items, &keep.rule(), now).into_iter().map(|d| (d.name.clone(), d)).collect();
    // The newest held set may not be complete yet, and may still fail.
    if let Some(s) = sets.iter().find(|s| s.state == SetState::Held)
        && let Some(d) = decided.get_mut(&s.id.to_string())
        && d.delete
    {
        d.delete = false;
        d.reason = "the last held set that is complete".into();
    }
    // Newest first, so that a chain of needs is followed to its end.
    for (i, newer) in sets.iter().enumerate() {
        if !matches!(newer.state, SetState::Held | SetState::Completing) || decided.get(&newer.id.to_string()).is_none_or(|d| d.delete) {
            continue;
        }
        for older in &sets[i + 1..] {
            if let Some(d) = decided.get_mut(&older.id.to_string())
                && d.delete
                && has_journal_of(older, newer)
            {
                d.delete = false;
                d.reason = format!("{} needs its journal", newer.id);
            }
        }
    }
    let fate = |s: &&Set| {
        let d = decided.get(&s.id.to_string());
        Fate {
            id: s.id,
            family: s.family(),
            at: s.at,
            size_gib: s.size_gib(),
            snapshots: s.ids(),
            delete: d.is_some_and(|d| d.delete),
            reason: d.map(|d| d.reason.clone()).unwrap_or_default(),
        }
    };
    sets.iter().map(fate).collect()
}

/// A restore of `newer` starts with a journal that `older` switched to: it may lie in `older` alone by now.
fn has_journal_of(older: &Set, newer: &Set) -> bool {
    let needed = newer.tags.restore_from();
    let switched = |s: &Set| -> Vec<String> { s.tags.instances.iter().flat_map(|i| &i.marks).filter_map(|m| m.switched.clone()).collect() };
    let own = switched(newer);
    switched(older).iter().any(|j| needed.contains(&j.as_str()) && !own.contains(j))
}

fn item(s: &Set) -> Item {
    let kind = match &s.state {
        SetState::Held | SetState::Completing => Kind::Held,
        SetState::Pending => Kind::Pending,
        SetState::Broken(_) => Kind::Broken,
    };
    // What stands on any snapshot of the set counts for all of it.
    let kept_until = s.snapshots.iter().filter_map(|(_, t)| t.keep_until).max();
    Item { name: s.id.to_string(), at: s.at, kind, kept_until, expires: s.tags.expires }
}

/// What `reap` does to a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reap {
    pub id: BackupId,
    pub at: WallMs,
    pub size_gib: u64,
    pub snapshots: Vec<String>,
    /// Written as the verdict; the bytes stay until `prune`.
    pub verdict: BrokenReason,
    pub why: String,
}

/// Sets that no coordinator will finish, and sets whose tags claim more than is there. Their verdict becomes `broken`.
pub fn reap(catalogue: &Catalogue, keep: &Keep, now: WallMs) -> Vec<Reap> {
    let one = |s: &Set| {
        let age = u64::try_from(now.0.saturating_sub(s.at.0)).unwrap_or(0);
        let (verdict, why) = match &s.state {
            SetState::Pending if age >= keep.pending_ms => {
                (BrokenReason::VerdictLost, format!("pending for {}: its coordinator is gone", span::say(age)))
            }
            SetState::Held | SetState::Completing | SetState::Pending | SetState::Broken(_) => {
                let v = s.untrue_claim()?;
                (v.clone(), v.to_string())
            }
        };
        Some(Reap { id: s.id, at: s.at, size_gib: s.size_gib(), snapshots: s.ids(), verdict, why })
    };
    catalogue.sets.iter().filter_map(one).collect()
}
