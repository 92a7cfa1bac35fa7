//! Tag names and values of a snapshot set (contract §7): the catalogue is rebuilt from these alone, so what is written
//! here is read back to the same [`SetTags`].
//!
//! Two rules make that safe. A value longer than [`VALUE_MAX`] characters is kept whole in numbered parts
//! (`snapfreeze:journal-switched.1`, `.2`, …) which are joined in order; a gap in the numbers is damage, never a shorter
//! value. Several journals (GT.M regions, several instances) share one value, see [`text::Journals`].

pub mod limits;
pub mod text;

use crate::{BackupId, InstanceName, Verdict, WallMs, outcome::InstanceMarks};
use std::collections::BTreeMap;
use text::{Field, Journals};

/// What every name of ours begins with.
pub const PREFIX: &str = "snapfreeze:";
/// EBS: 256 characters a value; Azure: the same.
pub const VALUE_MAX: usize = 256;

/// The names, without [`PREFIX`].
pub mod name {
    pub const SCHEMA: &str = "schema";
    pub const BACKUP_ID: &str = "backup-id";
    pub const ENGINE: &str = "engine";
    pub const ENGINE_VERSION: &str = "engine-version";
    pub const INSTANCE: &str = "instance";
    pub const GUID: &str = "guid";
    pub const HOST: &str = "host";
    pub const MIRROR: &str = "mirror";
    pub const MEMBER_ROLE: &str = "member-role";
    pub const SCOPE: &str = "scope";
    pub const SET_SIZE: &str = "set-size";
    pub const ROLES: &str = "roles";
    pub const DEVICE: &str = "device";
    pub const MOUNT: &str = "mount";
    pub const VOLUME: &str = "volume";
    pub const JOURNAL_SWITCHED: &str = "journal-switched";
    pub const JOURNAL_REQUIRED: &str = "journal-required";
    pub const RESTORE_FROM: &str = "restore-from";
    pub const JOURNAL_OFFSET: &str = "journal-offset";
    pub const FROZEN_AT: &str = "frozen-at";
    pub const THAWED_AT: &str = "thawed-at";
    pub const WINDOW_MS: &str = "window-ms";
    pub const VERDICT: &str = "verdict";
    pub const REASON: &str = "reason";
    pub const POLICY: &str = "policy";
    pub const BY: &str = "by";
    pub const AGENT_VERSION: &str = "agent-version";
    pub const EXPIRES: &str = "expires";
    /// A person's own: these two override retention.
    pub const KEEP_UNTIL: &str = "keep-until";
    pub const KEEP_REASON: &str = "keep-reason";

    pub const ALL: [&str; 30] = [
        SCHEMA,
        BACKUP_ID,
        ENGINE,
        ENGINE_VERSION,
        INSTANCE,
        GUID,
        HOST,
        MIRROR,
        MEMBER_ROLE,
        SCOPE,
        SET_SIZE,
        ROLES,
        DEVICE,
        MOUNT,
        VOLUME,
        JOURNAL_SWITCHED,
        JOURNAL_REQUIRED,
        RESTORE_FROM,
        JOURNAL_OFFSET,
        FROZEN_AT,
        THAWED_AT,
        WINDOW_MS,
        VERDICT,
        REASON,
        POLICY,
        BY,
        AGENT_VERSION,
        EXPIRES,
        KEEP_UNTIL,
        KEEP_REASON,
    ];
    /// The only one without the prefix: for people in a console. Derived, never read back.
    pub const NAME: &str = "Name";
}

/// Everything the tags of one snapshot say. `None` and empty strings are left out of the tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetTags {
    pub backup_id: BackupId,
    /// `iris`, `cache`, `gtm`, `zen`, `command`; several differ: joined by commas by whoever knows them.
    pub engine: String,
    pub engine_version: String,
    /// One per instance of the set, in the set's order; no name twice.
    pub instances: Vec<InstanceMarks>,
    pub guid: String,
    pub host: String,
    pub mirror: String,
    pub member_role: String,
    /// `system`, or the databases that were asked for.
    pub scope: String,
    /// How many snapshots the set has when it is complete.
    pub set_size: u32,
    /// Of this volume: `install`, `cpf`, `keys`, `data`, `wij`, `journal`, `altjournal`, `database`, `external`. No commas inside.
    pub roles: Vec<String>,
    /// Device as the host names it, mount point, and what a restore must recreate (type, IOPS, throughput; LUN, caching).
    pub device: String,
    pub mount: String,
    pub volume: String,
    pub frozen_at: Option<WallMs>,
    pub thawed_at: Option<WallMs>,
    pub window_ms: Option<u64>,
    pub verdict: Verdict,
    pub policy: String,
    pub by: String,
    pub agent_version: String,
    pub expires: Option<WallMs>,
    pub keep_until: Option<WallMs>,
    pub keep_reason: String,
    /// An organisation's own (`[tags] extra`), and what else stood there when they were read.
    pub extra: BTreeMap<String, String>,
}

