//! Snapshots as Azure lists them.

use super::tag_map;
use crate::client::{Arm, models};
use coordinator::ports::{Snapshot, State};
use protocol::WallMs;
use protocol::wire::Problem;

pub(super) async fn snapshots(arm: &Arm, group: Option<&str>) -> Result<Vec<Snapshot>, Problem> {
    match arm.snapshots(group).await {
        Ok(all) => Ok(all.iter().filter_map(snapshot).collect()),
        // No such group: none in it.
        Err(f) if f.missing() => Ok(Vec::new()),
        Err(f) => Err(f.problem("Microsoft.Compute/snapshots/read")),
    }
}

/// One without an id cannot be named, restored or deleted.
fn snapshot(s: &models::Snapshot) -> Option<Snapshot> {
    let p = s.properties.as_ref()?;
    let progress = p.completion_percent.unwrap_or(100.0).clamp(0.0, 100.0);
    Some(Snapshot {
        snapshot: s.resource.id.clone()?,
        volume: p.creation_data.source_resource_id.clone().unwrap_or_default(),
        started: p.time_created.map_or(WallMs(0), wall),
        state: state(p, progress),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        progress: progress as u8,
        size_gib: p.disk_size_gb.and_then(|g| u64::try_from(g).ok()).unwrap_or(0),
        tags: tag_map(s.resource.tags.as_ref()),
    })
}

/// `completionPercent` below 100: of Premium SSD v2 and Ultra disks, unusable until then.
fn state(p: &models::SnapshotProperties, progress: f64) -> State {
    let failed = p.copy_completion_error.is_some();
    match p.provisioning_state.as_deref() {
        Some("Failed" | "Canceled" | "Deleting") => State::Failed,
        _ if failed => State::Failed,
        Some("Succeeded") if progress >= 100.0 => State::Completed,
        _ => State::Pending,
    }
}

pub(super) fn wall(at: time::OffsetDateTime) -> WallMs {
    WallMs(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}

/// What a volume's limits need to know of its snapshots: of this disk, incremental.
pub(super) fn of_disk<'a>(all: &'a [models::Snapshot], disk: &crate::id::DiskId) -> Vec<&'a models::SnapshotProperties> {
    let from = |p: &&models::SnapshotProperties| {
        let source = p.creation_data.source_resource_id.as_deref().and_then(|s| s.parse::<crate::id::DiskId>().ok());
        source.as_ref() == Some(disk) && p.incremental != Some(false)
    };
    all.iter().filter_map(|s| s.properties.as_ref()).filter(from).collect()
}
