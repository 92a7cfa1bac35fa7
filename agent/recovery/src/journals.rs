//! Journal files by their names: `[prefix]YYYYMMDD.NNN`, with a `z` behind it when it is compressed (facts of IRIS 2024.1).
//! What lies in a file only the engine knows; a gap inside one day shows in the numbers.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalFile {
    /// As it lies there, perhaps with the `z`.
    pub path: PathBuf,
    pub size: u64,
}

/// What orders journals: prefix, day, number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub prefix: String,
    pub day: u32,
    pub number: u32,
}

/// `None`: no journal's name.
pub fn name(file: &str) -> Option<Name> {
    let (stem, number) = file.rsplit_once('.')?;
    let number = number.strip_suffix('z').unwrap_or(number);
    let cut = stem.len().checked_sub(8)?;
    let (prefix, day) = (stem.get(..cut)?, stem.get(cut..)?);
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !(3..=4).contains(&number.len()) || !digits(number) || !digits(day) {
        return None;
    }
    Some(Name { prefix: prefix.into(), day: day.parse().ok()?, number: number.parse().ok()? })
}

/// The name of the file alone, without the `z`.
pub fn plain(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    match name(file) {
        Some(_) => file.strip_suffix('z').unwrap_or(file),
        None => file,
    }
}

impl JournalFile {
    pub fn file(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
    pub fn name(&self) -> Option<Name> {
        name(&self.file())
    }
}

/// In the engine's order; a name in two directories counts once, the first.
pub fn sort(files: &mut Vec<JournalFile>) {
    files.retain(|f| f.name().is_some());
    files.sort_by_key(JournalFile::name);
    files.dedup_by(|b, a| a.name() == b.name());
}

/// What a chain from `first` to `last` lacks, by file name. `last` left out: the newest that is there.
pub fn gaps(files: &[JournalFile], first: &str, last: Option<&str>) -> Vec<String> {
    let Some(from) = name(plain(first)) else { return vec![first.to_owned()] };
    let have: Vec<Name> = files.iter().filter_map(JournalFile::name).filter(|n| n.prefix == from.prefix && *n >= from).collect();
    let mut lacks = Vec::new();
    if have.first() != Some(&from) {
        lacks.push(plain(first).to_owned());
    }
    let to = last.map(plain);
    if let Some(to) = to
        && !have.iter().any(|n| name(to).as_ref() == Some(n))
    {
        lacks.push(to.to_owned());
    }
    let end = to.and_then(name);
    let wanted = have.iter().filter(|n| end.as_ref().is_none_or(|e| *n <= e));
    let mut before: Option<&Name> = None;
    for n in wanted {
        // A new day begins with 1; whether a day lies between is not in the names.
        let expect = match before {
            Some(b) if b.day == n.day => b.number + 1,
            Some(_) => 1,
            None => n.number,
        };
        lacks.extend((expect..n.number).map(|k| format!("{}{:08}.{k:03}", n.prefix, n.day)));
        before = Some(n);
    }
    lacks.sort();
    lacks.dedup();
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<JournalFile> {
        let mut all: Vec<_> = names.iter().map(|n| JournalFile { path: format!("/j/{n}").into(), size: 1 }).collect();
        sort(&mut all);
        all
    }

    #[test]
    fn a_gap_in_a_day_is_named_and_a_compressed_file_is_none() {
        let have = files(&["20261002.046z", "20261002.047", "20261002.049", "20261003.002", "journal.log", "20261003.002z"]);
        assert_eq!(have.len(), 4);
        assert_eq!(gaps(&have, "/old/20261002.046", None), ["20261002.048", "20261003.001"]);
        assert_eq!(gaps(&have, "20261002.046", Some("20261002.047")), Vec::<String>::new());
        assert_eq!(gaps(&have, "20261002.045", Some("20261002.047")), ["20261002.045"]);
        assert_eq!(gaps(&have, "20261002.046", Some("20261004.001")), ["20261002.048", "20261003.001", "20261004.001"]);
        assert_eq!(gaps(&have, "nonsense", None), ["nonsense"]);
    }

    #[test]
    fn names_of_mirrors_and_prefixes_are_chains_of_their_own() {
        assert_eq!(name("MIRROR-M1-20261002.001").map(|n| n.prefix).as_deref(), Some("MIRROR-M1-"));
        let have = files(&["20261002.001", "A20261002.002", "20261002.002"]);
        assert_eq!(gaps(&have, "20261002.001", None), Vec::<String>::new());
        assert!(name("IRIS.DAT").is_none() && name("x.001").is_none() && name("20261002.00z").is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_read_without_panic(a in ".*", b in "[0-9A-Z-]{0,12}\\.[0-9z]{0,6}") {
            let (_, _, _) = (name(&a), name(&b), plain(&a));
            let _ = gaps(&files(&[&b]), &a, Some(&b));
        }
    }
}
