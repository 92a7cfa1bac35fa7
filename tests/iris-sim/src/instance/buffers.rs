//! The global buffers: a finite pool of blocks, dirty ones waiting for the write daemon.

use crate::store::StoreError;
use crate::store::block::Block;
use crate::store::database::Database;
use std::collections::HashMap;

pub struct Buffer {
    pub block: Block,
    /// Grows with each change, so that the write daemon knows whether what it wrote is still current.
    pub version: u64,
    pub dirty: bool,
}

/// Invariant: `dirty` is the number of buffers whose block differs from its file.
pub struct Buffers {
    pub capacity: usize,
    pub dirty: usize,
    map: HashMap<(u16, u32), Buffer>,
}

impl Buffers {
    pub fn new(capacity: usize) -> Buffers {
        Buffers { capacity, dirty: 0, map: HashMap::new() }
    }

    pub fn load(&mut self, dbs: &[Database], sfn: u16, number: u32) -> Result<&Block, StoreError> {
        Ok(&self.buffer(dbs, sfn, number)?.block)
    }

    /// The block for changing; it counts as dirty from here on.
    pub fn modify(&mut self, dbs: &[Database], sfn: u16, number: u32, lsn: u64) -> Result<&mut Block, StoreError> {
        self.buffer(dbs, sfn, number)?;
        let Some(buffer) = self.map.get_mut(&(sfn, number)) else { unreachable!("loaded above") };
        self.dirty += usize::from(!buffer.dirty);
        buffer.dirty = true;
        buffer.version += 1;
        buffer.block.lsn = lsn;
        Ok(&mut buffer.block)
    }

    fn buffer(&mut self, dbs: &[Database], sfn: u16, number: u32) -> Result<&mut Buffer, StoreError> {
        if !self.map.contains_key(&(sfn, number)) {
            if self.map.len() >= self.capacity {
                let clean = self.map.iter().find(|(_, b)| !b.dirty).map(|(k, _)| *k);
                // Without a clean buffer the read goes over the limit; updates have been stalled before.
                if let Some(key) = clean {
                    self.map.remove(&key);
                }
            }
            let block = dbs[sfn as usize].read(number)?;
            self.map.insert((sfn, number), Buffer { block, version: 0, dirty: false });
        }
        match self.map.get_mut(&(sfn, number)) {
            Some(buffer) => Ok(buffer),
            None => unreachable!("inserted above"),
        }
    }

    /// The dirty blocks in write order, each with its version.
    pub fn dirty_blocks(&self) -> Vec<(u16, u32, u64)> {
        let mut out: Vec<_> = self.map.iter().filter(|(_, b)| b.dirty).map(|((sfn, number), b)| (*sfn, *number, b.version)).collect();
        out.sort_unstable();
        out
    }

    /// The bytes of a block as write daemon cycle `cycle` writes it.
    pub fn image(&mut self, sfn: u16, number: u32, cycle: u64, size: usize) -> Option<Vec<u8>> {
        let buffer = self.map.get_mut(&(sfn, number))?;
        buffer.block.cycle = cycle;
        Some(buffer.block.encode(number, size))
    }

    /// The write daemon has written `version` of the block.
    pub fn written(&mut self, sfn: u16, number: u32, version: u64) {
        if let Some(buffer) = self.map.get_mut(&(sfn, number))
            && buffer.dirty
            && buffer.version == version
        {
            buffer.dirty = false;
            self.dirty -= 1;
        }
    }

    /// Nothing of this database stays; its dirty blocks have been written.
    pub fn forget(&mut self, sfn: u16) {
        self.map.retain(|(s, _), _| *s != sfn);
        self.dirty = self.map.values().filter(|b| b.dirty).count();
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}
