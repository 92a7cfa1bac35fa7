//! The Lambda function's weight: its zip, and how long it takes from its start until it asks the Runtime API for an event.

use super::{Row, mib};
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use suite::cloud::tools::credentials;
use suite::stage::program;

const STARTS: usize = 50;
const GOAL_ZIP: u64 = 12 << 20;
const GOAL_START_MS: f64 = 100.0;

pub fn figures(dir: &Path, rows: &mut Vec<Row>) -> Result<(), String> {
    let bootstrap = program("bootstrap")?;
    let zip = dir.join("bootstrap.zip");
    let script = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[2], 'w', zipfile.ZIP_DEFLATED)\nz.write(sys.argv[1], 'bootstrap')";
    let o = Command::new("python3").args(["-c", script]).args([&bootstrap, &zip]).output().map_err(|e| format!("python3: {e}"))?;
    if !o.status.success() {
        return Err(String::from_utf8_lossy(&o.stderr).into_owned());
    }
    let size = std::fs::metadata(zip).map_err(|e| e.to_string())?.len();
    rows.push(Row {
        what: format!("Lambda: zip, {}", std::env::consts::ARCH),
        value: mib(size),
        goal: "≤ 12 MiB".into(),
        met: size <= GOAL_ZIP,
    });

    let mut took = (0..STARTS).map(|_| start(&bootstrap)).collect::<Result<Vec<_>, _>>()?;
    took.sort_by(f64::total_cmp);
    let (half, most) = (took[STARTS / 2], took[STARTS - 1]);
    rows.push(Row {
        what: format!("Lambda: start until it asks for an event, {STARTS} starts, p50 / max"),
        value: format!("{half:.1} ms / {most:.1} ms"),
        goal: format!("≤ {GOAL_START_MS} ms"),
        met: most <= GOAL_START_MS,
    });
    Ok(())
}

/// A Runtime API that only hears the first question.
fn start(bootstrap: &Path) -> Result<f64, String> {
    let text = |e: std::io::Error| e.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
    let mut c = Command::new(bootstrap);
    c.env_clear()
        .envs(credentials())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr().map_err(text)?.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "snapfreeze-coordinator")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "group")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let begun = Instant::now();
    let mut child = c.spawn().map_err(text)?;
    let asked = ask(&listener).map(|()| begun.elapsed());
    let _ = child.kill();
    let _ = child.wait();
    asked.map(|d| d.as_secs_f64() * 1e3)
}

fn ask(listener: &TcpListener) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    listener.set_nonblocking(true).map_err(text)?;
    let by = Instant::now() + Duration::from_secs(20);
    let mut s = loop {
        match listener.accept() {
            Ok((s, _)) => break s,
            Err(_) if Instant::now() < by => std::thread::sleep(Duration::from_micros(100)),
            Err(e) => return Err(format!("bootstrap asked for no event: {e}")),
        }
    };
    s.set_nonblocking(false).and_then(|()| s.set_read_timeout(Some(Duration::from_secs(5)))).map_err(text)?;
    let mut head = [0; 64];
    let n = s.read(&mut head).map_err(text)?;
    let head = String::from_utf8_lossy(&head[..n]).into_owned();
    if head.starts_with("GET /2018-06-01/runtime/invocation/next") { Ok(()) } else { Err(format!("bootstrap asked {head:?}")) }
}
