//! The write daemon: one cycle takes the dirty blocks at one moment, writes them all to the WIJ, marks the
//! WIJ pending, writes them to their databases, writes the labels, marks the WIJ complete. One call of
//! [`Core::wd_step`] does one write.

use super::Core;
use crate::store::wij::{WijEntry, WijState};
use crate::store::{Position, StoreError};

/// What the next write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Wij(usize),
    Pending,
    Blocks(usize),
    Labels(usize),
    Complete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do, or suspended.
    Rest,
    Wrote,
    CycleDone,
}

pub struct WriteDaemon {
    pub phase: Phase,
    /// The last complete cycle.
    pub cycle: u64,
    /// Journal positions of the image on disk, and of the one being written.
    pub image: (Position, Position),
    next_image: (Position, Position),
    next_lsn: u64,
    entries: Vec<(WijEntry, u64)>,
    /// Recovery replays from here; a cycle in between must not move the position on.
    pub hold_position: Option<(Position, Position)>,
    pub suspended: bool,
    /// Suspend when this cycle is complete.
    pub suspend_after: Option<u64>,
    /// A fault: cycles go on while "suspended" (negative control).
    pub ignores_suspension: bool,
}

impl WriteDaemon {
    pub fn new(cycle: u64, image: (Position, Position)) -> WriteDaemon {
        WriteDaemon {
            phase: Phase::Idle,
            cycle,
            image,
            next_image: Default::default(),
            next_lsn: 0,
            entries: Vec::new(),
            hold_position: None,
            suspended: false,
            suspend_after: None,
            ignores_suspension: false,
        }
    }

    /// Suspend after one whole cycle that begins from now on.
    pub fn request_suspend(&mut self) {
        let running = u64::from(self.phase != Phase::Idle);
        self.suspend_after = Some(self.cycle + 1 + running);
    }

    pub fn resume(&mut self) {
        self.suspended = false;
        self.suspend_after = None;
    }
}

impl Core {
    /// Whether a cycle would have something to do.
    pub fn wd_has_work(&self) -> bool {
        let wanted = self.buffers.dirty > 0 || self.wd.suspend_after.is_some();
        let may = !self.wd.suspended || self.wd.ignores_suspension;
        self.wd.phase != Phase::Idle || (wanted && may)
    }

    pub fn wd_step(&mut self) -> Result<Step, StoreError> {
        match self.wd.phase {
            Phase::Idle if !self.wd_has_work() => return Ok(Step::Rest),
            Phase::Idle => self.wd_begin()?,
            Phase::Wij(index) => {
                self.wij.write_entry(index, &self.wd.entries[index].0)?;
                self.wd.phase = self.after(index, Phase::Wij, Phase::Pending);
            }
            Phase::Pending => {
                if self.cfg.fsync {
                    self.wij.sync()?;
                }
                self.wij.header.state = WijState::Pending;
                self.wij.header.cycle = self.wd.cycle + 1;
                self.wij.header.blocks = self.wd.entries.len() as u32;
                self.wij.header.lsn = self.wd.next_lsn;
                (self.wij.header.image, self.wij.header.open) = self.wd.next_image.clone();
                self.wij.write_header()?;
                if self.cfg.fsync {
                    self.wij.sync()?;
                }
                self.wd.phase = if self.wd.entries.is_empty() { Phase::Labels(0) } else { Phase::Blocks(0) };
            }
            Phase::Blocks(index) => {
                let (entry, version) = &self.wd.entries[index];
                self.dbs[entry.sfn as usize].write(entry.number, &entry.bytes)?;
                self.buffers.written(entry.sfn, entry.number, *version);
                self.wd.phase = self.after(index, Phase::Blocks, Phase::Labels(0));
            }
            Phase::Labels(index) => {
                let db = &mut self.dbs[index];
                if db.mounted {
                    db.label.cycle = self.wd.cycle + 1;
                    db.label.lsn = self.wd.next_lsn;
                    (db.label.image, db.label.open) = self.wd.next_image.clone();
                    db.write_label()?;
                    if self.cfg.fsync {
                        db.sync()?;
                    }
                }
                let last = index + 1 == self.dbs.len();
                self.wd.phase = if last { Phase::Complete } else { Phase::Labels(index + 1) };
            }
            Phase::Complete => {
                self.wij.header.state = WijState::Complete;
                self.wij.header.blocks = 0;
                self.wij.write_header()?;
                self.wd.cycle += 1;
                self.wd.image = std::mem::take(&mut self.wd.next_image);
                self.wd.entries.clear();
                self.wd.phase = Phase::Idle;
                if self.wd.suspend_after.is_some_and(|cycle| self.wd.cycle >= cycle) {
                    self.wd.suspend_after = None;
                    self.wd.suspended = true;
                }
                return Ok(Step::CycleDone);
            }
        }
        Ok(Step::Wrote)
    }

    /// Runs one whole cycle now, or ends the running one and runs another.
    pub fn wd_cycle(&mut self) -> Result<(), StoreError> {
        while self.wd.phase != Phase::Idle {
            self.wd_step()?;
        }
        self.wd_begin()?;
        while self.wd_step()? != Step::CycleDone {}
        Ok(())
    }

    /// `WRTDMN Panic`: one dirty block goes straight to its database, without the WIJ. Returns SFN and block.
    pub fn wd_panic(&mut self) -> Result<Option<(u16, u32)>, StoreError> {
        let Some((sfn, number, version)) = self.buffers.dirty_blocks().first().copied() else {
            return Ok(None);
        };
        self.journal.flush()?;
        let cycle = self.wd.cycle + 1;
        if let Some(bytes) = self.buffers.image(sfn, number, cycle, self.cfg.block_size as usize) {
            self.dbs[sfn as usize].write(number, &bytes)?;
            self.buffers.written(sfn, number, version);
        }
        Ok(Some((sfn, number)))
    }

    fn wd_begin(&mut self) -> Result<(), StoreError> {
        if self.cfg.fsync {
            self.journal.sync()?;
        } else {
            self.journal.flush()?;
        }
        let here = (self.journal.position(), self.open_position());
        self.wd.next_lsn = self.lsn;
        self.wd.next_image = self.wd.hold_position.clone().unwrap_or(here);
        let cycle = self.wd.cycle + 1;
        let size = self.cfg.block_size as usize;
        for (sfn, number, version) in self.buffers.dirty_blocks() {
            if let Some(bytes) = self.buffers.image(sfn, number, cycle, size) {
                self.wd.entries.push((WijEntry { sfn, number, bytes }, version));
            }
        }
        self.wd.phase = if self.wd.entries.is_empty() { Phase::Pending } else { Phase::Wij(0) };
        Ok(())
    }

    fn after(&self, index: usize, again: fn(usize) -> Phase, then: Phase) -> Phase {
        if index + 1 < self.wd.entries.len() { again(index + 1) } else { then }
    }
}
