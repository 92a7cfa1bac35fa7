//! A database file `IRIS.DAT`: an 8 KiB label, then blocks 1..=n.
//!
//! The label carries the vendor's known marks (facts: magic `Cache DB` at 0x5F4, length and text of the
//! directory at 0x5FC and 0x5FE, resource name near 0x700) and, from 0x1000 on, the model's own fields.

use super::{Position, StoreError, frame, unframe};
use crate::store::block::Block;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The label's length, whatever the block size.
pub const LABEL: usize = 8192;
const OWN: usize = 0x1000;

/// What a label says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub guid: String,
    pub name: String,
    pub directory: String,
    pub sfn: u16,
    pub block_size: u32,
    pub blocks: u32,
    pub journalled: bool,
    /// The last write daemon cycle that is complete in this file.
    pub cycle: u64,
    /// The last update in that cycle.
    pub lsn: u64,
    /// Where journal replay onto this image begins.
    pub image: Position,
    /// Where the oldest transaction open at that moment begins.
    pub open: Position,
}

impl Label {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0u8; LABEL];
        out[0x5F4..0x5FC].copy_from_slice(b"Cache DB");
        let dir = self.directory.as_bytes();
        let len = dir.len().min(0x700 - 0x5FE);
        out[0x5FC..0x5FE].copy_from_slice(&(len as u16).to_le_bytes());
        out[0x5FE..0x5FE + len].copy_from_slice(&dir[..len]);
        out[0x702..0x70E].copy_from_slice(b"%DB_%DEFAULT");
        let own = frame(self);
        out[OWN..OWN + own.len()].copy_from_slice(&own);
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Label> {
        unframe(bytes.get(OWN..)?).map(|(label, _)| label)
    }
}

/// Where block `number` begins.
pub fn offset(number: u32, block_size: usize) -> u64 {
    LABEL as u64 + u64::from(number - 1) * block_size as u64
}

/// An open database file.
pub struct Database {
    /// False: nothing touches its file.
    pub mounted: bool,
    pub label: Label,
    pub path: PathBuf,
    file: File,
}

impl Database {
    /// Writes a new file with every block formatted.
    pub fn create(path: &Path, label: &Label) -> Result<(), StoreError> {
        let file = File::create(path).map_err(StoreError::io("create database", path))?;
        let size = label.block_size as usize;
        let mut bytes = label.encode();
        for number in 1..=label.blocks {
            bytes.extend_from_slice(&Block::default().encode(number, size));
        }
        file.write_all_at(&bytes, 0).map_err(StoreError::io("format database", path))
    }

    pub fn open(path: &Path) -> Result<Database, StoreError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(StoreError::io("open database", path))?;
        let mut bytes = vec![0u8; LABEL];
        file.read_exact_at(&mut bytes, 0).map_err(StoreError::io("read label", path))?;
        let label = Label::decode(&bytes).ok_or_else(|| StoreError::bad(path, "the label is damaged"))?;
        Ok(Database { mounted: true, label, path: path.to_path_buf(), file })
    }

    /// Configured, and not there.
    pub fn absent(path: &Path) -> Result<Database, StoreError> {
        let file = File::open("/dev/null").map_err(StoreError::io("open", path))?;
        Ok(Database { mounted: false, label: Label::default(), path: path.to_path_buf(), file })
    }

    pub fn read(&self, number: u32) -> Result<Block, StoreError> {
        let size = self.label.block_size as usize;
        let mut bytes = vec![0u8; size];
        self.file.read_exact_at(&mut bytes, offset(number, size)).map_err(StoreError::io("read block", &self.path))?;
        Block::decode(&bytes, number).map_err(|e| StoreError::bad(&self.path, format!("<DATABASE> block {number}: {e}")))
    }

    pub fn write(&self, number: u32, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, offset(number, self.label.block_size as usize)).map_err(StoreError::io("write block", &self.path))
    }

    pub fn write_label(&self) -> Result<(), StoreError> {
        self.file.write_all_at(&self.label.encode(), 0).map_err(StoreError::io("write label", &self.path))
    }

    pub fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("sync database", &self.path))
    }
}
