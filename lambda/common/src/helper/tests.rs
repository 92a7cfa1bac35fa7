//! The parts that decide, without a cloud; the program itself is tested in `lambda/aws/tests/ebs_helper.rs`.

use super::*;
use protocol::tags::{SetTags, to_tags};
use serde_json::json;

fn id() -> BackupId {
    "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap()
}

#[test]
fn go_counts_only_with_the_tags_of_this_backup() {
    let tags = to_tags(&SetTags::new(id()));
    let line = |t: &Tags| format!("GO {}", json!(t));
    assert_eq!(go(&line(&tags), id()).unwrap(), tags);
    let other = to_tags(&SetTags::new("0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6f".parse().unwrap()));
    for bad in [line(&other), "GO".into(), "GO {}".into(), "STOP".into(), "GO [1]".into(), String::new()] {
        assert_eq!(go(&bad, id()).unwrap_err().code, Code::UsageInvalid, "{bad}");
    }
}

#[test]
fn only_held_and_broken_are_verdicts() {
    let line = |v: &str| format!("VERDICT {}", json!({ "snapfreeze:verdict": v, "Name": "x" }));
    assert!(verdict(&line("held")).is_some() && verdict(&line("broken")).is_some());
    for bad in
        [line("pending"), line(""), "VERDICT {}".into(), "VERDICT".into(), "held".into(), "VERDICT {\"snapfreeze:verdict\":1}".into()]
    {
        assert!(verdict(&bad).is_none(), "{bad}");
    }
}

#[test]
fn the_environment_is_checked_before_anything_else() {
    let read = |id: &str, hold: &str, volumes: Option<&str>| {
        Given::read(|n| match n {
            "SNAPFREEZE_ID" => Some(id.to_owned()),
            "SNAPFREEZE_HOLD_MS" => Some(hold.to_owned()),
            "SNAPFREEZE_VOLUMES" => volumes.map(str::to_owned),
            _ => None,
        })
    };
    let good = read(&id().to_string(), "30000", None).unwrap();
    assert_eq!((good.hold.ms(), good.volumes), (30_000, None));
    assert_eq!(read(&id().to_string(), "30000", Some("[]")).unwrap().volumes, Some(vec![]));
    for (i, h, v) in
        [("x", "30000", None), (&id().to_string(), "0", None), (&id().to_string(), "1180000", None), (&id().to_string(), "1000", Some("{"))]
    {
        assert_eq!(read(i, h, v).unwrap_err().code, Code::UsageInvalid);
    }
    assert!(Given::read(|_| None).is_err());
}
