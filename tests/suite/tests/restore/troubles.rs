//! Kills at every step, reboots, damaged sets and journals, full disks: a clear error or the right end, and the original untouched.

use crate::bed::{crash_later, data, killed_at, run, stage};
use crate::judge::{asides, recorded, sim, stopped, whole};
use crate::{backup, restore, said, text};
use std::path::PathBuf;
use std::process::Command;
use suite::host::{Host, Reply, Setup, sleep_ms};

/// The restore is killed at each of its points, and resumed: the same end, and never anything overwritten.
#[test]
fn a_restore_that_is_killed_at_any_step_goes_on_from_there() {
    let (mut host, to) = stage(true);
    let id = backup(&host, &to);
    crash_later(&mut host);
    let committed = recorded(&host);
    let t1 = data(&host, "t1");
    let file = t1.join("IRIS.DAT");
    // Each round the database is lost again, and the instance has crashed.
    let lose = |host: &Host, n: usize| {
        sim(host).iris(&["force", "IRIS"]);
        for dir in asides(host) {
            std::fs::remove_dir_all(dir).expect("removed");
        }
        std::fs::write(&file, format!("lost in round {n}")).expect("the disaster");
    };
    lose(&host, 0);
    host.points.begin(|_| Reply::Go);
    let words = [id.as_str(), "--database", text(&t1)];
    let e = run(&host, &to, &words);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let points: Vec<String> = host.points.seen().into_iter().map(|s| s.name).filter(|n| n.starts_with("restore.")).collect();
    assert!(points.len() >= 19, "{points:?}");
    let mut killed = 0;
    for (n, point) in points.iter().enumerate() {
        let nth = points[..=n].iter().filter(|p| *p == point).count();
        lose(&host, n + 1);
        let (wanted, mut met) = (point.clone(), 0);
        host.points.begin(move |seen| {
            met += usize::from(seen.name == wanted);
            if met == nth && seen.name == wanted {
                suite::host::kill(seen.pid);
            }
            Reply::Go
        });
        let e = run(&host, &to, &words);
        assert_eq!(e.code, None, "killed at {point}: {}", said(&e));
        killed += 1;
        host.points.begin(|_| Reply::Go);
        // At its very end there is nothing to resume.
        let again = run(&host, &to, &words);
        if point == "restore.end" {
            assert_eq!(again.code, Some(0), "{}", said(&again));
            continue;
        }
        assert!(again.code == Some(4) && again.err.contains("Restore.Unfinished"), "{point}: {}", said(&again));
        let e = restore(&host, &["resume", "--yes"]);
        assert_eq!(e.code, Some(0), "{point}: {}", said(&e));
        let aside = asides(&host);
        assert_eq!(aside.len(), 1, "{point}");
        let kept = std::fs::read_to_string(aside[0].join("IRIS.DAT")).expect("kept aside");
        assert_eq!(kept, format!("lost in round {}", n + 1), "{point}: the original is untouched");
        assert_eq!(sim(&host).m("T1", "write 1"), "1");
    }
    println!("{killed} kills at {} points", points.len());
    assert!(killed >= 19, "{killed}");
    assert_eq!(whole(&stopped(&host), &committed), Ok(()));
}

