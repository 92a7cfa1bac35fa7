//! Windows on Azure, side by side in one run: held by the host, by the coordinator over managed Run Commands, and over the action.
//! Same simulator, same double of Azure Resource Manager, the same delays, one after the other in every round.
//!
//! The window is what the engine's own history says; from the first snapshot call to the last operation's success by the double's
//! record is the cloud's. The rest is own share, and what Run Command takes.

use super::{Row, at, docs};
use cloud_sim::arm::{ArmConfig, ArmDisk, ArmFault, ArmHost, ArmMatch, ArmRule, ArmSim, SnapshotsConfig, Vm};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use suite::cloud::azure::{GROUP, SUBSCRIPTION};
use suite::stage::{Db, Host, program};

/// What Run Command takes to a host, and the same again for the answer; rounds.
const DELAYS: [(u64, usize); 3] = [(0, 8), (1_000, 8), (4_000, 5)];
/// A real instance's.
const ENGINE: [&str; 2] = ["freeze_delay_ms=1100", "thaw_delay_ms=1000"];
/// From a snapshot's acceptance to its point in time, and on to its success; no figure is published.
const SNAPSHOT_MS: (u64, u64) = (300, 300);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Host,
    Managed,
    Action,
}

impl Held {
    const ALL: [Self; 3] = [Self::Host, Self::Managed, Self::Action];

    const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Managed => "managed Run Command",
            Self::Action => "action Run Command",
        }
    }
}

/// One window, in ms.
struct Sample {
    delay: u64,
    held: Held,
    window: f64,
    engine: f64,
    cloud: f64,
}

pub fn windows(dir: &Path, rows: &mut Vec<Row>, details: &mut String) -> Result<(), String> {
    let mut samples = Vec::new();
    for (delay, rounds) in DELAYS {
        let site = Site::start(&dir.join(format!("azure-{delay}")), delay)?;
        for held in Held::ALL {
            site.sample(held)?; // caches are warm, for all three
        }
        for round in 0..rounds {
            for n in 0..Held::ALL.len() {
                let s = site.sample(Held::ALL[(round + n) % Held::ALL.len()])?;
                eprintln!("bench: Run Command {delay} ms, round {}: {}: window {:.0} ms", round + 1, s.held.name(), s.window);
                samples.push(s);
            }
        }
    }
    save(&samples)?;
    report(&samples, rows, details);
    Ok(())
}

struct Site {
    sim: ArmSim,
    host: Host,
    delay: u64,
    vm: String,
}

impl Site {
    fn start(dir: &Path, delay: u64) -> Result<Self, String> {
        let text = |e: std::io::Error| e.to_string();
        let db = Db::iris(dir)?.ok_or("no database")?;
        db.ctl(&ENGINE)?;
        let root = dir.join("iris/root");
        let host = Host::start(&dir.join("iris"), db)?;
        let snapshots =
            SnapshotsConfig { copy_after_ms: SNAPSHOT_MS.0, finish_after_ms: SNAPSHOT_MS.1, limits: false, ..SnapshotsConfig::default() };
        let sim = ArmSim::start(ArmConfig { snapshots, ..ArmConfig::quick(dir.join("cloud")) }).map_err(text)?;
        let vm = Vm::new(SUBSCRIPTION, GROUP, "db1").os_disk(ArmDisk::new("db1-os"));
        let id = vm.id();
        sim.add_vm(vm.data_disk(0, ArmDisk::new("db1-data").dir(root.join("iris"))));
        let config = host.dir.join("agent.toml");
        let machine =
            ArmHost::new(&id).env("SNAPFREEZE_CONFIG", &config.to_string_lossy()).path("/usr/bin/snapfreeze", program("snapfreeze")?);
        sim.add_host(machine.deliver_ms(delay).reply_ms(delay));
        let site = Self { sim, host, delay, vm: id };
        site.files(&config, &root).map_err(text)?;
        site.host.kill_agent()?;
        site.host.start_agent()?;
        Ok(site)
    }

    /// The agent's configuration, the way to its helper, and a policy each.
    fn files(&self, config: &Path, root: &Path) -> std::io::Result<()> {
        let helper = self.host.dir.join("azdisk");
        let backup = format!("helper_covers = \"paths\"\nsnapshotter = \"command\"\ncommand = [\"/bin/sh\", \"{}\"]\n", helper.display());
        let layout = format!("\n[layout]\nvolumes = {{ \"{}\" = \"lun:0\" }}\n", root.display());
        let text = std::fs::read_to_string(config)?.replace("helper_covers = \"paths\"\n", &backup);
        std::fs::write(config, text + &layout)?;
        let exec = format!(
            "export AZURE_POD_IDENTITY_AUTHORITY_HOST={} SNAPFREEZE_ARM_ENDPOINT={}\nexec {} --exclude-boot --snapshot 2s\n",
            self.sim.imds(&self.vm),
            self.sim.endpoint(),
            program("snapfreeze-azdisk").map_err(std::io::Error::other)?.display()
        );
        std::fs::write(helper, exec)?;
        for held in ["host", "coordinator"] {
            let policy = json!({ "name": "bench", "select": { "ids": [self.vm] }, "held_by": held, "hold": "30s", "snapshot": "2s", "exclude_boot": true });
            std::fs::write(self.policy(held), policy.to_string())?;
        }
        Ok(())
    }

