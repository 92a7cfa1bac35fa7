//! Managed disks: what the cloud knows about a host, the snapshots of its disks, tags, the shelf of snapshots, the fleet.
//!
//! Each disk has a snapshot call of its own; all are sent at once, each at most once. A point in time is certain only when its
//! operation has succeeded, so [`snapshot`](Disks::snapshot) waits for all of them inside the window (never for `completionPercent`,
//! which is the copy behind it). Tags lie on the snapshots since their creation.

mod fleet;
mod list;
mod look;
pub(crate) mod points;
mod restore;
mod take;

use crate::client::{Arm, models};
use crate::fail::Fail;
use crate::id::SnapshotId;
use crate::lro::{End, LATER};
use common::WallClock;
use coordinator::Target;
use coordinator::policy::{Select, Snapshotter};
use coordinator::ports::{After, Candidate, CloudVolume, Disks, Fleet, Look, Made, Shelf, Snapshot, SnapshotAnswer, SnapshotCall};
use futures_util::future::{join, join_all};
use protocol::wire::Problem;
use protocol::{BackupId, Code, tags};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// ARM takes a PATCH for each snapshot; so many at once.
const TAGGED_AT_ONCE: usize = 8;
/// PATCH and DELETE of a snapshot take about a second.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct ManagedDisks {
    arm: Arm,
    clock: WallClock,
    /// As each host was looked at, so that no question lies before the snapshot calls.
    seen: Arc<Mutex<HashMap<String, Seen>>>,
}

/// A machine and its disks, as they were at the last look.
#[derive(Clone, Debug)]
struct Seen {
    location: String,
    volumes: Vec<CloudVolume>,
}

impl ManagedDisks {
    pub fn new(arm: Arm, clock: WallClock) -> Self {
        Self { arm, clock, seen: Arc::default() }
    }

    async fn retag(&self, snapshot: &str, tags: &BTreeMap<String, String>) -> Result<(), Problem> {
        if let Some(collection) = points::collection_of(snapshot) {
            return points::retag(&self.arm, &collection, tags).await;
        }
        let id: SnapshotId = snapshot.parse()?;
        let read = |f: Fail| f.problem("Microsoft.Compute/snapshots/read");
        let write = |f: Fail| f.problem("Microsoft.Compute/snapshots/write");
        // A PATCH replaces all tags of a snapshot: what is there is read first.
        let mut all = tag_map(self.arm.snapshot(&id).await.map_err(read)?.resource.tags.as_ref());
        all.extend(tags.clone());
        let update = models::SnapshotUpdate { tags: Some(serde_json::json!(all)), ..models::SnapshotUpdate::default() };
        let sent = self.arm.patch_snapshot(&id, update).await.map_err(write)?;
        self.ended(sent, &format!("tags of {}", id.name())).await
    }

    /// Snapshots and restore points with such tags.
    async fn listed(&self, wanted: impl Fn(&BTreeMap<String, String>) -> bool + Sync) -> Result<Vec<Snapshot>, Problem> {
        let (snapshots, points) =
            join(list::snapshots(&self.arm, self.arm.group()), points::all(&self.arm, self.arm.group(), &wanted)).await;
        let mut all: Vec<Snapshot> = snapshots?.into_iter().filter(|s| wanted(&s.tags)).collect();
        all.extend(points?);
        Ok(all)
    }

    /// Of a change outside every window.
    async fn ended(&self, sent: azure_core::Response, what: &str) -> Result<(), Problem> {
        let failed = |why: String| Err(Problem::new(Code::CloudRefused, format!("{what}: {why}")));
        match tokio::time::timeout(CHANGE_WITHIN, self.arm.finish(sent, LATER)).await {
            Ok(End::Succeeded(_)) => Ok(()),
            Ok(End::Failed { code, message }) => failed(format!("{code}: {message}")),
            Ok(End::Lost(why)) => failed(why),
            Err(_) => failed("Azure accepted it and did not end it within a minute".into()),
        }
    }
}

impl Disks for ManagedDisks {
    async fn look(&self, target: &Target, call: &SnapshotCall) -> Result<Look, Problem> {
        look::look(self, target, call).await
    }

    async fn snapshot(&self, target: &Target, call: &SnapshotCall) -> SnapshotAnswer {
        match call.snapshotter {
            Snapshotter::Disks => take::take(self, target, call).await,
            Snapshotter::RestorePoint => points::take(self, target, call).await,
        }
    }

    async fn find(&self, id: BackupId) -> Result<Vec<Snapshot>, Problem> {
        let (name, id) = (format!("{}{}", tags::PREFIX, tags::name::BACKUP_ID), id.to_string());
        let of = |t: &BTreeMap<String, String>| t.get(&name) == Some(&id);
        self.listed(of).await
    }

    async fn tag(&self, snapshots: &[String], tags: &BTreeMap<String, String>) -> Result<(), Problem> {
        // The disks of a restore point share the tags of its collection.
        let mut seen = BTreeSet::new();
        let snapshots: Vec<&String> = snapshots.iter().filter(|s| seen.insert(points::tagged(s))).collect();
        let mut first = None;
        for some in snapshots.chunks(TAGGED_AT_ONCE) {
            let done = join_all(some.iter().map(|s| self.retag(s, tags))).await;
            first = first.or_else(|| done.into_iter().find_map(Result::err));
        }
        first.map_or(Ok(()), Err)
    }

    async fn after(&self, _: &[Made], what: &After<'_>) -> Result<(), Problem> {
        let what = match what {
            After::Copy(_) => "copy_to",
            After::Lock(_) => "lock",
            After::FastRestore(_) => "fast_restore",
        };
        Err(Problem::new(Code::CloudRefused, format!("{what} is not done on Azure")).next("take it out of the policy"))
    }
}

impl Fleet for ManagedDisks {
    fn place(&self) -> &str {
        self.arm.group().unwrap_or_else(|| self.arm.subscription())
    }

    async fn select(&self, select: &Select) -> Result<Vec<Candidate>, Problem> {
        fleet::select(&self.arm, select).await
    }
}

impl Shelf for ManagedDisks {
    async fn all(&self) -> Result<Vec<Snapshot>, Problem> {
        let ours = format!("{}{}", tags::PREFIX, tags::name::SCHEMA);
        self.listed(|t| t.contains_key(&ours)).await
    }

    async fn delete(&self, snapshot: &str) -> Result<(), Problem> {
        if let Some(collection) = points::collection_of(snapshot) {
            return match self.arm.delete_collection(&collection).await {
                Ok(sent) => self.ended(sent, &format!("deletion of {}", collection.name())).await,
                // It went with the first of its disks.
                Err(f) if f.missing() => Ok(()),
                Err(f) => Err(f.problem("Microsoft.Compute/restorePointCollections/delete")),
            };
        }
        let id: SnapshotId = snapshot.parse()?;
        match self.arm.delete_snapshot(&id).await {
            Ok(sent) => self.ended(sent, &format!("deletion of {}", id.name())).await,
            // Somebody was faster, or our first try's answer was lost.
            Err(f) if f.missing() => Ok(()),
            Err(f) => Err(f.problem("Microsoft.Compute/snapshots/delete")),
        }
    }
}

/// The crate's models hold tags as any JSON.
fn tag_map(tags: Option<&serde_json::Value>) -> BTreeMap<String, String> {
    let of = |(k, v): (&String, &serde_json::Value)| Some((k.clone(), v.as_str()?.to_owned()));
    tags.and_then(|t| t.as_object()).map(|o| o.iter().filter_map(of).collect()).unwrap_or_default()
}

/// The name of an enum as the wire has it.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
