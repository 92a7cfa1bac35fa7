//! `/etc/snapfreeze/agent.toml`, parsed once into checked types. Unknown keys are errors.

use engine::InstanceConfig;
use engine::restore::Sentinel;
use protocol::InstanceName;
use protocol::tags;
use protocol::window::{BadWindow, HoldMs, Margins, OnOverrun, SuspendLimit, WindowRules};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use storage::layout::Volume;

pub const DEFAULT_PATH: &str = "/etc/snapfreeze/agent.toml";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} could not be read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not valid:\n{why}")]
    Parse { path: PathBuf, why: String },
    #[error("{path}: {key} = {value:?} is not possible: {rule}")]
    Value { path: PathBuf, key: String, value: String, rule: String },
    #[error("{path}")]
    Window { path: PathBuf, source: BadWindow },
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub path: PathBuf,
    pub dirs: Dirs,
    /// Owns the socket beside root.
    pub group: String,
    pub window: Window,
    /// Empty: discover with `iris list`.
    pub instances: Vec<InstanceConfig>,
    pub backup: Backup,
    /// An organisation's own tags.
    pub tags: BTreeMap<String, String>,
    /// Cloud volumes of directories, where devices do not name them.
    pub volumes: BTreeMap<PathBuf, Vec<Volume>>,
    pub dlm: Dlm,
    pub azure_backup: AzureBackup,
    pub journals: Journals,
    pub drill: Drill,
    pub restore: Restore,
}

#[derive(Clone, Debug)]
pub struct Restore {
    /// Of udev's links to disks.
    pub disks: PathBuf,
}

/// Restores on trial.
#[derive(Clone, Debug)]
pub struct Drill {
    /// In which each drill has a directory of its own.
    pub dir: Option<PathBuf>,
    /// Of IRIS and Caché: an instance that is for drills alone, and down otherwise.
    pub instance: Option<InstanceName>,
    /// Alarm when the last drill that passed is older.
    pub max_age: Duration,
    /// How much older than its freeze the newest data of a backup may be.
    pub sentinel_age: Duration,
    pub sentinel: BTreeMap<InstanceName, Sentinel>,
    /// Public keys of other hosts whose drills count.
    pub trust: Vec<String>,
}

/// Where the journals are saved elsewhere.
#[derive(Clone, Debug)]
pub struct Journals {
    /// On another disk. `None`: they are not.
    pub ship_to: Option<PathBuf>,
    /// Alarm when the recovery point is older.
    pub max_age: Duration,
}

#[derive(Clone, Debug)]
pub struct Dirs {
    /// The journal; on a disk.
    pub state: PathBuf,
    /// Socket, locks, LogFiles; on tmpfs, because nothing may be written to a disk inside the window.
    pub run: PathBuf,
}

impl Dirs {
    pub fn socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }
    pub fn journal(&self) -> PathBuf {
        self.state.join("journal")
    }
}

#[derive(Clone, Debug)]
pub struct Window {
    pub on_overrun: OnOverrun,
    pub hold: HoldMs,
    pub external_freeze_timeout_s: Option<u64>,
    pub wd_suspend_limit: Option<SuspendLimit>,
    pub margins: Margins,
    /// Alarm when the last held set is older.
    pub max_age: Duration,
}

impl Window {
    /// The rules for a freeze with this hold, or with the configured one.
    pub fn rules(&self, hold_ms: Option<u64>) -> Result<WindowRules, BadWindow> {
        let hold = hold_ms.map_or(Ok(self.hold), HoldMs::new)?;
        WindowRules::new(hold, self.on_overrun, self.external_freeze_timeout_s, self.wd_suspend_limit, self.margins)
    }

    /// A longer hold asks for more of the same limits, so that what is allowed ends at one place. The configured hold is.
    pub fn largest_hold_ms(&self) -> u64 {
        let (mut fits, mut too_long) = (self.hold.ms(), HoldMs::MAX + 1);
        while fits + 1 < too_long {
            let middle = fits.midpoint(too_long);
            match self.rules(Some(middle)) {
                Ok(_) => fits = middle,
                Err(_) => too_long = middle,
            }
        }
        fits
    }
}

