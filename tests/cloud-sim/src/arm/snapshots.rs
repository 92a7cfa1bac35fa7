//! Snapshots of managed disks. The bytes are copied somewhere between the 202 and the operation's success: who goes on after
//! the 202 alone has no point in time.

use super::fault::ArmFault;
use super::identity;
use super::lro::{self, Fate};
use super::page::page;
use super::sim::Sim;
use super::vms::vm_uuid;
use super::wire::{Ask, Fail, json_reply};
use super::world::ArmDisk;
use super::{id, tags};
use crate::clock::{boot_ms, boot_us, iso, wall_ms};
use crate::wire::Reply;
use crate::world::Tags;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmSnapshot {
    pub id: String,
    pub name: String,
    pub group: String,
    pub disk_id: String,
    pub location: String,
    pub tags: Tags,
    pub sku: String,
    pub incremental: bool,
    /// GiB.
    pub size: u32,
    /// `Updating`, `Succeeded`, `Failed`: its provisioningState.
    pub state: String,
    pub created_wall_ms: i64,
    /// When the PUT was accepted. CLOCK_BOOTTIME, as all `_us`.
    pub put_us: u64,
    /// The bytes as they were between these two moments; 0: not copied yet.
    pub copy_from_us: u64,
    pub copy_to_us: u64,
    pub dir: Option<PathBuf>,
    pub bytes: u64,
    /// When it succeeded or failed; 0: not yet.
    pub end_us: u64,
    /// PremiumV2, Ultra: from success until completionPercent is 100; else 0.
    pub hydrate_ms: u64,
}

impl ArmSnapshot {
    pub fn completion_percent(&self) -> f64 {
        if self.end_us == 0 && self.hydrate_ms > 0 {
            return 0.0;
        }
        let age = boot_us().saturating_sub(self.end_us) / 1000;
        if age >= self.hydrate_ms { 100.0 } else { age as f64 * 100.0 / self.hydrate_ms as f64 }
    }

    fn render(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "type": "Microsoft.Compute/snapshots", "location": self.location, "tags": self.tags,
            "sku": { "name": self.sku, "tier": self.sku.split('_').next().unwrap_or_default() },
            "properties": {
                "creationData": { "createOption": "Copy", "sourceResourceId": self.disk_id, "sourceUniqueId": vm_uuid(&self.disk_id) },
                "incremental": self.incremental, "provisioningState": self.state, "timeCreated": iso(self.created_wall_ms),
                "diskSizeGB": self.size, "diskSizeBytes": u64::from(self.size) << 30, "diskState": "Unattached",
                "uniqueId": vm_uuid(&self.id), "completionPercent": self.completion_percent(),
                "encryption": { "type": "EncryptionAtRestWithPlatformKey" },
                "networkAccessPolicy": "AllowAll", "publicNetworkAccess": "Enabled",
            },
        })
    }
}

const SKUS: [&str; 3] = ["Standard_LRS", "Premium_LRS", "Standard_ZRS"];

pub fn put(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let new = plan(sim, ask)?;
    let key = id::key(&new.id);
    let known = sim.world().snapshots.get(&key).cloned();
    if let Some(known) = known {
        // "creationData cannot be changed after the disk has been created": the second PUT of the same takes no second copy.
        if id::key(&known.disk_id) != id::key(&new.disk_id) || known.incremental != new.incremental {
            return Err(Fail::new(409, "PropertyChangeNotAllowed", "Changing property 'creationData' or 'incremental' is not allowed."));
        }
        let mut world = sim.world();
        let Some(s) = world.snapshots.get_mut(&key) else { return Err(Fail::not_found(&new.id)) };
        if ask.body.get("tags").is_some() {
            s.tags = new.tags;
        }
        return Ok(json_reply(200, &s.render()));
    }
    draw(sim, &new)?;
    let (body, location, fate) = (new.render(), new.location.clone(), Fate::of(faults));
    let copy_after = faults.iter().find_map(|(_, f)| if let ArmFault::CopyAfter { ms } = f { Some(*ms) } else { None });
    let vanishes = faults.iter().any(|(_, f)| *f == ArmFault::Vanishes);
    sim.world().snapshots.insert(key.clone(), new);
    let shared = sim.clone();
    Ok(lro::accept(sim, ask, &location, 202, Some(&body), move |operation| async move {
        let config = &shared.config.snapshots;
        tokio::time::sleep(Duration::from_millis(copy_after.unwrap_or(config.copy_after_ms))).await;
        take(&shared, &key).await;
        tokio::time::sleep(Duration::from_millis(config.finish_after_ms)).await;
        let result = || settle(&shared, &key, "Succeeded").unwrap_or(Value::Null);
        if !lro::end_by(&shared, &operation, &fate, result) && !fate.endless {
            settle(&shared, &key, "Failed");
        }
        if vanishes {
            shared.world().forget(&key);
        }
    }))
}

