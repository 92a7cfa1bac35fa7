//! `iris.cpf` (Caché: `cache.cpf`), the "Configuration Parameter File Reference": sections in brackets, `key=value`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What tells where things lie. Keys are matched without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpf {
    sections: BTreeMap<String, Vec<(String, String)>>,
}

pub fn parse(text: &str) -> Cpf {
    let mut cpf = Cpf::default();
    let mut section = String::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.to_ascii_lowercase();
        } else if !line.starts_with([';', '#'])
            && let Some((key, value)) = line.split_once('=')
        {
            let entry = (key.trim().to_owned(), value.trim().to_owned());
            cpf.sections.entry(section.clone()).or_default().push(entry);
        }
    }
    cpf
}

impl Cpf {
    /// Empty when it is not there: the engine's own default.
    pub fn get(&self, section: &str, key: &str) -> &str {
        self.sections
            .get(&section.to_ascii_lowercase())
            .and_then(|s| s.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)))
            .map_or("", |(_, v)| v.as_str())
    }
    /// Name and directory of every database that lies on this host. `NAME=/dir/[,server[,options]]`.
    pub fn databases(&self) -> Vec<(String, PathBuf)> {
        let Some(all) = self.sections.get("databases") else {
            return Vec::new();
        };
        all.iter()
            .filter_map(|(name, value)| {
                let mut parts = value.split(',');
                let dir = parts.next().unwrap_or_default().trim();
                // A second part names another server (ECP): its files are not here.
                let remote = parts.next().is_some_and(|server| !server.trim().is_empty());
                (dir.starts_with('/') && !remote).then(|| (name.clone(), PathBuf::from(dir)))
            })
            .collect()
    }
    /// Name and globals' database of every namespace. `NAME=DB[,routines' DB[,…]]`.
    pub fn namespaces(&self) -> Vec<(String, String)> {
        let all = self.sections.get("namespaces").map(Vec::as_slice).unwrap_or_default();
        let database = |value: &str| value.split(',').next().unwrap_or_default().trim().to_owned();
        all.iter().map(|(name, value)| (name.clone(), database(value))).filter(|n| !n.1.is_empty()).collect()
    }
    /// `[config] wijdir`; `None`: the manager's directory.
    pub fn wij_dir(&self) -> Option<PathBuf> {
        absolute(self.get("config", "wijdir"))
    }
    /// `[config] console=term,file`: where messages.log is, when not in the manager's directory.
    pub fn console(&self) -> Option<PathBuf> {
        absolute(self.get("config", "console").split(',').nth(1).unwrap_or_default())
    }
    pub fn journal_dir(&self) -> Option<PathBuf> {
        absolute(self.get("Journal", "CurrentDirectory"))
    }
    pub fn alternate_dir(&self) -> Option<PathBuf> {
        absolute(self.get("Journal", "AlternateDirectory"))
    }
    pub fn journal_prefix(&self) -> &str {
        self.get("Journal", "JournalFilePrefix")
    }
    /// `[Journal] FreezeOnError`: vendor advice is yes for long freezes.
    pub fn freeze_on_error(&self) -> Option<bool> {
        match self.get("Journal", "FreezeOnError") {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }
    }
}

fn absolute(value: &str) -> Option<PathBuf> {
    let value = value.trim();
    value.starts_with('/').then(|| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "[ConfigFile]\nProduct=IRIS\n\n[Databases]\nIRISSYS=/usr/irissys/mgr/\nUSER=/data/user/\nT1=/data/t1/,,1\nFAR=/data/far/,OTHERHOST\nLIB=:ds:X\n[Journal]\nAlternateDirectory=/iris/journal2/\nCurrentDirectory=/iris/journal1/\nFreezeOnError=1\nJournalFilePrefix=\n[config]\nconsole=,/logs/messages.log\nwijdir=\n";

    #[test]
    fn where_things_lie() {
        let c = parse(TEXT);
        let names: Vec<_> = c.databases().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["IRISSYS", "USER", "T1"]);
        assert_eq!((c.wij_dir(), c.console()), (None, Some("/logs/messages.log".into())));
        assert_eq!((c.journal_dir(), c.alternate_dir()), (Some("/iris/journal1/".into()), Some("/iris/journal2/".into())));
        assert_eq!((c.freeze_on_error(), c.journal_prefix(), c.get("Config", "WIJDIR")), (Some(true), "", ""));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let c = parse(&format!("[Databases]\n{text}"));
            let _ = (c.databases(), c.wij_dir(), c.console());
        }
    }
}
