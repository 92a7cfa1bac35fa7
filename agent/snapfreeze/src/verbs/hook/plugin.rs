//! The files of Azure Backup's plug-in host, read as it reads them: every way in which it silently makes a recovery point that is
//! only file-system-consistent. The backup is green all the same, so `check` has to say it.
//!
//! Numbers in parentheses are the extension's status codes. Source: Azure/azure-linux-extensions, VMBackup.

use configparser::ini::Ini;
use engine::{Check, Level};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub const DIR: &str = "/etc/azure";
pub const CONFIG: &str = "VMSnapshotScriptPluginConfig.json";
const HOST_CONF: &str = "VMSnapshotPluginHost.conf";
const WORKLOAD: &str = "workload.conf";

/// Azure's own: what a script gets when the file names no time, and the most that the plug-in host allows.
const DEFAULT_S: u64 = 10;
const MOST_S: u64 = 1800;
/// What a window of Azure Backup may take by its own limits: two pre-snapshot calls, the freeze of the file systems, the snapshot.
const LONGEST_MS: u64 = 230_000;

/// The part of Azure's time that pre may take; the rest is for a thaw that must still be sent.
pub const fn own_time_ms(script_ms: u64) -> u64 {
    script_ms * 4 / 5
}

/// Where the extension and its services show.
pub struct Roots {
    pub azure: PathBuf,
    pub waagent: PathBuf,
    pub services: PathBuf,
}

impl Roots {
    pub fn host(azure: &Path) -> Self {
        Self { azure: azure.into(), waagent: "/var/lib/waagent".into(), services: "/sys/fs/cgroup".into() }
    }

    fn extension(&self) -> bool {
        let Ok(dir) = std::fs::read_dir(&self.waagent) else { return false };
        dir.flatten().any(|f| f.file_name().to_string_lossy().starts_with("Microsoft.Azure.RecoveryServices.VMSnapshotLinux"))
    }

    /// The newer service freezes file systems on its host's order and calls no script.
    fn direct(&self) -> bool {
        ["system.slice", "azure.slice"].iter().any(|s| self.services.join(s).join("directsnapshot.service").exists())
    }
}

/// The two files that decide on scripts.
pub struct Plugin {
    config: Value,
    /// `[pre_post]` of the plug-in host, where the file is there.
    host: Option<Ini>,
}

impl Plugin {
    pub fn read(dir: &Path) -> Result<Self, String> {
        let path = dir.join(CONFIG);
        let said = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|e| said(&e))?;
        let config = serde_json::from_str(&text).map_err(|e| said(&e))?;
        let host = dir.join(HOST_CONF);
        let host = match std::fs::read_to_string(&host) {
            Ok(t) => {
                let mut ini = Ini::new();
                ini.read(t).map_err(|e| format!("{}: {e}", host.display()))?;
                Some(ini)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(format!("{}: {e}", host.display())),
        };
        Ok(Self { config, host })
    }

    /// When Azure gives a script up.
    pub fn script_timeout_ms(&self) -> Result<u64, String> {
        let own = match &self.config["timeoutInSeconds"] {
            Value::Null => DEFAULT_S,
            v => v.as_u64().ok_or_else(|| format!("timeoutInSeconds is {v}, not a number (304)"))?,
        };
        Ok(own.min(self.most_s()?) * 1000)
    }

    fn most_s(&self) -> Result<u64, String> {
        let Some(host) = &self.host else { return Ok(MOST_S) };
        match host.get("pre_post", "timeoutInSeconds") {
            None => Ok(MOST_S),
            Some(t) => t.parse::<u64>().map(|t| t.min(MOST_S)).map_err(|_| format!("{HOST_CONF}: timeoutInSeconds: {t} (304)")),
        }
    }
}

