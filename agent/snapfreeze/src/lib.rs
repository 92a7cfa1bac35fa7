//! The binary's inside: command line, daemon, watchdog. Read `daemon/run.rs` for the loop, `caller.rs` for its other side.

mod alarm_clock;
mod caller;
mod cli;
mod client;
pub mod config;
mod daemon;
mod instances;
pub mod journal;
mod layout;
mod out;
mod points;
mod verbs;
mod watchdog;

use clap::Parser;
use cli::{Cli, Verb};
use config::Config;
use out::Out;
use protocol::code::exit;
use protocol::wire::Problem;
use protocol::{Code, WallMs};
use std::io::Write;
use std::process::ExitCode;

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(c) => c,
        Err(e) => {
            let _ = e.print();
            // DLM reads 1 as "bad parameter".
            let dlm = std::env::args().skip(1).take(2).eq(["hook", "dlm"]);
            let usage = if dlm { verbs::hook::dlm::BAD_PARAMETER } else { exit::USAGE };
            return ExitCode::from(if e.use_stderr() { usage } else { exit::DONE });
        }
    };
    ExitCode::from(run(&cli))
}

fn run(cli: &Cli) -> u8 {
    let out = Out { json: cli.common.json, packed: cli.common.packed };
    if let Verb::Watchdog = cli.verb {
        return match watchdog::main() {
            Ok(()) => 0,
            Err(why) => out.problem(&Problem::new(Code::Internal, why)),
        };
    }
    let config = match Config::load(&cli.common.config) {
        Ok(c) => c,
        // What must work in an emergency works with a broken configuration.
        Err(e) if cli.verb.works_unconfigured() => {
            let _ = writeln!(std::io::stderr(), "warning: {}; going on with what is found", chain(&e));
            Config::default()
        }
        Err(e) => {
            let p = Problem::new(Code::ConfigInvalid, chain(&e)).next("correct the file, then run `snapfreeze check`");
            let code = out.fail(cli.verb.backup_id(), &p);
            return cli.verb.own_code(&p).unwrap_or(code);
        }
    };
    if let Verb::Agent = cli.verb {
        return daemon::main(config).map_or_else(|p| out.problem(&p), |()| 0);
    }
    let rt = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(rt) => rt,
        Err(e) => return out.problem(&Problem::new(Code::Internal, e.to_string())),
    };
    let code = rt.block_on(verb(&cli.verb, &config, out));
    rt.shutdown_background(); // a disk that hangs keeps its own thread, and nobody else
    code
}

async fn verb(verb: &Verb, config: &Config, out: Out) -> u8 {
    match verb {
        Verb::Agent | Verb::Watchdog => unreachable!("handled before"),
        Verb::Status(a) => verbs::status::status(config, a, out).await,
        Verb::Freeze(a) => verbs::freeze::freeze(config, a, out).await,
        Verb::Frozen => verbs::freeze::frozen(config, out).await,
        Verb::Thaw(a) => verbs::thaw::thaw(config, a, out).await,
        Verb::Facts(a) => verbs::facts::facts(config, a, out).await,
        Verb::Hook(a) => verbs::hook::hook(config, a, out).await,
        Verb::Backup(a) => verbs::backup::backup(config, a, out).await,
        Verb::List(a) => verbs::catalogue::list(config, a, out),
        Verb::Show(a) => verbs::catalogue::show(config, a, out),
        Verb::Verify(a) => verbs::catalogue::verify(config, a, out),
        Verb::Keep(a) => verbs::catalogue::keep(config, a, out),
        Verb::Prune(a) => verbs::catalogue::prune(config, a, out),
        Verb::Journals(a) => verbs::journals::journals(config, a, out),
        Verb::Restore(a) => verbs::restore::restore(config, a, out),
        Verb::Drill(a) => verbs::drill::drill(config, a, out),
        Verb::Sentinel(a) => verbs::drill::sentinel::sentinel(config, a, out),
        Verb::Rehearse(a) => verbs::freeze::rehearse(config, a, out).await,
        Verb::Check(a) => verbs::check::check(config, a, out).await,
        Verb::Setup(a) => verbs::help::setup(config, &a.engine, out),
        Verb::Metrics(a) => verbs::metrics::metrics(config, a, out).await,
        Verb::Diagnose(a) => verbs::diagnose::diagnose(config, &a.to, out),
        Verb::Explain { code } => verbs::help::explain(code.as_deref(), out),
        Verb::Completions { shell } => verbs::help::completions(*shell),
        Verb::Man { dir } => verbs::help::man(dir, out),
    }
}

/// An error with its sources, in one line.
pub fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(s) = source {
        text.push_str(": ");
        text.push_str(&s.to_string());
        source = s.source();
    }
    text
}

/// A moment for people, UTC.
pub fn when(t: WallMs) -> String {
    jiff::Timestamp::from_millisecond(t.0).map_or_else(|_| t.0.to_string(), |t| format!("{t:.3}"))
}

/// To the service manager's log. Never fails: a window may be open.
pub fn log_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "<5>{text}");
}

/// Somebody must look. `<2>` is "critical" to the service manager.
pub fn log_alarm(text: &str) {
    let _ = writeln!(std::io::stderr(), "<2>{text}");
}
