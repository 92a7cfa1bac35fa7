//! The local catalogue: one directory per set, `TO/<backup id>/`, with nothing beside it that could be lost.
//!
//! ```text
//! manifest.json          what the set is: the tags of contract §7 by the same names, how it was made, its window, its verdict
//! snapfreeze-host.json   what a restore must recreate: layout, owners, databases, versions, key ids (`host`)
//! files.jsonl            every file with size and SHA-256, written after the thaw (`files`)
//! data/…                 the sources below their absolute paths
//! drills/…               what drills of the set have shown, signed (`drills`)
//! PARTIAL                there while the set is being removed
//! ```
//!
//! A manifest is written before the freeze, `pending`; a crash leaves it so, and pending is never held. `retain` is the
//! pure rule for what `prune` may delete.

pub mod drills;
pub mod files;
pub mod host;
pub mod manifest;
pub use protocol::retain;
pub mod setdir;
pub mod store;

pub use manifest::Manifest;
pub use store::{Entry, State};

pub const MANIFEST: &str = "manifest.json";
pub const HOST: &str = "snapfreeze-host.json";
pub const FILES: &str = "files.jsonl";
pub const DATA: &str = "data";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not {doing} {path}: {source}")]
    Io { doing: &'static str, path: std::path::PathBuf, source: std::io::Error },
    #[error("{path} is damaged: {why}")]
    Damaged { path: std::path::PathBuf, why: String },
    #[error("{path} was written by a newer snapfreeze (schema {schema})")]
    Newer { path: std::path::PathBuf, schema: u32 },
    #[error("no backup {0:?} in the catalogue")]
    Unknown(String),
    #[error("{0:?} fits more than one backup: give more of the id")]
    Ambiguous(String),
}

impl Error {
    fn io(doing: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
    /// With its stable name.
    pub fn problem(&self) -> protocol::wire::Problem {
        use protocol::Code;
        let code = match self {
            Self::Unknown(_) => Code::CatalogueUnknown,
            Self::Damaged { .. } => Code::CatalogueDamaged,
            Self::Ambiguous(_) => Code::UsageInvalid,
            Self::Io { .. } | Self::Newer { .. } => Code::Internal,
        };
        protocol::wire::Problem::new(code, self.to_string())
    }
}
