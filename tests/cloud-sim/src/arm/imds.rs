//! The metadata service of one VM: what it is, and its disks as it sees them.

use super::sim::Sim;
use super::vms::vm_uuid;
use super::wire::{Ask, Fail, json_reply};
use super::world::{ArmDisk, Vm};
use crate::wire::Reply;
use serde_json::{Value, json};

/// `GET /metadata/instance[/compute[/…]]?api-version=…&format=json`
pub fn instance(sim: &Sim, ask: &Ask, vm: &str) -> Result<Reply, Fail> {
    if !ask.header("metadata").is_some_and(|m| m.eq_ignore_ascii_case("true")) || ask.header("x-forwarded-for").is_some() {
        return Ok(json_reply(400, &json!({ "error": "Bad request: the Metadata header is required" })).failed("400"));
    }
    if ask.param("api-version").is_none() {
        let newest = json!({ "error": "Bad request. api-version was not specified in the request", "newest-versions": ["2025-04-07"] });
        return Ok(json_reply(400, &newest).failed("400"));
    }
    let vm = sim.world().vms.get(&super::id::key(vm)).cloned();
    let Some(vm) = vm else { return Ok(json_reply(404, &json!({ "error": "Not found" })).failed("404")) };
    let whole = json!({ "compute": compute(&vm), "network": { "interface": [] } });
    let rest = ask.path.trim_start_matches("/metadata/instance").trim_end_matches('/');
    match whole.pointer(rest) {
        Some(Value::String(text)) if ask.param("format").as_deref() == Some("text") => Ok(Reply::text(200, text.clone())),
        Some(value) => Ok(json_reply(200, value)),
        None => Ok(json_reply(404, &json!({ "error": "Not found" })).failed("404")),
    }
}

/// Numbers are texts here.
fn disk(d: &ArmDisk, caching: &str) -> Value {
    json!({
        "caching": caching, "createOption": "Attach", "diskSizeGB": d.size.to_string(), "name": d.name,
        "image": { "uri": "" }, "vhd": { "uri": "" }, "writeAcceleratorEnabled": "false",
        "managedDisk": { "id": d.id, "storageAccountType": d.sku },
    })
}

fn compute(vm: &Vm) -> Value {
    let data: Vec<Value> = vm
        .data_disks
        .iter()
        .map(|a| {
            let mut one = disk(&a.disk, &a.caching);
            one["lun"] = json!(a.lun.to_string());
            (one["isSharedDisk"], one["isUltraDisk"]) =
                (json!(a.disk.shared.to_string()), json!((a.disk.sku == "UltraSSD_LRS").to_string()));
            one
        })
        .collect();
    let mut os = disk(&vm.os_disk, "ReadWrite");
    os["osType"] = json!("Linux");
    json!({
        "azEnvironment": "AzurePublicCloud", "location": vm.location, "name": vm.name, "osType": "Linux",
        "resourceGroupName": vm.group, "resourceId": vm.id(), "subscriptionId": vm.subscription, "vmId": vm_uuid(&vm.id()),
        "vmSize": vm.size, "zone": vm.zones.first().cloned().unwrap_or_default(),
        "tagsList": vm.tags.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>(),
        "storageProfile": { "dataDisks": data, "osDisk": os, "imageReference": { "offer": "", "publisher": "", "sku": "", "version": "", "id": "" } },
    })
}
