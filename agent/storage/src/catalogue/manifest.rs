//! `manifest.json`.

use super::{Error, MANIFEST, setdir};
use crate::snapshot::{Estimate, Finished, Part, Plan, Taken, Wanted};
use protocol::tags::{self, BadTags, SetTags};
use protocol::{SCHEMA, WallMs, Window};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The word in `type` by which a manifest is told from another JSON file of that name.
pub const KIND: &str = "snapfreeze-set";

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    pub schema: u32,
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was written first, before the freeze.
    pub created_at: WallMs,
    /// By the names of contract §7; verdict, journals, times and keep are here and nowhere else.
    pub tags: BTreeMap<String, String>,
    /// What the instances asked for, as real paths.
    pub wanted: Vec<Wanted>,
    pub parts: Vec<Part>,
    pub estimate: Estimate,
    #[serde(default)]
    pub window: Option<Window>,
    #[serde(default)]
    pub taken: Option<Taken>,
    #[serde(default)]
    pub finished: Option<Finished>,
    /// When the engine was told to count it, after it was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_at: Option<WallMs>,
}

impl Manifest {
    /// Before the freeze; the verdict in `tags` is `pending`.
    pub fn new(created_at: WallMs, tags: &SetTags, plan: &Plan) -> Self {
        Self {
            schema: SCHEMA,
            kind: KIND.into(),
            created_at,
            tags: tags::to_tags(tags),
            wanted: plan.wanted.clone(),
            parts: plan.parts.clone(),
            estimate: plan.estimate,
            window: None,
            taken: None,
            finished: None,
            counted_at: None,
        }
    }

    pub fn set_tags(&self) -> Result<SetTags, BadTags> {
        tags::from_tags(&self.tags)
    }

    pub fn put_tags(&mut self, tags: &SetTags) {
        self.tags = tags::to_tags(tags);
    }
}

/// Durable when it returns.
pub fn write(set: &Path, manifest: &Manifest) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(manifest).map_err(|e| Error::io("write", set, e.into()))?;
    text.push(b'\n');
    setdir::write_durably(set, MANIFEST, &text).map_err(|e| Error::io("write", &set.join(MANIFEST), e))
}

/// Larger manifests are not ours: the list of files lies beside it.
const SIZE_MAX: u64 = 16 << 20;

/// Damaged: no JSON, another `type`, tags that cannot be read. Newer: only its schema is known.
pub fn read(set: &Path) -> Result<(Manifest, SetTags), Error> {
    let path = set.join(MANIFEST);
    let damaged = |why: String| Error::Damaged { path: path.clone(), why };
    let size = std::fs::metadata(&path).map_err(|e| Error::io("read", &path, e))?.len();
    if size > SIZE_MAX {
        return Err(damaged(format!("{size} bytes are more than any manifest has")));
    }
    let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    parse(&text, path)
}

/// What [`read`] makes of a file's bytes; `path` is for the errors.
pub fn parse(text: &[u8], path: PathBuf) -> Result<(Manifest, SetTags), Error> {
    let damaged = |why: String| Error::Damaged { path: path.clone(), why };
    #[derive(serde::Deserialize)]
    struct Head {
        schema: u32,
        #[serde(rename = "type")]
        kind: String,
    }
    let head: Head = serde_json::from_slice(text).map_err(|e| damaged(e.to_string()))?;
    if head.kind != KIND {
        return Err(damaged(format!("its type is {:?}", head.kind)));
    }
    if head.schema > SCHEMA {
        return Err(Error::Newer { path, schema: head.schema });
    }
    let manifest: Manifest = serde_json::from_slice(text).map_err(|e| damaged(e.to_string()))?;
    match manifest.set_tags() {
        Ok(tags) => Ok((manifest, tags)),
        Err(BadTags::NewerSchema(schema)) => Err(Error::Newer { path, schema }),
        Err(e @ (BadTags::NotOurs | BadTags::Value { .. } | BadTags::MissingPart(_))) => Err(damaged(e.to_string())),
    }
}

/// Reads, lets `change` change, writes durably. A set of a newer schema is never written.
pub fn update(set: &Path, change: impl FnOnce(&mut Manifest, &mut SetTags)) -> Result<Manifest, Error> {
    let (mut manifest, mut tags) = read(set)?;
    change(&mut manifest, &mut tags);
    manifest.put_tags(&tags);
    write(set, &manifest)?;
    Ok(manifest)
}
