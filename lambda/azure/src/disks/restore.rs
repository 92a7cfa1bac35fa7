//! Managed disks of snapshots, made and attached. Each has a name of its own that follows from the run and the snapshot, so that a
//! repetition makes nothing twice. They are attached by an operation that names them alone (`attachDetachDataDisks`): an update of
//! the machine would have to repeat every other disk, and would detach what it forgets.

use super::{ManagedDisks, look, tag_map};
use crate::client::models;
use crate::fail::Fail;
use crate::id::{DiskId, VmId};
use crate::lro::{End, LATER};
use coordinator::Target;
use coordinator::ports::{Berth, MadeVolume, NewVolume, VolumeState, Volumes};
use coordinator::restore::{Plan, Planned};
use models::creation_data::CreateOption;
use protocol::Code;
use protocol::wire::Problem;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::time::Duration;

const VM_READ: &str = "Microsoft.Compute/virtualMachines/read";
const DISK_READ: &str = "Microsoft.Compute/disks/read";
const DISK_WRITE: &str = "Microsoft.Compute/disks/write";
const VM_WRITE: &str = "Microsoft.Compute/virtualMachines/attachDetachDataDisks/action";
/// A copy is there at once, its blocks follow; an attachment takes seconds to minutes.
const WITHIN: Duration = Duration::from_secs(15 * 60);
const RUN: &str = "snapfreeze-restore";
const OF: &str = "snapfreeze-restore-of";

impl Volumes for ManagedDisks {
    async fn berth(&self, target: &Target) -> Result<Berth, Problem> {
        let vm = self.vm(target).await?;
        let taken = look::attached(&vm).into_iter().map(|a| a.key).collect();
        let zone = vm.zones.first().cloned().unwrap_or_default();
        Ok(Berth { place: format!("{} {zone}", vm.resource.location).trim().to_owned(), taken })
    }

    async fn made(&self, plan: &Plan) -> Result<Vec<MadeVolume>, Problem> {
        let vm = self.vm(&plan.target).await?;
        let mut all = Vec::new();
        for p in &plan.volumes {
            let id = disk_of(&plan.target, &p.new)?;
            match self.arm.disk(&id).await {
                Ok(disk) => all.push(made(&id, &disk, &vm, &p.new)?),
                Err(f) if f.missing() => {}
                Err(f) => return Err(f.problem(DISK_READ)),
            }
        }
        Ok(all)
    }

    async fn make(&self, target: &Target, p: &Planned) -> Result<String, Problem> {
        let new = &p.new;
        let id = disk_of(target, new)?;
        let failed = |why: String| Problem::new(Code::CloudRefused, format!("{DISK_WRITE} of {}: {why}", id.name()));
        let sent = self.arm.put_disk(&id, disk(new)).await.map_err(|f| f.problem(DISK_WRITE))?;
        match tokio::time::timeout(WITHIN, self.arm.finish(sent, LATER)).await {
            Ok(End::Succeeded(_)) => Ok(id.to_string()),
            Ok(End::Failed { code, message }) => Err(failed(format!("{code}: {message}"))),
            Ok(End::Lost(why)) => Err(failed(why)),
            Err(_) => Err(failed("it was not made in time".into())),
        }
    }

    async fn attach(&self, target: &Target, volumes: &[(Planned, String)]) -> Result<(), Problem> {
        let vm: VmId = target.id.parse()?;
        let one = |(p, volume): &(Planned, String)| models::DataDisksToAttach {
            lun: p.device.strip_prefix("lun:").and_then(|n| n.parse().ok()),
            caching: known(&p.new.kind.caching),
            ..models::DataDisksToAttach::new(volume.clone())
        };
        let request = models::AttachDetachDataDisksRequest {
            data_disks_to_attach: volumes.iter().map(one).collect(),
            ..models::AttachDetachDataDisksRequest::default()
        };
        let sent = self.arm.attach_disks(&vm, request).await.map_err(|f| f.problem(VM_WRITE))?;
        let failed = |why: String| Err(Problem::new(Code::CloudRefused, format!("{VM_WRITE}: {why}")));
        match tokio::time::timeout(WITHIN, self.arm.finish(sent, LATER)).await {
            Ok(End::Succeeded(_)) => Ok(()),
            Ok(End::Failed { code, message }) => failed(format!("{code}: {message}")),
            // Whether they are attached is seen by the next look.
            Ok(End::Lost(_)) | Err(_) => Ok(()),
        }
    }

    fn key(&self, p: &Planned, _: &str) -> String {
        p.device.clone()
    }
}

impl ManagedDisks {
    async fn vm(&self, target: &Target) -> Result<models::VirtualMachine, Problem> {
        let id: VmId = target.id.parse()?;
        self.arm.vm(&id).await.map_err(|f: Fail| match f.missing() {
            true => {
                Problem::new(Code::CloudRefused, format!("no machine {} in resource group {}", id.name(), id.group())).next("az vm list")
            }
            false => f.problem(VM_READ),
        })
    }
}

/// In the machine's resource group.
fn disk_of(target: &Target, new: &NewVolume) -> Result<DiskId, Problem> {
    let vm: VmId = target.id.parse()?;
    let hash: String = Sha256::digest(new.snapshot.to_lowercase().as_bytes()).iter().take(4).map(|b| format!("{b:02x}")).collect();
    DiskId::new(vm.subscription(), vm.group(), &format!("sf-restore-{}-{hash}", new.run))
}

