//! Snapshots by the file system's own means: btrfs, reflink, plain copy. Each source gets the best method that fits it
//! (`Prefer::Auto`), so one set may span several file systems.

use super::choose::choose;
use super::measure;
use super::plan::dest_of;
use super::sources::{Source, resolve, sources, tops};
use super::subvol;
use super::tree::Tree;
use super::{Error, Estimate, Finished, Method, Moment, Part, Plan, Progress, Request, Say, Snapshotter, Taken};
use crate::catalogue::{self, files, setdir};
use crate::layout::mountinfo::{self, MountLine};
use doors::clock::boot_now;
use protocol::Code;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// btrfs snapshot, else reflink, else plain copy.
    #[default]
    Auto,
    Btrfs,
    Reflink,
    Copy,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local {
    pub prefer: Prefer,
}

/// What must be free on the target beside the copied bytes: metadata of a clone, the file list.
const SPACE_FLOOR: u64 = 16 << 20;
const SPACE_PER_FILE: u64 = 4096;
impl Snapshotter for Local {
    fn prepare(&self, request: &Request) -> Result<Plan, Error> {
        let (to, wanted) = resolve(request)?;
        let set = to.join(request.id.to_string());
        setdir::create(&set).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::refused(Code::RefusedUsedId, format!("the set {} is there already", set.display()), "use a new id")
            }
            _ => Error::io("make", &set, e),
        })?;
        let mut plan = Plan::new(request.id, set, wanted);
        match self.fill(&mut plan, request, &to) {
            Ok(()) => Ok(plan),
            Err(e) => {
                let _ = setdir::remove(&plan.set); // the first error is the one to tell
                Err(e)
            }
        }
    }

    fn take(&self, plan: &Plan, moment: &Moment<'_>) -> Result<Taken, Error> {
        let begun = boot_now();
        let mut total = Progress { step: "take", files_of: plan.estimate.files, bytes_of: plan.estimate.bytes, ..Progress::default() };
        let mut skipped = Vec::new();
        for part in &plan.parts {
            moment.check()?;
            match part.method {
                Method::Btrfs => subvol::take(part, &plan.set)?,
                Method::Reflink | Method::Copy | Method::Command => {
                    let mut tree = Tree::new(part, &plan.set, moment, total);
                    tree.run()?;
                    total = tree.total;
                    skipped.append(&mut tree.skipped);
                }
            }
        }
        moment.check()?;
        Ok(Taken { took_ms: boot_now().since(begun), files: total.files, bytes: total.bytes, produced: Vec::new(), skipped })
    }

    fn finish(&self, plan: &Plan, checksums: bool, say: Say<'_>) -> Result<Finished, Error> {
        for part in plan.parts.iter().rev().filter(|p| p.method == Method::Btrfs && p.holds_others) {
            subvol::make_read_only(&plan.set.join(&part.dest))?;
        }
        measure::sync_ms(&plan.set)?;
        let roots: Vec<PathBuf> = tops(&plan.wanted).iter().map(|p| dest_of(p)).collect();
        files::write(&plan.set, &roots, checksums, plan.estimate.files, say)
    }

    fn abort(&self, plan: &Plan) -> Result<(), Error> {
        setdir::remove(&plan.set).map_err(|e| Error::io("remove", &plan.set, e))
    }
}

impl Local {
    fn fill(&self, plan: &mut Plan, request: &Request, to: &Path) -> Result<(), Error> {
        let text = std::fs::read("/proc/self/mountinfo").map_err(|e| Error::io("read", "/proc/self/mountinfo", e))?;
        let mounts = mountinfo::parse(&text);
        let mut speeds = BTreeMap::new();
        for source in sources(&plan.wanted, &mounts, &mut plan.notes)? {
            self.add(plan, &source, to, &mut speeds)?;
        }
        plan.parts.sort_by(|a, b| a.path.cmp(&b.path));
        let dests: Vec<PathBuf> = plan.parts.iter().map(|p| p.dest.clone()).collect();
        for part in &mut plan.parts {
            part.holds_others = dests.iter().any(|d| *d != part.dest && d.starts_with(&part.dest));
        }
        refuse_frozen(plan, request, to, &mounts)?;
        refuse_space(plan)?;
        if plan.estimate.ms > request.hold_ms {
            let e = plan.estimate;
            return Err(Error::refused(
                Code::RefusedTooSlow,
                format!(
                    "{} files with {} bytes are estimated to take {} ms in the window, the hold is {} ms ({})",
                    e.files,
                    e.bytes,
                    e.ms,
                    request.hold_ms,
                    plan.notes.join("; ")
                ),
                "use a longer hold, or a target on the same XFS or btrfs as the data, where clones need no copying",
            ));
        }
        make_parents(plan)
    }

