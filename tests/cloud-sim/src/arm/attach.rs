//! Disks of snapshots, and their attachment: Disks – Create Or Update, Virtual Machines – Attach Detach Data Disks (2024-07-01).

use super::fault::ArmFault;
use super::id;
use super::identity;
use super::lro::{self, Fate};
use super::sim::Sim;
use super::tags;
use super::vms::{render, render_disk};
use super::wire::{Ask, Fail, json_reply};
use super::world::{ArmDisk, Attached};
use crate::plug;
use crate::wire::Reply;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const SKUS: [&str; 7] =
    ["Standard_LRS", "Premium_LRS", "StandardSSD_LRS", "UltraSSD_LRS", "Premium_ZRS", "StandardSSD_ZRS", "PremiumV2_LRS"];
const WORK: Duration = Duration::from_millis(200);

pub fn put(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let new = plan(sim, ask)?;
    let key = id::key(&new.id);
    if let Some(known) = sim.world().disks.get(&key) {
        if known.source != new.source {
            return Err(Fail::new(409, "PropertyChangeNotAllowed", "Changing property 'creationData' is not allowed."));
        }
        return Ok(json_reply(200, &render_disk(known)));
    }
    let (body, location, fate) = (render_disk(&new), new.location.clone(), Fate::of(faults));
    sim.world().disks.insert(key.clone(), new);
    let shared = sim.clone();
    Ok(lro::accept(sim, ask, &location, 202, Some(&body), move |operation| async move {
        tokio::time::sleep(WORK).await;
        lro::end_by(&shared, &operation, &fate, || settle(&shared, &key).unwrap_or(Value::Null));
    }))
}

fn settle(sim: &Sim, key: &str) -> Option<Value> {
    let mut world = sim.world();
    let d = world.disks.get_mut(key)?;
    d.state = Some("Succeeded".into());
    Some(render_disk(d))
}

fn plan(sim: &Sim, ask: &Ask) -> Result<ArmDisk, Fail> {
    let Some(location) = ask.text("/location") else {
        return Err(Fail::bad("LocationRequired", "The location property is required for this definition."));
    };
    let option = ask.text("/properties/creationData/createOption").unwrap_or_default();
    if option != "Copy" {
        return Err(Fail::bad("InvalidParameter", format!("creationData.createOption {option:?}: the double has Copy only.")));
    }
    let Some(source) = ask.text("/properties/creationData/sourceResourceId") else {
        return Err(Fail::bad("InvalidParameter", "Required parameter 'creationData.sourceResourceId' is missing (null)."));
    };
    identity::check_linked(sim, ask, "Microsoft.Compute/snapshots/beginGetAccess/action", source)?;
    let snapshot = sim.world().snapshots.get(&id::key(source)).cloned().ok_or_else(|| Fail::not_found(source))?;
    if snapshot.state != "Succeeded" || snapshot.completion_percent() < 100.0 {
        return Err(Fail::new(409, "OperationNotAllowed", "The source snapshot's background copy is not complete."));
    }
    if !snapshot.location.eq_ignore_ascii_case(location) {
        return Err(Fail::bad("InvalidParameter", "A disk must be in the location of its source."));
    }
    let sku = ask.text("/sku/name").unwrap_or("Standard_LRS");
    if !SKUS.contains(&sku) {
        return Err(Fail::bad("InvalidParameter", format!("The value '{sku}' of parameter 'sku.name' is invalid.")));
    }
    let number = |p: &str| ask.body.pointer(p).and_then(Value::as_u64);
    let (iops, mbps) = (number("/properties/diskIOPSReadWrite"), number("/properties/diskMBpsReadWrite"));
    if (iops.is_some() || mbps.is_some()) && !["PremiumV2_LRS", "UltraSSD_LRS"].contains(&sku) {
        return Err(Fail::bad("InvalidParameter", format!("diskIOPSReadWrite and diskMBpsReadWrite are not supported for {sku}.")));
    }
    let zones = ask.body.get("zones").and_then(Value::as_array).into_iter().flatten().filter_map(|z| z.as_str().map(Into::into));
    Ok(ArmDisk {
        sku: sku.into(),
        size: snapshot.size,
        iops,
        mbps,
        tags: tags::read(&ask.body)?.unwrap_or_default(),
        dir: snapshot.dir,
        id: ask.id(),
        location: location.into(),
        source: Some(source.to_owned()),
        zones: zones.collect(),
        state: Some("Creating".into()),
        ..ArmDisk::new(ask.resource_name())
    })
}

