//! `diagnose`: a directory for support. No secrets: credentials are never read, and configured words that look like
//! one are masked.

use crate::config::Config;
use crate::out::Out;
use crate::{instances, journal, layout};
use doors::clock::{boot_now, wall_now};
use protocol::Code;
use protocol::code::exit;
use protocol::wire::Problem;
use serde_json::json;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The end of a log is what matters.
const MAX_LOG: usize = 256 << 10;
const SECRET_WORDS: [&str; 5] = ["password", "passwd", "secret", "token", "credential"];

pub fn diagnose(config: &Config, to: &Path, out: Out) -> u8 {
    let dir = to.join(format!("snapfreeze-diagnose-{}", wall_now().0));
    match write(config, &dir) {
        Ok(files) => {
            out.object("diagnose", &json!({ "dir": dir, "files": files }));
            out.say(format!("{}: {} files; look through them, then pack the directory and send it", dir.display(), files.len()));
            exit::DONE
        }
        Err(e) => out.problem(&Problem::new(Code::Internal, format!("{}: {e}", dir.display()))),
    }
}

fn write(config: &Config, dir: &Path) -> std::io::Result<Vec<String>> {
    std::fs::DirBuilder::new().mode(0o700).create(dir)?;
    let mut files = Vec::new();
    let mut put = |name: &str, text: String| {
        files.push(name.to_owned());
        std::fs::write(dir.join(name), text)
    };
    let read = |p: &Path| std::fs::read(p).map(|b| String::from_utf8_lossy(&b[b.len().saturating_sub(MAX_LOG)..]).into_owned());
    put("version.txt", format!("snapfreeze {}\n{}", env!("CARGO_PKG_VERSION"), read(Path::new("/proc/version")).unwrap_or_default()))?;
    put("agent.toml", mask(&read(&config.path).unwrap_or_else(|e| e.to_string())))?;
    put("mountinfo.txt", read(Path::new("/proc/self/mountinfo")).unwrap_or_default())?;
    put("watchdog.log", read(&config.dirs.run.join("watchdog.log")).unwrap_or_default())?;
    let entries: Vec<_> = std::fs::read_dir(config.dirs.journal())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|f| f.path().extension().is_some_and(|e| e == "entry"))
        .filter_map(|f| journal::parse(&std::fs::read(f.path()).ok()?))
        .map(|e| json!({ "intent": e.intent, "outcome": e.outcome, "done": e.done }).to_string())
        .collect();
    put("journal.jsonl", entries.join("\n"))?;
    let by = boot_now().plus(20_000);
    let engines = match instances::open(config) {
        Ok(set) => {
            let facts: Vec<_> =
                set.iter().map(|i| json!({ "instance": i.name, "facts": i.engine.discover(by).map_err(|e| crate::chain(&e)) })).collect();
            json!({ "instances": facts, "layout": layout::of(&set, config, by).map_err(|p| p.detail) })
        }
        Err(p) => json!({ "problem": p }),
    };
    put("engines.json", serde_json::to_string_pretty(&engines)?)?;
    Ok(files)
}

/// A line that names a secret keeps its key only.
fn mask(toml: &str) -> String {
    let hide = |l: &str| {
        let low = l.to_lowercase();
        let names_a_file = low.contains("_file");
        match l.split_once('=') {
            Some((key, _)) if !names_a_file && SECRET_WORDS.iter().any(|w| low.contains(w)) => format!("{key}= \"***\""),
            _ => l.to_owned(),
        }
    };
    toml.lines().map(hide).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_file_names_are_kept() {
        let t = "name = \"IRIS\"\ncredentials_file = \"/etc/x.cred\"\nenv = { DB_PASSWORD = \"hunter2\" }\n";
        let m = mask(t);
        assert!(!m.contains("hunter2") && m.contains("/etc/x.cred") && m.contains("IRIS"), "{m}");
    }
}
