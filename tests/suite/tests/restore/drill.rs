//! Drills: one that passes, and those that must fail and do; killed at every step; nothing of the instance that was backed up
//! is touched.

use crate::gtm;
use crate::judge::sim;
use crate::{RESTORE_MS, backup, said, text};
use serde_json::Value;
use std::path::{Path, PathBuf};
use suite::host::{Ended, Host, Reply, Setup, sleep_ms};

const IRIS: &str = "[drill]\ndir = \"{disk}/drills\"\ninstance = \"DRILL\"\n[drill.sentinel.IRIS]\ndatabase = \"{disk}/iris/iris/data/t1\"\nglobal = \"^SnapfreezeSentinel\"\n";
const GTM: &str =
    "[drill]\ndir = \"{disk}/drills\"\n[drill.sentinel.T1]\ndatabase = \"{disk}/gtm/db/default.dat\"\nglobal = \"^SnapfreezeSentinel\"\n";

fn stage() -> (Host, PathBuf) {
    let host = Host::iris(Setup { workload: true, hold_ms: 3_000, more: IRIS.into(), ..Setup::default() });
    sim(&host).install_another("DRILL");
    std::fs::create_dir(host.disk.path().join("drills")).expect("a directory");
    let to = host.disk.path().join("sets");
    (host, to)
}

fn drill(host: &Host, to: &Path, id: &str) -> Ended {
    host.spawn(&["drill", id, "--to", text(to)]).wait(RESTORE_MS)
}

/// Place and instance are as they were before.
fn is_tidy(host: &Host) {
    assert_eq!(std::fs::read_dir(host.disk.path().join("drills")).unwrap().count(), 0, "the place is removed");
    assert!(!host.state_dir().join("drill-under-way.json").exists());
    if let suite::host::Engine::Iris(s) = &host.engine {
        let (_, list) = s.iris(&["list", "DRILL"]);
        assert!(list.contains("down"), "the instance for drills is down: {list}");
        let cpf = std::fs::read_to_string(s.root.join("drill/iris.cpf")).expect("its configuration");
        assert!(!cpf.contains("SFDRILL"), "{cpf}");
    }
}

/// `list`'s and `check`'s word of it.
fn shown(host: &Host, to: &Path, instance: &str) -> (String, String, String) {
    let list = host.call(&["list", "--to", text(to)]);
    let check = host.call(&["check", "--to", text(to), "--json"]);
    let lines = check.out.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let line = lines.into_iter().find(|v| v["name"] == format!("{instance} drill")).expect("a line");
    (list.out, line["level"].as_str().unwrap_or_default().into(), line["text"].as_str().unwrap_or_default().into())
}

fn failed(e: &Ended, why: &str) {
    assert!(e.code == Some(1) && e.err.contains("Drill.Failed") && e.err.contains(why), "{why}: {}", said(e));
}

#[test]
fn a_drill_of_iris_passes_once_and_the_same_data_proves_nothing_a_second_time() {
    let (host, to) = stage();
    let id = backup(&host, &to);
    let (list, level, check) = shown(&host, &to, "IRIS");
    assert!(list.contains("never drilled") && level == "warn" && check.contains("never drilled"), "{list}{check}");
    let before = sim(&host).m("T1", "write $get(^SnapfreezeSentinel)");
    let e = drill(&host, &to, &id);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    assert!(e.out.contains("DRILLED: IRIS comes back"), "{}", said(&e));
    is_tidy(&host);
    assert_eq!(sim(&host).m("T1", "write $get(^SnapfreezeSentinel)"), before, "a drill writes nothing where users work");
    let (list, level, check) = shown(&host, &to, "IRIS");
    assert!(list.contains("passed 20") && level == "ok" && check.contains(&id), "{list}{check}");
    // Frozen data that is replayed: it cannot fail, so it proves nothing.
    failed(&drill(&host, &to, &id), "which an earlier drill has shown already");
    is_tidy(&host);
    let (list, level, check) = shown(&host, &to, "IRIS");
    assert!(list.contains("FAILED 20") && level == "fail" && check.contains("stale"), "{list}{check}");
    // A newer one does.
    let id = backup(&host, &to);
    let e = drill(&host, &to, "latest");
    assert_eq!(e.code, Some(0), "{}", said(&e));
    assert_eq!(shown(&host, &to, "IRIS").1, "ok");
    // The record is of this set and by this host's key: one that somebody changed proves nothing.
    let dir = to.join(&id).join("drills");
    let file = std::fs::read_dir(&dir).unwrap().flatten().next().unwrap().path();
    let record = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, record.replace("\"last_journal\": \"", "\"last_journal\": \"9")).unwrap();
    let list = shown(&host, &to, "IRIS").0;
    assert!(list.contains("not signed by a trusted key"), "{list}");
    let metrics = host.call(&["metrics", "--to", text(&to)]);
    assert!(metrics.out.contains("snapfreeze_last_drill_passed_timestamp_seconds 1"), "{}", metrics.out);
}

