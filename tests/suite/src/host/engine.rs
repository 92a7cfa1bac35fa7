//! The database of a host and its own history: the oracle.
//!
//! - `iris-sim` writes a history of its own on another file system, which the agent never reads.
//! - GT.M has none, so a process of its own reads the freeze flag of every region each 5 ms and prints every change,
//!   and the journal generations count the freezes and thaws that it may have missed.

use super::{Setup, binaries, kill, sleep_ms, with_text};
use crate::gtm::{GtmDb, Pace, Sizes, Workload};
use doors::clock::boot_now;
use doors::exec::{Call, Program, Running};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// One thing that happened to the database, at a time of `CLOCK_BOOTTIME`.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    pub at_ms: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A freeze call reached the engine (`iris-sim` only).
    FreezeCalled,
    Frozen,
    /// A thaw call reached the engine (`iris-sim` only).
    ThawCalled,
    /// By a thaw.
    Thawed,
    /// By the engine's own limit.
    LimitThawed,
}

pub enum Engine {
    Iris(Sim),
    Gtm(Box<Gtm>),
}

/// An `iris-sim` instance named IRIS.
pub struct Sim {
    pub root: PathBuf,
    pub history: PathBuf,
    workload: Option<Child>,
    /// How far the history was read, and what was there.
    read: Mutex<(usize, Vec<Happened>)>,
}

pub struct Gtm {
    pub db: GtmDb,
    changes: Arc<Mutex<Vec<Happened>>>,
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
    workload: Option<Workload>,
}

impl Engine {
    pub(super) fn iris(disk: &Path, run: &Path, setup: &Setup) -> Self {
        let mut sim = Sim { root: disk.join("iris"), history: run.join("history.jsonl"), workload: None, read: Mutex::default() };
        let history = sim.history.display().to_string();
        let mut options = vec!["--name", "IRIS", "--max-life", "1500", "--blocks", "256", "--databases", "2", "--history", &history];
        options.extend(setup.sim.iter().map(String::as_str));
        sim.admin("install", &options);
        sim.start();
        let ctl: Vec<&str> = setup.ctl.iter().map(String::as_str).collect();
        if !ctl.is_empty() {
            sim.ctl(&ctl);
        }
        if setup.workload {
            sim.start_workload(&run.join("record.jsonl"));
        }
        Self::Iris(sim)
    }

    pub(super) fn gtm(disk: &Path, run: &Path) -> Self {
        let sizes = Sizes { blocks: 2_000, buffers: 512 };
        let db = GtmDb::create_with(&disk.join("gtm"), &["ACC"], sizes).expect("a GT.M database");
        let workload = db.start_workload(&run.join("record"), Pace { pause_ms: 20, value: 100 }).expect("a workload");
        Self::Gtm(Box::new(Gtm::watch(db, workload)))
    }

    pub fn sim(&self) -> &Sim {
        match self {
            Self::Iris(s) => s,
            Self::Gtm(_) => panic!("this host has GT.M"),
        }
    }

    /// The `[[instance]]` table.
    pub fn config(&self) -> String {
        match self {
            Self::Iris(s) => format!("[[instance]]\nengine = \"iris\"\nname = \"IRIS\"\nprogram = \"{}\"\n", s.bin("iris").display()),
            Self::Gtm(g) => g.db.config_toml("T1"),
        }
    }

    /// Everything so far, in order.
    pub fn history(&self) -> Vec<Happened> {
        match self {
            Self::Iris(s) => s.history(),
            Self::Gtm(g) => g.changes.lock().expect("the watcher does not panic").clone(),
        }
    }

    pub fn history_since(&self, at_ms: u64) -> Vec<Happened> {
        self.history().into_iter().filter(|h| h.at_ms >= at_ms).collect()
    }

    /// Now, by the engine itself and by no program that the agent uses.
    pub fn frozen(&self) -> bool {
        match self {
            Self::Iris(s) => s.state()["wd_suspended"] == true,
            Self::Gtm(g) => g.db.frozen_flags().contains(&true),
        }
    }

    /// It frees itself when everything of ours is dead.
    pub fn has_limit(&self) -> bool {
        matches!(self, Self::Iris(_))
    }
}

fn happened(event: &Value) -> Option<Happened> {
    let what = match event["event"].as_str()? {
        "freeze_called" => What::FreezeCalled,
        "suspended" => What::Frozen,
        "thaw_called" => What::ThawCalled,
        "resumed" => What::Thawed,
        "limit_resumed" => What::LimitThawed,
        _ => return None,
    };
    Some(Happened { at_ms: event["t_ms"].as_f64()? as u64, what })
}

