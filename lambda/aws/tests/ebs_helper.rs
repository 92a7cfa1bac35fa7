//! `snapfreeze-ebs` as the agent runs it, against the double's EC2 and instance metadata.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the doors")]

use cloud_sim::{CloudSim, Config, Fault, Host, Instance, Match, Moment, Rule, Volume};
use protocol::tags::{SetTags, to_tags};
use protocol::{BackupId, Verdict};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const ID: &str = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e";
const DATA: &str = r#"[{"volume":"vol-data","device":"/dev/nvme1n1","mounts":["/data","/data/wij"],"roles":["data","wij"]}]"#;
/// Before the call itself, each of the two looks rehearses it.
const THE_CALL: u64 = 3;

struct Stage {
    sim: CloudSim,
    _dir: tempfile::TempDir,
}

struct Helper {
    child: Child,
    say: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
    heard: String,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::quick(dir.path().join("cloud"));
        config.region = "eu-west-1".into();
        let sim = CloudSim::start(config).unwrap();
        let data = Volume::new("vol-data", "/dev/sdf").kind("io2");
        sim.add_instance(
            Instance::new("i-1").volume(Volume::new("vol-root", "/dev/xvda")).volume(data).volume(Volume::new("vol-tmp", "/dev/sdg")),
        );
        sim.add_host(Host::new("i-1").imds());
        Self { sim, _dir: dir }
    }

    fn start_with(&self, args: &[&str], env: &[(&str, &str)]) -> Helper {
        let mut c = Command::new(env!("CARGO_BIN_EXE_snapfreeze-ebs"));
        c.env_clear().env("AWS_ENDPOINT_URL_EC2", self.sim.endpoint());
        c.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.sim.imds("i-1").unwrap());
        c.env("SNAPFREEZE_ID", ID).env("SNAPFREEZE_HOLD_MS", "20000").env("SNAPFREEZE_VOLUMES", DATA);
        c.envs(env.iter().copied()).args(["--snapshot", "500ms"]).args(args);
        let mut child = c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (say, hear) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Helper { child, say, hear, heard: String::new() }
    }

    fn start(&self, args: &[&str]) -> Helper {
        self.start_with(args, &[])
    }

    /// Snapshot calls that were not a rehearsal.
    fn real(&self) -> usize {
        self.sim.calls_of("CreateSnapshots").iter().filter(|c| c.params["DryRun"] != "true").count()
    }

    fn tags(&self, volume: &str) -> BTreeMap<String, String> {
        self.sim.snapshots().into_iter().find(|s| s.volume == volume).map(|s| s.tags).unwrap_or_default()
    }

    fn verdicts(&self) -> Vec<String> {
        self.sim.snapshots().iter().map(|s| s.tags["snapfreeze:verdict"].clone()).collect()
    }
}

impl Helper {
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.hear.read_line(&mut line).unwrap();
        self.heard.push_str(&line);
        line.trim_end().to_owned()
    }
    fn say(&mut self, line: &str) {
        writeln!(self.say.as_mut().unwrap(), "{line}").unwrap();
    }
    #[track_caller]
    fn ready(&mut self) -> &mut Self {
        let line = self.hear();
        assert!(line.starts_with("READY ms=") && line.ends_with(" verdict=yes"), "{line:?}: {}", self.stderr());
        self
    }
    fn go(&mut self) -> &mut Self {
        self.say(&format!("GO {}", json!(tags(Verdict::Pending))));
        self
    }
    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(e) = self.child.stderr.as_mut() {
            e.read_to_string(&mut text).unwrap();
        }
        text
    }
    /// Nothing more is said to it. Exit code, everything that it printed.
    fn end(mut self) -> (i32, String, String) {
        drop(self.say.take());
        self.hear.read_to_string(&mut self.heard).unwrap();
        let err = self.stderr();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        for secret in ["ASIA", "not-a-secret", "not-a-token"] {
            assert!(!self.heard.contains(secret) && !err.contains(secret), "credentials are printed: {err}");
        }
        (code, self.heard, err)
    }
}

fn tags(verdict: Verdict) -> BTreeMap<String, String> {
    let mut t = SetTags::new(ID.parse::<BackupId>().unwrap());
    t.host = "db1".into();
    t.roles = vec!["everything".into()];
    t.instances = vec![protocol::outcome::InstanceMarks { instance: "IRIS".parse().unwrap(), marks: vec![] }];
    t.verdict = verdict;
    to_tags(&t)
}

fn verdict_line() -> String {
    let held = tags(Verdict::Held);
    let told: BTreeMap<_, _> = held.into_iter().filter(|(k, _)| k == "Name" || k == "snapfreeze:verdict").collect();
    format!("VERDICT {}", json!(told))
}

