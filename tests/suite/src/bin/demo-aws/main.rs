//! `make demo-aws`: the templates deployed to emulators on this machine (moto, ministack), two hosts with real agents and databases;
//! a schedule fires, the state machine runs the real function, and `aws` and `snapfreezectl` tell what came of it.
#![allow(clippy::disallowed_methods, reason = "a demonstration stands outside the agent's doors")]

use serde_json::{Value, json};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};
use suite::cloud::fleet::{TAG, setup};
use suite::cloud::programs::ctl;
use suite::cloud::stacks::{Deployed, REGION};
use suite::host::sleep_ms;

/// A schedule of `rate(1 minute)`, and two backups on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("demo-aws: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    println!("1. Deploy infra/aws: documents to moto; function, state machine and schedules to ministack. About a minute");
    let d = Deployed::new(2, &setup(), 120, "demo-aws").ok_or("the emulators are not installed: make setup")?;
    for m in &d.fleet.members {
        println!("   host {} with volume {}: a real agent, an IRIS model with a workload", m.id, m.volume);
    }
    let policy = json!({ "name": "nightly", "select": { "tags": { TAG.0: TAG.1 } }, "hold": "20s" });
    d.policy_stack(&policy);
    println!("2. The policy's schedule is due each minute; waiting for it to fire");
    let begun = Instant::now();
    let run = loop {
        let done =
            d.executions().into_iter().find(|e| e["name"].as_str().is_some_and(|n| n.starts_with("nightly-")) && e["status"] != "RUNNING");
        match done {
            Some(run) => break run,
            None if begun.elapsed() > PATIENCE => return Err(format!("no run ended: {:?}", d.function_log())),
            None => sleep_ms(1_000),
        }
    };
    println!("   run {} ended: {}", run["name"].as_str().unwrap_or_default(), run["status"].as_str().unwrap_or_default());
    if run["status"] != "SUCCEEDED" {
        return Err(format!("it must succeed: {:?}", d.function_log()));
    }

    println!("\n3. aws ec2 describe-snapshots");
    let listed = d.moto.json(&["ec2", "describe-snapshots", "--owner-ids", "self", "--filters", "Name=tag-key,Values=snapfreeze:schema"]);
    let snapshots: Vec<&Value> = listed["Snapshots"].as_array().into_iter().flatten().collect();
    for s in &snapshots {
        let tag =
            |n: &str| s["Tags"].as_array().into_iter().flatten().find(|t| t["Key"] == n).and_then(|t| t["Value"].as_str()).unwrap_or("");
        println!("   {} {} {}", s["SnapshotId"].as_str().unwrap_or_default(), tag("Name"), tag("snapfreeze:roles"));
        println!("      window {} ms, a restore starts with {}", tag("snapfreeze:window-ms"), tag("snapfreeze:restore-from"));
    }
    println!("\n4. snapfreezectl list");
    let status = ctl(&d.fleet.sim.endpoint(), REGION, d.fleet.dir.path(), &["list"]).stdout(Stdio::inherit()).status();
    status.ok().filter(std::process::ExitStatus::success).ok_or("snapfreezectl list failed")?;

    println!("\n5. The bytes of each database's snapshot: iris-sim verify");
    let images = d.fleet.images();
    for (id, clean) in &images {
        println!("   {id}: {}", if *clean { "clean" } else { "TORN" });
    }
    let good = snapshots.len() == 4 && images.len() == 2 && images.iter().all(|(_, clean)| *clean) && !d.fleet.any_frozen();
    good.then_some(()).ok_or_else(|| "two held sets of two snapshots each, clean, and nothing frozen: that was expected".to_owned())
}