impl SetTags {
    /// A set of which nothing but its id is known yet; `pending`.
    pub fn new(backup_id: BackupId) -> Self {
        Self {
            backup_id,
            engine: String::new(),
            engine_version: String::new(),
            instances: Vec::new(),
            guid: String::new(),
            host: String::new(),
            mirror: String::new(),
            member_role: String::new(),
            scope: String::new(),
            set_size: 1,
            roles: Vec::new(),
            device: String::new(),
            mount: String::new(),
            volume: String::new(),
            frozen_at: None,
            thawed_at: None,
            window_ms: None,
            verdict: Verdict::Pending,
            policy: String::new(),
            by: String::new(),
            agent_version: String::new(),
            expires: None,
            keep_until: None,
            keep_reason: String::new(),
            extra: BTreeMap::new(),
        }
    }

    /// The journal files with which a restore starts, one per mark that has one.
    pub fn restore_from(&self) -> Vec<&str> {
        self.instances.iter().flat_map(|i| &i.marks).filter_map(|m| m.restore_from()).collect()
    }

    /// `Name`: for people, ends in PENDING, HELD or BROKEN.
    pub fn display_name(&self) -> String {
        let word = self.verdict.word().to_uppercase();
        let names = self.instance_names().join(",");
        let when = self.frozen_at.map_or_else(|| self.backup_id.to_string(), text::utc);
        let head: String = format!("snapfreeze {}/{names} {when}", self.host).chars().take(VALUE_MAX - 8).collect();
        format!("{head} {word}")
    }

    fn instance_names(&self) -> Vec<&str> {
        self.instances.iter().map(|i| i.instance.as_str()).collect()
    }
}

/// Every tag of the set, long values in parts. Whether a cloud takes them: [`limits::check`].
pub fn to_tags(t: &SetTags) -> BTreeMap<String, String> {
    let mut out = t.extra.clone();
    let mut put = |name: &str, value: &str| text::put_split(&mut out, &format!("{PREFIX}{name}"), value);
    put(name::SCHEMA, &crate::SCHEMA.to_string());
    put(name::BACKUP_ID, &t.backup_id.to_string());
    put(name::SET_SIZE, &t.set_size.to_string());
    for (name, value) in [
        (name::ENGINE, &t.engine),
        (name::ENGINE_VERSION, &t.engine_version),
        (name::INSTANCE, &t.instance_names().join(",")),
        (name::GUID, &t.guid),
        (name::HOST, &t.host),
        (name::MIRROR, &t.mirror),
        (name::MEMBER_ROLE, &t.member_role),
        (name::SCOPE, &t.scope),
        (name::ROLES, &t.roles.join(",")),
        (name::DEVICE, &t.device),
        (name::MOUNT, &t.mount),
        (name::VOLUME, &t.volume),
        (name::POLICY, &t.policy),
        (name::BY, &t.by),
        (name::AGENT_VERSION, &t.agent_version),
        (name::KEEP_REASON, &t.keep_reason),
    ] {
        if !value.is_empty() {
            put(name, value);
        }
    }
    for (name, at) in
        [(name::FROZEN_AT, t.frozen_at), (name::THAWED_AT, t.thawed_at), (name::EXPIRES, t.expires), (name::KEEP_UNTIL, t.keep_until)]
    {
        if let Some(at) = at {
            put(name, &text::utc(at));
        }
    }
    if let Some(ms) = t.window_ms {
        put(name::WINDOW_MS, &ms.to_string());
    }
    put(name::VERDICT, t.verdict.word());
    if let Verdict::Broken(why) = &t.verdict {
        put(name::REASON, &text::reason(why));
    }
    let journals = Journals::of(&t.instances);
    for (name, field) in [
        (name::JOURNAL_SWITCHED, Field::Switched),
        (name::JOURNAL_REQUIRED, Field::Required),
        (name::JOURNAL_OFFSET, Field::Offset),
        (name::RESTORE_FROM, Field::RestoreFrom),
    ] {
        if let Some(value) = journals.write(field) {
            put(name, &value);
        }
    }
    out.insert(name::NAME.into(), t.display_name());
    out
}

