//! Databases that come and go, and journals applied by hand.

#![allow(clippy::disallowed_methods, reason = "the model is outside the agent's doors")]

mod common;
use common::{Sim, end, pause, verify};
use std::path::PathBuf;

/// What a script prints between two marks.
fn said(sim: &Sim, lines: &str) -> String {
    let out = sim.script(&format!("{lines}\nwrite \"<<\",val,\">>\"\n")).out;
    out.rsplit_once("<<").and_then(|(_, r)| r.split_once(">>")).unwrap_or_else(|| panic!("{out}")).0.to_owned()
}

fn data(sim: &Sim, name: &str) -> PathBuf {
    sim.instance().join("data").join(name)
}

/// The script of the article (ZRestore.Journal), line by line.
fn journal_restore(sim: &Sim, first: &str, last: &str, source: &str, target: &str) -> String {
    said(
        sim,
        &format!(
            "set r=##class(Journal.Restore).%New()\nset r.FirstFile=\"{first}\"\nset r.LastFile=\"{last}\"\n\
             do r.UseJournalLocation(##class(%SYS.Journal.System).GetPrimaryDirectory())\n\
             set s=r.SelectUpdates(\"{source}\")\nset s=r.RedirectDatabase(\"{source}\",\"{target}\")\n\
             set val=r.CheckJournalIntegrity(1)\nset:val val=r.Run()\nset:'val val=$SYSTEM.Status.GetErrorText(val)"
        ),
    )
}

#[test]
fn a_database_is_dismounted_replaced_and_mounted_as_it_lies_there() {
    let sim = Sim::start(&[]);
    let dir = format!("{}/", data(&sim, "t1").display());
    let file = data(&sim, "t1").join("IRIS.DAT");
    sim.script("zn \"T1\"\nset ^x=1\n");
    let call = |method: &str| said(&sim, &format!("set val=##class(SYS.Database).{method}(\"{dir}\")"));
    assert_eq!(call("DismountDatabase"), "1");
    assert!(!data(&sim, "t1").join("iris.lck").exists());
    let old = std::fs::read(&file).expect("the file");
    assert!(sim.script("zn \"T1\"\nwrite ^x\n").out.contains("<DIRECTORY>"), "nothing touches it");
    assert_eq!(call("MountDatabase"), "1");
    sim.script("zn \"T1\"\nset ^x=2\n");
    assert_eq!(call("DismountDatabase"), "1");
    std::fs::write(&file, &old).expect("an older file");
    assert_eq!(call("MountDatabase"), "1");
    assert_eq!(said(&sim, "zn \"T1\"\nset val=^x"), "1", "a mount recovers nothing");
    let check = format!("set val=##class(SYS.Database).SilentIntegrityCheck(\"{}/i\",$lb(\"{dir}\"))", sim.dir.path().display());
    assert_eq!(said(&sim, &check), "1");
    // A block that is damaged on the disk.
    let mut bad = std::fs::read(&file).expect("the file");
    let at = bad.len() - 100;
    bad[at] ^= 1;
    std::fs::write(&file, bad).expect("the damage");
    let check = format!("{check}\nset:'val val=$SYSTEM.Status.GetErrorText(val)");
    assert!(said(&sim, &check).contains("checksum differs"), "{}", said(&sim, &check));
    // A file that is missing at the start stays dismounted, and the others come up.
    sim.iris(&["stop", "IRIS"]);
    std::fs::remove_file(&file).expect("the disaster");
    assert_eq!(sim.iris(&["start", "IRIS"]).code, 0);
    assert!(sim.messages().contains("Failed to mount database"), "{}", sim.messages());
    assert_eq!(said(&sim, "zn \"T2\"\nset ^y=3\nset val=^y"), "3");
}

