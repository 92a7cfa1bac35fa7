//! Every operation that this double has, with the action that a role needs for it.
//!
//! | op | request |
//! |---|---|
//! | `snapshots.{put,get,patch,delete,list}`, `disks.{put,get,list}`, `vms.{get,list}`, `groups.{get,list}` | as named; lists by group and by subscription |
//! | `vms.attach` | `POST …/attachDetachDataDisks`; it attaches only |
//! | `run.action`; `run.{put,get,delete,list}` | `POST …/runCommand`; `…/runCommands/NAME` |
//! | `collections.{put,get,patch,delete,list}`, `points.{put,get,delete}` | `restorePointCollections/C/restorePoints/P` |
//! | `tags.{get,patch,put}` | `ID/providers/Microsoft.Resources/tags/default` of a VM, disk, snapshot or collection |
//! | `operation.get` | `…/locations/L/operations/ID`, `…/DiskOperations/ID`, both with `&monitor=true` too |
//! | `token` | `/msi/token` (IDENTITY_ENDPOINT), `POST /TENANT/oauth2/v2.0/token`, and IMDS `/metadata/identity/oauth2/token` |
//! | `imds.instance` | IMDS `/metadata/instance…` |
//! | `endpoints`, `tenants.list`, `subscriptions.{get,list}` | what `az login` asks for |

use super::fault::ArmFault;
use super::id::Target;
use super::sim::Sim;
use super::wire::{Ask, Fail};
use super::{attach, identity, imds, login, lro, points, run, snapshots, tags, vms};
use crate::wire::Reply;
use std::sync::Arc;

const NOTHING: (&str, &str) = ("unknown", "");

/// Operation and action.
pub fn classify(method: &str, path: &str, target: Option<&Target>, imds: bool) -> (&'static str, &'static str) {
    match (method, path.trim_end_matches('/')) {
        ("GET", "/metadata/identity/oauth2/token") if imds => return ("token", ""),
        ("GET", p) if imds && p.starts_with("/metadata/instance") => return ("imds.instance", ""),
        _ if imds => return NOTHING,
        ("GET", "/msi/token" | "/msi") => return ("token", ""),
        ("POST", p) if p.ends_with("/oauth2/v2.0/token") => return ("token", ""),
        ("GET", "/metadata/endpoints") => return ("endpoints", ""),
        ("GET", "/tenants") => return ("tenants.list", "-"),
        ("GET", "/subscriptions") => return ("subscriptions.list", "-"),
        _ => {}
    }
    let Some(t) = target else { return NOTHING };
    let grouped = t.group.is_some();
    if t.tags {
        return match (method, grouped && t.name.is_some() && t.child.is_none()) {
            ("GET", true) => ("tags.get", "Microsoft.Resources/tags/read"),
            ("PATCH", true) => ("tags.patch", "Microsoft.Resources/tags/write"),
            ("PUT", true) => ("tags.put", "Microsoft.Resources/tags/write"),
            _ => NOTHING,
        };
    }
    match (method, t.kind.as_str(), t.name.is_some(), t.child.as_deref(), t.child_name.is_some()) {
        ("GET", "", ..) if !grouped && !path.trim_end_matches('/').to_ascii_lowercase().ends_with("/resourcegroups") => {
            ("subscriptions.get", "-")
        }
        ("GET", "", ..) if grouped => ("groups.get", "Microsoft.Resources/subscriptions/resourceGroups/read"),
        ("GET", "", ..) => ("groups.list", "Microsoft.Resources/subscriptions/resourceGroups/read"),
        ("GET", "locations", true, Some("operations"), true) => ("operation.get", "Microsoft.Compute/locations/operations/read"),
        ("GET", "locations", true, Some("diskoperations"), true) => ("operation.get", "Microsoft.Compute/locations/diskOperations/read"),
        ("GET", "snapshots", false, ..) => ("snapshots.list", "Microsoft.Compute/snapshots/read"),
        ("GET", "disks", false, ..) => ("disks.list", "Microsoft.Compute/disks/read"),
        ("GET", "virtualmachines", false, ..) => ("vms.list", "Microsoft.Compute/virtualMachines/read"),
        ("GET", "restorepointcollections", false, ..) => ("collections.list", "Microsoft.Compute/restorePointCollections/read"),
        _ if !grouped => NOTHING,
        ("PUT", "snapshots", true, None, _) => ("snapshots.put", "Microsoft.Compute/snapshots/write"),
        ("GET", "snapshots", true, None, _) => ("snapshots.get", "Microsoft.Compute/snapshots/read"),
        ("PATCH", "snapshots", true, None, _) => ("snapshots.patch", "Microsoft.Compute/snapshots/write"),
        ("DELETE", "snapshots", true, None, _) => ("snapshots.delete", "Microsoft.Compute/snapshots/delete"),
        ("PUT", "disks", true, None, _) => ("disks.put", "Microsoft.Compute/disks/write"),
        ("POST", "virtualmachines", true, Some("attachdetachdatadisks"), false) => {
            ("vms.attach", "Microsoft.Compute/virtualMachines/attachDetachDataDisks/action")
        }
        ("GET", "disks", true, None, _) => ("disks.get", "Microsoft.Compute/disks/read"),
        ("GET", "virtualmachines", true, None | Some("instanceview"), false) => ("vms.get", "Microsoft.Compute/virtualMachines/read"),
        ("POST", "virtualmachines", true, Some("runcommand"), false) => {
            ("run.action", "Microsoft.Compute/virtualMachines/runCommand/action")
        }
        ("GET", "virtualmachines", true, Some("runcommands"), false) => ("run.list", "Microsoft.Compute/virtualMachines/runCommands/read"),
        ("GET", "virtualmachines", true, Some("runcommands"), true) => ("run.get", "Microsoft.Compute/virtualMachines/runCommands/read"),
        ("PUT", "virtualmachines", true, Some("runcommands"), true) => ("run.put", "Microsoft.Compute/virtualMachines/runCommands/write"),
        ("DELETE", "virtualmachines", true, Some("runcommands"), true) => {
            ("run.delete", "Microsoft.Compute/virtualMachines/runCommands/delete")
        }
        ("PUT", "restorepointcollections", true, None, _) => ("collections.put", "Microsoft.Compute/restorePointCollections/write"),
        ("GET", "restorepointcollections", true, None, _) => ("collections.get", "Microsoft.Compute/restorePointCollections/read"),
        ("PATCH", "restorepointcollections", true, None, _) => ("collections.patch", "Microsoft.Compute/restorePointCollections/write"),
        ("DELETE", "restorepointcollections", true, None, _) => ("collections.delete", "Microsoft.Compute/restorePointCollections/delete"),
        ("PUT", "restorepointcollections", true, Some("restorepoints"), true) => {
            ("points.put", "Microsoft.Compute/restorePointCollections/restorePoints/write")
        }
        ("GET", "restorepointcollections", true, Some("restorepoints"), true) => {
            ("points.get", "Microsoft.Compute/restorePointCollections/restorePoints/read")
        }
        ("DELETE", "restorepointcollections", true, Some("restorepoints"), true) => {
            ("points.delete", "Microsoft.Compute/restorePointCollections/restorePoints/delete")
        }
        _ => NOTHING,
    }
}

