//! The program of `azure::job`.

use azure::job::{Cli, Verb, World, policy, serve};
use azure::{Arm, ManagedDisks, Mode, RunCommand, Settings};
use clap::Parser;
use common::{Limiter, WallClock};
use protocol::Code;
use protocol::wire::Problem;
use serde_json::Value;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(rt) => {
            let code = rt.block_on(run(cli)).unwrap_or_else(|p| told(&p));
            rt.shutdown_timeout(std::time::Duration::from_secs(5));
            code
        }
        Err(e) => told(&Problem::new(Code::Internal, e.to_string())),
    };
    ExitCode::from(code)
}

fn told(p: &Problem) -> u8 {
    println!("{}", serde_json::json!({ "message": "problem", "code": p.code.name(), "detail": p.detail, "next": p.next }));
    p.code.exit()
}

async fn run(cli: Cli) -> Result<u8, Problem> {
    let stop = stop()?;
    if !matches!(cli.verb, Verb::Serve) {
        return Ok(once(&cli, &cli.verb, stop, &|line| println!("{line}")).await);
    }
    let port = std::env::var("FUNCTIONS_CUSTOMHANDLER_PORT").ok().and_then(|p| p.parse().ok());
    let port = port
        .ok_or_else(|| Problem::new(Code::ConfigInvalid, "FUNCTIONS_CUSTOMHANDLER_PORT is no port").next("the Functions host sets it"))?;
    let mut ended = stop.clone();
    let cli = Arc::new(cli);
    let call = move |verb: Verb| {
        let (cli, stop) = (cli.clone(), stop.clone());
        async move {
            let lines = Mutex::new(Vec::new());
            let log = |line: &Value| {
                println!("{line}");
                lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line.clone());
            };
            let code = once(&cli, &verb, stop, &log).await;
            (code, lines.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
        }
    };
    serve(port, call, async move {
        let _ = ended.wait_for(|s| *s).await;
    })
    .await?;
    Ok(0)
}

async fn once(cli: &Cli, verb: &Verb, stop: watch::Receiver<bool>, log: &(dyn Fn(&Value) + Sync)) -> u8 {
    let begun = || {
        let policy = policy(cli.policy.as_deref(), std::env::var("SNAPFREEZE_POLICY").ok())?;
        let dry = matches!(verb, Verb::Prune { dry_run: true } | Verb::Reap { dry_run: true } | Verb::Watch);
        let arm = Arm::load(Settings { group: cli.resource_group.clone(), read_only: dry, ..Settings::default() })?;
        Ok::<_, Problem>((policy, arm))
    };
    let (policy, arm) = match begun() {
        Ok(x) => x,
        Err(p) => {
            log(&serde_json::json!({ "message": "problem", "code": p.code.name(), "detail": p.detail, "next": p.next }));
            return p.code.exit();
        }
    };
    let clock = WallClock::start();
    let disks = ManagedDisks::new(arm.clone(), clock);
    let hosts = RunCommand::new(arm, clock, Arc::new(Limiter::default()), Mode::Auto).with(&disks);
    World { hosts: &hosts, disks: &disks, clock: &clock, log }.run(verb, &policy, stop).await
}

/// Container Apps and Functions send SIGTERM and wait half a minute.
fn stop() -> Result<watch::Receiver<bool>, Problem> {
    let failed = |e: std::io::Error| Problem::new(Code::Internal, format!("signals cannot be caught: {e}"));
    let (mut term, mut int) = (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tell.send_replace(true);
        // A later signal ends nothing by itself: a host may still be frozen.
        std::future::pending::<()>().await;
    });
    Ok(told)
}
