//! What a start reads: the configuration file says which databases, namespaces and directories there are ("Configuration Parameter
//! File Reference"), and the manager's database whose instance it is (`%SYS.System.InstanceGUID`). A restore replaces both.

use crate::config::{Config, DbConfig};
use crate::store::database::Database;
use std::path::{Path, PathBuf};

impl Config {
    /// As the files on the disk have it. A file that is not there, or says nothing, changes nothing.
    pub fn as_on_disk(mut self) -> Self {
        let text = std::fs::read_to_string(self.dir.join(self.flavor.cpf())).unwrap_or_default();
        let databases = section(&text, "Databases");
        if !databases.is_empty() {
            self.databases = self.read_databases(&databases);
            self.namespaces = section(&text, "Namespaces");
        }
        let plain = |dir: &str| PathBuf::from(dir.trim_end_matches('/'));
        let at = |name: &str, key: &str| section(&text, name).into_iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| plain(&v));
        if let Some(dir) = at("Journal", "CurrentDirectory") {
            self.journal = dir;
        }
        if let Some(dir) = at("Journal", "AlternateDirectory") {
            self.alternate = dir;
        }
        if let Some(dir) = at("config", "wijdir") {
            self.wij_dir = dir;
        }
        if let Ok(db) = Database::open(&self.mgr().join(self.flavor.dat()))
            && !db.label.guid.is_empty()
        {
            self.guid = db.label.guid;
        }
        self
    }

    /// Known ones keep their number and settings; one that is new here is as its own label says.
    fn read_databases(&self, listed: &[(String, String)]) -> Vec<DbConfig> {
        let mut all: Vec<DbConfig> = self.databases.clone();
        let is = |db: &DbConfig, name: &str, dir: &Path| db.name.eq_ignore_ascii_case(name) && db.dir == dir;
        for db in &mut all {
            let there = listed.iter().any(|(n, d)| is(db, n, Path::new(d.trim_end_matches('/'))));
            db.removed = db.removed || !there;
        }
        for (name, dir) in listed {
            let dir = PathBuf::from(dir.trim_end_matches('/'));
            if all.iter().any(|db| !db.removed && is(db, name, &dir)) {
                continue;
            }
            let label = Database::open(&dir.join(self.flavor.dat())).map(|d| d.label).unwrap_or_default();
            all.push(DbConfig { name: name.to_uppercase(), dir, blocks: label.blocks, journalled: label.journalled, removed: false });
        }
        all
    }
}

fn section(text: &str, name: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut all = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == format!("[{name}]");
        } else if inside && let Some((k, v)) = line.split_once('=') {
            all.push((k.to_owned(), v.to_owned()));
        }
    }
    all
}
