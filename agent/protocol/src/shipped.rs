//! `shipped.json`: which journals of an instance were saved elsewhere, piece by piece, and up to when. Written by
//! `snapfreeze journals ship` into a directory, and by `snapfreezectl journals push` into a bucket.

use crate::WallMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Beside the copies.
pub const INDEX: &str = "shipped.json";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    pub schema: u32,
    /// By file name.
    pub files: BTreeMap<String, Shipped>,
    /// Everything that was in the journals at this moment is here: the recovery point.
    pub complete_at: Option<WallMs>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    pub size: u64,
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub size: u64,
    /// Hex.
    pub sha256: String,
}
