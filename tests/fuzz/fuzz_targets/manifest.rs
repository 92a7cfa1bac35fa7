//! `manifest.json` of a set in the catalogue.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{SCHEMA, Verdict, WallMs};
use storage::catalogue::Error;
use storage::catalogue::manifest::{KIND, parse};

const HELD: &str = include_str!("../seeds/manifest/held.json");

fuzz_target!(|data: &[u8]| {
    read(data);
    // Past the JSON: a set whose tags somebody has changed, `name=value` a line; a name alone is taken away.
    let mut changed: serde_json::Value = serde_json::from_str(HELD).expect("a seed");
    for line in fuzz::text(data).lines() {
        match line.split_once('=') {
            Some((name, value)) => changed["tags"][name] = value.into(),
            None => _ = changed["tags"].as_object_mut().and_then(|t| t.remove(line)),
        }
    }
    read(changed.to_string().as_bytes());
});

fn read(data: &[u8]) {
    let (m, tags) = match parse(data, "manifest.json".into()) {
        Ok(read) => read,
        Err(Error::Newer { schema, .. }) => {
            assert!(schema > SCHEMA);
            return;
        }
        Err(Error::Damaged { why, .. }) => {
            assert!(!why.is_empty());
            return;
        }
        Err(e) => panic!("{e}"),
    };
    assert!(m.kind == KIND && m.schema <= SCHEMA);
    let written = serde_json::to_vec_pretty(&m).expect("it was read");
    assert_eq!(parse(&written, "manifest.json".into()).ok(), Some((m.clone(), tags.clone())));
    // A person's wish changes nothing else: verdict, journals and the organisation's own tags stay.
    let mut kept = m.clone();
    let mut wish = tags.clone();
    (wish.keep_until, wish.keep_reason) = (Some(WallMs(1_800_000_000_000)), "audit".into());
    kept.put_tags(&wish);
    let (_, read) = parse(&serde_json::to_vec(&kept).expect("it was read"), "manifest.json".into()).expect("it was written");
    assert_eq!(read, wish);
    assert_eq!(read.verdict == Verdict::Held, m.tags.get("snapfreeze:verdict").is_some_and(|v| v == "held"));
}
