//! The write image journal `IRIS.WIJ`: the blocks of one write daemon cycle, whole on disk before any of
//! them is written to its database.
//!
//! Header of 4 KiB (state, cycle, number of blocks, journal positions), then the block images. A header in
//! state `Pending` is written only after all its images, so recovery may apply them all, any number of times.

use super::{Position, StoreError, frame, unframe};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const HEADER: usize = 4096;
const ENTRY_HEADER: usize = 16;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WijState {
    /// Every block of `cycle` is in its database.
    #[default]
    Complete,
    /// The blocks of `cycle` may or may not be in their databases.
    Pending,
}

/// What the header says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WijHeader {
    pub guid: String,
    pub state: WijState,
    pub cycle: u64,
    pub blocks: u32,
    pub block_size: u32,
    pub lsn: u64,
    pub image: Position,
    pub open: Position,
}

/// One block image: database, block number, bytes.
#[derive(Debug, Clone)]
pub struct WijEntry {
    pub sfn: u16,
    pub number: u32,
    pub bytes: Vec<u8>,
}

/// The open file.
pub struct Wij {
    pub header: WijHeader,
    pub path: PathBuf,
    file: File,
}

impl Wij {
    pub fn create(path: &Path, header: WijHeader) -> Result<Wij, StoreError> {
        let file =
            OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path).map_err(StoreError::io("create WIJ", path))?;
        let wij = Wij { header, path: path.to_path_buf(), file };
        wij.write_header()?;
        Ok(wij)
    }

    pub fn open(path: &Path) -> Result<Wij, StoreError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(StoreError::io("open WIJ", path))?;
        let mut bytes = vec![0u8; HEADER];
        file.read_exact_at(&mut bytes, 0).map_err(StoreError::io("read WIJ header", path))?;
        let (header, _) = unframe(&bytes).ok_or_else(|| StoreError::bad(path, "the WIJ header is damaged"))?;
        Ok(Wij { header, path: path.to_path_buf(), file })
    }

    pub fn write_entry(&self, index: usize, entry: &WijEntry) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(ENTRY_HEADER + entry.bytes.len());
        bytes.extend_from_slice(&entry.number.to_le_bytes());
        bytes.extend_from_slice(&u32::from(entry.sfn).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&entry.bytes).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&entry.bytes);
        let at = HEADER + index * bytes.len();
        self.file.write_all_at(&bytes, at as u64).map_err(StoreError::io("write WIJ", &self.path))
    }

    pub fn write_header(&self) -> Result<(), StoreError> {
        let mut bytes = frame(&self.header);
        bytes.resize(HEADER, 0);
        self.file.write_all_at(&bytes, 0).map_err(StoreError::io("write WIJ header", &self.path))
    }

    /// The images of a pending WIJ; an image with a wrong checksum is an error.
    pub fn entries(&self) -> Result<Vec<WijEntry>, StoreError> {
        let size = self.header.block_size as usize;
        let mut bytes = vec![0u8; ENTRY_HEADER + size];
        let mut out = Vec::new();
        for index in 0..self.header.blocks as usize {
            let at = (HEADER + index * (ENTRY_HEADER + size)) as u64;
            self.file.read_exact_at(&mut bytes, at).map_err(StoreError::io("read WIJ", &self.path))?;
            let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let image = bytes[ENTRY_HEADER..].to_vec();
            if crc32fast::hash(&image) != word(8) {
                return Err(StoreError::bad(&self.path, format!("image {index} has a wrong checksum")));
            }
            out.push(WijEntry { sfn: word(4) as u16, number: word(0), bytes: image });
        }
        Ok(out)
    }

    pub fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("sync WIJ", &self.path))
    }
}
