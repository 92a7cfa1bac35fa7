//! Freezing real file systems, each in a file. Every test thaws in a guard, also when it fails.

mod support;

use doors::clock::boot_now;
use protocol::Code;
use std::fs::{File, write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::fsfreeze::{Change, Error, FsFreeze};
use storage::sync::SyncSet;
use support::{Fs, disk};

/// Thaws at the end of a test, whatever happened; the product itself never thaws in a `Drop`.
struct Thaws<'a>(&'a FsFreeze);
impl Drop for Thaws<'_> {
    fn drop(&mut self) {
        self.0.thaw_all();
    }
}

fn changes(f: &FsFreeze) -> Vec<Change> {
    f.thaw().into_iter().map(|(_, r)| r.unwrap()).collect()
}

#[test]
fn a_write_waits_until_the_thaw_and_a_thaw_may_be_repeated() {
    let test = "a_write_waits_until_the_thaw_and_a_thaw_may_be_repeated";
    for kind in [Fs::Xfs, Fs::Btrfs, Fs::Ext4] {
        let Some(d) = disk(test, kind, 320) else { return };
        let ours = FsFreeze::open(std::slice::from_ref(&d.at), &[]).unwrap();
        let watchdog = FsFreeze::open(std::slice::from_ref(&d.at), &[]).unwrap();
        let _guard = Thaws(&ours);
        assert_eq!(changes(&ours), [Change::Unchanged], "not frozen yet");
        ours.freeze(boot_now().plus(10_000)).unwrap();
        let written = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                write(d.at.join("file"), b"waits").unwrap();
                written.store(true, Ordering::SeqCst);
            });
            std::thread::sleep(Duration::from_millis(200));
            assert!(!written.load(Ordering::SeqCst), "{kind:?}: the write waits");
            // For the other it is frozen by someone else, and a plain thaw leaves it alone.
            let e = watchdog.freeze(boot_now().plus(1000)).unwrap_err();
            assert!(matches!(e, Error::NotOurs(_)), "{kind:?}: {e}");
            assert_eq!(changes(&watchdog), [Change::Unchanged]);
            assert!(!written.load(Ordering::SeqCst), "{kind:?}: the write still waits");
            assert!(matches!(watchdog.thaw_all()[..], [(_, Ok(Change::Changed))]));
            ours.thaw();
        });
        assert!(written.load(Ordering::SeqCst));
        assert_eq!(changes(&ours), [Change::Unchanged], "{kind:?}: thawed once");
    }
}

#[test]
fn one_that_fails_thaws_those_before_it() {
    let test = "one_that_fails_thaws_those_before_it";
    let (Some(a), Some(b)) = (disk(test, Fs::Xfs, 320), disk(test, Fs::Ext4, 64)) else { return };
    let other = FsFreeze::open(std::slice::from_ref(&b.at), &[]).unwrap();
    let ours = FsFreeze::open(&[a.at.clone(), b.at.clone()], &[]).unwrap();
    let (_g1, _g2) = (Thaws(&other), Thaws(&ours));
    other.freeze(boot_now().plus(10_000)).unwrap();
    let e = ours.freeze(boot_now().plus(10_000)).unwrap_err();
    assert!(matches!(&e, Error::NotOurs(p) if *p == b.at), "{e}");
    write(a.at.join("file"), b"written at once: it was thawed").unwrap();
    assert_eq!(changes(&other), [Change::Changed], "and what is not ours was left frozen");
}

#[test]
fn a_sync_of_a_frozen_file_system_does_not_hang_us() {
    let Some(d) = disk("a_sync_of_a_frozen_file_system_does_not_hang_us", Fs::Xfs, 320) else { return };
    let ours = FsFreeze::open(std::slice::from_ref(&d.at), &[]).unwrap();
    let sync = SyncSet::open(std::slice::from_ref(&d.at)).unwrap();
    let _guard = Thaws(&ours);
    write(d.at.join("file"), b"x").unwrap();
    assert!(sync.sync(boot_now().plus(10_000)).good());
    ours.freeze(boot_now().plus(10_000)).unwrap();
    let report = sync.sync(boot_now().plus(500));
    assert!(report.took_ms < 2000 && report.failed.is_empty(), "{report:?}");
    assert_eq!(changes(&ours), [Change::Changed]);
}

#[test]
fn the_root_and_whatever_holds_our_own_state_are_refused() {
    let e = FsFreeze::open(&["/".into()], &[]).unwrap_err();
    assert!(e.code == Code::RefusedSplitFilesystem && e.detail.contains("never frozen"), "{}", e.detail);
    let e = FsFreeze::open(&[PathBuf::from("/usr/bin")], &[]).unwrap_err();
    assert!(e.detail.contains("no mount point"), "{}", e.detail);
    let Some(d) = disk("the_root_and_whatever_holds_our_own_state_are_refused", Fs::Xfs, 320) else { return };
    let state = d.dir("var/lib/snapfreeze");
    let e = FsFreeze::open(std::slice::from_ref(&d.at), std::slice::from_ref(&state)).unwrap_err();
    assert!(e.detail.contains("must stay writable"), "{}", e.detail);
    // Also by another way to the same file system.
    let alias = tempfile::tempdir().unwrap();
    let mnt = alias.path().join("mnt");
    std::fs::create_dir(&mnt).unwrap();
    support::run("mount", &["--bind", d.at.to_str().unwrap(), mnt.to_str().unwrap()]).unwrap();
    let through = mnt.join("var/lib/snapfreeze");
    let refused = FsFreeze::open(std::slice::from_ref(&d.at), &[through]);
    let closed = File::open(Path::new("/")).is_ok();
    support::run("umount", &[mnt.to_str().unwrap()]).unwrap();
    assert!(closed && refused.is_err());
    assert!(FsFreeze::open(std::slice::from_ref(&d.at), &["/run".into()]).is_ok());
}