#[test]
fn journals_are_applied_to_another_directory_and_open_transactions_are_rolled_back_from_required_on() {
    let sim = Sim::start(&[]);
    // The keeper's transaction is open at the freeze; its first change lies in the journal before the switch.
    let load = sim.workload(&["--hold-ms", "60000", "--rate", "200"]);
    pause(500);
    assert_eq!(sim.call("##Class(Backup.General).ExternalFreeze(\"\",\"\",1,,,,600,,,300)").code, 5);
    let state = sim.state();
    let (switched, required) = (state["journal"].as_str().unwrap().to_owned(), state["required"].as_str().unwrap().to_owned());
    assert_ne!(switched, required);
    let image = std::fs::read(data(&sim, "t1").join("IRIS.DAT")).expect("the image");
    assert_eq!(sim.call("##Class(Backup.General).ExternalThaw()").code, 5);
    pause(300);
    // It is still open when the journal rolls; only then it ends, and its rollback is in the next file.
    said(&sim, "set val=##class(%SYS.Journal.System).RollToNextFile(1,.f)");
    end(load);
    let source = format!("{}/", data(&sim, "t1").display());
    let restored = |n: usize, first: &str, last: &str| {
        let to = data(&sim, &format!("rest{n}"));
        std::fs::create_dir(&to).expect("a directory");
        std::fs::write(to.join("IRIS.DAT"), &image).expect("the copy");
        let target = format!("{}/", to.display());
        let made = format!("set p(\"Directory\")=\"{target}\"\nset val=##class(Config.Databases).Create(\"REST{n}\",.p)");
        assert_eq!(said(&sim, &made), "1");
        assert_eq!(journal_restore(&sim, first, last, &source, &target), "1");
        sum(&sim, &format!("REST{n}"))
    };
    let live = sum(&sim, "T1");
    assert!(restored(0, &required, "") == live, "to the end it is what the live database is");
    let (right, wrong) = (restored(1, &required, &switched), restored(2, &switched, &switched));
    assert!(right != wrong, "from switched on, the open transaction's first part stays: the control");
    let wrong = journal_restore(&sim, "20990101.001", "", &source, &source);
    assert!(wrong.contains("20990101.001 not found"), "{wrong}");
    sim.iris(&["stop", "IRIS"]);
    let (code, report) = verify(&sim.instance());
    assert_eq!(code, 1, "three databases of one origin do not add up, and verify says so: {report}");
}

/// All balances of a database, one after the other.
fn sum(sim: &Sim, namespace: &str) -> String {
    if namespace.starts_with("REST") {
        let make = format!("set q(\"Globals\")=\"{namespace}\"\nset val=##class(Config.Namespaces).Create(\"{namespace}\",.q)");
        assert_eq!(said(sim, &make), "1");
    }
    said(sim, &format!("zn \"{namespace}\"\nset val=\"\"\nfor i=0:1:3999 set val=val_$get(^ACCT(i))"))
}

#[test]
fn a_record_that_is_damaged_in_the_middle_is_found_also_in_the_last_file() {
    let sim = Sim::start(&[]);
    for n in 0..20 {
        sim.script(&format!("zn \"T1\"\nset ^x({n})=\"a value of some length {n}\"\n"));
    }
    pause(300);
    let path = sim.state()["journal"].as_str().unwrap().to_owned();
    let source = format!("{}/", data(&sim, "t1").display());
    assert_eq!(journal_restore(&sim, &path, "", &source, &source), "1", "the control");
    said(&sim, "set val=##class(%SYS.Journal.System).RollToNextFile(1,.f)");
    let mut bytes = std::fs::read(&path).expect("the journal");
    let text = b"a value of some length 7";
    let at = bytes.windows(text.len()).position(|w| w == text).expect("the record");
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("the damage");
    let refused = journal_restore(&sim, &path, &path, &source, &source);
    assert!(refused.contains("is corrupted at offset"), "{refused}");
}

#[test]
fn a_freeze_beside_mounts_and_a_foreign_file_harm_nobody() {
    let sim = Sim::start(&[]);
    let other = Sim::start(&[]);
    let dir = format!("{}/", data(&sim, "t1").display());
    // Mounts complete the cycle that a freeze waits for.
    let script = format!(
        "set d=\"{dir}\"\nfor i=1:1:150 set s=##class(SYS.Database).DismountDatabase(d),s=##class(SYS.Database).MountDatabase(d)\n"
    );
    std::thread::scope(|t| {
        t.spawn(|| sim.script(&script));
        for _ in 0..30 {
            assert_eq!(sim.call("##Class(Backup.General).ExternalFreeze()").code, 5);
            assert_eq!(sim.call("##Class(Backup.General).ExternalThaw()").code, 5);
        }
    });
    assert_eq!(said(&sim, &format!("set val=##class(SYS.Database).MountDatabase(\"{dir}\")")), "1");
    // Another instance's file with later journals, and a directory that is gone: T1's commits come back all the same.
    for _ in 0..5 {
        said(&other, "set val=##class(%SYS.Journal.System).RollToNextFile(1,.f)");
    }
    other.iris(&["stop", "IRIS"]);
    sim.script("zn \"T1\"\nset ^kept=1\n");
    pause(200);
    sim.iris(&["force", "IRIS"]);
    std::fs::copy(data(&other, "t2").join("IRIS.DAT"), data(&sim, "t2").join("IRIS.DAT")).expect("the foreign file");
    std::fs::remove_dir_all(sim.instance().join("mgr/user")).expect("a directory that is gone");
    assert_eq!(sim.iris(&["start", "IRIS"]).code, 0, "{}", sim.messages());
    assert_eq!(said(&sim, "zn \"T1\"\nset val=$get(^kept)"), "1");
    assert!(sim.admin("do ^STURECOV\n\n").contains("8) Reset system"), "the vendor's own way has no -U");
}
