//! Restore points: all disks of a VM at once. Without `CrashConsistent` the guest's pre and post scripts are run around it.

use super::fault::ArmFault;
use super::lro::{self, Fate, State};
use super::page::page;
use super::scripts;
use super::sim::Sim;
use super::snapshots::copy;
use super::vms::vm_uuid;
use super::wire::{Ask, Fail, json_reply};
use super::world::{ArmDisk, Vm};
use super::{id, tags};
use crate::clock::{boot_ms, boot_us, iso, wall_ms};
use crate::wire::Reply;
use crate::world::Tags;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Collection {
    pub id: String,
    pub name: String,
    pub location: String,
    pub tags: Tags,
    pub vm: String,
}

/// A restore point as this double made it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub id: String,
    pub name: String,
    /// The collection's id.
    pub collection: String,
    pub vm: String,
    /// `CrashConsistent`, or `ApplicationConsistent` when nothing was asked for.
    pub asked: String,
    /// What it became: `CrashConsistent`, `ApplicationConsistent`, `FileSystemConsistent`. Empty: not yet.
    pub consistency: String,
    /// `Creating`, `Succeeded`, `Failed`
    pub state: String,
    pub created_wall_ms: i64,
    /// CLOCK_BOOTTIME of the acceptance.
    pub put_us: u64,
    pub disks: Vec<PointDisk>,
    /// Exit codes of the scripts; `None`: not run, or not in time.
    pub pre: Option<i32>,
    pub post: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PointDisk {
    pub disk_id: String,
    /// `None`: the OS disk.
    pub lun: Option<u32>,
    pub dir: Option<PathBuf>,
    pub copy_from_us: u64,
    pub copy_to_us: u64,
    pub bytes: u64,
}

impl Collection {
    fn render(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "type": "Microsoft.Compute/restorePointCollections", "location": self.location, "tags": self.tags,
            "properties": {
                "source": { "id": self.vm, "location": self.location }, "provisioningState": "Succeeded",
                "restorePointCollectionId": vm_uuid(&self.id),
            },
        })
    }
}

fn collection_id(ask: &Ask) -> String {
    let t = ask.target();
    id::of(&t.subscription, t.group.as_deref().unwrap_or_default(), "restorePointCollections", t.name.as_deref().unwrap_or_default())
}

pub fn put_collection(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let tags = tags::read(&ask.body)?;
    let Some(location) = ask.text("/location") else {
        return Err(Fail::bad("LocationRequired", "The location property is required for this definition."));
    };
    let Some(vm) = ask.text("/properties/source/id") else {
        return Err(Fail::bad("InvalidParameter", "Required parameter 'source.id' is missing (null)."));
    };
    let mut world = sim.world();
    let vm = world.vms.get(&id::key(vm)).map(Vm::id).ok_or_else(|| Fail::not_found(vm))?;
    let key = id::key(&ask.id());
    if let Some(old) = world.collections.get_mut(&key) {
        if id::key(&old.vm) != id::key(&vm) {
            return Err(Fail::new(409, "PropertyChangeNotAllowed", "Changing property 'source.id' is not allowed."));
        }
        old.tags = tags.unwrap_or_default();
        return Ok(json_reply(200, &old.render()));
    }
    let (name, tags) = (ask.resource_name().to_owned(), tags.unwrap_or_default());
    let new = Collection { id: ask.id(), name, location: location.into(), tags, vm };
    let body = new.render();
    world.collections.insert(key, new);
    Ok(json_reply(201, &body))
}

pub fn patch_collection(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let tags = tags::read(&ask.body)?;
    let mut world = sim.world();
    let old = world.collections.get_mut(&id::key(&ask.id())).ok_or_else(|| Fail::not_found(&ask.id()))?;
    if let Some(tags) = tags {
        old.tags = tags;
    }
    Ok(json_reply(200, &old.render()))
}

pub fn get_collection(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let world = sim.world();
    let found = world.collections.get(&id::key(&ask.id())).ok_or_else(|| Fail::not_found(&ask.id()))?;
    let mut value = found.render();
    if ask.param("$expand").is_some_and(|e| e.eq_ignore_ascii_case("restorePoints")) {
        let own = world.points.values().filter(|p| id::key(&p.collection) == id::key(&found.id));
        value["properties"]["restorePoints"] = own.map(|p| render(&world.vms, p)).collect();
    }
    Ok(json_reply(200, &value))
}

pub fn list_collections(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    Ok(page(sim, ask, &sim.world().collections, Collection::render))
}

