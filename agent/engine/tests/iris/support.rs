//! One `iris-sim` instance per test, in a directory of its own. The program is `SNAPFREEZE_IRIS_SIM`, else `iris-sim`
//! beside this test's own target directory (`cargo build -p iris-sim`).

use doors::clock::boot_now;
use doors::exec::{Call, Cancel, Output, Program, Running};
use engine::config::IrisConfig;
use engine::iris::{Iris, Product};
use engine::{Engine, FreezeAnswer, FreezeOrder, Held, ThawAnswer};
use protocol::window::{Margins, SuspendLimit};
use protocol::wire::Frozen;
use protocol::{BackupId, Disturbed, HoldMs, OnOverrun, Proof, WindowRules};
use std::path::PathBuf;

pub fn sim_program() -> Option<Program> {
    let beside = || {
        // target/debug/deps/iris-…: two directories up.
        let exe = std::env::current_exe().ok()?;
        Some(exe.parent()?.parent()?.join("iris-sim").to_string_lossy().into_owned())
    };
    let path = std::env::var("SNAPFREEZE_IRIS_SIM").ok().or_else(beside)?;
    match Program::find(&path) {
        Ok(p) => Some(p),
        Err(e) => {
            assert!(
                std::env::var_os("SNAPFREEZE_NO_SIM").is_some(),
                "{e}: build it (`cargo build -p iris-sim`), or set SNAPFREEZE_NO_SIM=1 to skip these tests"
            );
            eprintln!("SKIPPED: no iris-sim ({e})");
            None
        }
    }
}

pub struct Sim {
    program: Program,
    dir: tempfile::TempDir,
    pub name: String,
}

impl Sim {
    /// Installed and started with `options` of `iris-sim install`.
    pub fn start(options: &[&str]) -> Option<Self> {
        let program = sim_program()?;
        let sim = Self { program, dir: tempfile::tempdir().unwrap(), name: "IRIS".into() };
        std::fs::create_dir(sim.path("log")).unwrap();
        let root = sim.root();
        let history = sim.path("history");
        let mut words = vec!["install", "--root", &root, "--name", "IRIS", "--max-life", "300", "--blocks", "256"];
        let history = history.to_string_lossy().into_owned();
        words.extend(["--history", &history]);
        words.extend(options);
        sim.ok(&words);
        sim.iris(&["start", "IRIS"]);
        Some(sim)
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub fn root(&self) -> String {
        self.path("root").to_string_lossy().into_owned()
    }
    pub fn bin(&self, name: &str) -> PathBuf {
        self.path("root/bin").join(name)
    }
    fn run(&self, program: &Program, words: &[&str], stdin: &str) -> Output {
        Call::new(program, words.iter().copied()).stdin(stdin).run(boot_now().plus(60_000), None).unwrap()
    }
    fn ok(&self, words: &[&str]) -> String {
        let o = self.run(&self.program, words, "");
        assert_eq!(o.code(), Some(0), "iris-sim {words:?}: {}{}", o.out(), o.err());
        o.out().into_owned()
    }
    pub fn iris(&self, words: &[&str]) -> Output {
        self.run(&Program::find(&self.bin("iris").to_string_lossy()).unwrap(), words, "")
    }
    /// A call that somebody else makes.
    pub fn other_tool(&self, call: &str) -> Option<i32> {
        self.iris(&["session", &self.name, "-U%SYS", &format!("##Class(Backup.General).{call}")]).code()
    }
    pub fn ctl(&self, setting: &str) {
        self.ok(&["ctl", "--root", &self.root(), &self.name, setting]);
    }
    /// The model rotates at its next tick; waits for it.
    pub fn rotate_log(&self) {
        use std::os::unix::fs::MetadataExt;
        let inode = || std::fs::metadata(self.messages()).map(|m| m.ino()).ok();
        let (before, until) = (inode(), boot_now().plus(10_000));
        self.ctl("rotate_log=1");
        while inode() == before || inode().is_none() {
            assert!(boot_now() < until, "the log was not rotated");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    pub fn state(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["state", "--root", &self.root(), &self.name])).unwrap()
    }
    /// A script on standard input, and everything that the session printed.
    pub fn session(&self, script: &str) -> String {
        let iris = Program::find(&self.bin("iris").to_string_lossy()).unwrap();
        self.run(&iris, &["session", &self.name, "-U%SYS"], script).out().into_owned()
    }
    pub fn start_workload(&self, words: &[&str]) -> Running {
        Running::start(Call::new(&self.program, ["workload"].into_iter().chain(words.iter().copied()))).unwrap()
    }
    /// By the model itself, not by any program that the engine uses.
    pub fn really_frozen(&self) -> bool {
        let state = self.state();
        state["wd_suspended"].as_bool().unwrap()
    }
    pub fn history(&self) -> String {
        std::fs::read_to_string(self.path("history")).unwrap_or_default()
    }
    pub fn config(&self) -> IrisConfig {
        let mut c = IrisConfig::named(self.name.parse().unwrap());
        c.program = Some(self.bin("iris").to_string_lossy().into_owned());
        c.log_dir = self.path("log");
        c
    }
    pub fn open(&self) -> Iris {
        self.open_with(|_| {})
    }
    pub fn open_with(&self, change: impl FnOnce(&mut IrisConfig)) -> Iris {
        let mut c = self.config();
        change(&mut c);
        Iris::open(&c, Product::Iris).unwrap()
    }
    pub fn messages(&self) -> PathBuf {
        self.path("root/iris/mgr/messages.log")
    }
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
    pub fn script(&self, name: &str, text: &str) -> Vec<String> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        vec![path.to_string_lossy().into_owned()]
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // As a crash: also an instance that hangs ends.
        let _ = self.iris(&["force", &self.name]);
    }
}

