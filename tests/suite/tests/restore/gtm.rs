//! The exercise of the InterSystems Japan article (steps 1 to 11), the same story on a real GT.M.

use crate::{backup, restore, said, text};
use std::path::{Path, PathBuf};
use suite::gtm::GtmDb;
use suite::host::{Engine, Host, Setup, sleep_ms};

pub struct Stage {
    pub host: Host,
    pub to: PathBuf,
}

fn stage(test: &str) -> Option<Stage> {
    stage_with(test, "")
}

pub fn stage_with(test: &str, more: &str) -> Option<Stage> {
    let setup = Setup { hold_ms: 3_000, more: more.into(), ..Setup::default() };
    let host = Host::gtm(setup, test)?;
    let to = host.disk.path().join("sets");
    Some(Stage { host, to })
}

impl Stage {
    fn db(&self) -> &GtmDb {
        match &self.host.engine {
            Engine::Gtm(g) => &g.db,
            Engine::Iris(_) => panic!("a host of GT.M"),
        }
    }
    /// Workload, watcher: nobody has it open any more.
    fn leave(&mut self) {
        if let Engine::Gtm(g) = &mut self.host.engine {
            g.leave();
        }
    }
    fn set(&self, code: &str) {
        self.db().must(self.db().m(code)).expect("M code runs");
    }
    /// The last commit that the workload wrote down.
    fn recorded(&self) -> u64 {
        let text = std::fs::read_to_string(self.host.run.path().join("record")).expect("a record");
        text.lines().filter_map(|l| l.split(' ').next()?.parse().ok()).max().expect("commits")
    }
    fn file(&self, name: &str) -> PathBuf {
        self.db().dir.join("db").join(name)
    }
    fn restore(&self, words: &[&str]) -> suite::host::Ended {
        let mut all = words.to_vec();
        all.extend(["--to", text(&self.to)]);
        restore(&self.host, &all)
    }
}

/// Value of a global in files that lie in `dir`, by a global directory of their own.
fn value(db: &GtmDb, dir: &Path, code: &str) -> String {
    let copy = db.copied(dir).expect("a global directory");
    copy.m(code).expect("M code runs").trim().to_owned()
}

