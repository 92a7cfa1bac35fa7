//! A policy: which hosts, how they are held, what is kept. JSON, checked once; a `Policy` that exists is valid.

use crate::cloud::{Cloud, rules};
use crate::retain::Keep;
use crate::span;
use protocol::HoldMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who makes the snapshot call inside the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldBy {
    /// The coordinator: freeze reply and thaw each cross the cloud; no cloud rights on the host.
    #[default]
    Coordinator,
    /// The agent's helper on the host: no hop inside the window.
    Host,
}

/// What a set is made of, where a cloud has more than one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Snapshotter {
    /// A snapshot of each volume.
    #[default]
    Disks,
    /// Azure: a restore point of the machine, all its disks at one moment. Held by the coordinator it is crash-consistent; held by
    /// the host, Azure makes it application-consistent with the host's own pre and post script (`hook azure-backup`).
    RestorePoint,
}

impl Snapshotter {
    pub fn is_disks(&self) -> bool {
        *self == Self::Disks
    }
}

/// Which member of a mirror is backed up, decided by its live role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberRule {
    #[default]
    Any,
    Primary,
    Backup,
}

/// Which hosts: by id, by tag, or both (a host that matches either).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    pub ids: Vec<String>,
    /// All of these tags.
    pub tags: BTreeMap<String, String>,
    /// Hosts with the same value of this tag are one group: frozen, snapshotted and thawed together, one verdict.
    pub group_by: Option<String>,
    /// Of hosts with the same value of this tag (a mirror), the one that `member` chooses by its live role.
    pub mirror_by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    Governance,
    Compliance,
}

/// EBS Snapshot Lock of a held set: 1 to 36500 days, cool-off 1 to 72 h (compliance only).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    pub mode: LockMode,
    pub days: u32,
    #[serde(default)]
    pub cool_off_hours: Option<u32>,
}

/// A copy of a held set elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyTo {
    pub region: String,
    /// Shared with this account, which then makes its own copy.
    #[serde(default)]
    pub account: Option<String>,
    #[serde(default)]
    pub kms_key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Policy {
    pub name: String,
    pub select: Select,
    pub held_by: HeldBy,
    pub snapshotter: Snapshotter,
    pub member: MemberRule,
    pub hold: HoldMs,
    /// What the snapshot call may take; no call is started with less of the hold left.
    pub snapshot_ms: u64,
    /// A freeze order is carried out at most this long after it was sent.
    pub late_ms: u64,
    /// Of the cloud's rate for snapshot calls, the share that this policy may use, in percent.
    pub rate_percent: u32,
    pub exclude_boot: bool,
    pub exclude_volumes: Vec<String>,
    pub keep: Keep,
    /// Alarm when the last held set of a host is older.
    pub max_age_ms: u64,
    /// Given up when the copy to the store is not complete after this long.
    pub complete_ms: u64,
    pub copy_to: Vec<CopyTo>,
    pub lock: Option<Lock>,
    /// Availability zones with fast snapshot restore.
    pub fast_restore: Vec<String>,
    /// An organisation's own tags.
    pub tags: BTreeMap<String, String>,
}

impl Policy {
    /// As it is written for this cloud: `held_by`, where it is left open and nothing needs the coordinator, is the cloud's own,
    /// and so is the hold of a coordinator.
    pub fn read(mut v: serde_json::Value, cloud: Cloud) -> Result<Self, serde_json::Error> {
        let group = v.pointer("/select/group_by").is_some_and(|g| !g.is_null());
        let point = v.get("snapshotter").is_some_and(|s| s == "restore-point");
        if let Some(o) = v.as_object_mut().filter(|o| !group && !point && !o.contains_key("held_by")) {
            o.insert("held_by".into(), serde_json::to_value(rules(cloud).held_by)?);
        }
        let by_host = v.get("held_by").is_some_and(|h| h == "host");
        if let Some(o) = v.as_object_mut().filter(|o| !by_host && !o.contains_key("hold")) {
            o.insert("hold".into(), span::say(rules(cloud).hold_ms).into());
        }
        serde_json::from_value(v)
    }
}

/// As it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    name: String,
    select: Select,
    held_by: HeldBy,
    #[serde(skip_serializing_if = "Snapshotter::is_disks")]
    snapshotter: Snapshotter,
    member: MemberRule,
    #[serde(with = "span::option", skip_serializing_if = "Option::is_none")]
    hold: Option<u64>,
    #[serde(with = "span")]
    snapshot: u64,
    #[serde(with = "span")]
    late: u64,
    rate_percent: u32,
    exclude_boot: bool,
    exclude_volumes: Vec<String>,
    keep: Keep,
    #[serde(with = "span")]
    max_age: u64,
    #[serde(with = "span")]
    complete: u64,
    copy_to: Vec<CopyTo>,
    lock: Option<Lock>,
    fast_restore: Vec<String>,
    tags: BTreeMap<String, String>,
}

