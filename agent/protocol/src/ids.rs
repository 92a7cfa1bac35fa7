//! Names that travel: a backup's id, an instance's name. Checked at birth.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// A UUID made once, before anything that may be retried; it names freeze, snapshot set and catalogue entry alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(Uuid);

impl BackupId {
    pub const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BackupId {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        Uuid::parse_str(s).map(Self).map_err(|_| BadName {
            what: "backup id",
            value: s.into(),
            rule: "a UUID such as 0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e",
        })
    }
}

/// The name under which an instance is configured or discovered: 1 to 64 letters, digits, `-`, `_`, `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(String);

impl InstanceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for InstanceName {
    type Error = BadName;
    fn try_from(s: String) -> Result<Self, BadName> {
        let fits = (1..=64).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !s.starts_with(['-', '.']);
        if fits {
            Ok(Self(s))
        } else {
            Err(BadName { what: "instance name", value: s, rule: "1 to 64 letters, digits, '-', '_' or '.', not starting with '-' or '.'" })
        }
    }
}

impl FromStr for InstanceName {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        s.to_owned().try_into()
    }
}

impl From<InstanceName> for String {
    fn from(n: InstanceName) -> String {
        n.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}: it must be {rule}")]
pub struct BadName {
    pub what: &'static str,
    pub value: String,
    pub rule: &'static str,
}
