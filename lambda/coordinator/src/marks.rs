//! What is written on the snapshots, and when: what is known at the freeze goes into the snapshot call itself, what a restore
//! must know of each volume follows outside the window, and the verdict comes last, with one call for the whole set.

use crate::Cloud;
use crate::admit::taken;
use crate::order::Order;
use crate::policy::HeldBy;
use crate::ports::{Made, Snapshot};
use crate::saga::{Freeze, Member, Saga, Thaw};
use protocol::outcome::InstanceMarks;
use protocol::tags::limits::check;
use protocol::tags::{PREFIX, SetTags, from_tags, name, to_tags};
use protocol::wire::Problem;
use protocol::{Code, JournalMark, Verdict, Window};
use std::collections::BTreeMap;

pub type Tags = BTreeMap<String, String>;

/// Everything about one host's part of the set; volume facts are added by [`of_volume`].
fn base(order: &Order, members: &[Member], m: &Member) -> SetTags {
    let mut t = SetTags::new(order.id);
    t.set_size = u32::try_from(members.iter().filter_map(|m| m.plan.as_ref()).map(|p| taken(order, p).count()).sum::<usize>()).unwrap_or(0);
    t.policy.clone_from(&order.policy.name);
    t.by = format!("coordinator {}", env!("CARGO_PKG_VERSION"));
    if let Some(p) = &m.plan {
        let f = &p.facts;
        let list = |of: fn(&protocol::wire::InstanceFacts) -> &str| {
            let mut all: Vec<&str> = f.instances.iter().map(of).filter(|s| !s.is_empty()).collect();
            all.dedup();
            all.join(",")
        };
        t.host.clone_from(&f.host);
        t.agent_version.clone_from(&f.agent_version);
        t.engine = list(|i| &i.engine);
        t.engine_version = list(|i| &i.engine_version);
        t.guid = list(|i| &i.guid);
        t.mirror = list(|i| &i.mirror);
        t.member_role = list(|i| &i.member_role);
        t.scope = list(|i| &i.scope);
        t.instances = f.instances.iter().map(|i| InstanceMarks { instance: i.instance.clone(), marks: Vec::new() }).collect();
        t.extra = f.extra_tags.clone();
    }
    t.extra.extend(order.policy.tags.clone());
    if let Freeze::Frozen { reply, .. } = &m.freeze {
        t.instances.clone_from(&reply.instances);
        t.frozen_at = Some(reply.frozen_at);
    }
    if let Thaw::Confirmed { window: Some(w) } = &m.thaw {
        windowed(&mut t, w);
    }
    t
}

fn windowed(t: &mut SetTags, w: &Window) {
    t.frozen_at = w.frozen_at.or(t.frozen_at);
    t.thawed_at = w.thawed_at;
    t.window_ms = Some(w.window_ms);
    if w.marks.iter().any(|i| !i.marks.is_empty()) {
        t.instances.clone_from(&w.marks);
    }
}

/// In the snapshot call: `pending`.
pub fn at_freeze(saga: &Saga, member: usize) -> Tags {
    to_tags(&base(&saga.order, &saga.members, &saga.members[member]))
}

/// With which the snapshot call is rehearsed before the freeze.
pub fn before(order: &Order) -> Tags {
    let mut t = SetTags::new(order.id);
    t.policy.clone_from(&order.policy.name);
    t.extra.clone_from(&order.policy.tags);
    to_tags(&t)
}

/// After the thaw, one call per snapshot: what it is of, and the window; no word about the verdict.
pub fn of_volumes(saga: &Saga) -> Vec<(String, Tags)> {
    let mut all = Vec::new();
    for m in &saga.members {
        let mut t = base(&saga.order, &saga.members, m);
        for made in saga.made().iter().filter(|made| belongs(m, made)) {
            of_volume(&mut t, m, made);
            let mut tags = to_tags(&t);
            let host_held = saga.order.policy.held_by == HeldBy::Host;
            // What the verdict's call writes, and what a host that made the set has counted itself.
            let others: &[&str] = if host_held { &[name::VERDICT, name::REASON, name::SET_SIZE] } else { &[name::VERDICT, name::REASON] };
            // An organisation's own tags are there since the call that made the snapshot, and the role may write none but ours now.
            tags.retain(|k, _| k.starts_with(PREFIX) && !others.iter().any(|n| is(k, n)));
            all.push((made.snapshot.clone(), tags));
        }
    }
    all
}

