//! `[[instance]] engine = "iris"` (or `"cache"`): what can be set, checked when it is parsed.

use super::quote;
use protocol::InstanceName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};

/// One IRIS or Caché instance. Only `name` is needed; the rest are the engine's own defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct IrisConfig {
    pub name: InstanceName,
    /// The OS user who runs the instance's programs (OS authentication). Another user than ours needs root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Two lines, user and password, typed at the login prompts. Instead of OS authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// Put before every call, for instance `["docker", "exec", "-i", "iris"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec_prefix: Vec<String>,
    /// `iris` (Caché: `ccontrol`) by absolute path, or by name inside a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    #[serde(default)]
    pub scope: Scope,
    /// Database directories; instead of `scope = "system"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<PathBuf>,
    /// Which mirror member may be backed up, decided by its live role.
    #[serde(default)]
    pub member: Member,
    /// Replace only the two calls (a site's `instfreeze`, `instthaw`). Exit 0 is success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_with: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thaw_with: Option<Vec<String>>,
    /// Where each call's own LogFile goes, as the instance sees it. Must not lie on a disk that is frozen.
    #[serde(default = "default_log_dir")]
    pub log_dir: PathBuf,
    /// ExternalFreeze argument 1 instead of a file of its own in `log_dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_file: Option<PathBuf>,
    /// Argument 2: goes into the journal marker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Argument 3.
    #[serde(default = "yes")]
    pub switch_journal: bool,
    /// Arguments 4 to 6, clusters only; `None` leaves the engine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_timeout: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_hibernate: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_verbose: Option<bool>,
    /// Arguments 8 and 9: two lines, user and password, that only the matching ExternalThaw may use. When set, the
    /// command-line form of ExternalThaw is left out of the ladder, because its arguments show in `ps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thaw_credentials_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything that the instance uses.
    #[default]
    System,
    /// Only `databases`, with the journals that their restore needs.
    Databases,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Member {
    #[default]
    Any,
    Primary,
    Backup,
}

/// tmpfs: a LogFile on a frozen disk would hang the freeze.
pub const DEFAULT_LOG_DIR: &str = "/run/snapfreeze/log";
/// The journal marker's text; the engine names no limit, a line is enough.
pub const MAX_TEXT: usize = 200;

fn default_log_dir() -> PathBuf {
    DEFAULT_LOG_DIR.into()
}
const fn yes() -> bool {
    true
}

/// What is wrong, with key, value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    pub key: &'static str,
    pub why: String,
}

impl IrisConfig {
    /// The defaults, as a discovered instance has them.
    pub fn named(name: InstanceName) -> Self {
        Self {
            name,
            run_as: None,
            credentials_file: None,
            exec_prefix: Vec::new(),
            program: None,
            scope: Scope::System,
            databases: Vec::new(),
            member: Member::Any,
            freeze_with: None,
            thaw_with: None,
            log_dir: default_log_dir(),
            log_file: None,
            text: String::new(),
            switch_journal: true,
            cluster_timeout: None,
            cluster_hibernate: None,
            cluster_verbose: None,
            thaw_credentials_file: None,
        }
    }

    /// Rules between the settings. A configuration that was parsed keeps them.
    pub fn check(&self) -> Result<(), Invalid> {
        let bad = |key, why: &str| Err(Invalid { key, why: why.into() });
        let scope_says_databases = self.scope == Scope::Databases;
        if scope_says_databases && self.databases.is_empty() {
            return bad("databases", "scope = \"databases\" needs the list of their directories");
        }
        if self.freeze_with.is_some() != self.thaw_with.is_some() {
            return bad("freeze_with", "freeze_with and thaw_with are set together or not at all");
        }
        for (key, words) in [("freeze_with", &self.freeze_with), ("thaw_with", &self.thaw_with)] {
            if words.as_ref().is_some_and(|w| w.first().is_none_or(|p| p.is_empty())) {
                return bad(key, "must begin with a program");
            }
        }
        if self.exec_prefix.first().is_some_and(String::is_empty) {
            return bad("exec_prefix", "must begin with a program");
        }
        if !self.switch_journal && !self.text.is_empty() {
            return bad("text", "the marker is only written together with a journal switch: set switch_journal = true or leave text out");
        }
        if self.text.chars().count() > MAX_TEXT {
            return bad("text", "at most 200 characters");
        }
        self.check_literals()?;
        self.check_paths()
    }

