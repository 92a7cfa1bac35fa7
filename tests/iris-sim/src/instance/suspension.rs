//! Freeze and thaw as the core sees them: switch the journal, set the marker, let the write daemon finish a
//! whole cycle, suspend it; limits as instants in boot milliseconds. Delays and log texts are the server's.

use super::Core;
use crate::store::StoreError;
use crate::store::journal::{Reason, Record};
use std::path::PathBuf;

/// The id of a backup's journal marker (facts 3.1).
pub const BACKUP_MARKER: i64 = -1;

/// What lasts from a freeze to its thaw.
#[derive(Debug, Clone, Default)]
pub struct Suspension {
    pub since_ms: f64,
    pub pid: u32,
    pub username: String,
    pub password: String,
    /// ExternalFreezeTimeOut: from then on updates block and new logins hang.
    pub block_at_ms: f64,
    pub timeout_s: u64,
    pub blocked: bool,
    /// WDSuspendLimit: then the write daemon resumes by itself.
    pub resume_at_ms: Option<f64>,
    pub limit_s: u64,
}

/// What the journal switch of a freeze leaves behind.
#[derive(Debug, Clone)]
pub struct Switched {
    pub file: PathBuf,
    pub marker_offset: u64,
}

impl Core {
    pub fn is_suspended(&self) -> bool {
        self.wd.suspended
    }

    pub fn switch_journal(&mut self, reason: Reason, today: &str) -> Result<PathBuf, StoreError> {
        self.journal.switch(reason, today)?;
        Ok(self.journal.path().to_path_buf())
    }

    pub fn add_marker(&mut self, id: i64, text: &str) -> Result<u64, StoreError> {
        let at = self.journal.append(&Record::Marker { id, text: text.to_string() });
        self.journal.flush()?;
        Ok(at.offset)
    }

    /// The oldest journal that holds a record of an open transaction: RequiredFile.
    pub fn required_file(&self) -> PathBuf {
        PathBuf::from(self.open_position().file)
    }

    /// The freeze in one go, for in-process use.
    pub fn freeze_now(&mut self, today: &str) -> Result<Switched, StoreError> {
        let file = self.switch_journal(Reason::Backup, today)?;
        let marker_offset = self.add_marker(BACKUP_MARKER, "")?;
        self.wd.request_suspend();
        while !self.wd.suspended {
            self.wd_step()?;
        }
        self.suspension = Some(Suspension::default());
        Ok(Switched { file, marker_offset })
    }

    /// Resumes the write daemon. `None`: it was not suspended.
    pub fn resume(&mut self) -> Option<Suspension> {
        let was = self.suspension.take();
        self.wd.resume();
        was
    }
}
