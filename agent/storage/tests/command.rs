//! The configured helper, played by shell scripts.

#[path = "support/job.rs"]
mod job;

use doors::clock::boot_now;
use doors::exec::{Cancel, Program};
use job::{quiet, request, take, take_by};
use protocol::Code;
use std::collections::BTreeMap;
use std::path::Path;
use storage::snapshot::command::Command;
use storage::snapshot::{Error, Moment, Snapshotter};

fn helper(script: &str) -> Command {
    Command {
        program: Program::find("/bin/sh").unwrap(),
        args: vec!["-c".into(), script.into()],
        env: vec![("REGION".into(), "r1".into())],
        ready_ms: 3_000,
        finish_ms: 3_000,
    }
}
fn dirs() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (db, to) = (dir.path().join("db"), dir.path().join("to"));
    std::fs::create_dir(&db).unwrap();
    std::fs::create_dir(&to).unwrap();
    (dir, db, to)
}
fn empty(to: &Path) -> bool {
    std::fs::read_dir(to).unwrap().next().is_none()
}

#[test]
fn ready_before_go_at_the_moment_and_done_ends_the_window() {
    let (_dir, db, to) = dirs();
    let s = helper(
        r#"echo connecting; echo "READY ms=40"; read go; echo "$go" > "$SNAPFREEZE_SET/heard"
           echo "snapshot=snap-1 volume=vol-1 region=$REGION"; echo '{"snapshot":"snap-2","size":8}'
           echo "id=$SNAPFREEZE_ID"; echo DONE; sleep 1; echo later > "$SNAPFREEZE_SET/later""#,
    );
    let r = request(1, &[&db], &to);
    let plan = s.prepare(&r).unwrap();
    assert_eq!(plan.estimate.ms, 40);
    let (cancel, begun) = (Cancel::new().unwrap(), boot_now());
    let tags: BTreeMap<String, String> = [("snapfreeze:restore-from".into(), "/jrn/1".into())].into();
    let taken = s.take(&plan, &Moment { by: boot_now().plus(9_000), cancel: &cancel, say: &quiet, tags: &tags }).unwrap();
    assert!(boot_now().since(begun) < 900, "DONE ends the window, not the helper's end");
    assert_eq!(taken.produced[0]["snapshot"], "snap-1");
    assert_eq!(taken.produced[0]["region"], "r1");
    assert_eq!((taken.produced[1]["snapshot"].as_str(), taken.produced[1]["size"].as_str()), ("snap-2", "8"));
    assert_eq!(taken.produced[2]["id"], r.id.to_string());
    assert!(!plan.set.join("later").exists());
    s.finish(&plan, true, &quiet).unwrap();
    assert!(plan.set.join("later").exists(), "it was waited for");
    let heard = std::fs::read_to_string(plan.set.join("heard")).unwrap();
    assert_eq!(heard.trim(), r#"GO {"snapfreeze:restore-from":"/jrn/1"}"#);
    assert!(matches!(take(&s, &plan), Err(Error::Helper(_))), "a plan is taken once");
    s.abort(&plan).unwrap();
    assert!(empty(&to));
}

#[test]
fn the_end_with_0_counts_as_done_and_nothing_else_does() {
    let (_dir, db, to) = dirs();
    let table = [
        ("echo READY; read x; echo snapshot=s; exit 0", None),
        ("echo READY; read x; echo snapshot=s; echo no credentials >&2; exit 3", Some("failed with exit 3: no credentials")),
        ("echo READY; read x; exit 0", Some("named no snapshot")),
        ("echo READY; read x; echo DONE", Some("named no snapshot")),
        ("echo READY; read x; echo snapshot=s; kill -9 $$", Some("signal 9")),
        ("echo READY; exit 1", Some("")),
    ];
    for (n, (script, fails)) in table.into_iter().enumerate() {
        let s = helper(script);
        let plan = s.prepare(&request(n as u32, &[&db], &to)).unwrap();
        match (take(&s, &plan), fails) {
            (Ok(_), None) => {}
            (Err(e), Some(why)) => assert!(e.to_string().contains(why), "{script}: {e}"),
            (got, want) => panic!("{script}: {got:?}, expected {want:?}"),
        }
        s.abort(&plan).unwrap();
        assert!(empty(&to));
    }
}

#[test]
fn a_helper_that_is_not_ready_is_refused_and_leaves_nothing() {
    let (_dir, db, to) = dirs();
    let mut s = helper("echo starting; echo 'no route to host' >&2; exit 1");
    let e = s.prepare(&request(1, &[&db], &to)).unwrap_err();
    assert!(e.to_string().contains("no route to host"), "{e}");
    s = helper("sleep 30");
    s.ready_ms = 200;
    let begun = boot_now();
    assert!(s.prepare(&request(1, &[&db], &to)).is_err() && boot_now().since(begun) < 3_000);
    let e = helper("echo READY ms=70000; read x").prepare(&request(1, &[&db], &to)).unwrap_err();
    assert_eq!(e.problem().code, Code::RefusedTooSlow);
    assert!(empty(&to));
}

#[test]
fn deadline_cancel_and_abort_kill_the_helper() {
    let (_dir, db, to) = dirs();
    let mark = to.parent().unwrap().join("alive");
    let s = helper(&format!("echo READY; read x; echo snapshot=s; sleep 2; touch {}", mark.display()));
    let plan = s.prepare(&request(1, &[&db], &to)).unwrap();
    assert!(matches!(take_by(&s, &plan, 300), Err(Error::Late)));
    s.abort(&plan).unwrap();

    let plan = s.prepare(&request(2, &[&db], &to)).unwrap();
    let (cancel, tags) = (Cancel::new().unwrap(), BTreeMap::new());
    let moment = Moment { by: boot_now().plus(9_000), cancel: &cancel, say: &|_| cancel.throw(), tags: &tags };
    assert!(matches!(s.take(&plan, &moment), Err(Error::Cancelled)));
    s.abort(&plan).unwrap();

    let waits = helper(&format!("echo READY; sleep 2; touch {}", mark.display()));
    let plan = waits.prepare(&request(3, &[&db], &to)).unwrap();
    waits.abort(&plan).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert!(!mark.exists(), "a killed helper does nothing more");
    assert!(empty(&to));
}

#[test]
fn after_the_thaw_the_helper_is_told_the_verdict_and_its_end_changes_it_only_when_it_says_so() {
    let (_dir, db, to) = dirs();
    let tags: BTreeMap<String, String> = [("snapfreeze:verdict".into(), "held".into())].into();
    let script = |ready: &str, end: &str| {
        format!("echo 'READY {ready}'; read go; echo snapshot=s; echo DONE; read v; echo \"$v\" > \"$SNAPFREEZE_SET/heard\"; {end}")
    };
    let table = [
        ("ms=1 verdict=yes", "cat > /dev/null; echo NOTE slow", Ok("helper: slow")),
        ("ms=1 verdict=yes", "echo no right >&2; exit 1", Ok("no right")),
        ("ms=1 verdict=yes", "sleep 30", Ok("did not end in time")),
        ("ms=1 verdict=yes", "echo FAILED s is gone", Err("s is gone")),
        ("ms=1", "exit 1", Err("failed with exit 1")),
        ("ms=1", "exit 0", Ok("")),
    ];
    for (n, (ready, end, expected)) in table.into_iter().enumerate() {
        let mut s = helper(&script(ready, end));
        s.finish_ms = 1_500;
        let plan = s.prepare(&request(n as u32, &[&db], &to)).unwrap();
        take(&s, &plan).unwrap();
        s.verdict(&plan, &tags).unwrap();
        match (s.finish(&plan, true, &quiet), expected) {
            (Ok(f), Ok(note)) => assert!(f.notes.iter().any(|n| n.contains(note)), "{end}: {:?}", f.notes),
            (Err(e), Err(why)) => assert!(e.to_string().contains(why), "{end}: {e}"),
            (got, want) => panic!("{end}: {got:?}, expected {want:?}"),
        }
        let heard = std::fs::read_to_string(plan.set.join("heard")).unwrap();
        assert_eq!(heard.trim(), r#"VERDICT {"snapfreeze:verdict":"held"}"#);
        s.abort(&plan).unwrap();
    }
    // One that has ended already, and one that was never told.
    let s = helper("echo READY; read go; echo snapshot=s; exit 0");
    let plan = s.prepare(&request(9, &[&db], &to)).unwrap();
    take(&s, &plan).unwrap();
    s.verdict(&plan, &tags).unwrap();
    s.finish(&plan, true, &quiet).unwrap();
    s.abort(&plan).unwrap();
    assert!(empty(&to));
}