pub async fn answer(sim: &Arc<Sim>, ask: &Ask, faults: &[(u64, ArmFault)], imds_of: Option<&str>) -> Result<Reply, Fail> {
    match (ask.op, imds_of) {
        ("token", Some(vm)) => return identity::from_imds(sim, ask, vm),
        ("token", None) => return identity::token(sim, ask),
        ("imds.instance", Some(vm)) => return imds::instance(sim, ask, vm),
        ("endpoints", _) => return Ok(login::endpoints(sim, ask)),
        ("unknown", _) if ask.who.is_none() => return Err(identity::no_token()),
        ("unknown", _) => {
            return Err(Fail::new(404, "ResourceNotFound", format!("this double has no {} {}", ask.method, ask.path)));
        }
        _ => {}
    }
    identity::check(sim, ask)?;
    vms::groups_exist(sim, ask)?;
    if ask.param("api-version").is_none() {
        return Err(Fail::bad(
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    }
    match ask.op {
        "snapshots.put" => snapshots::put(sim, ask, faults),
        "snapshots.patch" => snapshots::patch(sim, ask, faults),
        "snapshots.delete" => snapshots::delete(sim, ask, faults),
        "snapshots.get" => snapshots::get(sim, ask),
        "snapshots.list" => snapshots::list(sim, ask),
        "disks.put" => attach::put(sim, ask, faults),
        "vms.attach" => attach::attach(sim, ask, faults),
        "disks.get" => vms::disk(sim, ask),
        "disks.list" => vms::disks(sim, ask),
        "vms.get" => vms::get(sim, ask),
        "vms.list" => vms::list(sim, ask),
        "groups.get" | "groups.list" => vms::groups(sim, ask),
        "run.action" => run::action::post(sim, ask, faults),
        "run.put" => run::managed::put(sim, ask, faults),
        "run.get" => run::managed::get(sim, ask),
        "run.list" => run::managed::list(sim, ask),
        "run.delete" => run::managed::delete(sim, ask, faults),
        "collections.put" => points::put_collection(sim, ask),
        "collections.get" => points::get_collection(sim, ask),
        "collections.patch" => points::patch_collection(sim, ask),
        "collections.delete" => points::delete_collection(sim, ask, faults),
        "collections.list" => points::list_collections(sim, ask),
        "points.put" => points::put(sim, ask, faults),
        "points.get" => points::get(sim, ask),
        "points.delete" => points::delete(sim, ask, faults),
        "tags.get" | "tags.patch" | "tags.put" => tags::resource(sim, ask),
        "operation.get" => lro::poll(sim, ask),
        "tenants.list" => Ok(login::tenants(sim)),
        "subscriptions.get" | "subscriptions.list" => login::subscriptions(sim, ask),
        other => Err(Fail::new(404, "ResourceNotFound", format!("this double has no {other}"))),
    }
}
