//! `snapfreeze-host.json`: what a restore must recreate and no tag can hold. Written into the set before the freeze.

use super::{Error, HOST, setdir};
use crate::layout::Layout;
use protocol::{BackupId, SCHEMA, WallMs};
use std::path::Path;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HostFile {
    pub schema: u32,
    pub id: BackupId,
    pub written_at: WallMs,
    pub host: String,
    pub agent_version: String,
    /// Kernel and distribution, as they call themselves.
    pub system: String,
    /// Mounts, devices, LVM, owners.
    pub layout: Layout,
    /// From the engines, per instance: databases, namespaces, versions, key ids. Ours to keep, not to understand.
    pub instances: serde_json::Value,
    /// Of a copy on a volume of a cloud set: where its file system was mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<std::path::PathBuf>,
}

impl HostFile {
    /// Reads host name, kernel and distribution from the machine.
    pub fn new(id: BackupId, written_at: WallMs, agent_version: &str, layout: Layout, instances: serde_json::Value) -> Self {
        let uname = rustix::system::uname();
        let word = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let pretty = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
        Self {
            schema: SCHEMA,
            id,
            written_at,
            host: word(uname.nodename()),
            agent_version: agent_version.into(),
            system: format!("{} {}; {}", word(uname.sysname()), word(uname.release()), pretty.trim_matches('"')),
            layout,
            instances,
            mount: None,
        }
    }
}

/// Into `dir` (a set, or a directory on a volume of a cloud set); durable when it returns.
pub fn write(dir: &Path, host: &HostFile) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(host).map_err(|e| Error::io("write", dir, e.into()))?;
    setdir::write_durably(dir, HOST, &text).map_err(|e| Error::io("write", &dir.join(HOST), e))
}

pub fn read(dir: &Path) -> Result<HostFile, Error> {
    let path = dir.join(HOST);
    let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    serde_json::from_slice(&text).map_err(|e| Error::Damaged { path, why: e.to_string() })
}
