//! The invariants of ARCHITECTURE.md as functions from text to findings. No finding: the rule holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root")
}

/// Every file of the repository with its path from the root, without what is built.
pub fn files() -> Vec<(String, PathBuf)> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<(String, PathBuf)>) {
        for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            let built = name == ".git" || name.starts_with("target") || name.ends_with("/target") || name.contains("/corpus");
            if path.is_dir() && !path.is_symlink() && !built {
                walk(&path, root, found);
            } else if path.is_file() && !built {
                found.push((name, path));
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root, &root, &mut found);
    found.sort();
    found
}

pub fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// `(path, text)` of the Rust sources whose path begins with one of `below`.
pub fn sources(below: &[&str]) -> Vec<(String, String)> {
    let wanted = |name: &str| name.ends_with(".rs") && below.iter().any(|b| name.starts_with(b));
    files()
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, path)| (name, std::fs::read_to_string(path).expect("a source")))
        .collect()
}

/// Lines that are code: without comments, and without the tests at the file's end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end].lines().enumerate().map(|(n, l)| (n + 1, l.split("//").next().unwrap_or(l)))
}

/// Words that may not stand in this source's code.
pub fn words(name: &str, text: &str, forbidden: &[&str]) -> Vec<String> {
    let hit = |l: &str| forbidden.iter().find(|w| l.contains(**w)).copied();
    code(text).filter_map(|(n, l)| hit(l).map(|w| format!("{name}:{n}: {w}"))).collect()
}

/// What a pure crate never names.
pub const IMPURE: [&str; 11] =
    ["std::fs", "std::process", "std::net", "std::env", "std::thread", "std::io", "SystemTime", "Instant", "std::time", "tokio", "rustix"];
pub const PROCESSES: [&str; 5] = ["process::Command", "CommandExt", "posix_spawn", "libc::fork", "execv"];
pub const CLOCKS: [&str; 6] = ["SystemTime", "Instant::now", "clock_gettime", "Timestamp::now", "Zoned::now", "Utc::now"];
pub const UNFINISHED: [&str; 3] = ["todo!(", "unimplemented!(", "dbg!("];

/// The journal's directory is written by its own module: elsewhere no call that writes stands near its name.
pub fn journal_writes(name: &str, text: &str) -> Vec<String> {
    const WRITES: [&str; 8] =
        ["fs::write", "OpenOptions", "File::create", "fs::rename", "remove_file", "remove_dir", "set_permissions", "create_dir"];
    let lines: Vec<&str> = text.lines().collect();
    let near = |n: usize| &lines[n.saturating_sub(3)..(n + 4).min(lines.len())];
    let named = lines.iter().enumerate().filter(|(_, l)| l.contains(".journal()") || l.contains(".entry\""));
    named.filter(|(n, _)| near(*n).iter().any(|l| WRITES.iter().any(|w| l.contains(w)))).map(|(n, _)| format!("{name}:{}", n + 1)).collect()
}

/// Workspace crates that a manifest's `[dependencies]` name (`false`: all crates).
pub fn dependencies(manifest: &str, ours: Option<&BTreeSet<String>>) -> BTreeSet<String> {
    let parsed: toml::Table = manifest.parse().expect("a manifest");
    let names = parsed.get("dependencies").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
    names.filter(|n| ours.is_none_or(|o| o.contains(*n))).cloned().collect()
}

/// Everything that a package of `Cargo.lock` reaches.
pub fn closure(lock: &str, package: &str) -> BTreeSet<String> {
    let parsed: toml::Table = lock.parse().expect("Cargo.lock");
    let mut graph: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for p in parsed["package"].as_array().expect("packages") {
        let needs = p.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
        // A lock file has dev-dependencies, too. `suite` is nothing else: the rule of the rooms lets no room depend on it.
        let needs = needs.filter_map(|d| d.as_str()?.split(' ').next()).filter(|d| *d != "suite").map(str::to_owned);
        graph.entry(p["name"].as_str().expect("a name").to_owned()).or_default().extend(needs);
    }
    let (mut seen, mut next) = (BTreeSet::new(), vec![package.to_owned()]);
    while let Some(p) = next.pop() {
        if seen.insert(p.clone()) {
            next.extend(graph.get(&p).into_iter().flatten().cloned());
        }
    }
    seen
}

/// Cloud SDKs, and what reaches out of the host.
pub fn reaches_out(closure: &BTreeSet<String>) -> Vec<String> {
    let begins = ["aws-", "aws_", "azure", "google-cloud", "rusoto", "typespec"];
    let names = ["reqwest", "ureq", "hyper-rustls", "rustls", "openssl", "native-tls"];
    closure.iter().filter(|n| begins.iter().any(|b| n.starts_with(b)) || names.contains(&n.as_str())).cloned().collect()
}

