//! Spans of time as people write them in a policy (`"60s"`, `"26h"`, `"35d"`); inside, milliseconds.

use serde::{Deserialize, Deserializer, Serializer};

/// `#[serde(with = "span")]` for a `u64` of milliseconds.
pub fn serialize<S: Serializer>(ms: &u64, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&humantime::format_duration(core::time::Duration::from_millis(*ms)))
}

pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    let text = String::deserialize(d)?;
    parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no span of time: write it as \"60s\", \"26h\" or \"35d\"")))
}

/// Milliseconds of `60s`, `1h 30m`, `35d`.
pub fn parse(text: &str) -> Option<u64> {
    u64::try_from(humantime::parse_duration(text).ok()?.as_millis()).ok()
}

/// For people: `26h`, `3days`.
pub fn say(ms: u64) -> String {
    humantime::format_duration(core::time::Duration::from_millis(ms - ms % if ms >= 60_000 { 1000 } else { 1 })).to_string()
}

/// The same for `Option<u64>`.
pub mod option {
    use super::{Deserialize, Deserializer, Serializer};
    pub fn serialize<S: Serializer>(ms: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
        match ms {
            Some(ms) => super::serialize(ms, s),
            None => s.serialize_none(),
        }
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
        match Option::<String>::deserialize(d)? {
            None => Ok(None),
            Some(t) => super::parse(&t).map(Some).ok_or_else(|| serde::de::Error::custom(format!("{t:?} is no span of time"))),
        }
    }
}
