//! The bytes of a snapshot are those of the moment of the call.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the doors")]

mod common;

use common::Stage;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const DATA: &str = "Action=CreateSnapshots&InstanceSpecification.InstanceId=i-1&InstanceSpecification.ExcludeBootVolume=true";

/// Ends the writer also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_copy_has_the_value_at_the_call_while_a_writer_goes_on() {
    let stage = Stage::with(|c| (c.ec2.before_copy_ms, c.ec2.after_copy_ms) = (20, 20));
    let (stop, value) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut checked, mut moved) = (0, 0);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let next = value.load(Ordering::SeqCst) + 1;
                // Renamed into place, so that a copy has a whole number; counted before, so that no copy is ahead of it.
                value.store(next, Ordering::SeqCst);
                fs::write(stage.path("new"), next.to_string()).unwrap();
                fs::rename(stage.path("new"), stage.path("data/counter")).unwrap();
            }
        });
        while value.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        for _ in 0..5 {
            let before = value.load(Ordering::SeqCst);
            assert_eq!(stage.ec2(DATA).unwrap().0, 200);
            let after = value.load(Ordering::SeqCst);
            let set = stage.sim.snapshots();
            let last = set.iter().rfind(|s| s.volume == "vol-data").unwrap();
            let copied: u64 = fs::read_to_string(last.dir.as_ref().unwrap().join("counter")).unwrap().parse().unwrap();
            assert!(before - 1 <= copied && copied <= after, "{before} <= {copied} <= {after}");
            moved += usize::from(after > before);
            checked += 1;
        }
    });
    assert!(checked == 5 && moved > 0, "the writer went on during {moved} of {checked} calls");
    let call = stage.sim.calls_of("CreateSnapshots").pop().unwrap();
    let last = stage.sim.snapshots().into_iter().rfind(|s| s.volume == "vol-data").unwrap();
    let whole = call.in_us <= last.copy_from_us && last.copy_from_us <= last.copy_to_us && Some(last.copy_to_us) <= call.out_us;
    assert!(whole, "the copy lies inside the call: {call:?} {last:?}");
}

#[test]
fn a_deleted_snapshot_takes_its_bytes_with_it_and_an_unknown_directory_is_an_error() {
    let stage = Stage::quick();
    stage.ec2(DATA).unwrap();
    let one = stage.sim.snapshots().into_iter().find(|s| s.volume == "vol-data").unwrap();
    let dir = stage.sim.snapshot_dir(&one.id).unwrap();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "bytes of data");
    assert_eq!(stage.ec2(&format!("Action=DeleteSnapshot&SnapshotId={}", one.id)).unwrap().0, 200);
    assert!(!dir.exists());
    fs::remove_dir_all(stage.path("journal")).unwrap();
    let before = stage.sim.snapshots().len();
    assert_eq!(stage.ec2(DATA).unwrap().0, 500, "never a snapshot without the bytes it should have");
    assert_eq!(stage.sim.snapshots().len(), before);
}
