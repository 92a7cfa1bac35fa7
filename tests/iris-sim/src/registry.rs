//! The registry `ROOT/iris.reg`: one line `NAME^directory^default` per instance. The vendor's format is not
//! public; this one is ours.

use crate::config::Config;
use crate::store::StoreError;
use std::path::{Path, PathBuf};

pub const FILE: &str = "iris.reg";

#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub dir: PathBuf,
    pub default: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Registry {
    pub root: PathBuf,
    pub entries: Vec<Entry>,
}

impl Registry {
    pub fn load(root: &Path) -> Registry {
        let text = std::fs::read_to_string(root.join(FILE)).unwrap_or_default();
        let entries = text
            .lines()
            .filter_map(|line| {
                let mut parts = line.split('^');
                let (name, dir) = (parts.next()?, parts.next()?);
                Some(Entry { name: name.into(), dir: dir.into(), default: parts.next() == Some("default") })
            })
            .collect();
        Registry { root: root.to_path_buf(), entries }
    }

    pub fn save(&self) -> Result<(), StoreError> {
        let path = self.root.join(FILE);
        let text: String =
            self.entries.iter().map(|e| format!("{}^{}^{}\n", e.name, e.dir.display(), if e.default { "default" } else { "" })).collect();
        std::fs::write(&path, text).map_err(StoreError::io("write registry", &path))
    }

    /// Instance names are not case-sensitive.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name.eq_ignore_ascii_case(name))
    }

    pub fn config(&self, name: &str) -> Option<Config> {
        Config::load(&self.find(name)?.dir).ok()
    }
}

/// The registry beside the program that was called: `ROOT/bin/iris` -> `ROOT`. The link is not followed,
/// because callers clear the environment and it is the link that tells the root.
pub fn root_of(argv0: &str) -> Option<PathBuf> {
    let path = Path::new(argv0);
    let found = if argv0.contains('/') {
        std::path::absolute(path).ok()?
    } else {
        let dirs = std::env::var_os("PATH")?;
        std::env::split_paths(&dirs).map(|dir| dir.join(path)).find(|p| p.is_file())?
    };
    let beside = |p: &Path| p.parent().and_then(Path::parent).map(Path::to_path_buf);
    let root = beside(&found)?;
    if root.join(FILE).is_file() {
        return Some(root);
    }
    // A link from another directory to `ROOT/bin/iris`, as `/usr/bin/iris` is one.
    let mut link = found;
    while let Ok(target) = std::fs::read_link(&link) {
        link = if target.is_absolute() { target } else { link.parent()?.join(target) };
        let root = beside(&link)?;
        if root.join(FILE).is_file() {
            return Some(root);
        }
    }
    None
}
