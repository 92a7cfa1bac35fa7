//! The instance's core, single-threaded: databases behind a buffer pool, the journal, open transactions,
//! the write daemon as a machine of small steps. It never sleeps; [`crate::server`] gives it threads and time,
//! [`crate::torn`] gives it a seeded scheduler.

pub mod accounts;
pub mod buffers;
pub mod databases;
pub mod journal_restore;
pub mod recovery;
pub mod suspension;
pub mod write_daemon;

use crate::config::Config;
use crate::store::block;
use crate::store::database::Database;
use crate::store::journal::{self, Journal, Reason, Record, Set};
use crate::store::wij::Wij;
use crate::store::{Position, StoreError};
use buffers::Buffers;
use std::collections::{BTreeMap, HashMap};
use suspension::Suspension;
use write_daemon::WriteDaemon;

/// Buffers that no update may take: the write daemon needs room to finish a cycle.
const RESERVED_BUFFERS: usize = 4;

/// A transaction that has begun and not ended.
#[derive(Debug, Default)]
pub struct Txn {
    /// Where its first record stands; none before its first update.
    pub first: Option<Position>,
    pub sets: Vec<Set>,
    pub pid: u32,
}

/// Why an update must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// All global buffers are dirty.
    Buffers,
    /// ExternalFreezeTimeOut has expired.
    TimeOut,
}

#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("update waits: {0:?}")]
    Stalled(Stall),
    #[error("another transaction holds a lock on the node")]
    Locked,
    #[error("<MAXSTRING>")]
    TooLong,
    #[error("<FILEFULL>")]
    Full,
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub struct Core {
    pub cfg: Config,
    pub dbs: Vec<Database>,
    pub buffers: Buffers,
    pub journal: Journal,
    pub wij: Wij,
    pub wd: WriteDaemon,
    pub txns: BTreeMap<u64, Txn>,
    pub suspension: Option<Suspension>,
    /// Switch 10 or 13, set by tests: another backup is running.
    pub switches: bool,
    pub lsn: u64,
    pub next_txn: u64,
    pub commits: u64,
    locks: HashMap<(u16, String), u64>,
}

