//! What an instance is made of. Written by `install` into `sim.json`, read at start; the vendor's own
//! `iris.cpf` is written beside it for whoever discovers the layout.

use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    Iris,
    Cache,
}

impl Flavor {
    pub fn dat(self) -> &'static str {
        if self == Flavor::Iris { "IRIS.DAT" } else { "CACHE.DAT" }
    }
    pub fn wij(self) -> &'static str {
        if self == Flavor::Iris { "IRIS.WIJ" } else { "CACHE.WIJ" }
    }
    pub fn lock(self) -> &'static str {
        if self == Flavor::Iris { "iris.lck" } else { "cache.lck" }
    }
    pub fn cpf(self) -> &'static str {
        if self == Flavor::Iris { "iris.cpf" } else { "cache.cpf" }
    }
    pub fn console(self) -> &'static str {
        if self == Flavor::Iris { "messages.log" } else { "cconsole.log" }
    }
    pub fn system_db(self) -> &'static str {
        if self == Flavor::Iris { "IRISSYS" } else { "CACHESYS" }
    }
    pub fn local_db(self) -> &'static str {
        if self == Flavor::Iris { "IRISLOCALDATA" } else { "CACHETEMP" }
    }
}

/// One configured database; its index in [`Config::databases`] is its SFN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DbConfig {
    pub name: String,
    pub dir: PathBuf,
    pub blocks: u32,
    pub journalled: bool,
    /// Its SFN is never given to another.
    #[serde(default)]
    pub removed: bool,
}

impl DbConfig {
    pub fn dir_slash(&self) -> String {
        format!("{}/", self.dir.display())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    pub name: String,
    pub guid: String,
    pub flavor: Flavor,
    pub version: String,
    pub product: String,
    /// The directory with `iris.reg`, `bin` and the socket.
    pub root: PathBuf,
    pub dir: PathBuf,
    pub journal: PathBuf,
    pub alternate: PathBuf,
    pub journal_prefix: String,
    pub wij_dir: PathBuf,
    pub databases: Vec<DbConfig>,
    /// Name and database. Empty: one for each database, as at the installation.
    #[serde(default)]
    pub namespaces: Vec<(String, String)>,
    pub block_size: u32,
    pub buffers: usize,
    pub journal_first: u64,
    pub journal_max: u64,
    pub superserver: u16,
    pub webserver: u16,
    pub mirror_type: Option<String>,
    pub mirror_status: Option<String>,
    pub mirror_name: Option<String>,
    pub history: Option<PathBuf>,
    pub record: Option<PathBuf>,
    pub old_freeze: bool,
    /// Every delay and limit in seconds is multiplied by it.
    pub time_scale: f64,
    pub wd_cycle_ms: u64,
    pub wd_block_us: u64,
    /// `fsync` of WIJ, databases and journal: needed only where power loss is part of the test.
    pub fsync: bool,
    /// Closed journals are renamed as compressed ones are; their bytes stay.
    pub compress: bool,
    /// The rollback of a start that is journaled leaves out databases that are not mounted.
    #[serde(default)]
    pub partial_rollback: bool,
    pub max_life_s: u64,
    /// Fields per `iris qlist` line: 8, 10, 13 or 14.
    pub qlist_fields: usize,
    /// Spaces in front of the fields of `iris list` (4 in 2023.1 samples, 8 in 2021.1 samples).
    pub list_indent: usize,
}

impl Config {
    pub fn mgr(&self) -> PathBuf {
        self.dir.join("mgr")
    }

    pub fn console_log(&self) -> PathBuf {
        self.mgr().join(self.flavor.console())
    }

    pub fn wij_path(&self) -> PathBuf {
        self.wij_dir.join(self.flavor.wij())
    }

    pub fn lock_path(&self) -> PathBuf {
        self.mgr().join(self.flavor.lock())
    }

