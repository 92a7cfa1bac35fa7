//! Creation, start and stop. Start = WIJ recovery, journal roll-forward, rollback of open transactions,
//! one whole write daemon cycle. What it did is returned; the server writes the log lines.

use super::buffers::Buffers;
use super::write_daemon::WriteDaemon;
use super::{Core, Txn};
use crate::config::Config;
use crate::store::database::{Database, Label};
use crate::store::journal::{self, Journal, Reason, Record};
use crate::store::wij::{Wij, WijHeader, WijState};
use crate::store::{Position, StoreError};
use std::collections::{BTreeMap, HashMap};

/// What a start found and did.
#[derive(Debug, Default)]
pub struct Recovery {
    pub new_wij: bool,
    pub pending_blocks: u32,
    pub wij_cycle: u64,
    pub replayed: usize,
    pub committed: usize,
    pub rolled_back: usize,
    pub first_journal: Option<String>,
    pub last_journal: Option<String>,
    pub missing_journals: Vec<u64>,
    /// Databases that could not be mounted, and why.
    pub unmounted: Vec<String>,
    /// The WIJ of an instance that has run before is gone, and with it the journal's positions.
    pub wij_lost: bool,
}

/// The WIJ of an instance that has run before is not there.
pub fn wij_is_lost(cfg: &Config) -> bool {
    let has_run = |db: &crate::config::DbConfig| Database::open(&db.dir.join(cfg.flavor.dat())).is_ok_and(|d| d.label.cycle > 0);
    !cfg.wij_path().exists() && cfg.databases.iter().any(has_run)
}

/// Formats the databases of a new instance.
pub fn create(cfg: &Config) -> Result<(), StoreError> {
    let dirs = cfg.databases.iter().map(|db| &db.dir).chain([&cfg.journal, &cfg.alternate, &cfg.wij_dir]);
    for dir in dirs {
        std::fs::create_dir_all(dir).map_err(StoreError::io("create directory", dir))?;
    }
    for (sfn, db) in cfg.databases.iter().enumerate() {
        let label = Label {
            guid: cfg.guid.clone(),
            name: db.name.clone(),
            directory: format!("{}/", db.dir.display()),
            sfn: sfn as u16,
            block_size: cfg.block_size,
            blocks: db.blocks,
            journalled: db.journalled,
            cycle: 0,
            lsn: 0,
            image: Position::default(),
            open: Position::default(),
        };
        Database::create(&db.dir.join(cfg.flavor.dat()), &label)?;
    }
    Ok(())
}

