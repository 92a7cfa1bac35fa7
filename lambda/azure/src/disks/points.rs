//! A restore point instead of snapshots: all disks of a machine at one moment, in one call. Where we have frozen, always
//! crash-consistent: without that word Azure would run its own pre and post scripts in the machine, and its post would thaw what we
//! hold. Where Azure is to run them, [`scripted`] leaves the word out, and looks at what Azure says that it became.
//!
//! A restore point has no tags, so each set has a collection of its own, which has them. Its disks are the set's snapshots.

use super::{ManagedDisks, list, tag_map, word};
use crate::client::{Arm, models};
use crate::fail::Fail;
use crate::id::{CollectionId, VmId};
use crate::lro::{End, SOON};
use coordinator::Target;
use coordinator::ports::{CloudVolume, Made, Snapshot, SnapshotAnswer, SnapshotCall, State};
use futures_util::future::try_join_all;
use models::restore_point_properties::ConsistencyMode;
use protocol::wire::Problem;
use protocol::{BackupId, Code, WallMs, tags};
use std::collections::{BTreeMap, BTreeSet};

const COLLECTIONS_READ: &str = "Microsoft.Compute/restorePointCollections/read";
const COLLECTIONS_WRITE: &str = "Microsoft.Compute/restorePointCollections/write";
const WRITE: &str = "Microsoft.Compute/restorePointCollections/restorePoints/write";
/// The one point of a set's collection.
const POINT: &str = "point";
/// "Overview of VM restore points": three in an hour of a machine and mode, none at the same time.
const HOUR_MS: i64 = 3_600_000;
const HOUR_MAX: usize = 3;

/// The collection that a restore point, or a disk of one, belongs to.
pub(super) fn collection_of(id: &str) -> Option<CollectionId> {
    let end = id.match_indices('/').nth(8).map_or(id.len(), |(at, _)| at);
    id[..end].parse().ok()
}

/// What carries the tags of this snapshot: itself, or its collection.
pub(super) fn tagged(id: &str) -> String {
    collection_of(id).map_or_else(|| id.to_lowercase(), |c| c.to_string().to_lowercase())
}

pub(super) async fn take(disks: &ManagedDisks, target: &Target, call: &SnapshotCall) -> SnapshotAnswer {
    match made(disks, target, call, Some(ConsistencyMode::CrashConsistent)).await {
        Scripted::Refused(p) => SnapshotAnswer::Failed(p),
        Scripted::Lost(why) | Scripted::Made { wrong: Some(why), .. } => SnapshotAnswer::Unknown(why),
        Scripted::Made { snapshots, wrong: None } => SnapshotAnswer::Accepted(snapshots),
    }
}

/// What became of a restore point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scripted {
    /// For certain there is none, and no script was run.
    Refused(Problem),
    Lost(String),
    /// It is there; `wrong`: it is not what was asked for.
    Made {
        snapshots: Vec<Made>,
        wrong: Option<String>,
    },
}

/// Azure's extension runs the machine's pre and post script around it.
pub(crate) async fn scripted(disks: &ManagedDisks, target: &Target, call: &SnapshotCall) -> Scripted {
    made(disks, target, call, None).await
}

async fn made(disks: &ManagedDisks, target: &Target, call: &SnapshotCall, mode: Option<ConsistencyMode>) -> Scripted {
    let seen = disks.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&target.id.to_lowercase()).cloned();
    let (Some(seen), Ok(vm)) = (seen, target.id.parse::<VmId>()) else {
        let why = format!("{} was not looked at before its freeze", target.id);
        return Scripted::Refused(Problem::new(Code::Internal, why));
    };
    let takes = |v: &&CloudVolume| if v.boot { !call.exclude_boot } else { !v.named(&call.exclude_volumes) };
    let (wanted, excluded): (Vec<_>, Vec<_>) = seen.volumes.iter().partition(takes);
    let group = disks.arm.group().unwrap_or(vm.group());
    let mut tags = call.tags.clone();
    tags.insert(format!("{}{}", tags::PREFIX, tags::name::SET_SIZE), wanted.len().to_string());
    let made = async {
        let id = match CollectionId::new(disks.arm.subscription(), group, &name(call, &vm)) {
            Ok(id) => id,
            Err(p) => return Scripted::Refused(p),
        };
        if let Err(f) = disks.arm.put_collection(&id, collection(&vm, &seen.location, &tags)).await {
            // No point without a collection, whatever became of that.
            return Scripted::Refused(f.problem(COLLECTIONS_WRITE));
        }
        one(disks, &id, &wanted, &excluded, mode).await
    };
    let late = || Scripted::Lost(format!("Azure did not end the restore point of {} in time", vm.name()));
    disks.clock.by(call.answer_by, made).await.unwrap_or_else(late)
}

