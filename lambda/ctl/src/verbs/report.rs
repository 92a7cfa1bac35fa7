//! `report` and `watch`: is every host backed up lately, how often did it hold, how long were the windows. Read from the
//! snapshots alone, so that a schedule that never ran is seen.

use super::catalogue::unreadable;
use crate::cli::{Report, Watch as WatchArgs};
use crate::out::{Out, table, usage};
use crate::policy;
use crate::say::{age, parse_since, when};
use coordinator::Policy;
use coordinator::ops::{catalogue, run_watch};
use coordinator::ports::{Fleet, Shelf};
use coordinator::sets::{Catalogue, Set, SetState};
use coordinator::span;
use coordinator::watch::{Watch, Watched, watch};
use protocol::WallMs;
use protocol::code::exit;
use protocol::wire::Problem;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Line {
    #[serde(flatten)]
    watched: Watched,
    max_age_ms: u64,
    /// Since the day that was asked for; what is pending is not counted.
    sets: usize,
    held: usize,
    /// Of held sets, by nearest rank.
    window_p50_ms: Option<u64>,
    window_p99_ms: Option<u64>,
}

pub async fn report(world: &(impl Shelf + Fleet), args: &Report, now: WallMs, out: Out) -> Result<u8, Problem> {
    let from = parse_since(&args.since, now)?;
    let mut policy = args.policy.as_deref().map_or_else(policy::defaults, |p| policy::read(p, policy::Wishes::default()))?;
    if let Some(max) = &args.max_age {
        policy.max_age_ms = span::parse(max).ok_or_else(|| usage(format!("{max:?} is no span of time: use a form such as 26h")))?;
    }
    let mut all = catalogue(world).await?;
    let mut selected = BTreeMap::new();
    if args.policy.is_some() {
        selected = world.select(&policy.select).await?.into_iter().map(|c| (c.target.id, c.volumes)).collect();
    } else {
        of_any_policy(&mut all, &policy.name);
    }
    let w = watch(&all, &policy, &selected, now);
    let lines: Vec<Line> = w.all.iter().map(|h| line(h, &all, &policy, from)).collect();
    let mut t = table(["HOST/INSTANCE", "LAST HELD", "AGE", "LAST SET", "HELD", "WINDOW P50", "P99", ""]);
    for l in &lines {
        out.object("host", l);
        let ms = |ms: Option<u64>| ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
        t.add_row([
            l.watched.family.clone(),
            l.watched.last_held.map_or_else(|| "never".into(), when),
            l.watched.age_ms.map(age).unwrap_or_default(),
            l.watched.last_state.to_owned(),
            format!("{} of {}", l.held, l.sets),
            ms(l.window_p50_ms),
            ms(l.window_p99_ms),
            if l.watched.silent { "SILENT".into() } else { String::new() },
        ]);
    }
    if !lines.is_empty() {
        out.say(t.to_string());
    }
    // No policy and no set: nothing was asked to be watched.
    let blind = w.blind && args.policy.is_some();
    say_silent(&Watch { blind, ..w.clone() }, &policy, out);
    unreadable(&all, out);
    let silent = w.silent() - usize::from(w.blind && !blind);
    let hosts = json!({ "hosts": lines.len(), "silent": silent, "never": w.never, "blind": blind, "unreadable": all.unreadable.len() });
    out.object("report", &hosts);
    Ok(if silent > 0 { exit::BROKEN } else { exit::DONE })
}

/// Sets of every policy count: a host that one of them backs up is not silent.
fn of_any_policy(all: &mut Catalogue, name: &str) {
    for s in &mut all.sets {
        s.tags.policy = name.to_owned();
    }
}

fn line(h: &Watched, all: &Catalogue, policy: &Policy, from: WallMs) -> Line {
    let ours = |s: &&Set| s.tags.policy == policy.name && s.at >= from && s.family() == h.family;
    let judged: Vec<&Set> = all.sets.iter().filter(ours).filter(|s| s.state != SetState::Pending).collect();
    let held: Vec<&Set> = judged.iter().copied().filter(|s| matches!(s.state, SetState::Held | SetState::Completing)).collect();
    let mut windows: Vec<u64> = held.iter().filter_map(|s| s.tags.window_ms).collect();
    windows.sort_unstable();
    Line {
        watched: h.clone(),
        max_age_ms: policy.max_age_ms,
        sets: judged.len(),
        held: held.len(),
        window_p50_ms: rank(&windows, 50),
        window_p99_ms: rank(&windows, 99),
    }
}

/// Nearest rank, of sorted values.
fn rank(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied()
}

fn say_silent(w: &Watch, policy: &Policy, out: Out) {
    for id in &w.never {
        out.say(format!("{id}: SILENT, selected by policy {} and never backed up", policy.name));
    }
    if w.blind {
        out.say(format!("SILENT: policy {} selects no host and has no set (tags, region?)", policy.name));
    }
}

pub async fn run(world: &(impl Shelf + Fleet), args: &WatchArgs, now: WallMs, out: Out) -> Result<u8, Problem> {
    let policy = policy::read(&args.policy, policy::Wishes::default())?;
    let w = run_watch(world, &policy, now).await?;
    if args.nagios {
        return Ok(nagios(&w, &policy));
    }
    for h in &w.all {
        out.object("host", h);
        let held =
            h.last_held.map_or_else(|| "never held".into(), |at| format!("last held {} ({} ago)", when(at), age(h.age_ms.unwrap_or(0))));
        let word = if h.silent { "SILENT" } else { "ok" };
        out.say(format!("{}: {word}, {held}, last set {}", h.family, h.last_state));
    }
    say_silent(&w, &policy, out);
    out.object("watch", &json!({ "policy": policy.name, "silent": w.silent(), "never": w.never, "blind": w.blind }));
    Ok(if w.silent() > 0 { exit::BROKEN } else { exit::DONE })
}

/// One line; 0 ok, 1 the newest set of a host is broken although an older one is young enough, 2 silent.
fn nagios(w: &Watch, policy: &Policy) -> u8 {
    let silent: Vec<&str> =
        w.all.iter().filter(|h| h.silent).map(|h| h.family.as_str()).chain(w.never.iter().map(String::as_str)).collect();
    let shaky: Vec<&str> = w.all.iter().filter(|h| !h.silent && h.last_state == "broken").map(|h| h.family.as_str()).collect();
    let (word, code, text) = if w.blind {
        ("CRITICAL", 2, format!("policy {} selects no host and has no set", policy.name))
    } else if !silent.is_empty() {
        ("CRITICAL", 2, format!("silent: {}", silent.join(", ")))
    } else if !shaky.is_empty() {
        ("WARNING", 1, format!("last set broken: {}", shaky.join(", ")))
    } else {
        ("OK", 0, format!("{} hosts backed up", w.all.len()))
    };
    let age = w.worst_age_ms().map(|ms| format!(" | age={}s", ms / 1000)).unwrap_or_default();
    Out { json: false }.say(format!("SNAPFREEZE {word} - {}{age}", text.replace(['\n', '|'], " ")));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((rank(&hundred, 50), rank(&hundred, 99)), (Some(50), Some(99)));
        assert_eq!((rank(&[7], 50), rank(&[7], 99), rank(&[], 50)), (Some(7), Some(7), None));
    }
}
