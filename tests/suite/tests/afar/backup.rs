//! A host-held backup by the configuration alone, as the SSM document calls it: a helper that is told tags and verdict.

use super::{answer, frozen_times, host, seen_as};
use doors::clock::wall_now;
use protocol::wire::BackupReply;
use protocol::{Code, Verdict};
use serde_json::Value;
use suite::host::{Ended, Host, new_id};

/// `$D`: where the helper writes what it heard.
fn with_helper(script: &str) -> Host {
    let h = host("");
    let text = std::fs::read_to_string(h.config_path()).unwrap();
    let script = script.replace("$D", &h.disk.path().display().to_string());
    super::reconfigure(&h, &format!("{text}[backup]\nsnapshotter = \"command\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n"));
    h
}

const GOOD: &str = r#"echo "READY ms=100 verdict=yes"; read go; echo "$go" > $D/go; echo "$SNAPFREEZE_VOLUMES" > $D/volumes
echo "snapshot=snap-0a volume=vol-0123456789abcdef0"; echo DONE
read verdict; echo "$verdict" > $D/verdict; cat > $D/rest; "#;

fn call(h: &Host, id: &str, sent_ms: i64) -> Ended {
    let (issued, until) = (sent_ms.to_string(), (sent_ms + 60_000).to_string());
    let order = ["backup", "--json", "--id", id, "--hold", "6000ms", "--issued-at", &issued, "--not-after", &until];
    h.call(&[&order[..], &["--by", "coordinator/7", "--policy", "nightly"]].concat())
}

fn heard(h: &Host, file: &str, word: &str) -> Value {
    let line = std::fs::read_to_string(h.disk.path().join(file)).unwrap();
    serde_json::from_str(line.strip_prefix(word).unwrap_or_else(|| panic!("{file}: {line}"))).unwrap()
}

#[test]
fn the_answer_has_what_settles_the_set_and_the_helper_gets_tags_and_verdict() {
    let h = with_helper(GOOD);
    let id = new_id();
    let e = call(&h, &id, wall_now().0);
    assert_eq!(e.code, Some(0), "{e:#?}");
    let a = answer(&e, Some(&id));
    let b: BackupReply = a.whole("backup").unwrap();
    assert_eq!((&b.verdict, b.by.as_str(), b.policy.as_str(), a.code), (&Verdict::Held, "coordinator/7", "nightly", None));
    assert!(b.window.state.is_unbroken() && !b.window.marks[0].marks.is_empty() && b.window.window_ms == b.window_ms, "{b:#?}");
    assert_eq!(b.produced[0]["snapshot"], "snap-0a");
    seen_as(&b.volumes[0].volume);
    assert!(b.set.starts_with(&h.state_dir().join("sets").display().to_string()), "{}", b.set);

    let go = heard(&h, "go", "GO ");
    for (tag, value) in
        [("backup-id", id.as_str()), ("verdict", "pending"), ("policy", "nightly"), ("by", "coordinator/7"), ("set-size", "1")]
    {
        assert_eq!(go[format!("snapfreeze:{tag}")], value, "{go}");
    }
    assert!(go["snapfreeze:restore-from"].is_string() && go["Name"].as_str().unwrap().ends_with("PENDING"), "{go}");
    let told = heard(&h, "verdict", "VERDICT ");
    assert_eq!(told["snapfreeze:verdict"], "held");
    assert!(told["Name"].as_str().unwrap().ends_with("HELD") && told["snapfreeze:thawed-at"].is_string(), "{told}");
    assert_eq!(told["snapfreeze:window-ms"], b.window_ms.to_string());
    assert_eq!(told.as_object().unwrap().len(), 4, "only what changes: {told}");
    assert!(heard(&h, "volumes", "")[0]["roles"].to_string().contains("journal"));

    // The same order again, as a channel may deliver it: refused, and nothing is frozen a second time.
    let again = call(&h, &id, wall_now().0);
    assert_eq!((again.code, answer(&again, Some(&id)).code), (Some(4), Some(Code::RefusedUsedId)), "{again:#?}");
    assert_eq!(h.call(&["list"]).code, Some(0), "the records are found by the configuration");
    frozen_times(&h, 1);
}

