//! `cloud-sim`: the double as a program of its own. Prints `http://127.0.0.1:PORT` when it is ready; `/_sim/…` controls it.

use clap::Parser;
use cloud_sim::{CloudSim, Config};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "A double of EC2 and SSM with volumes of real bytes and documents that are really run")]
struct Args {
    /// Loopback only; port 0: the OS chooses
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Snapshots and scripts lie below it
    #[arg(long)]
    state: PathBuf,
    /// moto, as http://127.0.0.1:PORT
    #[arg(long)]
    upstream: Option<String>,
    /// ministack, as http://127.0.0.1:PORT
    #[arg(long)]
    lambda: Option<String>,
    /// Everything else, as the JSON of Config
    #[arg(long)]
    config: Option<PathBuf>,
    /// No throttling, no spacing of snapshots, short waits
    #[arg(long)]
    quick: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut config = match &args.config {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None if args.quick => Config::quick(args.state.clone()),
        None => Config::default(),
    };
    (config.listen, config.state) = (args.listen, args.state);
    config.upstream = args.upstream.or(config.upstream);
    config.lambda = args.lambda.or(config.lambda);
    let sim = CloudSim::start(config)?;
    println!("{}", sim.endpoint());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            r = tokio::signal::ctrl_c() => r?,
        }
        Ok::<_, std::io::Error>(())
    })?;
    Ok(())
}
