//! The engine as another user, and when the process that freezes is killed.

use crate::{Rig, order, soon};
use doors::clock::boot_now;
use doors::exec::{Call, Cancel, Program, Running};
use engine::gtm::Gtm;
use engine::{Engine, FreezeAnswer};
use protocol::Proof;
use protocol::wire::Frozen;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::PermissionsExt;

#[test]
fn it_runs_as_another_user() {
    let Some(rig) = Rig::new("gtm: run_as") else { return };
    if !rustix::process::geteuid().is_root() {
        println!("SKIP gtm: run_as: needs root");
        return;
    }
    std::fs::set_permissions(rig.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = rig.db.config("t");
    config.run_as = Some("nobody".into());
    let engine = Gtm::new(config).unwrap();
    // Somebody who may not give away files: refused before GT.M fails half-way.
    let answer = engine.freeze(&order(soon()), &Cancel::new().unwrap());
    assert!(matches!(&answer, FreezeAnswer::Failed(why) if why.contains("run_as")), "{answer:?}");
    assert_eq!(rig.db.frozen_flags(), [false, false]);
    assert!(engine.discover(soon()).unwrap().checks.iter().any(|c| c.name == "user" && c.level == engine::Level::Fail));
    give_to_nobody(&rig.db.dir);
    let held = match engine.freeze(&order(soon()), &Cancel::new().unwrap()) {
        FreezeAnswer::Frozen(held) => held,
        other => panic!("{other:?}"),
    };
    let owner: u32 = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&rig.db.regions[0].journal).unwrap());
    assert_eq!(owner, 65534, "the journal that the freeze opened belongs to somebody else");
    assert_eq!(rig.engine.is_frozen(soon()), Frozen::Yes, "root sees it too");
    assert_eq!(engine.thaw(Some(&held), 10_000, &|_| {}).proof, Proof::good());
}

fn give_to_nobody(path: &std::path::Path) {
    std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give_to_nobody(&entry.unwrap().path());
        }
    }
}

const GLD: &str = "SNAPFREEZE_TEST_GLD";

/// Not a test by itself: a process that freezes, to be killed by the next one.
#[test]
fn helper_that_freezes() {
    let Some(gld) = std::env::var_os(GLD) else { return };
    let config = serde_json::json!({"name": "t", "global_directory": std::path::PathBuf::from(gld)});
    let engine = Gtm::new(serde_json::from_value(config).unwrap()).unwrap();
    println!("READY");
    let _ = engine.freeze(&order(soon()), &Cancel::new().unwrap());
    std::thread::sleep(std::time::Duration::from_secs(60));
}

/// Its `mupip` loses its parent and the reader of its output, and must not stick in the freeze latch.
#[test]
fn a_killed_agent_leaves_a_database_that_can_be_thawed() {
    let Some(rig) = Rig::new("gtm: killed agent") else { return };
    let work = rig.work(2);
    let me = Program::find(&std::env::current_exe().unwrap().to_string_lossy()).unwrap();
    let mut frozen = 0;
    for after_ms in [0, 5, 10, 15, 18, 21, 24, 27, 30, 33, 37, 42, 48, 55, 65, 80, 100, 150] {
        let args = ["hosts::helper_that_freezes", "--exact", "--nocapture"];
        let mut helper = Running::start(Call::new(&me, args).env(GLD, rig.db.gld())).unwrap();
        while !helper.line(soon()).unwrap().expect("it says READY").contains("READY") {}
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        let pid = Pid::from_raw(i32::try_from(helper.id()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        drop(helper);
        // What it had started may still land; whoever comes next asks until it is quiet.
        std::thread::sleep(std::time::Duration::from_millis(400));
        let asked = boot_now();
        frozen += usize::from(rig.engine.is_frozen(soon()) == Frozen::Yes);
        let answer = rig.thaw(None);
        assert_eq!(answer.frozen, Frozen::No, "killed after {after_ms} ms: {:?}", answer.rungs);
        let took = boot_now().since(asked);
        assert!(took < 5_000, "killed after {after_ms} ms: it took {took} ms: {:?}", answer.rungs);
    }
    assert!(frozen > 3, "only {frozen} freezes landed: the kills were all too early");
    work.wait_for(20, 10_000).unwrap();
    let held = rig.freeze();
    assert_eq!(rig.thaw(Some(&held)).proof, Proof::good());
}
