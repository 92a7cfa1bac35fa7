//! `make bench`: the figures that the program promises, measured on this machine and written to `docs/figures.md`;
//! raw samples beside it. The parts of a window that belong to the engine are timed by the simulator itself (its
//! history) or, on GT.M, are the run times of `mupip`; all the rest is booked on us.
//!
//! `bench host`, `bench aws` and `bench azure` measure one part and leave the others of the document as they are.
#![allow(clippy::disallowed_methods, reason = "a benchmark stands outside the agent's doors")]

mod aws;
mod azure;
mod function;

use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use suite::stage::{Db, Host, program, sleep_ms};

const WINDOWS: usize = 250;
const IDLE_SECONDS: u64 = 10;
/// Goals of the contract.
const GOAL_OWN_MS: f64 = 50.0;
const GOAL_BINARY: u64 = 8 << 20;
const GOAL_RSS_KIB: u64 = 10 << 10;
/// Where the clouds' parts of the document begin, in this order.
const AWS_PART: &str = "## AWS: measured on";
const AZURE_PART: &str = "## Azure: measured on";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("bench: a goal was missed; see docs/figures.md");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// One figure with its goal.
struct Row {
    what: String,
    value: String,
    goal: String,
    met: bool,
}

fn run() -> Result<bool, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let dir = exe.ancestors().nth(2).ok_or("no target directory")?.join("bench");
    let _ = std::fs::remove_dir_all(&dir); // of an earlier run
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    match std::env::args().nth(1).as_deref() {
        None => Ok(on_host(&dir)? & on_aws(&dir)? & on_azure(&dir)?),
        Some("host") => on_host(&dir),
        Some("aws") => on_aws(&dir),
        Some("azure") => on_azure(&dir),
        Some(other) => Err(format!("{other}: bench [host|aws|azure]")),
    }
}

/// Windows over SSM and the Lambda function.
fn on_aws(dir: &Path) -> Result<bool, String> {
    let (mut rows, mut details) = (Vec::new(), String::new());
    function::figures(dir, &mut rows)?;
    aws::windows(dir, &mut rows, &mut details)?;
    let mut text = format!(
        "{AWS_PART} {}. `make bench` or `bench aws` makes it.\n\n\
         Each round opens three windows one after the other, on the same IRIS model (1.1 s freeze, 1.0 s thaw) behind the same double\n\
         of EC2 and SSM: held by the coordinator (`snapfreezectl`), by the host (`snapfreeze-ebs`), and by a plain script on the host\n\
         (`ExternalFreeze`, `aws ec2 create-snapshots`, `ExternalThaw`; credentials in its environment, everything warm). A window\n\
         runs from the freeze call to the thaw's answer by the engine's own history; the engine's share is its two calls, `call` is\n\
         CreateSnapshots by the double's record, the rest is own share. SSM takes the delay to the host and again for the answer.\n\
         Hops: commands sent to the host inside the window, and answers awaited in it. With so few windows p99 is the longest one.\n\n",
        made()
    );
    table(&mut text, &rows);
    text.push_str(&details);
    part(AWS_PART, &text)?;
    println!("{text}");
    Ok(rows.iter().all(|r| r.met))
}

/// Windows over Run Command.
fn on_azure(dir: &Path) -> Result<bool, String> {
    let (mut rows, mut details) = (Vec::new(), String::new());
    azure::windows(dir, &mut rows, &mut details)?;
    let mut text = format!(
        "{AZURE_PART} {}. `make bench` or `bench azure` makes it.\n\n\
         Each round opens three windows one after the other, on the same IRIS model (1.1 s freeze, 1.0 s thaw) behind the same double\n\
         of Azure Resource Manager: held by the host (`snapfreeze-azdisk`), by the coordinator over managed Run Commands, and over the\n\
         action. A window runs from the freeze call to the thaw's answer by the engine's own history; `snapshot` is from the PUT to the\n\
         operation's success by the double's record (0.6 s are set); the rest is ours and Run Command's, which takes the delay to the\n\
         host and again for the answer. With so few windows p99 is the longest one.\n\n",
        made()
    );
    table(&mut text, &rows);
    text.push_str(&details);
    part(AZURE_PART, &text)?;
    println!("{text}");
    Ok(rows.iter().all(|r| r.met))
}

/// Puts one part of the document in place of its last one; `None`: the host's, which is first.
fn replace(whole: &str, name: Option<&str>, text: &str) -> String {
    let mut parts: Vec<(Option<&str>, String)> = Vec::new();
    let mut current: (Option<&str>, String) = (None, String::new());
    for line in whole.lines() {
        if let Some(next) = [AWS_PART, AZURE_PART].into_iter().find(|p| line.starts_with(p)) {
            parts.push(std::mem::replace(&mut current, (Some(next), String::new())));
        }
        current.1.push_str(line);
        current.1.push('\n');
    }
    parts.push(current);
    parts.retain(|(n, _)| *n != name);
    parts.push((name, text.to_owned()));
    parts.sort_by_key(|(n, _)| n.map_or(0, |n| if n == AWS_PART { 1 } else { 2 }));
    let texts: Vec<&str> = parts.iter().map(|(_, t)| t.trim_end()).filter(|t| !t.is_empty()).collect();
    texts.join("\n\n") + "\n"
}

