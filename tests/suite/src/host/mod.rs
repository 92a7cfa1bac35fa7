//! A whole host for tests: a database with a workload, the real agent under a small supervisor that plays systemd,
//! callers, and the named points at which any of these processes can be held and killed.
//!
//! Invariants:
//! - What happened is told by the engine's own history ([`Engine::history`]), never by the agent.
//! - Each host has directories of its own; everything that it started is gone when the value is dropped.
#![allow(clippy::disallowed_methods, reason = "a test host stands outside the agent's doors")]

mod binaries;
pub mod disk;
mod engine;
mod points;
mod process;
mod supervisor;

pub use binaries::{iris_sim, snapfreeze};
pub use engine::{Engine, Happened, Sim, What};
pub use points::{Points, Reply, Seen};
pub use process::{alive, kill, signal, with_text};
pub use supervisor::Supervisor;

use doors::clock::boot_now;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How a host is set up. The margins are near their floors, so that a hold of 1 s is possible.
#[derive(Clone, Debug)]
pub struct Setup {
    pub hold_ms: u64,
    /// `[window]` lines beside the hold.
    pub window: String,
    /// `[margins]`, complete.
    pub margins: String,
    /// More of the file: other tables; `{disk}` becomes the host's own directory.
    pub more: String,
    /// More variables for the agent (and so for its watchdog).
    pub env: Vec<(String, String)>,
    /// More options of `iris-sim install`.
    pub sim: Vec<String>,
    /// Delays and faults from the start (`iris-sim ctl`).
    pub ctl: Vec<String>,
    pub workload: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            hold_ms: 1_000,
            // hold (up to 3 s) + watchdog 0.5 s + thaw budget 1 s must be less.
            window: "wd_suspend_limit = \"5s\"\n".into(),
            margins: "watchdog = \"500ms\"\nthaw_budget = \"1s\"\nfreeze = \"2s\"\nrung = \"1s\"\nguard = \"1s\"\n".into(),
            more: String::new(),
            env: Vec::new(),
            sim: Vec::new(),
            ctl: Vec::new(),
            workload: true,
        }
    }
}

pub struct Host {
    pub points: Points,
    pub agent: Supervisor,
    pub engine: Engine,
    pub setup: Setup,
    config: PathBuf,
    /// On a disk: the journal, the database.
    pub disk: tempfile::TempDir,
    /// On tmpfs where there is one: socket, locks, history, LogFiles.
    pub run: tempfile::TempDir,
}

/// A directory on tmpfs, or an ordinary one where the machine has none.
pub fn tmpfs_dir() -> tempfile::TempDir {
    let b = || {
        let mut b = tempfile::Builder::new();
        b.prefix("sf-");
        b
    };
    let found = ["/dev/shm", "/run"].iter().find_map(|d| b().tempdir_in(d).ok());
    found.unwrap_or_else(|| b().tempdir().expect("a temporary directory"))
}

impl Host {
    /// An `iris-sim` instance with a workload, and a running agent.
    pub fn iris(setup: Setup) -> Self {
        Self::iris_on(tempfile::tempdir().expect("a directory"), setup)
    }

    /// The same with its files in this directory.
    pub fn iris_on(disk: tempfile::TempDir, setup: Setup) -> Self {
        let run = tmpfs_dir();
        let engine = Engine::iris(disk.path(), run.path(), &setup);
        Self::around(engine, disk, run, setup)
    }

    /// A real GT.M database with a workload, and a running agent. `None`: no GT.M here, and `test` says that it is skipped.
    pub fn gtm(setup: Setup, test: &str) -> Option<Self> {
        crate::gtm::installed_or_skip(test)?;
        let (disk, run) = (tempfile::tempdir().expect("a directory"), tmpfs_dir());
        let engine = Engine::gtm(disk.path(), run.path());
        Some(Self::around(engine, disk, run, setup))
    }

    fn around(engine: Engine, disk: tempfile::TempDir, run: tempfile::TempDir, setup: Setup) -> Self {
        let points = Points::listen(&run.path().join("points.sock"));
        let config = disk.path().join("agent.toml");
        let agent = Supervisor::new(
            snapfreeze(),
            &["agent"],
            vec![
                ("SNAPFREEZE_CONFIG".into(), config.display().to_string()),
                ("SNAPFREEZE_POINTS".into(), points.path().display().to_string()),
            ],
            &disk.path().join("agent.log"),
        );
        let host = Self { points, agent, engine, setup, config, disk, run };
        host.write_config(&host.config_text());
        host.agent.set_env(&host.setup.env);
        host.start_agent();
        host
    }

    pub fn config_text(&self) -> String {
        format!(
            "[agent]\nstate_dir = \"{}\"\nrun_dir = \"{}\"\ngroup = \"root\"\n\n[window]\nhold = \"{}ms\"\n{}\n[margins]\n{}\n{}\n{}",
            self.state_dir().display(),
            self.run_dir().display(),
            self.setup.hold_ms,
            self.setup.window,
            self.setup.margins,
            self.engine.config(),
            self.setup.more.replace("{disk}", &self.disk.path().display().to_string())
        )
    }

    pub fn write_config(&self, text: &str) {
        std::fs::write(&self.config, text).expect("the configuration is written");
    }

    pub fn config_path(&self) -> &Path {
        &self.config
    }
    pub fn state_dir(&self) -> PathBuf {
        self.disk.path().join("state")
    }
    pub fn run_dir(&self) -> PathBuf {
        self.run.path().join("run")
    }

    /// Starts it and waits until it answers.
    pub fn start_agent(&self) {
        self.agent.start();
        self.wait_agent();
    }

