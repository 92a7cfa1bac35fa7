//! Everything that can be known to go wrong, before anything is frozen: a pure rule over what hosts and cloud said.

use crate::cloud::{Cloud, rules};
use crate::marks;
use crate::order::Order;
use crate::policy::{HeldBy, MemberRule};
use crate::ports::CloudVolume;
use crate::saga::{Inspected, Member, minus, plus};
use protocol::wire::{Frozen, Phase, Problem};
use protocol::{Code, WallMs};

/// IRIS waits about 1 s for a full cycle of its write daemon.
const FREEZE_MS: u64 = 1_000;
/// Protocol rule 6: a host whose clock is more than 5 s before the order refuses it.
const SKEW_MS: i64 = 5_000;

/// When the freeze may be sent, or why never.
pub fn admit(order: &Order, members: &[Member], now: WallMs) -> Result<WallMs, Problem> {
    elsewhere(order)?;
    let mut slot = order.slot;
    let spacing = rules(order.cloud).per_volume_ms;
    for m in members {
        let on = |p: Problem| Problem { detail: format!("{}: {}", m.target.id, p.detail), ..p };
        let plan = m
            .plan
            .as_ref()
            .ok_or_else(|| on(refuse(Code::AgentUnreachable, "was not inspected", "is the SSM agent online? snapfreeze check")))?;
        host(order, plan, now).map_err(on)?;
        cloud(order, plan).map_err(on)?;
        for v in taken(order, plan).filter(|_| spacing > 0) {
            slot = slot.max(v.last_snapshot.map_or(slot, |at| plus(at, spacing + 1_000)));
        }
    }
    marks::trial(order, members)?;
    Ok(slot)
}

/// What a policy may ask of one cloud only.
fn elsewhere(order: &Order) -> Result<(), Problem> {
    let p = &order.policy;
    let asked = [("copy_to", !p.copy_to.is_empty()), ("lock", p.lock.is_some()), ("fast_restore", !p.fast_restore.is_empty())];
    if !p.snapshotter.is_disks() && order.cloud != Cloud::Azure {
        return Err(refuse(Code::ConfigInvalid, "restore points are Azure's", "take snapshotter out of the policy"));
    }
    match asked.iter().find(|(_, is)| *is && order.cloud == Cloud::Azure) {
        Some((key, _)) => Err(refuse(Code::ConfigInvalid, &format!("{key} is not done on Azure"), "take it out of the policy")),
        None => Ok(()),
    }
}

fn host(order: &Order, plan: &Inspected, now: WallMs) -> Result<(), Problem> {
    let f = &plan.facts;
    let hold = order.policy.hold.ms();
    if f.left_frozen {
        return Err(refuse(Code::RefusedAlreadyFrozen, "the agent reports a database that is left frozen", "sudo snapfreeze thaw"));
    }
    match f.phase {
        Phase::Idle | Phase::Ended | Phase::Tombstone => {}
        Phase::Guarding => return Err(refuse(Code::RefusedGuarding, Code::RefusedGuarding.says(), "wait a minute")),
        Phase::Arming | Phase::Freezing | Phase::Frozen | Phase::Thawing => {
            return Err(refuse(Code::RefusedBusy, Code::RefusedBusy.says(), "snapfreeze status"));
        }
    }
    if let Some(p) = f.problems.first() {
        return Err(p.clone());
    }
    if f.instances.is_empty() {
        return Err(refuse(Code::RefusedInstance, "the agent knows no database instance", "snapfreeze check"));
    }
    if let Some(i) = f.instances.iter().find(|i| i.frozen != Frozen::No) {
        let detail = format!("instance {} is frozen already, or does not say: {}", i.instance, i.frozen.word());
        return Err(refuse(Code::RefusedAlreadyFrozen, &detail, "snapfreeze status"));
    }
    // As the host will judge a freeze order (window rule 6): this order's way stands for that one's. A group's slowest answer, or
    // the cloud's, may have come much later.
    let asked = plan.asked_at.unwrap_or_else(|| minus(now, plan.hop_ms));
    if f.now.0 < asked.0.saturating_sub(SKEW_MS) {
        let late = (asked.0.saturating_sub(f.now.0)) / 1000;
        return Err(refuse(Code::RefusedClock, &format!("the host's clock is {late} s behind"), "set it right (chrony)"));
    }
    if f.now.0 > plus(asked, order.policy.late_ms).0 {
        let early = (f.now.0.saturating_sub(asked.0)) / 1000;
        return Err(refuse(Code::RefusedClock, &format!("the host's clock is {early} s ahead"), "set it right (chrony)"));
    }
    if hold > f.largest_hold_ms {
        let detail = format!("the policy's hold of {} ms is longer than the host's limits allow ({} ms)", hold, f.largest_hold_ms);
        return Err(refuse(Code::RefusedHold, &detail, "shorten `hold` in the policy, or raise the limits in agent.toml"));
    }
    if let Some(i) = f.instances.iter().find(|i| i.buffers_last_ms.is_some_and(|ms| ms < hold)) {
        let detail = format!("the buffers of {} last {} ms, the hold is {hold} ms", i.instance, i.buffers_last_ms.unwrap_or(0));
        return Err(refuse(Code::RefusedBuffers, &detail, "shorten the hold, or back up when less is written"));
    }
    let hops = if order.policy.held_by == HeldBy::Coordinator { plan.hop_ms.saturating_mul(2) } else { 0 };
    let needs = hops.saturating_add(order.policy.snapshot_ms).saturating_add(FREEZE_MS);
    if needs > hold {
        let detail = format!(
            "an order takes {} ms to the host and back; two of them, the freeze and the snapshot call need {needs} ms, the hold is {hold} ms",
            plan.hop_ms
        );
        return Err(refuse(Code::RefusedTooSlow, &detail, "use a longer hold, or held_by = \"host\""));
    }
    Ok(())
}

