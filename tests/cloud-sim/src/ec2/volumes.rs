//! CreateVolume from a snapshot, AttachVolume: EC2 API reference, with the refusals that it names.

use super::describe::not_found;
use super::{Ask, tags, xml::Xml};
use crate::clock::{boot_ms, iso, wall_ms};
use crate::plug;
use crate::wire::Fail;
use crate::world::{Volume, new_id};

const KINDS: [&str; 7] = ["gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"];

pub fn create(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let (snapshot, zone) = (ask.need("SnapshotId")?.to_owned(), ask.need("AvailabilityZone")?.to_owned());
    let q = |key: &str| ask.query.get(key).map(str::to_owned);
    let number = |key: &str| q(key).map(|v| v.parse::<u32>()).transpose().map_err(|_| Fail::new("InvalidParameterValue", key));
    let kind = q("VolumeType").unwrap_or_else(|| "gp2".into());
    let (iops, throughput, rate) = (number("Iops")?, number("Throughput")?, number("VolumeInitializationRate")?);
    let tags = tags::of_kind("volume", &ask.query)?;
    if !KINDS.contains(&kind.as_str()) {
        return Err(Fail::new("InvalidParameterValue", format!("The volume type '{kind}' is not valid")));
    }
    if iops.is_some() && !["gp3", "io1", "io2"].contains(&kind.as_str()) {
        return Err(Fail::new("InvalidParameterCombination", format!("The parameter iops is not supported for {kind} volumes.")));
    }
    if throughput.is_some() && kind != "gp3" {
        return Err(Fail::new("InvalidParameterCombination", format!("The parameter throughput is not supported for {kind} volumes.")));
    }
    if rate.is_some_and(|r| !(100..=300).contains(&r)) {
        return Err(Fail::new("InvalidParameterValue", "VolumeInitializationRate must be between 100 and 300 MiB/s"));
    }
    if !ask.at_home() || zone != format!("{}a", ask.sim.config.region) {
        return Err(Fail::new("InvalidZone.NotFound", format!("The zone '{zone}' does not exist.")));
    }
    ask.dry_run()?;
    let mut world = ask.sim.world();
    let source = world.snapshots.get(&snapshot).filter(|s| s.region == ask.region).cloned();
    let source = source.ok_or_else(|| Fail::new("InvalidSnapshot.NotFound", format!("The snapshot '{snapshot}' does not exist.")))?;
    if source.status() != "completed" {
        return Err(Fail::new("IncorrectState", format!("Snapshot is in invalid state - {}", source.status())));
    }
    let token = q("ClientToken").unwrap_or_default();
    let known = world.volumes.values().find(|v| !token.is_empty() && v.token == token).cloned();
    let v = match known {
        Some(v) if v.snapshot.as_ref() != Some(&snapshot) => {
            return Err(Fail::new(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            ));
        }
        Some(v) => v,
        None => {
            let base = Volume::new(&new_id("vol"), "");
            let iops = iops.or(if kind == "gp3" { Some(3000) } else { None });
            let throughput = throughput.or(if kind == "gp3" { Some(125) } else { None });
            let v = Volume {
                size: source.size,
                kind,
                iops,
                throughput,
                encrypted: source.encrypted,
                tags,
                dir: source.dir.clone(),
                snapshot: Some(snapshot),
                made_ms: Some(boot_ms()),
                token,
                rate,
                ..base
            };
            world.volumes.insert(v.id.clone(), v.clone());
            v
        }
    };
    x.text("volumeId", &v.id).text("size", v.size).text("snapshotId", v.snapshot.as_deref().unwrap_or_default());
    x.text("availabilityZone", zone).text("status", "creating").text("createTime", iso(wall_ms())).text("volumeType", &v.kind);
    x.maybe("iops", v.iops).maybe("throughput", v.throughput).text("encrypted", v.encrypted);
    super::describe::tag_set(x, &v.tags);
    Ok(())
}

pub async fn attach(ask: &Ask<'_>, x: &mut Xml) -> Result<(), Fail> {
    let (id, instance, device) = (ask.need("VolumeId")?.to_owned(), ask.need("InstanceId")?.to_owned(), ask.need("Device")?.to_owned());
    ask.dry_run()?;
    let (bytes, disks) = {
        let mut world = ask.sim.world();
        if !world.instances.contains_key(&instance) || !ask.at_home() {
            return Err(not_found("InvalidInstanceID.NotFound", "instance", std::slice::from_ref(&instance)));
        }
        let v = world.volumes.get(&id).cloned().ok_or_else(|| not_found("InvalidVolume.NotFound", "volume", std::slice::from_ref(&id)))?;
        if let Some(by) = &v.instance {
            return Err(Fail::new("VolumeInUse", format!("{id} is already attached to an instance ({by})")));
        }
        if v.status() != "available" {
            return Err(Fail::new("IncorrectState", format!("Volume '{id}' is in the '{}' state", v.status())));
        }
        if world.volumes_of(&instance).iter().any(|v| v.device == device) {
            let what = format!("Invalid value '{device}' for unixDevice. Attachment point {device} is already in use");
            return Err(Fail::new("InvalidParameterValue", what));
        }
        world.attach(&id, &instance, &device);
        (v.dir, world.hosts.get(&instance).and_then(|h| h.disks.clone()))
    };
    // The bytes appear on the host a while after the call's answer; here before it.
    if let (Some(bytes), Some(disks)) = (bytes, disks) {
        let file = ask.sim.config.state.join("plugged").join(&id);
        let link = disks.join("by-id").join(format!("nvme-Amazon_Elastic_Block_Store_{}", id.replacen('-', "", 1)));
        let plugged = tokio::task::spawn_blocking(move || plug::plug(&bytes, &file, &link)).await.map_err(std::io::Error::other);
        match plugged.and_then(|p| p) {
            Ok(p) => ask.sim.world().plugged.push(p),
            Err(e) => return Err(Fail::new("InternalError", format!("the double could not plug {id}: {e}")).status(500)),
        }
    }
    x.text("volumeId", &id)
        .text("instanceId", &instance)
        .text("device", &device)
        .text("status", "attaching")
        .text("attachTime", iso(wall_ms()));
    Ok(())
}
