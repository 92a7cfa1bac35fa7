//! The tests of the freeze machine find bugs: each of `bugs.toml` is put into a copy of it, compiles, and turns its test
//! red. The copy as it is is green.
#![allow(clippy::disallowed_methods, reason = "a test that runs cargo")]

use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// At once: each compiles for itself.
const COPIES: usize = 2;

#[derive(Deserialize)]
struct Bugs {
    bug: Vec<Bug>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bug {
    name: String,
    file: String,
    find: String,
    replace: String,
    why: String,
    test: String,
}

/// A workspace of `protocol` and `lifecycle` alone.
struct Copy {
    dir: tempfile::TempDir,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for f in std::fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (f.path(), to.join(f.file_name()));
        if path.is_dir() {
            copy_tree(&path, &to);
        } else {
            std::fs::copy(&path, to).unwrap();
        }
    }
}

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for room in ["agent/protocol", "agent/lifecycle"] {
            copy_tree(&root().join(room), &dir.path().join(room));
        }
        let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let mut manifest: toml::Table = text.parse().unwrap();
        manifest["workspace"]["members"] = toml::Value::Array(vec!["agent/protocol".into(), "agent/lifecycle".into()]);
        std::fs::write(dir.path().join("Cargo.toml"), manifest.to_string()).unwrap();
        std::fs::copy(root().join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
        Self { dir }
    }

    /// `Ok(true)`: green. `Err`: it does not compile, or no such test ran.
    fn run(&self, test: &str) -> Result<bool, String> {
        let (target, name) = test.split_once(' ').ok_or("`test` is a target and a name")?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--offline", "-p", "lifecycle"]);
        if target == "lib" {
            cargo.arg("--lib")
        } else {
            cargo.args(["--test", target])
        };
        // One target directory per copy; nothing of the outer run's cargo reaches it.
        cargo.current_dir(self.dir.path()).env("CARGO_TARGET_DIR", self.dir.path().join("target")).env("RUSTFLAGS", "-Awarnings");
        cargo.env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("RUST_BACKTRACE");
        let out = cargo.args(["--", "--exact", name]).output().map_err(|e| e.to_string())?;
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        if said.contains("test result: ok. 1 passed") {
            Ok(true)
        } else if said.contains("0 passed; 1 failed") {
            Ok(false)
        } else {
            Err(said)
        }
    }

    fn red(&self, bug: &Bug) -> Result<(), String> {
        let path = self.dir.path().join(&bug.file);
        let good = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
        let times = good.matches(&bug.find).count();
        if times != 1 {
            return Err(format!("its place occurs {times} times in {}", bug.file));
        }
        std::fs::write(&path, good.replacen(&bug.find, &bug.replace, 1)).map_err(|e| e.to_string())?;
        let ran = self.run(&bug.test);
        std::fs::write(&path, good).map_err(|e| e.to_string())?;
        match ran {
            Ok(false) => Ok(()),
            Ok(true) => Err(format!("{} stays green although {}", bug.test, bug.why)),
            Err(said) => Err(format!("no verdict of {}: {said}", bug.test)),
        }
    }
}

#[test]
fn every_seeded_bug_of_the_machine_is_found() {
    let bugs: Bugs = toml::from_str(include_str!("bugs.toml")).unwrap();
    assert!(bugs.bug.len() >= 18, "only {} bugs", bugs.bug.len());
    let names: BTreeSet<_> = bugs.bug.iter().map(|b| &b.name).collect();
    assert_eq!(names.len(), bugs.bug.len(), "a name twice");
    let tests: BTreeSet<_> = bugs.bug.iter().map(|b| &b.test).collect();
    let work = Mutex::new((tests.into_iter().collect::<Vec<_>>(), bugs.bug.iter().collect::<Vec<_>>()));
    let missed = Mutex::new(Vec::new());
    let miss = |why: String| missed.lock().unwrap().push(why);
    std::thread::scope(|s| {
        for _ in 0..COPIES {
            s.spawn(|| {
                let copy = Copy::new();
                while let Some(test) = { work.lock().unwrap().0.pop() } {
                    let green = copy.run(test);
                    if green != Ok(true) {
                        miss(format!("{test} on the machine as it is: {green:?}"));
                    }
                }
                while let Some(bug) = { work.lock().unwrap().1.pop() } {
                    match copy.red(bug) {
                        Ok(()) => println!("found: {} ({})", bug.name, bug.test),
                        Err(why) => miss(format!("{}: {why}", bug.name)),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    println!("{} of {} seeded bugs found", bugs.bug.len() - missed.len(), bugs.bug.len());
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}
