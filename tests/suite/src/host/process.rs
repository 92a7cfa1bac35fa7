//! Processes of this host, found by what their command line or environment names, and signals to them by pid.

use doors::clock::boot_now;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Found {
    pub pid: u32,
    pub exe: PathBuf,
    pub args: Vec<String>,
}

/// Every process whose arguments or environment contain `text`: a directory of one test.
pub fn with_text(text: &str) -> Vec<Found> {
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    let Ok(all) = std::fs::read_dir("/proc") else { return vec![] };
    let mut found = Vec::new();
    for pid in all.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok()) {
        if pid == std::process::id() {
            continue;
        }
        let read = |f: &str| std::fs::read(format!("/proc/{pid}/{f}")).unwrap_or_default();
        let cmdline = read("cmdline");
        if cmdline.is_empty() || !(has(&cmdline) || has(&read("environ"))) {
            continue;
        }
        let args = cmdline.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        found.push(Found { pid, exe: std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default(), args });
    }
    found
}

/// A zombie is not alive.
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !matches!(rest.trim_start().chars().next(), Some('Z' | 'X') | None))
}

pub fn signal(pid: u32, s: Signal) {
    if let Some(p) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(p, s);
    }
}

/// SIGKILL; returns when it is dead.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
    let by = boot_now().plus(5_000);
    while alive(pid) && boot_now() < by {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}