    fn add(&self, plan: &mut Plan, source: &Source, to: &Path, speeds: &mut BTreeMap<u64, u64>) -> Result<(), Error> {
        let Source { path, counted, fence } = source;
        let unit = choose(self.prefer, &plan.set, source, to, speeds)?;
        let method = unit.method();
        let is_dir = path.is_dir();
        let ms = unit.estimate_ms(counted);
        plan.estimate = Estimate {
            ms: plan.estimate.ms.saturating_add(ms),
            files: plan.estimate.files + counted.files,
            bytes: plan.estimate.bytes + counted.bytes,
            new_bytes: plan.estimate.new_bytes + if method == Method::Copy { counted.bytes } else { 0 },
        };
        let inherent = match method {
            Method::Btrfs | Method::Reflink => ", written to the file system that the data is on",
            Method::Copy | Method::Command => "",
        };
        plan.notes.push(format!("{}: {method}{inherent}", path.display()));
        let part = |path: &Path, is_dir, files, bytes| Part {
            method,
            path: path.to_owned(),
            dest: dest_of(path),
            is_dir,
            holds_others: false,
            fence: fence.clone(),
            files,
            bytes,
        };
        if method != Method::Btrfs {
            plan.parts.push(part(path, is_dir, counted.files, counted.bytes));
            return Ok(());
        }
        let home = subvol::root_of(path).into_iter();
        for (n, root) in home.chain(counted.subvolumes.iter().cloned()).enumerate() {
            let (files, bytes) = if n == 0 { (counted.files, counted.bytes) } else { (0, 0) };
            match plan.parts.iter_mut().find(|p| p.path == root) {
                Some(p) => (p.files, p.bytes) = (p.files + files, p.bytes + bytes),
                None => plan.parts.push(part(&root, true, files, bytes)),
            }
        }
        Ok(())
    }
}

fn refuse_frozen(plan: &Plan, request: &Request, to: &Path, mounts: &[MountLine]) -> Result<(), Error> {
    let frozen = |p: &Path| {
        let m = mountinfo::mount_of(mounts, p)?;
        request.frozen_mounts.contains(&m.point).then(|| m.point.clone())
    };
    match frozen(to) {
        None => Ok(()),
        Some(point) => Err(Error::refused(
            Code::ConfigInvalid,
            format!("{} would be frozen in the window, and the set {} is to be written there", point.display(), plan.set.display()),
            "choose a target on another file system; a local snapshot needs no frozen file system",
        )),
    }
}

fn refuse_space(plan: &mut Plan) -> Result<(), Error> {
    let e = plan.estimate;
    let needed = e.new_bytes + e.new_bytes / 20 + SPACE_FLOOR + e.files * SPACE_PER_FILE;
    let free = measure::free_bytes(&plan.set)?;
    if free < needed {
        return Err(Error::NoSpace { at: plan.set.clone(), needed, free });
    }
    Ok(())
}

/// Directories above each part, with owner and mode of their originals. Not below a part: those come with it.
fn make_parents(plan: &Plan) -> Result<(), Error> {
    let data = plan.set.join(catalogue::DATA);
    for part in &plan.parts {
        if plan.parts.iter().any(|p| p.dest != part.dest && part.dest.starts_with(&p.dest)) {
            continue;
        }
        let dest = plan.set.join(&part.dest);
        let above: Vec<&Path> = dest.ancestors().skip(1).take_while(|d| d.starts_with(&data)).collect();
        let original: Vec<&Path> = part.path.ancestors().skip(1).collect();
        for (dir, from) in above.into_iter().zip(original).rev() {
            if dir.is_dir() {
                continue;
            }
            std::fs::create_dir(dir).map_err(|e| Error::io("make", dir, e))?;
            let meta = std::fs::metadata(from).map_err(|e| Error::io("look at", from, e))?;
            // Another than root may not give files away; these directories are only the way to the data.
            match std::os::unix::fs::chown(dir, Some(meta.uid()), Some(meta.gid())) {
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
                other => other,
            }
            .and_then(|()| std::fs::set_permissions(dir, PermissionsExt::from_mode(meta.mode() & 0o7777 | 0o700)))
            .map_err(|e| Error::io("set owner and mode of", dir, e))?;
        }
    }
    Ok(())
}