impl Core {
    pub fn get(&mut self, sfn: u16, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.find(sfn, key)?.map(|(_, value)| value))
    }

    /// The stall that an update would meet now.
    pub fn stall(&self) -> Option<Stall> {
        if self.suspension.as_ref().is_some_and(|s| s.blocked) {
            return Some(Stall::TimeOut);
        }
        (self.buffers.dirty + RESERVED_BUFFERS >= self.buffers.capacity).then_some(Stall::Buffers)
    }

    pub fn begin(&mut self, pid: u32) -> u64 {
        self.next_txn += 1;
        self.txns.insert(self.next_txn, Txn { pid, ..Txn::default() });
        self.next_txn
    }

    /// Changes nodes together: one journal record, no write daemon image in between. `txn` 0 is no transaction.
    pub fn update(&mut self, txn: u64, changes: Vec<(u16, String, Option<String>)>) -> Result<(), UpdateError> {
        if let Some(stall) = self.stall() {
            return Err(UpdateError::Stalled(stall));
        }
        let limit = self.cfg.block_size as usize - block::HEADER - 4;
        let mut sets = Vec::with_capacity(changes.len());
        for (sfn, key, new) in changes {
            if key.len() + new.as_ref().map_or(0, String::len) > limit {
                return Err(UpdateError::TooLong);
            }
            if self.locks.get(&(sfn, key.clone())).is_some_and(|owner| *owner != txn) {
                return Err(UpdateError::Locked);
            }
            let old = self.get(sfn, &key)?;
            sets.push(Set { sfn, key, old, new });
        }
        self.lsn += 1;
        let journalled: Vec<Set> = sets.iter().filter(|s| self.cfg.databases[s.sfn as usize].journalled).cloned().collect();
        if !journalled.is_empty() {
            let at = self.journal.append(&Record::Update { lsn: self.lsn, txn, sets: journalled.clone() });
            if let Some(open) = self.txns.get_mut(&txn) {
                open.first.get_or_insert(at);
                open.sets.extend(journalled.iter().cloned());
                for set in journalled {
                    self.locks.insert((set.sfn, set.key), txn);
                }
            }
        }
        for set in sets {
            self.put(&set)?;
        }
        Ok(())
    }

    /// Ends a transaction; on return its records are in the journal file.
    pub fn commit(&mut self, txn: u64) -> Result<(), StoreError> {
        if let Some(ended) = self.txns.remove(&txn) {
            self.journal.append(&Record::Commit { txn });
            self.unlock(&ended);
            self.commits += 1;
            if self.cfg.fsync {
                self.journal.sync()?;
            }
            self.journal.flush()?;
        }
        Ok(())
    }

    pub fn rollback(&mut self, txn: u64) -> Result<(), UpdateError> {
        let Some(ended) = self.txns.remove(&txn) else {
            return Ok(());
        };
        self.lsn += 1;
        let sets = journal::undo(ended.sets.iter().cloned());
        self.journal.append(&Record::Rollback { lsn: self.lsn, txn, sets: sets.clone() });
        self.unlock(&ended);
        for set in &sets {
            self.put(set)?;
        }
        Ok(self.journal.flush()?)
    }

    fn unlock(&mut self, ended: &Txn) {
        for set in &ended.sets {
            self.locks.remove(&(set.sfn, set.key.clone()));
        }
    }

    /// Rolls the journal when it has reached its size. Says whether it did.
    pub fn roll_journal(&mut self, today: &str) -> Result<bool, StoreError> {
        let due = self.journal.over_limit();
        if due {
            self.journal.switch(Reason::SizeLimit, today)?;
        }
        Ok(due)
    }

    /// The first record of the oldest open transaction, else the next record's place.
    pub fn open_position(&self) -> Position {
        self.txns.values().filter_map(|t| t.first.clone()).min().unwrap_or_else(|| self.journal.position())
    }

    /// Finds a node: its block and value.
    fn find(&mut self, sfn: u16, key: &str) -> Result<Option<(u32, String)>, StoreError> {
        let db = self.dbs.get(sfn as usize).filter(|db| db.mounted);
        // INVENTED: what a process sees of a database that is not mounted.
        let blocks = db.ok_or_else(|| StoreError::bad(&self.cfg.dir, "<DIRECTORY> the database is not mounted"))?.label.blocks;
        let mut number = block::home(key, blocks);
        for _ in 0..blocks {
            let block = self.buffers.load(&self.dbs, sfn, number)?;
            if let Some(value) = block.nodes.get(key) {
                return Ok(Some((number, value.clone())));
            }
            if !block.overflow {
                return Ok(None);
            }
            number = block::next(number, blocks);
        }
        Ok(None)
    }

    /// Puts one change into the buffers.
    fn put(&mut self, set: &Set) -> Result<(), UpdateError> {
        let (sfn, size, lsn) = (set.sfn, self.cfg.block_size as usize, self.lsn);
        let blocks = self.dbs[sfn as usize].label.blocks;
        let mut from = block::home(&set.key, blocks);
        if let Some((number, old)) = self.find(sfn, &set.key)? {
            let block = self.buffers.modify(&self.dbs, sfn, number, lsn)?;
            match &set.new {
                Some(new) if block.used() - old.len() + new.len() <= size => {
                    block.nodes.insert(set.key.clone(), new.clone());
                    return Ok(());
                }
                Some(_) => {
                    block.nodes.remove(&set.key);
                    block.overflow = true;
                    from = block::next(number, blocks);
                }
                None => {
                    block.nodes.remove(&set.key);
                    return Ok(());
                }
            }
        }
        let Some(new) = &set.new else { return Ok(()) };
        let need = 4 + set.key.len() + new.len();
        for _ in 0..blocks {
            let block = self.buffers.modify(&self.dbs, sfn, from, lsn)?;
            if block.used() + need <= size {
                block.nodes.insert(set.key.clone(), new.clone());
                return Ok(());
            }
            block.overflow = true;
            from = block::next(from, blocks);
        }
        Err(UpdateError::Full)
    }
}