/// One line each. Nothing where neither the extension nor a file of it is there.
pub fn look(roots: &Roots, hold_ms: u64) -> Vec<Check> {
    let mut lines = Lines(Vec::new());
    let path = roots.azure.join(CONFIG);
    if !path.exists() {
        if roots.extension() {
            let text = format!("{} is not there (316): every recovery point of this VM is only file-system-consistent", path.display());
            lines.warn(&text);
        }
        return lines.0;
    }
    owned(&mut lines, &path, "317, 318", false);
    let host = roots.azure.join(HOST_CONF);
    if host.exists() {
        owned(&mut lines, &host, "314, 315", true);
    }
    match Plugin::read(&roots.azure) {
        Ok(p) => {
            host_conf(&mut lines, &p, &path);
            keys(&mut lines, &p);
            times(&mut lines, &p, hold_ms);
            for (key, missing, mode, verb) in
                [("preScriptLocation", 302, "306", "azure-backup pre"), ("postScriptLocation", 303, "307", "azure-backup post")]
            {
                script(&mut lines, &p.config, key, missing, mode, verb);
            }
        }
        Err(e) => lines.fail(&format!("{e} (304 or 305): no script is run")),
    }
    workload(&mut lines, &roots.azure.join(WORKLOAD));
    if roots.direct() {
        lines.fail("directsnapshot.service is active: its snapshots call no pre and no post script");
    }
    if lines.0.iter().all(|l| l.level == Level::Ok) {
        lines.ok("its scripts are found, readable for it, and are run");
    }
    lines.0
}

struct Lines(Vec<Check>);

impl Lines {
    fn line(&mut self, level: Level, text: &str) {
        self.0.push(Check { name: "azure backup".into(), level, text: text.into() });
    }
    fn ok(&mut self, text: &str) {
        self.line(Level::Ok, text);
    }
    fn warn(&mut self, text: &str) {
        self.line(Level::Warn, text);
    }
    fn fail(&mut self, text: &str) {
        self.line(Level::Fail, text);
    }
}

/// By octal digits, as the extension compares them; it follows symlinks and looks at no directory.
fn owned(lines: &mut Lines, path: &Path, codes: &str, others_may_read: bool) -> bool {
    let before = lines.0.len();
    match std::fs::metadata(path) {
        Ok(m) => {
            let (owner, group, other) = (m.mode() >> 6 & 7, m.mode() >> 3 & 7, m.mode() & 7);
            let good = match others_may_read {
                true => [group, other].iter().all(|d| matches!(d, 0 | 4)),
                false => (group, other) == (0, 0) && (!codes.starts_with("317") || owner % 2 == 0),
            };
            if !good {
                let right = if codes.starts_with("30") { "0700" } else { "0600" };
                lines.fail(&format!("{} has mode {:04o} ({codes}): chmod {right}", path.display(), m.mode() & 0o7777));
            }
            if m.uid() != 0 {
                lines.fail(&format!("{} belongs to user {} ({codes}): chown root", path.display(), m.uid()));
            }
        }
        Err(e) => lines.fail(&format!("{}: {e}", path.display())),
    }
    lines.0.len() == before
}

fn host_conf(lines: &mut Lines, p: &Plugin, config: &Path) {
    let Some(host) = &p.host else { return };
    let get = |key: &str| host.get("pre_post", key).unwrap_or_default();
    if get("numberOfPlugins").parse::<u64>().map_or(true, |n| n == 0) || get("pluginName0") != "ScriptRunner" {
        lines.fail(&format!("{HOST_CONF} names no ScriptRunner as plug-in 0 (304): no script is run"));
    }
    let named = get("pluginConfigPath0");
    if Path::new(&named) != config {
        lines.fail(&format!("{HOST_CONF} reads {named:?}, not {}", config.display()));
    }
}

fn keys(lines: &mut Lines, p: &Plugin) {
    let c = &p.config;
    for key in ["preScriptParams", "postScriptParams"] {
        let list = |v: &Value| v.as_array().is_some_and(|a| a.iter().all(Value::is_string));
        if !c[key].is_null() && !list(&c[key]) {
            lines.fail(&format!("{key} is not a list of strings: whether the script is run is not known"));
        }
    }
    for key in ["continueBackupOnFailure", "fsFreezeEnabled"] {
        if !c[key].is_null() && !c[key].is_boolean() {
            lines.fail(&format!("{key} is {}, not true or false: what Azure does then is not known", c[key]));
        }
    }
    if c["continueBackupOnFailure"] != Value::Bool(false) {
        lines.warn("continueBackupOnFailure is not false: after a failed freeze there is a recovery point all the same, only file-system-consistent");
    }
    if c["ScriptsExecutionPollTimeSeconds"].as_u64() != Some(1) {
        lines.warn(
            "ScriptsExecutionPollTimeSeconds is not 1: Azure notices the end of pre up to 3 s later, and the database waits that long",
        );
    }
}