/// The tag of this name, or one of its parts.
fn is(key: &str, name: &str) -> bool {
    let rest = key.strip_prefix(PREFIX).and_then(|k| k.strip_prefix(name));
    rest.is_some_and(|r| r.is_empty() || r.starts_with('.'))
}

fn belongs(m: &Member, made: &Made) -> bool {
    m.plan.as_ref().is_some_and(|p| p.look.volumes.iter().any(|v| v.volume == made.volume))
}

fn of_volume(t: &mut SetTags, m: &Member, made: &Made) {
    let Some(plan) = &m.plan else { return };
    let in_cloud = plan.look.volumes.iter().find(|v| v.volume == made.volume);
    let on_host = in_cloud.and_then(|c| plan.facts.volumes.iter().find(|v| v.volume == c.key));
    t.device = match (on_host, in_cloud) {
        (Some(h), Some(c)) => format!("{} as {}", h.device, c.device),
        (Some(h), None) => h.device.clone(),
        (None, Some(c)) => c.device.clone(),
        (None, None) => String::new(),
    };
    t.mount = on_host.map(|h| h.mounts.join(",")).unwrap_or_default();
    t.roles = on_host.map(|h| h.roles.clone()).unwrap_or_default();
    t.volume = in_cloud.map(|c| format!("{} {}", c.volume, c.kind)).unwrap_or_default();
}

/// The last word: the same on every snapshot of the set, in one call.
pub fn verdict(saga: &Saga) -> Tags {
    let Some(first) = saga.members.first() else { return Tags::new() };
    let mut t = base(&saga.order, &saga.members, first);
    let hosts: Vec<&str> = saga.members.iter().filter_map(|m| m.plan.as_ref()).map(|p| p.facts.host.as_str()).collect();
    t.host = hosts.join("+");
    t.verdict = saga.verdict.clone().unwrap_or(Verdict::Pending);
    to_tags(&t).into_iter().filter(|(k, _)| k == name::NAME || is(k, name::VERDICT) || is(k, name::REASON)).collect()
}

/// A journal path may be this long before the freeze reply has more than a snapshot's tags can carry.
const LONGEST_PATH: usize = 512;

/// Would the tags fit, with long journal paths? Refused before the freeze rather than by the cloud inside the window.
pub fn trial(order: &Order, members: &[Member]) -> Result<(), Problem> {
    for m in members {
        let mut t = base(order, members, m);
        let long = || Some("/".repeat(LONGEST_PATH));
        for i in &mut t.instances {
            i.marks = vec![JournalMark { region: String::new(), switched: long(), required: long(), offset: Some(u64::MAX) }];
        }
        t.frozen_at = Some(order.made_at);
        t.thawed_at = Some(order.made_at);
        t.window_ms = Some(u64::MAX);
        t.verdict = Verdict::Broken(protocol::BrokenReason::VerdictLost);
        t.device = "/dev/nvme1n1 as /dev/sdf".into();
        t.mount = "/x".into();
        t.volume = "vol".into();
        t.roles = vec!["data".into()];
        fits(order.cloud, &m.target.id, &to_tags(&t))?;
    }
    Ok(())
}

/// The tags as the freeze replies made them; more than the cloud takes is thawed without a snapshot.
pub fn too_many(saga: &Saga) -> Result<(), Problem> {
    (0..saga.members.len()).try_for_each(|i| fits(saga.order.cloud, &saga.members[i].target.id, &at_freeze(saga, i)))
}

fn fits(cloud: Cloud, host: &str, tags: &Tags) -> Result<(), Problem> {
    check(tags, cloud).map_err(|broken| {
        let why: Vec<String> = broken.iter().map(ToString::to_string).collect();
        Problem::new(Code::CloudRefused, format!("{host}: the tags do not fit: {}", why.join("; ")))
            .next("use fewer or shorter tags in the policy and in [tags] of agent.toml")
    })
}

/// The verdict that a host-held set already carries: of a complete set, and the same on all.
pub fn verdict_on(found: &[Snapshot]) -> Option<Verdict> {
    let mut tags = found.iter().map(|s| from_tags(&s.tags).ok());
    let first = tags.next()??;
    let same = tags.all(|t| t.is_some_and(|t| t.verdict == first.verdict));
    let whole = found.len() == usize::try_from(first.set_size).unwrap_or(usize::MAX);
    (same && whole && first.verdict != Verdict::Pending).then_some(first.verdict)
}