/// Everything that refuses a PUT before it counts.
fn plan(sim: &Sim, ask: &Ask) -> Result<ArmSnapshot, Fail> {
    let name = ask.resource_name();
    if !ask.body.is_object() {
        return Err(Fail::bad("InvalidRequestContent", "The request content was invalid and could not be deserialized."));
    }
    if name.len() > 80 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
        let what = format!("The value '{name}' of parameter 'name' is invalid: 80 characters of a-z, A-Z, 0-9, _ and - at most.");
        return Err(Fail::bad("InvalidParameter", what));
    }
    let Some(location) = ask.text("/location") else {
        return Err(Fail::bad("LocationRequired", "The location property is required for this definition."));
    };
    let tags = tags::read(&ask.body)?.unwrap_or_default();
    if ask.text("/properties/creationData/createOption") != Some("Copy") {
        return Err(Fail::bad(
            "InvalidParameter",
            "Required parameter 'creationData.createOption' is missing, or not Copy (the double has no other).",
        ));
    }
    let Some(source) = ask.text("/properties/creationData/sourceResourceId") else {
        return Err(Fail::bad("InvalidParameter", "Required parameter 'creationData.sourceResourceId' is missing (null)."));
    };
    let sku = ask.text("/sku/name").unwrap_or("Standard_LRS");
    if !SKUS.contains(&sku) {
        return Err(Fail::bad("InvalidParameter", format!("The value '{sku}' of parameter 'sku.name' is invalid.")));
    }
    let incremental = ask.body.pointer("/properties/incremental").and_then(Value::as_bool).unwrap_or(false);
    identity::check_linked(sim, ask, "Microsoft.Compute/disks/beginGetAccess/action", source)?;
    let disk = sim.world().disks.get(&id::key(source)).cloned().ok_or_else(|| Fail::not_found(source))?;
    let plain = |l: &str| l.replace(' ', "").to_ascii_lowercase();
    let t = ask.target();
    if plain(location) != plain(&disk.location) || !id::key(source).starts_with(&id::key(&format!("/subscriptions/{}/", t.subscription))) {
        return Err(Fail::bad("InvalidParameter", "A snapshot must be in the subscription and the location of its source."));
    }
    if disk.hydrates() && !incremental {
        return Err(Fail::bad("InvalidParameter", format!("Only incremental snapshots are supported for a disk of {}.", disk.sku)));
    }
    Ok(ArmSnapshot {
        id: ask.id(),
        name: name.into(),
        group: t.group.clone().unwrap_or_default(),
        location: location.into(),
        tags,
        sku: sku.into(),
        incremental,
        size: disk.size,
        state: "Updating".into(),
        created_wall_ms: wall_ms(),
        put_us: boot_us(),
        hydrate_ms: if disk.hydrates() { sim.config.snapshots.hydrate_ms } else { 0 },
        disk_id: disk.id,
        ..ArmSnapshot::default()
    })
}

/// What a PUT that is right draws on: 7 incremental snapshots of a disk in 5 minutes, 500 of a disk, 3 that are not complete.
fn draw(sim: &Sim, new: &ArmSnapshot) -> Result<(), Fail> {
    const WINDOW_MS: u64 = 5 * 60_000;
    let mut world = sim.world();
    let of_disk = || world.snapshots.values().filter(|s| id::key(&s.disk_id) == id::key(&new.disk_id));
    let (all, pending) = (of_disk().count(), of_disk().filter(|s| s.completion_percent() < 100.0 && s.state != "Failed").count());
    let Some(disk) = world.disks.get_mut(&id::key(&new.disk_id)) else { return Err(Fail::not_found(&new.disk_id)) };
    let now = boot_ms();
    disk.snapshots_ms.retain(|at| now - at < WINDOW_MS);
    let refuse = |what: &str| Err(Fail::new(409, "OperationNotAllowed", format!("{what}: {}", new.disk_id)));
    if sim.config.snapshots.limits && new.incremental {
        if disk.snapshots_ms.len() >= 7 {
            return refuse("A maximum of seven incremental snapshots per disk can be created every five minutes");
        }
        if all >= 500 {
            return refuse("A maximum of 500 incremental snapshots can be created for a disk");
        }
        if disk.hydrates() && pending >= 3 {
            return refuse("A maximum of three snapshots whose background copy is not complete");
        }
    }
    disk.snapshots_ms.push(now);
    Ok(())
}

