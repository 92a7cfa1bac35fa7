//! What the cloud knows before the freeze: is the machine there and running, its disks, and whether each may be snapshotted.
//! Nothing here is inside a window. Azure has no rehearsal of a call: a missing right to write is found by the call itself.

use super::{ManagedDisks, Seen, list, points, word};
use crate::client::models;
use crate::fail::Fail;
use crate::id::{DiskId, VmId};
use coordinator::Target;
use coordinator::policy::Snapshotter;
use coordinator::ports::{Clock, CloudVolume, Look, SnapshotCall};
use futures_util::future::try_join_all;
use protocol::wire::Problem;
use protocol::{Code, WallMs};

/// Azure managed disks, "Limitations" of incremental snapshots: seven of a disk in five minutes, 500 of a disk.
const SOON_MAX: usize = 7;
const SOON_MS: i64 = 5 * 60_000;
const ALL_MAX: usize = 500;
/// Premium SSD v2 and Ultra: three whose background copy goes on.
const PENDING_MAX: u32 = 3;

pub(super) async fn look(disks: &ManagedDisks, target: &Target, call: &SnapshotCall) -> Result<Look, Problem> {
    let id: VmId = target.id.parse()?;
    let none = |p: Problem| Ok(Look { problem: Some(p), volumes: Vec::new() });
    let vm = match disks.arm.vm(&id).await {
        Ok(vm) => vm,
        Err(f) if f.missing() => {
            let p = Problem::new(Code::CloudRefused, format!("no machine {} in resource group {}", id.name(), id.group()));
            return none(p.next("is it the right subscription and resource group?"));
        }
        Err(f) => return Err(f.problem("Microsoft.Compute/virtualMachines/read")),
    };
    if let Some(power) = power(&vm).filter(|p| p != "running") {
        let p = Problem::new(Code::CloudRefused, format!("the machine is {power}"));
        return none(p.next(format!("start it, or take it out of the policy: az vm start --ids {id}")));
    }
    if let Some(p) = match call.snapshotter {
        Snapshotter::Disks => None,
        Snapshotter::RestorePoint => points::limits(&disks.arm, &id, disks.clock.now()).await?,
    } {
        return none(p);
    }
    let mut found = attached(&vm);
    let snapshots = disks
        .arm
        .snapshots(Some(disks.arm.group().unwrap_or(id.group())))
        .await
        .or_else(|f| if f.missing() { Ok(Vec::new()) } else { Err(f) });
    let snapshots = snapshots.map_err(|f| f.problem("Microsoft.Compute/snapshots/read"))?;
    let known = try_join_all(found.iter().filter_map(|d| d.disk.as_ref()).map(|d| disks.arm.disk(d))).await;
    let known = known.map_err(|f: Fail| f.problem("Microsoft.Compute/disks/read"))?;
    let now = disks.clock.now();
    let mut problem = None;
    let mut volumes = Vec::new();
    let mut known = known.into_iter();
    for a in &mut found {
        let Some(disk) = &a.disk else {
            // An ephemeral or unmanaged disk has no snapshots; it matters only where it would have to be in the set.
            if !(a.boot && call.exclude_boot) {
                let detail = format!("{} is no managed disk that can be snapshotted ({})", a.key, a.why);
                problem.get_or_insert_with(|| {
                    Problem::new(Code::CloudRefused, detail).next("set exclude_boot, or move the data to managed disks")
                });
            }
            continue;
        };
        let facts = known.next();
        let v = volume(a, disk, facts.as_ref(), &snapshots);
        let left_out = if a.boot { call.exclude_boot } else { v.named(&call.exclude_volumes) };
        if !left_out && problem.is_none() {
            problem = match call.snapshotter {
                Snapshotter::Disks => limits(&v, &list::of_disk(&snapshots, disk), now),
                Snapshotter::RestorePoint => points::unsupported(&v, facts.as_ref()),
            };
        }
        volumes.push(v);
    }
    let seen = Seen { location: vm.resource.location.clone(), volumes: volumes.clone() };
    disks.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(target.id.to_lowercase(), seen);
    Ok(Look { problem, volumes })
}

/// One disk of a machine.
pub(super) struct Attached {
    pub key: String,
    pub boot: bool,
    device: String,
    caching: String,
    /// `None`: not managed, or ephemeral.
    pub disk: Option<DiskId>,
    why: &'static str,
    accelerated: bool,
}