impl Sim {
    pub fn bin(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    fn admin(&self, verb: &str, args: &[&str]) -> String {
        let out = Command::new(binaries::iris_sim()).arg(verb).arg("--root").arg(&self.root).args(args).output().expect("iris-sim starts");
        assert!(out.status.success(), "iris-sim {verb} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Another instance beside it, down.
    pub fn install_another(&self, name: &str) {
        self.admin("install", &["--name", name, "--max-life", "1500", "--blocks", "256", "--databases", "1"]);
    }

    pub fn ctl(&self, settings: &[&str]) {
        let mut args = vec!["IRIS"];
        args.extend(settings);
        self.admin("ctl", &args);
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.admin("state", &["IRIS"])).expect("JSON")
    }

    /// `iris …`, as another tool or a person runs it: exit code and what it printed.
    pub fn iris(&self, args: &[&str]) -> (Option<i32>, String) {
        let out = Command::new(self.bin("iris")).args(args).stdin(Stdio::null()).output().expect("iris starts");
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Another tool's call of `Backup.General`, by its command-line form.
    pub fn other_tool(&self, call: &str) -> Option<i32> {
        self.iris(&["session", "IRIS", "-U%SYS", &format!("##Class(Backup.General).{call}")]).0
    }

    pub fn start(&self) {
        let (code, said) = self.iris(&["start", "IRIS", "quietly"]);
        assert_eq!(code, Some(0), "iris start: {said}");
    }

    fn start_workload(&mut self, record: &Path) {
        let child = Command::new(binaries::iris_sim())
            .args(["workload", "--root"])
            .arg(&self.root)
            .args(["IRIS", "--rate", "40", "--threads", "1", "--record"])
            .arg(record)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.workload = Some(child.expect("the workload starts"));
    }

    /// Ends the workload; its record is complete.
    pub fn stop_workload(&mut self) {
        if let Some(mut w) = self.workload.take() {
            super::signal(w.id(), rustix::process::Signal::TERM);
            let _ = w.wait();
        }
    }

    /// The instance's directory.
    pub fn instance(&self) -> PathBuf {
        self.root.join("iris")
    }

    /// What a session in this namespace prints for a line of ObjectScript, between two marks.
    pub fn m(&self, namespace: &str, code: &str) -> String {
        let program = Program::find(&self.bin("iris").to_string_lossy()).expect("iris");
        let script = format!("write \"<\"_\"<\"\n{code}\nwrite \">\"_\">\"\nhalt\n");
        let call = Call::new(&program, ["session", "IRIS", "-U", namespace]).stdin(script);
        let out = call.run(boot_now().plus(20_000), None).expect("a session").out().into_owned();
        let inside = out.split_once("<<").and_then(|(_, rest)| rest.split_once(">>")).map(|(i, _)| i.to_owned());
        let lines = inside.unwrap_or_else(|| panic!("no answer in {namespace}: {out}"));
        let said: Vec<&str> = lines.lines().map(str::trim).filter(|l| !l.is_empty() && !l.ends_with('>')).collect();
        said.join("\n")
    }

    fn history(&self) -> Vec<Happened> {
        let mut read = self.read.lock().expect("no panic while reading");
        let bytes = std::fs::read(&self.history).unwrap_or_default();
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let new = String::from_utf8_lossy(bytes.get(read.0..whole).unwrap_or_default()).into_owned();
        read.1.extend(new.lines().filter_map(|l| happened(&serde_json::from_str(l).ok()?)));
        read.0 = whole;
        read.1.clone()
    }

    /// Raw lines of the history.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.history).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some(w) = self.workload.as_mut() {
            let _ = w.kill();
            let _ = w.wait();
        }
        // As a crash: also an instance that hangs ends; then whatever still names the root.
        let _ = Command::new(self.bin("iris")).args(["force", "IRIS"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        for p in with_text(&self.root.display().to_string()) {
            kill(p.pid);
        }
    }
}

/// Prints the flags of all regions at every change, and once at its start.
const FLAGS: &str = "flags
 new last,now,r
 set last=\"\"
 for  do  hang 0.005
 . set now=\"\",r=\"\"
 . for  set r=$view(\"GVNEXT\",r) quit:r=\"\"  set now=now_($$^%PEEKBYNAME(\"sgmnt_data.freeze\",r)'=0)
 . if now'=last set last=now use $principal write now,!
 quit
";

impl Gtm {
    fn watch(db: GtmDb, workload: Workload) -> Self {
        let changes: Arc<Mutex<Vec<Happened>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let routine = db.dir.join("m/flags.m");
        std::fs::write(&routine, FLAGS).expect("a routine is written");
        let program = Program::find(&db.dist.join("mumps").to_string_lossy()).expect("mumps");
        let mut call = Call::new(&program, ["-run", "flags"])
            .env("gtm_dist", &db.dist)
            .env("gtmgbldir", db.gld())
            .env("gtmroutines", format!("{} {}/libgtmutil.so", db.dir.join("m").display(), db.dist.display()))
            .env("gtm_tmp", &db.dir);
        call.cwd = Some(db.dir.clone());
        let mut running = Running::start(call).expect("mumps starts");
        let (ours, end) = (changes.clone(), stop.clone());
        let ready = Arc::new(AtomicBool::new(false));
        let first = ready.clone();
        let watcher = std::thread::spawn(move || {
            let mut was = None;
            while !end.load(Ordering::SeqCst) {
                let Ok(Some(line)) = running.line(boot_now().plus(200)) else { continue };
                let frozen = line.contains('1');
                let at_ms = boot_now().0;
                if was.is_some_and(|w| w != frozen) {
                    let what = if frozen { What::Frozen } else { What::Thawed };
                    ours.lock().expect("no panic").push(Happened { at_ms, what });
                }
                was = Some(frozen);
                first.store(true, Ordering::SeqCst);
            }
        });
        let by = boot_now().plus(20_000);
        while !ready.load(Ordering::SeqCst) {
            assert!(boot_now() < by, "the watcher of GT.M's flags says nothing");
            sleep_ms(5);
        }
        Self { db, changes, stop, watcher: Some(watcher), workload: Some(workload) }
    }

    /// Nobody has the database open any more: workload and watcher end.
    pub fn leave(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(w) = self.watcher.take() {
            let _ = w.join();
        }
        drop(self.workload.take());
    }

    /// Journal files of a region: each freeze and each thaw makes one more.
    pub fn generations(&self) -> usize {
        let dir = std::fs::read_dir(self.db.dir.join("jnl")).map(|d| d.flatten().count()).unwrap_or(0);
        dir / self.db.regions.len()
    }
}

impl Drop for Gtm {
    fn drop(&mut self) {
        self.leave();
    }
}
