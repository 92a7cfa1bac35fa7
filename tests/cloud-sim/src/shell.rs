//! What both clouds' agents do with a script: the host's paths put in, an interpreter chosen, an environment of its own.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The host's own paths in place of absolute ones: whole paths only, `/usr/bin/x` not in `/usr/bin/xy` nor in `/opt/usr/bin/x`.
pub fn rewrite(text: &str, paths: &BTreeMap<String, PathBuf>) -> String {
    let part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let mut text = text.to_owned();
    for (from, to) in paths {
        let (mut out, mut rest) = (String::new(), text.as_str());
        while let Some(at) = rest.find(from.as_str()) {
            let (before, after) = (&rest[..at], &rest[at + from.len()..]);
            let joined = before.chars().next_back().or(out.chars().next_back()).is_some_and(part) || after.chars().next().is_some_and(part);
            out.push_str(before);
            out.push_str(if joined { from } else { to.to_str().unwrap_or(from) });
            rest = after;
        }
        out.push_str(rest);
        text = out;
    }
    text
}

/// Its `#!` line, else `default`. The interpreter is started with the file, because executing a file that was just written
/// fails while another thread forks ("text file busy").
pub fn interpreter(text: &str, default: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix("#!").map(str::trim).filter(|s| !s.is_empty()) {
        Some(line) => line.split_whitespace().map(str::to_owned).collect(),
        None => vec![default.into()],
    }
}

pub fn search_path(prefix: Option<&Path>) -> String {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    prefix.map_or_else(|| path.to_owned(), |p| format!("{}:{path}", p.display()))
}

pub fn kill_group(group: i32) {
    if let Some(pid) = Pid::from_raw(group) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// The process alone: its children live on.
pub fn kill_one(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}
