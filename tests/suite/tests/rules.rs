//! The rules of the house (ARCHITECTURE.md), each with a negative control: the checker is fed a bad sample and must see it.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use protocol::Code;
use std::collections::BTreeSet;
use std::process::Command;
use suite::host::snapfreeze;
use suite::house::rules::*;

const NONE: [&str; 0] = [];

/// Which crates of ours a crate may depend on. Tests may use anything.
const ROOMS: [(&str, &str, &[&str]); 15] = [
    ("agent/protocol", "protocol", &[]),
    ("agent/doors", "doors", &["protocol"]),
    ("agent/lifecycle", "lifecycle", &["protocol"]),
    ("agent/engine", "engine", &["doors", "protocol", "recovery"]),
    ("agent/storage", "storage", &["doors", "protocol"]),
    ("agent/recovery", "recovery", &["protocol"]),
    ("agent/snapfreeze", "snapfreeze", &["doors", "protocol", "lifecycle", "engine", "recovery", "storage"]),
    // The model is written after the vendor's facts, not after the agent's needs: it shares no line with it.
    ("tests/iris-sim", "iris-sim", &[]),
    ("lambda/coordinator", "coordinator", &["protocol"]),
    ("lambda/common", "common", &["coordinator", "protocol"]),
    ("lambda/aws", "aws", &["common", "coordinator", "protocol"]),
    ("lambda/azure", "azure", &["common", "coordinator", "protocol"]),
    ("lambda/ctl", "ctl", &["aws", "azure", "common", "coordinator", "protocol"]),
    ("tests/plugin-host", "plugin-host", &[]),
    // The cloud's double, like the engine's, shares no line with what it stands against.
    ("tests/cloud-sim", "cloud-sim", &[]),
];

