//! Windows in a cloud, side by side in one run: held by the coordinator over SSM, held by the host, and a plain script of freeze –
//! `aws ec2 create-snapshots` – thaw on the host. Same simulator, same double of EC2 and SSM, one after the other in every round.
//!
//! The window is what the engine's own history says, the snapshot call what the double's record says. The rest is own share.

use super::{Row, at, docs};
use cloud_sim::{Call, CloudSim, Config, Instance, Volume};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use suite::cloud::fleet::documents;
use suite::cloud::tools::{credentials, tools};
use suite::stage::{Db, Host, program};

/// What SSM takes to a host, and the same again for the answer; rounds.
const DELAYS: [(u64, usize); 3] = [(0, 20), (1_000, 20), (3_000, 10)];
/// A real instance's.
const ENGINE: [&str; 2] = ["freeze_delay_ms=1100", "thaw_delay_ms=1000"];
const GOAL_RATIO: f64 = 0.1;
const ID: &str = "i-0123456789abcdef0";
const VOLUME: &str = "vol-0123456789abcdef0";
const REGION: &str = "us-east-1";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Coordinator,
    Host,
    Script,
}

impl Held {
    const ALL: [Self; 3] = [Self::Coordinator, Self::Host, Self::Script];

    const fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Host => "host",
            Self::Script => "script",
        }
    }
}

/// One window, in ms.
struct Sample {
    delay: u64,
    round: usize,
    held: Held,
    freeze: f64,
    call: f64,
    thaw: f64,
    window: f64,
    /// Ways through SSM that the window waits for.
    hops: usize,
}

impl Sample {
    fn own(&self) -> f64 {
        self.window - self.freeze - self.call - self.thaw
    }
}

/// All delays; the figures, and the section of the document.
pub fn windows(dir: &Path, rows: &mut Vec<Row>, details: &mut String) -> Result<(), String> {
    let aws = tools().join("aws/bin/aws");
    if !aws.is_file() {
        details.push_str("\nThe AWS command line is not installed here (`make setup`): windows in the cloud were not measured.\n");
        return Ok(());
    }
    let mut samples = Vec::new();
    for (delay, rounds) in DELAYS {
        let site = Site::start(&dir.join(format!("aws-{delay}")), delay, &aws)?;
        for held in Held::ALL {
            site.run(held)?; // caches are warm, for all three
            site.forget()?;
        }
        for round in 0..rounds {
            for n in 0..Held::ALL.len() {
                let held = Held::ALL[(round + n) % Held::ALL.len()];
                let s = site.sample(held, round)?;
                let (window, own) = (s.window, s.own());
                eprintln!("bench: SSM {delay} ms, round {}: {}: window {window:.0} ms, own share {own:.1} ms", round + 1, held.name());
                samples.push(s);
            }
        }
    }
    save(&samples)?;
    report(&samples, rows, details);
    Ok(())
}

/// One instance with its agent, behind the double.
struct Site {
    sim: CloudSim,
    host: Host,
    root: PathBuf,
    delay: u64,
    aws: PathBuf,
}

impl Site {
    fn start(dir: &Path, delay: u64, aws: &Path) -> Result<Self, String> {
        let text = |e: std::io::Error| e.to_string();
        let db = Db::iris(dir)?.ok_or("no database")?;
        db.ctl(&ENGINE)?;
        let root = dir.join("iris/root");
        let host = Host::start(&dir.join("iris"), db)?;
        let mut config = Config::new(dir.join("cloud"));
        // Rates are not what is measured here.
        (config.ec2.per_volume_rate_ms, config.ec2.pending_limits, config.ec2.buckets) = (0, false, false);
        config.ec2.complete_after_ms = 50;
        let sim = CloudSim::start(config).map_err(text)?;
        for (name, content) in documents() {
            sim.put_document(&name, &content)?;
        }
        let volume = Volume::new(VOLUME, "/dev/sdf").dir(root.join("iris"));
        sim.add_instance(Instance::new(ID).volume(Volume::new("vol-0123456789abcdef1", "/dev/xvda")).volume(volume));
        let config = host.dir.join("agent.toml");
        let mut machine = cloud_sim::Host::new(ID)
            .env("SNAPFREEZE_CONFIG", &config.to_string_lossy())
            .path("/usr/bin/snapfreeze", program("snapfreeze")?)
            .deliver_ms(delay)
            .imds();
        machine.reply_ms = Some(delay);
        sim.add_host(machine);
        let site = Self { sim, host, root, delay, aws: aws.into() };
        site.files(&config).map_err(text)?;
        site.host.kill_agent()?;
        site.host.start_agent()?;
        Ok(site)
    }

