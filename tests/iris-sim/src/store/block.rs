//! A database block: global nodes, stamped with the write daemon cycle that wrote it, under one checksum.

use std::collections::BTreeMap;

/// Bytes in front of the nodes.
pub const HEADER: usize = 40;
const MAGIC: u32 = 0x424b_5349;
const OVERFLOW: u16 = 1;

/// Why a block's bytes are no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("not a block (bad magic)")]
    Magic,
    #[error("checksum differs: two writes are mixed in one block")]
    Checksum,
    #[error("says it is block {says}")]
    Misplaced { says: u32 },
    #[error("nodes overrun the block")]
    Overrun,
}

/// One block in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// The write daemon cycle whose image this is; 0 = as formatted.
    pub cycle: u64,
    /// Sequence number of the last update in it.
    pub lsn: u64,
    /// A node that hashes here may lie in the next block.
    pub overflow: bool,
    pub nodes: BTreeMap<String, String>,
}

impl Block {
    /// Bytes that the nodes need.
    pub fn used(&self) -> usize {
        HEADER + self.nodes.iter().map(|(k, v)| 4 + k.len() + v.len()).sum::<usize>()
    }

    pub fn encode(&self, number: u32, size: usize) -> Vec<u8> {
        let mut out = vec![0u8; size];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[8..12].copy_from_slice(&number.to_le_bytes());
        out[12..14].copy_from_slice(&(self.nodes.len() as u16).to_le_bytes());
        out[14..16].copy_from_slice(&(if self.overflow { OVERFLOW } else { 0 }).to_le_bytes());
        out[16..24].copy_from_slice(&self.cycle.to_le_bytes());
        out[24..32].copy_from_slice(&self.lsn.to_le_bytes());
        let mut at = HEADER;
        for (key, value) in &self.nodes {
            out[at..at + 2].copy_from_slice(&(key.len() as u16).to_le_bytes());
            out[at + 2..at + 4].copy_from_slice(&(value.len() as u16).to_le_bytes());
            out[at + 4..at + 4 + key.len()].copy_from_slice(key.as_bytes());
            at += 4 + key.len();
            out[at..at + value.len()].copy_from_slice(value.as_bytes());
            at += value.len();
        }
        let crc = crc32fast::hash(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8], number: u32) -> Result<Block, BlockError> {
        let u16_at = |at: usize| -> Result<usize, BlockError> {
            let b = bytes.get(at..at + 2).ok_or(BlockError::Overrun)?;
            Ok(u16::from_le_bytes([b[0], b[1]]) as usize)
        };
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
        if bytes.len() < HEADER || u32_at(0) != MAGIC {
            return Err(BlockError::Magic);
        }
        if crc32fast::hash(&bytes[8..]) != u32_at(4) {
            return Err(BlockError::Checksum);
        }
        if u32_at(8) != number {
            return Err(BlockError::Misplaced { says: u32_at(8) });
        }
        let mut nodes = BTreeMap::new();
        let mut at = HEADER;
        for _ in 0..u16_at(12)? {
            let (klen, vlen) = (u16_at(at)?, u16_at(at + 2)?);
            let text = |from: usize, len: usize| {
                let slice = bytes.get(from..from + len).ok_or(BlockError::Overrun)?;
                Ok(String::from_utf8_lossy(slice).into_owned())
            };
            nodes.insert(text(at + 4, klen)?, text(at + 4 + klen, vlen)?);
            at += 4 + klen + vlen;
        }
        Ok(Block { cycle: u64_at(16), lsn: u64_at(24), overflow: u16_at(14)? as u16 & OVERFLOW != 0, nodes })
    }
}

/// The block where the search for a node begins; nodes spill into the following ones.
pub fn home(key: &str, blocks: u32) -> u32 {
    1 + crc32fast::hash(key.as_bytes()) % blocks.max(1)
}

/// The block after `number`, round the end.
pub fn next(number: u32, blocks: u32) -> u32 {
    if number >= blocks { 1 } else { number + 1 }
}
