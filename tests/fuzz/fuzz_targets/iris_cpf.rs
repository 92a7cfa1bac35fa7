//! `iris.cpf`, and the line of `startup.last`.

#![no_main]

use engine::iris::parse::{cpf, startup_last};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

const KEYS: [(&str, &str); 6] = [
    ("config", "wijdir"),
    ("config", "console"),
    ("Journal", "CurrentDirectory"),
    ("Journal", "AlternateDirectory"),
    ("Journal", "JournalFilePrefix"),
    ("Journal", "FreezeOnError"),
];

fuzz_target!(|data: &[u8]| {
    let text = fuzz::text(data);
    let c = cpf::parse(&text);
    // Relative paths are nobody's: the agent does not run where the instance does.
    let dirs = [c.wij_dir(), c.console(), c.journal_dir(), c.alternate_dir(), startup_last::parse(&text)];
    for dir in dirs.into_iter().flatten() {
        assert!(dir.is_absolute() && text.contains(&*dir.to_string_lossy()), "{dir:?}");
    }
    for (name, dir) in c.databases() {
        assert!(dir.is_absolute() && text.contains(&name) && text.contains(&*dir.to_string_lossy()), "{name} {dir:?}");
    }
    for (section, key) in KEYS {
        let value = c.get(section, key);
        assert_eq!(value, c.get(&section.to_uppercase(), &key.to_lowercase()));
        assert!(text.contains(value) && value.trim() == value);
        // The first one counts, whatever follows.
        if !value.is_empty() {
            let more = cpf::parse(&format!("{text}\n[{section}]\n{key}=/other\n"));
            assert_eq!(more.get(section, key), value);
        }
    }
    // A database on this host is found, whatever stands before it; one on another server is not.
    let more = cpf::parse(&format!("{text}\n[Databases]\nZZHERE=/zz/here/\nZZFAR=/zz/far/,SERVER\n")).databases();
    assert!(more.iter().any(|(n, d)| n == "ZZHERE" && d == Path::new("/zz/here/")));
    assert!(more.len() == c.databases().len() + 1);
});
