//! DescribeInstanceInformation: the managed nodes and their ping status.

use super::{page, text, texts};
use crate::clock::{epoch_s, wall_ms};
use crate::sim::Sim;
use crate::wire::Fail;
use crate::world::{Host, World};
use serde_json::{Value, json};

/// A host whose instance is known and not running has lost its connection too.
pub fn online(world: &World, host: &Host) -> bool {
    host.online && world.instances.get(&host.id).is_none_or(|i| i.state == "running")
}

fn field(world: &World, host: &Host, key: &str) -> Result<Vec<String>, Fail> {
    let ping = if online(world, host) { "Online" } else { "ConnectionLost" };
    Ok(match key {
        "InstanceIds" => vec![host.id.clone()],
        "PingStatus" => vec![ping.into()],
        "PlatformTypes" => vec![host.platform.clone()],
        "ResourceType" => vec!["EC2Instance".into()],
        k if k.starts_with("tag:") => {
            let tags = world.instances.get(&host.id).map(|i| &i.tags);
            tags.and_then(|t| t.get(&k[4..])).cloned().into_iter().collect()
        }
        "tag-key" => world.instances.get(&host.id).into_iter().flat_map(|i| i.tags.keys().cloned()).collect(),
        other => return Err(Fail::new("InvalidFilterKey", other.to_owned())),
    })
}

pub fn describe(sim: &Sim, ask: &Value) -> Result<Value, Fail> {
    let world = sim.world();
    // The old form names its fields otherwise.
    let mut filters = Vec::new();
    for (list, key, values) in [("Filters", "Key", "Values"), ("InstanceInformationFilterList", "key", "valueSet")] {
        for f in ask.get(list).and_then(Value::as_array).into_iter().flatten() {
            filters.push((text(f, key).unwrap_or_default().to_owned(), texts(f, values)));
        }
    }
    let mut chosen = Vec::new();
    // A terminated instance is forgotten.
    for host in world.hosts.values().filter(|h| world.instances.get(&h.id).is_none_or(|i| i.state != "terminated")) {
        let mut passes = true;
        for (key, values) in &filters {
            passes &= field(&world, host, key)?.iter().any(|v| values.contains(v));
        }
        if passes {
            chosen.push(json!({
                "InstanceId": host.id, "PingStatus": field(&world, host, "PingStatus")?[0], "LastPingDateTime": epoch_s(wall_ms()),
                "AgentVersion": if host.old_agent { "3.2.582.0" } else { "3.3.3572.0" }, "IsLatestVersion": !host.old_agent,
                "PlatformType": host.platform, "PlatformName": "Amazon Linux", "PlatformVersion": "2023", "ResourceType": "EC2Instance",
                "IPAddress": "127.0.0.1", "ComputerName": format!("{}.internal", host.id),
            }));
        }
    }
    let (page, next) = page(ask, chosen, 50)?;
    Ok(json!({ "InstanceInformationList": page, "NextToken": next }))
}
