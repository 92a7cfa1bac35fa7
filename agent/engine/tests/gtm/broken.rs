//! Half-frozen databases, other kinds of freeze, a reboot inside a window, and a freeze command that was killed.

use crate::{Rig, order, soon};
use doors::clock::boot_now;
use doors::exec::{Call, Cancel, Program, Running};
use engine::{Engine, FreezeAnswer};
use protocol::proof::Known;
use protocol::wire::Frozen;
use rustix::process::{Pid, Signal, kill_process_group};

#[test]
fn one_frozen_region_is_a_frozen_database_and_is_thawed() {
    let Some(rig) = Rig::new("gtm: half frozen") else { return };
    rig.mupip(&["freeze", "-on", "-online", "-noautorelease", "ACC"]);
    assert_eq!(rig.engine.is_frozen(soon()), Frozen::Yes);
    let again = rig.engine.freeze(&order(soon()), &Cancel::new().unwrap());
    assert!(matches!(again, FreezeAnswer::NotOurs(_)), "{again:?}");
    assert_eq!(rig.db.frozen_flags(), [true, false], "a refused freeze froze the other region");
    let answer = rig.thaw(None);
    assert_eq!((answer.frozen, answer.rungs.len()), (Frozen::No, 1));
    assert_eq!(rig.db.frozen_flags(), [false, false]);
}

#[test]
fn a_region_that_somebody_else_thawed_breaks_the_proof_of_all() {
    let Some(rig) = Rig::new("gtm: one region thawed") else { return };
    let held = rig.freeze();
    rig.mupip(&["freeze", "-off", "ACC"]);
    assert_eq!(rig.engine.is_frozen(soon()), Frozen::Yes, "DEFAULT still is");
    let answer = rig.thaw(Some(&held));
    assert_eq!((answer.frozen, answer.proof.frozen_before), (Frozen::No, Known::No));
}

#[test]
fn a_freeze_that_was_not_online_is_seen_and_thawed() {
    let Some(rig) = Rig::new("gtm: not online") else { return };
    rig.mupip(&["freeze", "-on", "*"]);
    assert_eq!(rig.engine.is_frozen(soon()), Frozen::Yes);
    let answer = rig.thaw(None);
    assert_eq!(answer.frozen, Frozen::No, "{:?}", answer.rungs);
    assert_ne!(answer.proof.released, Known::Yes, "it gives no evidence");
}

#[test]
fn a_database_that_cannot_be_asked_is_unknown() {
    let Some(rig) = Rig::new("gtm: file missing") else { return };
    std::fs::rename(&rig.db.regions[1].file, rig.dir.path().join("away")).unwrap();
    assert!(matches!(rig.engine.is_frozen(soon()), Frozen::Unknown(t) if t.contains("ACC")));
    let answer = rig.engine.freeze(&order(soon()), &Cancel::new().unwrap());
    assert!(matches!(answer, FreezeAnswer::Failed(_)), "{answer:?}");
    assert!(matches!(rig.thaw(None).frozen, Frozen::Unknown(_)));
    std::fs::rename(rig.dir.path().join("away"), &rig.db.regions[1].file).unwrap();
    assert_eq!(rig.engine.is_frozen(soon()), Frozen::No);
}

/// As a reboot leaves it: the shared memory and the semaphores of this database are gone, its files are not.
fn lose_shared_memory(rig: &Rig) {
    let code = r#"set r="" for  set r=$view("GVNEXT",r) quit:r=""  write $$^%PEEKBYNAME("sgmnt_data.shmid",r)," ",$$^%PEEKBYNAME("sgmnt_data.semid",r),!"#;
    let out = rig.db.must(rig.db.m(code)).unwrap();
    let ipcrm = Program::find("ipcrm").unwrap();
    for line in out.out().lines() {
        let (shm, sem) = line.split_once(' ').unwrap();
        let gone = Call::new(&ipcrm, ["-m", shm, "-s", sem]).run(soon(), None).unwrap();
        assert_eq!(gone.code(), Some(0), "{}", gone.err());
    }
}

