//! Single-user mode: a start that did not come up. Only `-B` sessions get in, and nothing but ^STURECOV answers
//! ("Data Integrity Guide", Starting InterSystems IRIS without automatic WIJ and journal recovery).

use super::startup;
use crate::clock;
use crate::config::Config;
use crate::history::History;
use crate::messages::Console;
use crate::proto::{self, Op, Reply, Request};
use crate::store::StoreError;
use jiff::Zoned;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// "Reset system so journal is not restored at startup", remembered for the next start.
pub fn mark(cfg: &Config) -> PathBuf {
    cfg.mgr().join("sim.skip-journal")
}

pub fn run(cfg: &Config, console: &Console, history: &History) -> Result<(), StoreError> {
    let pid = std::process::id();
    for text in startup::single_user(cfg) {
        console.log(&Zoned::now(), pid, 2, "Utility.Event", &text);
    }
    history.event("single_user", pid, json!({}));
    let socket = cfg.socket_path();
    let listener = proto::listen(&socket).map_err(StoreError::io("listen", &socket))?;
    let own = cfg.clone();
    std::thread::spawn(move || watch(&own));
    for stream in listener.incoming().flatten() {
        let own = cfg.clone();
        std::thread::spawn(move || serve(&own, stream));
    }
    Ok(())
}

/// It ends when its lock file has gone or its life is over.
fn watch(cfg: &Config) {
    let end = clock::boot_ms() + cfg.max_life_s as f64 * 1000.0;
    let pid = std::process::id().to_string();
    while clock::boot_ms() < end && std::fs::read_to_string(cfg.lock_path()).is_ok_and(|t| t.trim() == pid) {
        std::thread::sleep(Duration::from_millis(300));
    }
    std::process::exit(0);
}

fn serve(cfg: &Config, stream: UnixStream) {
    let Ok(mut out) = stream.try_clone() else { return };
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let Ok(request) = serde_json::from_str::<Request>(&line) else { return };
        let stop = matches!(request.op, Op::Stop);
        let mut text = serde_json::to_vec(&answer(cfg, &request.op)).unwrap_or_default();
        text.push(b'\n');
        let sent = out.write_all(&text);
        if stop {
            for path in cfg.lock_paths().chain([cfg.socket_path()]) {
                let _ = std::fs::remove_file(path);
            }
            std::process::exit(0);
        }
        if sent.is_err() {
            return;
        }
    }
}

fn answer(cfg: &Config, op: &Op) -> Reply {
    match op {
        Op::Login { emergency: true, .. } => Reply::Done(json!({ "echo": true })),
        Op::Login { .. } => Reply::Exit(super::ops::STARTING.0.into(), super::ops::STARTING.1),
        Op::Info | Op::State => {
            let since = clock::stamp_ctime(&Zoned::now());
            Reply::Done(json!({ "single_user": true, "pid": std::process::id(), "since": since, "state": "ok", "health": "ok" }))
        }
        Op::SkipJournal => match std::fs::File::create(mark(cfg)).and_then(|f| f.sync_all()) {
            Ok(()) => Reply::Done(Value::Null),
            Err(e) => Reply::Failed(e.to_string()),
        },
        Op::Stop => Reply::Done(Value::Null),
        // INVENTED: what a command meets there.
        _ => Reply::Failed("<FUNCTION> the system is in single user mode".into()),
    }
}