/// The hook of AWS Data Lifecycle Manager.
#[derive(Clone, Copy, Debug)]
pub struct Dlm {
    /// As in the policy (`ExecutionTimeout`): then DLM gives a script up.
    pub script_timeout_ms: u64,
    /// From pre to post.
    pub hold_ms: u64,
}

/// The hook of Azure Backup. How long Azure waits for a script stands in Azure's own file.
#[derive(Clone, Debug)]
pub struct AzureBackup {
    /// Of `VMSnapshotScriptPluginConfig.json` and the other files of its plug-in host.
    pub dir: PathBuf,
    /// From pre to post.
    pub hold_ms: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// Where `list`, `check` and `prune` look when no `--to` is given.
    pub to: Vec<PathBuf>,
    /// `auto`, `btrfs`, `reflink`, `copy` or `command`.
    pub snapshotter: Option<String>,
    /// The helper of the `command` snapshotter.
    pub command: Vec<String>,
    /// What the helper takes at one moment; decides which layouts are refused.
    pub helper_covers: HelperCovers,
    /// What to take; empty: everything the engine names.
    pub paths: Vec<PathBuf>,
    /// Have IRIS count a set as a backup, for its purge of journals, once `verify` has found it whole.
    pub set_history: bool,
    pub keep_last: Option<u32>,
    pub keep_daily: Option<u32>,
    pub keep_weekly: Option<u32>,
    pub keep_monthly: Option<u32>,
}

/// What one call of the `command` snapshotter's helper takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HelperCovers {
    /// All disks of the instance at one moment (EBS CreateSnapshots). A path on no disk is refused.
    #[default]
    AllDisks,
    /// Each disk by itself: a file system that spans disks is refused.
    EachDisk,
    /// The paths it is given, by means of its own (a storage array, a file server): disks are not looked at.
    Paths,
}

/// DLM's own range; the lower end is its default.
const DLM_TIMEOUT_MS: (u64, u64) = (10_000, 120_000);

/// Above the sum of the extension's own limits between pre and post.
const AZURE_HOLD_MS: u64 = 300_000;

/// Shipped each minute, a few passes may fail.
const SHIP_MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// A month, and some days to find time for it.
const DRILL_MAX_AGE: Duration = Duration::from_secs(35 * 86_400);
/// A timer each minute, that may fail for a while.
const SENTINEL_AGE: Duration = Duration::from_secs(3_600);

/// The records of a helper's sets, whose data lies elsewhere.
pub fn sets_dir(state: &Path) -> PathBuf {
    state.join("sets")
}

impl Default for Config {
    fn default() -> Self {
        Raw::default().check(Path::new("(defaults)")).expect("the defaults are valid")
    }
}

impl Config {
    /// A missing file at the default path means the defaults; anywhere else it is an error.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(t) => t,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) => String::new(),
            Err(source) => return Err(Error::Read { path: path.into(), source }),
        };
        Self::parse(&text, path)
    }

    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let raw: Raw = toml::from_str(text).map_err(|e| Error::Parse { path: path.into(), why: e.to_string() })?;
        raw.check(path)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    agent: RawAgent,
    window: RawWindow,
    margins: RawMargins,
    instance: Vec<InstanceConfig>,
    backup: Backup,
    tags: RawTags,
    layout: RawLayout,
    dlm: RawDlm,
    azure_backup: RawAzureBackup,
    journals: RawJournals,
    drill: RawDrill,
    restore: RawRestore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAgent {
    state_dir: PathBuf,
    run_dir: PathBuf,
    group: String,
}