pub fn attach(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let t = ask.target();
    let vm_id = id::of(&t.subscription, t.group.as_deref().unwrap_or_default(), "virtualMachines", t.name.as_deref().unwrap_or_default());
    let wanted = ask.body.get("dataDisksToAttach").and_then(Value::as_array).cloned().unwrap_or_default();
    if wanted.is_empty() {
        return Err(Fail::bad("InvalidParameter", "dataDisksToAttach is empty (the double detaches nothing)."));
    }
    let location = {
        let world = sim.world();
        let vm = world.vms.get(&id::key(&vm_id)).ok_or_else(|| Fail::not_found(&vm_id))?;
        for w in &wanted {
            let disk = w["diskId"].as_str().unwrap_or_default();
            let known = world.disks.get(&id::key(disk)).ok_or_else(|| Fail::not_found(disk))?;
            if !known.vm.is_empty() && id::key(&known.vm) != id::key(&vm_id) {
                return Err(Fail::new(409, "AttachDiskWhileBeingDetached", format!("Disk {disk} is attached to {}.", known.vm)));
            }
            if known.zones != vm.zones && !known.zones.is_empty() {
                return Err(Fail::bad("BadRequest", format!("Disk {disk} is in another zone than the virtual machine.")));
            }
            let lun = w["lun"].as_u64();
            if vm.data_disks.iter().any(|a| Some(u64::from(a.lun)) == lun && id::key(&a.disk.id) != id::key(disk)) {
                return Err(Fail::bad("InvalidParameter", format!("A disk at LUN {lun:?} already exists.")));
            }
        }
        vm.location.clone()
    };
    let (shared, fate) = (sim.clone(), Fate::of(faults));
    Ok(lro::accept(sim, ask, &location, 202, None, move |operation| async move {
        tokio::time::sleep(WORK).await;
        for w in wanted {
            let (disk, lun) = (w["diskId"].as_str().unwrap_or_default().to_owned(), w["lun"].as_u64());
            let caching = w["caching"].as_str().unwrap_or("None").to_owned();
            one(&shared, &vm_id, &disk, lun, &caching).await;
        }
        lro::end_by(&shared, &operation, &fate, || shared.world().vms.get(&id::key(&vm_id)).map(render).unwrap_or(Value::Null));
    }))
}

async fn one(sim: &Sim, vm_id: &str, disk: &str, lun: Option<u64>, caching: &str) {
    let plugs: Option<(PathBuf, PathBuf, PathBuf)> = {
        let mut world = sim.world();
        let disks = world.host(vm_id).and_then(|h| h.disks.clone());
        let Some(d) = world.disks.get_mut(&id::key(disk)) else { return };
        if !d.vm.is_empty() {
            return;
        }
        d.vm = vm_id.to_owned();
        let d = d.clone();
        let Some(vm) = world.vms.get_mut(&id::key(vm_id)) else { return };
        let free = || (0..64).find(|n| !vm.data_disks.iter().any(|a| a.lun == *n)).unwrap_or(63);
        let lun = lun.and_then(|n| u32::try_from(n).ok()).unwrap_or_else(free);
        let file = sim.config.state.join("plugged").join(&d.name);
        let plugs = d.dir.clone().zip(disks).map(|(bytes, disks)| (bytes, file, disks.join("azure/scsi1").join(format!("lun{lun}"))));
        vm.data_disks.push(Attached { lun, caching: caching.to_owned(), disk: d });
        vm.data_disks.sort_by_key(|a| a.lun);
        plugs
    };
    if let Some((bytes, file, link)) = plugs {
        let done = tokio::task::spawn_blocking(move || plug::plug(&bytes, &file, &link)).await.map_err(std::io::Error::other);
        match done.and_then(|p| p) {
            Ok(p) => sim.world().plugged.push(p),
            Err(e) => panic!("the double could not plug {disk}: {e}"),
        }
    }
}