async fn one(
    disks: &ManagedDisks,
    id: &CollectionId,
    wanted: &[&CloudVolume],
    excluded: &[&CloudVolume],
    mode: Option<ConsistencyMode>,
) -> Scripted {
    let exclude_disks = excluded.iter().map(|v| models::ApiEntityReference { id: Some(v.volume.clone()) }).collect();
    let became = mode.clone().unwrap_or(ConsistencyMode::ApplicationConsistent);
    let properties = models::RestorePointProperties { exclude_disks, consistency_mode: mode, ..models::RestorePointProperties::default() };
    let point = models::RestorePoint { properties: Some(properties), ..models::RestorePoint::default() };
    let sent = match disks.arm.put_point(id, POINT, point).await {
        Ok(sent) => sent,
        Err(f @ Fail::Refused { .. }) => return Scripted::Refused(f.problem(WRITE)),
        Err(Fail::Lost(why)) => return Scripted::Lost(format!("no answer to {WRITE}: {why}")),
    };
    match disks.arm.finish(sent, SOON).await {
        End::Succeeded(_) => {}
        End::Failed { code, message } => {
            return Scripted::Made { snapshots: Vec::new(), wrong: Some(format!("the restore point failed: {code}: {message}")) };
        }
        End::Lost(why) => return Scripted::Lost(format!("the restore point: {why}")),
    }
    match disks.arm.collection(id).await {
        Ok(c) => checked(&c, wanted, &became),
        Err(f) => Scripted::Lost(f.problem(COLLECTIONS_READ).detail),
    }
}

/// The disks that the point really has: these, and no other. One that came since the look would be in it, one that went would not.
fn checked(c: &models::RestorePointCollection, wanted: &[&CloudVolume], became: &ConsistencyMode) -> Scripted {
    let points = c.properties.as_ref().map(|p| p.restore_points.as_slice()).unwrap_or_default();
    let [point] = points else { return Scripted::Lost(format!("{} restore points instead of one", points.len())) };
    let same = |v: &str| v.to_lowercase();
    // As the look wrote them, so that they are found again by the same name.
    let written = |volume: String| wanted.iter().find(|v| same(&v.volume) == same(&volume)).map_or(volume, |v| v.volume.clone());
    let snapshots: Vec<Made> = parts(point).into_iter().map(|p| Made { snapshot: p.snapshot, volume: written(p.volume) }).collect();
    let has: BTreeSet<String> = snapshots.iter().map(|m| same(&m.volume)).collect();
    let should: BTreeSet<String> = wanted.iter().map(|v| same(&v.volume)).collect();
    let mode = point.properties.as_ref().and_then(|p| p.consistency_mode.as_ref());
    let wrong = if mode != Some(became) {
        Some(format!("Azure made the restore point {}", mode.map_or_else(|| "of no known kind".into(), word)))
    } else if has != should || snapshots.len() != wanted.len() {
        Some("the machine's disks changed since they were looked at".into())
    } else {
        None
    };
    Scripted::Made { snapshots, wrong }
}

struct Part {
    snapshot: String,
    volume: String,
    size_gib: u64,
}

/// One per disk. None while it is being made.
fn parts(point: &models::RestorePoint) -> Vec<Part> {
    let Some(storage) = point.properties.as_ref().and_then(|p| p.source_metadata.as_ref()).and_then(|m| m.storage_profile.as_ref()) else {
        return Vec::new();
    };
    let part = |disk: Option<&models::ManagedDiskParameters>, of: Option<&models::DiskRestorePointAttributes>, gib: Option<i32>| {
        Some(Part {
            snapshot: of?.sub_resource_read_only.id.clone()?,
            volume: disk?.sub_resource.id.clone()?,
            size_gib: gib.and_then(|g| u64::try_from(g).ok()).unwrap_or(0),
        })
    };
    let os = storage.os_disk.iter().filter_map(|d| part(d.managed_disk.as_ref(), d.disk_restore_point.as_ref(), d.disk_size_gb));
    let data = storage.data_disks.iter().filter_map(|d| part(d.managed_disk.as_ref(), d.disk_restore_point.as_ref(), d.disk_size_gb));
    os.chain(data).collect()
}