/// Files longer than `limit`; the exceptions must be there and still be long.
pub fn too_long(lengths: &[(String, usize)], limit: usize, exceptions: &[&str]) -> Vec<String> {
    let long: BTreeSet<&str> = lengths.iter().filter(|(_, n)| *n > limit).map(|(f, _)| f.as_str()).collect();
    let allowed: BTreeSet<&str> = exceptions.iter().copied().collect();
    let more = long.difference(&allowed).map(|f| format!("{f} has more than {limit} lines"));
    more.chain(allowed.difference(&long).map(|f| format!("{f} needs no exception any more"))).collect()
}

/// Paths of somebody's machine and hosts of package registries. Written in pieces, so that this file is clean.
pub fn foreign(name: &str, text: &str) -> Vec<String> {
    let words = [
        concat!("/wo", "rk/"),
        concat!("bash_", "jobs"),
        concat!("/root/", "."),
        concat!("/home/", "user"),
        concat!("static.", "crates.io"),
        concat!("index.", "crates.io"),
        concat!("files.python", "hosted.org"),
        concat!("pypi", ".org"),
        concat!("registry.", "npmjs"),
        concat!("deb.", "debian.org"),
    ];
    let hit = |l: &str| words.iter().find(|w| l.contains(**w)).copied();
    text.lines().enumerate().filter_map(|(n, l)| hit(l).map(|w| format!("{name}:{}: {w}", n + 1))).collect()
}

/// `make NAME` in a document must be a target.
pub fn make_targets(document: &str, makefile: &str) -> Vec<String> {
    let targets: BTreeSet<&str> =
        makefile.lines().filter(|l| !l.starts_with(['\t', '#', '.'])).filter_map(|l| l.split_once(':')).map(|(t, _)| t).collect();
    let quoted = document.split('`').skip(1).step_by(2).chain(document.lines().filter(|l| l.trim_start().starts_with("make ")));
    let named = quoted.filter_map(|q| q.trim().split_once("make ").map(|(_, rest)| rest));
    let words = named.filter_map(|rest| rest.split_whitespace().find(|w| !w.contains('=')));
    words.map(|w| w.trim_end_matches(['.', ',', ';', ')'])).filter(|w| !targets.contains(w)).map(|w| format!("no target {w}")).collect()
}

/// Relative links of a document that lead nowhere.
pub fn dead_links(name: &str, text: &str) -> Vec<String> {
    let dir = root().join(name).parent().expect("a directory").to_path_buf();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let ours = links.filter(|l| !l.contains("://") && !l.starts_with('#'));
    ours.filter(|l| !dir.join(l.split('#').next().unwrap_or(l)).exists()).map(|l| format!("{name}: {l}")).collect()
}

/// One error page against its code.
pub fn error_page(name: &str, exit: u8, text: &str) -> Vec<String> {
    let mut bad = Vec::new();
    let mut lines = text.lines();
    if lines.next() != Some(&format!("# {name}")) {
        bad.push(format!("{name}: the first line is not `# {name}`"));
    }
    if !text.contains(&format!("Exit code {exit}.")) {
        bad.push(format!("{name}: does not say `Exit code {exit}.`"));
    }
    for heading in ["## Are writes still stopped?", "## What happened", "## Now", "## So that it does not happen again"] {
        let body = text.split_once(&format!("{heading}\n")).map(|(_, b)| b.split("\n## ").next().unwrap_or(b).trim());
        if body.is_none_or(|b| b.len() < 20) {
            bad.push(format!("{name}: nothing under `{heading}`"));
        }
    }
    bad
}

/// Variants of an enum in a source, as serde's kebab-case writes them.
pub fn kebab_variants(source: &str, name: &str) -> Vec<String> {
    let (_, rest) = source.split_once(&format!("pub enum {name} {{")).expect("the enum");
    let body = rest.split("\n}").next().unwrap_or(rest);
    let variants = body.lines().map(str::trim).filter(|l| l.starts_with(|c: char| c.is_ascii_uppercase()));
    let name_of = |l: &str| l.split(['(', ',', ' ', '{']).next().unwrap_or(l).to_owned();
    let kebab = |v: String| {
        let parts = v
            .char_indices()
            .map(|(i, c)| if c.is_uppercase() && i > 0 { format!("-{}", c.to_lowercase()) } else { c.to_lowercase().to_string() });
        parts.collect::<String>()
    };
    variants.map(name_of).map(kebab).collect()
}

/// The verbs that `--help` lists.
pub fn verbs(help: &str) -> Vec<String> {
    let (_, rest) = help.split_once("\nCommands:\n").expect("a list of commands");
    let list = rest.lines().take_while(|l| !l.trim().is_empty());
    list.filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next())
        .filter(|v| *v != "help")
        .map(str::to_owned)
        .collect()
}

/// Entries of clippy.toml's bans: path and reason.
pub fn bans(clippy: &str) -> Vec<(String, String)> {
    let parsed: toml::Table = clippy.parse().expect("clippy.toml");
    let get = |t: &toml::Value, k: &str| t.get(k).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    parsed["disallowed-methods"].as_array().expect("bans").iter().map(|b| (get(b, "path"), get(b, "reason"))).collect()
}
