//! The programs that a real instance does not have: install, server, ctl, state, workload, verify.

use super::install::{self, Install};
use super::{ask, out};
use crate::config::Config;
use crate::proto::{Client, Op, Reply};
use crate::registry::Registry;
use crate::server::{self, faults};
use crate::{verify, workload};
use clap::{Parser, Subcommand};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A small working model of an InterSystems IRIS instance
#[derive(Debug, Parser)]
#[command(name = "iris-sim", version)]
struct Admin {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a root, or add an instance to one
    #[command(disable_version_flag = true)]
    Install(Box<Install>),
    /// Run an instance in the foreground; `iris start` does it in the background
    Server {
        #[arg(long)]
        root: PathBuf,
        #[arg(long)]
        name: String,
        #[arg(long)]
        emergency: bool,
    },
    /// Register a restored image as an instance, wherever it lies now
    Adopt(install::Adopt),
    /// Set delays and faults of a running instance: KEY=VALUE ...; an empty value clears
    Ctl {
        #[arg(long, required_unless_present = "list")]
        root: Option<PathBuf>,
        /// Print the keys
        #[arg(long)]
        list: bool,
        name: Option<String>,
        settings: Vec<String>,
    },
    /// Print what the instance does now, as JSON
    State {
        #[arg(long)]
        root: PathBuf,
        name: String,
    },
    /// Run transactions until the time is over or a signal comes
    Workload(workload::Args),
    /// Say whether files are a clean image: exit 0 clean, 1 torn, 2 usage
    Verify {
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
        #[arg(long)]
        json: bool,
    },
}

pub fn main(args: Vec<String>) -> i32 {
    let admin = match Admin::try_parse_from(args) {
        Ok(admin) => admin,
        Err(e) => {
            // Help and version go to standard output with 0, everything else is usage.
            let _closed = e.print();
            return if e.use_stderr() { 2 } else { 0 };
        }
    };
    match admin.verb {
        Verb::Install(args) => match install::run(&args) {
            Ok(cfg) => {
                out(&format!("{} installed in {}\n", cfg.name, cfg.dir.display()));
                0
            }
            Err(e) => fail(&e),
        },
        Verb::Adopt(args) => match install::adopt(&args) {
            Ok(cfg) => {
                out(&format!("{} adopted in {}\n", cfg.name, cfg.dir.display()));
                0
            }
            Err(e) => fail(&e),
        },
        Verb::Server { root, name, emergency } => with_config(&root, &name, |cfg| match server::run(cfg, emergency) {
            Ok(()) => 0,
            Err(e) => fail(&e),
        }),
        Verb::Ctl { list: true, .. } => {
            for (key, what) in faults::KEYS {
                out(&format!("{key:<26} {what}\n"));
            }
            0
        }
        Verb::Ctl { root, name, settings, .. } => {
            let (root, name) = (root.unwrap_or_default(), name.unwrap_or_default());
            with_config(&root, &name, |cfg| ctl(&cfg, &settings))
        }
        Verb::State { root, name } => with_config(&root, &name, |cfg| match ask(&cfg, Op::State) {
            Some(state) => {
                out(&format!("{state}\n"));
                0
            }
            None => {
                eprintln!("{} is not running", cfg.name);
                1
            }
        }),
        Verb::Workload(args) => with_config(&args.root, &args.name, |cfg| workload::main(&cfg, &args)),
        Verb::Verify { dirs, json } => verify::main(&dirs, json),
    }
}

fn with_config(root: &Path, name: &str, run: impl FnOnce(Config) -> i32) -> i32 {
    match Registry::load(root).config(name) {
        Some(cfg) => run(cfg),
        None => {
            eprintln!("no instance {name} in {}", root.display());
            2
        }
    }
}

fn fail(error: &dyn std::error::Error) -> i32 {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text += &format!(": {inner}");
        source = inner.source();
    }
    eprintln!("{text}");
    1
}

fn ctl(cfg: &Config, settings: &[String]) -> i32 {
    let mut values = BTreeMap::new();
    for setting in settings {
        match setting.split_once('=') {
            Some((key, value)) => values.insert(key.to_string(), value.to_string()),
            None => {
                eprintln!("not KEY=VALUE: {setting}");
                return 2;
            }
        };
    }
    match Client::connect(cfg).and_then(|mut client| client.call(Op::Ctl(values))) {
        Ok(Reply::Done(all)) => {
            out(&format!("{all}\n"));
            0
        }
        Ok(Reply::Failed(text)) => {
            eprintln!("{text}");
            2
        }
        _ => {
            eprintln!("{} is not running", cfg.name);
            1
        }
    }
}