const HOUR: u64 = 3_600_000;
/// Contract §2 rule 4: a freeze over SSM needs two hops inside the window.
const HOLD_COORDINATOR: u64 = 60_000;
const HOLD_HOST: u64 = 30_000;
/// As `[azure_backup] hold` of the agent: the extension's own limits between pre and post are shorter.
const HOLD_AZURE: u64 = 300_000;

impl Default for Raw {
    fn default() -> Self {
        Self {
            name: String::new(),
            select: Select::default(),
            held_by: HeldBy::default(),
            snapshotter: Snapshotter::default(),
            member: MemberRule::default(),
            hold: None,
            // EC2 publishes no figure; what was measured is in `snapfreeze:window-ms`.
            snapshot: 5_000,
            late: 60_000,
            rate_percent: 50,
            exclude_boot: false,
            exclude_volumes: Vec::new(),
            keep: Keep::default(),
            max_age: 26 * HOUR,
            complete: 24 * HOUR,
            copy_to: Vec::new(),
            lock: None,
            fast_restore: Vec::new(),
            tags: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    #[error("name = {0:?}: use 1 to 48 letters, digits, '-', '_' or '.'")]
    Name(String),
    #[error("select names no host: give ids or tags")]
    NoSelect,
    #[error("{0}")]
    Hold(String),
    #[error("{key} = {value}: use {range}")]
    Range { key: &'static str, value: String, range: &'static str },
    #[error("held_by = \"host\" cannot hold a group together: each host's window is its own; use \"coordinator\" with group_by")]
    GroupOnHost,
    #[error("member = {0:?} needs select.mirror_by, the tag that names the mirror")]
    MemberWithoutMirror(MemberRule),
    #[error("a mirror cannot be a group at the same time: use group_by or mirror_by")]
    GroupAndMirror,
    #[error("keep deletes after {delete}, but the lock holds for {lock} days: deletion would fail; keep longer or lock shorter")]
    LockOutlastsKeep { delete: String, lock: u32 },
}

impl TryFrom<Raw> for Policy {
    type Error = BadPolicy;
    fn try_from(r: Raw) -> Result<Self, BadPolicy> {
        let fits = (1..=48).contains(&r.name.len()) && r.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !fits {
            return Err(BadPolicy::Name(r.name));
        }
        if r.select.ids.is_empty() && r.select.tags.is_empty() {
            return Err(BadPolicy::NoSelect);
        }
        let default = match (r.held_by, r.snapshotter) {
            (HeldBy::Coordinator, _) => HOLD_COORDINATOR,
            (HeldBy::Host, Snapshotter::Disks) => HOLD_HOST,
            (HeldBy::Host, Snapshotter::RestorePoint) => HOLD_AZURE,
        };
        let hold = HoldMs::new(r.hold.unwrap_or(default)).map_err(|e| BadPolicy::Hold(e.to_string()))?;
        let within = |key, ms: u64, from: u64, to: u64, range| {
            if (from..=to).contains(&ms) { Ok(ms) } else { Err(BadPolicy::Range { key, value: span::say(ms), range }) }
        };
        within("snapshot", r.snapshot, 100, hold.ms(), "100ms to the hold")?;
        // protocol rule 6 refuses more than 10 minutes; SSM delivers for at least 30 s.
        within("late", r.late, 5_000, 600_000, "5s to 10m")?;
        within("max_age", r.max_age, 60_000, 400 * 24 * HOUR, "1m to 400d")?;
        within("complete", r.complete, 60_000, 14 * 24 * HOUR, "1m to 14d")?;
        if !(1..=100).contains(&r.rate_percent) {
            return Err(BadPolicy::Range { key: "rate_percent", value: r.rate_percent.to_string(), range: "1 to 100" });
        }
        if r.held_by == HeldBy::Host && r.select.group_by.is_some() {
            return Err(BadPolicy::GroupOnHost);
        }
        if r.select.group_by.is_some() && r.select.mirror_by.is_some() {
            return Err(BadPolicy::GroupAndMirror);
        }
        if r.member != MemberRule::Any && r.select.mirror_by.is_none() {
            return Err(BadPolicy::MemberWithoutMirror(r.member));
        }
        if let Some(lock) = &r.lock {
            if !(1..=36_500).contains(&lock.days) {
                return Err(BadPolicy::Range { key: "lock.days", value: lock.days.to_string(), range: "1 to 36500" });
            }
            if lock.cool_off_hours.is_some_and(|h| !(1..=72).contains(&h)) {
                return Err(BadPolicy::Range { key: "lock.cool_off_hours", value: format!("{:?}", lock.cool_off_hours), range: "1 to 72" });
            }
            if let Some(delete) = r.keep.max_age_ms.filter(|d| *d < u64::from(lock.days) * 24 * HOUR) {
                return Err(BadPolicy::LockOutlastsKeep { delete: span::say(delete), lock: lock.days });
            }
        }
        Ok(Self {
            name: r.name,
            select: r.select,
            held_by: r.held_by,
            snapshotter: r.snapshotter,
            member: r.member,
            hold,
            snapshot_ms: r.snapshot,
            late_ms: r.late,
            rate_percent: r.rate_percent,
            exclude_boot: r.exclude_boot,
            exclude_volumes: r.exclude_volumes,
            keep: r.keep,
            max_age_ms: r.max_age,
            complete_ms: r.complete,
            copy_to: r.copy_to,
            lock: r.lock,
            fast_restore: r.fast_restore,
            tags: r.tags,
        })
    }
}

impl From<Policy> for Raw {
    fn from(p: Policy) -> Self {
        Self {
            name: p.name,
            select: p.select,
            held_by: p.held_by,
            snapshotter: p.snapshotter,
            member: p.member,
            hold: Some(p.hold.ms()),
            snapshot: p.snapshot_ms,
            late: p.late_ms,
            rate_percent: p.rate_percent,
            exclude_boot: p.exclude_boot,
            exclude_volumes: p.exclude_volumes,
            keep: p.keep,
            max_age: p.max_age_ms,
            complete: p.complete_ms,
            copy_to: p.copy_to,
            lock: p.lock,
            fast_restore: p.fast_restore,
            tags: p.tags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(v: serde_json::Value) -> Result<Policy, String> {
        serde_json::from_value(v).map_err(|e| e.to_string())
    }

    #[test]
    fn a_policy_reads_back_as_it_was_written() {
        let p = read(json!({ "name": "nightly", "select": { "tags": { "snapfreeze": "nightly" } }, "hold": "90s", "max_age": "26h",
            "keep": { "daily": 7, "weekly": 4 }, "lock": { "mode": "governance", "days": 7 } }))
        .unwrap();
        assert_eq!((p.hold.ms(), p.max_age_ms, p.keep.daily), (90_000, 26 * HOUR, 7));
        assert_eq!(serde_json::from_value::<Policy>(serde_json::to_value(&p).unwrap()).unwrap(), p);
    }

    #[test]
    fn what_cannot_work_is_refused_with_key_value_and_range() {
        let base = |key: &str, value: serde_json::Value| {
            let mut v = json!({ "name": "p", "select": { "ids": ["i-1"] } });
            v[key] = value;
            read(v).unwrap_err()
        };
        assert!(base("hold", json!("1180s")).contains("1179s"));
        assert!(base("hold", json!(60)).contains("invalid type"));
        assert!(base("holt", json!("60s")).contains("unknown field `holt`"));
        assert!(base("rate_percent", json!(0)).contains("1 to 100"));
        assert!(base("member", json!("backup")).contains("mirror_by"));
        assert!(base("late", json!("11m")).contains("5s to 10m"));
        assert!(read(json!({ "name": "p" })).unwrap_err().contains("names no host"));
        assert!(read(json!({ "name": "a b", "select": { "ids": ["i-1"] } })).unwrap_err().contains("48 letters"));
        let group = json!({ "name": "p", "held_by": "host", "select": { "ids": ["i-1"], "group_by": "g" } });
        assert!(read(group).unwrap_err().contains("cannot hold a group"));
        let lock =
            json!({ "name": "p", "select": { "ids": ["i-1"] }, "keep": { "max_age": "3d" }, "lock": { "mode": "compliance", "days": 7 } });
        assert!(read(lock).unwrap_err().contains("keep longer"));
    }

    #[test]
    fn who_holds_it_goes_by_the_cloud_where_nothing_is_said() {
        let by = |more: serde_json::Value, cloud| {
            let mut v = json!({ "name": "p", "select": { "ids": ["i-1"] } });
            v.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Policy::read(v, cloud).unwrap().held_by
        };
        assert_eq!((by(json!({}), Cloud::Ebs), by(json!({}), Cloud::Azure)), (HeldBy::Coordinator, HeldBy::Host));
        assert_eq!(by(json!({ "held_by": "coordinator" }), Cloud::Azure), HeldBy::Coordinator);
        let hold = |held: &str, cloud| {
            Policy::read(json!({ "name": "p", "held_by": held, "select": { "ids": ["i-1"] } }), cloud).unwrap().hold.ms()
        };
        assert_eq!((hold("coordinator", Cloud::Ebs), hold("coordinator", Cloud::Azure)), (60_000, 180_000));
        assert_eq!((hold("host", Cloud::Ebs), hold("host", Cloud::Azure)), (30_000, 30_000));
        let group = json!({ "select": { "ids": ["i-1"], "group_by": "g" } });
        assert_eq!(by(group, Cloud::Azure), HeldBy::Coordinator);
        assert_eq!(by(json!({ "snapshotter": "restore-point" }), Cloud::Azure), HeldBy::Coordinator);
        assert!(Policy::read(json!([]), Cloud::Azure).is_err());
    }

    #[test]
    fn the_default_hold_goes_by_the_path() {
        let hold = |by: &str| read(json!({ "name": "p", "held_by": by, "select": { "ids": ["i-1"] } })).unwrap().hold.ms();
        assert_eq!((hold("coordinator"), hold("host")), (60_000, 30_000));
    }
}
