//! Silence: hosts that have no held set younger than `max_age`. It is evaluated from the snapshots and apart from the backup
//! schedule, so that a disabled schedule, a removed tag, or a policy that finds no host any more is seen as well.

use crate::policy::Policy;
use crate::sets::{Catalogue, SetState};
use protocol::WallMs;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// Host and instances.
    pub family: String,
    /// The newest held set; `None`: there was never one.
    pub last_held: Option<WallMs>,
    pub age_ms: Option<u64>,
    pub silent: bool,
    /// What became of the newest set of all.
    pub last_state: &'static str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Watch {
    pub all: Vec<Watched>,
    /// Hosts that the policy selects and that have never had a set: by their cloud id.
    pub never: Vec<String>,
    /// The policy selects no host and has no set: nothing can be watched, which is an alarm of its own.
    pub blind: bool,
}

impl Watch {
    pub fn silent(&self) -> usize {
        self.all.iter().filter(|w| w.silent).count() + self.never.len() + usize::from(self.blind)
    }
    /// The oldest last held set of all, for a metric; `None` without any.
    pub fn worst_age_ms(&self) -> Option<u64> {
        self.all.iter().filter_map(|w| w.age_ms).max()
    }
}

/// `selected`: volumes of the hosts that the policy selects now, by host id: a host is known by a snapshot of its volumes.
pub fn watch(catalogue: &Catalogue, policy: &Policy, selected: &BTreeMap<String, Vec<String>>, now: WallMs) -> Watch {
    let mut families: BTreeMap<String, Watched> = BTreeMap::new();
    let ours = || catalogue.sets.iter().filter(|s| s.tags.policy == policy.name);
    for s in ours() {
        let age = u64::try_from(now.0.saturating_sub(s.at.0)).unwrap_or(0);
        let w = families.entry(s.family()).or_insert_with(|| Watched {
            family: s.family(),
            last_held: None,
            age_ms: None,
            silent: true,
            last_state: s.state.word(),
        });
        if matches!(s.state, SetState::Held | SetState::Completing) && w.last_held.is_none() {
            (w.last_held, w.age_ms, w.silent) = (Some(s.at), Some(age), age > policy.max_age_ms);
        }
    }
    let seen: Vec<&str> = ours().flat_map(|s| s.snapshots.iter().map(|(s, _)| s.volume.as_str())).collect();
    let never = selected.iter().filter(|(_, volumes)| !volumes.iter().any(|v| seen.contains(&v.as_str()))).map(|(id, _)| id.clone());
    let never: Vec<String> = never.collect();
    let blind = families.is_empty() && selected.is_empty();
    Watch { all: families.into_values().collect(), never, blind }
}
