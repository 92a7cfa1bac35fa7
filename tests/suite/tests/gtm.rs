//! Real GT.M: what a frozen copy is worth, and that a copy without a freeze is worth nothing.

use std::path::Path;
use suite::gtm::{GtmDb, Pace, Sizes, installed_or_skip};

/// Small enough to copy in a moment, large enough not to grow within a test.
const SIZES: Sizes = Sizes { blocks: 3_000, buffers: 256 };
const FAST: Pace = Pace { pause_ms: 0, value: 400 };

fn freeze(db: &GtmDb) {
    db.must(db.mupip(&["freeze", "-on", "-online", "-noautorelease", "*"])).unwrap();
}

fn thaw(db: &GtmDb) {
    db.must(db.mupip(&["freeze", "-off", "*"])).unwrap();
}

#[test]
fn a_frozen_copy_is_clean_and_rolls_forward_to_every_recorded_commit() {
    if installed_or_skip("a_frozen_copy_is_clean").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let db = GtmDb::create_with(&dir.path().join("t"), &["ACC"], SIZES).unwrap();
    let other = tempfile::tempdir().unwrap();
    let record = other.path().join("record");
    let work = db.start_workload(&record, FAST).unwrap();
    work.wait_for(200, 20_000).unwrap();
    freeze(&db);
    let at_freeze = work.last_recorded();
    let copy = db.copy_slowly(&dir.path().join("copy"), 300).unwrap();
    thaw(&db);
    copy.verify().unwrap();
    work.wait_for(50, 20_000).unwrap();
    let last = work.stop();
    assert!(last > at_freeze);
    let said = copy.recover_forward().unwrap();
    assert!(said.contains("JNLSUCCESS"), "{said}");
    let numbers = copy.last_numbers().unwrap();
    assert!(numbers.iter().all(|n| *n >= last), "{numbers:?} lack a recorded commit, {last}");
    assert_eq!(numbers[0], numbers[1], "a transaction was torn between regions");
    copy.verify().unwrap();
}

#[test]
fn a_copy_without_a_freeze_is_torn() {
    if installed_or_skip("a_copy_without_a_freeze_is_torn").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let db = GtmDb::create_with(&dir.path().join("t"), &["ACC"], SIZES).unwrap();
    let work = db.start_workload(&dir.path().join("record"), FAST).unwrap();
    work.wait_for(200, 20_000).unwrap();
    let mut tries = 0;
    let torn = loop {
        tries += 1;
        assert!(tries <= 20, "20 copies without a freeze were all clean: the workload is too weak");
        let copy = db.copy_slowly(&dir.path().join("copy"), 300).unwrap();
        if let Err(torn) = copy.verify() {
            break torn;
        }
    };
    println!("torn at copy {tries}: {}", torn.0.lines().next().unwrap_or_default());
    drop(work);
}

#[test]
fn the_fixture_leaves_no_shared_memory_and_no_process_behind() {
    if installed_or_skip("the_fixture_leaves_nothing_behind").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (pid, files);
    {
        let db = GtmDb::create_with(&dir.path().join("t"), &["ACC"], SIZES).unwrap();
        files = db.regions.iter().map(|r| r.file.clone()).collect::<Vec<_>>();
        let work = db.start_workload(&dir.path().join("record"), FAST).unwrap();
        pid = work.pid();
        freeze(&db);
        // Even a writer that is stopped by the freeze.
        drop(work);
    }
    assert!(!Path::new(&format!("/proc/{pid}/maps")).exists());
    for f in files {
        assert_eq!(shmid(&f), "-1", "{}", f.display());
    }
}

/// `-1` in the header: no shared memory belongs to the file.
fn shmid(file: &Path) -> String {
    let dist = engine::gtm::find_dist().unwrap();
    let call = doors::exec::Call::new(
        &doors::exec::Program::find(&dist.join("mupip").to_string_lossy()).unwrap(),
        ["dumpfhead", "-file", &file.to_string_lossy()],
    )
    .env("gtm_dist", &dist)
    .env("gtmroutines", dist.join("libgtmutil.so"));
    let out = call.run(doors::clock::boot_now().plus(20_000), None).unwrap();
    let text = format!("{}{}", out.out(), out.err());
    let line = text.lines().find_map(|l| l.strip_prefix("record(\"sgmnt_data.shmid\")="));
    line.unwrap_or(&text).to_owned()
}
