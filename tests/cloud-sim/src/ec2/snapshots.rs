//! CreateSnapshots, CreateSnapshot, DescribeSnapshots. The bytes are copied inside the call, before it answers.

use super::describe::{not_found, tag_set};
use super::{Ask, filter, tags, xml::Xml};
use crate::clock::{boot_ms, boot_us, iso, wall_ms};
use crate::faults::Fault;
use crate::imds;
use crate::wire::Fail;
use crate::world::{Fate, Snapshot, Tags, Volume, new_id};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// "ExcludeDataVolumeIds: up to 40".
const EXCLUDED: usize = 40;

/// What a snapshot call would do, after all its checks.
pub struct Plan {
    pub volumes: Vec<Volume>,
    tags: Tags,
    copy_tags: bool,
    description: String,
}

/// Where the bytes of one volume went.
pub struct Bytes {
    pub dir: Option<PathBuf>,
    pub from_us: u64,
    pub to_us: u64,
    pub bytes: u64,
}

/// CreateSnapshots: everything that refuses.
pub fn plan_set(ask: &Ask) -> Result<Plan, Fail> {
    let id = ask.need("InstanceSpecification.InstanceId")?.to_owned();
    let excluded = ask.query.list("InstanceSpecification.ExcludeDataVolumeId");
    let tags = tags::specified(&ask.query)?;
    if excluded.len() > EXCLUDED {
        return Err(Fail::new("InvalidParameterValue", format!("No more than {EXCLUDED} volumes can be excluded")));
    }
    let world = ask.sim.world();
    let instance = world.instances.get(&id).filter(|i| ask.at_home() && i.state != "terminated");
    let instance = instance.ok_or_else(|| not_found("InvalidInstanceID.NotFound", "instance", std::slice::from_ref(&id)))?;
    own_instance_only(ask, &id)?;
    let attached = world.volumes_of(&id);
    for volume in &excluded {
        match attached.iter().find(|v| v.id == *volume) {
            Some(v) if v.device == instance.root_device => {
                let what = format!("The root volume {volume} cannot be in ExcludeDataVolumeIds; use ExcludeBootVolume");
                return Err(Fail::new("InvalidParameterValue", what));
            }
            Some(_) => {}
            None => return Err(Fail::new("InvalidParameterValue", format!("The volume {volume} is not attached to {id}"))),
        }
    }
    let boot = ask.query.flag("InstanceSpecification.ExcludeBootVolume");
    let taken = |v: &&&Volume| !(excluded.contains(&v.id) || boot && v.device == instance.root_device);
    let volumes: Vec<Volume> = attached.iter().filter(taken).map(|v| (*v).clone()).collect();
    if volumes.is_empty() {
        return Err(Fail::new("InvalidParameterValue", format!("No volumes of {id} are left to be snapshotted")));
    }
    let copy_tags = ask.query.get("CopyTagsFromSource") == Some("volume");
    drop(world);
    finish(ask, Plan { volumes, tags, copy_tags, description: String::new() })
}

fn plan_one(ask: &Ask) -> Result<Plan, Fail> {
    let id = ask.need("VolumeId")?.to_owned();
    let tags = tags::specified(&ask.query)?;
    let volume = ask.sim.world().volumes.get(&id).filter(|_| ask.at_home()).cloned();
    let volume = volume.ok_or_else(|| not_found("InvalidVolume.NotFound", "volume", std::slice::from_ref(&id)))?;
    own_instance_only(ask, volume.instance.as_deref().unwrap_or_default())?;
    finish(ask, Plan { volumes: vec![volume], tags, copy_tags: false, description: String::new() })
}

/// Credentials from a host's IMDS stand for a role with `ArnLike ec2:SourceInstanceARN`.
fn own_instance_only(ask: &Ask, instance: &str) -> Result<(), Fail> {
    let role = format!(":assumed-role/{}/", imds::ROLE);
    match ask.wire.principal.as_deref().and_then(|p| p.split_once(&role)) {
        Some((_, own)) if own != instance => {
            Err(Fail::new("UnauthorizedOperation", "You are not authorized to perform this operation.").status(403))
        }
        _ => Ok(()),
    }
}

