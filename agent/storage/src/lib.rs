//! This host's disks: which path lies on which volume, making a point in time, and the local catalogue.
//!
//! One backup on this host, in the order of the calls:
//!
//! ```text
//! layout::read(&Roots::host(), &wanted)            path -> mount -> devices -> volumes (`GET /v1/layout`)
//! cover::check(&layout, &Contains::…, …)           refused before the freeze, by name; which file systems to sync, to freeze
//! sync::SyncSet::open(&cover.sync)                 descriptors opened before the freeze
//! snapshotter.prepare(&Request{…}) -> Plan         checks, measures, makes TO/<id>/           [snapshot]
//! catalogue::host::write(&plan.set, &HostFile{…})  what a restore must recreate
//! catalogue::manifest::write(&plan.set, &Manifest::new(now, &tags, &plan))                    verdict pending
//!     ── freeze ──
//! sync_set.sync(by)                                cloud snapshots see disks, not the page cache
//! snapshotter.take(&plan, &Moment{…}) -> Taken     the point in time
//!     ── thaw ──
//! snapshotter.finish(&plan, checksums, say)        on disk, read-only, files.jsonl with SHA-256
//! catalogue::manifest::update(&plan.set, |m, tags| …)                                         window, verdict
//! ```
//!
//! Anything that fails after `prepare`: `snapshotter.abort(&plan)`. Later: `catalogue::store::{list, find, keep, unkeep,
//! prune_plan, prune}`, `catalogue::files::verify`. A file system that spans disks which are not snapshotted in one call:
//! `fsfreeze::FsFreeze`.

pub mod catalogue;
pub mod cover;
pub mod fsfreeze;
pub mod image;
mod ioctl;
pub mod layout;
pub mod place;
pub mod ship;
pub mod snapshot;
pub mod sync;

pub use snapshot::Wanted;
