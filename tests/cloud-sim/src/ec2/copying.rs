//! What is done with a finished snapshot: copy, delete, share, lock, fast restore.

use super::{Ask, tags, xml::Xml};
use crate::clock::{boot_ms, iso, wall_ms};
use crate::wire::Fail;
use crate::world::{Fate, Lock, Snapshot, World, new_id};

fn there<'a>(world: &'a mut World, region: &str, id: &str) -> Result<&'a mut Snapshot, Fail> {
    let found = world.snapshots.get_mut(id).filter(|s| s.region == region);
    found.ok_or_else(|| Fail::new("InvalidSnapshot.NotFound", format!("The snapshot '{id}' does not exist.")))
}

/// Called in the destination region. Tags are not copied with it; the copy has its own id, status and no volume.
pub fn copy(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let (id, from) = (ask.need("SourceSnapshotId")?.to_owned(), ask.need("SourceRegion")?.to_owned());
    let tags = tags::specified(&ask.query)?;
    let mut world = ask.sim.world();
    let source = there(&mut world, &from, &id)?.clone();
    if source.status() != "completed" {
        return Err(Fail::new("IncorrectState", format!("The snapshot '{id}' is not in the 'completed' state")));
    }
    ask.dry_run()?;
    let copy = Snapshot {
        id: new_id("snap"),
        // "Snapshots created by a copy have an arbitrary volume ID."
        volume: "vol-ffffffff".into(),
        instance: None,
        region: ask.region.clone(),
        description: ask.query.get("Description").unwrap_or_default().to_owned(),
        encrypted: source.encrypted || ask.query.flag("Encrypted"),
        tags,
        start_wall_ms: wall_ms(),
        start_boot_ms: boot_ms(),
        fate: Fate::Completes,
        lock: None,
        shared_with: Default::default(),
        fast_restore: Default::default(),
        ..source
    };
    x.text("snapshotId", &copy.id);
    super::describe::tag_set(x, &copy.tags);
    world.snapshots.insert(copy.id.clone(), copy);
    Ok(())
}

/// The bytes go with the last snapshot that has them.
pub fn delete(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let id = ask.need("SnapshotId")?.to_owned();
    let mut world = ask.sim.world();
    if there(&mut world, &ask.region, &id)?.lock.is_some() {
        return Err(Fail::new("SnapshotLocked", format!("The snapshot '{id}' is locked and can't be deleted")));
    }
    ask.dry_run()?;
    let gone = world.snapshots.remove(&id);
    if let Some(dir) = gone.and_then(|s| s.dir).filter(|d| !world.snapshots.values().any(|s| s.dir.as_ref() == Some(d))) {
        let _ = std::fs::remove_dir_all(dir);
    }
    x.text("return", true);
    Ok(())
}

pub fn share(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let id = ask.need("SnapshotId")?.to_owned();
    let users = |key: &str| {
        let groups = ask.query.groups(key);
        groups.iter().filter_map(|g| g.get("UserId").or_else(|| g.get("Group")).map(str::to_owned)).collect::<Vec<_>>()
    };
    let (mut add, mut remove) = (users("CreateVolumePermission.Add"), users("CreateVolumePermission.Remove"));
    match ask.query.get("OperationType") {
        Some("add") => add.extend(ask.query.list("UserId")),
        Some("remove") => remove.extend(ask.query.list("UserId")),
        _ => {}
    }
    if add.is_empty() && remove.is_empty() {
        return Err(Fail::new("InvalidParameterCombination", "Nobody to add or to remove"));
    }
    ask.dry_run()?;
    let mut world = ask.sim.world();
    let snapshot = there(&mut world, &ask.region, &id)?;
    snapshot.shared_with.extend(add);
    snapshot.shared_with.retain(|u| !remove.contains(u));
    x.text("return", true);
    Ok(())
}

/// LockDuration 1–36500 days or ExpirationDate; CoolOffPeriod 1–72 hours, in compliance mode only.
pub fn lock(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let (id, mode) = (ask.need("SnapshotId")?.to_owned(), ask.need("LockMode")?.to_owned());
    let number = |key: &str| ask.query.get(key).map(|v| v.parse::<u32>().unwrap_or(0));
    let (days, cool_off) = (number("LockDuration"), number("CoolOffPeriod"));
    let until = ask.query.get("ExpirationDate").map(str::to_owned);
    let bad = |what: &str| Err(Fail::new("InvalidParameterValue", what));
    if !["governance", "compliance"].contains(&mode.as_str()) {
        return bad("LockMode must be governance or compliance");
    }
    if days.is_some() == until.is_some() {
        return Err(Fail::new("InvalidParameterCombination", "Either LockDuration or ExpirationDate is needed"));
    }
    if days.is_some_and(|d| !(1..=36_500).contains(&d)) {
        return bad("LockDuration must be between 1 and 36500 days");
    }
    if cool_off.is_some_and(|h| mode != "compliance" || !(1..=72).contains(&h)) {
        return bad("CoolOffPeriod must be between 1 and 72 hours, in compliance mode");
    }
    ask.dry_run()?;
    let now = wall_ms();
    let mut world = ask.sim.world();
    let snapshot = there(&mut world, &ask.region, &id)?;
    let state = match (mode.as_str(), cool_off) {
        ("governance", _) => "governance",
        (_, Some(_)) => "compliance-cooloff",
        _ => "compliance",
    };
    let expires = until.clone().unwrap_or_else(|| iso(now + i64::from(days.unwrap_or(0)) * 86_400_000));
    snapshot.lock = Some(Lock { mode, days, until, cool_off_hours: cool_off, created_wall_ms: now });
    x.text("snapshotId", &id).text("lockState", state).maybe("lockDuration", days).maybe("coolOffPeriod", cool_off);
    x.text("lockCreatedOn", iso(now)).text("lockDurationStartTime", iso(now)).text("lockExpiresOn", expires);
    Ok(())
}

pub fn fast_restore(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let (ids, zones) = (ask.query.list("SourceSnapshotId"), ask.query.list("AvailabilityZone"));
    if ids.is_empty() || zones.is_empty() {
        return Err(Fail::new("MissingParameter", "SourceSnapshotIds and AvailabilityZones are needed"));
    }
    ask.dry_run()?;
    let mut world = ask.sim.world();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for id in ids {
        match there(&mut world, &ask.region, &id) {
            Ok(s) => {
                s.fast_restore.extend(zones.iter().cloned());
                good.extend(zones.iter().map(|z| (id.clone(), z.clone())));
            }
            Err(fail) => bad.push((id, fail)),
        }
    }
    let account = &ask.sim.config.account;
    x.set("successful", good, |x, (id, zone)| {
        x.text("snapshotId", id).text("availabilityZone", zone).text("state", "enabling").text("ownerId", account);
        x.text("stateTransitionReason", "Client.UserInitiated").text("enablingTime", iso(wall_ms()));
    });
    x.set("unsuccessful", bad, |x, (id, fail)| {
        x.text("snapshotId", id);
        x.set("fastSnapshotRestoreStateErrorSet", [fail], |x, fail| {
            x.node("error", |x| {
                x.text("code", fail.code).text("message", fail.message);
            });
        });
    });
    Ok(())
}