pub fn rules(hold_ms: u64, limit: Option<u64>) -> WindowRules {
    let margins = Margins { watchdog_ms: 500, thaw_budget_ms: 1000, freeze_ms: 5000, rung_ms: 1000, guard_ms: 1000 };
    WindowRules::new(HoldMs::new(hold_ms).unwrap(), OnOverrun::FailBackup, None, limit.map(SuspendLimit::Secs), margins).unwrap()
}

pub fn id(n: u128) -> BackupId {
    format!("{:032x}", 0x0197_c4a2_8c8e_7c3a_9d0e_0000_0000_0000_u128 + n).parse().unwrap()
}

pub fn order(n: u128, by_ms: u64) -> FreezeOrder {
    FreezeOrder { id: id(n), rules: rules(1000, None), by: boot_now().plus(by_ms) }
}

pub fn freeze(iris: &Iris) -> FreezeAnswer {
    iris.freeze(&order(1, 10_000), &Cancel::new().unwrap())
}

pub fn frozen(answer: FreezeAnswer) -> Held {
    match answer {
        FreezeAnswer::Frozen(h) => h,
        FreezeAnswer::Failed(why) | FreezeAnswer::Unknown(why) | FreezeAnswer::NotOurs(why) => panic!("not frozen: {why}"),
    }
}

pub fn failed(answer: FreezeAnswer) -> String {
    match answer {
        FreezeAnswer::Failed(why) => why,
        other => panic!("not failed: {other:?}"),
    }
}

pub fn unknown(answer: FreezeAnswer) -> String {
    match answer {
        FreezeAnswer::Unknown(why) => why,
        other => panic!("not unknown: {other:?}"),
    }
}

pub fn thaw(iris: &Iris, held: Option<&Held>) -> ThawAnswer {
    iris.thaw(held, 1500, &|_| {})
}

pub fn ask(iris: &Iris) -> Frozen {
    iris.is_frozen(boot_now().plus(5000))
}

pub fn assert_good(answer: &ThawAnswer) {
    assert_eq!(answer.proof, Proof::good(), "{answer:#?}");
    assert_eq!(answer.frozen, Frozen::No);
}

pub fn is_other(answer: &ThawAnswer) -> bool {
    matches!(answer.proof.alone, Err(Disturbed::Other(_)))
}