fn disk(new: &NewVolume) -> models::Disk {
    let point = new.snapshot.to_lowercase().contains("/diskrestorepoints/");
    let option = if point { CreateOption::Restore } else { CreateOption::Copy };
    let source = models::CreationData { source_resource_id: Some(new.snapshot.clone()), ..models::CreationData::new(option) };
    let (location, zone) = new.place.split_once(' ').unwrap_or((&new.place, ""));
    // A zone-redundant disk is in no zone alone.
    let zone = if new.kind.name.ends_with("_ZRS") { "" } else { zone };
    let tags = serde_json::json!({ RUN: new.run, OF: new.snapshot.chars().take(256).collect::<String>(),
        "snapfreeze-restored": new.of.chars().filter(|c| !"<>%&\\?".contains(*c)).take(256).collect::<String>() });
    // IOPS and throughput are what they are for all but these two.
    let own = matches!(new.kind.name.as_str(), "PremiumV2_LRS" | "UltraSSD_LRS");
    models::Disk {
        sku: known(&new.kind.name).map(|name| models::DiskSku { name: Some(name), tier: None }),
        zones: if zone.is_empty() { Vec::new() } else { vec![zone.to_owned()] },
        properties: Some(models::DiskProperties {
            disk_iops_read_write: new.kind.iops.filter(|_| own).map(i64::from),
            disk_m_bps_read_write: new.kind.throughput.filter(|_| own).map(i64::from),
            ..models::DiskProperties::new(source)
        }),
        ..models::Disk::new(models::Resource { tags: Some(tags), ..models::Resource::new(location.to_owned()) })
    }
}

/// A word of the wire as the crate's enum; `None`: the cloud's own default.
fn known<T: DeserializeOwned>(word: &str) -> Option<T> {
    (!word.is_empty()).then(|| serde_json::from_value(serde_json::json!(word)).ok()).flatten()
}

fn made(id: &DiskId, disk: &models::Disk, vm: &models::VirtualMachine, new: &NewVolume) -> Result<MadeVolume, Problem> {
    if tag_map(disk.resource.tags.as_ref()).get(RUN) != Some(&new.run) {
        return Err(Problem::new(Code::CloudRefused, format!("{} is there, and was not made by this restore", id.name()))
            .next("--again WORD makes others"));
    }
    let here = look::attached(vm).into_iter().find(|a| a.disk.as_ref() == Some(id));
    let provisioning = disk.properties.as_ref().and_then(|p| p.provisioning_state.clone()).unwrap_or_default();
    let state = match (&here, disk.managed_by.as_deref(), provisioning.as_str()) {
        (Some(_), ..) => VolumeState::Attached,
        (None, Some(other), _) if other.parse::<VmId>().ok() != vm.resource.id.as_deref().and_then(|i| i.parse().ok()) => {
            VolumeState::Elsewhere(other.into())
        }
        (None, Some(_), _) => VolumeState::Attaching,
        (None, None, "Succeeded") => VolumeState::Ready,
        (None, None, bad @ ("Failed" | "Canceled")) => VolumeState::Failed(bad.into()),
        (None, None, _) => VolumeState::Making,
    };
    Ok(MadeVolume { volume: id.to_string(), snapshot: new.snapshot.clone(), state, device: here.map(|a| a.key) })
}

#[cfg(test)]
mod tests {
    use super::super::word;
    use super::*;
    use coordinator::restore::Kind;

    fn new(snapshot: &str, kind: &str) -> NewVolume {
        let kind = Kind { name: kind.into(), iops: Some(4_000), throughput: Some(200), caching: "ReadOnly".into() };
        let place = "westeurope 2".to_owned();
        NewVolume { run: "0a1b2c3d".into(), snapshot: snapshot.into(), kind, size_gib: 8, place, rate: None, of: "/data of <db1>".into() }
    }

    #[test]
    fn a_disk_is_made_as_its_original_was() {
        let snapshot = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/snapshots/n";
        let d = serde_json::to_value(disk(&new(snapshot, "Premium_LRS"))).unwrap();
        assert_eq!(d["sku"]["name"], "Premium_LRS");
        assert_eq!((&d["location"], &d["zones"][0]), (&"westeurope".into(), &"2".into()));
        assert_eq!(d["properties"]["creationData"]["createOption"], "Copy");
        assert_eq!(d["properties"]["creationData"]["sourceResourceId"], snapshot);
        assert!(d["properties"].get("diskIOPSReadWrite").is_none(), "it cannot be set: {d}");
        assert_eq!(d["tags"]["snapfreeze-restored"], "/data of db1");
        let d = serde_json::to_value(disk(&new(snapshot, "Premium_ZRS"))).unwrap();
        assert!(d.get("zones").is_none(), "{d}");
        let d = serde_json::to_value(disk(&new(snapshot, "PremiumV2_LRS"))).unwrap();
        assert_eq!((&d["properties"]["diskIOPSReadWrite"], &d["properties"]["diskMBpsReadWrite"]), (&4_000.into(), &200.into()));
        let point =
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/restorePointCollections/c/restorePoints/p/diskRestorePoints/d";
        let d = serde_json::to_value(disk(&new(point, "Premium_LRS"))).unwrap();
        assert_eq!(d["properties"]["creationData"]["createOption"], "Restore");
        assert_eq!(word(&known::<models::Caching>("ReadOnly").unwrap()), "ReadOnly");
        assert!(known::<models::Caching>("").is_none());
    }

    #[test]
    fn the_same_snapshot_has_the_same_disk_and_another_has_another() {
        let target =
            Target { id: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v".into(), name: String::new() };
        let of = |s: &str| disk_of(&target, &new(s, "")).unwrap().to_string();
        assert_eq!(of("/A"), of("/a"));
        assert_ne!(of("/a"), of("/b"));
    }
}