fn collection(vm: &VmId, location: &str, tags: &BTreeMap<String, String>) -> models::RestorePointCollection {
    models::RestorePointCollection {
        properties: Some(models::RestorePointCollectionProperties {
            source: Some(models::RestorePointCollectionSourceProperties { id: Some(vm.to_string()), ..Default::default() }),
            ..Default::default()
        }),
        ..models::RestorePointCollection::new(models::Resource {
            tags: Some(serde_json::json!(tags)),
            ..models::Resource::new(location.to_owned())
        })
    }
}

/// `sf-<backup id>-<hash of the machine>`: another one for every machine of a group.
fn name(call: &SnapshotCall, vm: &VmId) -> String {
    let hash = vm.to_string().to_lowercase().bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    format!("sf-{}-{hash:08x}", call.id.uuid().simple())
}

/// The disks of every restore point whose collection has such tags. None for who may not read them: such an identity makes none. A collection without a point, and a point that is not there yet,
/// is one entry: `reap` finds it.
pub(super) async fn all(
    arm: &Arm,
    group: Option<&str>,
    wanted: &(impl Fn(&BTreeMap<String, String>) -> bool + Sync),
) -> Result<Vec<Snapshot>, Problem> {
    let problem = |f: Fail| f.problem(COLLECTIONS_READ);
    let none = |f: Fail| if f.missing() || f.denied() { Ok(Vec::new()) } else { Err(f) };
    let found = arm.collections(group).await.or_else(none).map_err(problem)?;
    let ours = found.iter().filter(|c| wanted(&tag_map(c.resource.tags.as_ref())));
    let ids: Vec<CollectionId> = ours.filter_map(|c| c.resource.id.as_deref()?.parse().ok()).collect();
    let whole = try_join_all(ids.iter().map(|id| async {
        match arm.collection(id).await {
            Ok(c) => Ok(snapshots(id, &c)),
            Err(f) if f.missing() => Ok(Vec::new()),
            Err(f) => Err(problem(f)),
        }
    }));
    Ok(whole.await?.into_iter().flatten().collect())
}

fn snapshots(id: &CollectionId, c: &models::RestorePointCollection) -> Vec<Snapshot> {
    let tags = tag_map(c.resource.tags.as_ref());
    let one = |snapshot: String, volume: String, started, state, size_gib| Snapshot {
        snapshot,
        volume,
        started,
        state,
        progress: if state == State::Completed { 100 } else { 0 },
        size_gib,
        tags: tags.clone(),
    };
    let points = c.properties.as_ref().map(|p| p.restore_points.as_slice()).unwrap_or_default();
    let Some(point) = points.first() else {
        // Just made, or what a refused point has left: `reap` waits before it says which.
        return vec![one(id.to_string(), String::new(), made_at(&tags), State::Pending, 0)];
    };
    let p = point.properties.as_ref();
    let started = p.and_then(|p| p.time_created).map_or_else(|| made_at(&tags), list::wall);
    let state = match p.and_then(|p| p.provisioning_state.as_deref()) {
        Some("Succeeded") => State::Completed,
        Some("Failed" | "Canceled" | "Deleting") => State::Failed,
        _ => State::Pending,
    };
    let parts = parts(point);
    if parts.is_empty() {
        return vec![one(format!("{id}/restorePoints/{POINT}"), String::new(), started, state, 0)];
    }
    parts.into_iter().map(|part| one(part.snapshot, part.volume, started, state, part.size_gib)).collect()
}

/// By the backup id, which is a UUIDv7.
fn made_at(of: &BTreeMap<String, String>) -> WallMs {
    let id = of.get(&format!("{}{}", tags::PREFIX, tags::name::BACKUP_ID)).and_then(|t| t.parse::<BackupId>().ok());
    let at = id.and_then(|id| id.uuid().get_timestamp()).map(|t| t.to_unix());
    WallMs(at.map_or(0, |(s, ns)| i64::try_from(s * 1000 + u64::from(ns) / 1_000_000).unwrap_or(0)))
}