fn times(lines: &mut Lines, p: &Plugin, hold_ms: u64) {
    match p.script_timeout_ms() {
        Err(e) => lines.fail(&format!("{e}: no script is run")),
        Ok(ms) => {
            if p.config["timeoutInSeconds"].is_null() {
                lines.warn("timeoutInSeconds is not given: Azure waits 10 s for a script");
            }
            if ms < DEFAULT_S * 1000 {
                lines.fail(&format!("timeoutInSeconds is {}: pre gives up after {} ms", ms / 1000, own_time_ms(ms)));
            }
            lines.ok(&format!(
                "Azure waits {} s for pre, pre gives up after {} s, hold {} s",
                ms / 1000,
                own_time_ms(ms) / 1000,
                hold_ms / 1000
            ));
        }
    }
    if hold_ms < LONGEST_MS {
        let text = format!("[azure_backup] hold is {} s; a slow snapshot of Azure takes up to {} s", hold_ms / 1000, LONGEST_MS / 1000);
        lines.warn(&text);
    }
}

fn script(lines: &mut Lines, config: &Value, key: &str, missing: u32, mode: &str, verb: &str) {
    let Some(path) = config[key].as_str().filter(|p| !p.is_empty()) else {
        return lines.fail(&format!("{key} is not given (305): no script is run"));
    };
    let path = Path::new(path);
    if !path.is_file() {
        return lines.fail(&format!("{key}: {} is not there ({missing}): neither script is run", path.display()));
    }
    owned(lines, path, mode, false);
    let open_to_others = |m: std::fs::Metadata| m.uid() != 0 || m.mode() & 0o022 != 0;
    if path.parent().and_then(|d| d.metadata().ok()).is_some_and(open_to_others) {
        lines.warn(&format!("{}: others than root may write to its directory, and Azure runs it as root", path.display()));
    }
    match std::fs::read(path) {
        Ok(b) if b.starts_with(b"\x7fELF") => {
            lines.fail(&format!("{} is a program; Azure runs `sh {0}` (300): name a wrapper", path.display()))
        }
        Ok(b) => {
            // Without `exec` the time would count from a later moment than Azure's does.
            let execs = |l: &str| l.trim_start().starts_with("exec ") && l.contains(verb);
            if !String::from_utf8_lossy(&b).lines().any(execs) {
                lines.warn(&format!("{} does not `exec snapfreeze hook {verb}`", path.display()));
            }
        }
        Err(e) => lines.fail(&format!("{}: {e}", path.display())),
    }
}

