//! What is done around backups: orders from a policy (one per host, group or mirror, each with its start slot), and the
//! upkeep `prune`, `reap`, `watch`. Decisions are those of `retain` and `watch`; here they are carried out through the ports.

use crate::cloud::{Cloud, rules};
use crate::marks::Tags;
use crate::order::{Order, Target};
use crate::policy::Policy;
use crate::ports::{Candidate, Disks, Fleet, Shelf};
use crate::retain::{Fate, Reap, prune, reap};
use crate::sets::{Catalogue, Set, SetState, read};
use crate::slot::slot;
use crate::watch::{Watch, watch};
use protocol::tags::{PREFIX, SetTags, VALUE_MAX, name, text};
use protocol::wire::Problem;
use protocol::{BrokenReason, Code, Verdict, WallMs};
use std::collections::{BTreeMap, BTreeSet};

/// How the orders of one run are named and paced.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Execution name, or schedule and time: the same run makes the same backup ids.
    pub execution: &'a str,
    /// Made anew by every process that starts backups: the orders' owner.
    pub nonce: &'a str,
    pub started: WallMs,
    pub cloud: Cloud,
}

/// One order per host, group or mirror. No host at all is an error: a backup that finds nothing to back up has failed.
pub async fn orders(fleet: &impl Fleet, policy: &Policy, run: &Run<'_>) -> Result<Vec<Order>, Problem> {
    let candidates = fleet.select(&policy.select).await?;
    if candidates.is_empty() {
        let detail = format!("policy {} selects no host in {}", policy.name, fleet.place());
        return Err(Problem::new(Code::CloudRefused, detail).next("look at select.tags and select.ids, the region and the hosts' tags"));
    }
    let rules = rules(run.cloud);
    let mut calls = 0;
    let mut made = Vec::new();
    let volumes: BTreeMap<String, u64> = candidates.iter().map(|c| (c.target.id.clone(), c.volumes.len().max(1) as u64)).collect();
    for (key, targets) in grouped(policy, candidates) {
        let slot = slot(run.started, calls, rules.calls_per_hour, policy.rate_percent);
        // Of a mirror one member is snapshotted, of a group all.
        let of = |t: &Target| if rules.one_call { 1 } else { volumes.get(&t.id).copied().unwrap_or(1) };
        let each = targets.iter().map(of);
        calls += if policy.select.mirror_by.is_some() { each.max().unwrap_or(1) } else { each.sum() };
        let execution = format!("{} {key}", run.execution);
        made.push(Order::new(policy.clone(), &execution, targets, run.nonce, run.started, slot).on(run.cloud));
    }
    Ok(made)
}

fn grouped(policy: &Policy, candidates: Vec<Candidate>) -> BTreeMap<String, Vec<Target>> {
    let by = policy.select.group_by.as_ref().or(policy.select.mirror_by.as_ref());
    let mut groups: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    // A host that is named twice would be frozen twice.
    for c in candidates.into_iter().filter(|c| seen.insert(c.target.id.clone())) {
        // A host without the tag stands alone.
        let key = by.and_then(|tag| c.tags.get(tag)).map_or_else(|| format!("host {}", c.target.id), |v| format!("group {v}"));
        groups.entry(key).or_default().push(c.target);
    }
    groups
}

pub async fn catalogue(shelf: &impl Shelf) -> Result<Catalogue, Problem> {
    Ok(read(shelf.all().await?))
}

/// What was decided and what could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done<T> {
    pub planned: Vec<T>,
    pub failed: Vec<Problem>,
}

/// With `really` false nothing is sent that changes anything. A set goes snapshot by snapshot, its verdict first made
/// `broken`, so that an interrupted removal never leaves a set that looks held; one that cannot be removed at all is held again.
pub async fn run_prune<W: Shelf + Disks>(
    world: &W,
    policy: &Policy,
    now: WallMs,
    really: bool,
    mut told: impl FnMut(&Fate),
) -> Result<Done<Fate>, Problem> {
    let catalogue = catalogue(world).await?;
    let planned = prune(&catalogue, &policy.name, &policy.keep, now);
    let mut failed = Vec::new();
    for f in planned.iter().filter(|f| f.delete && really) {
        told(f);
        let Some(set) = catalogue.sets.iter().find(|s| s.id == f.id) else { continue };
        if let Err(p) = remove(world, set).await {
            failed.push(Problem { detail: format!("{}: {}", f.id, p.detail), ..p });
        }
    }
    Ok(Done { planned, failed })
}

async fn remove<W: Shelf + Disks>(world: &W, set: &Set) -> Result<(), Problem> {
    let why = BrokenReason::SnapshotFailed("its removal was begun".into());
    make_broken(world, set, &why).await?;
    for (i, s) in set.ids().iter().enumerate() {
        if let Err(p) = world.delete(s).await {
            // Locked, in use, or no permission, and nothing is gone yet: it is as good as it was.
            if i == 0 && matches!(set.state, SetState::Held | SetState::Completing) {
                world.tag(&set.ids(), &verdict_tags(set, Verdict::Held)).await?;
            }
            return Err(p);
        }
    }
    Ok(())
}

/// Snapshots that are called broken already keep their own reason.
async fn make_broken<W: Disks>(world: &W, set: &Set, why: &BrokenReason) -> Result<(), Problem> {
    let others = set.snapshots.iter().filter(|(_, t)| !matches!(t.verdict, Verdict::Broken(_)));
    let ids: Vec<String> = others.map(|(s, _)| s.snapshot.clone()).collect();
    if ids.is_empty() { Ok(()) } else { world.tag(&ids, &verdict_tags(set, Verdict::Broken(why.clone()))).await }
}

/// Marks what no coordinator will finish, and what claims more than is there, as broken.
pub async fn run_reap<W: Shelf + Disks>(world: &W, policy: &Policy, now: WallMs, really: bool) -> Result<Done<Reap>, Problem> {
    let catalogue = catalogue(world).await?;
    let planned: Vec<Reap> = reap(&catalogue, &policy.keep, now);
    let mut failed = Vec::new();
    for r in planned.iter().filter(|_| really) {
        let Some(set) = catalogue.sets.iter().find(|s| s.id == r.id) else { continue };
        if let Err(p) = make_broken(world, set, &r.verdict).await {
            failed.push(Problem { detail: format!("{}: {}", r.id, p.detail), ..p });
        }
    }
    Ok(Done { planned, failed })
}

fn verdict_tags(set: &Set, verdict: Verdict) -> Tags {
    let tag = |n: &str| format!("{PREFIX}{n}");
    let mut tags = Tags::from([(tag(name::VERDICT), verdict.word().to_owned())]);
    if let Verdict::Broken(why) = &verdict {
        // One value, never parts: those of a longer reason could not be taken away.
        tags.insert(tag(name::REASON), text::reason(why).chars().take(VALUE_MAX).collect());
    }
    let t = SetTags { verdict, host: set.hosts.join("+"), ..set.tags.clone() };
    tags.insert(name::NAME.into(), t.display_name());
    tags
}

/// Who has been silent for too long. Works without any schedule having run.
pub async fn run_watch<W: Shelf + Fleet>(world: &W, policy: &Policy, now: WallMs) -> Result<Watch, Problem> {
    let selected = world.select(&policy.select).await?.into_iter().map(|c| (c.target.id, c.volumes)).collect();
    Ok(watch(&catalogue(world).await?, policy, &selected, now))
}
