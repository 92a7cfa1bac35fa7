//! IMDSv2 of one host: token, identity, and credentials of an instance role that may snapshot only its own instance.

use crate::clock::{iso, wall_ms};
use crate::sim::Sim;
use crate::wire::{Reply, Wire};
use serde_json::json;
use sha2::{Digest, Sha256};

pub const ROLE: &str = "snapfreeze-host";
const TOKEN: &str = "x-aws-ec2-metadata-token";

/// The access key that this host's role has.
pub fn access_key(instance: &str) -> String {
    format!("ASIA{:X}", Sha256::digest(instance.as_bytes()))[..20].to_owned()
}

pub fn principal(account: &str, instance: &str) -> String {
    format!("arn:aws:sts::{account}:assumed-role/{ROLE}/{instance}")
}

/// On the main port, the only host is answered for.
pub fn answer(sim: &Sim, wire: &Wire, imds_of: Option<&str>) -> Reply {
    let only = || {
        let world = sim.world();
        let mut ids = world.hosts.keys();
        ids.next().filter(|_| world.hosts.len() == 1).cloned()
    };
    let Some(instance) = imds_of.map(str::to_owned).or_else(only) else {
        return Reply::text(404, "which host? Each has a port of its own").failed("404");
    };
    let token = format!("{:x}", Sha256::digest(format!("token of {instance}")));
    let (method, path) = (wire.parts.method.as_str(), wire.parts.uri.path());
    if method == "PUT" && path == "/latest/api/token" {
        let ttl = wire.parts.headers.get("x-aws-ec2-metadata-token-ttl-seconds").cloned();
        let Some(ttl) = ttl.and_then(|t| t.to_str().ok().map(str::to_owned)) else {
            return Reply::text(400, "no ttl").failed("400");
        };
        let mut reply = Reply::text(200, token);
        reply.headers.push(("x-aws-ec2-metadata-token-ttl-seconds".into(), ttl));
        return reply;
    }
    if wire.parts.headers.get(TOKEN).is_none_or(|t| t.as_bytes() != token.as_bytes()) {
        return Reply::text(401, "IMDSv2 only").failed("401");
    }
    let zone = format!("{}a", sim.config.region);
    let credentials = "/latest/meta-data/iam/security-credentials";
    match path.trim_end_matches('/') {
        "/latest/meta-data/instance-id" => Reply::text(200, instance),
        "/latest/meta-data/placement/region" => Reply::text(200, sim.config.region.clone()),
        "/latest/meta-data/placement/availability-zone" => Reply::text(200, zone),
        "/latest/dynamic/instance-identity/document" => Reply::json(&json!({
            "accountId": sim.config.account, "architecture": "x86_64", "availabilityZone": zone, "instanceId": instance,
            "imageId": "ami-0123456789abcdef0", "instanceType": "m5.large", "region": sim.config.region, "version": "2017-09-30",
        })),
        p if p == credentials => Reply::text(200, ROLE),
        p if p == format!("{credentials}/{ROLE}") => Reply::json(&json!({
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": iso(wall_ms()), "Expiration": iso(wall_ms() + 6 * 3_600_000),
            "AccessKeyId": access_key(&instance), "SecretAccessKey": "not-a-secret", "Token": "not-a-token",
        })),
        _ => Reply::text(404, "not found").failed("404"),
    }
}
