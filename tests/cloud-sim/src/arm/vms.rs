//! Groups, VMs and disks: what is read before anything is done.

use super::id;
use super::page::page;
use super::sim::Sim;
use super::wire::{Ask, Fail, json_reply};
use super::world::{ArmDisk, Vm};
use crate::clock::{iso, wall_ms};
use crate::wire::Reply;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Subscription, then group, before anything in it.
pub fn groups_exist(sim: &Sim, ask: &Ask) -> Result<(), Fail> {
    let Some(t) = &ask.target else { return Ok(()) };
    let (world, subscription) = (sim.world(), id::key(&t.subscription));
    if !world.groups.keys().any(|(s, _)| *s == subscription) {
        return Err(Fail::new(404, "SubscriptionNotFound", format!("The subscription '{}' could not be found.", t.subscription)));
    }
    match &t.group {
        Some(group) if !world.groups.contains_key(&(subscription, id::key(group))) => {
            Err(Fail::new(404, "ResourceGroupNotFound", format!("Resource group '{group}' could not be found.")))
        }
        _ => Ok(()),
    }
}

pub fn groups(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let (world, t) = (sim.world(), ask.target());
    let one = |(name, location): &(String, String)| {
        json!({
            "id": format!("/subscriptions/{}/resourceGroups/{name}", t.subscription), "name": name, "location": location,
            "type": "Microsoft.Resources/resourceGroups", "properties": { "provisioningState": "Succeeded" },
        })
    };
    let of = |(s, _): &&(String, String)| *s == id::key(&t.subscription);
    if let Some(group) = &t.group {
        let found = world.groups.get(&(id::key(&t.subscription), id::key(group)));
        return found.map(|g| json_reply(200, &one(g))).ok_or_else(|| Fail::not_found(&ask.id()));
    }
    let all: Vec<Value> = world.groups.iter().filter(|(k, _)| of(k)).map(|(_, g)| one(g)).collect();
    Ok(json_reply(200, &json!({ "value": all })))
}

