//! What the double's tests share: a double in a directory of its own, the AWS tools where they are installed, and a plain
//! HTTP client for what must not depend on them.
#![allow(clippy::disallowed_methods, dead_code, reason = "tests stand outside the doors; not every test uses all of it")]

use cloud_sim::{CloudSim, Config, Host, Instance, Volume};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// A double with one instance `i-1` (root, data with bytes, journal with bytes) and its host.
pub struct Stage {
    pub sim: CloudSim,
    pub dir: tempfile::TempDir,
}

impl Stage {
    pub fn quick() -> Self {
        Self::with(|_| {})
    }

    /// Config::quick, changed.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::quick(dir.path().join("cloud"));
        change(&mut config);
        let sim = CloudSim::start(config).unwrap();
        for name in ["data", "journal"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("file"), format!("bytes of {name}")).unwrap();
        }
        let volume = |id: &str, device: &str| Volume::new(id, device).tag("of", id);
        sim.add_instance(
            Instance::new("i-1")
                .tag("snapfreeze", "yes")
                .volume(volume("vol-root", "/dev/xvda"))
                .volume(volume("vol-data", "/dev/sdf").dir(dir.path().join("data")))
                .volume(volume("vol-journal", "/dev/sdg").dir(dir.path().join("journal"))),
        );
        sim.add_host(Host::new("i-1"));
        Self { sim, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn env(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.dir.path()).env("AWS_ENDPOINT_URL", self.sim.endpoint());
        command.env("AWS_REGION", "us-east-1").env("AWS_DEFAULT_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "AKIDTEST").env("AWS_SECRET_ACCESS_KEY", "test").env("AWS_MAX_ATTEMPTS", "1");
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_PAGER", "");
    }

    pub fn aws(&self, tools: &Tools, arguments: &[&str]) -> Output {
        let mut command = Command::new(tools.bin("aws"));
        self.env(&mut command);
        command.args(arguments).output().unwrap()
    }

    /// Its standard output as JSON; panics with its standard error.
    pub fn aws_json(&self, tools: &Tools, arguments: &[&str]) -> Value {
        let out = self.aws(tools, arguments);
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap_or(Value::Null)
    }

    /// Runs Python with `ec2`, `ssm` (retries off) and `json`; `fails(f)` gives the error's code. Its last line is the answer.
    pub fn boto(&self, tools: &Tools, script: &str) -> Value {
        let before = "
import json, boto3, botocore
from botocore.config import Config
one = Config(retries={'total_max_attempts': 1}, parameter_validation=False)
ec2, ssm = boto3.client('ec2', config=one), boto3.client('ssm', config=one)
def fails(f, **a):
    try: f(**a)
    except botocore.exceptions.ClientError as e: return e.response['Error']['Code']
    except botocore.exceptions.HTTPClientError as e: return type(e).__name__
    return None
def answer(x): print(json.dumps(x, default=str))
";
        let mut command = Command::new(tools.bin("python"));
        self.env(&mut command);
        let out = command.arg("-c").arg(format!("{before}\n{script}")).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_str(text.lines().last().expect("an answer")).unwrap()
    }

    /// `POST /` with an EC2 form. `None`: closed without an answer.
    pub fn ec2(&self, form: &str) -> Option<(u16, String)> {
        let body = format!("{form}&Version=2016-11-15");
        post(&self.sim.endpoint(), "/", &["content-type: application/x-www-form-urlencoded; charset=utf-8"], &body)
    }

    pub fn ssm(&self, action: &str, body: &Value) -> Option<(u16, Value)> {
        let target = format!("x-amz-target: AmazonSSM.{action}");
        let (status, text) = post(&self.sim.endpoint(), "/", &["content-type: application/x-amz-json-1.1", &target], &body.to_string())?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Sends a command to i-1 and waits for its end.
    pub fn run(&self, document: &str, parameters: Value) -> Value {
        let ask = serde_json::json!({ "DocumentName": document, "InstanceIds": ["i-1"], "Parameters": parameters });
        let (status, sent) = self.ssm("SendCommand", &ask).unwrap();
        assert_eq!(status, 200, "{sent}");
        self.ended(sent["Command"]["CommandId"].as_str().unwrap())
    }

    pub fn ended(&self, command: &str) -> Value {
        let ask = serde_json::json!({ "CommandId": command, "InstanceId": "i-1" });
        for _ in 0..3000 {
            let (status, got) = self.ssm("GetCommandInvocation", &ask).unwrap();
            let busy = ["Pending", "InProgress", "Delayed", "Cancelling"].iter().any(|s| got["Status"] == *s);
            if status == 200 && !busy {
                return got;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{command} does not end");
    }
}

/// The AWS command line and boto3.
pub struct Tools(PathBuf);

impl Tools {
    /// `SNAPFREEZE_TOOLS/aws`, where `make setup` puts them. `None`: `test` says that it is skipped.
    pub fn or_skip(test: &str) -> Option<Self> {
        let cache = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
        let root = std::env::var_os("SNAPFREEZE_TOOLS").map(PathBuf::from).or_else(|| Some(cache()?.join("snapfreeze-tools")));
        let bin = root.map(|r| r.join("aws/bin")).filter(|b| b.join("aws").exists() && b.join("python").exists());
        if bin.is_none() {
            println!("SKIP {test}: no AWS tools on this machine (make setup)");
        }
        bin.map(Self)
    }

    pub fn bin(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

pub fn post(endpoint: &str, path: &str, headers: &[&str], body: &str) -> Option<(u16, String)> {
    http("POST", endpoint, path, headers, body)
}

/// One request on a connection of its own.
pub fn http(method: &str, endpoint: &str, path: &str, headers: &[&str], body: &str) -> Option<(u16, String)> {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
