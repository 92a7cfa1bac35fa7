//! The window between pre and post, with file systems that are really frozen in it.

use super::bed::{Bed, calm, root};
use plugin_host::{Ended, code};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use suite::cloud::fleet::clean;
use suite::host::disk::Disk;
use suite::host::{Host, Setup};

#[test]
fn the_disk_that_azure_copies_holds_a_clean_database() {
    let name = "the_disk_that_azure_copies_holds_a_clean_database";
    let Some(disk) = Disk::make(name, None).filter(|_| root(name)) else { return };
    let h = Host::iris_on(tempfile::tempdir_in(&disk.mount).unwrap(), Setup { workload: true, ..calm() });
    let root = h.disk.path().to_owned();
    let b = Bed::on(h, &root, "");
    let mut copy = None;
    let o = b.azure().backup(|_| {
        disk.freeze();
        copy = Some(disk.copy());
        disk.thaw();
        true
    });
    assert!(o.app_consistent(), "{} {:?} {:?}", o.code, o.pre, o.post);
    let whole = |copy: Disk| copy.mounted().is_some_and(|c| clean(&c.mount.join(root.file_name().unwrap()).join("iris")));
    assert!(whole(copy.unwrap()));
    // The control: scripts that do nothing are a success to Azure, and what it copies is torn, sooner or later.
    b.set("fsFreezeEnabled", json!(false));
    b.script("pre", "exit 0\n");
    b.script("post", "exit 0\n");
    let torn = (0..10).any(|_| {
        let mut copy = None;
        let o = b.azure().backup(|_| {
            let done = AtomicBool::new(false);
            std::thread::scope(|s| {
                s.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        disk.sync();
                    }
                });
                copy = Some(disk.copy());
                done.store(true, Ordering::SeqCst);
            });
            true
        });
        assert!(o.app_consistent());
        !whole(copy.unwrap())
    });
    assert!(torn, "a copy of a database at work is torn");
    b.frozen_times(1);
}

/// Azure holds `/`, its snapshot hangs, and the hold is over: thawed before anything is written.
#[test]
fn a_frozen_root_keeps_nobody_from_thawing() {
    let name = "a_frozen_root_keeps_nobody_from_thawing";
    let Some(disk) = Disk::make(name, None).filter(|_| root(name)) else { return };
    // The agent's journal and the records lie on it; the database does not.
    let b = Bed::on(Host::iris(calm()), &disk.mount, "hold = \"4s\"");
    let mut thawed_in_time = false;
    let o = b.azure().backup(|_| {
        disk.freeze();
        thawed_in_time = b.h.comes_true(10_000, &mut || !b.h.engine.frozen());
        disk.thaw();
        true
    });
    assert!(thawed_in_time, "frozen beyond its hold: {:?}", b.h.engine.history());
    assert_eq!((o.code, o.post), (code::POST_FAILED, Some(Ended::With(Some(3)))));
    assert!(b.records()[0]["says"].as_str().unwrap().contains("by itself"), "{:#?}", b.records());
    b.frozen_times(1);
    // Post while the disk is still frozen: thawed all the same; what is to be written waits.
    b.h.until("an idle agent", 10_000, || b.h.phase() == "idle");
    let o = std::thread::scope(|s| {
        let (disk, engine) = (&disk, &b.h.engine);
        let mut guard = None;
        b.azure().backup(|_| {
            disk.freeze();
            guard = Some(s.spawn(move || {
                let by = std::time::Instant::now() + std::time::Duration::from_secs(20);
                while engine.frozen() && std::time::Instant::now() < by {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                let thawed = !engine.frozen();
                disk.thaw();
                assert!(thawed, "not thawed while the disk was frozen");
            }));
            true
        })
    });
    assert!(o.post.is_some(), "{}", o.code);
    b.frozen_times(2);
}

#[test]
fn a_window_that_was_broken_is_no_success() {
    if !root("a_window_that_was_broken_is_no_success") {
        return;
    }
    let b = Bed::new("");
    for (what, calls, says) in [
        ("another tool thawed and froze", &["ExternalThaw()", "ExternalFreeze()"][..], "broken"),
        ("another tool thawed", &["ExternalThaw()"][..], "by itself"),
    ] {
        let o = b.azure().backup(|_| {
            for c in calls {
                assert_eq!(b.h.engine.sim().other_tool(c), Some(5));
            }
            true
        });
        assert_eq!((o.code, o.post), (code::POST_FAILED, Some(Ended::With(Some(3)))), "{what}");
        let last = b.records().pop().unwrap();
        assert!(last["says"].as_str().unwrap().contains(says) && last["exit"] == 3, "{last}");
        b.h.until("an idle agent", 10_000, || b.h.phase() == "idle");
    }
    // A person thaws by its id: unbroken, and over before post: not known, so no success.
    let o = b.azure().backup(|_| {
        let id = b.h.status()["id"].as_str().unwrap().to_owned();
        assert_eq!(b.h.call(&["thaw", "--id", &id]).code, Some(0));
        true
    });
    assert_eq!(o.code, code::POST_FAILED);
    // The agent dies in the window.
    let o = b.azure().backup(|_| {
        suite::host::kill(b.h.agent.pid().unwrap());
        b.h.wait_agent();
        true
    });
    assert_eq!(o.code, code::POST_FAILED);
    b.h.until("an idle agent", 60_000, || b.h.phase() == "idle");
    // A thaw that nobody can confirm.
    let o = b.azure().backup(|_| {
        b.h.engine.sim().ctl(&["thaw_fail=1", "native_thaw_fail=1", "irisstat_w_fail=1"]);
        true
    });
    assert_eq!((o.code, o.post), (code::POST_FAILED, Some(Ended::With(Some(8)))));
    assert!(b.records().pop().unwrap()["says"].as_str().unwrap().contains("LEFT FROZEN"));
    b.h.engine.sim().ctl(&["thaw_fail=", "native_thaw_fail=", "irisstat_w_fail="]);
    b.h.until("the thaw", 15_000, || !b.h.engine.frozen());
}

#[test]
fn without_the_freeze_of_file_systems_the_page_cache_is_written_by_pre() {
    if !root("without_the_freeze_of_file_systems_the_page_cache_is_written_by_pre") {
        return;
    }
    let b = Bed::new("");
    b.set("fsFreezeEnabled", json!(false));
    let mut fs = true;
    let o = b.azure().backup(|f| {
        fs = f;
        true
    });
    assert!(o.app_consistent() && !fs);
    // A failure of pre stops that backup whatever continueBackupOnFailure says.
    b.set("continueBackupOnFailure", json!(true));
    b.h.engine.sim().ctl(&["freeze_fail=no"]);
    let o = b.azure().backup(|_| panic!("no snapshot"));
    assert_eq!(o.code, code::PRE_FAILED);
    b.h.engine.sim().ctl(&["freeze_fail="]);
    b.frozen_times(1);
}