/// A steady UUID for what has an id.
pub fn vm_uuid(id: &str) -> String {
    let hex = format!("{:x}", Sha256::digest(id::key(id).as_bytes()));
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

pub fn get(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let t = ask.target();
    let of = id::of(&t.subscription, t.group.as_deref().unwrap_or_default(), "virtualMachines", t.name.as_deref().unwrap_or_default());
    let world = sim.world();
    let vm = world.vms.get(&id::key(&of)).ok_or_else(|| Fail::not_found(&of))?;
    let ready = world.host(&of).is_some_and(|h| h.online);
    if t.child.is_some() {
        return Ok(json_reply(200, &instance_view(vm, ready)));
    }
    let mut value = render(vm);
    if ask.param("$expand").is_some_and(|e| e.eq_ignore_ascii_case("instanceView")) {
        value["properties"]["instanceView"] = instance_view(vm, ready);
    }
    Ok(json_reply(200, &value))
}

pub fn list(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let world = sim.world();
    let views = ask.param("$expand").is_some_and(|e| e.eq_ignore_ascii_case("instanceView")) || ask.param("statusOnly").is_some();
    Ok(page(sim, ask, &world.vms, |vm| {
        let mut value = render(vm);
        if views {
            value["properties"]["instanceView"] = instance_view(vm, world.host(&vm.id()).is_some_and(|h| h.online));
        }
        value
    }))
}

fn instance_view(vm: &Vm, ready: bool) -> Value {
    let agent = if ready { ("ready", "Ready") } else { ("unresponsive", "Not Ready") };
    json!({
        "vmAgent": {
            "vmAgentVersion": "2.9.1.1",
            "statuses": [{ "code": format!("ProvisioningState/{}", agent.0), "level": "Info", "displayStatus": agent.1, "message": agent.1 }],
        },
        "disks": [],
        "statuses": [
            { "code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded" },
            { "code": format!("PowerState/{}", vm.power), "level": "Info", "displayStatus": format!("VM {}", vm.power) },
        ],
    })
}

pub fn render(vm: &Vm) -> Value {
    let managed = |d: &ArmDisk| json!({ "id": d.id, "storageAccountType": d.sku });
    let data: Vec<Value> = vm
        .data_disks
        .iter()
        .map(|a| {
            json!({
                "lun": a.lun, "name": a.disk.name, "createOption": "Attach", "caching": a.caching, "writeAcceleratorEnabled": false,
                "managedDisk": managed(&a.disk), "diskSizeGB": a.disk.size, "toBeDetached": false, "deleteOption": "Detach",
            })
        })
        .collect();
    let mut value = json!({
        "id": vm.id(), "name": vm.name, "type": "Microsoft.Compute/virtualMachines", "location": vm.location, "tags": vm.tags,
        "properties": {
            "vmId": vm_uuid(&vm.id()), "provisioningState": "Succeeded", "hardwareProfile": { "vmSize": vm.size },
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "osProfile": { "computerName": vm.name, "adminUsername": "azure", "allowExtensionOperations": true },
            "networkProfile": { "networkInterfaces": [] },
            "storageProfile": {
                "osDisk": {
                    "osType": "Linux", "name": vm.os_disk.name, "createOption": "FromImage", "caching": "ReadWrite",
                    "managedDisk": managed(&vm.os_disk), "diskSizeGB": vm.os_disk.size, "deleteOption": "Detach",
                },
                "dataDisks": data,
            },
        },
    });
    if !vm.zones.is_empty() {
        value["zones"] = json!(vm.zones);
    }
    value
}

pub fn disk(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let world = sim.world();
    world.disks.get(&id::key(&ask.id())).map(|d| json_reply(200, &render_disk(d))).ok_or_else(|| Fail::not_found(&ask.id()))
}

pub fn disks(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    Ok(page(sim, ask, &sim.world().disks, render_disk))
}

/// GiB → (IOPS, MB/s) of a Premium SSD of that size, roughly as its table has it.
fn premium(size: u32) -> (u64, u64) {
    match size {
        0..=32 => (120, 25),
        33..=64 => (240, 50),
        65..=128 => (500, 100),
        129..=256 => (1_100, 125),
        257..=512 => (2_300, 150),
        513..=1024 => (5_000, 200),
        _ => (7_500, 250),
    }
}

pub fn render_disk(d: &ArmDisk) -> Value {
    let (iops, mbps) = if d.hydrates() { (3_000, 125) } else { premium(d.size) };
    let creation = match &d.source {
        Some(s) => json!({ "createOption": "Copy", "sourceResourceId": s }),
        None => json!({ "createOption": "Empty" }),
    };
    let mut value = json!({
        "id": d.id, "name": d.name, "type": "Microsoft.Compute/disks", "location": d.location, "tags": d.tags,
        "sku": { "name": d.sku, "tier": d.sku.split('_').next().unwrap_or_default() },
        "properties": {
            "creationData": creation, "diskSizeGB": d.size, "diskSizeBytes": u64::from(d.size) << 30,
            "diskIOPSReadWrite": d.iops.unwrap_or(iops), "diskMBpsReadWrite": d.mbps.unwrap_or(mbps),
            "diskState": if d.vm.is_empty() { "Unattached" } else { "Attached" },
            "provisioningState": d.state.as_deref().unwrap_or("Succeeded"), "timeCreated": "2026-01-01T00:00:00.000Z",
            "uniqueId": vm_uuid(&d.id), "encryption": { "type": "EncryptionAtRestWithPlatformKey" },
            "networkAccessPolicy": "AllowAll", "publicNetworkAccess": "Enabled",
            "LastOwnershipUpdateTime": iso(wall_ms()),
        },
    });
    if !d.vm.is_empty() {
        value["managedBy"] = json!(d.vm);
    }
    if !d.zones.is_empty() {
        value["zones"] = json!(d.zones);
    }
    if d.shared {
        value["properties"]["maxShares"] = json!(2);
    }
    value
}
