//! The tags of a snapshot set: what is written is read back, and what is read from damaged tags can be written again.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use protocol::Verdict;
use protocol::tags::limits::{Broken, Cloud, check};
use protocol::tags::{PREFIX, SetTags, VALUE_MAX, from_tags, to_tags};
use std::collections::BTreeMap;

fuzz_target!(|data: &[u8]| {
    // As people and clouds give them: `name=value` a line.
    let text = fuzz::text(data);
    let given: BTreeMap<String, String> = text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    if let Ok(t) = from_tags(&given) {
        round(&t);
        assert!(t.extra.iter().all(|(k, v)| given.get(k) == Some(v)));
        // Without its id, its size or its verdict a set is damaged, not another one.
        for name in ["schema", "backup-id", "set-size", "verdict"] {
            let mut less = given.clone();
            less.retain(|k, _| k.strip_prefix(PREFIX).is_none_or(|k| k != name && !k.starts_with(&format!("{name}."))));
            assert!(from_tags(&less).is_err(), "{name}");
        }
    }
    if let Ok(t) = set(&mut Unstructured::new(data)) {
        round(&t);
    }
});

fn round(t: &SetTags) {
    let tags = to_tags(t);
    assert_eq!(from_tags(&tags).as_ref(), Ok(t), "{tags:?}");
    for (name, value) in tags.iter().filter(|(k, _)| k.starts_with(PREFIX) && !t.extra.contains_key(*k)) {
        assert!(value.chars().count() <= VALUE_MAX && name.len() < 128, "{name}");
    }
    assert!(tags["Name"].to_lowercase().ends_with(t.verdict.word()));
    // What a cloud refuses comes from an organisation's own tags or is too many of ours, never a name of ours.
    for cloud in [Cloud::Ebs, Cloud::Azure] {
        for broken in check(&tags, cloud).err().unwrap_or_default() {
            let theirs = match broken {
                Broken::TooMany(_) => true,
                Broken::NameLength(name, _) | Broken::ValueLength(name) | Broken::Reserved(name) | Broken::Forbidden(name, _) => {
                    t.extra.contains_key(&name)
                }
            };
            assert!(theirs);
        }
    }
}

fn set(u: &mut Unstructured) -> Result<SetTags> {
    let mut t = SetTags::new(fuzz::id(u)?);
    t.instances = fuzz::marks(u)?;
    t.set_size = u.arbitrary()?;
    t.verdict = match u.int_in_range(0..=2)? {
        0 => Verdict::Pending,
        1 => Verdict::Held,
        _ => Verdict::Broken(fuzz::reason(u)?),
    };
    (t.frozen_at, t.thawed_at, t.expires, t.keep_until) = (fuzz::moment(u)?, fuzz::moment(u)?, fuzz::moment(u)?, fuzz::moment(u)?);
    t.window_ms = u.arbitrary()?;
    t.roles = u.arbitrary()?;
    t.roles.retain(|r| !r.is_empty() && !r.contains(','));
    for long in [&mut t.mount, &mut t.volume, &mut t.scope] {
        let text: &str = u.arbitrary()?;
        *long = text.repeat(if text.len() < 16 { *u.choose(&[1, 1, 40, 300])? } else { 1 });
    }
    for field in [&mut t.engine, &mut t.engine_version, &mut t.guid, &mut t.host, &mut t.mirror, &mut t.member_role, &mut t.device] {
        *field = u.arbitrary()?;
    }
    for field in [&mut t.policy, &mut t.by, &mut t.agent_version, &mut t.keep_reason] {
        *field = u.arbitrary()?;
    }
    t.extra = u.arbitrary()?;
    t.extra.retain(|k, _| k != "Name" && !k.starts_with(PREFIX));
    Ok(t)
}