/// Dry run, then what only a real call draws on: spacing and pending limits, claimed under one lock.
fn finish(ask: &Ask, mut plan: Plan) -> Result<Plan, Fail> {
    plan.description = ask.query.get("Description").unwrap_or_default().to_owned();
    if plan.copy_tags {
        plan.volumes.iter().try_for_each(|v| tags::check(&together(&plan, v)))?;
    }
    ask.dry_run()?;
    let (config, now) = (&ask.sim.config.ec2, boot_ms());
    let mut world = ask.sim.world();
    for v in &plan.volumes {
        let pending = || world.snapshots.values().filter(|s| s.volume == v.id && s.status() == "pending").count();
        let limit = if ["st1", "sc1"].contains(&v.kind.as_str()) { 1 } else { 5 };
        if config.pending_limits && pending() >= limit {
            return Err(Fail::new("ConcurrentSnapshotLimitExceeded", format!("Maximum allowed pending snapshots for {} is {limit}", v.id)));
        }
        let last = world.volumes.get(&v.id).and_then(|v| v.last_snapshot_ms);
        if last.is_some_and(|at| now - at < config.per_volume_rate_ms) {
            let what = "The maximum per volume CreateSnapshot request rate has been exceeded. Use an increasing or variable sleep interval";
            return Err(Fail::new("SnapshotCreationPerVolumeRateExceeded", what));
        }
    }
    for v in &plan.volumes {
        if let Some(v) = world.volumes.get_mut(&v.id) {
            v.last_snapshot_ms = Some(now);
        }
    }
    drop(world);
    Ok(plan)
}

/// Tags that the request gives win over those of the volume.
fn together(plan: &Plan, volume: &Volume) -> Tags {
    let mut all = if plan.copy_tags { volume.tags.clone() } else { Tags::new() };
    all.extend(plan.tags.clone());
    all
}

/// Copies the volumes' directories to `STATE/snapshots/NAME`, one after the other.
pub async fn copy_bytes(ask: &Ask<'_>, volumes: &[Volume], names: &[String]) -> Result<Vec<Bytes>, Fail> {
    let config = &ask.sim.config.ec2;
    tokio::time::sleep(Duration::from_millis(config.before_copy_ms)).await;
    let to = ask.sim.config.state.join("snapshots");
    let jobs: Vec<(Option<PathBuf>, PathBuf)> = volumes.iter().zip(names).map(|(v, n)| (v.dir.clone(), to.join(n))).collect();
    let copied = tokio::task::spawn_blocking(move || jobs.iter().map(|(from, to)| one(from.as_deref(), to)).collect::<Result<Vec<_>, _>>());
    let copied = copied.await.map_err(|e| e.to_string()).and_then(|c| c.map_err(|e| e.to_string()));
    let copied = copied.map_err(|e| Fail::new("InternalError", format!("the double could not copy: {e}")).status(500))?;
    tokio::time::sleep(Duration::from_millis(config.after_copy_ms)).await;
    Ok(copied)
}

fn one(from: Option<&Path>, to: &Path) -> std::io::Result<Bytes> {
    let from_us = boot_us();
    let Some(from) = from else { return Ok(Bytes { dir: None, from_us, to_us: from_us, bytes: 0 }) };
    let sum = crate::copy::tree(from, to)?;
    Ok(Bytes { dir: Some(to.to_owned()), from_us, to_us: boot_us(), bytes: sum.bytes })
}

async fn create(ask: &Ask<'_>, plan: &Plan) -> Result<Vec<Snapshot>, Fail> {
    let (start_wall_ms, start_boot_ms) = (wall_ms(), boot_ms());
    let ids: Vec<String> = plan.volumes.iter().map(|_| new_id("snap")).collect();
    let bytes = copy_bytes(ask, &plan.volumes, &ids).await?;
    let (fate, culprit) = fate(ask, plan);
    let mut made = Vec::new();
    for ((volume, id), bytes) in plan.volumes.iter().zip(ids).zip(bytes) {
        made.push(Snapshot {
            cause: (culprit.as_deref() == Some(&volume.id)).then(|| "Client.InternalError".to_owned()),
            id,
            volume: volume.id.clone(),
            instance: volume.instance.clone(),
            region: ask.region.clone(),
            size: volume.size,
            description: plan.description.clone(),
            tags: together(plan, volume),
            encrypted: volume.encrypted,
            start_wall_ms,
            start_boot_ms,
            fate,
            complete_after_ms: ask.sim.config.ec2.complete_after_ms,
            dir: bytes.dir,
            copy_from_us: bytes.from_us,
            copy_to_us: bytes.to_us,
            bytes: bytes.bytes,
            lock: None,
            shared_with: Default::default(),
            fast_restore: Default::default(),
        });
    }
    let vanishes = ask.faults.iter().any(|(_, f)| *f == Fault::OneSnapshotVanishes);
    let kept = made.len() - usize::from(vanishes);
    ask.sim.world().snapshots.extend(made[..kept].iter().map(|s| (s.id.clone(), s.clone())));
    Ok(made)
}