    fn policy(&self, held: &str) -> PathBuf {
        self.host.dir.join(format!("{held}.json"))
    }

    fn sample(&self, held: Held) -> Result<Sample, String> {
        self.sim.clear_faults();
        if held == Held::Action {
            let none = ArmFault::Status { status: 409, code: "OperationNotAllowed".into(), retry_after_s: None };
            self.sim.fault(ArmRule::new(ArmMatch::op("run.put"), none).always());
        }
        let history = self.host.dir.join("history.jsonl");
        let seen = std::fs::metadata(&history).map_or(0, |m| m.len()) as usize;
        let before: Vec<String> = self.sim.snapshots().into_iter().map(|s| s.id).collect();
        let mut c = Command::new(program("snapfreeze-job")?);
        c.args(["backup", "--policy"]).arg(self.policy(if held == Held::Host { "host" } else { "coordinator" }));
        c.env("SNAPFREEZE_ARM_ENDPOINT", self.sim.endpoint()).env("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION).envs(self.sim.identity_env());
        let out = c.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        if !out.status.success() {
            return Err(format!("held by {}: {}: {}", held.name(), out.status, String::from_utf8_lossy(&out.stdout)));
        }
        let text = std::fs::read_to_string(&history).map_err(|e| e.to_string())?;
        let events: Vec<Value> = text[seen..].lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let one = |name: &str| {
            let mut all = events.iter().filter(|e| e["event"] == name).filter_map(|e| e["t_ms"].as_f64());
            all.next().filter(|_| all.next().is_none()).ok_or(format!("not exactly one {name} in the history"))
        };
        let (begun, frozen, thaw, thawed) = (one("freeze_called")?, one("freeze_done")?, one("thaw_called")?, one("thaw_done")?);
        let made: Vec<_> = self.sim.snapshots().into_iter().filter(|s| !before.contains(&s.id)).collect();
        let [s] = made.as_slice() else { return Err(format!("{} snapshots were made", made.len())) };
        let (from, to) = (s.put_us as f64 / 1e3, s.end_us as f64 / 1e3);
        if from < frozen || to > thaw {
            return Err(format!("held by {}: the snapshot lies outside of the freeze", held.name()));
        }
        // So that seven in five minutes do not end this.
        let aged = cloud_sim::arm::ArmSnapshot { created_wall_ms: s.created_wall_ms - 600_000, ..s.clone() };
        self.sim.put_snapshot(aged);
        Ok(Sample { delay: self.delay, held, window: thawed - begun, engine: (frozen - begun) + (thawed - thaw), cloud: to - from })
    }
}

fn save(samples: &[Sample]) -> Result<(), String> {
    let mut text = String::from("run_command_delay_ms,held_by,window_ms,engine_ms,cloud_ms\n");
    for s in samples {
        let _ = writeln!(text, "{},{},{:.3},{:.3},{:.3}", s.delay, s.held.name(), s.window, s.engine, s.cloud);
    }
    std::fs::write(docs().join("figures/azure-windows.csv"), text).map_err(|e| e.to_string())
}

fn report(samples: &[Sample], rows: &mut Vec<Row>, details: &mut String) {
    let columns = ["Run Command, each way", "held by", "windows", "window p50 / p99, ms", "engine p50", "snapshot p50", "rest p50 / p99"];
    let _ = writeln!(details, "\n| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for (delay, _) in DELAYS {
        let of = |held: Held, f: fn(&Sample) -> f64, p: f64| {
            at(samples.iter().filter(|s| s.delay == delay && s.held == held).map(f).collect(), p)
        };
        let rest = |s: &Sample| s.window - s.engine - s.cloud;
        for held in Held::ALL {
            let count = samples.iter().filter(|s| s.delay == delay && s.held == held).count();
            let _ = writeln!(
                details,
                "| {delay} ms | {} | {count} | {:.0} / {:.0} | {:.0} | {:.0} | {:.0} / {:.0} |",
                held.name(),
                of(held, |s| s.window, 0.5),
                of(held, |s| s.window, 0.99),
                of(held, |s| s.engine, 0.5),
                of(held, |s| s.cloud, 0.5),
                of(held, rest, 0.5),
                of(held, rest, 0.99),
            );
        }
        let ratio = of(Held::Host, |s| s.window, 0.5) / of(Held::Managed, |s| s.window, 0.5);
        // No hop lies in the host's own window, whatever Run Command takes.
        let met = of(Held::Host, rest, 0.99) < of(Held::Managed, rest, 0.5);
        rows.push(Row {
            what: format!("window held by the host against the managed Run Command's, Run Command {delay} ms, p50"),
            value: format!("{ratio:.2} ×"),
            goal: "own share below".into(),
            met,
        });
    }
}