fn cloud(order: &Order, plan: &Inspected) -> Result<(), Problem> {
    if let Some(p) = &plan.look.problem {
        return Err(p.clone());
    }
    if plan.look.volumes.is_empty() {
        return Err(refuse(Code::CloudRefused, "the host has no volume that could be snapshotted", "attach its volumes, or exclude fewer"));
    }
    let excluded = plan.look.volumes.iter().filter(|v| !v.boot && v.named(&order.policy.exclude_volumes)).count();
    if let Some(max) = rules(order.cloud).exclude_max.filter(|max| excluded > *max) {
        let detail = format!("{excluded} volumes to exclude, but the call takes {max}");
        return Err(refuse(Code::CloudRefused, &detail, "exclude fewer volumes, or detach some"));
    }
    let set: Vec<&CloudVolume> = taken(order, plan).collect();
    if let Some(v) = set.iter().find(|v| v.pending >= v.pending_max) {
        let detail = format!("{} has {} snapshots that are still pending; {} may be", v.volume, v.pending, v.pending_max);
        return Err(refuse(Code::CloudRefused, &detail, "wait until they are complete"));
    }
    if plan.facts.volumes.is_empty() {
        return Err(refuse(Code::RefusedNotCovered, "the agent cannot tell on which volumes the databases lie", "snapfreeze check"));
    }
    if let Some(v) = plan.facts.volumes.iter().find(|f| !set.iter().any(|v| v.key == f.volume)) {
        let what = format!("{} ({}, {}) carries the databases and is not in the set", v.volume, v.device, v.mounts.join(", "));
        return Err(refuse(Code::RefusedNotCovered, &what, "take it out of exclude_volumes / exclude_boot, or move the data"));
    }
    Ok(())
}

/// The volumes that the snapshot call takes.
pub fn taken<'a>(order: &'a Order, plan: &'a Inspected) -> impl Iterator<Item = &'a CloudVolume> {
    let p = &order.policy;
    plan.look.volumes.iter().filter(|v| if v.boot { !p.exclude_boot } else { !v.named(&p.exclude_volumes) })
}

/// Of a mirror's members the one to back up, by its live role. With `any`: a backup member before the primary.
pub fn choose(members: &[Member], rule: MemberRule) -> Result<usize, Problem> {
    let role = |m: &Member| m.plan.as_ref().and_then(|p| p.facts.instances.first()).map(|i| i.member_role.to_ascii_lowercase());
    let find = |wanted: &str| members.iter().position(|m| role(m).as_deref() == Some(wanted));
    let found = match rule {
        MemberRule::Primary => find("primary"),
        MemberRule::Backup => find("backup"),
        MemberRule::Any => find("backup").or_else(|| find("primary")).or_else(|| members.iter().position(|m| m.plan.is_some())),
    };
    found.ok_or_else(|| {
        let roles: Vec<String> =
            members.iter().map(|m| format!("{}: {}", m.target.id, role(m).unwrap_or_else(|| "no answer".into()))).collect();
        refuse(Code::RefusedRole, &format!("no member of the mirror has the wanted role ({})", roles.join(", ")), "snapfreeze check")
    })
}

fn refuse(code: Code, detail: &str, next: &str) -> Problem {
    Problem::new(code, detail).next(next)
}
