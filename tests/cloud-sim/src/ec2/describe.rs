//! DescribeInstances, DescribeInstanceAttribute, DescribeVolumes.

use super::Ask;
use super::filter;
use super::xml::Xml;
use crate::wire::Fail;
use crate::world::{Instance, Tags, Volume, World};

const LAUNCHED: &str = "2026-01-01T00:00:00.000Z";

pub fn not_found(kind: &str, what: &str, ids: &[String]) -> Fail {
    let (ids, form) = (ids.join(", "), if ids.len() == 1 { "ID" } else { "IDs" });
    Fail::new(kind, format!("The {what} {form} '{ids}' {} not exist", if form == "ID" { "does" } else { "do" }))
}

pub fn tag_set(x: &mut Xml, tags: &Tags) {
    x.set("tagSet", tags, |x, (key, value)| {
        x.text("key", key).text("value", value);
    });
}

/// "The code's low byte" of InstanceState.
fn code(state: &str) -> u32 {
    match state {
        "pending" => 0,
        "running" => 16,
        "shutting-down" => 32,
        "terminated" => 48,
        "stopping" => 64,
        _ => 80,
    }
}

fn mappings(x: &mut Xml, world: &World, id: &str) {
    x.set("blockDeviceMapping", world.volumes_of(id), |x, v| {
        x.text("deviceName", &v.device).node("ebs", |x| {
            x.text("volumeId", &v.id).text("status", "attached").text("attachTime", LAUNCHED).text("deleteOnTermination", false);
        });
    });
}

pub fn instances(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let known = ["instance-id", "instance-state-name", "availability-zone", "block-device-mapping.volume-id", "platform-details"];
    let (filters, ids) = (filter::read(&ask.query, &known)?, ask.query.list("InstanceId"));
    ask.dry_run()?;
    let world = ask.sim.world();
    let missing: Vec<String> = ids.iter().filter(|i| !ask.at_home() || !world.instances.contains_key(*i)).cloned().collect();
    if !missing.is_empty() {
        return Err(not_found("InvalidInstanceID.NotFound", "instance", &missing));
    }
    let zone = format!("{}a", ask.sim.config.region);
    let field = |i: &Instance, name: &str| match name {
        "instance-id" => vec![i.id.clone()],
        "instance-state-name" => vec![i.state.clone()],
        "availability-zone" => vec![zone.clone()],
        "block-device-mapping.volume-id" => world.volumes_of(&i.id).iter().map(|v| v.id.clone()).collect(),
        _ => vec!["Linux/UNIX".to_owned()],
    };
    let chosen =
        |i: &&Instance| ask.at_home() && (ids.is_empty() || ids.contains(&i.id)) && filter::passes(&filters, &i.tags, |n| field(i, n));
    let (page, next) = filter::page(&ask.query, &ids, world.instances.values().filter(chosen).collect())?;
    x.set("reservationSet", page, |x, i| {
        x.text("reservationId", i.id.replacen('i', "r", 1)).text("ownerId", &ask.sim.config.account);
        x.set("instancesSet", [i], |x, i| {
            x.text("instanceId", &i.id).text("imageId", "ami-0123456789abcdef0");
            x.node("instanceState", |x| {
                x.text("code", code(&i.state)).text("name", &i.state);
            });
            x.text("instanceType", "m5.large").text("launchTime", LAUNCHED);
            x.node("placement", |x| {
                x.text("availabilityZone", &zone).text("tenancy", "default");
            });
            x.text("architecture", "x86_64").text("rootDeviceType", "ebs").text("rootDeviceName", &i.root_device);
            x.text("platformDetails", "Linux/UNIX");
            mappings(x, &world, &i.id);
            tag_set(x, &i.tags);
        });
    });
    x.maybe("nextToken", next);
    Ok(())
}

pub fn attribute(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let (id, which) = (ask.need("InstanceId")?.to_owned(), ask.need("Attribute")?);
    ask.dry_run()?;
    let world = ask.sim.world();
    let instance = world.instances.get(&id).filter(|_| ask.at_home());
    let instance = instance.ok_or_else(|| not_found("InvalidInstanceID.NotFound", "instance", std::slice::from_ref(&id)))?;
    x.text("instanceId", &id);
    match which {
        "blockDeviceMapping" => mappings(x, &world, &id),
        "rootDeviceName" => {
            x.node("rootDeviceName", |x| {
                x.text("value", &instance.root_device);
            });
        }
        other => return Err(Fail::new("InvalidParameterValue", format!("the double has no attribute {other}"))),
    }
    Ok(())
}

pub fn volumes(ask: &Ask, x: &mut Xml) -> Result<(), Fail> {
    let known = ["volume-id", "attachment.instance-id", "attachment.device", "status", "volume-type", "encrypted"];
    let (filters, ids) = (filter::read(&ask.query, &known)?, ask.query.list("VolumeId"));
    ask.dry_run()?;
    let world = ask.sim.world();
    let missing: Vec<String> = ids.iter().filter(|i| !ask.at_home() || !world.volumes.contains_key(*i)).cloned().collect();
    if !missing.is_empty() {
        return Err(not_found("InvalidVolume.NotFound", "volume", &missing));
    }
    let field = |v: &Volume, name: &str| match name {
        "volume-id" => vec![v.id.clone()],
        "attachment.instance-id" => v.instance.iter().cloned().collect(),
        "attachment.device" => vec![v.device.clone()],
        "status" => vec![v.status().to_owned()],
        "volume-type" => vec![v.kind.clone()],
        _ => vec![v.encrypted.to_string()],
    };
    let chosen =
        |v: &&Volume| ask.at_home() && (ids.is_empty() || ids.contains(&v.id)) && filter::passes(&filters, &v.tags, |n| field(v, n));
    let (page, next) = filter::page(&ask.query, &ids, world.volumes.values().filter(chosen).collect())?;
    x.set("volumeSet", page, |x, v| {
        x.text("volumeId", &v.id)
            .text("size", v.size)
            .text("snapshotId", v.snapshot.as_deref().unwrap_or_default())
            .text("volumeType", &v.kind);
        x.text("status", v.status());
        x.text("availabilityZone", format!("{}a", ask.sim.config.region)).text("createTime", LAUNCHED);
        x.text("encrypted", v.encrypted).text("multiAttachEnabled", false).maybe("iops", v.iops).maybe("throughput", v.throughput);
        x.set("attachmentSet", v.instance.as_ref(), |x, i| {
            x.text("volumeId", &v.id).text("instanceId", i).text("device", &v.device).text("status", v.attachment());
            x.text("attachTime", LAUNCHED).text("deleteOnTermination", false);
        });
        tag_set(x, &v.tags);
    });
    x.maybe("nextToken", next);
    Ok(())
}