impl Default for RawAgent {
    fn default() -> Self {
        Self { state_dir: "/var/lib/snapfreeze".into(), run_dir: "/run/snapfreeze".into(), group: "snapfreeze".into() }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawWindow {
    on_overrun: OnOverrun,
    hold: Option<String>,
    external_freeze_timeout: Option<String>,
    wd_suspend_limit: Option<String>,
    max_age: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawMargins {
    watchdog: Option<String>,
    thaw_budget: Option<String>,
    freeze: Option<String>,
    rung: Option<String>,
    guard: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawTags {
    extra: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawLayout {
    volumes: BTreeMap<PathBuf, OneOrMore>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawDlm {
    script_timeout: Option<String>,
    hold: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawAzureBackup {
    dir: Option<PathBuf>,
    hold: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawJournals {
    ship_to: Option<PathBuf>,
    max_age: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawRestore {
    disks: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawDrill {
    dir: Option<PathBuf>,
    instance: Option<InstanceName>,
    max_age: Option<String>,
    sentinel_age: Option<String>,
    sentinel: BTreeMap<InstanceName, Sentinel>,
    trust: Vec<String>,
}

impl RawLayout {
    /// The volumes of each directory, or key, value and rule of the first that is not possible.
    fn check(self) -> Result<BTreeMap<PathBuf, Vec<Volume>>, (String, String, &'static str)> {
        let mut all = BTreeMap::new();
        for (path, keys) in self.volumes {
            let key = format!("layout.volumes.{:?}", path.display().to_string());
            let keys = match keys {
                OneOrMore::One(k) => vec![k],
                OneOrMore::More(k) => k,
            };
            let plain = path.is_absolute() && path.components().all(|c| !matches!(c, std::path::Component::ParentDir));
            if !plain || keys.is_empty() {
                return Err((key, keys.join(", "), "an absolute directory with at least one volume"));
            }
            let volumes = keys.into_iter().map(|k| {
                Volume::from_key(&k).ok_or((key.clone(), k, "a volume's id such as \"vol-0123456789abcdef0\", \"lun:3\" or \"os\""))
            });
            all.insert(path, volumes.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(all)
    }
}

impl Raw {
    fn check(self, path: &Path) -> Result<Config, Error> {
        let bad = |key: &str, value: &str, rule: &str| Error::Value {
            path: path.into(),
            key: key.into(),
            value: value.into(),
            rule: rule.into(),
        };
        let time = |key: &str, v: &Option<String>| match v {
            None => Ok(None),
            Some(v) => humantime::parse_duration(v).map(Some).map_err(|_| bad(key, v, "a time such as \"30s\", \"10min\" or \"26h\"")),
        };
        let whole_s = |key: &str, v: &Option<String>| {
            time(key, v)?
                .map(|d| {
                    if d.subsec_nanos() == 0 {
                        Ok(d.as_secs())
                    } else {
                        Err(bad(key, v.as_deref().unwrap_or(""), "whole seconds, because the engine takes no less"))
                    }
                })
                .transpose()
        };
        let or = |key: &str, v: &Option<String>, default: u64| {
            time(key, v).map(|d| d.map_or(default, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
        };
        let d = Margins::default();
        let m = &self.margins;
        let margins = Margins {
            watchdog_ms: or("margins.watchdog", &m.watchdog, d.watchdog_ms)?,
            thaw_budget_ms: or("margins.thaw_budget", &m.thaw_budget, d.thaw_budget_ms)?,
            freeze_ms: or("margins.freeze", &m.freeze, d.freeze_ms)?,
            rung_ms: or("margins.rung", &m.rung, d.rung_ms)?,
            guard_ms: or("margins.guard", &m.guard, d.guard_ms)?,
        };
        let w = &self.window;
        let hold = HoldMs::new(or("window.hold", &w.hold, 30_000)?).map_err(|source| Error::Window { path: path.into(), source })?;
        let wd_suspend_limit = match w.wd_suspend_limit.as_deref() {
            Some("none") => Some(SuspendLimit::None),
            _ => whole_s("window.wd_suspend_limit", &w.wd_suspend_limit)?.map(SuspendLimit::Secs),
        };
        let window = Window {
            on_overrun: w.on_overrun,
            hold,
            external_freeze_timeout_s: whole_s("window.external_freeze_timeout", &w.external_freeze_timeout)?,
            wd_suspend_limit,
            margins,
            max_age: time("window.max_age", &w.max_age)?.unwrap_or(Duration::from_secs(26 * 3600)),
        };
        window.rules(None).map_err(|source| Error::Window { path: path.into(), source })?;
        let mut names = std::collections::BTreeSet::new();
        for i in &self.instance {
            if !names.insert(i.name().clone()) {
                return Err(bad("instance.name", i.name().as_str(), "each instance is named once"));
            }
        }
        // Azure's names are the same in any case.
        let ours = |n: &str| n.to_ascii_lowercase().starts_with(tags::PREFIX) || n.eq_ignore_ascii_case(tags::name::NAME);
        if let Some((name, value)) = self.tags.extra.iter().find(|(n, _)| ours(n)) {
            let rule = format!("another name: {} and what begins with {} are written by snapfreeze itself", tags::name::NAME, tags::PREFIX);
            return Err(bad(&format!("tags.extra.{name}"), value, &rule));
        }
        for (key, dir) in [("agent.state_dir", &self.agent.state_dir), ("agent.run_dir", &self.agent.run_dir)] {
            if !dir.is_absolute() {
                return Err(bad(key, &dir.display().to_string(), "an absolute path"));
            }
        }
        if let Some(s) = &self.backup.snapshotter
            && !["auto", "btrfs", "reflink", "copy", "command"].contains(&s.as_str())
        {
            return Err(bad("backup.snapshotter", s, "auto, btrfs, reflink, copy or command"));
        }
        let volumes = self.layout.check().map_err(|(key, value, rule)| bad(&key, &value, rule))?;
        let script_timeout_ms = or("dlm.script_timeout", &self.dlm.script_timeout, DLM_TIMEOUT_MS.0)?;
        if !(DLM_TIMEOUT_MS.0..=DLM_TIMEOUT_MS.1).contains(&script_timeout_ms) {
            return Err(bad("dlm.script_timeout", self.dlm.script_timeout.as_deref().unwrap_or(""), "10s to 120s, as in DLM's policy"));
        }
        // Both scripts, and what DLM needs between them for its CreateSnapshots.
        let hold_ms = or("dlm.hold", &self.dlm.hold, 2 * script_timeout_ms + 60_000)?;
        HoldMs::new(hold_ms).map_err(|source| Error::Window { path: path.into(), source })?;
        let azure_dir = self.azure_backup.dir.unwrap_or_else(|| crate::verbs::hook::plugin::DIR.into());
        if !azure_dir.is_absolute() {
            return Err(bad("azure_backup.dir", &azure_dir.display().to_string(), "an absolute path"));
        }
        let azure_hold_ms = or("azure_backup.hold", &self.azure_backup.hold, AZURE_HOLD_MS)?;
        HoldMs::new(azure_hold_ms).map_err(|source| Error::Window { path: path.into(), source })?;
        if let Some(dir) = self.journals.ship_to.as_deref().filter(|d| !d.is_absolute()) {
            return Err(bad("journals.ship_to", &dir.display().to_string(), "an absolute path"));
        }
        let journals_max_age = time("journals.max_age", &self.journals.max_age)?.unwrap_or(SHIP_MAX_AGE);
        let drill = Drill {
            max_age: time("drill.max_age", &self.drill.max_age)?.unwrap_or(DRILL_MAX_AGE),
            sentinel_age: time("drill.sentinel_age", &self.drill.sentinel_age)?.unwrap_or(SENTINEL_AGE),
            dir: self.drill.dir,
            instance: self.drill.instance,
            sentinel: self.drill.sentinel,
            trust: self.drill.trust,
        };
        if let Some(dir) = drill.dir.as_deref().filter(|d| !d.is_absolute()) {
            return Err(bad("drill.dir", &dir.display().to_string(), "an absolute path"));
        }
        let mut backup = self.backup;
        if backup.to.is_empty() && backup.snapshotter.as_deref() == Some("command") {
            backup.to = vec![sets_dir(&self.agent.state_dir)];
        }
        Ok(Config {
            path: path.into(),
            dirs: Dirs { state: self.agent.state_dir, run: self.agent.run_dir },
            group: self.agent.group,
            window,
            instances: self.instance,
            backup,
            tags: self.tags.extra,
            volumes,
            dlm: Dlm { script_timeout_ms, hold_ms },
            azure_backup: AzureBackup { dir: azure_dir, hold_ms: azure_hold_ms },
            journals: Journals { ship_to: self.journals.ship_to, max_age: journals_max_age },
            drill,
            restore: Restore { disks: self.restore.disks.unwrap_or_else(|| "/dev/disk".into()) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(t: &str) -> Result<Config, String> {
        Config::parse(t, Path::new("agent.toml")).map_err(|e| crate::chain(&e))
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let c = parse("").unwrap();
        assert_eq!(c.window.rules(None).unwrap().wd_suspend_limit, SuspendLimit::Secs(120));
        assert_eq!(c.dirs.socket(), Path::new("/run/snapfreeze/agent.sock"));
    }

    #[test]
    fn the_hold_of_a_dlm_hook_follows_its_scripts_and_a_helper_needs_no_directory() {
        assert_eq!(parse("").unwrap().dlm.hold_ms, 80_000);
        assert_eq!(parse("[dlm]\nscript_timeout = \"120s\"").unwrap().dlm.hold_ms, 300_000);
        assert_eq!(parse("[dlm]\nhold = \"2s\"").unwrap().dlm.hold_ms, 2_000);
        let c = parse("[backup]\nsnapshotter = \"command\"\ncommand = [\"/bin/true\"]").unwrap();
        assert_eq!(c.backup.to, [Path::new("/var/lib/snapfreeze/sets")]);
        assert!(parse("").unwrap().backup.to.is_empty());
        let c = parse("[layout]\nvolumes = { \"/data\" = \"vol-0123456789abcdef0\", \"/jrn\" = [\"lun:3\", \"os\"] }").unwrap();
        assert_eq!(c.volumes.values().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn errors_name_key_value_and_range() {
        for (text, must) in [
            ("[window]\nhold = \"1180s\"", "1179s"),
            ("[window]\nhold = \"soon\"", "window.hold = \"soon\""),
            ("[window]\nexternal_freeze_timeout = \"1201s\"", "silently use 1200"),
            ("[window]\nholt = \"3s\"", "holt"),
            ("[window]\non_overrun = \"never\"", "block-users"),
            ("[window]\nwd_suspend_limit = \"none\"", "block-users"),
            ("[window]\nwd_suspend_limit = \"1500ms\"", "whole seconds"),
            ("[margins]\nrung = \"1ms\"", "250"),
            // In milliseconds more than 64 bits hold; cut off, it would be 30 s.
            ("[window]\nhold = \"18446744073709581s 616ms\"", "1179s"),
            ("[tags.extra]\n\"snapfreeze:mount.1\" = \"x\"", "snapfreeze:mount.1"),
            ("[tags.extra]\nName = \"x\"", "Name"),
            ("[agent]\nrun_dir = \"run\"", "absolute"),
            ("[backup]\nsnapshotter = \"magic\"", "reflink"),
            ("[layout]\nvolumes = { \"data\" = \"vol-0123456789abcdef0\" }", "absolute"),
            ("[layout]\nvolumes = { \"/data\" = [] }", "at least one"),
            ("[layout]\nvolumes = { \"/data\" = \"vol-xyz\" }", "vol-xyz"),
            ("[layout]\nvolume = {}", "volume"),
            ("[dlm]\nscript_timeout = \"9s\"", "10s to 120s"),
            ("[dlm]\nscript_timeout = \"121s\"", "10s to 120s"),
            ("[dlm]\nhold = \"1180s\"", "1179s"),
            ("[drill]\ndir = \"drills\"", "absolute"),
            ("[drill.sentinel.IRIS]\ndatabase = \"/d\"\nglobal = \"^X k ^Y\"", "^X k ^Y"),
            ("[drill.sentinel.IRIS]\nglobal = \"^X\"", "database"),
            ("[azure_backup]\nhold = \"1180s\"", "1179s"),
            ("[azure_backup]\ndir = \"azure\"", "absolute"),
            ("[azure_backup]\nscript_timeout = \"60s\"", "script_timeout"),
            ("[[instance]]\nengine = \"oracle\"\nname = \"X\"", "oracle"),
            ("[[instance]]\nengine = \"gtm\"\nname = \"a b\"", "a b"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.contains(must), "{text:?} said {e:?}, which lacks {must:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(t in ".{0,300}") {
            let _ = parse(&t);
        }
    }
}