#[test]
fn after_a_reboot_in_a_window_it_needs_recovery_and_we_say_so_and_touch_nothing() {
    let Some(rig) = Rig::new("gtm: REQRECOV") else { return };
    let held = rig.freeze();
    lose_shared_memory(&rig);
    let Frozen::Unknown(why) = rig.engine.is_frozen(soon()) else { panic!("nobody can say") };
    assert!(why.contains("needs recovery") && why.contains("journal -recover -backward"), "{why}");
    let answer = rig.thaw(Some(&held));
    assert!(matches!(answer.frozen, Frozen::Unknown(_)));
    assert!(answer.rungs.iter().all(|r| r.said.contains("REQRECOV")), "{:?}", answer.rungs);
    let again = rig.engine.freeze(&order(soon()), &Cancel::new().unwrap());
    assert!(matches!(again, FreezeAnswer::Failed(_)), "{again:?}");
    // What we tell the operator to run, does it.
    rig.mupip(&["journal", "-recover", "-backward", "*"]);
    assert_eq!(rig.engine.is_frozen(soon()), Frozen::No);
    let held = rig.freeze();
    assert_eq!(rig.thaw(Some(&held)).proof, protocol::Proof::good());
}

/// The same without a freeze: nobody can write, but it is not frozen, and nothing of ours has to be undone.
#[test]
fn after_a_crash_outside_a_window_it_is_not_frozen() {
    let Some(rig) = Rig::new("gtm: crash without a freeze") else { return };
    let work = rig.work(1);
    let pid = rustix::process::Pid::from_raw(i32::try_from(work.pid()).unwrap()).unwrap();
    lose_shared_memory(&rig);
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop(work);
    assert_eq!(rig.engine.is_frozen(soon()), Frozen::No);
    let answer = rig.thaw(None);
    assert_eq!((answer.frozen, answer.rungs.len()), (Frozen::No, 0));
    let freeze = rig.engine.freeze(&order(soon()), &Cancel::new().unwrap());
    assert!(matches!(&freeze, FreezeAnswer::Failed(why) if why.contains("recovery")), "{freeze:?}");
    rig.mupip(&["journal", "-recover", "-backward", "*"]);
}

/// A thaw that has to wait is neither killed nor waited for for ever: the next rung starts, and it works when it can.
#[test]
fn a_thaw_that_waits_for_another_freeze_is_left_to_run() {
    let Some(rig) = Rig::new("gtm: waiting thaw") else { return };
    let _work = rig.work(2);
    let mupip = Program::find(&rig.db.dist.join("mupip").to_string_lossy()).unwrap();
    let mut waited = 0;
    for try_ms in 0..200u64 {
        let call = Call::new(&mupip, ["freeze", "-on", "-online", "-noautorelease", "*"])
            .env("gtm_dist", &rig.db.dist)
            .env("gtmgbldir", rig.db.gld());
        let other = Running::start(call).unwrap();
        let group = Pid::from_raw(i32::try_from(other.id()).unwrap()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3 + try_ms % 40));
        // Stopped, perhaps while it holds the freeze latch.
        kill_process_group(group, Signal::STOP).unwrap();
        let began = boot_now();
        let answer = rig.engine.thaw(None, 400, &|_| {});
        let took = boot_now().since(began);
        let still = answer.rungs.iter().filter(|r| r.said.starts_with("still running")).count();
        waited += still;
        assert!(took < 8_000, "it took {took} ms: {:?}", answer.rungs);
        kill_process_group(group, Signal::CONT).unwrap();
        other.finish(soon(), None).unwrap();
        let until = soon();
        while rig.thaw(None).frozen != Frozen::No {
            assert!(boot_now() < until, "it was not thawed after the other freeze had ended");
        }
        if waited > 0 {
            break;
        }
    }
    assert!(waited > 0, "no thaw ever had to wait: the test has shown nothing");
    let held = rig.freeze();
    assert_eq!(rig.thaw(Some(&held)).proof, protocol::Proof::good());
}
