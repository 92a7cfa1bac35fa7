//! Databases that come and go while the instance runs: mount, dismount, configuration, integrity.
//!
//! A mount takes the file as it lies there, of whatever moment and instance it is: it does no journal recovery.

use super::Core;
use crate::config::DbConfig;
use crate::store::StoreError;
use crate::store::database::{Database, Label};
use crate::store::journal::Record;
use std::path::{Path, PathBuf};

/// Blocks of a database that `CreateDatabase` makes.
const NEW_BLOCKS: u32 = 256;

impl Core {
    /// By name or directory, with or without the slash; not one that was deleted.
    pub fn sfn_of(&self, name: &str) -> Option<u16> {
        self.cfg.database(name).map(|(sfn, _)| sfn)
    }

    fn known(&self, dir: &str) -> Result<usize, String> {
        self.sfn_of(dir).map(usize::from).ok_or_else(|| format!("Database {dir} does not exist"))
    }

    /// A whole cycle, so that the file is what the buffers say. Not while the write daemon is suspended.
    fn settle(&mut self) -> Result<(), String> {
        if self.is_suspended() {
            return Err("Unable to read file, Backup or Restore is in progress".into());
        }
        self.wd_cycle().map_err(|e| e.to_string())
    }

    pub fn dismount(&mut self, dir: &str) -> Result<(), String> {
        let sfn = self.known(dir)?;
        if !self.dbs[sfn].mounted {
            return Ok(());
        }
        // INVENTED text.
        if sfn == 0 || self.txns.values().any(|t| t.sets.iter().any(|s| usize::from(s.sfn) == sfn)) {
            return Err("Database is in use".into());
        }
        self.settle()?;
        self.dbs[sfn].mounted = false;
        self.buffers.forget(sfn as u16);
        let _ = std::fs::remove_file(self.cfg.databases[sfn].dir.join(self.cfg.flavor.lock()));
        Ok(())
    }

    pub fn mount(&mut self, dir: &str) -> Result<(), String> {
        let sfn = self.known(dir)?;
        if self.dbs[sfn].mounted {
            return Ok(());
        }
        self.settle()?;
        let own = self.cfg.databases[sfn].clone();
        let mut db = Database::open(&own.dir.join(self.cfg.flavor.dat())).map_err(|e| e.to_string())?;
        if db.label.block_size != self.cfg.block_size {
            return Err(format!("Database {dir} has another block size"));
        }
        let (image, open) = self.wd.image.clone();
        db.label = Label {
            guid: self.cfg.guid.clone(),
            name: own.name.clone(),
            directory: own.dir_slash(),
            sfn: sfn as u16,
            cycle: self.wd.cycle,
            lsn: self.lsn,
            image,
            open,
            ..db.label
        };
        // A block of another instance may be of a later cycle than ours has come to.
        let newest = (1..=db.label.blocks).filter_map(|n| db.read(n).ok()).map(|b| b.cycle).max().unwrap_or(0);
        self.wd.cycle = self.wd.cycle.max(newest);
        db.write_label().map_err(|e| e.to_string())?;
        std::fs::write(own.dir.join(self.cfg.flavor.lock()), format!("{}\n", std::process::id())).map_err(|e| e.to_string())?;
        self.dbs[sfn] = db;
        self.settle()
    }

    /// `CreateDatabase`: a new file in a directory that exists.
    pub fn create_database(&self, dir: &str) -> Result<(), String> {
        let dir = PathBuf::from(dir.trim_end_matches('/'));
        let path = dir.join(self.cfg.flavor.dat());
        if path.exists() {
            return Err(format!("Database {}/ already exists", dir.display()));
        }
        let label = Label {
            guid: self.cfg.guid.clone(),
            directory: format!("{}/", dir.display()),
            block_size: self.cfg.block_size,
            blocks: NEW_BLOCKS,
            journalled: true,
            ..Label::default()
        };
        Database::create(&path, &label).map_err(|e| e.to_string())
    }

    /// `Config.Databases.Create`: configured, and mounted if the file is there.
    pub fn configure(&mut self, name: &str, dir: &str) -> Result<(), String> {
        if self.sfn_of(name).is_some() || self.sfn_of(dir).is_some() {
            return Err(format!("Database {name} already exists"));
        }
        let path = PathBuf::from(dir.trim_end_matches('/'));
        let own = DbConfig { name: name.to_uppercase(), dir: path, blocks: NEW_BLOCKS, journalled: true, removed: false };
        let file = own.dir.join(self.cfg.flavor.dat());
        let sfn = self.dbs.len() as u16;
        self.dbs.push(Database::absent(&file).map_err(|e| e.to_string())?);
        self.journal.settings.databases.push(own.dir_slash());
        self.journal.append(&Record::Database { sfn, dir: own.dir_slash() });
        self.freeze_namespaces();
        self.cfg.databases.push(own);
        self.changed_configuration()?;
        if file.exists() { self.mount(dir) } else { Ok(()) }
    }

    pub fn unconfigure(&mut self, name: &str) -> Result<(), String> {
        let sfn = self.known(name)?;
        if self.dbs[sfn].mounted {
            self.dismount(&self.cfg.databases[sfn].dir_slash())?;
        }
        self.freeze_namespaces();
        self.cfg.databases[sfn].removed = true;
        self.changed_configuration()
    }

    /// `None` deletes.
    pub fn set_namespace(&mut self, name: &str, database: Option<&str>) -> Result<(), String> {
        self.freeze_namespaces();
        let there = self.cfg.namespaces.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        match database {
            Some(_) if there => return Err(format!("Namespace {name} already exists")),
            None if !there => return Err(format!("Namespace {name} does not exist")),
            Some(db) => {
                self.known(db)?;
                self.cfg.namespaces.push((name.to_uppercase(), db.to_uppercase()));
            }
            None => self.cfg.namespaces.retain(|(n, _)| !n.eq_ignore_ascii_case(name)),
        }
        self.changed_configuration()
    }

    /// From the first change on the list is its own.
    fn freeze_namespaces(&mut self) {
        self.cfg.namespaces = self.cfg.all_namespaces();
    }

    fn changed_configuration(&self) -> Result<(), String> {
        self.cfg.write().map_err(|e| e.to_string())
    }

    /// Every block of the file, after a whole cycle.
    pub fn check_integrity(&mut self, dir: &str) -> Result<Vec<String>, String> {
        let sfn = self.known(dir)?;
        if !self.dbs[sfn].mounted {
            return Err(format!("Database {dir} is not mounted"));
        }
        self.settle()?;
        let db = &self.dbs[sfn];
        let bad = |n: u32| db.read(n).err().map(|e: StoreError| e.to_string());
        Ok((1..=db.label.blocks).filter_map(bad).collect())
    }
}

/// The report of an integrity check. Its form is invented.
pub fn report(path: &Path, dirs: &[(String, Vec<String>)]) -> std::io::Result<()> {
    let mut text = String::new();
    for (dir, errors) in dirs {
        text += &format!("---Directory {dir}---\n");
        for e in errors {
            text += &format!("**********{e}\n");
        }
        text += if errors.is_empty() { "No Errors were found in this directory.\n" } else { "Errors were found in this directory.\n" };
    }
    std::fs::write(path, text)
}
