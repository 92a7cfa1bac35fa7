//! The snapshot calls inside the window: one for each disk, all at once, each sent once, each waited for until it succeeded.

use super::{ManagedDisks, Seen, look};
use crate::client::models;
use crate::fail::Fail;
use crate::id::{DiskId, SnapshotId, VmId};
use crate::lro::{End, SOON};
use coordinator::Target;
use coordinator::ports::{CloudVolume, Made, SnapshotAnswer, SnapshotCall};
use futures_util::future::{join, join_all};
use models::creation_data::CreateOption;
use protocol::BackupId;
use protocol::wire::Problem;
use std::collections::BTreeSet;

/// Azure naming rules: 1 to 80 of letters, digits, `_` and `-`.
const NAME_MAX: usize = 80;
const WRITE: &str = "Microsoft.Compute/snapshots/write";

/// What became of one disk's snapshot.
enum One {
    Made(Made),
    /// Azure said no; there is none.
    Refused(Problem),
    /// There may be one, good or bad.
    Doubt(String),
}

pub(super) async fn take(disks: &ManagedDisks, target: &Target, call: &SnapshotCall) -> SnapshotAnswer {
    let seen = disks.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&target.id.to_lowercase()).cloned();
    let (Some(seen), Ok(vm)) = (seen, target.id.parse::<VmId>()) else {
        return SnapshotAnswer::Failed(Problem::new(
            protocol::Code::Internal,
            format!("{} was not looked at before its freeze", target.id),
        ));
    };
    let wanted: Vec<&CloudVolume> =
        seen.volumes.iter().filter(|v| if v.boot { !call.exclude_boot } else { !v.named(&call.exclude_volumes) }).collect();
    let group = disks.arm.group().unwrap_or(vm.group());
    // Beside the calls, not before them: are these still the machine's disks?
    let calls = join_all(wanted.iter().map(|v| one(disks, group, &seen, v, call)));
    let Some((made, same)) = disks.clock.by(call.answer_by, join(calls, unchanged(disks, &vm, &seen))).await else {
        return SnapshotAnswer::Unknown(format!("Azure did not end the snapshots of {} before the thaw", vm.name()));
    };
    answer(made, same)
}

fn answer(all: Vec<One>, same: Result<(), String>) -> SnapshotAnswer {
    let (mut made, mut refused, mut doubts) = (Vec::new(), Vec::new(), Vec::new());
    for one in all {
        match one {
            One::Made(m) => made.push(m),
            One::Refused(p) => refused.push(p),
            One::Doubt(why) => doubts.push(why),
        }
    }
    if made.is_empty() && doubts.is_empty() {
        let nothing = || Problem::new(protocol::Code::CloudRefused, "no disk is left to be snapshotted");
        return SnapshotAnswer::Failed(refused.into_iter().next().unwrap_or_else(nothing));
    }
    doubts.extend(refused.into_iter().map(|p| p.detail));
    doubts.extend(same.err());
    if doubts.is_empty() { SnapshotAnswer::Accepted(made) } else { SnapshotAnswer::Unknown(doubts.join("; ")) }
}

async fn one(disks: &ManagedDisks, group: &str, seen: &Seen, v: &CloudVolume, call: &SnapshotCall) -> One {
    let id = match name(call.id, v).and_then(|n| SnapshotId::new(disks.arm.subscription(), group, &n)) {
        Ok(id) => id,
        Err(p) => return One::Refused(p),
    };
    let source = models::CreationData { source_resource_id: Some(v.volume.clone()), ..models::CreationData::new(CreateOption::Copy) };
    let snapshot = models::Snapshot {
        properties: Some(models::SnapshotProperties { incremental: Some(true), ..models::SnapshotProperties::new(source) }),
        ..models::Snapshot::new(models::Resource {
            tags: Some(serde_json::json!(call.tags)),
            ..models::Resource::new(seen.location.clone())
        })
    };
    let sent = match disks.arm.put_snapshot(&id, snapshot).await {
        Ok(sent) => sent,
        Err(f @ Fail::Refused { .. }) => return One::Refused(f.problem(WRITE)),
        Err(Fail::Lost(why)) => return One::Doubt(format!("no answer to {WRITE} of {}: {why}", v.key)),
    };
    match disks.arm.finish(sent, SOON).await {
        End::Succeeded(_) => One::Made(Made { snapshot: id.to_string(), volume: v.volume.clone() }),
        End::Failed { code, message } => One::Doubt(format!("the snapshot of {} failed: {code}: {message}", v.key)),
        End::Lost(why) => One::Doubt(format!("the snapshot of {}: {why}", v.key)),
    }
}

