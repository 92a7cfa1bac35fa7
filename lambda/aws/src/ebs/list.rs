//! Listing, page by page: snapshots, volumes, instances.

use crate::fail::Fail;
use aws_sdk_ec2::types::{Filter, Instance, SnapshotState, Volume};
use aws_smithy_types::DateTime;
use coordinator::ports::{Snapshot, State};
use protocol::WallMs;
use protocol::wire::Problem;

/// The largest page of DescribeSnapshots and DescribeInstances; DescribeVolumes takes 500.
const PAGE: i32 = 1000;
const VOLUME_PAGE: i32 = 500;

/// Of this account.
pub(super) async fn snapshots(client: &aws_sdk_ec2::Client, filters: Vec<Filter>) -> Result<Vec<Snapshot>, Problem> {
    let call = client.describe_snapshots().owner_ids("self").max_results(PAGE).set_filters(Some(filters));
    let mut pages = call.into_paginator().send();
    let mut all = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|e| Fail::of(&e).problem("ec2:DescribeSnapshots"))?;
        all.extend(page.snapshots().iter().filter_map(snapshot));
    }
    Ok(all)
}

pub(super) async fn volumes(client: &aws_sdk_ec2::Client, filters: Vec<Filter>) -> Result<Vec<Volume>, Problem> {
    let mut pages = client.describe_volumes().max_results(VOLUME_PAGE).set_filters(Some(filters)).into_paginator().send();
    let mut all = Vec::new();
    while let Some(page) = pages.next().await {
        all.extend(page.map_err(|e| Fail::of(&e).problem("ec2:DescribeVolumes"))?.volumes.unwrap_or_default());
    }
    Ok(all)
}

pub(super) async fn instances(client: &aws_sdk_ec2::Client, filters: Vec<Filter>) -> Result<Vec<Instance>, Problem> {
    let mut pages = client.describe_instances().max_results(PAGE).set_filters(Some(filters)).into_paginator().send();
    let mut all = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|e| Fail::of(&e).problem("ec2:DescribeInstances"))?;
        all.extend(page.reservations.unwrap_or_default().into_iter().flat_map(|r| r.instances.unwrap_or_default()));
    }
    Ok(all)
}

/// One without an id cannot be named, restored or deleted.
fn snapshot(s: &aws_sdk_ec2::types::Snapshot) -> Option<Snapshot> {
    let progress = s.progress().unwrap_or_default().trim_end_matches('%');
    Some(Snapshot {
        snapshot: s.snapshot_id()?.to_owned(),
        volume: s.volume_id().unwrap_or_default().to_owned(),
        started: s.start_time().and_then(wall).unwrap_or(WallMs(0)),
        state: state(s.state()),
        progress: progress.parse().unwrap_or(0).min(100),
        size_gib: s.volume_size().and_then(|g| u64::try_from(g).ok()).unwrap_or(0),
        tags: super::tag_map(s.tags()),
    })
}

/// `recoverable` lies in the recycle bin: as good as gone. What is not known yet is not complete.
fn state(s: Option<&SnapshotState>) -> State {
    match s {
        Some(SnapshotState::Completed) => State::Completed,
        Some(SnapshotState::Error | SnapshotState::Recoverable) => State::Failed,
        _ => State::Pending,
    }
}

fn wall(at: &DateTime) -> Option<WallMs> {
    at.to_millis().ok().map(WallMs)
}