fn workload(lines: &mut Lines, path: &Path) {
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let mut ini = Ini::new();
    match ini.read(text) {
        Ok(_) => {
            if let Some(name) = ini.get("workload", "workload_name").filter(|n| !n.trim().is_empty()) {
                lines
                    .fail(&format!("{} has workload_name {name:?}: then no pre and no post script is run; leave it empty", path.display()));
            }
        }
        Err(e) => lines.fail(&format!("{}: {e}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    struct Bed(tempfile::TempDir);

    const HOST: &str = "[pre_post]\ntimeoutInSeconds: 1800\nnumberOfPlugins: 1\npluginName0: ScriptRunner\npluginPath0: /etc/azure\npluginConfigPath0: {config}\n";

    impl Bed {
        fn new() -> Self {
            let b = Self(tempfile::tempdir().unwrap());
            for d in ["azure", "waagent", "services/system.slice"] {
                fs::create_dir_all(b.0.path().join(d)).unwrap();
            }
            fs::set_permissions(b.at("azure"), PermissionsExt::from_mode(0o755)).unwrap();
            b.put("pre.sh", 0o700, "exec snapfreeze hook azure-backup pre \"$@\"\n");
            b.put("post.sh", 0o700, "exec snapfreeze hook azure-backup post \"$@\"\n");
            b.put(CONFIG, 0o600, &b.json(&[]).to_string());
            b.put(HOST_CONF, 0o644, &HOST.replace("{config}", b.file(CONFIG).to_str().unwrap()));
            b
        }
        fn at(&self, p: &str) -> PathBuf {
            self.0.path().join(p)
        }
        fn file(&self, name: &str) -> PathBuf {
            self.at("azure").join(name)
        }
        fn put(&self, name: &str, mode: u32, text: &str) {
            fs::write(self.file(name), text).unwrap();
            fs::set_permissions(self.file(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        fn json(&self, change: &[(&str, Value)]) -> Value {
            let mut v = serde_json::json!({ "pluginName": "ScriptRunner", "preScriptLocation": self.file("pre.sh"),
                "postScriptLocation": self.file("post.sh"), "preScriptParams": ["", ""], "postScriptParams": ["", ""],
                "preScriptNoOfRetries": 0, "postScriptNoOfRetries": 0, "timeoutInSeconds": 60, "continueBackupOnFailure": false,
                "fsFreezeEnabled": true, "ScriptsExecutionPollTimeSeconds": 1 });
            for (k, to) in change {
                match to {
                    Value::Null => drop(v.as_object_mut().unwrap().remove(*k)),
                    to => v[*k] = to.clone(),
                }
            }
            v
        }
        fn look(&self) -> Vec<Check> {
            let roots = Roots { azure: self.at("azure"), waagent: self.at("waagent"), services: self.at("services") };
            look(&roots, 300_000)
        }
    }

    /// Whether files can be given to root and taken from it.
    fn root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn good_files_are_ok_and_every_silent_fallback_is_named() {
        use serde_json::json;
        let good = Bed::new();
        let lines = good.look();
        let not_ok: Vec<_> = lines.iter().filter(|l| l.level != Level::Ok && (root() || !l.text.contains("belongs to user"))).collect();
        assert!(not_ok.is_empty() && lines.iter().any(|l| l.text.contains("pre gives up after 48 s")), "{lines:?}");

        type Break = Box<dyn Fn(&Bed)>;
        let set =
            |key: &'static str, to: Value| -> Break { Box::new(move |b| b.put(CONFIG, 0o600, &b.json(&[(key, to.clone())]).to_string())) };
        let mode = |name: &'static str, mode: u32| -> Break {
            Box::new(move |b| fs::set_permissions(b.file(name), PermissionsExt::from_mode(mode)).unwrap())
        };
        let write = |name: &'static str, text: &'static str| -> Break { Box::new(move |b| b.put(name, 0o600, text)) };
        let mut cases: Vec<(Break, &str, Level)> = vec![
            (mode(CONFIG, 0o640), "0640 (317", Level::Fail),
            (mode(CONFIG, 0o644), "317", Level::Fail),
            (mode(CONFIG, 0o700), "317", Level::Fail),
            (mode(HOST_CONF, 0o666), "314", Level::Fail),
            (mode("pre.sh", 0o750), "306", Level::Fail),
            (mode("post.sh", 0o705), "307", Level::Fail),
            (set("timeoutInSeconds", json!("30")), "304", Level::Fail),
            (set("timeoutInSeconds", Value::Null), "10 s", Level::Warn),
            (set("timeoutInSeconds", json!(5)), "gives up after 4000 ms", Level::Fail),
            (set("preScriptLocation", Value::Null), "305", Level::Fail),
            (set("postScriptLocation", json!("")), "305", Level::Fail),
            (set("preScriptLocation", json!("/nowhere/pre.sh")), "302", Level::Fail),
            (set("postScriptLocation", json!("/nowhere/post.sh")), "303", Level::Fail),
            (set("preScriptLocation", json!("/bin/true")), "wrapper", Level::Fail),
            (set("preScriptParams", json!("x")), "list of strings", Level::Fail),
            (set("continueBackupOnFailure", json!(true)), "all the same", Level::Warn),
            (set("continueBackupOnFailure", Value::Null), "all the same", Level::Warn),
            (set("continueBackupOnFailure", json!("false")), "not true or false", Level::Fail),
            (set("fsFreezeEnabled", json!(1)), "not true or false", Level::Fail),
            (set("ScriptsExecutionPollTimeSeconds", Value::Null), "3 s later", Level::Warn),
            (write(CONFIG, "{"), "304 or 305", Level::Fail),
            (write(HOST_CONF, "[pre_post]\nnumberOfPlugins: 0\n"), "304", Level::Fail),
            (write(HOST_CONF, "[pre_post]\ntimeoutInSeconds: soon\nnumberOfPlugins: 1\npluginName0: ScriptRunner\n"), "304", Level::Fail),
            (write(HOST_CONF, "[pre_post]\nnumberOfPlugins: 1\npluginName0: ScriptRunner\npluginConfigPath0: /x\n"), "/x", Level::Fail),
            (write(WORKLOAD, "[workload]\nworkload_name = oracle\n"), "workload_name", Level::Fail),
            (Box::new(|b| b.put("pre.sh", 0o700, "echo frozen\n")), "does not `exec", Level::Warn),
            (Box::new(|b| b.put("pre.sh", 0o700, "snapfreeze hook azure-backup pre\n")), "does not `exec", Level::Warn),
            (mode("", 0o777), "others than root", Level::Warn),
            (Box::new(|b| fs::create_dir(b.at("services/system.slice/directsnapshot.service")).unwrap()), "directsnapshot", Level::Fail),
            (
                Box::new(|b| {
                    fs::remove_file(b.file(CONFIG)).unwrap();
                    fs::create_dir(b.at("waagent/Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0.9199.0")).unwrap();
                }),
                "316",
                Level::Warn,
            ),
        ];
        if root() {
            for (name, code) in [(CONFIG, "318"), (HOST_CONF, "315"), ("pre.sh", "306"), ("post.sh", "307")] {
                let strange: Break = Box::new(move |b| std::os::unix::fs::chown(b.file(name), Some(1000), None).unwrap());
                cases.push((strange, code, Level::Fail));
            }
        }
        for (n, (spoil, must, level)) in cases.iter().enumerate() {
            let bed = Bed::new();
            spoil(&bed);
            let lines = bed.look();
            assert!(lines.iter().any(|l| l.level == *level && l.text.contains(must)), "case {n}, {must}: {lines:?}");
        }
        // What Azure does not mind.
        for spoil in [mode(CONFIG, 0o400), mode("pre.sh", 0o600), mode("pre.sh", 0o4700), write(WORKLOAD, "[workload]\nworkload_name =\n")]
        {
            let bed = Bed::new();
            spoil(&bed);
            assert!(bed.look().iter().all(|l| l.level == Level::Ok || !root()), "{:?}", bed.look());
        }
        // Neither extension nor file: nothing to say.
        let bed = Bed::new();
        fs::remove_file(bed.file(CONFIG)).unwrap();
        assert!(bed.look().is_empty());
    }

    #[test]
    fn the_smaller_of_both_times_counts() {
        let bed = Bed::new();
        let ms = || Plugin::read(&bed.at("azure")).and_then(|p| p.script_timeout_ms());
        assert_eq!(ms(), Ok(60_000));
        bed.put(CONFIG, 0o600, &bed.json(&[("timeoutInSeconds", 9_000.into())]).to_string());
        assert_eq!(ms(), Ok(1_800_000));
        bed.put(HOST_CONF, 0o600, "[pre_post]\ntimeoutInSeconds = 20\n");
        assert_eq!(ms(), Ok(20_000));
        fs::remove_file(bed.file(HOST_CONF)).unwrap();
        bed.put(CONFIG, 0o600, &bed.json(&[("timeoutInSeconds", Value::Null)]).to_string());
        assert_eq!(ms(), Ok(10_000));
        fs::remove_file(bed.file(CONFIG)).unwrap();
        assert!(ms().is_err());
        for t in [10_000, 30_000, 1_800_000] {
            assert!(own_time_ms(t) + 2_000 <= t);
        }
    }
}