#[derive(Clone, Debug, Default)]
pub struct Bytes {
    pub dir: Option<PathBuf>,
    pub from_us: u64,
    pub to_us: u64,
    pub bytes: u64,
}

/// The disk's directory as it is now, below `STATE/bytes`. A disk without one gives no bytes; a copy that fails ends the test.
pub async fn copy(sim: &Sim, disk: &ArmDisk) -> Bytes {
    let (from_us, from) = (boot_us(), disk.dir.clone());
    let Some(from) = from else { return Bytes { from_us, to_us: boot_us(), ..Bytes::default() } };
    let to = sim.config.state.join("bytes").join(uuid::Uuid::new_v4().to_string());
    let place = to.clone();
    let done = tokio::task::spawn_blocking(move || crate::copy::tree(&from, &place)).await.map_err(std::io::Error::other);
    let copied = done.and_then(|r| r).unwrap_or_else(|e| panic!("the double could not copy {}: {e}", disk.id));
    Bytes { dir: Some(to), from_us, to_us: boot_us(), bytes: copied.bytes }
}

async fn take(sim: &Sim, key: &str) {
    let disk = {
        let world = sim.world();
        world.snapshots.get(key).and_then(|s| world.disks.get(&id::key(&s.disk_id))).cloned()
    };
    let Some(disk) = disk else { return };
    let bytes = copy(sim, &disk).await;
    if let Some(s) = sim.world().snapshots.get_mut(key) {
        (s.dir, s.copy_from_us, s.copy_to_us, s.bytes) = (bytes.dir, bytes.from_us, bytes.to_us, bytes.bytes);
    }
}

fn settle(sim: &Sim, key: &str, state: &str) -> Option<Value> {
    let mut world = sim.world();
    let s = world.snapshots.get_mut(key)?;
    (s.state, s.end_us) = (state.into(), boot_us());
    Some(s.render())
}

/// The tags given replace all. What is still being created cannot be changed.
pub fn patch(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let (key, given) = (id::key(&ask.id()), tags::read(&ask.body)?);
    let known = sim.world().snapshots.get(&key).cloned().ok_or_else(|| Fail::not_found(&ask.id()))?;
    if known.state == "Updating" {
        return Err(Fail::new(409, "AnotherOperationInProgress", "Another operation on this or dependent resource is in progress."));
    }
    let mut body = known.render();
    body["properties"]["provisioningState"] = json!("Updating");
    if let Some(tags) = &given {
        body["tags"] = json!(tags);
    }
    let (shared, fate) = (sim.clone(), Fate::of(faults));
    Ok(lro::accept(sim, ask, &known.location, 202, Some(&body), move |operation| async move {
        tokio::time::sleep(Duration::from_millis(shared.config.snapshots.change_ms)).await;
        lro::end_by(&shared, &operation, &fate, || {
            let mut world = shared.world();
            let Some(s) = world.snapshots.get_mut(&key) else { return Value::Null };
            if let Some(tags) = given {
                s.tags = tags;
            }
            s.render()
        });
    }))
}

pub fn delete(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)]) -> Result<Reply, Fail> {
    let key = id::key(&ask.id());
    let Some(known) = sim.world().snapshots.get(&key).cloned() else { return Ok(Reply::new(204, "application/json", "")) };
    let (shared, fate) = (sim.clone(), Fate::of(faults));
    Ok(lro::accept(sim, ask, &known.location, 202, None, move |operation| async move {
        tokio::time::sleep(Duration::from_millis(shared.config.snapshots.change_ms)).await;
        lro::end_by(&shared, &operation, &fate, || {
            shared.world().forget(&key);
            Value::Null
        });
    }))
}

pub fn get(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let world = sim.world();
    world.snapshots.get(&id::key(&ask.id())).map(|s| json_reply(200, &s.render())).ok_or_else(|| Fail::not_found(&ask.id()))
}

pub fn list(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    Ok(page(sim, ask, &sim.world().snapshots, ArmSnapshot::render))
}
