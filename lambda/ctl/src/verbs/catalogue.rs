//! `list` and `show`: the catalogue, read from tags alone.

use crate::cli::{Filter, List, Show};
use crate::out::{Out, table};
use crate::say::{age, parse_since, since, when};
use coordinator::ops::catalogue;
use coordinator::ports::Shelf;
use coordinator::sets::{Catalogue, Set, SetState};
use protocol::code::exit;
use protocol::tags::{SetTags, to_tags};
use protocol::wire::Problem;
use protocol::{BackupId, Code, WallMs};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub async fn list(shelf: &impl Shelf, args: &List, now: WallMs, out: Out) -> Result<u8, Problem> {
    let all = catalogue(shelf).await?;
    let chosen = chosen(&all, &args.filter, now)?;
    let mut t = table(["ID", "HOST/INSTANCE", "WHEN", "STATE", "SIZE", "VOLUMES", "WINDOW", "RESTORE FROM", "KEPT"]);
    for s in &chosen {
        out.object("set", &as_json(s, false));
        t.add_row([
            s.id.to_string(),
            s.family(),
            when(s.at),
            state(s),
            format!("{} GiB", s.size_gib()),
            s.snapshots.len().to_string(),
            s.tags.window_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            restore_from(s).into_iter().collect::<Vec<_>>().join(" "),
            kept(s).map(|until| format!("until {}", &when(until)[..10])).unwrap_or_default(),
        ]);
    }
    if chosen.is_empty() {
        out.say("no such sets; `snapfreezectl list` without filters shows all, --region another region");
    } else {
        out.say(t.to_string());
    }
    unreadable(&all, out);
    Ok(exit::DONE)
}

pub async fn show(shelf: &impl Shelf, args: &Show, now: WallMs, out: Out) -> Result<u8, Problem> {
    let all = catalogue(shelf).await?;
    let s = if args.id == "latest" {
        let held = |s: &&Set| matches!(s.state, SetState::Held);
        let none = || unknown("there is no held set").next("snapfreezectl list --state broken");
        chosen(&all, &args.filter, now)?.into_iter().find(held).ok_or_else(none)?
    } else {
        find(&all, &args.id)?
    };
    if out.json {
        out.object("set", &as_json(s, true));
        return Ok(exit::DONE);
    }
    facts(s, now, out);
    volumes(s, out);
    journals(s, out);
    hint(s, out);
    Ok(exit::DONE)
}

fn facts(s: &Set, now: WallMs, out: Out) {
    let t = &s.tags;
    out.say(format!("{}  {}  {}", state(s).to_uppercase(), s.id, s.family()));
    if let SetState::Broken(why) = &s.state {
        out.say(format!("  broken: {why}"));
    }
    let line = |name: &str, value: &str| {
        if !value.is_empty() {
            out.say(format!("  {name:<15} {value}"));
        }
    };
    line("made", &format!("{} ({} ago)", when(s.at), age(since(s.at, now))));
    line("engine", format!("{} {}", t.engine, t.engine_version).trim());
    line("mirror", format!("{} {}", t.mirror, t.member_role).trim());
    line("scope", &t.scope);
    line("policy", &t.policy);
    line("by", &t.by);
    line("agent", &t.agent_version);
    line("frozen", &t.frozen_at.map(when).unwrap_or_default());
    line("thawed", &t.thawed_at.map(when).unwrap_or_default());
    line("window", &t.window_ms.map(|ms| format!("{ms} ms")).unwrap_or_default());
    line("expires", &t.expires.map(when).unwrap_or_default());
    if let Some(until) = kept(s) {
        let why = s.snapshots.iter().map(|(_, t)| t.keep_reason.as_str()).find(|r| !r.is_empty()).unwrap_or("no reason given");
        line("kept until", &format!("{} ({why})", when(until)));
    }
    for (k, v) in &t.extra {
        line(k, v);
    }
}

fn volumes(s: &Set, out: Out) {
    let mut t = table(["SNAPSHOT", "VOLUME", "STATE", "SIZE", "HOST", "DEVICE", "MOUNT", "ROLES", "KIND"]);
    for (snap, tags) in &s.snapshots {
        t.add_row([
            snap.snapshot.clone(),
            snap.volume.clone(),
            copy_state(snap),
            format!("{} GiB", snap.size_gib),
            tags.host.clone(),
            tags.device.clone(),
            tags.mount.clone(),
            tags.roles.join(","),
            kind(tags).to_owned(),
        ]);
    }
    out.say(format!("volumes: {} of {}", s.snapshots.len(), s.tags.set_size));
    out.say(t.to_string());
}

/// Paths whole, however long: a restore needs them to the last character.
fn journals(s: &Set, out: Out) {
    let mut said = BTreeSet::new();
    for (_, t) in &s.snapshots {
        for i in &t.instances {
            for m in &i.marks {
                let region = if m.region.is_empty() { String::new() } else { format!(" region {}", m.region) };
                let head = format!("{}/{}{region}", t.host, i.instance);
                if !said.insert(head.clone()) {
                    continue;
                }
                let say = |what: &str, path: Option<&str>| out.say(format!("  {what:<15} {}", path.unwrap_or("none")));
                out.say(format!("journals of {head}:"));
                say("switched to", m.switched.as_deref());
                say("required", m.required.as_deref());
                say("offset", m.offset.map(|o| o.to_string()).as_deref());
                say("restore from", m.restore_from());
            }
        }
    }
}