/// A disk that came since the look is in no snapshot; one that went may have carried the data.
async fn unchanged(disks: &ManagedDisks, vm: &VmId, seen: &Seen) -> Result<(), String> {
    let now = disks.arm.vm(vm).await.map_err(|f| f.problem("Microsoft.Compute/virtualMachines/read").detail)?;
    let of = |key: &str, disk: &DiskId| format!("{key} {}", disk.to_string().to_lowercase());
    let attached: BTreeSet<String> = look::attached(&now).iter().filter_map(|a| Some(of(&a.key, a.disk.as_ref()?))).collect();
    let before: BTreeSet<String> = seen.volumes.iter().filter_map(|v| Some(of(&v.key, &v.volume.parse().ok()?))).collect();
    if attached == before { Ok(()) } else { Err(format!("the disks of {} changed since they were looked at", vm.name())) }
}

/// `sf-<backup id>-lun3-<hash of the disk>-<disk's name>`: the same for the same backup and disk, another one for every other.
fn name(id: BackupId, v: &CloudVolume) -> Result<String, Problem> {
    let disk: DiskId = v.volume.parse()?;
    // FNV-1a: only to keep disks of one name in two groups apart.
    let hash = disk.to_string().to_lowercase().bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let plain: String = disk.name().chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let mut name = format!("sf-{}-{}-{hash:08x}-{plain}", id.uuid().simple(), v.key.replace(':', ""));
    name.truncate(NAME_MAX);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Code;

    const ID: &str = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e";

    fn volume(group: &str, disk: &str, key: &str) -> CloudVolume {
        CloudVolume {
            volume: DiskId::new("s", group, disk).unwrap().to_string(),
            key: key.into(),
            device: String::new(),
            boot: false,
            kind: String::new(),
            size_gib: 1,
            pending: 0,
            pending_max: 1,
            last_snapshot: None,
        }
    }

    #[test]
    fn names_obey_azures_rules_and_keep_disks_apart() {
        let name = |group: &str, disk: &str, key: &str| name(ID.parse().unwrap(), &volume(group, disk, key)).unwrap();
        let long = "a.very(long)_disk-name".repeat(4);
        for n in [name("g", "data0", "lun:0"), name("g", &long[..80], "lun:63"), name("g", "os.disk", "os")] {
            assert!(n.len() <= NAME_MAX && n.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "{n}");
        }
        assert_ne!(name("g1", &long[..80], "lun:0"), name("g2", &long[..80], "lun:0"));
        assert_eq!(name("G", "Data0", "lun:0"), name("g", "Data0", "lun:0"), "case is no difference in Azure");
    }

    #[test]
    fn one_snapshot_in_doubt_puts_the_set_in_doubt_and_only_all_refused_is_none() {
        let made = || One::Made(Made { snapshot: "s".into(), volume: "v".into() });
        let refused = || One::Refused(Problem::new(Code::CloudRefused, "no"));
        let doubt = || One::Doubt("?".into());
        assert!(matches!(answer(vec![made(), made()], Ok(())), SnapshotAnswer::Accepted(m) if m.len() == 2));
        assert!(matches!(answer(vec![refused(), refused()], Ok(())), SnapshotAnswer::Failed(_)));
        for all in [vec![made(), refused()], vec![doubt()], vec![made(), doubt()], vec![refused(), doubt()]] {
            assert!(matches!(answer(all, Ok(())), SnapshotAnswer::Unknown(_)));
        }
        assert!(matches!(answer(vec![made()], Err("changed".into())), SnapshotAnswer::Unknown(_)));
    }
}