#[test]
fn every_room_names_only_the_rooms_below_it() {
    let ours: BTreeSet<String> = ROOMS.iter().map(|r| r.1.to_owned()).chain(["suite".to_owned()]).collect();
    for (dir, name, may) in ROOMS {
        let manifest = read(&format!("{dir}/Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "folder name = crate name: {dir}");
        let has = dependencies(&manifest, Some(&ours));
        let may: BTreeSet<String> = may.iter().map(ToString::to_string).collect();
        assert!(has.is_subset(&may), "{name} may depend on {may:?}, has {has:?}");
    }
    let members: toml::Table = read("Cargo.toml").parse().unwrap();
    let members: BTreeSet<&str> = members["workspace"]["members"].as_array().unwrap().iter().filter_map(|m| m.as_str()).collect();
    let known: BTreeSet<&str> = ROOMS.iter().map(|r| r.0).chain(["tests/suite"]).collect();
    assert_eq!(members, known, "a new room needs a row here and in ARCHITECTURE.md");
    assert!(dependencies("[dependencies]\nengine.workspace = true\nserde = \"1\"", Some(&ours)).contains("engine"), "the control");
}

#[test]
fn the_machine_depends_on_protocol_only_and_names_no_outside_thing() {
    assert_eq!(dependencies(&read("agent/lifecycle/Cargo.toml"), None), BTreeSet::from(["protocol".to_owned()]));
    let pure = sources(&["agent/lifecycle/src", "agent/protocol/src", "agent/recovery/src"]);
    assert!(pure.len() >= 10);
    for (name, text) in &pure {
        assert_eq!(words(name, text, &IMPURE), NONE);
    }
    for (name, text) in sources(&["agent/lifecycle/src"]) {
        assert_eq!(words(&name, &text, &["Serialize", "serde"]), NONE, "wire and stored types are others");
    }
    let saga = sources(&["lambda/coordinator/src"]);
    assert!(saga.len() >= 15 && saga.iter().any(|(n, _)| n.ends_with("/fake.rs")));
    for (name, text) in &saga {
        assert_eq!(words(name, text, &IMPURE), NONE, "the saga and its simulated world are pure");
    }
    let bad = "// std::fs is fine here\nuse std::time::Instant;\nlet x = std::fs::read(p); // why\n";
    assert_eq!(words("x.rs", bad, &IMPURE).len(), 2, "the control");
}

#[test]
fn the_agent_links_no_cloud_sdk_and_no_client_that_leaves_the_host() {
    let reached = closure(&read("Cargo.lock"), "snapfreeze");
    assert!(reached.contains("tokio") && reached.contains("engine"), "{reached:?}");
    assert_eq!(reaches_out(&reached), NONE);
    let lock = "[[package]]\nname = \"snapfreeze\"\nversion = \"1\"\ndependencies = [\"a\"]\n[[package]]\nname = \"a\"\nversion = \"1\"\ndependencies = [\"aws-sdk-ec2 1.0\"]\n";
    assert_eq!(reaches_out(&closure(lock, "snapfreeze")), ["aws-sdk-ec2"], "the control");
}

#[test]
fn one_door_starts_processes_and_one_reads_the_clock() {
    let agent = sources(&["agent/"]);
    assert!(agent.len() > 60);
    let (mut starts, mut reads) = (BTreeSet::new(), BTreeSet::new());
    for (name, text) in agent.iter().filter(|(n, _)| !n.contains("/tests/") && !n.ends_with("tests.rs")) {
        if !words(name, text, &PROCESSES).is_empty() || text.contains("process::{Child") {
            starts.insert(name.as_str());
        }
        if !words(name, text, &CLOCKS).is_empty() {
            reads.insert(name.as_str());
        }
    }
    assert_eq!(starts, BTreeSet::from(["agent/doors/src/exec.rs"]));
    assert_eq!(reads, BTreeSet::from(["agent/doors/src/clock.rs"]));
}

/// What runs in the cloud calls the cloud, and nothing else: a program that is started there holds its rights.
#[test]
fn nothing_under_lambda_starts_a_process() {
    let all = sources(&["lambda/"]);
    assert!(all.len() > 15);
    for (name, text) in all.iter().filter(|(n, _)| n.contains("/src/")) {
        let found = words(name, text, &["std::process::Command", "process::Command", "tokio::process"]);
        assert_eq!(found, NONE);
    }
    assert_eq!(words("x.rs", "let c = std::process::Command::new(p);", &["process::Command"]).len(), 1, "the control");
}

#[test]
fn clippy_shuts_the_other_doors_with_a_reason() {
    let has = bans(&read("clippy.toml"));
    assert!(has.iter().all(|(_, reason)| reason.len() > 10), "{has:?}");
    for path in [
        "std::process::Command::new",
        "tokio::process::Command::new",
        "std::time::SystemTime::now",
        "std::time::Instant::now",
        "tokio::time::Instant::now",
    ] {
        assert!(has.iter().any(|(p, _)| p == path), "{path}");
    }
    assert!(read("Cargo.toml").contains("disallowed_methods = \"deny\""));
    for (dir, ..) in ROOMS {
        assert!(read(&format!("{dir}/Cargo.toml")).contains("[lints]\nworkspace = true"), "{dir} takes the workspace's lints");
    }
    assert_eq!(bans("disallowed-methods = [{ path = \"x\" }]"), [("x".to_owned(), String::new())], "the control: no reason");
}

#[test]
fn only_the_journals_own_module_writes_the_journal() {
    let all = sources(&["agent/snapfreeze/src"]);
    let mut looked = 0;
    for (name, text) in all.iter().filter(|(n, _)| n != "agent/snapfreeze/src/journal.rs") {
        looked += usize::from(text.contains(".journal()"));
        assert_eq!(journal_writes(name, text), NONE);
    }
    assert!(looked >= 3, "nobody names the journal any more? {looked}");
    assert_eq!(journal_writes("x.rs", "let d = config.dirs.journal();\nstd::fs::write(d.join(id), b)?;\n"), ["x.rs:1"], "the control");
}

#[test]
fn nothing_is_left_unfinished() {
    for (name, text) in sources(&["agent/", "lambda/", "tests/"]) {
        if name != "tests/suite/src/house/rules.rs" {
            assert_eq!(words(&name, &text, &UNFINISHED), NONE);
            assert!(!text.contains(concat!("#[ign", "ore]")), "{name}: a test is switched off without a reason");
        }
    }
    assert_eq!(words("x.rs", concat!("fn f() { to", "do!() }"), &UNFINISHED).len(), 1, "the control");
}

#[test]
fn files_have_at_most_600_lines() {
    // One door, one file; and one model of the world in which the machine is explored.
    let exceptions = ["agent/doors/src/exec.rs", "agent/lifecycle/tests/explore/world.rs"];
    let lengths: Vec<_> = sources(&["agent/", "lambda/", "tests/"]).into_iter().map(|(n, t)| (n, t.lines().count())).collect();
    assert_eq!(too_long(&lengths, 600, &exceptions), NONE);
    let sample = [("a.rs".to_owned(), 601), ("b.rs".to_owned(), 600)];
    assert_eq!(too_long(&sample, 600, &["b.rs"]).len(), 2, "the control");
}

#[test]
fn the_top_level_is_fixed() {
    let expected = [
        ".ci",
        ".config",
        ".gitignore",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "Makefile",
        "README.md",
        "agent",
        "clippy.toml",
        "deny.toml",
        "docs",
        "infra",
        "lambda",
        "rustfmt.toml",
        "tests",
    ];
    let found: BTreeSet<String> = files().into_iter().filter_map(|(n, _)| n.split('/').next().map(str::to_owned)).collect();
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(!expected.contains(&"scripts"), "the control");
}

#[test]
fn the_tree_names_no_machine_and_no_registry() {
    let mut looked = 0;
    for (name, path) in files() {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        if name != "Cargo.lock" {
            looked += 1;
            assert_eq!(foreign(&name, &text), NONE);
        }
    }
    assert!(looked > 150);
    assert_eq!(foreign("x", concat!("see /wo", "rk/main\n")).len(), 1, "the control");
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let dir = root().join("docs/errors");
    let pages: BTreeSet<String> = std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let expected: BTreeSet<String> = Code::ALL.iter().map(|c| format!("{c}.md")).chain(["README.md".to_owned()]).collect();
    assert_eq!(pages, expected);
    let table = read("docs/errors/README.md");
    for c in Code::ALL {
        assert_eq!(error_page(c.name(), c.exit(), &read(&format!("docs/errors/{c}.md"))), NONE);
        assert!(table.contains(&format!("| {} | [{c}]({c}.md) |", c.exit())), "{c} in the table of docs/errors/README.md");
    }
    let reasons = kebab_variants(&read("agent/protocol/src/outcome.rs"), "BrokenReason");
    assert!(reasons.len() >= 16 && reasons.contains(&"thaw-released-nothing".to_owned()), "{reasons:?}");
    let broken = read("docs/errors/Window.Broken.md");
    for r in &reasons {
        assert!(broken.contains(&format!("| `{r}` |")), "{r} in Window.Broken.md");
    }
    assert_eq!(error_page("X.Y", 4, "# X.Z\n\nExit code 3.\n\n## Now\n\nshort\n").len(), 6, "the control");
}

fn said(args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(snapfreeze()).args(args).output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn explain_prints_the_page_of_every_code() {
    for c in Code::ALL {
        let (code, text) = said(&["explain", c.name()]);
        assert_eq!(code, Some(0), "{c}");
        assert_eq!(text.trim(), read(&format!("docs/errors/{c}.md")).trim(), "{c}");
    }
    assert_eq!(said(&["explain", "No.Such"]).0, Some(2), "the control");
}

#[test]
fn the_manual_names_every_verb_and_every_exit_code() {
    let manual = read("docs/commands.md");
    let listed = verbs(&said(&["--help"]).1);
    assert!(listed.len() >= 18 && listed.contains(&"rehearse".to_owned()), "{listed:?}");
    for v in &listed {
        assert!(manual.contains(&format!("`{v}")), "{v} in docs/commands.md");
    }
    let exits: BTreeSet<u8> = Code::ALL.iter().map(|c| c.exit()).chain([0]).collect();
    for e in exits {
        assert!(manual.contains(&format!("| {e} |")), "exit code {e} in docs/commands.md");
    }
    assert_eq!(verbs("Usage\n\nCommands:\n  agent  The daemon\n         more\n  help   x\n\nOptions:\n"), ["agent"], "the control");
}

#[test]
fn the_manual_names_every_key_of_the_configuration() {
    let manual = read("docs/configuration.md");
    let example = read("infra/host/agent.toml");
    let keys = example
        .lines()
        .filter_map(|l| l.trim_start_matches("# ").split_once(" = ").map(|(k, _)| k))
        .filter(|k| k.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    let keys: BTreeSet<&str> = keys.collect();
    assert!(keys.len() > 25, "{keys:?}");
    for k in keys {
        assert!(manual.contains(&format!("`{k}`")), "{k} in docs/configuration.md");
    }
}

#[test]
fn documents_name_targets_and_files_that_exist() {
    let makefile = read("Makefile");
    let mut looked = 0;
    for (name, path) in files() {
        if name.ends_with(".md") {
            looked += 1;
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(make_targets(&text, &makefile), NONE, "{name}");
            assert_eq!(dead_links(&name, &text), NONE);
        }
    }
    assert!(looked > 35);
    for must in ["`make demo`", "`make test`"] {
        assert!(read("README.md").contains(must) || read("README.md").contains(must.trim_matches('`')), "{must}");
    }
    assert_eq!(make_targets("run `make tset`", &makefile), ["no target tset"], "the control");
    assert_eq!(dead_links("README.md", "[a](docs/nothing.md) [b](LICENSE)").len(), 1, "the control");
}

#[test]
fn the_changelog_has_this_version() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let version = manifest["workspace"]["package"]["version"].as_str().unwrap();
    assert!(read("CHANGELOG.md").contains(&format!("## {version}")), "{version}");
    assert!(read("LICENSE").contains("Apache License") && read("LICENSE").contains("APPENDIX"));
}
