//! Several instances on one host are frozen and thawed as a set: any failure thaws all, and what another tool
//! froze is left alone.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use suite::host::{Host, Setup, iris_sim, sleep_ms};

/// A second model beside the host's own, which is named IRIS.
struct Second {
    root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Second {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("second");
        let options = ["install", "--name", "IRIS2", "--max-life", "600", "--blocks", "64", "--databases", "1", "--root"];
        assert!(Command::new(iris_sim()).args(options).arg(&root).output().unwrap().status.success());
        assert!(Command::new(root.join("bin/iris")).args(["start", "IRIS2", "quietly"]).output().unwrap().status.success());
        Self { root, _dir: dir }
    }
    fn config(&self) -> String {
        format!("[[instance]]\nengine = \"iris\"\nname = \"IRIS2\"\nprogram = \"{}\"\n", self.root.join("bin/iris").display())
    }
    fn ctl(&self, setting: &str) {
        assert!(
            Command::new(iris_sim()).args(["ctl", "--root"]).arg(&self.root).args(["IRIS2", setting]).output().unwrap().status.success()
        );
    }
    fn frozen(&self) -> bool {
        let out = Command::new(iris_sim()).args(["state", "--root"]).arg(&self.root).arg("IRIS2").output().unwrap();
        serde_json::from_slice::<Value>(&out.stdout).unwrap()["wd_suspended"] == true
    }
    fn other_tool(&self, call: &str) {
        let call = format!("##Class(Backup.General).{call}");
        Command::new(self.root.join("bin/iris")).args(["session", "IRIS2", "-U%SYS", &call]).output().unwrap();
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = Command::new(self.root.join("bin/iris")).args(["force", "IRIS2"]).output();
    }
}

fn both(ctl: &[&str]) -> (Host, Second) {
    let second = Second::start();
    let margins = "watchdog = \"500ms\"\nthaw_budget = \"3s\"\nfreeze = \"3s\"\nrung = \"2s\"\nguard = \"1s\"\n".into();
    let setup = Setup {
        hold_ms: 8_000,
        window: "wd_suspend_limit = \"30s\"\n".into(),
        margins,
        more: second.config(),
        ctl: ctl.iter().map(|s| (*s).to_owned()).collect(),
        ..Setup::default()
    };
    (Host::iris(setup), second)
}

fn thawed(h: &Host, s: &Second) {
    h.until("both are thawed", 10_000, || !h.engine.frozen() && !s.frozen());
}

#[test]
fn a_set_is_frozen_and_thawed_together() {
    let (h, s) = both(&[]);
    let frozen = h.call(&["freeze", "--no-sync", "--json"]);
    assert_eq!(frozen.code, Some(0), "{frozen:?}");
    assert!(h.engine.frozen() && s.frozen());
    let first: Value = serde_json::from_str(frozen.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["instances"].as_array().unwrap().len(), 2, "a journal mark of each: {first}");
    let id = first["id"].as_str().unwrap();
    let end = h.call(&["thaw", "--id", id]);
    assert_eq!(end.code, Some(0), "{end:?}");
    thawed(&h, &s);
}

#[test]
fn one_that_fails_thaws_all() {
    let (h, s) = both(&[]);
    s.ctl("freeze_fail=Failed to switch journal file. Status = 0");
    let e = h.call(&["freeze"]);
    assert_eq!(e.code, Some(6), "{e:?}");
    assert!(e.err.contains("IRIS2"), "it names the one that failed: {e:?}");
    thawed(&h, &s);
    s.ctl("freeze_fail=");
    h.until("the set works again", 20_000, || h.call(&["rehearse", "--hold", "5s"]).code == Some(0));
}

#[test]
fn one_that_hangs_thaws_all() {
    let (h, s) = both(&[]);
    s.ctl("freeze_hang=1");
    let e = h.call(&["freeze"]);
    assert_eq!(e.code, Some(6), "{e:?}");
    s.ctl("freeze_hang=0");
    thawed(&h, &s);
}

#[test]
fn one_that_another_tool_thaws_breaks_the_window_of_the_set() {
    let (h, s) = both(&[]);
    let id = suite::host::new_id();
    assert_eq!(h.call(&["freeze", "--no-sync", "--id", &id]).code, Some(0));
    s.other_tool("ExternalThaw()");
    let e = h.call(&["thaw", "--id", &id]);
    assert_eq!(e.code, Some(3), "{e:?}");
    thawed(&h, &s);
}

#[test]
fn one_that_another_tool_froze_in_the_last_moment_is_left_to_it_and_the_rest_is_thawed() {
    // IRIS answers late, so that the other tool gets its freeze of IRIS2 in between admission and our call.
    let (h, s) = both(&["login_delay_ms=1200"]);
    let caller = h.spawn(&["freeze"]);
    sleep_ms(300);
    s.other_tool("ExternalFreeze()");
    let e = caller.wait(30_000);
    assert!(matches!(e.code, Some(4 | 6)), "{e:?}");
    h.until("ours is thawed", 10_000, || !h.engine.frozen());
    sleep_ms(2_500);
    assert!(s.frozen(), "another tool's freeze was thawed by us: {e:?}\n{}", h.agent_log());
    s.other_tool("ExternalThaw()");
}

#[test]
fn one_that_refuses_its_thaw_is_exit_8_until_it_is_thawed() {
    let (h, s) = both(&[]);
    let id = suite::host::new_id();
    assert_eq!(h.call(&["freeze", "--no-sync", "--id", &id]).code, Some(0));
    for f in ["thaw_fail=1", "native_thaw_fail=1", "irisstat_w_fail=1"] {
        s.ctl(f);
    }
    let e = h.call(&["thaw", "--id", &id]);
    assert_eq!(e.code, Some(8), "{e:?}");
    assert!(!h.engine.frozen() && s.frozen(), "the one that can be thawed is");
    for f in ["thaw_fail=0", "native_thaw_fail=0", "irisstat_w_fail=0"] {
        s.ctl(f);
    }
    thawed(&h, &s);
    let again = h.call(&["thaw", "--id", &id]);
    assert!(matches!(again.code, Some(0 | 3)), "{again:?}");
}