    /// A lock file lies in every database directory.
    pub fn lock_paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.databases.iter().filter(|db| !db.removed).map(|db| db.dir.join(self.flavor.lock()))
    }

    pub fn socket_path(&self) -> PathBuf {
        self.root.join(format!("{}.sock", self.name.to_lowercase()))
    }

    pub fn sim_json(dir: &Path) -> PathBuf {
        dir.join("sim.json")
    }

    /// SFN and settings of a database by name or directory.
    pub fn database(&self, name: &str) -> Option<(u16, &DbConfig)> {
        let as_dir = Path::new(name.trim_end_matches('/'));
        let here = |db: &DbConfig| !db.removed && (db.name.eq_ignore_ascii_case(name) || db.dir.as_path() == as_dir);
        let index = self.databases.iter().position(here)?;
        Some((index as u16, &self.databases[index]))
    }

    /// Every namespace with its database.
    pub fn all_namespaces(&self) -> Vec<(String, String)> {
        if !self.namespaces.is_empty() {
            return self.namespaces.clone();
        }
        let own = self.databases.iter().filter(|db| !db.removed).map(|db| (db.name.clone(), db.name.clone()));
        std::iter::once(("%SYS".to_string(), self.flavor.system_db().to_string())).chain(own).collect()
    }

    /// The database of a namespace.
    pub fn namespace(&self, name: &str) -> Option<(u16, &DbConfig)> {
        let all = self.all_namespaces();
        let (_, database) = all.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        self.database(database)
    }

    /// `sim.json` and the vendor's file, after a change of what is configured.
    pub fn write(&self) -> Result<(), StoreError> {
        self.save()?;
        let path = self.dir.join(self.flavor.cpf());
        std::fs::write(&path, self.cpf()).map_err(StoreError::io("write", &path))
    }

    pub fn load(dir: &Path) -> Result<Config, StoreError> {
        let path = Config::sim_json(dir);
        let text = std::fs::read_to_string(&path).map_err(StoreError::io("read configuration", &path))?;
        serde_json::from_str(&text).map_err(|e| StoreError::bad(&path, e.to_string()))
    }

    pub fn save(&self) -> Result<(), StoreError> {
        let path = Config::sim_json(&self.dir);
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        std::fs::write(&path, text).map_err(StoreError::io("write configuration", &path))
    }

    /// `iris.cpf`, the sections that tell where things lie.
    pub fn cpf(&self) -> String {
        let slash = |p: &Path| format!("{}/", p.display());
        let wij = if self.wij_dir == self.mgr() { String::new() } else { slash(&self.wij_dir) };
        let mut out = format!(
            "[ConfigFile]\nProduct={}\nVersion={}\n\n[Databases]\n",
            if self.flavor == Flavor::Iris { "IRIS" } else { "Cache" },
            self.version.split('.').take(2).collect::<Vec<_>>().join("."),
        );
        for db in self.databases.iter().filter(|db| !db.removed) {
            out += &format!("{}={}\n", db.name, slash(&db.dir));
        }
        out += "\n[Namespaces]\n";
        // The system's database has no namespace of its own name.
        for (name, database) in self.all_namespaces().iter().filter(|(n, _)| n != self.flavor.system_db()) {
            out += &format!("{name}={database}\n");
        }
        out += &format!(
            "\n[Journal]\nAlternateDirectory={}\nBackupsBeforePurge=2\n\
             CompressFiles=1\nCurrentDirectory={}\nDaysBeforePurge=2\nFileSizeLimit={}\nFreezeOnError=0\n\
             JournalFilePrefix={}\n\n[Startup]\nDefaultPort={}\nWebServerPort={}\n\n[config]\nconsole=\nglobals=0,0,128,0,0,0\n\
             wijdir={wij}\n",
            slash(&self.alternate),
            slash(&self.journal),
            self.journal_max / 1_048_576,
            self.journal_prefix,
            self.superserver,
            self.webserver,
        );
        out
    }
}
