//! What the tests of the program share: the cloud double with hosts whose agent is a script, and the built `snapfreezectl`.
//! The script keeps the agent's contract over SSM (last line, exit codes, tombstones); the real agent is tested in `suite`.
#![allow(clippy::disallowed_methods, dead_code, reason = "tests stand outside the doors; not every test uses all of it")]

use cloud_sim::{Call, CloudSim, Config, Host, Instance, Volume};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const AGENT: &str = r#"#!/bin/sh
# An agent that keeps its contract: `frozen` is its lock, `ended.ID` its tombstones.
verb=$1; shift
while [ $# -gt 0 ]; do
  case $1 in --id) id=$2; shift;; --hold) hold=${2%ms}; shift;; --by) by=$2; shift;; esac
  shift
done
now=$(date +%s%3N)
marks='[{"instance":"IRIS","marks":[{"switched":"/jrn/20261126.002","required":"/jrn/20261126.001","offset":4711}]}]'
answer() { printf 'SNAPFREEZE '; tr -d '\n'; echo; }
problem() { answer <<END
{"schema":1,"type":"problem","id":"$id","code":"$1","detail":"$2"}
END
exit 4; }
cd "$STATE" || exit 1
case $verb in
facts)
  answer <<END
{"schema":1,"type":"facts","id":"$id","agent_version":"0.1.0","host":"$HOST","now":$now,"phase":"idle","left_frozen":false,
"largest_hold_ms":600000,"instances":[{"instance":"IRIS","engine":"iris","engine_version":"2024.1","frozen":"no"}],
"volumes":[{"volume":"$DATA","device":"/dev/nvme1n1","mounts":["/data"],"roles":["data"]}],"problems":[]}
END
  ;;
freeze)
  [ -e "ended.$id" ] && problem Freeze.Refused.UsedId "thawed already"
  [ -e refuse ] && problem Freeze.Refused.Busy "another freeze is open"
  echo "$id $now" >frozen; echo "$id" >>freezes
  answer <<END
{"schema":1,"type":"freeze","id":"$id","remaining_ms":$hold,"frozen_at":$now,"freeze_ms":5,
"instances":$marks,"warnings":[],"by":"$by","sync_ms":3}
END
  ;;
thaw)
  echo "$id" >>thaws; : >"ended.$id"
  [ -e frozen ] || problem Thaw.UnknownId "no such freeze"
  read -r owner since <frozen
  [ "$owner" = "$id" ] || problem Thaw.UnknownId "no such freeze"
  rm frozen
  answer <<END
{"schema":1,"type":"window","id":"$id","backup_id":"$id","state":{"state":"unbroken"},"frozen_at":$since,"thawed_at":$now,
"window_ms":$((now - since)),"parts":[],"marks":$marks,"evidence":[]}
END
  ;;
esac
"#;

/// Shorter than those of `infra/aws`; the names of documents and parameters are the same.
fn document(verb: &str, parameters: &[&str]) -> String {
    let declared: String = parameters.iter().map(|p| format!("  {p}: {{ type: String }}\n")).collect();
    let options: String = parameters
        .iter()
        .filter_map(|p| {
            Some(format!(
                " {} '{{{{{p}}}}}'",
                match *p {
                    "backupId" => "--id",
                    "hold" => "--hold",
                    "by" => "--by",
                    _ => return None,
                }
            ))
        })
        .collect();
    format!(
        "schemaVersion: '2.2'\ndescription: test\nparameters:\n{declared}mainSteps:\n- action: aws:runShellScript\n  \
         name: snapfreeze\n  inputs:\n    timeoutSeconds: '60'\n    runCommand:\n    - exec /usr/bin/snapfreeze {verb}{options}\n"
    )
}

pub struct Stage {
    pub sim: CloudSim,
    pub dir: tempfile::TempDir,
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The objects of `--json`, each with schema and type.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let all: Vec<Value> = self.out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
        assert!(all.iter().all(|v| v["schema"] == 1 && v["type"].is_string()), "{}", self.out);
        all.into_iter().filter(|v| v["type"] == kind).collect()
    }

    pub fn object(&self, kind: &str) -> Value {
        let mut all = self.objects(kind);
        assert_eq!(all.len(), 1, "one {kind} in {}\n{}", self.out, self.err);
        all.remove(0)
    }

    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }
}

impl Stage {
    /// Hosts `i-1` … with a root volume and `vol-data-N`, each with an agent.
    pub fn new(hosts: u32) -> Self {
        Self::named(hosts, |n| format!("db{n}"))
    }

    /// One host that moved to new volumes again and again: a volume is snapshotted every 15 s at most, and nobody waits here.
    pub fn moving(times: u32) -> Self {
        Self::named(times, |_| "db1".into())
    }