#[test]
fn one_call_with_all_tags_and_the_verdict_last() {
    let stage = Stage::new();
    let mut h = stage.start(&[]);
    h.ready();
    assert_eq!(stage.real(), 0, "nothing is made before GO");
    h.go();
    let lines: Vec<String> = (0..4).map(|_| h.hear()).collect();
    assert!(lines[..3].iter().all(|l| l.starts_with("snapshot=snap-") && l.contains(" volume=vol-")), "{lines:?}");
    assert_eq!(lines[3], "DONE");
    let at_creation = stage.tags("vol-data");
    assert_eq!((at_creation["snapfreeze:verdict"].as_str(), at_creation["snapfreeze:set-size"].as_str()), ("pending", "3"));
    assert_eq!(at_creation["snapfreeze:instance-id"], "i-1");
    assert!(!at_creation.contains_key("snapfreeze:roles"), "the set's roles are not each volume's");
    h.say(&verdict_line());
    assert_eq!(h.end().0, 0);
    assert_eq!((stage.real(), stage.verdicts()), (1, vec!["held".into(); 3]));
    let (data, root) = (stage.tags("vol-data"), stage.tags("vol-root"));
    assert_eq!((data["snapfreeze:device"].as_str(), data["snapfreeze:mount"].as_str()), ("/dev/nvme1n1 as /dev/sdf", "/data,/data/wij"));
    assert_eq!((data["snapfreeze:roles"].as_str(), root.get("snapfreeze:roles")), ("data,wij", None));
    assert!(data["snapfreeze:volume"].starts_with("vol-data io2"), "{data:?}");
    assert!(data["Name"].ends_with("HELD"));
    // The verdict's call names all of them, and is the last one.
    let calls = stage.sim.calls();
    let last = calls.iter().rfind(|c| c.service == "ec2").unwrap();
    assert_eq!((last.action.as_str(), last.params.to_string().matches("snap-").count()), ("CreateTags", 3));
    let who = stage.sim.calls_of("CreateSnapshots").pop().unwrap();
    assert_eq!((who.instance.as_deref(), who.region.as_deref()), (Some("i-1"), Some("eu-west-1")));
    assert!(who.principal.unwrap().ends_with("snapfreeze-host/i-1"), "the instance's own role");
}

#[test]
fn excluded_volumes_are_left_out_and_the_databases_cannot_be() {
    let stage = Stage::new();
    let mut h = stage.start(&["--exclude-boot", "--exclude-volume", "vol-tmp"]);
    h.ready().go();
    assert!(h.hear().ends_with("volume=vol-data"));
    assert_eq!(h.hear(), "DONE");
    h.say(&verdict_line());
    assert_eq!(h.end().0, 0);
    assert_eq!((stage.sim.snapshots().len(), stage.tags("vol-data")["snapfreeze:set-size"].as_str()), (1, "1"));

    let stage = Stage::new();
    let refused = |args: &[&str], env: &[(&str, &str)], code: i32, name: &str| {
        let (c, out, err) = stage.start_with(args, env).end();
        assert_eq!((c, out.as_str()), (code, ""), "{args:?}: {err}");
        assert!(err.lines().count() == 1 && err.starts_with(name), "{err}");
    };
    refused(&["--exclude-volume", "vol-data"], &[], 4, "Freeze.Refused.NotCovered: vol-data");
    refused(&[], &[("SNAPFREEZE_VOLUMES", "[]")], 4, "Freeze.Refused.NotCovered");
    refused(&[], &[("SNAPFREEZE_HOLD_MS", "1180000")], 2, "Usage.Invalid: SNAPFREEZE_HOLD_MS");
    refused(&[], &[("SNAPFREEZE_HOLD_MS", "1000"), ("SNAPFREEZE_ID", "x")], 2, "Usage.Invalid: SNAPFREEZE_ID");
    assert_eq!(stage.real(), 0);
}

#[test]
fn what_the_cloud_refuses_is_told_before_ready_with_exit_9() {
    let stage = Stage::new();
    let refused = |env: &[(&str, &str)], part: &str| {
        let (code, out, err) = stage.start_with(&[], env).end();
        assert_eq!((code, out.as_str()), (9, ""), "{err}");
        assert!(err.lines().count() == 1 && err.starts_with("Cloud.Refused: ") && err.contains(part), "{err}");
    };
    stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::AccessDenied));
    refused(&[], "ec2:CreateSnapshots");
    stage.sim.clear_faults();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("http://{nobody}"))], "IMDSv2");
    stage.sim.set_state("i-1", "stopping");
    refused(&[], "stopping");
    stage.sim.set_state("i-1", "running");
    // Nobody can name another instance.
    assert_eq!(stage.start(&["--instance", "i-2"]).end().0, 2);
    assert_eq!(stage.real(), 0);
    stage.start(&[]).ready();
}

