//! How values are written as text: times, reasons, long values in parts, several journals in one value.

use super::{BadTags, PREFIX, VALUE_MAX, name};
use crate::{BrokenReason, InstanceName, JournalMark, WallMs, outcome::InstanceMarks};
use std::collections::BTreeMap;

/// `2026-11-25T23:59:01.250Z`. Years 0 to 9999; what lies outside is written as plain milliseconds.
pub fn utc(at: WallMs) -> String {
    let (days, ms) = (at.0.div_euclid(86_400_000), at.0.rem_euclid(86_400_000));
    let (y, m, d) = civil(days);
    if !(0..=9999).contains(&y) {
        return at.0.to_string();
    }
    let (s, ms) = (ms / 1000, ms % 1000);
    format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60)
}

/// Calendar year and month, UTC.
pub fn year_month(at: WallMs) -> (i64, i64) {
    let (y, m, _) = civil(at.0.div_euclid(86_400_000));
    (y, m)
}

/// Reads what [`utc`] writes, also without the milliseconds.
pub fn parse_utc(text: &str) -> Option<WallMs> {
    let Some(t) = text.strip_suffix('Z') else {
        return text.parse().ok().map(WallMs);
    };
    let (date, time) = t.split_once('T')?;
    let mut date = date.split('-').map(fixed);
    let (y, m, d) = (date.next()??, date.next()??, date.next()??);
    let (time, ms) = time.split_once('.').unwrap_or((time, "000"));
    let mut time = time.split(':').map(fixed);
    let (h, min, s) = (time.next()??, time.next()??, time.next()??);
    let ms = if ms.len() == 3 {
        fixed(ms)?
    } else {
        return None;
    };
    let days = days_from_civil(y, m, d);
    let valid = civil(days) == (y, m, d) && h < 24 && min < 60 && s < 60;
    valid.then(|| WallMs(days * 86_400_000 + ((h * 60 + min) * 60 + s) * 1000 + ms))
}

fn fixed(digits: &str) -> Option<i64> {
    let plain = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// Days since 1970-01-01 to (year, month, day), proleptic Gregorian. Eras of 400 years, counted from March.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (yoe + era * 400 + i64::from(m <= 2), m, d)
}

fn days_from_civil(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// `hold-expired`, or `other-tool: detail`.
pub fn reason(why: &BrokenReason) -> String {
    let v = serde_json::to_value(why).unwrap_or_default();
    let kind = v["kind"].as_str().unwrap_or_default().to_owned();
    match v["detail"].as_str() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind,
    }
}

pub fn parse_reason(text: &str) -> Result<BrokenReason, BadTags> {
    let (kind, detail) = match text.split_once(": ") {
        Some((k, d)) => (k, Some(d)),
        None => (text, None),
    };
    let mut v = serde_json::json!({ "kind": kind });
    if let Some(d) = detail {
        v["detail"] = d.into();
    }
    serde_json::from_value(v).map_err(|_| BadTags::value(name::REASON, text))
}

/// Writes `value` under `name`, or under `name.1`, `name.2`, … when it is too long.
pub(super) fn put_split(out: &mut BTreeMap<String, String>, name: &str, value: &str) {
    let chars: Vec<char> = value.chars().collect();
    if chars.len() <= VALUE_MAX {
        out.insert(name.into(), value.into());
        return;
    }
    for (i, part) in chars.chunks(VALUE_MAX).enumerate() {
        out.insert(format!("{name}.{}", i + 1), part.iter().collect());
    }
}

/// Sorts tags into ours (without prefix, parts joined) and everybody else's.
pub(super) fn join_parts(
    tags: &BTreeMap<String, String>,
    ours: &mut BTreeMap<&'static str, String>,
    extra: &mut BTreeMap<String, String>,
) -> Result<(), BadTags> {
    let mut parts: BTreeMap<&'static str, BTreeMap<u32, &str>> = BTreeMap::new();
    for (key, value) in tags {
        let bare = key.strip_prefix(PREFIX);
        let known = |n: &str| name::ALL.into_iter().find(|k| *k == n);
        let part = bare.and_then(|b| b.rsplit_once('.')).and_then(|(n, i)| Some((known(n)?, i.parse().ok()?)));
        if let Some(name) = bare.and_then(known) {
            ours.insert(name, value.clone());
        } else if let Some((name, i)) = part {
            parts.entry(name).or_default().insert(i, value);
        } else if key != name::NAME {
            extra.insert(key.clone(), value.clone());
        }
    }
    for (name, numbered) in parts {
        let whole = (1..).zip(numbered.keys()).all(|(want, have)| want == *have);
        // The last part says nothing about its being the last, but all before it are full.
        let full = numbered.values().rev().skip(1).all(|v| v.chars().count() == VALUE_MAX);
        if !whole || !full || numbered.len() < 2 || ours.contains_key(name) {
            return Err(BadTags::MissingPart(name.into()));
        }
        ours.insert(name, numbered.into_values().collect());
    }
    Ok(())
}

