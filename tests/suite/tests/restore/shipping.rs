//! Journals saved elsewhere, and what comes back from there.

use crate::bed::{crash_later, lose_all_but_journals, run, stage};
use crate::judge::{recorded, sim, stopped};
use crate::{backup, restore, said, text};
use serde_json::json;
use suite::host::{Host, Reply, sleep_ms};

/// Shipped by passes of their own while the workload runs; then databases, WIJ and every journal are lost.
#[test]
fn with_the_journals_disk_lost_every_commit_older_than_the_recovery_point_returns() {
    let (mut host, to) = stage(true);
    let far = host.disk.path().join("far");
    std::fs::create_dir(&far).unwrap();
    let id = backup(&host, &to);
    let ship = |host: &Host| {
        let began = doors::clock::boot_now().0;
        let e = host.call(&["journals", "ship", "--into", text(&far), "--json"]);
        assert_eq!(e.code, Some(0), "{}", said(&e));
        began
    };
    ship(&host);
    sleep_ms(500);
    // A journal that is closed, and one that is still open at the last pass.
    sim(&host).m("%SYS", "do ##class(%SYS.Journal.System).RollToNextFile(1,.f)");
    sleep_ms(300);
    let point = ship(&host);
    sleep_ms(500);
    crash_later(&mut host);
    let all = recorded(&host);
    let until_point = crate::judge::recorded_until(&host, point);
    assert!(until_point.iter().any(|(w, n)| all[w] > *n), "commits went on after the recovery point");
    lose_all_but_journals(&host);
    for dir in ["journal1", "journal2"] {
        std::fs::remove_dir_all(sim(&host).instance().join(dir)).expect("the disaster");
        std::fs::create_dir(sim(&host).instance().join(dir)).expect("a new disk");
    }
    // Without them the set alone cannot come to now; it says so, or ends at its own moment.
    let e = run(&host, &to, &[&id, "--journals", text(&far)]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let report = stopped(&host);
    assert_eq!(report["recovered"]["sum"], json!(0), "what was open is rolled back: {report}");
    for (worker, committed) in &until_point {
        let found = report["recovered"]["seq"][worker].as_u64().unwrap_or(0);
        assert!(found >= *committed, "worker {worker}: {committed} were shipped, found {found}");
    }
    // The control: the same judge sees what the set's own moment lacks.
    let early = crate::judge::recorded_until(&host, 0);
    assert!(early.is_empty() && !until_point.is_empty());
}

#[test]
fn shipping_is_killed_at_each_of_its_points_and_goes_on_and_a_damaged_copy_is_named() {
    let (host, to) = stage(true);
    let far = host.disk.path().join("far");
    std::fs::create_dir(&far).unwrap();
    let id = backup(&host, &to);
    let args = ["journals", "ship", "--into", text(&far)];
    let mut killed = 0;
    for point in ["journals.ship.written", "journals.ship.synced", "journals.ship.indexed"] {
        sim(&host).m("USER", "set ^more=$get(^more,0)+1");
        sleep_ms(200);
        host.points.begin(move |seen| {
            if seen.name == point {
                suite::host::kill(seen.pid);
            }
            Reply::Go
        });
        assert_eq!(host.call(&args).code, None, "killed at {point}");
        killed += 1;
        host.points.begin(|_| Reply::Go);
        assert_eq!(host.call(&args).code, Some(0));
        let e = host.call(&["journals", "list", "--into", text(&far), "--verify"]);
        assert_eq!(e.code, Some(0), "{point}: {}", said(&e));
    }
    assert_eq!(killed, 3);
    // What was shipped is what is there, byte by byte.
    let mut same = 0;
    for e in std::fs::read_dir(far.join("IRIS")).unwrap().flatten().filter(|e| e.file_name() != "shipped.json") {
        let live = std::fs::read(sim(&host).instance().join("journal1").join(e.file_name())).unwrap();
        assert!(live.starts_with(&std::fs::read(e.path()).unwrap()), "{:?}", e.file_name());
        same += 1;
    }
    assert!(same >= 2, "{same} files");
    // A copy that is not what was shipped: named, and no restore uses it.
    let copy = std::fs::read_dir(far.join("IRIS")).unwrap().flatten().find(|e| e.file_name() != "shipped.json").unwrap().path();
    let mut bytes = std::fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    let e = host.call(&["journals", "list", "--into", text(&far), "--verify"]);
    assert!(e.code == Some(1) && e.err.contains("Journals.ShipFailed"), "{}", said(&e));
    let e = restore(&host, &["plan", &id, "--to", text(&to), "--journals", text(&far)]);
    assert!(e.code == Some(4) && e.err.contains("shipped journals are damaged"), "{}", said(&e));
    // Into the journals' own directory: that disk is the one that will be lost.
    let own = sim(&host).instance().join("journal1");
    assert_eq!(host.call(&["journals", "ship", "--into", text(&own)]).code, Some(2));
}

/// What IRIS counts as a backup lets it purge journals: only a set that was found whole is counted, once, and only when it is asked for.
#[test]
fn only_a_verified_held_set_enters_the_history_of_backups_and_only_if_the_policy_says_so() {
    let (host, to) = stage(false);
    let counted = || sim(&host).events().iter().filter(|e| e["event"] == "set_history").count();
    let verify = |id: &str| host.call(&["verify", id, "--to", text(&to)]);
    let id = backup(&host, &to);
    assert_eq!((verify(&id).code, counted()), (Some(0), 0), "nobody asked for it");
    host.write_config(&format!("{}\n[backup]\nset_history = true\n", host.config_text()));
    // One that is not whole.
    let torn = backup(&host, &to);
    let copy = to.join(&torn).join("data").join(sim(&host).instance().strip_prefix("/").unwrap()).join("data/t1/IRIS.DAT");
    let mut bytes = std::fs::read(&copy).unwrap();
    bytes[9_000] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    assert_eq!((verify(&torn).code, counted()), (Some(1), 0), "it is not whole");
    for _ in 0..2 {
        let e = verify(&id);
        assert_eq!((e.code, counted()), (Some(0), 1), "once: {}", said(&e));
    }
    let event = sim(&host).events().into_iter().find(|e| e["event"] == "set_history").unwrap();
    assert_eq!(event["description"], format!("snapfreeze {id}"));
    // An instance that does not answer: said, and tried again by the next one.
    let later = backup(&host, &to);
    sim(&host).iris(&["stop", "IRIS", "quietly"]);
    let e = verify(&later);
    assert!(e.code == Some(1) && e.err.contains("history"), "{}", said(&e));
    sim(&host).start();
    assert_eq!((verify(&later).code, counted()), (Some(0), 2));
}
