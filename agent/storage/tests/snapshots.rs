//! Snapshots for real, on XFS, btrfs and ext4 in files.

#[path = "support/job.rs"]
mod job;
mod support;

use doors::clock::{boot_now, boot_now_us};
use doors::exec::Cancel;
use job::{backup, portrait, quiet, request, settle, take, take_by};
use protocol::Code;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use storage::catalogue::{files, manifest};
use storage::snapshot::local::{Local, Prefer};
use storage::snapshot::{Error, Method, Moment, Plan, Snapshotter};
use support::{Fs, bytes, disk, run};

const AUTO: Local = Local { prefer: Prefer::Auto };
fn only(prefer: Prefer) -> Local {
    Local { prefer }
}
fn methods(plan: &Plan) -> Vec<Method> {
    plan.parts.iter().map(|p| p.method).collect()
}

/// A small database directory with everything that a file system can hold.
fn furnish(dir: &Path) {
    fs::create_dir_all(dir.join("sub/deep")).unwrap();
    fs::write(dir.join("IRIS.DAT"), bytes(1, 3 << 20)).unwrap();
    fs::write(dir.join("sub/small"), b"x").unwrap();
    fs::write(dir.join("sub/empty"), b"").unwrap();
    fs::hard_link(dir.join("IRIS.DAT"), dir.join("sub/hard")).unwrap();
    symlink("../IRIS.DAT", dir.join("sub/soft")).unwrap();
    let sparse = fs::File::create(dir.join("sub/sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 4 << 20).unwrap();
    fs::set_permissions(dir.join("sub/small"), PermissionsExt::from_mode(0o4640)).unwrap();
    std::os::unix::fs::chown(dir.join("sub/small"), Some(51773), Some(52773)).unwrap();
    std::os::unix::fs::chown(dir.join("sub"), Some(51773), None).unwrap();
    fs::set_permissions(dir.join("sub"), PermissionsExt::from_mode(0o2770)).unwrap();
    rustix::fs::setxattr(dir.join("IRIS.DAT"), "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("fifo"), rustix::fs::Mode::RWXU).unwrap();
    std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
}

/// The same set by each method: equal in every attribute, unchanged by later writes, verified, and gone after an abort.
fn a_clone_is_equal_and_stays(test: &str, kind: Fs, prefer: Prefer, expected: Method) {
    let Some(d) = disk(test, kind, 320) else {
        return;
    };
    let (db, to) = (d.dir("iris/db"), d.dir("backups"));
    furnish(&db);
    let r = request(1, &[&db], &to);
    let s = only(prefer);
    let plan = s.prepare(&r).unwrap();
    assert_eq!(methods(&plan), [expected], "{:?}", plan.notes);
    fs::write(db.join("appeared"), b"between prepare and take").unwrap();
    manifest::write(&plan.set, &manifest::Manifest::new(doors::clock::wall_now(), &protocol::tags::SetTags::new(r.id), &plan)).unwrap();
    let mut before = portrait(&db);
    let taken = take(&s, &plan).unwrap();
    // What is written after the take is not in the set.
    fs::write(db.join("IRIS.DAT"), bytes(2, 3 << 20)).unwrap();
    fs::write(db.join("late"), b"late").unwrap();
    let m = settle(&s, &plan, &taken);
    let copy = plan.in_set(&db);
    if expected == Method::Btrfs {
        assert!(fs::write(copy.join("x"), b"x").is_err(), "read-only");
    } else {
        assert_eq!(taken.skipped.len(), 1, "{:?}", taken.skipped);
        assert!(before.remove(Path::new("socket")).is_some());
    }
    assert_eq!(portrait(&copy), before);
    assert_ne!(portrait(&db), before, "negative control: the source did change");
    let sparse = copy.join("sub/sparse").metadata().unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "holes are kept");
    assert_eq!(copy.join("IRIS.DAT").metadata().unwrap().ino(), copy.join("sub/hard").metadata().unwrap().ino());
    let mut note = [0u8; 8];
    assert_eq!(rustix::fs::getxattr(copy.join("IRIS.DAT"), "user.note", &mut note[..]).unwrap(), 4);
    let report = files::verify(&plan.set, &m, &quiet).unwrap();
    assert!(report.good() && report.checksums && report.files > 5, "{report:?}");
    assert_eq!(plan.set.metadata().unwrap().mode() & 0o777, 0o700);
    s.abort(&plan).unwrap();
    s.abort(&plan).unwrap();
    assert!(!plan.set.exists() && fs::read_dir(&to).unwrap().next().is_none());
}

#[test]
fn reflink_on_xfs() {
    a_clone_is_equal_and_stays("reflink_on_xfs", Fs::Xfs, Prefer::Auto, Method::Reflink);
}
#[test]
fn reflink_on_btrfs() {
    a_clone_is_equal_and_stays("reflink_on_btrfs", Fs::Btrfs, Prefer::Reflink, Method::Reflink);
}
#[test]
fn subvolume_snapshot_on_btrfs() {
    a_clone_is_equal_and_stays("subvolume_snapshot_on_btrfs", Fs::Btrfs, Prefer::Auto, Method::Btrfs);
}
#[test]
fn plain_copy_on_ext4() {
    a_clone_is_equal_and_stays("plain_copy_on_ext4", Fs::Ext4, Prefer::Auto, Method::Copy);
}

#[test]
fn a_clone_is_of_one_moment_and_a_copy_of_a_live_file_is_not() {
    let test = "a_clone_is_of_one_moment_and_a_copy_of_a_live_file_is_not";
    let Some(d) = disk(test, Fs::Xfs, 512) else {
        return;
    };
    let (db, to) = (d.dir("db"), d.dir("to"));
    const SIZE: u64 = 96 << 20;
    fs::write(db.join("live"), bytes(3, SIZE as usize)).unwrap();
    let stop = AtomicBool::new(false);
    let (torn, whole) = std::thread::scope(|threads| {
        threads.spawn(|| {
            // First and last block carry the same number but for the moment between the two writes.
            let f = fs::OpenOptions::new().write(true).open(db.join("live")).unwrap();
            for n in 0u64.. {
                std::os::unix::fs::FileExt::write_all_at(&f, &n.to_le_bytes(), 0).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&f, &n.to_le_bytes(), SIZE - 8).unwrap();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        let distance = |n, s: Local| {
            let plan = s.prepare(&request(n, &[&db], &to)).unwrap();
            take(&s, &plan).unwrap();
            let data = fs::read(plan.in_set(&db).join("live")).unwrap();
            s.abort(&plan).unwrap();
            let number = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().unwrap());
            number(SIZE as usize - 8).abs_diff(number(0))
        };
        let whole: Vec<u64> = (1..11).map(|n| distance(n, only(Prefer::Reflink))).collect();
        // On a loaded machine the writer may get no turn during one copy; it does get one during some of them.
        let torn = (11..41).map(|n| distance(n, only(Prefer::Copy))).find(|n| *n > 1);
        stop.store(true, Ordering::Relaxed);
        (torn, whole)
    });
    assert!(whole.iter().all(|n| *n <= 1), "{whole:?}");
    assert!(torn.is_some(), "negative control: one of 30 copies of a live file is torn");
}

#[test]
fn nested_subvolumes_come_with_their_parent() {
    let Some(d) = disk("nested_subvolumes_come_with_their_parent", Fs::Btrfs, 320) else {
        return;
    };
    let (outer, to) = (d.subvolume("data"), d.dir("to"));
    fs::create_dir(outer.join("db")).unwrap();
    let inner = d.subvolume("data/db/inner");
    let deep = d.subvolume("data/db/inner/deep");
    for (n, dir) in [&outer.join("db"), &inner, &deep].into_iter().enumerate() {
        fs::write(dir.join("file"), bytes(n as u64, 70_000)).unwrap();
    }
    let r = request(1, &[&outer.join("db")], &to);
    let (plan, _, m) = backup(&AUTO, &r);
    assert_eq!(methods(&plan), [Method::Btrfs; 3]);
    assert_eq!(plan.parts[0].path, outer);
    assert_eq!(portrait(&plan.in_set(&outer.join("db"))), portrait(&outer.join("db")));
    for dir in [&outer, &inner, &deep] {
        assert!(fs::write(plan.in_set(dir).join("x"), b"x").is_err(), "{} is read-only", dir.display());
    }
    assert!(files::verify(&plan.set, &m, &quiet).unwrap().good());
    AUTO.abort(&plan).unwrap();
    assert_eq!(run("btrfs", &["subvolume", "list", d.at.to_str().unwrap()]).unwrap().lines().count(), 3);
}

#[test]
fn nocow_files_are_cloned_as_nocow() {
    let Some(d) = disk("nocow_files_are_cloned_as_nocow", Fs::Btrfs, 320) else {
        return;
    };
    let (db, to) = (d.dir("db"), d.dir("to"));
    run("chattr", &["+C", db.to_str().unwrap()]).unwrap();
    fs::write(db.join("IRIS.DAT"), bytes(9, 1 << 20)).unwrap();
    let s = only(Prefer::Reflink);
    let (plan, _, _) = backup(&s, &request(1, &[&db], &to));
    let copy = plan.in_set(&db).join("IRIS.DAT");
    assert_eq!(fs::read(&copy).unwrap(), bytes(9, 1 << 20));
    assert!(run("lsattr", &[copy.to_str().unwrap()]).unwrap().split(' ').next().unwrap().contains('C'));
}

#[test]
fn sources_on_several_file_systems_make_one_set() {
    let test = "sources_on_several_file_systems_make_one_set";
    let (Some(a), Some(b), Some(c)) = (disk(test, Fs::Xfs, 320), disk(test, Fs::Btrfs, 320), disk(test, Fs::Ext4, 64)) else {
        return;
    };
    let (db, wij, jrn, to) = (a.dir("db"), a.dir("wij"), b.subvolume("jrn"), a.dir("to"));
    fs::write(db.join("IRIS.DAT"), bytes(1, 1 << 20)).unwrap();
    fs::write(wij.join("IRIS.WIJ"), bytes(2, 1 << 20)).unwrap();
    fs::write(jrn.join("20261125.001"), bytes(3, 1 << 20)).unwrap();
    // A file system mounted below a source is taken too, by its own method.
    let below = a.dir("db/below");
    run("mount", &["--bind", c.at.to_str().unwrap(), below.to_str().unwrap()]).unwrap();
    fs::write(c.at.join("external"), bytes(4, 100_000)).unwrap();
    let single = a.dir("etc").join("iris.cpf");
    fs::write(&single, b"[config]\n").unwrap();
    // One source inside another, and one named twice through a symlink: each is taken once.
    symlink(&db, a.at.join("alias")).unwrap();
    let alias = a.at.join("alias");
    let inside = below.clone();
    let (plan, _, m) = backup(&AUTO, &request(1, &[&db, &wij, &jrn, &single, &alias, &inside], &to));
    let by: BTreeMap<PathBuf, Method> = plan.parts.iter().map(|p| (p.path.clone(), p.method)).collect();
    let expected = [
        (db.clone(), Method::Reflink),
        (below.clone(), Method::Copy),
        (wij.clone(), Method::Reflink),
        (single.clone(), Method::Reflink),
        (jrn.clone(), Method::Copy),
    ];
    assert_eq!(by, expected.into_iter().collect());
    for dir in [&db, &wij, &jrn] {
        let strip = |p: &Path| {
            let mut all = portrait(p);
            all.retain(|p, _| !p.ends_with("lost+found") && p != Path::new("below"));
            all
        };
        assert_eq!(strip(&plan.in_set(dir)), strip(dir), "{}", dir.display());
    }
    assert_eq!(fs::read(plan.in_set(&below).join("external")).unwrap(), bytes(4, 100_000));
    assert_eq!(fs::read(plan.in_set(&single)).unwrap(), b"[config]\n");
    assert!(files::verify(&plan.set, &m, &quiet).unwrap().good());
    // To the other side: the btrfs part becomes a snapshot, the XFS parts copies.
    let back = b.dir("to");
    let plan = AUTO.prepare(&request(2, &[&wij, &jrn], &back)).unwrap();
    // The parts are sorted by path, and the paths are random.
    let by: BTreeMap<PathBuf, Method> = plan.parts.iter().map(|p| (p.path.clone(), p.method)).collect();
    assert_eq!(by, [(wij.clone(), Method::Copy), (jrn.clone(), Method::Btrfs)].into_iter().collect());
    AUTO.abort(&plan).unwrap();
}

#[test]
fn what_cannot_work_is_refused_before_the_freeze_and_leaves_nothing() {
    let test = "what_cannot_work_is_refused_before_the_freeze_and_leaves_nothing";
    let Some(d) = disk(test, Fs::Ext4, 200) else {
        return;
    };
    let (db, to) = (d.dir("db"), d.dir("to"));
    fs::write(db.join("IRIS.DAT"), bytes(1, 60 << 20)).unwrap();
    let code = |e: &Error| e.problem().code;
    let refused = |s: Local, r: &storage::snapshot::Request| s.prepare(r).map(|p| p.notes).unwrap_err();

    let mut slow = request(1, &[&db], &to);
    slow.hold_ms = 3;
    let e = refused(AUTO, &slow);
    assert_eq!(code(&e), Code::RefusedTooSlow, "{e}");
    for prefer in [Prefer::Btrfs, Prefer::Reflink] {
        let e = refused(only(prefer), &request(1, &[&db], &to));
        assert!(code(&e) == Code::ConfigInvalid && e.to_string().contains(db.to_str().unwrap()), "{e}");
    }
    let e = refused(AUTO, &request(1, &[&db, &db.join("gone")], &to));
    assert!(code(&e) == Code::RefusedNotCovered && e.to_string().contains("gone"), "{e}");
    for (source, target) in [(&db, d.dir("db/inside")), (&d.dir("to/in"), to.clone())] {
        let e = refused(AUTO, &request(1, &[source], &target));
        assert!(e.to_string().contains("inside each other"), "{e}");
        fs::remove_dir(if target == to { source.clone() } else { target }).unwrap();
    }
    let mut frozen = request(1, &[&db], &to);
    frozen.frozen_mounts = vec![d.at.clone()];
    assert!(refused(AUTO, &frozen).to_string().contains("would be frozen"));
    assert!(fs::read_dir(&to).unwrap().next().is_none(), "nothing is left");

    let plan = AUTO.prepare(&request(1, &[&db], &to)).unwrap();
    let e = refused(AUTO, &request(1, &[&db], &to));
    assert_eq!(code(&e), Code::RefusedUsedId, "an id is used once");
    assert!(plan.set.exists(), "and the other set is left alone");
    AUTO.abort(&plan).unwrap();
    fs::write(db.join("more"), bytes(2, 60 << 20)).unwrap();
    let e = refused(AUTO, &request(1, &[&db], &to));
    assert!(matches!(e, Error::NoSpace { needed, free, .. } if needed > free), "{e}");
    assert!(fs::read_dir(&to).unwrap().next().is_none(), "nothing is left");
}

#[test]
fn a_take_that_fails_in_the_middle_says_why_and_abort_leaves_nothing() {
    let test = "a_take_that_fails_in_the_middle_says_why_and_abort_leaves_nothing";
    let Some(d) = disk(test, Fs::Ext4, 256) else {
        return;
    };
    let (db, to) = (d.dir("db"), d.dir("to"));
    for n in 0..6 {
        fs::write(db.join(format!("f{n}")), bytes(n, 10 << 20)).unwrap();
    }
    let gone = |plan: &Plan| {
        AUTO.abort(plan).unwrap();
        assert!(fs::read_dir(&to).unwrap().next().is_none());
    };
    let plan = AUTO.prepare(&request(1, &[&db], &to)).unwrap();
    assert!(matches!(take_by(&AUTO, &plan, 0), Err(Error::Late)));
    gone(&plan);

    let plan = AUTO.prepare(&request(1, &[&db], &to)).unwrap();
    let (cancel, tags) = (Cancel::new().unwrap(), BTreeMap::new());
    let say = |p: storage::snapshot::Progress| {
        if p.files >= 2 {
            cancel.throw()
        }
    };
    let moment = Moment { by: boot_now().plus(60_000), cancel: &cancel, say: &say, tags: &tags };
    assert!(matches!(AUTO.take(&plan, &moment), Err(Error::Cancelled)));
    let half = fs::read_dir(plan.in_set(&db)).unwrap().count();
    assert!((1..6).contains(&half), "it was in the middle: {half}");
    gone(&plan);

    let plan = AUTO.prepare(&request(1, &[&db], &to)).unwrap();
    // The disk fills up between prepare and take.
    let mut hog = fs::File::create(d.at.join("hog")).unwrap();
    while std::io::Write::write_all(&mut hog, &bytes(8, 1 << 20)).is_ok() {}
    hog.set_len(hog.metadata().unwrap().len().saturating_sub(15 << 20)).unwrap();
    let e = take(&AUTO, &plan).unwrap_err();
    assert!(matches!(e, Error::NoSpace { .. }), "{e}");
    gone(&plan);
}

#[test]
fn a_symlink_out_of_the_set_and_a_swapped_directory_are_not_followed() {
    let test = "a_symlink_out_of_the_set_and_a_swapped_directory_are_not_followed";
    let Some(d) = disk(test, Fs::Xfs, 320) else {
        return;
    };
    let (db, to, secret) = (d.dir("db"), d.dir("to"), d.dir("secret"));
    fs::write(db.join("IRIS.DAT"), bytes(1, 8192)).unwrap();
    fs::write(secret.join("shadow"), b"secret").unwrap();
    fs::create_dir(db.join("dir")).unwrap();
    symlink(&secret, db.join("out")).unwrap();
    symlink("IRIS.DAT", db.join("in")).unwrap();
    let plan = AUTO.prepare(&request(1, &[&db], &to)).unwrap();
    fs::remove_dir(db.join("dir")).unwrap();
    symlink(&secret, db.join("dir")).unwrap();
    take(&AUTO, &plan).unwrap();
    let finished = AUTO.finish(&plan, false, &quiet).unwrap();
    assert_eq!(finished.notes.len(), 2, "{:?}", finished.notes);
    assert!(finished.notes.iter().all(|n| n.contains("leads out of the set")));
    assert!(plan.in_set(&db).join("dir").symlink_metadata().unwrap().is_symlink());
}

/// `cargo test --release -p storage --test snapshots figures -- --ignored --nocapture`
#[test]
#[ignore = "prints figures, proves nothing"]
fn figures_of_many_files() {
    for (kind, prefer) in [(Fs::Xfs, Prefer::Reflink), (Fs::Btrfs, Prefer::Reflink), (Fs::Btrfs, Prefer::Btrfs)] {
        let Some(d) = disk("figures_of_many_files", kind, 512) else {
            return;
        };
        let (db, to) = (d.dir("db"), d.dir("to"));
        let begun = boot_now_us();
        for n in 0..2000u64 {
            let sub = db.join(format!("d{}", n % 20));
            fs::create_dir_all(&sub).unwrap();
            fs::write(sub.join(format!("f{n}")), bytes(n, 16_384)).unwrap();
        }
        fs::write(db.join("large"), bytes(0, 100 << 20)).unwrap();
        let made = boot_now_us() - begun;
        let s = only(prefer);
        let plan = s.prepare(&request(1, &[&db], &to)).unwrap();
        let begun = boot_now_us();
        take(&s, &plan).unwrap();
        let took = boot_now_us() - begun;
        println!(
            "{kind:?} {prefer:?}: 2001 files, 131 MiB: take {took} us, estimated {} ms (made in {} ms)",
            plan.estimate.ms,
            made / 1000
        );
        let begun = boot_now_us();
        s.finish(&plan, true, &quiet).unwrap();
        println!("  finish with checksums {} ms", (boot_now_us() - begun) / 1000);
    }
}
