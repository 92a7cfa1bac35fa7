//! `make demo INSTANCE=NAME`: freeze, ask, thaw on the reader's own IRIS; no snapshot. Keeps a transcript.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use suite::stage::{program, sleep_ms};

pub fn run(name: &str) -> Result<(), String> {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) || name.is_empty() {
        return Err(format!("{name:?} is no instance name"));
    }
    let dir = crate::place()?.join(format!("rehearsal-{name}"));
    std::fs::create_dir_all(dir.join("run")).map_err(|e| e.to_string())?;
    let config = dir.join("agent.toml");
    let text = format!(
        "[agent]\nstate_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\n\n[[instance]]\nengine = \"iris\"\nname = \"{name}\"\n{1}",
        dir.display(),
        std::env::var("IRIS_PROGRAM").map(|p| format!("program = {p:?}\n")).unwrap_or_default()
    );
    std::fs::write(&config, text).map_err(|e| e.to_string())?;
    let exe = program("snapfreeze")?;
    let mut agent = Command::new(&exe)
        .arg("--config")
        .arg(&config)
        .arg("agent")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let by = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(dir.join("run/agent.sock")).is_err() && Instant::now() < by {
        sleep_ms(20);
    }
    let mut transcript = String::new();
    let mut last = None;
    for verb in [&["check"][..], &["rehearse", "--hold", "10s"], &["status"]] {
        let out = Command::new(&exe).arg("--config").arg(&config).args(verb).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let _ = write!(transcript, "$ snapfreeze {}\n{said}exit {}\n\n", verb.join(" "), out.status.code().unwrap_or(-1));
        if verb[0] == "rehearse" {
            last = out.status.code();
        }
    }
    if let Some(pid) = rustix::process::Pid::from_raw(agent.id() as i32) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM); // thaws first
    }
    let _ = agent.wait();
    let file = dir.join("transcript.txt");
    std::fs::write(&file, &transcript).map_err(|e| e.to_string())?;
    print!("{transcript}");
    println!("transcript: {}", file.display());
    match last {
        Some(0) => Ok(()),
        other => Err(format!("the rehearsal did not hold (exit {other:?}); see the transcript")),
    }
}
