//! What lies on disk: database files of checksummed blocks, the write image journal, the journals.

pub mod block;
pub mod database;
pub mod journal;
pub mod wij;

use serde::{Deserialize, Serialize};

/// A failure of the model's files.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{what}: {path}")]
    Io {
        what: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: {why}")]
    Bad { path: String, why: String },
}

impl StoreError {
    pub fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.display().to_string();
        move |source| StoreError::Io { what, path, source }
    }

    pub fn bad(path: &std::path::Path, why: impl Into<String>) -> StoreError {
        StoreError::Bad { path: path.display().to_string(), why: why.into() }
    }
}

/// A place in the journal: `count` numbers the files of an instance without gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub count: u64,
    pub offset: u64,
    pub file: String,
}

/// Reads a length-and-checksum framed JSON value, as labels, WIJ headers and journal records use it.
pub(crate) fn unframe<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<(T, usize)> {
    let len = u32::from_le_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let body = bytes.get(8..8usize.checked_add(len)?)?;
    if len == 0 || crc32fast::hash(body) != crc {
        return None;
    }
    Some((serde_json::from_slice(body).ok()?, 8 + len))
}

/// The reverse of [`unframe`].
pub(crate) fn frame<T: Serialize>(value: &T) -> Vec<u8> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut out = Vec::with_capacity(body.len() + 8);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out.extend_from_slice(&body);
    out
}
