//! EBS: what the cloud knows about a host, the snapshot call, tags, the shelf of snapshots, the fleet.
//!
//! Only [`snapshot`](Disks::snapshot) is sent inside a window: one CreateSnapshots for all volumes of the host, with every tag
//! known by then, at most once. Its answer is the point in time ("the point-in-time snapshot is created immediately", EC2 API
//! reference, CreateSnapshots).

mod after;
mod fleet;
mod list;
mod look;
mod restore;

use crate::client::Clients;
use crate::fail::Fail;
use aws_sdk_ec2::operation::create_snapshots::builders::CreateSnapshotsFluentBuilder;
use aws_sdk_ec2::types::{Filter, InstanceSpecification, ResourceType, Tag, TagSpecification};
use common::WallClock;
use coordinator::Target;
use coordinator::policy::Select;
use coordinator::ports::{After, Candidate, Disks, Fleet, Look, Made, Shelf, Snapshot, SnapshotAnswer, SnapshotCall};
use protocol::wire::Problem;
use protocol::{BackupId, tags};
use std::collections::BTreeMap;

/// EC2 API reference, CreateTags: "up to 1000 resources".
const TAGGED_AT_ONCE: usize = 1000;
/// EC2 API reference: a filter takes 200 values.
const FILTER_VALUES: usize = 200;

#[derive(Clone, Debug)]
pub struct Ebs {
    clients: Clients,
    clock: WallClock,
}

impl Ebs {
    pub const fn new(clients: Clients, clock: WallClock) -> Self {
        Self { clients, clock }
    }
}

impl Disks for Ebs {
    async fn look(&self, target: &Target, call: &SnapshotCall) -> Result<Look, Problem> {
        // Boxed, like all of these: the SDK's futures are large, and a saga holds one for each of them.
        Box::pin(look::look(self, target, call)).await
    }

    async fn snapshot(&self, target: &Target, call: &SnapshotCall) -> SnapshotAnswer {
        let sent = Box::pin(create(&self.clients.once, &target.id, call).send());
        let answer = match self.clock.by(call.answer_by, sent).await {
            None => return SnapshotAnswer::Unknown("no answer to ec2:CreateSnapshots before the thaw".into()),
            Some(Ok(answer)) => answer,
            Some(Err(e)) => {
                let fail = Fail::of(&e);
                return match &fail {
                    Fail::Refused { .. } => SnapshotAnswer::Failed(fail.problem("ec2:CreateSnapshots")),
                    Fail::Lost(why) => SnapshotAnswer::Unknown(format!("no answer to ec2:CreateSnapshots: {why}")),
                };
            }
        };
        let of = |s: &aws_sdk_ec2::types::SnapshotInfo| Some(Made { snapshot: s.snapshot_id()?.into(), volume: s.volume_id()?.into() });
        match answer.snapshots().iter().map(of).collect::<Option<Vec<Made>>>() {
            Some(made) if !made.is_empty() => SnapshotAnswer::Accepted(made),
            _ => SnapshotAnswer::Unknown("ec2:CreateSnapshots answered without the snapshots' ids".into()),
        }
    }

    async fn find(&self, id: BackupId) -> Result<Vec<Snapshot>, Problem> {
        let ours = filter(format!("tag:{}{}", tags::PREFIX, tags::name::BACKUP_ID), [id.to_string()]);
        Box::pin(list::snapshots(&self.clients.patient, vec![ours])).await
    }

    async fn tag(&self, snapshots: &[String], tags: &BTreeMap<String, String>) -> Result<(), Problem> {
        for some in snapshots.chunks(TAGGED_AT_ONCE) {
            let call = self.clients.patient.create_tags().set_resources(Some(some.to_vec())).set_tags(Some(tag_list(tags)));
            Box::pin(call.send()).await.map_err(|e| Fail::of(&e).problem("ec2:CreateTags"))?;
        }
        Ok(())
    }

    async fn after(&self, snapshots: &[Made], what: &After<'_>) -> Result<(), Problem> {
        Box::pin(after::after(&self.clients, snapshots, what)).await
    }
}

impl Fleet for Ebs {
    fn place(&self) -> &str {
        self.clients.region()
    }

    async fn select(&self, select: &Select) -> Result<Vec<Candidate>, Problem> {
        Box::pin(fleet::select(&self.clients, select)).await
    }
}

impl Shelf for Ebs {
    async fn all(&self) -> Result<Vec<Snapshot>, Problem> {
        let ours = filter("tag-key", [format!("{}{}", tags::PREFIX, tags::name::SCHEMA)]);
        Box::pin(list::snapshots(&self.clients.patient, vec![ours])).await
    }

    async fn delete(&self, snapshot: &str) -> Result<(), Problem> {
        let call = self.clients.patient.delete_snapshot().snapshot_id(snapshot);
        match Box::pin(call.send()).await.map_err(|e| Fail::of(&e)) {
            Ok(_) => Ok(()),
            // Somebody was faster, or our first try's answer was lost.
            Err(f) if f.is("InvalidSnapshot.NotFound") => Ok(()),
            Err(f) => Err(f.problem("ec2:DeleteSnapshot")),
        }
    }
}

/// The snapshot call, as it is sent and as it is rehearsed. A detached volume or the root must not be in
/// `exclude_volumes`: EC2 refuses both.
fn create(client: &aws_sdk_ec2::Client, instance: &str, call: &SnapshotCall) -> CreateSnapshotsFluentBuilder {
    let mut what = InstanceSpecification::builder().instance_id(instance).exclude_boot_volume(call.exclude_boot);
    if !call.exclude_volumes.is_empty() {
        what = what.set_exclude_data_volume_ids(Some(call.exclude_volumes.clone()));
    }
    client
        .create_snapshots()
        .instance_specification(what.build())
        .description(format!("snapfreeze {}", call.id))
        .tag_specifications(specification(&call.tags))
}

fn specification(tags: &BTreeMap<String, String>) -> TagSpecification {
    TagSpecification::builder().resource_type(ResourceType::Snapshot).set_tags(Some(tag_list(tags))).build()
}

fn tag_list(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect()
}

fn tag_map(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter().map(|t| (t.key().unwrap_or_default().to_owned(), t.value().unwrap_or_default().to_owned())).collect()
}

fn filter(name: impl Into<String>, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}
