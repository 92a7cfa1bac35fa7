use super::limits::{Broken, Cloud, check};
use super::text::{parse_utc, utc};
use super::*;
use crate::{BrokenReason, JournalMark};
use proptest::prelude::*;

fn id() -> BackupId {
    "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap()
}
fn iris(switched: Option<&str>) -> SetTags {
    let mut t = SetTags::new(id());
    t.instances = vec![InstanceMarks {
        instance: "IRIS".parse().unwrap(),
        marks: vec![JournalMark { switched: switched.map(Into::into), offset: Some(197_324), ..Default::default() }],
    }];
    t
}

#[test]
fn every_name_of_the_contract_is_there_once() {
    let unique: std::collections::BTreeSet<_> = name::ALL.into_iter().collect();
    assert_eq!(unique.len(), name::ALL.len());
}

#[test]
fn a_single_journal_is_readable_as_it_stands() {
    let tags = to_tags(&iris(Some("/jrn/20261125.003")));
    assert_eq!(tags["snapfreeze:journal-switched"], "/jrn/20261125.003");
    assert_eq!(tags["snapfreeze:restore-from"], "/jrn/20261125.003");
    assert_eq!(tags["snapfreeze:journal-offset"], "197324");
    assert_eq!(tags["snapfreeze:verdict"], "pending");
    assert!(tags["Name"].ends_with("PENDING"), "{}", tags["Name"]);
    assert_eq!(to_tags(&iris(None))["snapfreeze:journal-switched"], "none");
}

#[test]
fn a_long_path_is_kept_whole_in_parts_and_a_lost_part_is_damage() {
    let path = format!("/jrn/{}", "ä".repeat(600));
    let t = iris(Some(&path));
    let tags = to_tags(&t);
    assert!(tags.contains_key("snapfreeze:journal-switched.3") && !tags.contains_key("snapfreeze:journal-switched"));
    assert!(tags.values().all(|v| v.chars().count() <= VALUE_MAX));
    assert_eq!(from_tags(&tags).unwrap(), t);
    for lost in ["1", "2"] {
        let mut fewer = tags.clone();
        fewer.remove(&format!("snapfreeze:journal-switched.{lost}"));
        assert_eq!(from_tags(&fewer), Err(BadTags::MissingPart("journal-switched".into())));
    }
}

#[test]
fn regions_of_gtm_share_one_value() {
    let mut t = iris(None);
    t.instances[0].marks = ["DEFAULT", "AREG"]
        .map(|r| JournalMark { region: r.into(), switched: Some(format!("/g/{r}@1.mjl")), required: None, offset: Some(7) })
        .into();
    let tags = to_tags(&t);
    assert_eq!(tags["snapfreeze:journal-switched"], "@@DEFAULT=/g/DEFAULT@a1.mjl@@AREG=/g/AREG@a1.mjl");
    assert_eq!(tags["snapfreeze:journal-offset"], "@@DEFAULT=7@@AREG=7");
    assert_eq!(from_tags(&tags).unwrap(), t);
}

#[test]
fn a_newer_schema_and_other_peoples_tags_are_told_apart() {
    let mut tags = to_tags(&iris(None));
    tags.insert("snapfreeze:schema".into(), "2".into());
    assert_eq!(from_tags(&tags), Err(BadTags::NewerSchema(2)));
    let foreign = [("CostCenter".to_owned(), "1".to_owned())].into();
    assert_eq!(from_tags(&foreign), Err(BadTags::NotOurs));
}