fn hint(s: &Set, out: Out) {
    match &s.state {
        SetState::Held => {
            out.say(format!("restore: snapfreezectl restore {} --onto HOST", s.id));
        }
        SetState::Completing => out.say("restore: not yet; the copies are being made"),
        SetState::Pending => out.say("restore: no; it has no verdict (if nobody is making it: snapfreezectl reap)"),
        SetState::Broken(_) => out.say("restore: no; this set is not consistent. Take `snapfreezectl show latest`"),
    }
}

/// The newest held set, of this host when one is named.
pub fn newest_held<'a>(all: &'a Catalogue, host: Option<&str>) -> Result<&'a Set, Problem> {
    let fits = |s: &&Set| matches!(s.state, SetState::Held) && host.is_none_or(|h| s.hosts.iter().any(|x| x == h));
    all.sets.iter().find(fits).ok_or_else(|| unknown("there is no held set").next("snapfreezectl list --state broken"))
}

/// A set by its id, or by one of its snapshots.
pub fn find<'a>(all: &'a Catalogue, id: &str) -> Result<&'a Set, Problem> {
    if let Some(u) = all.unreadable.iter().find(|u| u.backup_id == id || u.snapshot == id) {
        let next = if u.newer { "use the snapfreezectl that wrote it, or a newer one" } else { "look at its tags in the console" };
        return Err(Problem::new(Code::CatalogueDamaged, format!("{}: {}", u.snapshot, u.why)).next(next));
    }
    let found = match id.parse::<BackupId>() {
        Ok(id) => all.sets.iter().find(|s| s.id == id),
        Err(_) => all.sets.iter().find(|s| s.snapshots.iter().any(|(snap, _)| snap.snapshot == id)),
    };
    found.ok_or_else(|| unknown(&format!("no set {id:?} in this region")).next("snapfreezectl list; --region names another region"))
}

fn unknown(detail: &str) -> Problem {
    Problem::new(Code::CatalogueUnknown, detail)
}

fn chosen<'a>(all: &'a Catalogue, f: &Filter, now: WallMs) -> Result<Vec<&'a Set>, Problem> {
    let from = f.since.as_deref().map(|s| parse_since(s, now)).transpose()?;
    let fits = |s: &&Set| {
        f.host.as_ref().is_none_or(|h| s.snapshots.iter().any(|(_, t)| t.host == *h))
            && f.policy.as_ref().is_none_or(|p| s.tags.policy == *p)
            && f.state.is_none_or(|w| s.state.word() == w.word())
            && from.is_none_or(|from| s.at >= from)
    };
    Ok(all.sets.iter().filter(fits).collect())
}

/// What cannot be read is always shown: it costs money and may be somebody's last backup.
pub fn unreadable(all: &Catalogue, out: Out) {
    for u in &all.unreadable {
        out.object("unreadable", u);
        out.note(format!("{} carries our tags and cannot be read: {}", u.snapshot, u.why));
    }
}

fn state(s: &Set) -> String {
    match &s.state {
        SetState::Completing => format!("completing {} %", s.progress()),
        SetState::Held | SetState::Pending | SetState::Broken(_) => s.state.word().to_owned(),
    }
}

fn copy_state(s: &coordinator::ports::Snapshot) -> String {
    match s.state {
        coordinator::ports::State::Pending => format!("pending {} %", s.progress),
        coordinator::ports::State::Completed => "completed".into(),
        coordinator::ports::State::Failed => "ERROR".into(),
    }
}

/// `snapfreeze:volume` is "vol-… gp3 3000 IOPS …".
fn kind(t: &SetTags) -> &str {
    t.volume.split_once(' ').map_or("", |(_, kind)| kind)
}

pub fn kept(s: &Set) -> Option<WallMs> {
    s.snapshots.iter().filter_map(|(_, t)| t.keep_until).max()
}

fn restore_from(s: &Set) -> BTreeSet<&str> {
    s.snapshots.iter().flat_map(|(_, t)| t.restore_from()).collect()
}

fn as_json(s: &Set, whole: bool) -> Value {
    let t = &s.tags;
    let reason = if let SetState::Broken(why) = &s.state { Some(why) } else { None };
    let instances: BTreeSet<String> = s.snapshots.iter().flat_map(|(_, t)| &t.instances).map(|i| i.instance.to_string()).collect();
    let mut v = json!({
        "id": s.id, "at": s.at, "state": s.state.word(), "reason": reason, "hosts": s.hosts, "instances": instances,
        "family": s.family(), "policy": t.policy, "size_gib": s.size_gib(), "volumes": s.snapshots.len(), "set_size": t.set_size,
        "progress": s.progress(), "frozen_at": t.frozen_at, "thawed_at": t.thawed_at, "window_ms": t.window_ms,
        "restore_from": restore_from(s), "keep_until": kept(s),
    });
    if whole {
        let one = |(snap, t): &(coordinator::ports::Snapshot, SetTags)| {
            json!({
                "snapshot": snap.snapshot, "volume": snap.volume, "started": snap.started, "state": snap.state, "progress": snap.progress,
                "size_gib": snap.size_gib, "host": t.host, "device": t.device, "mount": t.mount, "roles": t.roles, "kind": kind(t),
                "journals": t.instances, "tags": to_tags(t),
            })
        };
        v["snapshots"] = s.snapshots.iter().map(one).collect();
    }
    v
}
