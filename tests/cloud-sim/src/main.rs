//! `cloud-sim`: the doubles as a program of their own. Prints `http://127.0.0.1:PORT` when it is ready; `/_sim/…` controls it.
//! With `--arm --tls` two more lines follow: `https://localhost:PORT` and the certificate's file.

use clap::Parser;
use cloud_sim::arm::{ArmConfig, ArmSim};
use cloud_sim::{CloudSim, Config};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "A double of EC2 and SSM, or of Azure Resource Manager, with volumes of real bytes and scripts that are really run")]
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
    /// Azure Resource Manager in place of EC2 and SSM; --config is the JSON of ArmConfig then
    #[arg(long, conflicts_with_all = ["upstream", "lambda"])]
    arm: bool,
    /// A second port with TLS
    #[arg(long, requires = "arm")]
    tls: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    if args.arm {
        let sim = ArmSim::start(arm(&args)?)?;
        println!("{}", sim.endpoint());
        if let Some(url) = sim.tls_endpoint() {
            println!("{url}\n{}", sim.ca_file().display());
        }
        until_told()?;
        return Ok(());
    }
    let sim = CloudSim::start(aws(&args)?)?;
    println!("{}", sim.endpoint());
    until_told()?;
    Ok(())
}

fn aws(args: &Args) -> Result<Config, Box<dyn std::error::Error>> {
    let mut config = match &args.config {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None if args.quick => Config::quick(args.state.clone()),
        None => Config::default(),
    };
    (config.listen, config.state) = (args.listen.clone(), args.state.clone());
    config.upstream = args.upstream.clone().or(config.upstream);
    config.lambda = args.lambda.clone().or(config.lambda);
    Ok(config)
}

fn arm(args: &Args) -> Result<ArmConfig, Box<dyn std::error::Error>> {
    let mut config = match &args.config {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None if args.quick => ArmConfig::quick(args.state.clone()),
        None => ArmConfig::default(),
    };
    (config.listen, config.state) = (args.listen.clone(), args.state.clone());
    config.tls |= args.tls;
    Ok(config)
}

fn until_told() -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            r = tokio::signal::ctrl_c() => r,
        }
    })
}
