//! After the verdict `held`: copy to another region or account, lock, fast restore. Each may be repeated after a lost answer.

use super::{FILTER_VALUES, filter, list, specification};
use crate::client::Clients;
use crate::fail::Fail;
use aws_sdk_ec2::types::{CreateVolumePermission, CreateVolumePermissionModifications, LockMode, SnapshotAttributeName};
use coordinator::policy::{self, CopyTo, Lock};
use coordinator::ports::{After, Made, Snapshot};
use protocol::Code;
use protocol::wire::Problem;

pub(super) async fn after(clients: &Clients, made: &[Made], what: &After<'_>) -> Result<(), Problem> {
    match what {
        After::Copy(to) => copy(clients, made, to).await,
        After::Lock(lock) => lock_all(clients, made, lock).await,
        After::FastRestore(zones) => fast_restore(clients, made, zones).await,
    }
}

async fn copy(clients: &Clients, made: &[Made], to: &CopyTo) -> Result<(), Problem> {
    let here = to.region == clients.region();
    let there = clients.elsewhere(&to.region);
    let mut copies = Vec::new();
    if here {
        copies.extend(made.iter().map(|m| m.snapshot.clone()));
    } else {
        for some in made.chunks(FILTER_VALUES) {
            let ids = some.iter().map(|m| m.snapshot.clone());
            for s in list::snapshots(&clients.patient, vec![filter("snapshot-id", ids)]).await? {
                copies.push(copy_one(clients, &there, &s, to).await?);
            }
        }
        if copies.len() != made.len() {
            let detail = format!("{} of {} snapshots were found to copy to {}", copies.len(), made.len(), to.region);
            return Err(Problem::new(Code::CloudRefused, detail));
        }
    }
    if let Some(account) = &to.account {
        for c in &copies {
            share(&there, c, account).await?;
        }
    }
    Ok(())
}

/// CopySnapshot knows no client token: a copy made before is found by its description.
async fn copy_one(clients: &Clients, there: &aws_sdk_ec2::Client, s: &Snapshot, to: &CopyTo) -> Result<String, Problem> {
    let description = format!("snapfreeze copy of {} from {}", s.snapshot, clients.region());
    let before = list::snapshots(there, vec![filter("description", [description.clone()])]).await?;
    if let Some(c) = before.into_iter().next() {
        return Ok(c.snapshot);
    }
    // `aws:` tags are the cloud's own and cannot be given.
    let tags = s.tags.iter().filter(|(k, _)| !k.starts_with("aws:")).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut call = there
        .copy_snapshot()
        .source_region(clients.region())
        .source_snapshot_id(&s.snapshot)
        .description(description)
        .tag_specifications(specification(&tags));
    if let Some(key) = &to.kms_key {
        call = call.encrypted(true).kms_key_id(key);
    }
    let copied = call.send().await.map_err(|e| Fail::of(&e).problem("ec2:CopySnapshot"))?;
    copied.snapshot_id.ok_or_else(|| Problem::new(Code::CloudRefused, "ec2:CopySnapshot answered without an id"))
}

async fn share(client: &aws_sdk_ec2::Client, snapshot: &str, account: &str) -> Result<(), Problem> {
    let add = CreateVolumePermission::builder().user_id(account).build();
    let call = client
        .modify_snapshot_attribute()
        .snapshot_id(snapshot)
        .attribute(SnapshotAttributeName::CreateVolumePermission)
        .create_volume_permission(CreateVolumePermissionModifications::builder().add(add).build());
    call.send().await.map(drop).map_err(|e| Fail::of(&e).problem("ec2:ModifySnapshotAttribute"))
}

async fn lock_all(clients: &Clients, made: &[Made], lock: &Lock) -> Result<(), Problem> {
    let mode = match lock.mode {
        policy::LockMode::Governance => LockMode::Governance,
        policy::LockMode::Compliance => LockMode::Compliance,
    };
    let days = i32::try_from(lock.days).unwrap_or(i32::MAX);
    for m in made {
        let mut call = clients.patient.lock_snapshot().snapshot_id(&m.snapshot).lock_mode(mode.clone()).lock_duration(days);
        if let Some(hours) = lock.cool_off_hours {
            call = call.cool_off_period(i32::try_from(hours).unwrap_or(i32::MAX));
        }
        call.send().await.map_err(|e| Fail::of(&e).problem("ec2:LockSnapshot"))?;
    }
    Ok(())
}

async fn fast_restore(clients: &Clients, made: &[Made], zones: &[String]) -> Result<(), Problem> {
    let ids = made.iter().map(|m| m.snapshot.clone()).collect();
    let call =
        clients.patient.enable_fast_snapshot_restores().set_availability_zones(Some(zones.to_vec())).set_source_snapshot_ids(Some(ids));
    let answer = call.send().await.map_err(|e| Fail::of(&e).problem("ec2:EnableFastSnapshotRestores"))?;
    let Some(bad) = answer.unsuccessful().first() else { return Ok(()) };
    let of = |e: &aws_sdk_ec2::types::EnableFastSnapshotRestoreStateErrorItem| {
        let e = e.error()?;
        Some(format!("{}: {}: {}", e.code()?, e.message()?, bad.snapshot_id().unwrap_or_default()))
    };
    let why =
        bad.fast_snapshot_restore_state_errors().first().and_then(of).unwrap_or_else(|| bad.snapshot_id().unwrap_or_default().to_owned());
    Err(Problem::new(Code::CloudRefused, format!("ec2:EnableFastSnapshotRestores: {why}")))
}
