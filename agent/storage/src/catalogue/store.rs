//! Listing, finding, keeping and pruning sets. Nothing is hidden: what cannot be read is shown as such.

use super::{Error, MANIFEST, Manifest, manifest, setdir};
use protocol::retain::{self, Decision, Item, Kind, Policy};
use protocol::tags::SetTags;
use protocol::{BackupId, Verdict, WallMs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One thing that lies in a target directory.
#[derive(Clone, Debug)]
pub struct Entry {
    pub dir: PathBuf,
    /// The directory's name; of a set its backup id.
    pub name: String,
    /// Frozen, else created, else last changed.
    pub at: WallMs,
    pub state: State,
}

#[derive(Clone, Debug)]
pub enum State {
    Set {
        manifest: Box<Manifest>,
        tags: Box<SetTags>,
    },
    /// Written by a newer snapfreeze; shown, never changed or deleted.
    Newer {
        schema: u32,
    },
    /// A removal was begun and did not end.
    Partial,
    Damaged {
        why: String,
    },
    /// Not ours.
    Foreign,
}

impl State {
    /// `held`, `broken`, `pending`, `newer`, `partial`, `damaged`, `foreign`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Set { tags, .. } => tags.verdict.word(),
            Self::Newer { .. } => "newer",
            Self::Partial => "partial",
            Self::Damaged { .. } => "damaged",
            Self::Foreign => "foreign",
        }
    }
}

impl Entry {
    pub fn tags(&self) -> Option<&SetTags> {
        match &self.state {
            State::Set { tags, .. } => Some(tags),
            State::Newer { .. } | State::Partial | State::Damaged { .. } | State::Foreign => None,
        }
    }
}

/// Everything in the given target directories, newest first. `lost+found` belongs to the file system.
pub fn list(dirs: &[PathBuf]) -> Result<Vec<Entry>, Error> {
    let mut out = Vec::new();
    for to in dirs {
        for entry in std::fs::read_dir(to).map_err(|e| Error::io("read", to, e))? {
            let entry = entry.map_err(|e| Error::io("read", to, e))?;
            if entry.file_name() != "lost+found" {
                out.push(look(&entry.path()));
            }
        }
    }
    out.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.name.cmp(&a.name)));
    Ok(out)
}

fn look(dir: &Path) -> Entry {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let changed = |p: &Path| p.symlink_metadata().map(|m| WallMs(m.mtime() * 1000)).ok();
    let state = state(dir, &name);
    let at = match &state {
        State::Set { manifest, tags } => Some(tags.frozen_at.unwrap_or(manifest.created_at)),
        State::Newer { .. } | State::Partial | State::Damaged { .. } | State::Foreign => None,
    };
    let at = at.or_else(|| changed(&dir.join(MANIFEST))).or_else(|| changed(dir)).unwrap_or(WallMs(0));
    Entry { dir: dir.to_owned(), name, at, state }
}

fn state(dir: &Path, name: &str) -> State {
    let id = name.parse::<BackupId>().ok();
    let has = |file: &str| dir.join(file).symlink_metadata().is_ok();
    if id.is_some() && has(setdir::PARTIAL) {
        return State::Partial;
    }
    if id.is_none() && !has(MANIFEST) {
        return State::Foreign;
    }
    match manifest::read(dir) {
        Ok((_, tags)) if Some(tags.backup_id) != id => State::Damaged { why: format!("its manifest is of {}", tags.backup_id) },
        Ok((manifest, tags)) => State::Set { manifest: Box::new(manifest), tags: Box::new(tags) },
        Err(Error::Newer { schema, .. }) => State::Newer { schema },
        Err(e) => State::Damaged { why: e.to_string() },
    }
}

/// By id, by the beginning of an id (8 characters or more), or `latest`: the newest held set.
pub fn find(dirs: &[PathBuf], which: &str) -> Result<Entry, Error> {
    let all = list(dirs)?;
    let held = |e: &Entry| e.tags().is_some_and(|t| t.verdict == Verdict::Held);
    let fits = |e: &Entry| e.name.eq_ignore_ascii_case(which) || (which.len() >= 8 && e.name.starts_with(&which.to_lowercase()));
    let mut found = match which {
        "latest" => all.into_iter().filter(held).take(1).collect::<Vec<_>>(),
        _ => all.into_iter().filter(fits).collect(),
    };
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => Err(Error::Ambiguous(which.into())),
        (None, _) => Err(Error::Unknown(which.into())),
    }
}

/// A person's wish, which overrides retention.
pub fn keep(set: &Path, until: WallMs, reason: &str) -> Result<Manifest, Error> {
    manifest::update(set, |_, tags| (tags.keep_until, tags.keep_reason) = (Some(until), reason.into()))
}

pub fn unkeep(set: &Path) -> Result<Manifest, Error> {
    manifest::update(set, |_, tags| (tags.keep_until, tags.keep_reason) = (None, String::new()))
}

/// What would be deleted and what stays, each with its reason, beside the entry itself. Changes nothing.
pub fn prune_plan(dirs: &[PathBuf], policy: &Policy, now: WallMs) -> Result<Vec<(Entry, Decision)>, Error> {
    let entries = list(dirs)?;
    // By path: one id may lie in two targets.
    let items: Vec<Item> = entries.iter().map(item).collect();
    let mut decisions: std::collections::BTreeMap<String, Decision> =
        retain::plan(&items, policy, now).into_iter().map(|d| (d.name.clone(), d)).collect();
    Ok(entries.into_iter().filter_map(|e| decisions.remove(&*e.dir.to_string_lossy()).map(|d| (e, d))).collect())
}

/// Hears of each deletion as it ends.
pub type Each<'a> = &'a mut dyn FnMut(&Entry, &Decision, Result<(), Error>);

/// Deletes what the plan says, and only while it still says so: a set that was kept meanwhile stays.
pub fn prune(dirs: &[PathBuf], policy: &Policy, now: WallMs, each: Each<'_>) -> Result<(), Error> {
    for (entry, decision) in prune_plan(dirs, policy, now)?.into_iter().filter(|(_, d)| d.delete) {
        let fresh = look(&entry.dir);
        let kept = fresh.tags().and_then(|t| t.keep_until).is_some_and(|t| t > now);
        if kept || fresh.state.word() != entry.state.word() {
            continue;
        }
        let done = setdir::remove(&entry.dir).map_err(|e| Error::io("remove", &entry.dir, e));
        each(&entry, &decision, done);
    }
    Ok(())
}

fn item(e: &Entry) -> Item {
    let tags = e.tags();
    Item {
        name: e.dir.to_string_lossy().into_owned(),
        at: e.at,
        kind: match &e.state {
            State::Set { tags, .. } => match tags.verdict {
                Verdict::Held => Kind::Held,
                Verdict::Broken(_) => Kind::Broken,
                Verdict::Pending => Kind::Pending,
            },
            State::Newer { .. } => Kind::Newer,
            State::Partial => Kind::Partial,
            State::Damaged { .. } => Kind::Damaged,
            State::Foreign => Kind::Foreign,
        },
        kept_until: tags.and_then(|t| t.keep_until),
        expires: tags.and_then(|t| t.expires),
    }
}
