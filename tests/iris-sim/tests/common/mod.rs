//! An instance of its own for each test, by its command line only.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::disallowed_methods, reason = "the model is outside the agent's doors")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const SIM: &str = env!("CARGO_BIN_EXE_iris-sim");
const SUSPENDED: &str = "##Class(Backup.General).IsWDSuspendedExt()";

pub struct Sim {
    pub dir: tempfile::TempDir,
    pub root: PathBuf,
}

pub struct Ran {
    pub code: i32,
    pub out: String,
}

impl Sim {
    pub fn start(options: &[&str]) -> Sim {
        let sim = Sim::install(options);
        let ran = sim.iris(&["start", "IRIS", "quietly"]);
        assert_eq!(ran.code, 0, "start: {}", ran.out);
        sim
    }

    pub fn install(options: &[&str]) -> Sim {
        let dir = tempfile::Builder::new().prefix("iris-sim-test").tempdir().expect("a directory");
        let root = dir.path().join("root");
        let sim = Sim { dir, root };
        sim.add(options);
        sim
    }

    /// Installs an instance into the root.
    pub fn add(&self, options: &[&str]) {
        let history = self.dir.path().join("history.jsonl");
        let mut args = vec!["install", "--root", self.root.to_str().expect("UTF-8"), "--max-life", "120"];
        if !options.contains(&"--blocks") {
            args.extend(["--blocks", "128"]);
        }
        args.extend(["--history", history.to_str().expect("UTF-8")]);
        args.extend(options);
        let ran = run(Command::new(SIM).args(args));
        assert_eq!(ran.code, 0, "install: {}", ran.out);
    }

    pub fn bin(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    pub fn instance(&self) -> PathBuf {
        self.root.join("iris")
    }

    pub fn iris(&self, args: &[&str]) -> Ran {
        run(Command::new(self.bin("iris")).env_clear().args(args))
    }

    /// `irissession IRIS -U %SYS CALL`.
    pub fn call(&self, call: &str) -> Ran {
        run(Command::new(self.bin("irissession")).env_clear().current_dir(self.dir.path()).args(["IRIS", "-U", "%SYS", call]))
    }

    /// `iris session IRIS -U%SYS < SCRIPT`.
    pub fn script(&self, lines: &str) -> Ran {
        let file = self.dir.path().join("script");
        std::fs::write(&file, lines).expect("write script");
        let stdin = std::fs::File::open(file).expect("open script");
        run(Command::new(self.bin("iris")).env_clear().args(["session", "IRIS", "-U%SYS"]).stdin(stdin))
    }

    /// `iris session IRIS -B -U%SYS < SCRIPT`.
    pub fn admin(&self, lines: &str) -> String {
        let file = self.dir.path().join("script");
        std::fs::write(&file, lines).expect("write script");
        let stdin = std::fs::File::open(file).expect("open script");
        run(Command::new(self.bin("iris")).env_clear().args(["session", "IRIS", "-B"]).stdin(stdin)).out
    }

    /// A bash script with the root's programs in its PATH.
    pub fn bash(&self, script: &str) -> Ran {
        let path = format!("{}:/usr/bin:/bin", self.root.join("bin").display());
        run(Command::new("bash").env_clear().env("PATH", path).current_dir(self.dir.path()).args(["-c", script]))
    }

    pub fn spawn_call(&self, call: &str) -> Child {
        Command::new(self.bin("irissession"))
            .args(["IRIS", "-U", "%SYS", call])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("start a session")
    }

    pub fn ctl(&self, settings: &[&str]) {
        let ran = run(Command::new(SIM).args(["ctl", "--root"]).arg(&self.root).arg("IRIS").args(settings));
        assert_eq!(ran.code, 0, "ctl: {}", ran.out);
    }

    pub fn state(&self) -> Value {
        let ran = run(Command::new(SIM).args(["state", "--root"]).arg(&self.root).arg("IRIS"));
        serde_json::from_str(&ran.out).unwrap_or(Value::Null)
    }

    pub fn suspended(&self) -> bool {
        self.state()["wd_suspended"] == true
    }

    pub fn suspended_exit(&self) -> i32 {
        self.call(SUSPENDED).code
    }

    pub fn messages(&self) -> String {
        std::fs::read_to_string(self.instance().join("mgr/messages.log")).unwrap_or_default()
    }

    /// Events of the oracle.
    pub fn history(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("history.jsonl")).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).expect("a line is whole")).collect()
    }

    pub fn happened(&self, event: &str) -> bool {
        self.history().iter().any(|e| e["event"] == event)
    }

    pub fn workload(&self, options: &[&str]) -> Child {
        Command::new(SIM)
            .args(["workload", "--root"])
            .arg(&self.root)
            .arg("IRIS")
            .arg("--record")
            .arg(self.dir.path().join("record.jsonl"))
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the workload")
    }

    /// Highest committed transaction per worker, as the workload's own record has it.
    pub fn record(&self) -> std::collections::BTreeMap<String, u64> {
        let text = std::fs::read_to_string(self.dir.path().join("record.jsonl")).unwrap_or_default();
        let mut out = std::collections::BTreeMap::new();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect("a line is whole");
            let last = out.entry(value["worker"].to_string()).or_insert(0);
            *last = value["txn"].as_u64().expect("a number").max(*last);
        }
        out
    }

    pub fn copy_to(&self, name: &str) -> PathBuf {
        let to = self.dir.path().join(name);
        let _ = std::fs::remove_dir_all(&to);
        let ran = run(Command::new("cp").arg("-a").arg(self.instance()).arg(&to));
        assert_eq!(ran.code, 0, "cp: {}", ran.out);
        to
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // The server ends when its files go; this is only sooner.
        for name in ["IRIS", "IRIS2"] {
            let _ = Command::new(self.bin("iris")).args(["force", name]).stdout(Stdio::null()).status();
        }
    }
}

pub fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("start the program");
    let out = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ran { code: output.status.code().unwrap_or(-1), out }
}

pub fn verify(dir: &Path) -> (i32, Value) {
    let ran = run(Command::new(SIM).args(["verify", "--json"]).arg(dir));
    (ran.code, serde_json::from_str(&ran.out).unwrap_or(Value::String(ran.out)))
}

/// Stops a workload and returns its last words.
pub fn end(child: Child) -> Value {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

pub fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !true_now() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// A vendor's sample, if the samples are there.
pub fn fixture(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/iris").join(name);
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        println!("skipped: no sample {name}");
    }
    text
}
