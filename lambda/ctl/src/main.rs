//! `snapfreezectl`: backups of a fleet from a terminal, and the catalogue. Verbs are in `verbs` and `backup`; what is decided is
//! the coordinator's, what is sent is the cloud's adapter's (`cloud.rs`).

mod backup;
mod cli;
mod cloud;
mod out;
mod policy;
mod say;
mod verbs;

use clap::Parser;
use cli::{Cli, Common, Verb};
use cloud::{Cloud, May};
use coordinator::ports::Clock;
use out::Out;
use protocol::Code;
use protocol::code::exit;
use protocol::wire::Problem;
use std::process::ExitCode;
use verbs::{catalogue, help, keep, report, tidy};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(c) => c,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    let out = Out { json: cli.common.json };
    let code = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(rt) => {
            let code = rt.block_on(run(&cli, out)).unwrap_or_else(|p| failed(&cli.verb, &p, out));
            // A name that is still being looked up does not keep the answer back.
            rt.shutdown_background();
            code
        }
        Err(e) => out.problem(&Problem::new(Code::Internal, e.to_string())),
    };
    ExitCode::from(code)
}

/// Nagios reads other codes than ours: 3 is "unknown".
fn failed(verb: &Verb, p: &Problem, out: Out) -> u8 {
    if let Verb::Watch(cli::Watch { nagios: true, .. }) = verb {
        out.say(format!("SNAPFREEZE UNKNOWN - {}: {}", p.code, p.detail.replace(['\n', '|'], " ")));
        return 3;
    }
    out.problem(p)
}

async fn run(cli: &Cli, out: Out) -> Result<u8, Problem> {
    let common = &cli.common;
    match &cli.verb {
        Verb::Backup(a) => backup::backup(common, a, out).await,
        Verb::List(a) => {
            let c = reading(common).await?;
            catalogue::list(&c.disks, a, c.clock.now(), out).await
        }
        Verb::Show(a) => {
            let c = reading(common).await?;
            catalogue::show(&c.disks, a, c.clock.now(), out).await
        }
        Verb::Keep(a) => {
            let c = Cloud::aws(common, may(!a.dry_run)).await?;
            keep::keep(&c.disks, a, out).await
        }
        Verb::Prune(a) => {
            let c = Cloud::aws(common, may(a.yes)).await?;
            tidy::prune(&c.disks, a, c.clock.now(), out).await
        }
        Verb::Reap(a) => {
            let c = Cloud::aws(common, may(a.yes)).await?;
            tidy::reap(&c.disks, a, c.clock.now(), out).await
        }
        Verb::Report(a) => {
            let c = reading(common).await?;
            report::report(&c.disks, a, c.clock.now(), out).await
        }
        Verb::Watch(a) => {
            let c = reading(common).await?;
            report::run(&c.disks, a, c.clock.now(), out).await
        }
        Verb::Explain { code } => Ok(help::explain(code.as_deref(), out)),
        Verb::Completions { shell } => Ok(help::completions(*shell)),
        Verb::Man { dir } => Ok(help::man(dir, out)),
    }
}

async fn reading(common: &Common) -> Result<Cloud, Problem> {
    Cloud::aws(common, May::Read).await
}

const fn may(changes: bool) -> May {
    if changes { May::Change } else { May::Read }
}