#[test]
fn what_is_missing_or_damaged_is_named_and_the_original_stays() {
    let (mut host, to) = stage(true);
    let id = backup(&host, &to);
    // Journals enough that one can be lost from the middle.
    for _ in 0..2 {
        sim(&host).m("%SYS", "do ##class(%SYS.Journal.System).RollToNextFile(1,.f)");
        sleep_ms(200);
    }
    crash_later(&mut host);
    let committed = recorded(&host);
    let t1 = data(&host, "t1");
    let words = [id.as_str(), "--database", text(&t1)];
    let before = std::fs::read(t1.join("IRIS.DAT")).expect("the original");
    let same = |when: &str| assert!(std::fs::read(t1.join("IRIS.DAT")).is_ok_and(|now| now == before), "{when}: the original is untouched");
    let mut journals: Vec<PathBuf> =
        std::fs::read_dir(sim(&host).instance().join("journal1")).unwrap().flatten().map(|e| e.path()).collect();
    journals.sort();
    let middle = journals[journals.len() - 2].clone();
    let away = host.disk.path().join("away");
    // Missing: refused by name, before anything is changed.
    std::fs::rename(&middle, &away).unwrap();
    let e = run(&host, &to, &words);
    let name = middle.file_name().unwrap().to_string_lossy().into_owned();
    assert!(e.code == Some(4) && e.err.contains(&name), "{}", said(&e));
    same("missing");
    std::fs::rename(&away, &middle).unwrap();
    // A set that was changed: no copy of it appears.
    let copy = to.join(&id).join("data").join(t1.strip_prefix("/").unwrap()).join("IRIS.DAT");
    let good = std::fs::read(&copy).expect("the set's copy");
    let mut bad = good.clone();
    bad[20_000] ^= 1;
    std::fs::write(&copy, &bad).unwrap();
    let e = run(&host, &to, &words);
    assert!(e.code == Some(1) && e.err.contains("Restore.Failed") && e.err.contains("other content"), "{}", said(&e));
    assert!(std::fs::read(asides(&host)[0].join("IRIS.DAT")).is_ok_and(|f| f.len() == before.len()), "kept aside, whole");
    std::fs::write(&copy, &good).unwrap();
    // Truncated: the engine's own check names it, and no journal was applied. Mended, the run goes on.
    let whole_file = std::fs::read(&middle).unwrap();
    std::fs::write(&middle, &whole_file[..whole_file.len() - 2_000]).unwrap();
    let e = restore(&host, &["resume", "--yes"]);
    assert!(e.code == Some(1) && e.err.contains(&name) && e.err.contains("ends at offset"), "{}", said(&e));
    std::fs::write(&middle, &whole_file).unwrap();
    let e = restore(&host, &["resume", "--yes"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    assert_eq!(whole(&stopped(&host), &committed), Ok(()));
}

#[test]
fn a_crash_time_wij_that_is_damaged_stops_the_run_before_anything_is_changed() {
    let (mut host, to) = stage(true);
    let id = backup(&host, &to);
    crash_later(&mut host);
    let wij = sim(&host).instance().join("wij/IRIS.WIJ");
    std::fs::write(&wij, vec![7u8; 8192]).expect("the damage");
    let t1 = data(&host, "t1");
    let before = std::fs::read(t1.join("IRIS.DAT")).expect("the original");
    let e = run(&host, &to, &[&id, "--database", text(&t1)]);
    assert!(e.code == Some(1) && e.err.contains("overwrite nothing") && e.err.contains("WIJ header is damaged"), "{}", said(&e));
    assert_eq!(std::fs::read(t1.join("IRIS.DAT")).expect("the original"), before);
    assert!(asides(&host).is_empty());
    let e = restore(&host, &["abandon"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    assert!(restore(&host, &["resume", "--yes"]).code == Some(2));
}

/// `check --json`'s line of this name: level and text.
fn checked(host: &Host, to: &std::path::Path, name: &str) -> Option<(String, String)> {
    let e = host.call(&["check", "--json", "--to", text(to)]);
    let lines = e.out.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let text = |v: &serde_json::Value, k: &str| v[k].as_str().unwrap_or_default().to_owned();
    lines.filter(|v| v["name"] == name).map(|v| (text(&v, "level"), text(&v, "text"))).next()
}

#[test]
fn check_guards_the_journals_of_held_sets_and_names_a_restore_that_waits() {
    let (mut host, to) = stage(false);
    assert_eq!(checked(&host, &to, "IRIS journals"), None, "no catalogue yet");
    let id = backup(&host, &to);
    sim(&host).m("%SYS", "do ##class(%SYS.Journal.System).RollToNextFile(1,.f)");
    sim(&host).m("%SYS", "do ##class(%SYS.Journal.System).RollToNextFile(1,.f)");
    let (level, said_ok) = checked(&host, &to, "IRIS journals").expect("a line");
    assert!(level == "ok" && said_ok.contains("purge none from"), "{level}: {said_ok}");
    // Purged too early: the file that follows the one in the set.
    let mut journals: Vec<PathBuf> =
        std::fs::read_dir(sim(&host).instance().join("journal1")).unwrap().flatten().map(|e| e.path()).collect();
    journals.sort();
    let purged = &journals[journals.len() - 2];
    let bytes = std::fs::read(purged).unwrap();
    std::fs::remove_file(purged).unwrap();
    let (level, lacks) = checked(&host, &to, "IRIS journals").expect("a line");
    let name = purged.file_name().unwrap().to_string_lossy().into_owned();
    assert!(level == "fail" && lacks.contains(&id) && lacks.contains(&name), "{level}: {lacks}");
    std::fs::write(purged, bytes).unwrap();
    // A restore that fails waits, and says so until somebody goes on.
    assert_eq!(checked(&host, &to, "restore"), None);
    crash_later(&mut host);
    std::fs::write(sim(&host).instance().join("wij/IRIS.WIJ"), vec![7u8; 8192]).unwrap();
    let t1 = data(&host, "t1");
    assert_eq!(run(&host, &to, &[&id, "--database", text(&t1)]).code, Some(1));
    let (level, waits) = checked(&host, &to, "restore").expect("a line");
    assert!(level == "fail" && waits.contains("stands at step 1"), "{level}: {waits}");
    let e = host.call(&["freeze", "--no-sync", "--hold", "1s"]);
    assert!(e.code == Some(4) && e.err.contains("Restore.Unfinished"), "no backup of half a restore: {}", said(&e));
    restore(&host, &["abandon"]);
    assert_eq!(checked(&host, &to, "restore"), None);
}

#[test]
fn a_torn_image_is_found_by_the_integrity_check_and_never_shown_to_users() {
    let (mut host, to) = stage(true);
    let id = backup(&host, &to);
    crash_later(&mut host);
    // A set that is called held and is torn: two blocks of another moment, and a list that says so. No checksum finds that.
    let t1 = data(&host, "t1");
    let copy = to.join(&id).join("data").join(t1.strip_prefix("/").unwrap()).join("IRIS.DAT");
    let mut bytes = std::fs::read(&copy).expect("the set's copy");
    let at = 8192 + 8192 * 3 + 100;
    bytes[at..at + 64].fill(0x55);
    std::fs::write(&copy, &bytes).unwrap();
    relist(&to.join(&id), &copy);
    let e = run(&host, &to, &[&id, "--database", text(&t1)]);
    assert!(e.code == Some(1) && e.err.contains("Restore.Failed"), "{}", said(&e));
    assert!(e.err.contains("checksum differs"), "{}", said(&e));
    assert!(!e.out.contains("users may connect now"), "{}", said(&e));
    let call = ["session", "IRIS", "-U%SYS", "##Class(Backup.General).IsWDSuspendedExt()"];
    assert_ne!(sim(&host).iris(&call).0, Some(3), "nobody gets in");
    assert_eq!(asides(&host).len(), 1, "the original is kept");
    // The control: without the check of the set's own list the copy would have been refused before.
    let v = host.call(&["verify", &id, "--to", text(&to)]);
    assert_eq!(v.code, Some(0), "the list knows nothing of it: {}", said(&v));
}

/// Writes a file's new checksum into the set's list, and the list's into its manifest.
pub fn relist(set: &std::path::Path, changed: &std::path::Path) {
    let sum = |p: &std::path::Path| {
        let out = Command::new("sha256sum").arg(p).output().expect("sha256sum");
        String::from_utf8_lossy(&out.stdout)[..64].to_owned()
    };
    let list = set.join("files.jsonl");
    let name = changed.strip_prefix(set).unwrap().display().to_string();
    let mut text = String::new();
    for line in std::fs::read_to_string(&list).unwrap().lines() {
        let mut v: serde_json::Value = serde_json::from_str(line).unwrap();
        if v["path"] == name.as_str() {
            v["sha256"] = sum(changed).into();
        }
        text += &format!("{v}\n");
    }
    std::fs::write(&list, text).unwrap();
    let manifest = set.join("manifest.json");
    let mut v: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    v["finished"]["list_sha256"] = sum(&list).into();
    std::fs::write(&manifest, v.to_string()).unwrap();
}

#[test]
fn journals_of_another_instance_are_not_applied() {
    let (mut host, to) = stage(true);
    let id = backup(&host, &to);
    crash_later(&mut host);
    // A file of the right name in the middle of the chain, from elsewhere.
    let dir = sim(&host).instance().join("journal1");
    let mut journals: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().flatten().map(|e| e.path()).collect();
    journals.sort();
    let foreign = journals.last().unwrap();
    let other = Host::iris(Setup { workload: true, hold_ms: 3_000, ..Setup::default() });
    let theirs = sim(&other).state()["journal"].as_str().expect("a journal").to_owned();
    let own = std::fs::read(foreign).unwrap();
    std::fs::copy(&theirs, foreign).unwrap();
    let t1 = data(&host, "t1");
    let e = run(&host, &to, &[&id, "--database", text(&t1)]);
    assert_eq!(e.code, Some(1), "{}", said(&e));
    let name = foreign.file_name().unwrap().to_string_lossy();
    assert!(e.err.contains("Restore.Failed") && e.err.contains(&*name), "{}", said(&e));
    // The right one back, and it goes on.
    std::fs::write(foreign, own).unwrap();
    let e = restore(&host, &["resume", "--yes"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
}

#[test]
fn a_target_disk_that_is_too_small_or_fills_up_leaves_the_original_whole() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP a_target_disk_that_is_too_small_or_fills_up_leaves_the_original_whole: needs root (mount)");
        return;
    }
    let (mut host, to) = stage(true);
    let id = backup(&host, &to);
    crash_later(&mut host);
    let t1 = data(&host, "t1");
    let small = host.disk.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = |args: &[&str]| Command::new("mount").args(args).arg(&small).status().is_ok_and(|s| s.success());
    assert!(mounted(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"]), "a small disk");
    let rest = small.join("t1");
    let into = format!("{}={}", t1.display(), rest.display());
    let words = [id.as_str(), "--database", text(&t1), "--into", &into];
    // Seen before: nothing is changed, not even the instance is started.
    let e = run(&host, &to, &words);
    assert!(e.code == Some(4) && e.err.contains("bytes free, the copies need"), "{}", said(&e));
    assert!(!rest.exists());
    // Room at the plan, none at the copy: another one fills the disk in between.
    assert!(mounted(&["-o", "remount,size=8m"]));
    let fill = small.join("filled");
    host.points.begin(move |seen| {
        if seen.name == "restore.copy.file" {
            std::fs::write(&fill, vec![1u8; 7 << 20]).expect("the disk fills up");
        }
        Reply::Go
    });
    let e = run(&host, &to, &words);
    assert!(e.code == Some(1) && e.err.contains("No space left"), "{}", said(&e));
    assert!(std::fs::read_dir(&rest).map_or(0, |d| d.count()) == 0, "no half copy");
    assert!(t1.join("IRIS.DAT").exists() && asides(&host).is_empty(), "the original is where it was");
    host.points.begin(|_| Reply::Go);
    std::fs::remove_file(small.join("filled")).unwrap();
    let e = restore(&host, &["resume", "--yes"]);
    let unmounted = || {
        sim(&host).iris(&["force", "IRIS"]);
        Command::new("umount").arg("-l").arg(&small).status().is_ok_and(|s| s.success())
    };
    assert!(e.code == Some(0) && unmounted(), "{}", said(&e));
}

#[test]
fn after_a_reboot_in_the_middle_the_run_goes_on_and_after_a_start_for_users_it_does_not() {
    let (mut host, to) = stage(true);
    let id = backup(&host, &to);
    crash_later(&mut host);
    let committed = recorded(&host);
    let t1 = data(&host, "t1");
    let words = [id.as_str(), "--database", text(&t1)];
    // Killed when T1 is dismounted, and the host goes down with it: a start mounts it again.
    killed_at(&host, &to, "restore.keep-aside.before", &words);
    sim(&host).iris(&["force", "IRIS"]);
    let e = restore(&host, &["resume", "--yes"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    assert_eq!(whole(&stopped(&host), &committed), Ok(()), "{}", said(&e));

    // A whole system: half of the files are in place when somebody starts the instance.
    sim(&host).start();
    killed_at(&host, &to, "restore.copy.file", &[&id]);
    // Somebody puts the rest there by hand, and starts it.
    for dir in ["mgr", "mgr/user", "mgr/irislocaldata", "data/t1", "data/t2"] {
        let set = to.join(&id).join("data").join(sim(&host).instance().strip_prefix("/").unwrap()).join(dir).join("IRIS.DAT");
        let home = sim(&host).instance().join(dir).join("IRIS.DAT");
        if !home.exists() {
            std::fs::copy(set, home).unwrap();
        }
    }
    sleep_ms(1_100); // the registry's words have seconds
    sim(&host).start();
    let e = restore(&host, &["resume", "--yes"]);
    assert!(e.code == Some(1) && e.err.contains("was started while its files were being replaced"), "{}", said(&e));
    assert!(e.err.contains("begin anew") && !e.err.contains("then `snapfreeze restore resume`"), "{}", said(&e));
    sim(&host).iris(&["stop", "IRIS", "quietly"]);
    let e = restore(&host, &["resume", "--yes"]);
    assert!(e.code == Some(1) && e.err.contains("was started while"), "down again is not down all the time: {}", said(&e));
}

#[test]
fn a_set_that_was_not_held_is_restored_on_demand_only_and_never_with_0() {
    let (host, to) = stage(false);
    let id = backup(&host, &to);
    let manifest = to.join(&id).join("manifest.json");
    let mut v: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    v["tags"]["snapfreeze:verdict"] = "pending".into();
    std::fs::write(&manifest, v.to_string()).unwrap();
    let t1 = data(&host, "t1");
    let e = run(&host, &to, &[&id, "--database", text(&t1)]);
    assert!(e.code == Some(4) && e.err.contains("pending, not held"), "{}", said(&e));
    let e = run(&host, &to, &[&id, "--database", text(&t1), "--even-if-not-held"]);
    assert!(e.code == Some(3) && e.err.contains("nobody vouches"), "{}", said(&e));
    assert_eq!(sim(&host).m("T1", "write 1"), "1", "it is done all the same");
}

/// The longest procedure, a whole system without a WIJ, killed at each of its points: the same end each time.
#[test]
fn a_whole_system_that_is_killed_at_any_step_comes_back_all_the_same() {
    let (mut host, to) = stage(true);
    let id = backup(&host, &to);
    crash_later(&mut host);
    let committed = recorded(&host);
    let lose = |host: &Host| {
        sim(host).iris(&["force", "IRIS"]);
        for dir in asides(host) {
            std::fs::remove_dir_all(dir).expect("removed");
        }
        crate::bed::lose_all_but_journals(host);
    };
    let words = [id.as_str(), "--wij", "without"];
    lose(&host);
    host.points.begin(|_| Reply::Go);
    let e = run(&host, &to, &words);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let points: Vec<String> = host.points.seen().into_iter().map(|s| s.name).filter(|n| n.starts_with("restore.")).collect();
    let mut killed = 0;
    for (n, point) in points.iter().enumerate() {
        // Of those that repeat, the first and the last.
        let (nth, of) = (points[..=n].iter().filter(|p| *p == point).count(), points.iter().filter(|p| *p == point).count());
        if (nth != 1 && nth != of) || point == "restore.end" {
            continue;
        }
        lose(&host);
        let (wanted, mut met) = (point.clone(), 0);
        host.points.begin(move |seen| {
            met += usize::from(seen.name == wanted);
            if met == nth && seen.name == wanted {
                suite::host::kill(seen.pid);
            }
            Reply::Go
        });
        let e = run(&host, &to, &words);
        assert_eq!(e.code, None, "killed at {point}: {}", said(&e));
        killed += 1;
        host.points.begin(|_| Reply::Go);
        let e = restore(&host, &["resume", "--yes"]);
        assert_eq!(e.code, Some(0), "{point}, {nth} of {of}: {}", said(&e));
        assert_eq!(sim(&host).m("USER", "write $get(^postbackup,0)"), "1", "{point}");
    }
    println!("{killed} kills at {} points", points.len());
    assert!(killed >= 20, "{killed} of {points:?}");
    assert_eq!(whole(&stopped(&host), &committed), Ok(()));
}