#[test]
fn limits_name_every_broken_rule() {
    let mut t = iris(None);
    assert_eq!(check(&to_tags(&t), Cloud::Ebs), Ok(()));
    assert_eq!(check(&to_tags(&t), Cloud::Azure), Ok(()));
    t.extra.insert("a/b".into(), "x".repeat(257));
    assert_eq!(check(&to_tags(&t), Cloud::Ebs), Err(vec![Broken::ValueLength("a/b".into())]));
    assert_eq!(check(&to_tags(&t), Cloud::Azure), Err(vec![Broken::ValueLength("a/b".into()), Broken::Forbidden("a/b".into(), '/')]));
    t.extra = (0..60).map(|n| (format!("k{n}"), String::new())).collect();
    let n = to_tags(&t).len();
    assert_eq!(check(&to_tags(&t), Cloud::Ebs), Err(vec![Broken::TooMany(n)]));
}

#[test]
fn times_are_written_as_people_read_them() {
    assert_eq!(utc(WallMs(0)), "1970-01-01T00:00:00.000Z");
    assert_eq!(utc(WallMs(951_782_400_000)), "2000-02-29T00:00:00.000Z");
    assert_eq!(utc(WallMs(-1)), "1969-12-31T23:59:59.999Z");
    assert_eq!(parse_utc("2000-02-29T00:00:00Z"), Some(WallMs(951_782_400_000)));
    for bad in ["2001-02-29T00:00:00Z", "2000-13-01T00:00:00Z", "2000-01-01T24:00:00Z", "2000-01-01T00:00:00.5Z", "x", "Z"] {
        assert_eq!(parse_utc(bad), None, "{bad}");
    }
}

fn reasons() -> impl Strategy<Value = BrokenReason> {
    prop_oneof![
        Just(BrokenReason::HoldExpired),
        Just(BrokenReason::LastResort),
        ".*".prop_map(BrokenReason::OtherTool),
        ".*".prop_map(BrokenReason::SnapshotFailed),
    ]
}
fn marks() -> impl Strategy<Value = JournalMark> {
    let path = || prop::option::of(prop_oneof!["none|@@|@n|@a", "[/@=a.e]{0,9}", "\\PC{250,600}"]);
    ("[A-Z@=/%]{0,4}", path(), path(), any::<Option<u64>>()).prop_map(|(region, switched, required, offset)| JournalMark {
        region,
        switched,
        required,
        offset,
    })
}

proptest! {
    #[test]
    fn times_round_trip(ms in -70_000_000_000_000i64..260_000_000_000_000) {
        prop_assert_eq!(parse_utc(&utc(WallMs(ms))), Some(WallMs(ms)));
    }

    #[test]
    fn what_is_written_is_read_back(
        instances in prop::collection::btree_map("[A-Z0-9][-A-Z._]{0,5}", prop::collection::vec(marks(), 0..4), 0..4),
        texts in prop::array::uniform5("\\PC{0,300}"),
        roles in prop::collection::vec("[a-z]{1,9}", 0..5),
        times in any::<[Option<i32>; 4]>(),
        window_ms: Option<u64>,
        verdict in prop_oneof![Just(Verdict::Pending), Just(Verdict::Held), reasons().prop_map(Verdict::Broken)],
        extra in prop::collection::btree_map("[a-z:.0-9]{1,12}", ".{0,20}", 0..4),
    ) {
        let at = |t: Option<i32>| t.map(|s| WallMs(i64::from(s) * 1000 + 7));
        let [engine, host, mount, by, keep_reason] = texts;
        let t = SetTags {
            engine, host, mount, by, keep_reason, roles, window_ms, verdict, extra,
            instances: instances.into_iter()
                .map(|(n, marks)| InstanceMarks { instance: n.parse().unwrap(), marks })
                .collect(),
            frozen_at: at(times[0]), thawed_at: at(times[1]), expires: at(times[2]), keep_until: at(times[3]),
            ..SetTags::new(id())
        };
        let tags = to_tags(&t);
        prop_assert!(tags["Name"].ends_with(&t.verdict.word().to_uppercase()));
        prop_assert!(tags.iter().filter(|(k, _)| k.starts_with(PREFIX)).all(|(_, v)| v.chars().count() <= VALUE_MAX));
        prop_assert_eq!(from_tags(&tags).unwrap(), t);
    }
}