fn part(name: &str, text: &str) -> Result<(), String> {
    let path = docs().join("figures.md");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, replace(&before, Some(name), text)).map_err(|e| e.to_string())
}

/// Agent and database on one host, no cloud.
fn on_host(dir: &Path) -> Result<bool, String> {
    let mut rows = Vec::new();
    let size = std::fs::metadata(program("snapfreeze")?).map_err(|e| e.to_string())?.len();
    rows.push(Row { what: "agent: binary".into(), value: mib(size), goal: "≤ 8 MiB".into(), met: size <= GOAL_BINARY });
    let mut details = String::new();
    if let Some(db) = Db::iris(dir)? {
        let host = Host::start(&dir.join("iris"), db)?;
        idle(&host, &mut rows)?;
        let before = vm(&host, "VmRSS:")?;
        let samples = iris_windows(&host)?;
        report("iris-sim, no delays", &samples, &mut rows, &mut details, Some(GOAL_OWN_MS))?;
        save("own-share-iris-sim.csv", &samples)?;
        let after = vm(&host, "VmRSS:")?;
        rows.push(Row {
            what: format!("agent: resident memory, idle / after {WINDOWS} windows"),
            value: format!("{} / {}", mib(before * 1024), mib(after * 1024)),
            goal: "≤ 10 MiB".into(),
            met: after <= GOAL_RSS_KIB,
        });
    }
    match Db::gtm(dir)? {
        Some(db) => {
            let host = Host::start(&dir.join("gtm"), db)?;
            let samples = gtm_windows(&host)?;
            report("GT.M, 3 regions", &samples, &mut rows, &mut details, Some(GOAL_OWN_MS))?;
            save("own-share-gtm.csv", &samples)?;
        }
        None => details.push_str("\nGT.M is not installed here: not measured.\n"),
    }
    write(&rows, &details)
}

/// One window, in ms.
struct Sample {
    window: f64,
    engine: f64,
}

impl Sample {
    fn own(&self) -> f64 {
        self.window - self.engine
    }
}

/// A freeze and a thaw through the agent, with nothing in between: what a caller's snapshot call would add is not ours.
fn window(host: &Host) -> Result<Value, String> {
    let id = suite::host::new_id();
    let frozen = host.api("POST", "/v1/freezes", &format!("{{\"id\":\"{id}\",\"by\":\"bench\"}}"))?;
    if frozen["remaining_ms"].is_null() {
        return Err(format!("not frozen: {frozen}"));
    }
    let thawed = host.api("POST", &format!("/v1/freezes/{id}/thaw"), "{}")?;
    match thawed["state"]["state"].as_str() {
        Some("unbroken") => Ok(thawed),
        _ => Err(format!("broken: {thawed}")),
    }
}

fn iris_windows(host: &Host) -> Result<Vec<Sample>, String> {
    let history = host.dir.join("history.jsonl");
    let mut samples = Vec::new();
    for _ in 0..WINDOWS {
        let seen = std::fs::metadata(&history).map(|m| m.len()).unwrap_or(0) as usize;
        let w = window(host)?;
        let text = std::fs::read_to_string(&history).map_err(|e| e.to_string())?;
        let events: Vec<Value> = text[seen..].lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let at = |name: &str| {
            events.iter().find(|e| e["event"] == name).and_then(|e| e["t_ms"].as_f64()).ok_or(format!("no {name} in the history"))
        };
        let engine = at("freeze_done")? - at("freeze_called")? + at("thaw_done")? - at("thaw_called")?;
        samples.push(Sample { window: w["window_ms"].as_f64().unwrap_or(f64::NAN), engine });
    }
    Ok(samples)
}

fn gtm_windows(host: &Host) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::new();
    for _ in 0..WINDOWS {
        let w = window(host)?;
        let parts = w["parts"].as_array().cloned().unwrap_or_default();
        let engine = parts
            .iter()
            .filter(|p| p["name"].as_str().is_some_and(|n| n.contains("mupip freeze")))
            .filter_map(|p| p["took_ms"].as_f64())
            .sum();
        samples.push(Sample { window: w["window_ms"].as_f64().unwrap_or(f64::NAN), engine });
    }
    Ok(samples)
}

