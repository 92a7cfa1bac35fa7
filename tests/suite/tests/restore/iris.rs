//! The article's exercise, and the vendor's three procedures with a workload that was running at the freeze and went on after it.

use crate::bed::{crash_later, data, lose_all_but_journals, run, stage, stage_with};
use crate::judge::{asides, recorded, sim, stopped, whole};
use crate::{backup, said, text};
use serde_json::json;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use suite::host::{Reply, sleep_ms};

#[test]
fn the_exercise_of_the_article() {
    let (host, to) = stage(false);
    let (t1, rest) = (data(&host, "t1"), data(&host, "t1rest"));
    // 1 to 3: data, the backup, the journal that it switched to.
    sim(&host).m("T1", "set ^prebackup=1");
    let id = backup(&host, &to);
    let verified = host.call(&["verify", &id, "--to", text(&to)]);
    assert!(verified.out.contains("messages.log ends with the freeze"), "{}", said(&verified));
    let shown = host.call(&["show", &id, "--to", text(&to), "--json"]);
    let entry: serde_json::Value = serde_json::from_str(shown.out.lines().next().expect("a line")).expect("JSON");
    let switched = entry["restore_from"][0].as_str().expect("a journal").to_owned();
    let reason = sim(&host).m("%SYS", &format!("write ##class(%SYS.Journal.File).GetReason(\"{switched}\")"));
    assert_eq!(reason, "by backup");
    // 4, 5: later data, seen in the journal, under the directory of T1.
    sim(&host).m("T1", "set ^postbackup=1");
    sleep_ms(300);
    let bytes = std::fs::read(&switched).expect("the journal");
    assert!(bytes.windows(12).any(|w| w == b"^postbackup\""), "4 is in the journal");
    // 6: dismounted, deleted with its namespace, the disk is lost.
    let dir = format!("{}/", t1.display());
    let code = [
        format!("write ##class(SYS.Database).DismountDatabase(\"{dir}\")"),
        "write ##class(Config.Namespaces).Delete(\"T1\")".into(),
        "write ##class(Config.Databases).Delete(\"T1\")".into(),
    ];
    for line in code {
        assert_eq!(sim(&host).m("%SYS", &line), "1", "{line}");
    }
    std::fs::remove_dir_all(&t1).expect("the disaster");
    // 7 to 9: database and namespace again, in another directory; the instance stays up.
    let into = format!("{}={}", t1.display(), rest.display());
    let words = [id.as_str(), "--database", text(&t1), "--into", &into];
    let e = run(&host, &to, &[&words[..], &["--until", "backup", "--online"]].concat());
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let read = "write $get(^prebackup,0)_$get(^postbackup,0)";
    assert_eq!(sim(&host).m("T1", read), "10", "{}", said(&e));
    // A namespace shows it now: users could write, so it is not replaced while they can.
    let e = run(&host, &to, &[&words[..], &["--online"]].concat());
    assert!(e.code == Some(4) && e.err.contains("users could write"), "{}", said(&e));
    // 10, 11: the journals, redirected to where the database is now.
    let e = run(&host, &to, &words);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    assert!(e.out.contains("users may connect now"), "{}", said(&e));
    assert_eq!(sim(&host).m("T1", read), "11", "{}", said(&e));
    assert_eq!(asides(&host).len(), 1, "the first copy is kept aside");
    stopped(&host);
}

#[test]
fn one_database_is_restored_while_the_others_roll_forward_and_nobody_gets_in_before_the_end() {
    // Whether the rollback of a start names a database that was not there no source says: here it does not.
    let (mut host, to) = stage_with(true, &["--partial-rollback"]);
    let id = backup(&host, &to);
    crash_later(&mut host);
    let committed = recorded(&host);
    let t1 = data(&host, "t1");
    std::fs::write(t1.join("IRIS.DAT"), b"not a database").expect("the disaster");
    // A client that tries to log in every 100 ms.
    let (end, got_in) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let last_step = Arc::new(Mutex::new(None));
    let (iris, stop, times) = (sim(&host).bin("iris"), end.clone(), got_in.clone());
    let tries = std::thread::spawn(move || {
        let mut tries = 0;
        while !stop.load(Ordering::SeqCst) {
            let call = ["session", "IRIS", "-U%SYS", "##Class(Backup.General).IsWDSuspendedExt()"];
            let code = Command::new(&iris).args(call).stdin(Stdio::null()).stdout(Stdio::null()).status().expect("iris").code();
            tries += 1;
            if code == Some(3) {
                times.lock().expect("no panic").push(doors::clock::boot_now().0);
            }
            sleep_ms(100);
        }
        tries
    });
    let at = last_step.clone();
    host.points.begin(move |seen| {
        // A real instance takes its time; so the client has tries at every step.
        sleep_ms(150);
        if seen.name == "restore.start-for-users.before" {
            *at.lock().expect("no panic") = Some(seen.at_ms);
        }
        Reply::Go
    });
    let e = run(&host, &to, &[&id, "--database", text(&t1)]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    sleep_ms(400);
    end.store(true, Ordering::SeqCst);
    let tries = tries.join().expect("no panic");
    let last_step = last_step.lock().expect("no panic").expect("the last step was reached");
    let got_in = got_in.lock().expect("no panic").clone();
    assert!(tries > 10, "{tries}");
    assert!(got_in.iter().all(|t| *t >= last_step), "let in before the end: {got_in:?}, the last step began at {last_step}");
    assert!(!got_in.is_empty(), "at the end users may connect");
    assert_eq!(std::fs::read(asides(&host)[0].join("IRIS.DAT")).expect("kept aside"), b"not a database");
    assert_eq!(whole(&stopped(&host), &committed), Ok(()), "{}", said(&e));
}

fn whole_system(wij: &str) {
    let (mut host, to) = stage(true);
    let id = backup(&host, &to);
    crash_later(&mut host);
    let committed = recorded(&host);
    lose_all_but_journals(&host);
    // To the backup's moment: what came later is not there. The same judge then misses commits: it can fail.
    let e = run(&host, &to, &[&id, "--wij", wij, "--until", "backup"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    assert_eq!(sim(&host).m("USER", "write $get(^postbackup,0)"), "0");
    let report = stopped(&host);
    assert_eq!(report["recovered"]["sum"], json!(0), "open transactions are rolled back: {report}");
    assert!(whole(&report, &committed).is_err(), "the control: {report}");
}

#[test]
fn a_whole_system_to_the_backups_moment_with_its_wij() {
    whole_system("backup");
}

#[test]
fn a_whole_system_to_the_backups_moment_without_a_wij() {
    whole_system("without");
}

#[test]
fn a_whole_system_comes_back_to_the_last_commit_with_the_wij_of_the_backup_and_without_one() {
    for wij in ["backup", "without"] {
        let (mut host, to) = stage(true);
        let id = backup(&host, &to);
        crash_later(&mut host);
        let committed = recorded(&host);
        lose_all_but_journals(&host);
        let e = run(&host, &to, &[&id, "--wij", wij]);
        assert_eq!(e.code, Some(0), "{wij}: {}", said(&e));
        assert_eq!(sim(&host).m("USER", "write $get(^postbackup,0)"), "1", "{wij}: {}", said(&e));
        assert_eq!(whole(&stopped(&host), &committed), Ok(()), "{wij}: {}", said(&e));
    }
}