#[test]
fn the_exercise_of_the_article_on_a_real_gtm() {
    let Some(mut s) = stage("the_exercise_of_the_article_on_a_real_gtm") else { return };
    // 1 to 3: data, the backup, the journal that it switched to.
    s.set("set ^prebackup=1");
    let id = backup(&s.host, &s.to);
    let shown = s.host.call(&["show", &id, "--to", text(&s.to)]);
    assert!(shown.out.contains("default.mjl_"), "the closed journal is in the set: {}", shown.out);
    // 4, 5: later data, seen in the journal.
    s.set("set ^postbackup=1 view \"JNLFLUSH\"");
    sleep_ms(300);
    // Fences off: of a transaction that is written right now one region's side may be missing, and then all that follows is "lost".
    let live = s.db().dir.join("jnl/default.mjl");
    let extract = s.host.disk.path().join("extract");
    s.host.until("4 is in the journal", 20_000, || {
        let _ = std::fs::remove_file(&extract);
        let words = ["journal", &format!("-extract={}", text(&extract)), "-forward", "-fences=none", text(&live)];
        s.db().must(s.db().mupip(&words)).expect("an extract");
        std::fs::read_to_string(&extract).expect("an extract").contains("^postbackup")
    });
    s.leave();
    let recorded = s.recorded();
    // 6, 7: the disk of the database is lost; it is to come back elsewhere.
    let lost = s.file("default.dat");
    std::fs::remove_file(&lost).expect("the disaster");
    std::fs::remove_file(s.file("acc.dat")).expect("the disaster");
    let elsewhere = s.host.disk.path().join("rest");
    let into = |name: &str| format!("{}={}", text(&s.file(name)), text(&elsewhere.join(name)));
    let (default, acc) = (into("default.dat"), into("acc.dat"));
    // 8, 9: what was before the backup is there, what came later is not.
    let e = s.restore(&["run", &id, "--into", &default, "--into", &acc, "--until", "backup", "--yes"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let code = "write $get(^prebackup,0),$get(^postbackup,0)";
    assert_eq!(value(s.db(), &elsewhere, code), "10", "{}", said(&e));
    // 10, 11: the journals, redirected to where the database is now.
    let e = s.restore(&["run", &id, "--into", &default, "--into", &acc, "--yes"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    assert_eq!(value(s.db(), &elsewhere, code), "11", "{}", said(&e));
    let last = s.db().copied(&elsewhere).and_then(|c| c.last_numbers()).expect("numbers");
    assert!(last.len() == 2 && last.iter().all(|n| *n >= recorded), "every recorded commit is there: {last:?} of {recorded}");
    assert!(!lost.exists(), "the old place is not touched");
    let aside: Vec<_> = std::fs::read_dir(&elsewhere).unwrap().flatten().filter(|e| e.path().is_dir()).collect();
    assert_eq!(aside.len(), 1, "the first copy is kept aside");
}

#[test]
fn a_gtm_database_in_use_or_without_its_journal_is_refused_and_in_its_own_place_it_goes_on() {
    let Some(mut s) = stage("a_gtm_database_in_use_or_without_its_journal_is_refused_and_in_its_own_place_it_goes_on") else { return };
    let id = backup(&s.host, &s.to);
    sleep_ms(300);
    let e = s.restore(&["run", &id, "--yes"]);
    assert_eq!(e.code, Some(4), "{}", said(&e));
    assert!(e.err.contains("Restore.Impossible") && e.err.contains("open"), "{}", said(&e));
    s.leave();
    let recorded = s.recorded();
    // A journal that is gone is named, and nothing was changed.
    let live = s.db().dir.join("jnl/acc.mjl");
    let away = s.host.disk.path().join("acc.mjl");
    std::fs::rename(&live, &away).unwrap();
    let e = s.restore(&["run", &id, "--yes"]);
    assert!(e.code == Some(4) && e.err.contains("acc.dat is missing"), "{}", said(&e));
    assert!(s.file("acc.dat").exists() && s.file("default.dat").exists());
    std::fs::rename(&away, &live).unwrap();
    // Nobody to ask, and no --yes.
    let e = s.restore(&["run", &id]);
    assert_eq!(e.code, Some(2), "{}", said(&e));
    let e = s.restore(&["run", &id, "--yes"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    for global in ["default", "acc"] {
        let out = s.db().must(s.db().m(&format!("write +$order(^{global}(\"r\"),-1)"))).expect("it is used as before");
        let last: u64 = out.out().trim().parse().expect("a number");
        assert!(last >= recorded, "{global}: {last} of {recorded}: {}", said(&e));
    }
    // Journaling is on again: the next backup holds.
    s.set("set ^afterwards=1");
    backup(&s.host, &s.to);
}

/// GT.M says `Recover successful` and ends with 0; the committed transactions that it left out stand in a `.lost` file.
#[test]
fn a_roll_forward_that_leaves_committed_transactions_out_is_a_failure() {
    use engine::restore::Restorer;
    let Some(mut s) = stage("a_roll_forward_that_leaves_committed_transactions_out_is_a_failure") else { return };
    let id = backup(&s.host, &s.to);
    sleep_ms(300);
    s.leave();
    let was = s.file("default.dat");
    let to = s.host.disk.path().join("rest.dat");
    std::fs::copy(s.to.join(id).join("data").join(was.strip_prefix("/").unwrap()), &to).unwrap();
    let gtm = engine::gtm::Gtm::new(s.db().config("T1")).unwrap();
    gtm.act(&recovery::Action::Rundown { file: to.clone() }, &|_| {}).unwrap();
    // One region's journal without the other's.
    let forward = recovery::Action::RollForward { journals: vec![s.db().dir.join("jnl/default.mjl")], redirect: vec![(was, to)] };
    let failed = gtm.act(&forward, &|_| {}).unwrap_err();
    assert!(failed.why.contains("left committed transactions out") && failed.why.contains("default.lost"), "{failed:?}");
    assert!(failed.anew && failed.next.contains("restore abandon"), "{failed:?}");
}

/// Killed at each of its points; resumed, or, in the one step that cannot be repeated, given up and begun anew: the same end, and the
/// original untouched.
#[test]
fn a_restore_of_gtm_that_is_killed_at_any_step_goes_on_or_begins_anew() {
    use suite::host::Reply;
    let Some(mut s) = stage("a_restore_of_gtm_that_is_killed_at_any_step_goes_on_or_begins_anew") else { return };
    let id = backup(&s.host, &s.to);
    s.set("set ^postbackup=1");
    sleep_ms(300);
    s.leave();
    let recorded = s.recorded();
    let original = std::fs::read(s.file("default.dat")).unwrap();
    let into = |dir: &Path, name: &str| format!("{}={}", text(&s.file(name)), text(&dir.join(name)));
    let round = |n: usize| s.host.disk.path().join(format!("rest{n}"));
    let run = |n: usize| {
        let (default, acc) = (into(&round(n), "default.dat"), into(&round(n), "acc.dat"));
        s.restore(&["run", &id, "--into", &default, "--into", &acc, "--yes"])
    };
    s.host.points.begin(|_| Reply::Go);
    let e = run(0);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let points: Vec<String> = s.host.points.seen().into_iter().map(|p| p.name).filter(|n| n.starts_with("restore.")).collect();
    assert!(points.len() >= 14, "{points:?}");
    let (mut killed, mut anew) = (0, 0);
    for (n, point) in points.iter().enumerate() {
        let nth = points[..=n].iter().filter(|p| *p == point).count();
        let (wanted, mut met) = (point.clone(), 0);
        s.host.points.begin(move |seen| {
            met += usize::from(seen.name == wanted);
            if met == nth && seen.name == wanted {
                suite::host::kill(seen.pid);
            }
            Reply::Go
        });
        let e = run(n + 1);
        assert_eq!(e.code, None, "killed at {point}: {}", said(&e));
        killed += 1;
        s.host.points.begin(|_| Reply::Go);
        let mut at = n + 1;
        if point != "restore.end" {
            let e = restore(&s.host, &["resume", "--yes"]);
            if e.code != Some(0) {
                // Rolled forward already, and nobody had written it down.
                assert!(point == "restore.roll-forward.after" && e.err.contains("restore abandon"), "{point}: {}", said(&e));
                assert_eq!(restore(&s.host, &["abandon"]).code, Some(0));
                (at, anew) = (1_000 + n, anew + 1);
                let e = run(at);
                assert_eq!(e.code, Some(0), "{point}: {}", said(&e));
            }
        }
        let last = s.db().copied(&round(at)).and_then(|c| c.last_numbers()).expect("numbers");
        assert!(last.iter().all(|n| *n >= recorded), "{point}: {last:?} of {recorded}");
        assert_eq!(value(s.db(), &round(at), "write $get(^postbackup,0)"), "1", "{point}");
    }
    println!("{killed} kills, {anew} begun anew");
    assert!(killed >= 14);
    assert_eq!(std::fs::read(s.file("default.dat")).unwrap(), original, "the original is untouched");
}

/// Databases, journals and global directory are lost: the set has them all.
#[test]
fn a_gtm_host_that_lost_everything_comes_back_from_the_set_alone() {
    let Some(mut s) = stage("a_gtm_host_that_lost_everything_comes_back_from_the_set_alone") else { return };
    s.set("set ^prebackup=1");
    let id = backup(&s.host, &s.to);
    s.set("set ^postbackup=1");
    s.leave();
    let gld = s.db().gld();
    for lost in ["db", "jnl"] {
        std::fs::remove_dir_all(s.db().dir.join(lost)).expect("the disaster");
    }
    std::fs::create_dir_all(gld.parent().unwrap()).expect("a directory");
    std::fs::write(&gld, "what an installation brought").expect("another one");
    // Without it the journals are missed, and it says so.
    let e = s.restore(&["run", &id, "--yes"]);
    assert!(e.code == Some(4) && e.err.contains("is missing"), "{}", said(&e));
    let e = s.restore(&["run", &id, "--everything", "--yes"]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    let out = s.db().must(s.db().m("write $get(^prebackup,0),$get(^postbackup,0)")).expect("it is used as before");
    assert_eq!(out.out().trim(), "10", "{}", said(&e));
    let aside = gld
        .parent()
        .unwrap()
        .read_dir()
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("snapfreeze-aside"))
        .count();
    assert_eq!(aside, 1, "what was there is kept");
    backup(&s.host, &s.to);
}
