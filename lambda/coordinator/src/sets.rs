//! The catalogue, read back from tags alone: snapshots become sets, each with one state that says what it is good for.

use crate::ports::{Snapshot, State};
use protocol::tags::{BadTags, SetTags, from_tags, name};
use protocol::{BackupId, BrokenReason, Verdict, WallMs};
use serde::Serialize;
use std::collections::BTreeMap;

/// All snapshots of one backup.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    pub id: BackupId,
    /// When the first of them was begun.
    pub at: WallMs,
    pub state: SetState,
    /// Of the first snapshot; what differs per volume is in `snapshots`.
    pub tags: SetTags,
    pub hosts: Vec<String>,
    pub snapshots: Vec<(Snapshot, SetTags)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum SetState {
    /// Held, complete and of full size: a restore may start from it.
    Held,
    /// Held, the copies are still being made.
    Completing,
    /// No verdict yet.
    Pending,
    /// Not consistent, or not complete.
    Broken(String),
}

impl SetState {
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Completing => "completing",
            Self::Pending => "pending",
            Self::Broken(_) => "broken",
        }
    }
}

/// What carries our tags and cannot be read: never touched, always shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    pub snapshot: String,
    pub backup_id: String,
    pub why: String,
    /// Written by a newer snapfreeze, rather than damaged.
    pub newer: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    /// The newest first.
    pub sets: Vec<Set>,
    pub unreadable: Vec<Unreadable>,
}

pub fn read(snapshots: Vec<Snapshot>) -> Catalogue {
    let mut by_id: BTreeMap<BackupId, Vec<(Snapshot, SetTags)>> = BTreeMap::new();
    let mut unreadable = Vec::new();
    for s in snapshots {
        match from_tags(&s.tags) {
            Ok(t) => by_id.entry(t.backup_id).or_default().push((s, t)),
            Err(BadTags::NotOurs) => {}
            Err(e) => unreadable.push(Unreadable {
                backup_id: s.tags.get(&format!("{}{}", protocol::tags::PREFIX, name::BACKUP_ID)).cloned().unwrap_or_default(),
                newer: matches!(e, BadTags::NewerSchema(_)),
                why: e.to_string(),
                snapshot: s.snapshot,
            }),
        }
    }
    let mut sets: Vec<Set> = by_id.into_values().filter_map(set).collect();
    sets.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.id.cmp(&a.id)));
    Catalogue { sets, unreadable }
}

fn set(mut all: Vec<(Snapshot, SetTags)>) -> Option<Set> {
    all.sort_by(|a, b| (&a.1.host, &a.0.volume, &a.0.snapshot).cmp(&(&b.1.host, &b.0.volume, &b.0.snapshot)));
    let (_, first) = all.first()?;
    let (id, tags) = (first.backup_id, first.clone());
    let mut hosts: Vec<String> = all.iter().map(|(_, t)| t.host.clone()).collect();
    hosts.dedup();
    let at = all.iter().map(|(s, _)| s.started).min()?;
    Some(Set { id, at, state: state(&all, &tags), tags, hosts, snapshots: all })
}

fn state(all: &[(Snapshot, SetTags)], tags: &SetTags) -> SetState {
    let wanted = usize::try_from(tags.set_size).unwrap_or(usize::MAX);
    if let Some((s, _)) = all.iter().find(|(s, _)| s.state == State::Failed) {
        return SetState::Broken(format!("{} of {} ended in error", s.snapshot, s.volume));
    }
    if let Some(Verdict::Broken(why)) = all.iter().map(|(_, t)| &t.verdict).find(|v| matches!(v, Verdict::Broken(_))) {
        return SetState::Broken(why.to_string());
    }
    if all.iter().any(|(_, t)| t.verdict == Verdict::Pending) {
        return SetState::Pending;
    }
    let mut volumes: Vec<&str> = all.iter().map(|(s, _)| s.volume.as_str()).collect();
    volumes.sort_unstable();
    volumes.dedup();
    if volumes.len() != wanted || all.len() != wanted {
        return SetState::Broken(format!("{} snapshots of {} volumes, {wanted} were made", all.len(), volumes.len()));
    }
    if all.iter().all(|(s, _)| s.state == State::Completed) { SetState::Held } else { SetState::Completing }
}

impl Set {
    pub fn size_gib(&self) -> u64 {
        self.snapshots.iter().map(|(s, _)| s.size_gib).sum()
    }
    pub fn ids(&self) -> Vec<String> {
        self.snapshots.iter().map(|(s, _)| s.snapshot.clone()).collect()
    }
    /// What is retained together: the same hosts and instances.
    pub fn family(&self) -> String {
        let mut names: Vec<String> = self
            .snapshots
            .iter()
            .map(|(_, t)| format!("{}/{}", t.host, t.instances.iter().map(|i| i.instance.as_str()).collect::<Vec<_>>().join(",")))
            .collect();
        names.sort();
        names.dedup();
        names.join("+")
    }
    /// 0 to 100, of the copies to the store.
    pub fn progress(&self) -> u8 {
        let sum: u64 = self.snapshots.iter().map(|(s, _)| u64::from(s.progress)).sum();
        u8::try_from(sum / self.snapshots.len().max(1) as u64).unwrap_or(100)
    }
    /// The verdict that `reap` writes on a set that claims more than it is; `None`: its tags tell the truth.
    pub fn untrue_claim(&self) -> Option<BrokenReason> {
        let claims = self.snapshots.iter().any(|(_, t)| t.verdict == Verdict::Held);
        match &self.state {
            SetState::Broken(why) if claims => Some(BrokenReason::SnapshotFailed(why.clone())),
            SetState::Held | SetState::Completing | SetState::Pending | SetState::Broken(_) => None,
        }
    }
}
