//! Programs that other people wrote, started for a test and stopped with it: moto, ministack, the `aws` command line.
//!
//! They live in virtualenvs that `make setup` fills at pinned versions; `SNAPFREEZE_TOOLS` names their directory. Nothing
//! listens on anything but 127.0.0.1.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// `$SNAPFREEZE_TOOLS`, or where `make setup` puts it.
pub fn tools() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    let cache = || std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    std::env::var_os("SNAPFREEZE_TOOLS").map_or_else(|| cache().join("snapfreeze-tools"), PathBuf::from)
}

/// A program of a virtualenv, such as `("aws", "moto_server")`. `None`: not installed, and `test` says that it is skipped.
pub fn tool_or_skip(venv: &str, program: &str, test: &str) -> Option<PathBuf> {
    let path = tools().join(venv).join("bin").join(program);
    if path.is_file() {
        return Some(path);
    }
    println!("SKIP {test}: no {program} (make setup installs it)");
    None
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map(|a| a.port()).expect("a free port")
}

/// A server of somebody else's; ended with the value.
pub struct Server {
    child: Child,
    pub port: u16,
    pub log: PathBuf,
}

impl Server {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
    pub fn start(mut command: Command, port: u16, log: PathBuf, patience: Duration) -> Self {
        let out = File::create(&log).expect("a log file");
        let err = out.try_clone().expect("a log file");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let mut server = Self { child: command.spawn().expect("the server starts"), port, log };
        let by = Instant::now() + patience;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child.try_wait().expect("its state").is_none(), "it ended: {}", server.said());
            assert!(Instant::now() < by, "not up in {patience:?}: {}", server.said());
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }
    /// The end of what it printed.
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(4000);
        text.get(from..).unwrap_or(&text).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// moto 5 with its Step Functions interpreter; what the interpreter calls goes to `router` when there is one.
///
/// moto's interpreter calls every service at `localhost:$MOTO_PORT`, which `moto_server` overwrites with its own port: so it is
/// set again at the moment at which the server begins to run.
pub fn moto(python: &Path, dir: &Path, router: Option<u16>) -> Server {
    let port = free_port();
    let set = router.map_or_else(String::new, |r| format!("os.environ['MOTO_PORT'] = '{r}'; "));
    let script = format!(
        "import os, moto.server as ms\nrun = ms.run_simple\ndef go(*a, **k):\n    {set}return run(*a, **k)\nms.run_simple = go\nms.main(['-H', '127.0.0.1', '-p', '{port}'])\n"
    );
    let mut c = Command::new(python);
    c.args(["-c", &script]).env("MOTO_ALLOW_NONEXISTENT_REGION", "false");
    let server = Server::start(c, port, dir.join("moto.log"), Duration::from_secs(60));
    let body = r#"{"stepfunctions":{"execute_state_machine":true},"lambda":{"use_docker":false}}"#;
    let (status, said) = post(server.port, "/moto-api/config", body);
    assert_eq!(status, 201, "moto's configuration: {said}");
    server
}

/// `POST` of JSON to a server on this machine: status and body.
pub fn post(port: u16, path: &str, body: &str) -> (u16, String) {
    let mut s = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    s.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    s.write_all(head.as_bytes()).expect("the request is sent");
    let mut text = String::new();
    s.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, text.split_once("\r\n\r\n").map(|t| t.1.to_owned()).unwrap_or_default())
}

/// ministack: the real bootstrap, the Scheduler, Distributed Map. Its other listeners are switched off.
pub fn ministack(program: &Path, dir: &Path, env: &[(&str, String)]) -> Server {
    let port = free_port();
    let mut c = Command::new(program);
    c.env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        .env("TMPDIR", dir)
        .envs(env.iter().map(|(k, v)| (k, v)));
    Server::start(c, port, dir.join("ministack.log"), Duration::from_secs(60))
}

/// The `aws` command line against one endpoint, with credentials that open nothing.
#[derive(Clone, Debug)]
pub struct Aws {
    pub program: PathBuf,
    pub endpoint: String,
    pub region: String,
}

impl Aws {
    pub fn new(program: &Path, endpoint: &str) -> Self {
        Self { program: program.to_owned(), endpoint: endpoint.to_owned(), region: "eu-central-1".into() }
    }
    pub fn output(&self, args: &[&str]) -> Output {
        Command::new(&self.program)
            .args(["--endpoint-url", &self.endpoint, "--region", &self.region, "--output", "json"])
            .args(args)
            .envs(credentials())
            // For what a command does beside its own service: `cloudformation package` uploads to S3.
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .output()
            .expect("aws runs")
    }
    /// Its JSON answer; anything but success ends the test.
    pub fn json(&self, args: &[&str]) -> Value {
        let o = self.output(args);
        let err = String::from_utf8_lossy(&o.stderr);
        assert!(o.status.success(), "aws {:?}: {err}", &args[..args.len().min(4)]);
        let text = String::from_utf8_lossy(&o.stdout);
        if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") }
    }
}

/// Credentials of nobody: what is signed with them is checked by no emulator.
pub fn credentials() -> [(&'static str, &'static str); 5] {
    [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/nonexistent"),
    ]
}
