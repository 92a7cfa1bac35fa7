//! A backup without a database: requests, moments, and looking at what came out.
#![allow(dead_code, reason = "each test binary uses its part")]

use doors::clock::{boot_now, wall_now};
use doors::exec::Cancel;
use protocol::BackupId;
use protocol::tags::SetTags;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use storage::Wanted;
use storage::catalogue::{Manifest, manifest};
use storage::snapshot::{Error, Moment, Plan, Progress, Request, Snapshotter, Taken};

pub fn id(n: u32) -> BackupId {
    format!("0197c4a2-8c8e-7c3a-9d0e-{n:012x}").parse().unwrap()
}

pub fn request(n: u32, sources: &[&Path], to: &Path) -> Request {
    Request {
        id: id(n),
        sources: sources.iter().map(|p| Wanted::new("database", *p)).collect(),
        to: to.to_owned(),
        hold_ms: 60_000,
        frozen_mounts: Vec::new(),
    }
}

pub fn quiet(_: Progress) {}

pub fn take(s: &dyn Snapshotter, plan: &Plan) -> Result<Taken, Error> {
    take_by(s, plan, 60_000)
}

pub fn take_by(s: &dyn Snapshotter, plan: &Plan, ms: u64) -> Result<Taken, Error> {
    let (cancel, tags) = (Cancel::new().unwrap(), BTreeMap::new());
    s.take(plan, &Moment { by: boot_now().plus(ms), cancel: &cancel, say: &quiet, tags: &tags })
}

/// The whole job with its manifest; what it found on the way.
pub fn backup(s: &dyn Snapshotter, r: &Request) -> (Plan, Taken, Manifest) {
    let plan = s.prepare(r).unwrap();
    manifest::write(&plan.set, &Manifest::new(wall_now(), &SetTags::new(r.id), &plan)).unwrap();
    let taken = take(s, &plan).unwrap();
    let m = settle(s, &plan, &taken);
    (plan, taken, m)
}

pub fn settle(s: &dyn Snapshotter, plan: &Plan, taken: &Taken) -> Manifest {
    let finished = s.finish(plan, true, &quiet).unwrap();
    manifest::update(&plan.set, |m, tags| {
        (m.taken, m.finished) = (Some(taken.clone()), Some(finished));
        tags.verdict = protocol::Verdict::Held;
    })
    .unwrap()
}

/// Everything about a tree that a restore must give back: kind, mode, owner, time, links, content, holes by allocated size.
pub fn portrait(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut out, mut todo) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(p) = todo.pop() {
        let m = p.symlink_metadata().unwrap();
        let mut text = format!("{:o} {}:{} {}.{:09}", m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec());
        if m.is_file() {
            let sum = std::fs::read(&p).unwrap().iter().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add((*b).into()));
            text += &format!(" {} links {} {sum:x}", m.len(), m.nlink());
        } else if m.is_symlink() {
            text += &format!(" -> {}", std::fs::read_link(&p).unwrap().display());
        } else if m.is_dir() {
            todo.extend(std::fs::read_dir(&p).unwrap().map(|e| e.unwrap().path()));
        }
        out.insert(p.strip_prefix(root).unwrap().to_owned(), text);
    }
    out
}