#[test]
fn a_drill_rolls_the_shipped_journals_forward_and_fails_without_one_of_them() {
    let (host, to) = stage();
    let far = host.disk.path().join("far");
    std::fs::create_dir(&far).unwrap();
    let id = backup(&host, &to);
    let roll = || _ = sim(&host).m("%SYS", "do ##class(%SYS.Journal.System).RollToNextFile(1,.f)");
    let ship = || assert_eq!(host.call(&["journals", "ship", "--into", text(&far)]).code, Some(0));
    roll();
    sleep_ms(50);
    let wrote = host.call(&["sentinel", "--json"]);
    assert_eq!(wrote.code, Some(0), "{}", said(&wrote));
    let at = serde_json::from_str::<Value>(wrote.out.lines().next().expect("a line")).expect("JSON")["at"].as_i64().expect("a moment");
    roll();
    roll();
    ship();
    let drill = || host.spawn(&["drill", &id, "--to", text(&to), "--journals", text(&far), "--json"]).wait(RESTORE_MS);
    let record =
        |e: &Ended| e.out.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).find(|v| v["type"] == "drill").expect("a record");
    // Missing: the one in the middle, where the sentinel is.
    let mut all: Vec<PathBuf> = std::fs::read_dir(far.join("IRIS")).unwrap().flatten().map(|e| e.path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| e != "json"));
    all.sort();
    let middle = &all[all.len() - 2];
    let name = middle.file_name().unwrap().to_string_lossy().into_owned();
    let index = far.join("IRIS/shipped.json");
    let whole = std::fs::read_to_string(&index).unwrap();
    let mut without: Value = serde_json::from_str(&whole).unwrap();
    assert!(without["files"].as_object_mut().unwrap().remove(&name).is_some(), "{name}");
    std::fs::write(&index, without.to_string()).unwrap();
    let e = drill();
    assert!(e.code == Some(1) && record(&e)["why"].as_str().unwrap().contains(&name), "{name}: {}", said(&e));
    is_tidy(&host);
    std::fs::write(&index, whole).unwrap();
    // Whole: the sentinel that was written after the backup is there.
    let e = drill();
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let shown = record(&e);
    assert_eq!(shown["sentinel"], at, "the journals were rolled forward: {shown}");
    // The control: without the shipped ones the set's own moment is older, and was shown already.
    failed(&super::drill::drill(&host, &to, &id), "stale");
}

