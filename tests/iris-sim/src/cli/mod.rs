//! One binary, many programs: the name it is called by is its personality.

pub mod admin;
pub mod install;
pub mod iris;
pub mod lists;
pub mod session;

use crate::config::Config;
use crate::proto::{Client, Op, Reply};
use crate::registry::{self, Registry};
use std::io::Write;
use std::path::Path;

/// Names under which `bin` links here.
pub const PERSONALITIES: [&str; 6] = ["iris", "irissession", "csession", "ccontrol", "irisstat", "irisdb"];

pub fn main() -> i32 {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let argv0 = args.first().cloned().unwrap_or_default();
    let name = Path::new(&argv0).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if !PERSONALITIES.contains(&name.as_str()) {
        return admin::main(args);
    }
    let Some(root) = registry::root_of(&argv0) else {
        eprintln!("{name}: no instance registry ({}) beside {argv0}", registry::FILE);
        return 1;
    };
    let registry = Registry::load(&root);
    let rest: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match name.as_str() {
        "iris" | "ccontrol" => iris::main(&registry, &name, &rest),
        "irissession" | "csession" => session::main(&registry, &rest),
        "irisstat" => iris::irisstat(&registry, &rest),
        _ => session::irisdb(&registry, &rest),
    }
}

/// Writes to standard output; a closed pipe ends the program as it would any other.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
}

/// One request to an instance, for callers that need no more than its answer.
pub fn ask(cfg: &Config, op: Op) -> Option<serde_json::Value> {
    match Client::connect(cfg).ok()?.call(op).ok()? {
        Reply::Done(value) => Some(value),
        _ => None,
    }
}
