//! A host with the shipped scripts and configuration in a directory of its own.

use plugin_host::PluginHost;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use suite::host::{Host, Setup, What, snapfreeze};

pub const CONFIG: &str = "VMSnapshotScriptPluginConfig.json";
pub const HOST_CONF: &str = "VMSnapshotPluginHost.conf";

pub struct Bed {
    pub h: Host,
    pub etc: PathBuf,
    records: PathBuf,
}

/// Room enough for a loaded machine, and for a hold of Azure Backup's.
pub fn calm() -> Setup {
    Setup {
        hold_ms: 6_000,
        window: "wd_suspend_limit = \"600s\"\n".into(),
        margins: "watchdog = \"1s\"\nthaw_budget = \"3s\"\nfreeze = \"30s\"\nrung = \"2s\"\nguard = \"1s\"\n".into(),
        workload: false,
        ..Setup::default()
    }
}

/// The plug-in host asks for files of root. `test` says that it is skipped.
pub fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIP {test}: not root");
    }
    root
}

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/azure/backup").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Bed {
    pub fn new(more: &str) -> Self {
        let h = Host::iris(calm());
        let root = h.disk.path().to_owned();
        Self::on(h, &root, more)
    }

    /// `root`: where the agent's journal and the records lie. `more`: keys of `[azure_backup]`.
    pub fn on(h: Host, root: &Path, more: &str) -> Self {
        let etc = h.run.path().join("azure");
        std::fs::create_dir(&etc).unwrap();
        std::fs::set_permissions(&etc, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(h.agent.stop(10_000));
        let to = root.join("records");
        let agent = h.config_text().replace(&h.state_dir().display().to_string(), &root.join("state").display().to_string());
        let text = format!("{agent}\n[backup]\nto = [\"{}\"]\n[azure_backup]\ndir = \"{}\"\n{more}\n", to.display(), etc.display());
        h.write_config(&text);
        h.start_agent();
        let bed = Self { h, etc, records: to.join("azure-backup") };
        for stage in ["pre", "post"] {
            bed.script(stage, &bed.wrapper(stage));
        }
        let json = shipped(CONFIG).replace("/etc/azure", &bed.etc.display().to_string());
        bed.put(CONFIG, 0o600, &json);
        // The shortest time that `check` calls good; a test may wait for its end.
        bed.set("timeoutInSeconds", 10.into());
        bed.put(HOST_CONF, 0o644, &shipped(HOST_CONF).replace("/etc/azure", &bed.etc.display().to_string()));
        bed
    }

    /// The shipped wrapper, pointed at this host.
    pub fn wrapper(&self, stage: &str) -> String {
        let text = shipped(&format!("{stage}.sh"));
        let exec = "exec /usr/bin/snapfreeze";
        assert!(text.contains(exec), "{text}");
        let here = format!(
            "export SNAPFREEZE_CONFIG={} SNAPFREEZE_POINTS={}\nexec {}",
            self.h.config_path().display(),
            self.h.points.path().display(),
            snapfreeze().display()
        );
        text.replace(exec, &here)
    }

    pub fn script(&self, stage: &str, text: &str) {
        self.put(&format!("snapfreeze-{stage}.sh"), 0o700, text);
    }

    pub fn put(&self, name: &str, mode: u32, text: &str) {
        std::fs::write(self.etc.join(name), text).unwrap();
        std::fs::set_permissions(self.etc.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    pub fn set(&self, key: &str, value: Value) {
        let mut v: Value = serde_json::from_slice(&std::fs::read(self.etc.join(CONFIG)).unwrap()).unwrap();
        v[key] = value;
        self.put(CONFIG, 0o600, &v.to_string());
    }

    pub fn azure(&self) -> PluginHost {
        PluginHost::new(&self.etc)
    }

    /// A stage by hand, as Azure starts it.
    pub fn call(&self, stage: &str) -> Output {
        let mut c = Command::new("sh");
        c.arg(self.etc.join(format!("snapfreeze-{stage}.sh"))).args(["", ""]).stdin(Stdio::null());
        c.output().unwrap()
    }

    /// The records of posts, oldest first.
    pub fn records(&self) -> Vec<Value> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(&self.records).into_iter().flatten().flatten().map(|f| f.path()).collect();
        all.retain(|p| p.extension().is_some_and(|e| e == "json"));
        all.sort();
        all.iter().map(|p| serde_json::from_slice(&std::fs::read(p).unwrap()).unwrap()).collect()
    }

    /// By the engine's own history: frozen so often, and thawed as often.
    #[track_caller]
    pub fn frozen_times(&self, times: usize) {
        self.h.until("the thaw", 15_000, || !self.h.engine.frozen());
        let count = |w: What| self.h.engine.history().iter().filter(|e| e.what == w).count();
        assert_eq!(count(What::Frozen), times, "{:?}", self.h.engine.history());
        assert_eq!(count(What::Frozen), count(What::Thawed) + count(What::LimitThawed), "{:?}", self.h.engine.history());
    }

    /// The fail and warn lines of `check` about Azure Backup.
    pub fn complaints(&self) -> Vec<String> {
        let e = self.h.call(&["check", "--json"]);
        let lines = e.out.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        lines
            .filter(|v| v["name"] == "azure backup" && v["level"] != "ok")
            .map(|v| format!("{}: {}", v["level"].as_str().unwrap_or_default(), v["text"].as_str().unwrap_or_default()))
            .collect()
    }
}

pub fn said(o: &Output) -> String {
    format!("{:?} {}{}", o.status.code(), String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}