    /// The agent's configuration, the way to its helper, a policy each, and the plain script.
    fn files(&self, config: &Path) -> std::io::Result<()> {
        let (dir, endpoint) = (&self.host.dir, self.sim.endpoint());
        let helper = dir.join("ebs");
        let backup = format!("helper_covers = \"paths\"\nsnapshotter = \"command\"\ncommand = [\"/bin/sh\", \"{}\"]\n", helper.display());
        let layout = format!("\n[layout]\nvolumes = {{ \"{}\" = \"{VOLUME}\" }}\n", self.root.display());
        let text = std::fs::read_to_string(config)?.replace("helper_covers = \"paths\"\n", &backup);
        std::fs::write(config, text + &layout)?;
        let imds = self.sim.imds(ID).unwrap_or_default();
        let ebs = program("snapfreeze-ebs").map_err(std::io::Error::other)?;
        let exec = format!(
            "export AWS_EC2_METADATA_SERVICE_ENDPOINT={imds} AWS_ENDPOINT_URL_EC2={endpoint}\nexec {} --snapshot 2s\n",
            ebs.display()
        );
        std::fs::write(helper, exec)?;
        for held in [Held::Coordinator, Held::Host] {
            let policy = json!({ "name": "bench", "select": { "ids": [ID] }, "held_by": held.name(), "hold": "30s", "snapshot": "2s" });
            std::fs::write(dir.join(held.name()), policy.to_string())?;
        }
        // Nothing between the three that is not needed; tags in the call itself, as ours.
        let session = format!("{}/bin/irissession IRIS -U%SYS '##Class(Backup.General)", self.root.display());
        let tags = "ResourceType=snapshot,Tags=[{Key=Name,Value=nightly},{Key=host,Value=db1}]";
        let script = format!(
            "{session}.ExternalFreeze(\"{0}/freeze.log\",,,,,,600,,,300)'\n[ $? = 5 ] || exit 1\n\
             {1} ec2 create-snapshots --instance-specification InstanceId={ID} --tag-specifications '{tags}' >/dev/null\nmade=$?\n\
             {session}.ExternalThaw(\"{0}/thaw.log\")'\n[ $? = 5 ] || exit 1\nexit $made\n",
            dir.display(),
            self.aws.display()
        );
        std::fs::write(dir.join(Held::Script.name()), script)
    }

    fn run(&self, held: Held) -> Result<(), String> {
        let file = self.host.dir.join(held.name());
        let mut c = match held {
            Held::Coordinator | Held::Host => {
                let mut c = Command::new(program("snapfreezectl")?);
                c.args(["backup", "--json", "--no-wait", "--policy"]).env("XDG_STATE_HOME", &self.host.dir);
                c
            }
            Held::Script => Command::new("/bin/sh"),
        };
        c.arg(file).envs(credentials()).env("AWS_REGION", REGION).env("AWS_DEFAULT_REGION", REGION);
        c.env("AWS_ENDPOINT_URL", self.sim.endpoint()).env("AWS_PAGER", "").stdin(Stdio::null());
        let out = c.output().map_err(|e| e.to_string())?;
        let said = || format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        if out.status.success() { Ok(()) } else { Err(format!("held by {}: {}: {}", held.name(), out.status, said())) }
    }

    /// Only the times are wanted; and nobody waits for the 15 s between two snapshots of a volume.
    fn forget(&self) -> Result<(), String> {
        for s in self.sim.snapshots() {
            let body = format!("Action=DeleteSnapshot&Version=2016-11-15&SnapshotId={}", s.id);
            let head = "POST / HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n";
            let mut c = TcpStream::connect(self.sim.address()).map_err(|e| e.to_string())?;
            let mut said = String::new();
            write!(c, "{head}content-length: {}\r\n\r\n{body}", body.len())
                .and_then(|()| c.read_to_string(&mut said))
                .map_err(|e| e.to_string())?;
            s.dir.map(std::fs::remove_dir_all).transpose().ok();
        }
        if self.sim.snapshots().is_empty() { Ok(()) } else { Err("the double kept a snapshot".into()) }
    }

