//! `snapfreezectl`: backups of a fleet from a terminal, and the catalogue. Verbs are in `verbs` and `backup`; what is decided is
//! the coordinator's, what is sent is the cloud's adapter's (`cloud.rs`).

mod backup;
mod cli;
mod cloud;
mod journals;
mod out;
mod policy;
mod say;
mod verbs;

use clap::Parser;
use cli::{Cli, Verb};
use cloud::{Cloud, Kind, May};
use coordinator::ports::Clock;
use out::Out;
use protocol::Code;
use protocol::code::exit;
use protocol::wire::Problem;
use std::process::ExitCode;
use verbs::{catalogue, help, keep, report, restore, tidy};

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

/// The same for each cloud: `$c` is its ports.
macro_rules! on {
    ($kind:expr, $common:expr, $may:expr, |$c:ident| $do:expr) => {
        match $kind {
            Kind::Aws => {
                let $c = Cloud::aws($common, $may).await?;
                $do
            }
            Kind::Azure => {
                let $c = Cloud::azure($common, $may)?;
                $do
            }
        }
    };
}
pub(crate) use on;

async fn run(cli: &Cli, out: Out) -> Result<u8, Problem> {
    let common = &cli.common;
    let kind = cloud::kind(common, named(&cli.verb)?.iter());
    match &cli.verb {
        Verb::Backup(a) => backup::backup(kind, common, a, out).await,
        Verb::List(a) => on!(kind, common, May::Read, |c| catalogue::list(&c.disks, a, c.clock.now(), out).await),
        Verb::Show(a) => on!(kind, common, May::Read, |c| catalogue::show(&c.disks, a, c.clock.now(), out).await),
        Verb::Restore(a) => on!(kind, common, may(a.yes), |c| {
            let onto = if kind == Kind::Azure { cloud::machine(common, &a.onto)? } else { a.onto.clone() };
            let world = restore::World { cloud: kind.into(), hosts: &c.hosts, disks: &c.disks, clock: &c.clock };
            Box::pin(restore::restore(world, onto, a, out)).await
        }),
        Verb::Keep(a) => on!(kind, common, may(!a.dry_run), |c| keep::keep(&c.disks, a, out).await),
        Verb::Prune(a) => on!(kind, common, may(a.yes), |c| tidy::prune(&c.disks, a, c.clock.now(), out).await),
        Verb::Reap(a) => on!(kind, common, may(a.yes), |c| tidy::reap(&c.disks, a, c.clock.now(), out).await),
        Verb::Report(a) => on!(kind, common, May::Read, |c| report::report(&c.disks, a, c.clock.now(), out).await),
        Verb::Watch(a) => on!(kind, common, May::Read, |c| report::run(&c.disks, a, c.clock.now(), out).await),
        Verb::Journals(a) => journals::journals(a, common::WallClock::start().now(), out).await,
        Verb::Explain { code } => Ok(help::explain(code.as_deref(), out)),
        Verb::Completions { shell } => Ok(help::completions(*shell)),
        Verb::Man { dir } => Ok(help::man(dir, out)),
    }
}

/// The ids that a verb or its policy names.
fn named(verb: &Verb) -> Result<Vec<String>, Problem> {
    let of = |file: &std::path::Path| policy::read(file, policy::Wishes::default()).map(|p| p.select.ids);
    match verb {
        Verb::Backup(a) => match &a.policy {
            Some(file) => Ok([policy::read(file, policy::Wishes::default())?.select.ids, a.instances.clone()].concat()),
            None => Ok(a.instances.clone()),
        },
        Verb::Prune(a) => of(&a.policy),
        Verb::Watch(a) => of(&a.policy),
        Verb::Reap(cli::Reap { policy: Some(file), .. }) | Verb::Report(cli::Report { policy: Some(file), .. }) => of(file),
        Verb::Show(a) => Ok(vec![a.id.clone()]),
        Verb::Restore(a) => Ok(vec![a.id.clone(), a.onto.clone()]),
        Verb::Keep(a) => Ok(vec![a.id.clone()]),
        _ => Ok(Vec::new()),
    }
}

const fn may(changes: bool) -> May {
    if changes { May::Change } else { May::Read }
}