#[test]
fn without_go_nothing_is_made() {
    let stage = Stage::new();
    let mut h = stage.start(&[]);
    h.ready();
    let (code, _, err) = h.end();
    assert!(code == 1 && err.contains("no snapshot was made"), "{code} {err}");
    let mut h = stage.start(&[]);
    h.ready().say("GO {\"snapfreeze:schema\":\"1\"}");
    assert_eq!(h.end().0, 2);
    assert_eq!(stage.real(), 0);
}

#[test]
fn without_a_verdict_the_set_is_broken() {
    for said in [None, Some("VERDICT {\"snapfreeze:verdict\":\"pending\"}"), Some("good night")] {
        let stage = Stage::new();
        let mut h = stage.start(&[]);
        h.ready().go();
        while h.hear() != "DONE" {}
        said.into_iter().for_each(|s| h.say(s));
        assert_eq!(h.end().0, 1);
        assert_eq!(stage.verdicts(), vec!["broken"; 3], "{said:?}");
        let t = stage.tags("vol-data");
        assert!(t["snapfreeze:reason"] == "verdict-lost" && t["Name"].ends_with("BROKEN"), "{t:?}");
    }
}

#[test]
fn a_lost_answer_or_a_refusal_never_makes_a_second_call() {
    let faults = [
        (Fault::LostReply, 3),
        (Fault::LostRequest, 0),
        (Fault::Throttle, 0),
        (Fault::Http { status: 500 }, 0),
        (Fault::Error { code: "InternalError".into(), message: "x".into() }, 0),
    ];
    let mut seen = 0;
    for (fault, made) in faults {
        let stage = Stage::new();
        let rule = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), fault.clone()).nth(THE_CALL));
        let mut h = stage.start(&[]);
        h.ready().go();
        let (code, out, err) = h.end();
        assert_eq!((code, stage.real(), stage.sim.hits(rule), stage.sim.snapshots().len()), (7, 1, 1, made), "{fault:?}: {err}");
        assert!(!out.contains("DONE") && err.starts_with("Snapshot.Failed: "), "{out} {err}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn a_call_that_is_not_answered_is_given_up_when_the_hold_is_over() {
    let stage = Stage::new();
    let hold = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::Hold { when: Moment::After }).nth(THE_CALL));
    let mut h = stage.start_with(&[], &[("SNAPFREEZE_HOLD_MS", "1000")]);
    h.ready().go();
    assert!(stage.sim.wait_held(hold, Duration::from_secs(30)));
    // It ends by itself: the answer is never given.
    assert_eq!(h.end().0, 7);
    assert_eq!((stage.real(), stage.verdicts()), (1, vec!["pending".to_owned(); 3]), "left to `reap`");
}

#[test]
fn killed_after_go_there_is_one_call_and_no_verdict() {
    let stage = Stage::new();
    let hold = stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::Hold { when: Moment::Before }).nth(THE_CALL));
    let mut h = stage.start(&[]);
    h.ready().go();
    assert!(stage.sim.wait_held(hold, Duration::from_secs(30)));
    h.child.kill().unwrap();
    assert_eq!(h.end().0, -1);
    stage.sim.release(hold);
    assert_eq!(stage.real(), 1);
    assert!(stage.verdicts().iter().all(|v| v == "pending"));
}

#[test]
fn a_snapshot_that_ended_in_error_is_told_and_never_tagged_held() {
    let stage = Stage::new();
    stage.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::SnapshotsFail { after_ms: 0 }).nth(THE_CALL));
    let mut h = stage.start(&[]);
    h.ready().go();
    while h.hear() != "DONE" {}
    h.say(&verdict_line());
    let (code, out, _) = h.end();
    assert_eq!(code, 7);
    assert!(out.lines().any(|l| l.starts_with("FAILED snap-")), "{out}");
    assert_eq!(stage.verdicts(), vec!["broken"; 3]);
}

#[test]
fn tags_that_cannot_be_written_are_noted_and_the_set_stays_pending() {
    let stage = Stage::new();
    stage.sim.fault(Rule::new(Match::action("CreateTags"), Fault::AccessDenied).always());
    let mut h = stage.start(&[]);
    h.ready().go();
    while h.hear() != "DONE" {}
    h.say(&verdict_line());
    let (code, out, _) = h.end();
    assert_eq!((code, out.matches("NOTE ").count()), (1, 4), "three volumes and the verdict: {out}");
    assert_eq!(stage.verdicts(), vec!["pending"; 3]);
}