/// Reads what [`to_tags`] wrote, also from among other people's tags, which land in `extra`.
pub fn from_tags(tags: &BTreeMap<String, String>) -> Result<SetTags, BadTags> {
    let mut ours = BTreeMap::new();
    let mut extra = BTreeMap::new();
    text::join_parts(tags, &mut ours, &mut extra)?;
    let schema: u32 = number(name::SCHEMA, ours.remove(name::SCHEMA).ok_or(BadTags::NotOurs)?)?;
    if schema > crate::SCHEMA {
        return Err(BadTags::NewerSchema(schema));
    }
    let mut take = |name: &str| ours.remove(name).unwrap_or_default();
    let id = take(name::BACKUP_ID);
    let backup_id = id.parse().map_err(|_| BadTags::value(name::BACKUP_ID, &id))?;
    let mut t = SetTags::new(backup_id);
    t.engine = take(name::ENGINE);
    t.engine_version = take(name::ENGINE_VERSION);
    t.guid = take(name::GUID);
    t.host = take(name::HOST);
    t.mirror = take(name::MIRROR);
    t.member_role = take(name::MEMBER_ROLE);
    t.scope = take(name::SCOPE);
    t.device = take(name::DEVICE);
    t.mount = take(name::MOUNT);
    t.volume = take(name::VOLUME);
    t.policy = take(name::POLICY);
    t.by = take(name::BY);
    t.agent_version = take(name::AGENT_VERSION);
    t.keep_reason = take(name::KEEP_REASON);
    t.set_size = number(name::SET_SIZE, take(name::SET_SIZE))?;
    t.roles = list(&take(name::ROLES));
    t.frozen_at = time(name::FROZEN_AT, &take(name::FROZEN_AT))?;
    t.thawed_at = time(name::THAWED_AT, &take(name::THAWED_AT))?;
    t.expires = time(name::EXPIRES, &take(name::EXPIRES))?;
    t.keep_until = time(name::KEEP_UNTIL, &take(name::KEEP_UNTIL))?;
    let window = take(name::WINDOW_MS);
    if !window.is_empty() {
        t.window_ms = Some(number(name::WINDOW_MS, window)?);
    }
    let (verdict, reason) = (take(name::VERDICT), take(name::REASON));
    t.verdict = match verdict.as_str() {
        "pending" => Verdict::Pending,
        "held" => Verdict::Held,
        "broken" => Verdict::Broken(text::parse_reason(&reason)?),
        other => return Err(BadTags::value(name::VERDICT, other)),
    };
    let instances = list(&take(name::INSTANCE))
        .into_iter()
        .map(|n| InstanceName::try_from(n).map_err(|e| BadTags::value(name::INSTANCE, &e.value)))
        .collect::<Result<Vec<_>, _>>()?;
    t.instances = Journals::read(
        &instances,
        ours.get(name::JOURNAL_SWITCHED).map(String::as_str),
        ours.get(name::JOURNAL_REQUIRED).map(String::as_str),
        ours.get(name::JOURNAL_OFFSET).map(String::as_str),
    )?;
    t.extra = extra;
    Ok(t)
}

fn number<T: std::str::FromStr>(name: &'static str, value: String) -> Result<T, BadTags> {
    value.parse().map_err(|_| BadTags::value(name, &value))
}
fn time(name: &'static str, value: &str) -> Result<Option<WallMs>, BadTags> {
    match value {
        "" => Ok(None),
        v => text::parse_utc(v).map(Some).ok_or_else(|| BadTags::value(name, v)),
    }
}
fn list(value: &str) -> Vec<String> {
    value.split(',').filter(|s| !s.is_empty()).map(Into::into).collect()
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTags {
    #[error("these are no tags of snapfreeze: {PREFIX}schema is missing")]
    NotOurs,
    #[error("written by a newer snapfreeze (schema {0}; this one reads up to {ours})", ours = crate::SCHEMA)]
    NewerSchema(u32),
    #[error("tag {PREFIX}{name} = {value:?} is damaged")]
    Value { name: &'static str, value: String },
    #[error("tag {PREFIX}{0} has parts, but not all of them from .1 on")]
    MissingPart(String),
}

impl BadTags {
    pub(crate) fn value(name: &'static str, value: &str) -> Self {
        Self::Value { name, value: value.into() }
    }
}

#[cfg(test)]
mod tests;
