//! With moto behind: CreateSnapshots is checked and copied here, then forwarded unchanged, and the copies get the ids that
//! moto gave. Tags that break AWS's limits are refused here, because moto takes them. Everything else is moto's.

use super::{Ask, failure, snapshots, tags};
use crate::clock::{boot_ms, wall_ms};
use crate::proxy;
use crate::wire::{Fail, Reply};
use crate::world::{Fate, Snapshot, new_id};

pub async fn answer(ask: &Ask<'_>, to: &str) -> Result<Reply, Fail> {
    match ask.wire.action.as_str() {
        "CreateSnapshots" if known(ask) => set(ask, to).await,
        "CreateTags" => {
            tags::check_request(&ask.query)?;
            Ok(proxy::forward(ask.sim, ask.wire, to).await)
        }
        _ => Ok(proxy::forward(ask.sim, ask.wire, to).await),
    }
}

/// An instance of which nobody told this double has no bytes; moto answers alone.
fn known(ask: &Ask) -> bool {
    let id = ask.query.get("InstanceSpecification.InstanceId");
    id.is_some_and(|id| ask.sim.world().instances.contains_key(id))
}

async fn set(ask: &Ask<'_>, to: &str) -> Result<Reply, Fail> {
    let plan = match snapshots::plan_set(ask) {
        // Whether it would have succeeded is moto's to say too.
        Err(fail) if fail.code != "DryRunOperation" => return Err(fail),
        Err(_) => return Ok(proxy::forward(ask.sim, ask.wire, to).await),
        Ok(plan) => plan,
    };
    let (start_wall_ms, start_boot_ms) = (wall_ms(), boot_ms());
    let staged: Vec<String> = plan.volumes.iter().map(|_| new_id("staged")).collect();
    let bytes = snapshots::copy_bytes(ask, &plan.volumes, &staged).await?;
    let reply = proxy::forward(ask.sim, ask.wire, to).await;
    let made = pairs(&String::from_utf8_lossy(&reply.body));
    let mut world = ask.sim.world();
    for (volume, bytes) in plan.volumes.iter().zip(bytes) {
        let id = made.iter().find(|(v, _)| *v == volume.id).map(|(_, s)| s.clone());
        let (Some(id), Some(staged)) = (id, bytes.dir.clone()) else {
            // moto made none of it: its bytes are of no set.
            bytes.dir.map(std::fs::remove_dir_all);
            continue;
        };
        let dir = ask.sim.config.state.join("snapshots").join(&id);
        if let Err(e) = std::fs::rename(&staged, &dir) {
            return Ok(failure(&Fail::new("InternalError", format!("{}: {e}", dir.display())).status(500)));
        }
        let snapshot = Snapshot {
            id: id.clone(),
            volume: volume.id.clone(),
            instance: volume.instance.clone(),
            region: ask.region.clone(),
            size: volume.size,
            description: String::new(),
            tags: Default::default(),
            encrypted: volume.encrypted,
            start_wall_ms,
            start_boot_ms,
            fate: Fate::Completes,
            complete_after_ms: 0,
            cause: None,
            dir: Some(dir),
            copy_from_us: bytes.from_us,
            copy_to_us: bytes.to_us,
            bytes: bytes.bytes,
            lock: None,
            shared_with: Default::default(),
            fast_restore: Default::default(),
        };
        world.snapshots.insert(id, snapshot);
    }
    Ok(reply)
}

/// `(volume, snapshot)` of a CreateSnapshots response.
fn pairs(xml: &str) -> Vec<(String, String)> {
    let Ok(document) = roxmltree::Document::parse(xml) else { return Vec::new() };
    let items = document.descendants().filter(|n| n.tag_name().name() == "item");
    let child = |item: &roxmltree::Node, name: &str| {
        let found = item.children().find(|c| c.tag_name().name() == name);
        found.and_then(|c| c.text()).map(|t| t.trim().to_owned())
    };
    items.filter_map(|i| Some((child(&i, "volumeId")?, child(&i, "snapshotId")?))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_ids_of_a_response_are_paired_and_tags_are_not_taken_for_them() {
        let xml = "<CreateSnapshotsResponse xmlns='http://x/'><snapshotSet><item><volumeId>vol-1</volumeId><snapshotId> snap-1 </snapshotId>\
                   <tagSet><item><key>volumeId</key><value>x</value></item></tagSet></item></snapshotSet></CreateSnapshotsResponse>";
        assert_eq!(super::pairs(xml), [("vol-1".to_owned(), "snap-1".to_owned())]);
        assert_eq!(super::pairs("<html>").len(), 0);
    }
}