fn fate(ask: &Ask, plan: &Plan) -> (Fate, Option<String>) {
    for (_, fault) in ask.faults {
        match fault {
            Fault::SnapshotsFail { after_ms } => return (Fate::Fails { after_ms: *after_ms }, None),
            Fault::SnapshotsStayPending => return (Fate::StaysPending, None),
            Fault::OneSnapshotFails { volume, after_ms } => {
                let culprit = volume.clone().or_else(|| plan.volumes.first().map(|v| v.id.clone()));
                return (Fate::Fails { after_ms: *after_ms }, culprit);
            }
            _ => {}
        }
    }
    (Fate::Completes, None)
}

pub async fn create_set(ask: &Ask<'_>, x: &mut Xml) -> Result<(), Fail> {
    let made = create(ask, &plan_set(ask)?).await?;
    x.set("snapshotSet", made, |x, s| {
        common(ask, x, &s);
        x.text("state", "pending");
    });
    Ok(())
}

pub async fn create_one(ask: &Ask<'_>, x: &mut Xml) -> Result<(), Fail> {
    for s in create(ask, &plan_one(ask)?).await? {
        common(ask, x, &s);
        x.text("status", "pending");
    }
    Ok(())
}

fn common(ask: &Ask, x: &mut Xml, s: &Snapshot) {
    x.text("snapshotId", &s.id).text("volumeId", &s.volume).text("volumeSize", s.size).text("startTime", iso(s.start_wall_ms));
    x.text("ownerId", &ask.sim.config.account).text("description", &s.description).text("encrypted", s.encrypted);
    x.text("progress", format!("{}%", s.progress())).text("sseType", "none");
    tag_set(x, &s.tags);
}

pub fn describe(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let known = ["snapshot-id", "volume-id", "status", "owner-id", "description", "start-time", "volume-size", "progress", "encrypted"];
    let (filters, ids) = (filter::read(&ask.query, &known)?, ask.query.list("SnapshotId"));
    ask.dry_run()?;
    let (world, config) = (ask.sim.world(), &ask.sim.config);
    let owners = ask.query.list("Owner");
    let ours = owners.is_empty() || owners.iter().any(|o| o == "self" || *o == config.account);
    let seen = |s: &Snapshot| s.region == ask.region && boot_ms() - s.start_boot_ms >= config.ec2.visible_after_ms;
    let missing: Vec<String> = ids.iter().filter(|i| !world.snapshots.get(*i).is_some_and(seen)).cloned().collect();
    if let Some(id) = missing.first() {
        return Err(Fail::new("InvalidSnapshot.NotFound", format!("The snapshot '{id}' does not exist.")));
    }
    let field = |s: &Snapshot, name: &str| {
        vec![match name {
            "snapshot-id" => s.id.clone(),
            "volume-id" => s.volume.clone(),
            "status" => s.status().to_owned(),
            "owner-id" => config.account.clone(),
            "description" => s.description.clone(),
            "start-time" => iso(s.start_wall_ms),
            "volume-size" => s.size.to_string(),
            "progress" => format!("{}%", s.progress()),
            _ => s.encrypted.to_string(),
        }]
    };
    let chosen =
        |s: &&Snapshot| ours && seen(s) && (ids.is_empty() || ids.contains(&s.id)) && filter::passes(&filters, &s.tags, |n| field(s, n));
    let (page, next) = filter::page(&ask.query, &ids, world.snapshots.values().filter(chosen).collect())?;
    x.set("snapshotSet", page, |x, s| {
        common(ask, x, s);
        x.text("status", s.status()).text("storageTier", "standard").text("fullSnapshotSizeInBytes", s.bytes);
        if s.status() == "completed" {
            x.text("completionTime", iso(s.start_wall_ms + s.complete_after_ms as i64));
        }
        if s.status() == "error" {
            x.text("statusMessage", s.cause.as_deref().unwrap_or("another snapshot of the set failed"));
        }
    });
    x.maybe("nextToken", next);
    Ok(())
}