pub(super) fn attached(vm: &models::VirtualMachine) -> Vec<Attached> {
    let Some(storage) = vm.properties.as_ref().and_then(|p| p.storage_profile.as_ref()) else { return Vec::new() };
    let managed = |d: &Option<models::ManagedDiskParameters>| d.as_ref().and_then(|d| d.sub_resource.id.as_deref()?.parse::<DiskId>().ok());
    let mut all = Vec::new();
    if let Some(os) = &storage.os_disk {
        let ephemeral = os.diff_disk_settings.is_some();
        all.push(Attached {
            key: "os".into(),
            boot: true,
            device: "os".into(),
            caching: os.caching.as_ref().map(word).unwrap_or_default(),
            disk: managed(&os.managed_disk).filter(|_| !ephemeral),
            why: if ephemeral { "an ephemeral OS disk" } else { "unmanaged" },
            accelerated: os.write_accelerator_enabled == Some(true),
        });
    }
    // One that is about to be detached is still attached.
    all.extend(storage.data_disks.iter().map(|d| Attached {
        key: format!("lun:{}", d.lun),
        boot: false,
        device: format!("lun {}", d.lun),
        caching: d.caching.as_ref().map(word).unwrap_or_default(),
        disk: managed(&d.managed_disk),
        why: "unmanaged",
        accelerated: d.write_accelerator_enabled == Some(true),
    }));
    all
}

fn volume(a: &Attached, disk: &DiskId, facts: Option<&models::Disk>, snapshots: &[models::Snapshot]) -> CloudVolume {
    let sku = facts.and_then(|d| d.sku.as_ref()?.name.as_ref()).map(word).unwrap_or_default();
    let properties = facts.and_then(|d| d.properties.as_ref());
    let slow = matches!(sku.as_str(), "PremiumV2_LRS" | "UltraSSD_LRS");
    let own = list::of_disk(snapshots, disk);
    let pending = own.iter().filter(|p| p.completion_percent.is_some_and(|c| c < 100.0)).count();
    let size = properties.and_then(|p| p.disk_size_gb).and_then(|g| u64::try_from(g).ok()).unwrap_or(0);
    // What a restore must recreate.
    let mut kind = vec![sku];
    kind.extend((size > 0).then(|| format!("{size}GiB")));
    if slow {
        kind.extend(properties.and_then(|p| p.disk_iops_read_write).map(|n| format!("{n}iops")));
        kind.extend(properties.and_then(|p| p.disk_m_bps_read_write).map(|n| format!("{n}MB/s")));
    }
    kind.extend(Some(a.caching.clone()).filter(|c| !c.is_empty()).map(|c| format!("caching={c}")));
    kind.extend(a.accelerated.then(|| "accelerated".to_owned()));
    kind.extend(facts.and_then(|d| d.zones.first()).map(|z| format!("zone={z}")));
    kind.retain(|k| !k.is_empty());
    CloudVolume {
        volume: disk.to_string(),
        key: a.key.clone(),
        device: a.device.clone(),
        boot: a.boot,
        kind: kind.join(" "),
        size_gib: size,
        pending: u32::try_from(pending).unwrap_or(u32::MAX),
        pending_max: if slow { PENDING_MAX } else { u32::MAX },
        last_snapshot: own.iter().filter_map(|p| p.time_created).map(list::wall).max(),
    }
}

/// Refused before the freeze rather than by Azure inside the window.
fn limits(v: &CloudVolume, own: &[&models::SnapshotProperties], now: WallMs) -> Option<Problem> {
    let name = v.volume.rsplit('/').next().unwrap_or_default();
    let refuse = |detail: String, next: &str| Some(Problem::new(Code::CloudRefused, detail).next(next));
    let soon = own.iter().filter_map(|p| p.time_created).filter(|at| now.0 - list::wall(*at).0 < SOON_MS).count();
    if soon >= SOON_MAX {
        return refuse(format!("{name} has had {soon} snapshots in five minutes; Azure takes {SOON_MAX}"), "wait five minutes");
    }
    if own.len() >= ALL_MAX {
        return refuse(
            format!("{name} has {} incremental snapshots; Azure keeps {ALL_MAX} of a disk", own.len()),
            "snapfreezectl prune --policy FILE --yes",
        );
    }
    None
}

/// `running`, `deallocated`; `None` where Azure does not say.
fn power(vm: &models::VirtualMachine) -> Option<String> {
    let view = vm.properties.as_ref()?.instance_view.as_ref()?;
    view.statuses.iter().find_map(|s| s.code.as_deref()?.strip_prefix("PowerState/").map(str::to_owned))
}
