//! What the cloud knows before the freeze: is the host there and running, its volumes, their last snapshots, and whether the
//! snapshot call would be allowed. Nothing here is inside a window.

use super::{Ebs, create, filter, list};
use crate::fail::Fail;
use aws_sdk_ec2::types::{Instance, InstanceStateName, Volume, VolumeType};
use coordinator::Target;
use coordinator::cloud::{Cloud, rules};
use coordinator::ports::{CloudVolume, Look, Snapshot, SnapshotCall, State};
use protocol::Code;
use protocol::wire::Problem;

/// EBS quotas: pending snapshots per volume.
const PENDING_MAX: u32 = 5;
const PENDING_MAX_COLD: u32 = 1;

pub(super) async fn look(ebs: &Ebs, target: &Target, call: &SnapshotCall) -> Result<Look, Problem> {
    let region = ebs.clients.region();
    let client = &ebs.clients.patient;
    let instance = match instance(client, &target.id).await? {
        Some(i) => i,
        None => {
            let p = Problem::new(Code::CloudRefused, format!("no such instance in {region}")).next("is it the right region and account?");
            return Ok(Look { problem: Some(p), volumes: Vec::new() });
        }
    };
    if let Some(state) = instance.state().and_then(|s| s.name()).filter(|s| **s != InstanceStateName::Running) {
        let p = Problem::new(Code::CloudRefused, format!("the instance is {state}"))
            .next(format!("start it, or take it out of the policy: aws ec2 start-instances --instance-ids {}", target.id));
        return Ok(Look { problem: Some(p), volumes: Vec::new() });
    }
    let attached = list::volumes(client, vec![filter("attachment.instance-id", [target.id.clone()])]).await?;
    let ids: Vec<String> = attached.iter().filter_map(|v| v.volume_id().map(Into::into)).collect();
    let taken = if ids.is_empty() { Vec::new() } else { list::snapshots(client, vec![filter("volume-id", ids)]).await? };
    let volumes: Vec<CloudVolume> = attached.iter().filter_map(|v| cloud_volume(v, &instance, &taken)).collect();
    let problem = rehearse(ebs, target, call, &volumes).await?;
    Ok(Look { problem, volumes })
}

async fn instance(client: &aws_sdk_ec2::Client, id: &str) -> Result<Option<Instance>, Problem> {
    match client.describe_instances().instance_ids(id).send().await.map_err(|e| Fail::of(&e)) {
        Ok(found) => Ok(found.reservations.unwrap_or_default().into_iter().flat_map(|r| r.instances.unwrap_or_default()).next()),
        Err(f) if f.is("InvalidInstanceID.NotFound") || f.is("InvalidInstanceID.Malformed") => Ok(None),
        Err(f) => Err(f.problem("ec2:DescribeInstances")),
    }
}

fn cloud_volume(v: &Volume, of: &Instance, snapshots: &[Snapshot]) -> Option<CloudVolume> {
    let volume = v.volume_id()?.to_owned();
    // A volume may be attached to several hosts.
    let here = v.attachments().iter().find(|a| a.instance_id() == of.instance_id())?;
    let device = here.device().unwrap_or_default().to_owned();
    let cold = matches!(v.volume_type(), Some(VolumeType::St1 | VolumeType::Sc1));
    let own = || snapshots.iter().filter(|s| s.volume == volume);
    Some(CloudVolume {
        boot: of.root_device_name() == Some(device.as_str()),
        kind: kind(v),
        size_gib: v.size().and_then(|g| u64::try_from(g).ok()).unwrap_or(0),
        pending: u32::try_from(own().filter(|s| s.state == State::Pending).count()).unwrap_or(u32::MAX),
        pending_max: if cold { PENDING_MAX_COLD } else { PENDING_MAX },
        last_snapshot: own().map(|s| s.started).max(),
        device,
        key: volume.clone(),
        volume,
    })
}

/// `gp3 100GiB 3000iops 125MB/s`: what a restore must recreate.
fn kind(v: &Volume) -> String {
    let mut parts = vec![v.volume_type().map_or("", VolumeType::as_str).to_owned()];
    parts.extend(v.size().map(|n| format!("{n}GiB")));
    parts.extend(v.iops().map(|n| format!("{n}iops")));
    parts.extend(v.throughput().map(|n| format!("{n}MiB/s")));
    parts.retain(|p| !p.is_empty());
    parts.join(" ")
}

/// A dry run of the very call that the window will see. `None`: it would be carried out.
async fn rehearse(ebs: &Ebs, target: &Target, call: &SnapshotCall, volumes: &[CloudVolume]) -> Result<Option<Problem>, Problem> {
    let mut call = call.clone();
    call.exclude_volumes.retain(|x| volumes.iter().any(|v| v.volume == *x && !v.boot));
    if volumes.is_empty() || rules(Cloud::Ebs).exclude_max.is_some_and(|max| call.exclude_volumes.len() > max) {
        // Admission says it better than EC2's "invalid parameter".
        return Ok(None);
    }
    let Err(e) = create(&ebs.clients.patient, &target.id, &call).dry_run(true).send().await else {
        return Ok(Some(Problem::new(Code::CloudRefused, "EC2 answered a dry run of CreateSnapshots as if it had been a real one")));
    };
    match Fail::of(&e) {
        f if f.is("DryRunOperation") => Ok(None),
        f @ Fail::Refused { .. } => Ok(Some(f.problem("ec2:CreateSnapshots"))),
        f @ Fail::Lost(_) => Err(f.problem("ec2:CreateSnapshots (dry run)")),
    }
}
