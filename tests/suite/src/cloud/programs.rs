//! Programs of ours as processes, with the environment that points them at the double.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use super::tools::credentials;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// `bootstrap`, `snapfreezectl`, `snapfreeze-ebs`: beside the binaries of the agent.
pub fn program(name: &str) -> PathBuf {
    let path = crate::host::snapfreeze().with_file_name(name);
    assert!(path.is_file(), "{name} is not built: cargo build --workspace --bins");
    path
}

/// `snapfreezectl …` against an endpoint, its state below `state`.
pub fn ctl(endpoint: &str, region: &str, state: &Path, args: &[&str]) -> Command {
    ctl_by(&program("snapfreezectl"), endpoint, region, state, args)
}

/// The same by another build.
pub fn ctl_by(program: &Path, endpoint: &str, region: &str, state: &Path, args: &[&str]) -> Command {
    let mut c = Command::new(program);
    c.args(args)
        .envs(credentials())
        .env("AWS_REGION", region)
        .env("AWS_DEFAULT_REGION", region)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("XDG_STATE_HOME", state)
        .stdin(Stdio::null());
    c
}

pub fn said(o: &Output) -> String {
    format!("exit {:?}\n{}\n{}", o.status.code(), String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}
