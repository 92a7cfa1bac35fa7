//! Which machines a policy selects. Stopped ones are returned: silently skipping one would be a backup that nobody misses.

use super::tag_map;
use crate::client::{Arm, models};
use crate::id::VmId;
use coordinator::Target;
use coordinator::policy::Select;
use coordinator::ports::Candidate;
use protocol::Code;
use protocol::wire::Problem;
use std::collections::BTreeMap;

const READ: &str = "Microsoft.Compute/virtualMachines/read";

pub(super) async fn select(arm: &Arm, select: &Select) -> Result<Vec<Candidate>, Problem> {
    let mut found: BTreeMap<VmId, Candidate> = BTreeMap::new();
    let mut unknown = Vec::new();
    for text in &select.ids {
        let id: VmId = text.parse()?;
        match arm.vm(&id).await {
            Ok(vm) => found.extend(candidate(&vm)),
            Err(f) if f.missing() => unknown.push(text.as_str()),
            Err(f) => return Err(f.problem(READ)),
        }
    }
    if !unknown.is_empty() {
        let detail = format!("no such machine in subscription {}: {}", arm.subscription(), unknown.join(", "));
        return Err(Problem::new(Code::CloudRefused, detail).next("correct select.ids, or the subscription"));
    }
    if !select.tags.is_empty() {
        // Azure cannot be asked for machines by tag; a page has a hundred and more of them.
        let agrees = |c: &Candidate| select.tags.iter().all(|(k, v)| c.tags.get(k) == Some(v));
        let all = match arm.vms().await {
            Ok(all) => all,
            Err(f) if f.missing() => Vec::new(),
            Err(f) => return Err(f.problem(READ)),
        };
        found.extend(all.iter().filter_map(candidate).filter(|(_, c)| agrees(c)));
    }
    Ok(found.into_values().collect())
}

fn candidate(vm: &models::VirtualMachine) -> Option<(VmId, Candidate)> {
    let id: VmId = vm.resource.id.as_deref()?.parse().ok()?;
    let storage = vm.properties.as_ref().and_then(|p| p.storage_profile.as_ref());
    let of = |d: &models::ManagedDiskParameters| d.sub_resource.id.clone();
    let os = storage.and_then(|s| s.os_disk.as_ref()).and_then(|d| d.managed_disk.as_ref()).and_then(of);
    let data = storage.into_iter().flat_map(|s| &s.data_disks).filter_map(|d| d.managed_disk.as_ref().and_then(of));
    let volumes = os.into_iter().chain(data).collect();
    let target = Target { id: id.to_string(), name: id.name().to_owned() };
    Some((id, Candidate { target, tags: tag_map(vm.resource.tags.as_ref()), volumes }))
}