/// The journal marks of all instances of a set, as one value per tag.
///
/// A single mark without a region (IRIS, one instance) is written as it is: `/jrn/20261125.003`; no switch is `none`.
/// Several are a list, `@@KEY=VALUE@@KEY=VALUE`, where KEY is the region, or `instance/region` when the set has several
/// instances. In a list `@a` stands for `@`, `@e` for `=` in a key, and the value `@n` for "there is none". The list uses
/// only characters that both clouds take in values.
pub struct Journals<'a> {
    marks: Vec<(String, &'a JournalMark)>,
    single: bool,
}

#[derive(Clone, Copy)]
pub enum Field {
    Switched,
    Required,
    Offset,
    RestoreFrom,
}

const NONE: &str = "none";

impl<'a> Journals<'a> {
    pub fn of(instances: &'a [InstanceMarks]) -> Self {
        let several = instances.len() > 1;
        let marks: Vec<_> = instances
            .iter()
            .flat_map(|i| i.marks.iter().map(move |m| (i, m)))
            .map(|(i, m)| {
                let key = if several { format!("{}/{}", i.instance, m.region) } else { m.region.clone() };
                (key, m)
            })
            .collect();
        let plain = |v: &Option<String>| !v.as_deref().is_some_and(|v| v == NONE || v.starts_with("@@"));
        let single = matches!(&marks[..], [(key, m)] if key.is_empty() && plain(&m.switched) && plain(&m.required));
        Self { marks, single }
    }

    /// `None`: no such tag.
    pub fn write(&self, field: Field) -> Option<String> {
        let value = |m: &JournalMark| match field {
            Field::Switched => m.switched.clone(),
            Field::Required => m.required.clone(),
            Field::Offset => m.offset.map(|o| o.to_string()),
            Field::RestoreFrom => m.restore_from().map(Into::into),
        };
        if self.single {
            let v = self.marks.first().and_then(|(_, m)| value(m));
            return match field {
                Field::Switched => Some(v.unwrap_or_else(|| NONE.into())),
                Field::Required | Field::Offset | Field::RestoreFrom => v,
            };
        }
        let all: String = self
            .marks
            .iter()
            .map(|(key, m)| {
                let v = value(m).map_or_else(|| "@n".into(), |v| v.replace('@', "@a"));
                format!("@@{}={v}", key.replace('@', "@a").replace('=', "@e"))
            })
            .collect();
        (!all.is_empty()).then_some(all)
    }

    pub fn read(
        instances: &[InstanceName],
        switched: Option<&str>,
        required: Option<&str>,
        offset: Option<&str>,
    ) -> Result<Vec<InstanceMarks>, BadTags> {
        let mut out: Vec<InstanceMarks> = instances.iter().map(|i| InstanceMarks { instance: i.clone(), marks: Vec::new() }).collect();
        let Some(switched) = switched else {
            return Ok(out);
        };
        let number = |o: &str| o.parse::<u64>().map_err(|_| BadTags::value(name::JOURNAL_OFFSET, o));
        if !switched.starts_with("@@") {
            let [only] = &mut out[..] else {
                return Err(BadTags::value(name::JOURNAL_SWITCHED, switched));
            };
            only.marks.push(JournalMark {
                region: String::new(),
                switched: Some(switched.to_owned()).filter(|s| s != NONE),
                required: required.map(Into::into),
                offset: offset.map(number).transpose()?,
            });
            return Ok(out);
        }
        let required = pairs(name::JOURNAL_REQUIRED, required.unwrap_or_default())?;
        let offset = pairs(name::JOURNAL_OFFSET, offset.unwrap_or_default())?;
        for (at, (key, value)) in pairs(name::JOURNAL_SWITCHED, switched)?.into_iter().enumerate() {
            let beside = |list: &[(String, Option<String>)], name| match list.get(at) {
                Some((k, v)) if *k == key => Ok(v.clone()),
                Some(_) | None => Err(BadTags::value(name, &key)),
            };
            let (home, region) = match (&mut out[..], key.split_once('/')) {
                ([only], _) => (only, key.clone()),
                (many, Some((instance, region))) => {
                    let home = many.iter_mut().find(|i| i.instance.as_str() == instance);
                    (home.ok_or_else(|| BadTags::value(name::JOURNAL_SWITCHED, &key))?, region.to_owned())
                }
                (_, None) => return Err(BadTags::value(name::JOURNAL_SWITCHED, &key)),
            };
            home.marks.push(JournalMark {
                region,
                switched: value,
                required: beside(&required, name::JOURNAL_REQUIRED)?,
                offset: beside(&offset, name::JOURNAL_OFFSET)?.as_deref().map(number).transpose()?,
            });
        }
        Ok(out)
    }
}

fn pairs(name: &'static str, list: &str) -> Result<Vec<(String, Option<String>)>, BadTags> {
    let plain = |s: &str| s.replace("@e", "=").replace("@a", "@");
    list.split("@@")
        .skip(1)
        .map(|entry| {
            let (key, value) = entry.split_once('=').ok_or_else(|| BadTags::value(name, entry))?;
            Ok((plain(key), (value != "@n").then(|| value.replace("@a", "@"))))
        })
        .collect()
}