#[test]
fn a_broken_window_is_told_to_the_helper_and_is_no_success() {
    let h = with_helper(
        &format!("{GOOD}exit 0")
            .replace("echo DONE", "\"$D/iris/bin/iris\" session IRIS -U%SYS '##Class(Backup.General).ExternalThaw()' >&2; echo DONE"),
    );
    let id = new_id();
    let e = call(&h, &id, wall_now().0);
    let a = answer(&e, Some(&id));
    assert_eq!((e.code, a.code), (Some(3), Some(Code::WindowBroken)), "{e:#?}");
    assert!(matches!(a.whole::<BackupReply>("backup").unwrap().verdict, Verdict::Broken(_)));
    let told = heard(&h, "verdict", "VERDICT ");
    assert_eq!(told["snapfreeze:verdict"], "broken");
    assert!(told["snapfreeze:reason"].is_string() && told["Name"].as_str().unwrap().ends_with("BROKEN"), "{told}");
    frozen_times(&h, 1);
}

#[test]
fn a_late_order_freezes_nothing_and_leaves_nothing() {
    let h = with_helper(GOOD);
    let id = new_id();
    let e = call(&h, &id, wall_now().0 - 120_000);
    assert_eq!((e.code, answer(&e, Some(&id)).code), (Some(4), Some(Code::RefusedLate)), "{e:#?}");
    assert!(!h.disk.path().join("go").exists());
    assert_eq!(std::fs::read_dir(h.state_dir().join("sets")).unwrap().count(), 0);
    frozen_times(&h, 0);
}

#[test]
fn another_ones_window_under_the_same_id_is_neither_used_nor_thawed() {
    let h = with_helper(GOOD);
    let id = new_id();
    assert_eq!(h.call(&["freeze", "--id", &id, "--by", "somebody", "--hold", "30s"]).code, Some(0));
    let e = call(&h, &id, wall_now().0);
    assert_eq!((e.code, answer(&e, Some(&id)).code), (Some(4), Some(Code::RefusedBusy)), "{e:#?}");
    assert!(h.engine.frozen() && !h.disk.path().join("go").exists());
    assert_eq!(h.call(&["thaw", "--id", &id]).code, Some(0), "and its window is unbroken");
    frozen_times(&h, 1);
}

#[test]
fn a_helper_that_cannot_tag_changes_no_verdict_and_one_whose_snapshot_fails_does() {
    for (end, code, verdict, note) in [
        ("echo 'NOTE throttled'; exit 0", 0, "held", "throttled"),
        ("echo no permission to tag >&2; exit 1", 0, "held", "no permission to tag"),
        ("echo 'FAILED snap-0a is in error'; exit 0", 7, "broken", ""),
    ] {
        let h = with_helper(&format!("{GOOD}{end}"));
        let id = new_id();
        let e = call(&h, &id, wall_now().0);
        let b: BackupReply = answer(&e, Some(&id)).whole("backup").unwrap();
        assert_eq!((e.code, b.verdict.word()), (Some(code), verdict), "{end}: {e:#?}");
        assert!(note.is_empty() || b.notes.iter().any(|n| n.contains(note)), "{end}: {:?}", b.notes);
    }
    // The control: a helper that did not say that only tagging is left.
    let h = with_helper(&format!("{GOOD}exit 1").replace(" verdict=yes", ""));
    let id = new_id();
    let e = call(&h, &id, wall_now().0);
    assert_eq!((e.code, answer(&e, Some(&id)).code), (Some(7), Some(Code::SnapshotFailed)), "{e:#?}");
}