/// With all its points.
pub fn delete_collection(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let key = id::key(&ask.id());
    let Some(old) = sim.world().collections.get(&key).cloned() else { return Ok(Reply::new(204, "application/json", "")) };
    let (shared, fate) = (sim.clone(), Fate::of(faults));
    Ok(lro::accept(sim, ask, &old.location, 202, None, move |operation| async move {
        lro::end_by(&shared, &operation, &fate, || {
            let mut world = shared.world();
            world.collections.remove(&key);
            world.points.retain(|_, p| id::key(&p.collection) != key);
            Value::Null
        });
    }))
}

pub fn put(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let (plan, disks, location) = plan(sim, ask)?;
    let key = id::key(&plan.id);
    let mut world = sim.world();
    if let Some(old) = world.points.get(&key) {
        return Ok(json_reply(200, &render(&world.vms, old)));
    }
    draw(sim, &world.points, &plan)?;
    let body = render(&world.vms, &plan);
    world.points.insert(key.clone(), plan);
    drop(world);
    let copy_after = faults.iter().find_map(|(_, f)| if let ArmFault::CopyAfter { ms } = f { Some(*ms) } else { None });
    let (shared, fate) = (sim.clone(), Fate::of(faults));
    let after = copy_after.unwrap_or(sim.config.points.copy_after_ms);
    Ok(lro::accept(sim, ask, &location, 201, Some(&body), move |operation| work(shared, key, disks, after, fate, operation)))
}

type Disks = Vec<(Option<u32>, ArmDisk)>;

fn plan(sim: &Sim, ask: &Ask) -> Result<(Point, Disks, String), Fail> {
    let world = sim.world();
    let collection = world.collections.get(&id::key(&collection_id(ask))).ok_or_else(|| Fail::not_found(&collection_id(ask)))?;
    let asked = match ask.body.pointer("/properties/consistencyMode") {
        None | Some(Value::Null) => "ApplicationConsistent",
        Some(Value::String(mode)) if mode == "CrashConsistent" => "CrashConsistent",
        Some(other) => {
            return Err(Fail::bad("InvalidParameter", format!("The value {other} of 'consistencyMode' is invalid: CrashConsistent only.")));
        }
    };
    let vm = world.vms.get(&id::key(&collection.vm)).ok_or_else(|| Fail::not_found(&collection.vm))?;
    let excluded: Vec<String> = ask
        .body
        .pointer("/properties/excludeDisks")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|d| d.get("id").and_then(Value::as_str).map(id::key))
        .collect();
    let all = std::iter::once((None, vm.os_disk.clone())).chain(vm.data_disks.iter().map(|a| (Some(a.lun), a.disk.clone())));
    let disks: Disks = all.filter(|(_, d)| !excluded.contains(&id::key(&d.id))).collect();
    if asked == "CrashConsistent"
        && let Some((_, odd)) = disks.iter().find(|(_, d)| d.hydrates() || d.shared)
    {
        let what = format!("Crash consistent restore points do not support Ultra, Premium SSD v2 and shared disks: {}", odd.id);
        return Err(Fail::new(409, "OperationNotAllowed", what));
    }
    let point = Point {
        id: ask.id(),
        name: ask.resource_name().into(),
        collection: collection.id.clone(),
        vm: vm.id(),
        asked: asked.into(),
        state: "Creating".into(),
        created_wall_ms: wall_ms(),
        put_us: boot_us(),
        ..Point::default()
    };
    Ok((point, disks, collection.location.clone()))
}

/// None at the same time; 3 in an hour for a VM and mode.
fn draw(sim: &Sim, all: &std::collections::BTreeMap<String, Point>, new: &Point) -> Result<(), Fail> {
    const HOUR_MS: u64 = 3_600_000;
    let of_vm = || all.values().filter(|p| id::key(&p.vm) == id::key(&new.vm));
    if of_vm().any(|p| p.state == "Creating") {
        return Err(Fail::conflict("Another restore point of the same virtual machine is being created."));
    }
    let lately = of_vm().filter(|p| p.asked == new.asked && boot_ms() - p.put_us / 1000 < HOUR_MS).count();
    if sim.config.points.limits && lately >= 3 {
        return Err(Fail::new(409, "OperationNotAllowed", "At most 3 restore points of a virtual machine can be created in an hour."));
    }
    Ok(())
}

