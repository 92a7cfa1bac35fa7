//! The `[[instance]]` table of a GT.M or YottaDB database, and where its programs lie.

use crate::Error;
use protocol::InstanceName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One global directory: `engine = "gtm"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GtmConfig {
    pub name: InstanceName,
    /// `gtmgbldir`: the file that maps globals to regions and regions to database files. Absolute.
    pub global_directory: PathBuf,
    /// Where `mumps` and `mupip` lie. Left out: the newest of Debian's `/usr/lib/*/fis-gtm/*`,
    /// `/usr/local/lib/yottadb/*`, `/opt/yottadb/*`, `/opt/fis-gtm/*`. Required with `exec_prefix`.
    #[serde(default)]
    pub gtm_dist: Option<PathBuf>,
    /// Becomes this user through `setpriv` (or `user:group`). The agent's own user when left out.
    #[serde(default)]
    pub run_as: Option<String>,
    /// Put before every call, e.g. `["docker", "exec", "gtm1"]`. Its own user switch replaces `run_as`.
    #[serde(default)]
    pub exec_prefix: Vec<String>,
    /// Regions to freeze; every region of the global directory when empty or `["*"]`.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Default: the utilities' own library in `gtm_dist`. They are all that is run.
    #[serde(default)]
    pub gtmroutines: Option<String>,
    /// More variables for every call, e.g. `gtmcrypt_config`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl GtmConfig {
    pub(super) fn bad(&self, why: impl Into<String>) -> Error {
        Error::Config { instance: self.name.to_string(), why: why.into() }
    }

    /// What serde cannot say: paths are absolute, regions are names, one way to switch the user.
    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.global_directory.is_absolute() {
            return Err(self.bad(format!("global_directory = {:?} must be an absolute path", self.global_directory)));
        }
        if !self.exec_prefix.is_empty() && self.gtm_dist.is_none() {
            return Err(self.bad("exec_prefix needs gtm_dist: the directory of mumps and mupip behind the prefix"));
        }
        if !self.exec_prefix.is_empty() && self.run_as.is_some() {
            return Err(self.bad("use either exec_prefix or run_as (e.g. docker exec -u USER)"));
        }
        for region in self.regions.iter().filter(|r| *r != "*") {
            if !is_region_name(region) {
                return Err(self.bad(format!("region {region:?}: a letter followed by letters, digits, _ or $, at most 31")));
            }
        }
        if let Some(key) = self.env.keys().find(|k| k.is_empty() || k.contains(['=', '\0'])) {
            return Err(self.bad(format!("env {key:?} is no name of a variable")));
        }
        Ok(())
    }

    pub(super) fn wants(&self, region: &str) -> bool {
        self.regions.is_empty() || self.regions.iter().any(|r| r == "*" || r.eq_ignore_ascii_case(region))
    }
}

/// GT.M Administration and Operations Guide, "Global Directory Editor": region names are up to 31 alphanumerics
/// (`_` and `$` are allowed after the first letter).
pub(super) fn is_region_name(name: &str) -> bool {
    (1..=31).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
}

/// Where distributions put GT.M; `*` is one directory level.
const PLACES: [&str; 6] = [
    "/usr/lib/*/fis-gtm/*",
    "/usr/lib/fis-gtm/*",
    "/opt/fis-gtm/*",
    "/opt/yottadb/*",
    "/usr/local/lib/yottadb/*",
    "/usr/local/lib/fis-gtm/*",
];

/// The newest installed distribution: a directory with `mumps` and `mupip` in it.
pub fn find_dist() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> =
        PLACES.iter().flat_map(|place| expand(place)).filter(|d| d.join("mupip").is_file() && d.join("mumps").is_file()).collect();
    found.sort_by_key(|p| version_key(p));
    found.pop()
}

/// Compares `V7.0-005_x86_64` and `r1.38` by their numbers.
fn version_key(path: &Path) -> Vec<u64> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    name.split(|c: char| !c.is_ascii_digit()).filter(|s| !s.is_empty()).map(|s| s.parse().unwrap_or(u64::MAX)).collect()
}

fn expand(pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|p| !p.is_empty()) {
        paths = if part == "*" {
            paths
                .iter()
                .filter_map(|p| std::fs::read_dir(p).ok())
                .flatten()
                .filter_map(Result::ok)
                .map(|e| e.path())
                .filter(|p| p.is_dir())
                .collect()
        } else {
            paths.into_iter().map(|p| p.join(part)).collect()
        };
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: serde_json::Value) -> Result<GtmConfig, String> {
        let mut v = serde_json::json!({"name": "t1", "global_directory": "/db/t1.gld"});
        for (k, x) in more.as_object().unwrap() {
            v[k] = x.clone();
        }
        let c: GtmConfig = serde_json::from_value(v).map_err(|e| e.to_string())?;
        c.check().map_err(|e| e.to_string())?;
        Ok(c)
    }

    #[test]
    fn a_configuration_is_checked_and_says_what_is_wrong() {
        assert!(config(serde_json::json!({})).is_ok());
        for (bad, says) in [
            (serde_json::json!({"regoins": []}), "regoins"),
            (serde_json::json!({"global_directory": "t1.gld"}), "absolute"),
            (serde_json::json!({"regions": ["A B"]}), "A B"),
            (serde_json::json!({"exec_prefix": ["docker"]}), "gtm_dist"),
            (serde_json::json!({"exec_prefix": ["docker"], "gtm_dist": "/g", "run_as": "x"}), "either"),
            (serde_json::json!({"env": {"A=B": "c"}}), "A=B"),
        ] {
            let e = config(bad).unwrap_err();
            assert!(e.contains(says), "{e} does not name {says}");
        }
    }

    #[test]
    fn all_regions_are_wanted_unless_some_are_named() {
        assert!(config(serde_json::json!({"regions": ["*"]})).unwrap().wants("X"));
        let c = config(serde_json::json!({"regions": ["acc"]})).unwrap();
        assert!(c.wants("ACC") && !c.wants("DEFAULT"));
    }

    #[test]
    fn the_newest_version_is_the_largest_number_not_the_last_letter() {
        let mut v = ["/x/V7.0-005_x86_64", "/x/V10.0-001_x86_64", "/x/V7.0-011_x86_64"].map(PathBuf::from);
        v.sort_by_key(|p| version_key(p));
        assert_eq!(v[2], PathBuf::from("/x/V10.0-001_x86_64"));
        assert_eq!(v[1], PathBuf::from("/x/V7.0-011_x86_64"));
    }
}