    /// Values that become ObjectScript string literals.
    fn check_literals(&self) -> Result<(), Invalid> {
        let path = |p: &Path| p.to_str().map(str::to_owned);
        let values = [
            ("text", Some(self.text.clone())),
            ("log_dir", path(&self.log_dir)),
            ("log_file", self.log_file.as_deref().map_or(Some(String::new()), path)),
        ];
        for (key, value) in values {
            let Some(value) = value else {
                return Err(Invalid { key, why: "must be UTF-8".into() });
            };
            quote::check(&value).map_err(|e| Invalid { key, why: e.to_string() })?;
        }
        Ok(())
    }

    fn check_paths(&self) -> Result<(), Invalid> {
        let one = |key, p: &Option<PathBuf>| (key, p.clone().into_iter().collect::<Vec<_>>());
        let paths = [
            ("databases", self.databases.clone()),
            ("log_dir", vec![self.log_dir.clone()]),
            one("log_file", &self.log_file),
            one("credentials_file", &self.credentials_file),
            one("thaw_credentials_file", &self.thaw_credentials_file),
        ];
        for (key, list) in paths {
            if let Some(p) = list.iter().find(|p| !p.is_absolute()) {
                return Err(Invalid { key, why: format!("{p:?} is not an absolute path") });
            }
        }
        let in_container = !self.exec_prefix.is_empty();
        match &self.program {
            Some(p) if p.is_empty() || (!in_container && !p.starts_with('/')) => {
                Err(Invalid { key: "program", why: format!("{p:?} is not an absolute path (a bare name is possible with exec_prefix)") })
            }
            _ => Ok(()),
        }
    }

    /// The databases to take; `None`: all.
    pub fn only_databases(&self) -> Option<&[PathBuf]> {
        (!self.databases.is_empty()).then_some(&self.databases)
    }
}

impl<'de> Deserialize<'de> for IrisConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // The derived function of the same name: `remote = "Self"` makes it an inherent one.
        let config = Self::deserialize(d)?;
        config.check().map_err(serde::de::Error::custom)?;
        Ok(config)
    }
}

impl Serialize for IrisConfig {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstanceConfig;

    fn parse(json: &str) -> Result<IrisConfig, String> {
        match serde_json::from_str(json).map_err(|e| e.to_string())? {
            InstanceConfig::Iris(c) | InstanceConfig::Cache(c) => Ok(c),
            InstanceConfig::Gtm(_) | InstanceConfig::Command(_) => Err("another engine".into()),
        }
    }

    #[test]
    fn a_name_is_enough_and_defaults_are_the_engines() {
        let c = parse(r#"{"engine":"iris","name":"IRIS"}"#).unwrap();
        assert_eq!(c, IrisConfig::named("IRIS".parse().unwrap()));
        assert!(c.switch_journal && c.only_databases().is_none());
        let back: InstanceConfig = serde_json::from_str(&serde_json::to_string(&InstanceConfig::Cache(c.clone())).unwrap()).unwrap();
        assert_eq!(back, InstanceConfig::Cache(c));
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_key() {
        let cases = [
            (r#""passwd":"x""#, "unknown field `passwd`"),
            (r#""text":"a\nhalt""#, "text: "),
            (r#""log_file":"/tmp/a\u0007""#, "log_file: "),
            (r#""switch_journal":false,"text":"hello""#, "text: the marker"),
            (r#""freeze_with":["/x"]"#, "freeze_with: "),
            (r#""freeze_with":[],"thaw_with":["/x"]"#, "freeze_with: must begin"),
            (r#""scope":"databases""#, "databases: "),
            (r#""databases":["data/t1"]"#, "databases: "),
            (r#""program":"iris""#, "program: "),
            (r#""member":"async""#, "unknown variant `async`"),
            (r#""log_dir":"log""#, "log_dir: "),
        ];
        for (fields, says) in cases {
            let e = parse(&format!(r#"{{"engine":"iris","name":"IRIS",{fields}}}"#)).unwrap_err();
            assert!(e.contains(says), "{fields}: {e}");
        }
        assert!(parse(r#"{"engine":"iris","name":"IRIS","program":"iris","exec_prefix":["docker","exec","-i","x"]}"#).is_ok());
        assert!(parse(r#"{"engine":"iris","name":"IRIS","databases":["/data/t1/"]}"#).unwrap().only_databases().is_some());
    }
}