    pub fn wait_agent(&self) {
        let socket = self.run_dir().join("agent.sock");
        self.until("the agent's socket", 20_000, || UnixStream::connect(&socket).is_ok());
    }

    /// A verb of the command line, in the background.
    pub fn spawn(&self, args: &[&str]) -> Caller {
        self.spawn_with(args, &[])
    }

    pub fn spawn_with(&self, args: &[&str], env: &[(&str, &str)]) -> Caller {
        let n = boot_now().0;
        let name = format!("call-{n}-{}", args.first().copied().unwrap_or_default());
        let (out, err) = (self.disk.path().join(format!("{name}.out")), self.disk.path().join(format!("{name}.err")));
        let child = Command::new(snapfreeze())
            .args(args)
            .env("SNAPFREEZE_CONFIG", &self.config)
            .env("SNAPFREEZE_POINTS", self.points.path())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out).expect("a file"))
            .stderr(std::fs::File::create(&err).expect("a file"))
            .spawn()
            .expect("the command line starts");
        Caller { child, out, err }
    }

    /// Runs a verb to its end, at most 60 s.
    pub fn call(&self, args: &[&str]) -> Ended {
        self.spawn(args).wait(60_000)
    }

    /// A request to the agent: status and body. `None`: no agent, or no answer.
    pub fn api(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let mut s = UnixStream::connect(self.run_dir().join("agent.sock")).ok()?;
        s.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        s.write_all(head.as_bytes()).ok()?;
        let mut text = String::new();
        s.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// `GET /v1/status`; null without an agent.
    pub fn status(&self) -> Value {
        self.api("GET", "/v1/status", "").map_or(Value::Null, |r| r.1)
    }

    pub fn phase(&self) -> String {
        self.status()["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// Pids of this host's watchdogs.
    pub fn watchdogs(&self) -> Vec<u32> {
        let mark = self.points.path().display().to_string();
        process::with_text(&mark).into_iter().filter(|p| p.args.get(1).is_some_and(|a| a == "watchdog")).map(|p| p.pid).collect()
    }

    /// The result, by id, that the journal holds: `None` while there is none.
    pub fn journal_result(&self, id: &str) -> Option<Value> {
        read_slot(&self.entry_path(id), 8 << 10)
    }

    pub fn entry_path(&self, id: &str) -> PathBuf {
        self.state_dir().join(format!("journal/{id}.entry"))
    }

    /// Every result in the journal, with its id.
    pub fn journal_results(&self) -> Vec<(String, Value)> {
        let Ok(dir) = std::fs::read_dir(self.state_dir().join("journal")) else { return vec![] };
        dir.flatten()
            .filter_map(|f| {
                let id = f.file_name().to_string_lossy().strip_suffix(".entry")?.to_owned();
                Some((id, read_slot(&f.path(), 8 << 10)?))
            })
            .collect()
    }

    /// Waits for something; panics with `what` and everything that the agent said when it does not come.
    pub fn until(&self, what: &str, ms: u64, mut now: impl FnMut() -> bool) {
        assert!(self.comes_true(ms, &mut now), "never within {ms} ms: {what}\nagent: {}", self.agent_log());
    }

    pub fn comes_true(&self, ms: u64, now: &mut dyn FnMut() -> bool) -> bool {
        let by = boot_now().plus(ms);
        loop {
            if now() {
                return true;
            }
            if boot_now() >= by {
                return false;
            }
            sleep_ms(10);
        }
    }

    pub fn agent_log(&self) -> String {
        let read = |p: PathBuf| std::fs::read_to_string(p).unwrap_or_default();
        format!("{}\n{}", read(self.disk.path().join("agent.log")), read(self.run_dir().join("watchdog.log")))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.points.let_go();
        self.agent.end();
        for dir in [self.disk.path(), self.run.path()] {
            for p in process::with_text(&dir.display().to_string()) {
                if p.args.iter().any(|a| a == "watchdog") || p.exe.ends_with("snapfreeze") {
                    kill(p.pid);
                }
            }
        }
    }
}

/// A slot of a journal entry: `crc length json`.
fn read_slot(path: &Path, at: usize) -> Option<Value> {
    let bytes = std::fs::read(path).ok()?;
    let line = bytes.get(at..)?.split(|b| *b == b'\n').next()?;
    let json = line.splitn(3, |b| *b == b' ').nth(2)?;
    serde_json::from_slice(json).ok()
}

/// A verb under way. Dropping it kills it.
pub struct Caller {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// How a verb ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// `None`: killed by a signal.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub at_ms: u64,
}

impl Caller {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its end; a verb that does not end within `ms` fails the test.
    pub fn wait(mut self, ms: u64) -> Ended {
        let by = boot_now().plus(ms);
        loop {
            if let Some(e) = self.ended() {
                return e;
            }
            if boot_now() >= by {
                let said = format!("{}{}", self.text(&self.out), self.text(&self.err));
                panic!("the command line did not end within {ms} ms; it said: {said}");
            }
            sleep_ms(5);
        }
    }

    pub fn ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().expect("a child can be waited for")?;
        Some(Ended { code: status.code(), out: self.text(&self.out), err: self.text(&self.err), at_ms: boot_now().0 })
    }

    fn text(&self, path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The last line of a `--json` run: the only one that is trusted from afar.
    pub fn marker(&self) -> Option<Value> {
        serde_json::from_str(self.out.lines().last()?.strip_prefix("SNAPFREEZE ")?).ok()
    }
}

pub fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// A new backup id.
pub fn new_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux gives UUIDs").trim().to_owned()
}
