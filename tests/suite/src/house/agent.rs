//! A real agent over a toy database of three shell scripts (engine `command`), whose behaviour a test changes by files:
//! `freeze.exit`, `thaw.exit`, `is_frozen.exit` hold an exit code, `freeze.sleep` seconds. Plain HTTP over its socket.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use crate::host::{sleep_ms, snapfreeze, tmpfs_dir};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SCRIPTS: [(&str, &str); 3] = [
    (
        "freeze",
        "sleep $(cat freeze.sleep 2>/dev/null || echo 0); code=$(cat freeze.exit 2>/dev/null || echo 0); [ $code = 0 ] && echo > frozen; exit $code",
    ),
    ("thaw", "code=$(cat thaw.exit 2>/dev/null || echo 0); [ $code = 0 ] && rm -f frozen; exit $code"),
    ("is_frozen", "[ -e is_frozen.exit ] && exit $(cat is_frozen.exit); [ -e frozen ]"),
];

/// Near the floors, so that a hold of 1 s is possible.
pub const MARGINS: &str = "[margins]\nwatchdog = \"500ms\"\nthaw_budget = \"1s\"\nfreeze = \"1s\"\nrung = \"500ms\"\nguard = \"1s\"\n";

pub struct Agent {
    pub dir: tempfile::TempDir,
    child: Option<Child>,
}

/// One reply: status, content type, body.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

impl Agent {
    /// The toy database under the name T.
    pub fn start() -> Self {
        let new = Self::prepare();
        let dir = new.dir.path().display().to_string();
        let instance = format!(
            "[[instance]]\nengine = \"command\"\nname = \"T\"\nfreeze = [\"{dir}/freeze\"]\nthaw = [\"{dir}/thaw\"]\nis_frozen = [\"{dir}/is_frozen\"]\n\
             continuity = \"trust\"\nlayout = {{ data = [\"{dir}\"], journal = [\"{dir}/lost\"] }}\n"
        );
        new.run(&instance)
    }

    /// With these `[[instance]]` tables instead.
    pub fn start_with(instances: &str) -> Self {
        Self::prepare().run(instances)
    }

    /// The scripts and the configuration, without an agent.
    pub fn prepare() -> Self {
        let dir = tmpfs_dir();
        let open = |p: &Path, mode| std::fs::set_permissions(p, std::fs::Permissions::from_mode(mode)).expect("chmod");
        open(dir.path(), 0o755);
        for (name, text) in SCRIPTS {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\ncd {}\n{text}\n", dir.path().display())).expect("a script");
            open(&path, 0o755);
        }
        Self { dir, child: None }
    }

    pub fn write_config(&self, instances: &str) {
        let dir = self.dir.path().display();
        let text = format!("[agent]\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\n[window]\nhold = \"5s\"\n{MARGINS}{instances}");
        std::fs::write(self.config(), text).expect("the configuration");
    }

    fn run(mut self, instances: &str) -> Self {
        self.write_config(instances);
        let log = std::fs::File::create(self.dir.path().join("agent.log")).expect("a log");
        let child =
            Command::new(snapfreeze()).arg("agent").env("SNAPFREEZE_CONFIG", self.config()).stdin(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("the agent starts"));
        for _ in 0..400 {
            if UnixStream::connect(self.socket()).is_ok() {
                return self;
            }
            sleep_ms(50);
        }
        panic!("no agent after 20 s: {}", std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default());
    }

    /// SIGTERM; its exit code, and how many ms it took.
    pub fn stop(&mut self) -> (Option<i32>, u64) {
        let begun = doors::clock::boot_now();
        let mut child = self.child.take().expect("an agent that runs");
        crate::host::signal(child.id(), rustix::process::Signal::TERM);
        let code = child.wait().expect("it ends").code();
        (code, doors::clock::boot_now().since(begun))
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("agent.toml")
    }
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }

    /// `freeze.exit`, `1`: from now on a freeze fails. `None` takes it back.
    pub fn set(&self, name: &str, value: Option<&str>) {
        let path = self.dir.path().join(name);
        let done = value.map_or_else(|| std::fs::remove_file(&path), |v| std::fs::write(&path, v));
        done.unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// Method, path, body; as JSON.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        self.send(method, path, &["content-type: application/json"], body.as_bytes())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: snapfreeze\r\ncontent-length: {}\r\n", body.len());
        for h in headers {
            head.push_str(&format!("{h}\r\n"));
        }
        self.raw(&[head.as_bytes(), b"\r\n", body].concat()).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// These bytes, and what comes back until the agent closes.
    pub fn raw(&self, bytes: &[u8]) -> Result<Reply, String> {
        exchange(&self.socket(), bytes)
    }
}

/// One exchange over a Unix socket.
pub fn exchange(socket: &Path, bytes: &[u8]) -> Result<Reply, String> {
    let mut s = UnixStream::connect(socket).map_err(|e| format!("connect: {e}"))?;
    s.set_read_timeout(Some(Duration::from_secs(60))).map_err(|e| e.to_string())?;
    // A peer that refuses a large body may close before it is read.
    let sent = s.write_all(bytes);
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        match s.read(&mut part) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&part[..n]),
            Err(_) if !answer.is_empty() => break,
            Err(e) => return Err(format!("read: {e} (write: {sent:?})")),
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no reply: {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| format!("no status: {head:?}"))?;
    let kind = head.lines().filter_map(|l| l.split_once(':')).find(|(k, _)| k.eq_ignore_ascii_case("content-type"));
    Ok(Reply { status, content_type: kind.map(|(_, v)| v.trim().to_owned()).unwrap_or_default(), body: body.to_owned() })
}

impl Drop for Agent {
    fn drop(&mut self) {
        for name in ["thaw.exit", "is_frozen.exit", "freeze.exit", "freeze.sleep"] {
            let _ = std::fs::remove_file(self.dir.path().join(name));
        }
        let Some(mut child) = self.child.take() else { return };
        crate::host::signal(child.id(), rustix::process::Signal::TERM);
        for _ in 0..100 {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            sleep_ms(50);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