impl Core {
    pub fn start(cfg: Config, today: &str) -> Result<(Core, Recovery), StoreError> {
        let mut did = Recovery::default();
        let mut dbs = Vec::new();
        for (sfn, db) in cfg.databases.iter().enumerate() {
            let path = db.dir.join(cfg.flavor.dat());
            let opened = if db.removed { Err(StoreError::bad(&path, "not configured any more")) } else { Database::open(&path) };
            dbs.push(match opened {
                Ok(open) => open,
                Err(e) if sfn == 0 => return Err(e),
                Err(e) => {
                    if !db.removed {
                        did.unmounted.push(format!("{}/: {e}", db.dir.display()));
                    }
                    Database::absent(&path)?
                }
            });
        }
        did.wij_lost = wij_is_lost(&cfg);
        let wij = recover_wij(&cfg, &mut dbs, &mut did)?;
        let cycle = dbs.iter().map(|db| db.label.cycle).max().unwrap_or(0).max(wij.header.cycle);
        // A file of another instance knows nothing of these journals.
        let own = dbs.iter().filter(|db| db.label.guid == cfg.guid);
        let newest = own.map(|db| (db.label.image.clone(), db.label.open.clone())).max().unwrap_or_default();
        let (image, open) = newest.max((wij.header.image.clone(), wij.header.open.clone()));
        let lsn = dbs.iter().map(|db| db.label.lsn).max().unwrap_or(0).max(wij.header.lsn);
        let files = journal::list(&[&cfg.journal, &cfg.alternate], &cfg.guid);
        let place = |dir: &str| -> Option<u16> {
            let configured = |i: &usize| !cfg.databases[*i].removed && cfg.databases[*i].dir_slash() == dir;
            let labelled = |i: &usize| dbs[*i].mounted && dbs[*i].label.directory == dir;
            let all = || 0..dbs.len();
            all().find(configured).or_else(|| all().find(labelled)).map(|i| i as u16)
        };
        let mut replay = journal::replay(&files, &image, &open, &place)?;
        if did.wij_lost {
            // The positions were in the WIJ. What the journals hold is left to a person.
            replay = journal::Replay { last_lsn: replay.last_lsn, last_txn: replay.last_txn, ..journal::Replay::default() };
        }
        let count = files.last().map_or(1, |f| f.header.count + 1);
        let settings = journal::Settings {
            guid: cfg.guid.clone(),
            primary: cfg.journal.clone(),
            alternate: cfg.alternate.clone(),
            prefix: cfg.journal_prefix.clone(),
            max: cfg.journal_max,
            first: cfg.journal_first,
            compress: cfg.compress,
            databases: cfg.databases.iter().map(|db| db.dir_slash()).collect(),
        };
        let journal = Journal::begin(settings, count, Reason::Startup, today)?;
        let (image, open) = if did.wij_lost { (journal.position(), journal.position()) } else { (image, open) };
        let mut wd = WriteDaemon::new(cycle, (image.clone(), open.clone()));
        wd.hold_position = Some((image, open));
        // A file that was put in place while the instance was down is taken as it lies there.
        for (sfn, db) in dbs.iter_mut().enumerate().filter(|(_, db)| db.mounted) {
            let own = &cfg.databases[sfn];
            (db.label.sfn, db.label.guid, db.label.name) = (sfn as u16, cfg.guid.clone(), own.name.clone());
            db.label.directory = own.dir_slash();
        }
        let mut core = Core {
            buffers: Buffers::new(cfg.buffers),
            dbs,
            journal,
            wij,
            wd,
            txns: BTreeMap::<u64, Txn>::new(),
            suspension: None,
            switches: false,
            // Update groups must go on from the highest number ever given.
            lsn: lsn.max(replay.last_lsn),
            next_txn: replay.last_txn + 1_000_000 * count,
            commits: 0,
            locks: HashMap::new(),
            cfg,
        };
        did.replayed = replay.records;
        did.committed = replay.committed;
        did.rolled_back = replay.undo.len();
        did.first_journal = replay.first_file.map(|p| p.display().to_string());
        did.last_journal = replay.last_file.map(|p| p.display().to_string());
        did.missing_journals = replay.missing;
        core.lsn += 1;
        for set in replay.sets.iter().filter(|s| core.dbs[usize::from(s.sfn)].mounted).cloned().collect::<Vec<_>>() {
            if core.stall().is_some() {
                core.wd_cycle()?;
            }
            core.put(&set).map_err(|e| StoreError::bad(&core.cfg.dir, format!("journal restore: {e}")))?;
        }
        for (txn, mut sets) in replay.undo {
            if core.cfg.partial_rollback {
                sets.retain(|s| core.dbs[usize::from(s.sfn)].mounted);
            }
            core.journal.append(&Record::Rollback { lsn: core.lsn, txn, sets });
        }
        core.wd.hold_position = None;
        core.wd_cycle()?;
        Ok((core, did))
    }

    /// Clean shutdown: processes end, so their transactions roll back; one whole cycle.
    pub fn stop(&mut self) -> Result<(), StoreError> {
        self.resume();
        let open: Vec<u64> = self.txns.keys().copied().collect();
        for txn in open {
            self.rollback(txn).map_err(|e| StoreError::bad(&self.cfg.dir, format!("rollback: {e}")))?;
        }
        self.wd_cycle()?;
        self.journal.sync()?;
        self.wij.sync()
    }
}

fn recover_wij(cfg: &Config, dbs: &mut [Database], did: &mut Recovery) -> Result<Wij, StoreError> {
    let path = cfg.wij_path();
    if !path.exists() {
        did.new_wij = true;
        let label = dbs.iter().map(|db| &db.label).max_by_key(|label| label.cycle);
        return Wij::create(
            &path,
            WijHeader {
                guid: cfg.guid.clone(),
                block_size: cfg.block_size,
                cycle: label.map_or(0, |l| l.cycle),
                lsn: label.map_or(0, |l| l.lsn),
                image: label.map(|l| l.image.clone()).unwrap_or_default(),
                open: label.map(|l| l.open.clone()).unwrap_or_default(),
                ..WijHeader::default()
            },
        );
    }
    let mut wij = Wij::open(&path)?;
    did.wij_cycle = wij.header.cycle;
    if wij.header.state == WijState::Pending {
        did.pending_blocks = wij.header.blocks;
        for entry in wij.entries()? {
            let db = &dbs[entry.sfn as usize];
            if db.mounted {
                db.write(entry.number, &entry.bytes)?;
            }
        }
        for db in dbs.iter_mut().filter(|db| db.mounted) {
            db.label.cycle = wij.header.cycle;
            db.label.lsn = wij.header.lsn;
            db.label.image = wij.header.image.clone();
            db.label.open = wij.header.open.clone();
            db.write_label()?;
            db.sync()?;
        }
        wij.header.state = WijState::Complete;
        wij.header.blocks = 0;
        wij.write_header()?;
    }
    Ok(wij)
}