async fn work(sim: Arc<Sim>, key: String, disks: Disks, after_ms: u64, fate: Fate, operation: String) {
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    let point = sim.world().points.get(&key).cloned();
    let Some(mut point) = point else { return };
    let set = |p: &Point| drop(sim.world().points.insert(key.clone(), p.clone()));
    let host = sim.world().host(&point.vm).filter(|h| h.online && point.asked != "CrashConsistent").cloned();
    let (mut kind, mut whole) = (if point.asked == "CrashConsistent" { "CrashConsistent" } else { "FileSystemConsistent" }, true);
    let scripts = host.and_then(|h| h.scripts.clone().map(|s| (h, s)));
    if let Some((host, s)) = &scripts {
        point.pre = scripts::run(&sim, host, &s.pre, s.timeout_ms).await;
        whole = point.pre == Some(0) || s.continue_on_failure;
    }
    if whole {
        for (lun, disk) in &disks {
            let b = copy(&sim, disk).await;
            let (disk_id, lun) = (disk.id.clone(), *lun);
            point.disks.push(PointDisk { disk_id, lun, dir: b.dir, copy_from_us: b.from_us, copy_to_us: b.to_us, bytes: b.bytes });
        }
    }
    if let Some((host, s)) = &scripts {
        point.post = scripts::run(&sim, host, &s.post, s.timeout_ms).await;
        if (point.pre, point.post) == (Some(0), Some(0)) {
            kind = "ApplicationConsistent";
        }
    }
    set(&point);
    tokio::time::sleep(Duration::from_millis(sim.config.points.finish_after_ms)).await;
    if !whole {
        point.state = "Failed".into();
        set(&point);
        let message = "The pre-script failed and continueBackupOnFailure is false.".to_owned();
        return lro::end(&sim, &operation, State::Failed { code: "VMRestorePointPreScriptFailed".into(), message });
    }
    if fate.endless {
        return;
    }
    (point.consistency, point.state) = (kind.into(), if fate.fails.is_some() { "Failed" } else { "Succeeded" }.into());
    set(&point);
    lro::end_by(&sim, &operation, &fate, || {
        let world = sim.world();
        render(&world.vms, &point)
    });
}

fn render(vms: &std::collections::BTreeMap<String, Vm>, p: &Point) -> Value {
    let piece = |d: &PointDisk| {
        let name = d.disk_id.rsplit('/').next().unwrap_or_default();
        let mut one = json!({
            "name": name, "managedDisk": { "id": d.disk_id }, "diskRestorePoint": { "id": format!("{}/diskRestorePoints/{name}_{}", p.id, vm_uuid(&d.disk_id)) },
        });
        match d.lun {
            Some(lun) => one["lun"] = json!(lun),
            None => one["osType"] = json!("Linux"),
        }
        one
    };
    let mut value = json!({
        "id": p.id, "name": p.name, "type": "Microsoft.Compute/restorePointCollections/restorePoints",
        "properties": { "provisioningState": p.state, "timeCreated": iso(p.created_wall_ms) },
    });
    if p.state == "Succeeded" {
        let vm = vms.get(&id::key(&p.vm));
        value["properties"]["consistencyMode"] = json!(p.consistency);
        value["properties"]["sourceMetadata"] = json!({
            "vmId": vm_uuid(&p.vm), "location": vm.map(|v| v.location.clone()), "hardwareProfile": { "vmSize": vm.map(|v| v.size.clone()) },
            "storageProfile": {
                "osDisk": p.disks.iter().find(|d| d.lun.is_none()).map(&piece),
                "dataDisks": p.disks.iter().filter(|d| d.lun.is_some()).map(piece).collect::<Vec<_>>(),
            },
        });
    }
    value
}

pub fn get(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let world = sim.world();
    world.points.get(&id::key(&ask.id())).map(|p| json_reply(200, &render(&world.vms, p))).ok_or_else(|| Fail::not_found(&ask.id()))
}

pub fn delete(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let key = id::key(&ask.id());
    let location = sim.world().collections.get(&id::key(&collection_id(ask))).map(|c| c.location.clone());
    let Some(location) = location.filter(|_| sim.world().points.contains_key(&key)) else {
        return Ok(Reply::new(204, "application/json", ""));
    };
    let (shared, fate) = (sim.clone(), Fate::of(faults));
    Ok(lro::accept(sim, ask, &location, 202, None, move |operation| async move {
        lro::end_by(&shared, &operation, &fate, || {
            shared.world().points.remove(&key);
            Value::Null
        });
    }))
}