#[test]
fn drills_that_must_fail_do_and_are_on_record() {
    let (host, to) = stage();
    let t1 = sim(&host).instance().join("data/t1");
    let mut failures = 0;
    let mut fails = |id: &str, why: &str| {
        failed(&drill(&host, &to, id), why);
        is_tidy(&host);
        let (list, level, check) = shown(&host, &to, "IRIS");
        assert!(list.contains("FAILED 20") && level == "fail" && check.contains(why), "{list}{check}");
        failures += 1;
    };
    // No sentinel in the image: it was killed after the backup had written it.
    let no_sentinel = |host: &Host| {
        let iris = sim(host).bin("iris");
        host.points.begin(move |seen| {
            if seen.name == "caller.freeze.before" {
                let mut c = std::process::Command::new(&iris);
                c.args(["session", "IRIS", "-U", "T1"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
                let mut child = c.spawn().expect("a session");
                std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"kill ^SnapfreezeSentinel\nhalt\n").unwrap();
                child.wait().expect("it ends");
            }
            Reply::Go
        });
    };
    no_sentinel(&host);
    let id = backup(&host, &to);
    host.points.begin(|_| Reply::Go);
    fails(&id, "no sentinel");
    // A stale image: what was copied is of long ago, though it was called held.
    sim(&host).m("T1", "set ^SnapfreezeSentinel=1500000000000");
    let broken = host.config_text().replace("\"^SnapfreezeSentinel\"", "\"^Other\"");
    host.write_config(&broken);
    let id = backup(&host, &to);
    host.write_config(&host.config_text());
    fails(&id, "stale");
    // A torn image, and a list that says so: only the engine can tell.
    let id = backup(&host, &to);
    let copy = to.join(&id).join("data").join(t1.strip_prefix("/").unwrap()).join("IRIS.DAT");
    let whole = std::fs::read(&copy).unwrap();
    let mut bytes = whole.clone();
    bytes[8192 * 4 + 100..8192 * 4 + 164].fill(0x55);
    std::fs::write(&copy, &bytes).unwrap();
    // Without the new list it is the copy that differs.
    fails(&id, "other content");
    crate::troubles::relist(&to.join(&id), &copy);
    fails(&id, "checksum differs");
    // The set's own journal is gone.
    let id = backup(&host, &to);
    let list = to.join(&id).join("files.jsonl");
    let journal = to.join(&id).join("data").join(sim(&host).instance().join("journal1").strip_prefix("/").unwrap());
    let newest = std::fs::read_dir(&journal).unwrap().flatten().map(|e| e.path()).max().unwrap();
    std::fs::remove_file(&newest).unwrap();
    assert!(list.exists());
    fails(&id, "could not read");
    assert_eq!(failures, 5);
    // And the judge lets a good one pass.
    backup(&host, &to);
    assert_eq!(drill(&host, &to, "latest").code, Some(0));
}

#[test]
fn what_is_wrong_here_is_refused_and_says_nothing_about_the_backup() {
    let (host, to) = stage();
    let id = backup(&host, &to);
    let refused = |why: &str| {
        let e = drill(&host, &to, &id);
        assert!(e.code == Some(4) && e.err.contains("Restore.Impossible") && e.err.contains(why), "{why}: {}", said(&e));
        is_never(&host, &to);
    };
    // Somebody works with it.
    let (code, text_of) = sim(&host).iris(&["start", "DRILL", "quietly"]);
    assert_eq!(code, Some(0), "{text_of}");
    refused("somebody works with it");
    let (_, list) = sim(&host).iris(&["list", "DRILL"]);
    assert!(list.contains("running"), "it was left alone: {list}");
    sim(&host).iris(&["stop", "DRILL", "quietly"]);
    for (was, is, why) in [
        ("instance = \"DRILL\"", "instance = \"IRIS\"", "is the instance that is backed up"),
        ("instance = \"DRILL\"", "instance = \"NONE\"", "is not installed here"),
        ("instance = \"DRILL\"\n", "\n", "no instance for drills is configured"),
        ("[drill.sentinel.IRIS]", "[drill.sentinel.OTHER]", "a drill that cannot fail proves nothing"),
    ] {
        let text = host.config_text();
        assert!(text.contains(was), "{was}");
        host.write_config(&text.replace(was, is));
        refused(why);
    }
    host.write_config(&host.config_text());
    // Somebody starts it while the copies are made: it is not the drill's to stop, and no word about the backup.
    let iris = sim(&host).bin("iris");
    host.points.begin(move |seen| {
        if seen.name == "drill.start-for-administrator" {
            let started =
                std::process::Command::new(&iris).args(["start", "DRILL", "quietly"]).stdout(std::process::Stdio::null()).status();
            assert!(started.expect("iris").success());
        }
        Reply::Go
    });
    refused("started meanwhile");
    let (_, list) = sim(&host).iris(&["list", "DRILL"]);
    assert!(list.contains("running"), "it was left alone: {list}");
    host.points.begin(|_| Reply::Go);
    sim(&host).iris(&["stop", "DRILL", "quietly"]);
    is_tidy(&host);
    assert_eq!(drill(&host, &to, &id).code, Some(0));
}

fn is_never(host: &Host, to: &Path) {
    let e = host.call(&["list", "--to", text(to)]);
    assert!(e.out.contains("never drilled"), "{}", said(&e));
}

#[test]
fn a_drill_that_is_killed_at_any_step_is_tidied_by_the_next_and_users_never_notice() {
    let (host, to) = stage();
    backup(&host, &to);
    host.points.begin(|_| Reply::Go);
    let e = drill(&host, &to, "latest");
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let points: Vec<String> = host.points.seen().into_iter().map(|s| s.name).filter(|n| n.starts_with("drill.")).collect();
    assert!(points.len() >= 30, "{points:?}");
    let mut killed = 0;
    for (n, point) in points.iter().enumerate() {
        // Each of the repeated ones once is enough: the first and the last.
        let (nth, of) = (points[..=n].iter().filter(|p| *p == point).count(), points.iter().filter(|p| *p == point).count());
        if nth != 1 && nth != of {
            continue;
        }
        let (wanted, mut met) = (point.clone(), 0);
        host.points.begin(move |seen| {
            met += usize::from(seen.name == wanted);
            if met == nth && seen.name == wanted {
                suite::host::kill(seen.pid);
            }
            Reply::Go
        });
        let e = drill(&host, &to, "latest");
        assert_eq!(e.code, None, "killed at {point}: {}", said(&e));
        killed += 1;
        host.points.begin(|_| Reply::Go);
        assert_eq!(sim(&host).m("T1", "write 1"), "1", "{point}: users work on");
        let e = host.spawn(&["drill", "--tidy"]).wait(RESTORE_MS);
        assert_eq!(e.code, Some(0), "{point}: {}", said(&e));
        assert_eq!(std::fs::read_dir(host.disk.path().join("drills")).unwrap().count(), 0, "{point}");
        assert!(sim(&host).iris(&["list", "DRILL"]).1.contains("down"), "{point}");
    }
    println!("{killed} kills");
    assert!(killed >= 12, "{killed}");
    // Whatever they left in the configuration of the instance for drills, the next one goes its way.
    backup(&host, &to);
    let e = drill(&host, &to, "latest");
    assert_eq!(e.code, Some(0), "{}", said(&e));
    is_tidy(&host);
}

#[test]
fn a_drill_of_a_real_gtm_passes_and_fails() {
    let Some(s) = gtm::stage_with("a_drill_of_a_real_gtm_passes_and_fails", GTM) else { return };
    let (host, to) = (&s.host, &s.to);
    std::fs::create_dir(host.disk.path().join("drills")).unwrap();
    let id = backup(host, to);
    let e = drill(host, to, &id);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    is_tidy(host);
    assert!(host.call(&["list", "--to", text(to)]).out.contains("passed 20"));
    failed(&drill(host, to, &id), "stale");
    // Torn: a block of the database is of nowhere. The list was made anew, so that only `mupip integ` can tell.
    let id = backup(host, to);
    let copy = to.join(&id).join("data").join(host.disk.path().join("gtm/db/acc.dat").strip_prefix("/").unwrap());
    let mut bytes = std::fs::read(&copy).unwrap();
    // Behind what V7 keeps for its header (4 MiB): the first blocks in use.
    bytes[(4 << 20) + 12_288..(4 << 20) + 40_000].fill(0x55);
    std::fs::write(&copy, &bytes).unwrap();
    crate::troubles::relist(&to.join(&id), &copy);
    failed(&drill(host, to, &id), "step ");
    is_tidy(host);
    // Missing journal: the set lacks the live one of a region.
    let id = backup(host, to);
    let journal = to.join(&id).join("data").join(host.disk.path().join("gtm/jnl/acc.mjl").strip_prefix("/").unwrap());
    std::fs::remove_file(&journal).unwrap();
    failed(&drill(host, to, &id), "acc.mjl");
    // No sentinel.
    let text_of = host.config_text().replace("^SnapfreezeSentinel", "^Nothing");
    let id = backup(host, to);
    host.write_config(&text_of);
    failed(&drill(host, to, &id), "no sentinel");
    host.write_config(&host.config_text());
    let e = drill(host, to, &id);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    is_tidy(host);
}
