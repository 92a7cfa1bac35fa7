//! What is done around backups: orders from a policy (one per host, group or mirror, each with its start slot), and the
//! upkeep `prune`, `reap`, `watch`. Decisions are those of `retain` and `watch`; here they are carried out through the ports.

use crate::marks::Tags;
use crate::order::{Order, Target};
use crate::policy::Policy;
use crate::ports::{Candidate, Disks, Fleet, Shelf};
use crate::retain::{Fate, Reap, prune, reap};
use crate::sets::{Catalogue, read};
use crate::slot::slot;
use crate::watch::{Watch, watch};
use protocol::tags::{PREFIX, name, text};
use protocol::wire::Problem;
use protocol::{BrokenReason, Code, WallMs};
use std::collections::BTreeMap;

/// How the orders of one run are named and paced.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Execution name, or schedule and time: the same run makes the same backup ids.
    pub execution: &'a str,
    /// Made anew by every process that starts backups: the orders' owner.
    pub nonce: &'a str,
    pub started: WallMs,
    /// Snapshot calls that the cloud refills per second.
    pub refill_per_s: u32,
}

/// One order per host, group or mirror. No host at all is an error: a backup that finds nothing to back up has failed.
pub async fn orders(fleet: &impl Fleet, policy: &Policy, run: &Run<'_>) -> Result<Vec<Order>, Problem> {
    let candidates = fleet.select(&policy.select).await?;
    if candidates.is_empty() {
        let detail = format!("policy {} selects no host", policy.name);
        return Err(Problem::new(Code::CloudRefused, detail).next("look at select.tags and select.ids, the region and the hosts' tags"));
    }
    let mut calls = 0;
    let mut made = Vec::new();
    for (key, targets) in grouped(policy, candidates) {
        let slot = slot(run.started, calls, run.refill_per_s, policy.rate_percent);
        // Of a mirror one member is snapshotted, of a group all.
        calls += if policy.select.mirror_by.is_some() { 1 } else { targets.len() as u64 };
        let execution = format!("{} {key}", run.execution);
        made.push(Order::new(policy.clone(), &execution, targets, run.nonce, run.started, slot));
    }
    Ok(made)
}

fn grouped(policy: &Policy, candidates: Vec<Candidate>) -> BTreeMap<String, Vec<Target>> {
    let by = policy.select.group_by.as_ref().or(policy.select.mirror_by.as_ref());
    let mut groups: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    for c in candidates {
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
/// `broken`, so that an interrupted removal never leaves a set that looks held.
pub async fn run_prune<W: Shelf + Disks>(
    world: &W,
    policy: &Policy,
    now: WallMs,
    really: bool,
    mut told: impl FnMut(&Fate),
) -> Result<Done<Fate>, Problem> {
    let planned = prune(&catalogue(world).await?, &policy.name, &policy.keep, now);
    let mut failed = Vec::new();
    for f in planned.iter().filter(|f| f.delete && really) {
        told(f);
        if let Err(p) = remove(world, f).await {
            failed.push(Problem { detail: format!("{}: {}", f.id, p.detail), ..p });
        }
    }
    Ok(Done { planned, failed })
}

async fn remove<W: Shelf + Disks>(world: &W, f: &Fate) -> Result<(), Problem> {
    world.tag(&f.snapshots, &broken(&BrokenReason::SnapshotFailed("its removal was begun".into()))).await?;
    for s in &f.snapshots {
        world.delete(s).await?;
    }
    Ok(())
}

/// Marks what no coordinator will finish, and what claims more than is there, as broken.
pub async fn run_reap<W: Shelf + Disks>(world: &W, policy: &Policy, now: WallMs, really: bool) -> Result<Done<Reap>, Problem> {
    let planned: Vec<Reap> = reap(&catalogue(world).await?, &policy.keep, now);
    let mut failed = Vec::new();
    for r in planned.iter().filter(|_| really) {
        if let Err(p) = world.tag(&r.snapshots, &broken(&r.verdict)).await {
            failed.push(Problem { detail: format!("{}: {}", r.id, p.detail), ..p });
        }
    }
    Ok(Done { planned, failed })
}

fn broken(why: &BrokenReason) -> Tags {
    let tag = |n: &str| format!("{PREFIX}{n}");
    let reason = text::reason(why);
    let cut: String = reason.chars().take(protocol::tags::VALUE_MAX).collect();
    BTreeMap::from([(tag(name::VERDICT), "broken".to_owned()), (tag(name::REASON), cut)])
}

/// Who has been silent for too long. Works without any schedule having run.
pub async fn run_watch<W: Shelf + Fleet>(world: &W, policy: &Policy, now: WallMs) -> Result<Watch, Problem> {
    let selected = world.select(&policy.select).await?.into_iter().map(|c| (c.target.id, c.volumes)).collect();
    Ok(watch(&catalogue(world).await?, policy, &selected, now))
}