pub(super) async fn retag(arm: &Arm, id: &CollectionId, tags: &BTreeMap<String, String>) -> Result<(), Problem> {
    // A PATCH replaces all tags: what is there is read first.
    let mut all = tag_map(arm.collection(id).await.map_err(|f| f.problem(COLLECTIONS_READ))?.resource.tags.as_ref());
    all.extend(tags.clone());
    let update_resource = models::UpdateResource { tags: Some(serde_json::json!(all)) };
    let update = models::RestorePointCollectionUpdate { update_resource, ..models::RestorePointCollectionUpdate::default() };
    arm.patch_collection(id, update).await.map_err(|f| f.problem(COLLECTIONS_WRITE))
}

/// Refused before the freeze rather than by Azure inside the window.
pub(super) async fn limits(arm: &Arm, vm: &VmId, now: WallMs) -> Result<Option<Problem>, Problem> {
    let problem = |f: Fail| f.problem(COLLECTIONS_READ);
    let group = arm.group().unwrap_or(vm.group());
    let found = arm.collections(Some(group)).await.or_else(|f| if f.missing() { Ok(Vec::new()) } else { Err(f) }).map_err(problem)?;
    let source = |c: &models::RestorePointCollection| c.properties.as_ref()?.source.as_ref()?.id.as_deref()?.parse::<VmId>().ok();
    let ids =
        found.iter().filter(|c| source(c).as_ref() == Some(vm)).filter_map(|c| c.resource.id.as_deref()?.parse::<CollectionId>().ok());
    let ids: Vec<CollectionId> = ids.collect();
    let whole = try_join_all(ids.iter().map(|id| arm.collection(id))).await.map_err(problem)?;
    let points: Vec<_> =
        whole.iter().filter_map(|c| c.properties.as_ref()).flat_map(|p| &p.restore_points).filter_map(|p| p.properties.as_ref()).collect();
    let refuse = |detail: String, next: &str| Ok(Some(Problem::new(Code::CloudRefused, detail).next(next)));
    if points.iter().any(|p| matches!(p.provisioning_state.as_deref(), Some("Creating" | "Updating"))) {
        return refuse(format!("another restore point of {} is being made", vm.name()), "wait until it is there");
    }
    let lately = points.iter().filter(|p| p.consistency_mode.as_ref() == Some(&ConsistencyMode::CrashConsistent));
    let lately = lately.filter_map(|p| p.time_created).filter(|at| now.0 - list::wall(*at).0 < HOUR_MS).count();
    if lately >= HOUR_MAX {
        let detail = format!("{} has had {lately} restore points in an hour; Azure takes {HOUR_MAX}", vm.name());
        return refuse(detail, "wait, or use snapshots: take snapshotter out of the policy");
    }
    Ok(None)
}

/// "Overview of VM restore points", limitations of crash-consistent ones.
pub(super) fn unsupported(v: &CloudVolume, facts: Option<&models::Disk>) -> Option<Problem> {
    let why = ["PremiumV2_LRS", "UltraSSD_LRS", "accelerated"].into_iter().find(|w| v.kind.split(' ').any(|k| k == *w));
    let shared = facts.and_then(|d| d.properties.as_ref()?.max_shares).is_some_and(|n| n > 1);
    let why = why.or(shared.then_some("shared"))?;
    let detail = format!("{} cannot be in a crash-consistent restore point ({why})", v.key);
    Some(Problem::new(Code::CloudRefused, detail).next("use snapshots: take snapshotter out of the policy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_the_tags_is_found_from_every_part() {
        let c = CollectionId::new("s", "g", "sf-1").unwrap();
        for id in [c.to_string(), format!("{c}/restorePoints/point"), format!("{c}/restorePoints/point/diskRestorePoints/d_1")] {
            assert_eq!(collection_of(&id), Some(c.clone()), "{id}");
            assert_eq!(tagged(&id), c.to_string().to_lowercase());
        }
        let snapshot = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/snapshots/n";
        assert_eq!((collection_of(snapshot), tagged(snapshot)), (None, snapshot.to_lowercase()));
        assert_eq!(collection_of(""), None);
    }
}
