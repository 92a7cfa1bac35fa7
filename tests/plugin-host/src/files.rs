//! The files, judged in the extension's order: its own host file, the plug-in's configuration, the two scripts.

use crate::code;
use configparser::ini::Ini;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CONFIG: &str = "VMSnapshotScriptPluginConfig.json";
const HOST: &str = "VMSnapshotPluginHost.conf";
/// The hard maximum is the plug-in host's.
const MOST_S: u64 = 1800;

/// What is run, and how.
#[derive(Clone, Debug)]
pub struct Scripts {
    pub pre: PathBuf,
    pub post: PathBuf,
    pub pre_params: Vec<String>,
    pub post_params: Vec<String>,
    pub timeout: Duration,
    pub poll: Duration,
    /// `continueBackupOnFailure`.
    pub goes_on: bool,
    pub fs_freeze: bool,
}

/// Neither script is run. Without `scripts` the configuration was not understood, and nothing can stop the backup.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: u32,
    pub scripts: Option<Scripts>,
}

impl Refusal {
    const fn early(code: u32) -> Self {
        Self { code, scripts: None }
    }
}

/// Owner, group and other digits of the mode, and the owner.
fn digits(path: &Path) -> Option<(u32, u32, u32, u32)> {
    let m = std::fs::metadata(path).ok()?;
    Some((m.mode() >> 6 & 7, m.mode() >> 3 & 7, m.mode() & 7, m.uid()))
}

/// A non-empty `workload_name` leaves the scripts out altogether.
pub fn workload(etc: &Path) -> bool {
    let mut ini = Ini::new();
    ini.load(etc.join("workload.conf")).is_ok() && ini.get("workload", "workload_name").is_some_and(|n| !n.is_empty())
}

pub fn read(etc: &Path) -> Result<Scripts, Refusal> {
    let most_s = host(&etc.join(HOST))?;
    let path = etc.join(CONFIG);
    let (owner, group, other, uid) = digits(&path).ok_or(Refusal::early(code::CONFIG_MISSING))?;
    if owner % 2 != 0 || group != 0 || other != 0 {
        return Err(Refusal::early(code::CONFIG_PERMISSION));
    }
    if uid != 0 {
        return Err(Refusal::early(code::CONFIG_OWNER));
    }
    let text = std::fs::read(&path).map_err(|_| Refusal::early(code::PLUGIN_CONFIG))?;
    let v: Value = serde_json::from_slice(&text).map_err(|_| Refusal::early(code::PLUGIN_CONFIG))?;
    let scripts = scripts(&v, most_s)?;
    let refused = judged(&scripts.pre, code::PRE_NOT_FOUND, code::PRE_PERMISSION)
        .or_else(|| judged(&scripts.post, code::POST_NOT_FOUND, code::POST_PERMISSION));
    match refused {
        None => Ok(scripts),
        Some(code) => Err(Refusal { code, scripts: Some(scripts) }),
    }
}

fn judged(script: &Path, missing: u32, permission: u32) -> Option<u32> {
    match digits(script) {
        None => Some(missing),
        Some((_, 0, 0, 0)) => None,
        Some(_) => Some(permission),
    }
}

/// The most seconds that it allows a script. Without the file the extension's own one counts.
fn host(path: &Path) -> Result<u64, Refusal> {
    let Some((_, group, other, uid)) = digits(path) else { return Ok(MOST_S) };
    if ![group, other].iter().all(|d| matches!(d, 0 | 4)) {
        return Err(Refusal::early(code::HOST_CONF_PERMISSION));
    }
    if uid != 0 {
        return Err(Refusal::early(code::HOST_CONF_OWNER));
    }
    let bad = Refusal::early(code::HOST_CONFIG);
    let mut ini = Ini::new();
    ini.load(path).map_err(|_| bad.clone())?;
    let number = |key: &str| ini.get("pre_post", key).and_then(|v| v.parse::<u64>().ok());
    match (number("timeoutInSeconds"), number("numberOfPlugins"), ini.get("pre_post", "pluginName0")) {
        (Some(s), Some(1..), Some(name)) if name == "ScriptRunner" => Ok(s.min(MOST_S)),
        _ => Err(bad),
    }
}

fn scripts(v: &Value, most_s: u64) -> Result<Scripts, Refusal> {
    let path = |key: &str| v[key].as_str().filter(|p| !p.is_empty()).map(PathBuf::from).ok_or(Refusal::early(code::PLUGIN_CONFIG));
    let params = |key: &str| v[key].as_array().map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default();
    let timeout_s = match &v["timeoutInSeconds"] {
        Value::Null => 10,
        // A text cannot be compared with the maximum.
        other => other.as_u64().ok_or(Refusal::early(code::HOST_CONFIG))?,
    };
    let yes = |key: &str| v[key].as_bool().unwrap_or(true);
    Ok(Scripts {
        pre: path("preScriptLocation")?,
        post: path("postScriptLocation")?,
        pre_params: params("preScriptParams"),
        post_params: params("postScriptParams"),
        timeout: Duration::from_secs(timeout_s.min(most_s)),
        poll: Duration::from_secs(v["ScriptsExecutionPollTimeSeconds"].as_u64().filter(|s| (1..=5).contains(s)).unwrap_or(3)),
        goes_on: yes("continueBackupOnFailure"),
        fs_freeze: yes("fsFreezeEnabled"),
    })
}
