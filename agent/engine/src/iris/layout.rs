//! Every path that a snapshot set of this instance must hold. "At a minimum ... all directories used by the InterSystems
//! IRIS database in any way": installation, databases, journal and alternate journal, WIJ, directories with external
//! files (Data Integrity Guide).

use super::find::Located;
use super::{Iris, files};
use crate::{Error, Place, Role};
use protocol::BootMs;
use std::path::{Path, PathBuf};

/// A multi-volume database names its further directories in this file ("System Administration Guide"; its form is not
/// published: lines that are absolute paths are taken).
const VOLUME_LIST: &str = "iris.dbdir";

impl Iris {
    pub(super) fn places(&self, by: BootMs) -> Result<Vec<Place>, Error> {
        let l = self.locate(by)?;
        let mut places = Vec::new();
        let mut add = |role, path: PathBuf| {
            let place = Place { role, path };
            if !places.contains(&place) {
                places.push(place);
            }
        };
        let only = self.config.only_databases();
        if only.is_none() {
            add(Role::Install, l.listed.install_dir.trim_end_matches('/').into());
            add(Role::Data, l.listed.data().into());
            add(Role::Cpf, l.cpf_path.clone());
            for key in self.key_files(&l) {
                add(Role::Keys, key);
            }
        }
        add(Role::Wij, wij_dir(&l));
        let journal = l.cpf.journal_dir().unwrap_or_else(|| l.mgr.join("journal"));
        add(Role::Altjournal, l.cpf.alternate_dir().unwrap_or_else(|| journal.clone()));
        add(Role::Journal, journal);
        for dir in self.database_dirs(&l, only)? {
            for volume in self.volume_dirs(&dir, by) {
                add(Role::Database, volume);
            }
            add(Role::Database, dir);
        }
        // The log, when the CPF puts it elsewhere.
        if let (None, Some(dir)) = (only, l.messages.parent())
            && !dir.starts_with(l.listed.data())
        {
            add(Role::External, dir.into());
        }
        Ok(places)
    }

    fn database_dirs(&self, l: &Located, only: Option<&[PathBuf]>) -> Result<Vec<PathBuf>, Error> {
        let known: Vec<PathBuf> = l.cpf.databases().into_iter().map(|(_, dir)| plain(&dir)).collect();
        let Some(only) = only else {
            return Ok(known);
        };
        let wanted: Vec<PathBuf> = only.iter().map(|d| plain(d)).collect();
        match wanted.iter().find(|d| !known.contains(d)) {
            Some(d) => Err(Error::Config {
                instance: self.config.name.to_string(),
                why: format!("databases: {} is no database of {}", d.display(), l.cpf_path.display()),
            }),
            None => Ok(wanted),
        }
    }

    /// Licence and encryption keys, those that are where the installation puts them.
    fn key_files(&self, l: &Located) -> Vec<PathBuf> {
        let install = Path::new(&l.listed.install_dir);
        let candidates = [l.mgr.join("iris.key"), l.mgr.join("cache.key"), install.join("mgr/iris.key"), install.join("mgr/cache.key")];
        candidates.into_iter().filter(|p| !self.runner.in_container() && p.exists()).collect()
    }

    fn volume_dirs(&self, dir: &Path, by: BootMs) -> Vec<PathBuf> {
        let text = files::read(&self.runner, &dir.join(VOLUME_LIST), by).unwrap_or_default();
        text.lines().map(str::trim).filter(|l| l.starts_with('/')).map(|l| plain(Path::new(l))).filter(|d| d != dir).collect()
    }
}

/// What the last start used, else the CPF, else the manager's directory.
fn wij_dir(l: &Located) -> PathBuf {
    plain(&l.wij_last.clone().or_else(|| l.cpf.wij_dir()).unwrap_or_else(|| l.mgr.clone()))
}

fn plain(dir: &Path) -> PathBuf {
    let text = dir.to_string_lossy();
    match text.trim_end_matches('/') {
        "" => "/".into(),
        t => t.into(),
    }
}