    fn sample(&self, held: Held, round: usize) -> Result<Sample, String> {
        let history = self.host.dir.join("history.jsonl");
        let seen = std::fs::metadata(&history).map_or(0, |m| m.len()) as usize;
        let called = self.sim.calls().len();
        self.run(held)?;
        let text = std::fs::read_to_string(&history).map_err(|e| e.to_string())?;
        let events: Vec<Value> = text[seen..].lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let at = |name: &str| {
            let mut all = events.iter().filter(|e| e["event"] == name).filter_map(|e| e["t_ms"].as_f64());
            all.next().filter(|_| all.next().is_none()).ok_or(format!("not exactly one {name} in the history"))
        };
        let (begun, frozen, thaw, thawed) = (at("freeze_called")?, at("freeze_done")?, at("thaw_called")?, at("thaw_done")?);
        let calls = self.sim.calls().split_off(called);
        let mut taken = calls.iter().filter(|c| c.action == "CreateSnapshots" && c.params["DryRun"] != "true");
        let call = taken.next().filter(|_| taken.next().is_none()).ok_or("not exactly one snapshot call")?;
        let (from, to) = (call.in_us as f64 / 1e3, call.out_us.ok_or("no reply")? as f64 / 1e3);
        if from < frozen || to > thaw {
            return Err(format!("held by {}: the snapshot call lies outside of the freeze", held.name()));
        }
        self.forget()?;
        let (freeze, thaw_ms, window) = (frozen - begun, thawed - thaw, thawed - begun);
        let hops = hops(&calls, begun, thawed);
        Ok(Sample { delay: self.delay, round, held, freeze, call: to - from, thaw: thaw_ms, window, hops })
    }
}

/// Commands sent inside the window, and commands whose answer was awaited in it: those that nobody asked about afterwards.
fn hops(calls: &[Call], from_ms: f64, to_ms: f64) -> usize {
    let inside = |c: &&Call| (from_ms..=to_ms).contains(&(c.in_us as f64 / 1e3));
    let sent = calls.iter().filter(inside).filter(|c| c.action == "SendCommand").count();
    let asked = |c: &&Call| c.action == "GetCommandInvocation";
    let mut answered: Vec<_> = calls.iter().filter(inside).filter(asked).map(|c| &c.document).collect();
    answered.dedup();
    let later = |d: &Option<String>| calls.iter().filter(asked).any(|c| c.in_us as f64 / 1e3 > to_ms && c.document == *d);
    sent + answered.into_iter().filter(|d| !later(d)).count()
}

fn save(samples: &[Sample]) -> Result<(), String> {
    let mut text = String::from("ssm_delay_ms,round,held_by,window_ms,freeze_ms,call_ms,thaw_ms,own_ms,hops\n");
    for s in samples {
        let (Sample { delay, round, window, freeze, call, thaw, hops, .. }, who, own) = (s, s.held.name(), s.own());
        let _ = writeln!(text, "{delay},{round},{who},{window:.3},{freeze:.3},{call:.3},{thaw:.3},{own:.3},{hops}");
    }
    std::fs::write(docs().join("figures/aws-windows.csv"), text).map_err(|e| e.to_string())
}

fn report(samples: &[Sample], rows: &mut Vec<Row>, details: &mut String) {
    details.push_str("\n### Windows, side by side\n\n");
    let columns = ["SSM, each way", "held by", "windows", "window p50 / p99, ms", "engine p50", "call p50", "own share p50 / p99", "hops"];
    let _ = writeln!(details, "| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for (delay, _) in DELAYS {
        let of = |held: Held| samples.iter().filter(|s| s.delay == delay && s.held == held).collect::<Vec<_>>();
        let own = |held: Held, p: f64| at(of(held).iter().map(|s| s.own()).collect(), p);
        for held in Held::ALL {
            let all = of(held);
            let pick = |f: fn(&Sample) -> f64, p| at(all.iter().map(|s| f(s)).collect(), p);
            let (least, most) = (all.iter().map(|s| s.hops).min().unwrap_or(0), all.iter().map(|s| s.hops).max().unwrap_or(0));
            let hops = if least == most { most.to_string() } else { format!("{least} to {most}") };
            let _ = writeln!(
                details,
                "| {delay} ms | {} | {} | {:.0} / {:.0} | {:.0} | {:.1} | {:.1} / {:.1} | {hops} |",
                held.name(),
                all.len(),
                pick(|s| s.window, 0.5),
                pick(|s| s.window, 0.99),
                pick(|s| s.freeze + s.thaw, 0.5),
                pick(|s| s.call, 0.5),
                pick(Sample::own, 0.5),
                pick(Sample::own, 0.99),
            );
            let goal = match held {
                Held::Host => 0,
                Held::Coordinator => 2,
                Held::Script => continue,
            };
            rows.push(Row {
                what: format!("cloud hops inside the window, held by the {}, SSM {delay} ms", held.name()),
                value: hops,
                goal: goal.to_string(),
                met: most == goal,
            });
        }
        let ratio = |p| own(Held::Host, p) / own(Held::Script, p);
        rows.push(Row {
            what: format!("own share, held by the host against the plain script, SSM {delay} ms, p50 / p99"),
            value: format!("{:.3} × / {:.3} ×", ratio(0.5), ratio(0.99)),
            goal: format!("≤ {GOAL_RATIO} ×"),
            met: ratio(0.5) <= GOAL_RATIO && ratio(0.99) <= GOAL_RATIO,
        });
    }
}