    fn named(hosts: u32, name: impl Fn(u32) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::quick(dir.path().join("cloud"));
        // Whether the copies are complete is asked every 30 s.
        config.ec2.complete_after_ms = 0;
        let sim = CloudSim::start(config).unwrap();
        let agent = dir.path().join("agent");
        fs::write(&agent, AGENT).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        for n in 1..=hosts {
            let (id, data) = (format!("i-{n}"), format!("vol-data-{n}"));
            let state = dir.path().join(&id);
            fs::create_dir(&state).unwrap();
            let root = Volume::new(&format!("vol-root-{n}"), "/dev/xvda");
            sim.add_instance(
                Instance::new(&id).tag("fleet", "yes").tag("Name", &name(n)).volume(root).volume(Volume::new(&data, "/dev/sdf")),
            );
            let host = Host::new(&id).path("/usr/bin/snapfreeze", &agent).env("DATA", &data).env("HOST", &name(n));
            sim.add_host(host.env("STATE", state.to_str().unwrap()));
        }
        let ordered = ["backupId", "hold", "issuedAt", "notAfter", "by", "instances"];
        sim.put_document("snapfreeze-facts", &document("facts", &["backupId", "hold"])).unwrap();
        sim.put_document(
            "snapfreeze-freeze",
            &document("freeze", &ordered).replace("instances: { type: String }", "instances: { type: String, default: '' }"),
        )
        .unwrap();
        sim.put_document("snapfreeze-thaw", &document("thaw", &["backupId", "by"])).unwrap();
        Self { sim, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `name`, all of the fleet, and what is given on top.
    pub fn policy(&self, name: &str, more: Value) -> String {
        let mut p = json!({ "name": name, "select": { "tags": { "fleet": "yes" } }, "hold": "20s", "snapshot": "1s" });
        for (k, v) in more.as_object().unwrap() {
            p[k] = v.clone();
        }
        let file = self.path(&format!("{name}.json"));
        fs::write(&file, p.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_snapfreezectl"));
        c.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.dir.path()).env("AWS_ENDPOINT_URL", self.sim.endpoint());
        c.env("AWS_REGION", "us-east-1").env("AWS_ACCESS_KEY_ID", "AKIDTEST").env("AWS_SECRET_ACCESS_KEY", "test");
        c.env("AWS_EC2_METADATA_DISABLED", "true").args(args);
        c
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Backup of every host, all held; their ids.
    pub fn backup(&self, policy: &str) -> Vec<String> {
        self.held(&["backup", "--json", "--policy", policy])
    }

    pub fn backup_of(&self, policy: &str, instance: &str) -> String {
        self.held(&["backup", "--json", "--policy", policy, "--instance", instance]).remove(0)
    }

    fn held(&self, args: &[&str]) -> Vec<String> {
        let all = self.run(args).ended(0).objects("backup");
        assert!(all.iter().all(|b| b["state"] == "held"), "{all:?}");
        all.iter().map(|b| b["id"].as_str().unwrap().to_owned()).collect()
    }

    pub fn is_frozen(&self, host: &str) -> bool {
        self.path(host).join("frozen").exists()
    }

    pub fn wait_frozen(&self, host: &str) {
        (0..3000).take_while(|_| !self.is_frozen(host)).for_each(|_| std::thread::sleep(Duration::from_millis(20)));
        assert!(self.is_frozen(host), "{host} is not frozen after a minute");
    }

    pub fn wait_thawed(&self, host: &str) {
        (0..3000).take_while(|_| self.is_frozen(host)).for_each(|_| std::thread::sleep(Duration::from_millis(20)));
        assert!(!self.is_frozen(host), "{host} is still frozen after a minute");
    }

    /// Lines of one of the agent's files: `freezes`, `thaws`.
    pub fn count(&self, host: &str, file: &str) -> usize {
        fs::read_to_string(self.path(host).join(file)).map_or(0, |t| t.lines().count())
    }

    /// Calls that may have changed something, after the first `skip` calls.
    pub fn changes(&self, skip: usize) -> Vec<String> {
        let reads = |c: &Call| {
            ["Describe", "Get", "List"].iter().any(|v| c.action.starts_with(v))
                || c.params["DryRun"] == "true"
                || (c.action == "SendCommand" && c.document.as_deref() == Some("snapfreeze-facts"))
                || c.service == "imds"
        };
        self.sim.calls().iter().skip(skip).filter(|c| !reads(c)).map(|c| c.action.clone()).collect()
    }

    /// A call that no verb makes: tags as another program, or a person, writes them.
    pub fn tag(&self, snapshot: &str, key: &str, value: &str) {
        let enc = |s: &str| s.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        let body =
            format!("Action=CreateTags&Version=2016-11-15&ResourceId.1={snapshot}&Tag.1.Key={}&Tag.1.Value={}", enc(key), enc(value));
        let mut s = TcpStream::connect(self.sim.address()).unwrap();
        s.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            s,
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        s.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Snapshots of a backup, as they are tagged.
    pub fn set(&self, id: &str) -> Vec<cloud_sim::Snapshot> {
        self.sim.snapshots().into_iter().filter(|s| s.tags.get("snapfreeze:backup-id").is_some_and(|b| b == id)).collect()
    }
}

pub fn ran(o: std::process::Output) -> Ran {
    Ran { code: o.status.code().unwrap_or(-1), out: String::from_utf8(o.stdout).unwrap(), err: String::from_utf8(o.stderr).unwrap() }
}

pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}