fn idle(host: &Host, rows: &mut Vec<Row>) -> Result<(), String> {
    sleep_ms(12_000); // threads that served the start are gone
    let before = switches(host)?;
    sleep_ms(IDLE_SECONDS * 1000);
    let woke = switches(host)? - before;
    rows.push(Row {
        what: format!("agent: wake-ups while idle, {IDLE_SECONDS} s"),
        value: woke.to_string(),
        goal: "0".into(),
        met: woke == 0,
    });
    Ok(())
}

/// Voluntary context switches of all its threads.
fn switches(host: &Host) -> Result<u64, String> {
    let pid = host.agent_pid()?;
    let mut sum = 0;
    for t in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| e.to_string())?.flatten() {
        sum += field(&t.path().join("status"), "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

fn vm(host: &Host, name: &str) -> Result<u64, String> {
    field(Path::new(&format!("/proc/{}/status", host.agent_pid()?)), name)
}

fn field(path: &Path, name: &str) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)).ok_or(format!("no {name}"))?;
    line.split_whitespace().next().and_then(|w| w.parse().ok()).ok_or(format!("{name} {line}"))
}

fn report(label: &str, samples: &[Sample], rows: &mut Vec<Row>, details: &mut String, goal: Option<f64>) -> Result<(), String> {
    let pick = |f: fn(&Sample) -> f64| {
        let mut v: Vec<f64> = samples.iter().map(f).collect();
        v.sort_by(f64::total_cmp);
        v
    };
    let (own, engine, window) = (pick(Sample::own), pick(|s| s.engine), pick(|s| s.window));
    let at = |v: &[f64], p: f64| v[((v.len() as f64 * p).ceil() as usize).clamp(1, v.len()) - 1];
    let _ = write!(details, "\n### {label}: {} windows\n\n| ms | p50 | p90 | p99 | max |\n|---|---|---|---|---|\n", samples.len());
    for (name, v) in [("own share", &own), ("engine", &engine), ("window", &window)] {
        let _ = writeln!(details, "| {name} | {:.1} | {:.1} | {:.1} | {:.1} |", at(v, 0.5), at(v, 0.9), at(v, 0.99), at(v, 1.0));
    }
    let p99 = at(&own, 0.99);
    rows.push(Row {
        what: format!("own share of the window, p99, {label}"),
        value: format!("{p99:.1} ms"),
        goal: goal.map_or("(none named)".into(), |g| format!("≤ {g} ms")),
        met: goal.is_none_or(|g| p99 <= g),
    });
    Ok(())
}

fn save(name: &str, samples: &[Sample]) -> Result<(), String> {
    let dir = docs().join("figures");
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let mut text = String::from("window_ms,engine_ms,own_ms\n");
    for s in samples {
        let _ = writeln!(text, "{:.3},{:.3},{:.3}", s.window, s.engine, s.own());
    }
    std::fs::write(dir.join(name), text).map_err(|e| e.to_string())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Day, machine, load, and the priority that this was given over other work.
fn made() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name"));
    let model = model.map_or("unknown", |l| l.trim_start_matches(['\t', ':', ' ']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // proc(5): nice is the 19th field, the 17th after the name in brackets.
    let nice = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(16)).unwrap_or("unknown");
    format!("{} ({cores} × {model}, load at the end {load}, run at nice {nice})", jiff::Timestamp::now().strftime("%Y-%m-%d"))
}

fn table(text: &mut String, rows: &[Row]) {
    text.push_str("| figure | measured | goal | |\n|---|---|---|---|\n");
    for r in rows {
        let _ = writeln!(text, "| {} | {} | {} | {} |", r.what, r.value, r.goal, if r.met { "met" } else { "MISSED" });
    }
}

fn write(rows: &[Row], details: &str) -> Result<bool, String> {
    let mut text = format!(
        "# Figures\n\nMade by `make bench` on {}. Do not edit; run it again.\n\n\
         A window runs from just before the freeze call until the thaw is confirmed. Of it, `engine` is what the engine itself\n\
         took: on `iris-sim` by its own history, on GT.M the run times of `mupip`. The rest is our own share, process starts,\n\
         logins and questions included. The caller asks over the agent's socket and makes no snapshot. Raw samples: `figures/`.\n\n",
        made()
    );
    table(&mut text, rows);
    text.push_str(details);
    text.push_str(
        "\nThe whole-millisecond ends of a window are the agent's own; its clock is read just before the freeze process starts and\n\
         when the thaw's answer is there. First thaw after a kill: `tests/suite/tests/kills` asserts it in every test run.\n",
    );
    let path = docs().join("figures.md");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, replace(&before, None, &text)).map_err(|e| e.to_string())?;
    println!("{text}");
    Ok(rows.iter().all(|r| r.met))
}

/// By rank, of values in any order.
fn at(mut v: Vec<f64>, p: f64) -> f64 {
    v.sort_by(f64::total_cmp);
    v[((v.len() as f64 * p).ceil() as usize).clamp(1, v.len()) - 1]
}
