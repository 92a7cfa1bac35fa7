//! The pre and post script of an application consistent restore point, as the VMSnapshot extension runs them: `sh PATH "" ""`,
//! output to pipes that nobody reads, not killed when the time is over, and then taken for failed.

use super::sim::Sim;
use super::world::ArmHost;
use crate::shell::{rewrite, search_path};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// The exit code. `None`: it could not be started, or did not end in time.
pub async fn run(sim: &Sim, host: &ArmHost, script: &Path, timeout_ms: u64) -> Option<i32> {
    let dir = sim.config.state.join("scripts").join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir_all(&dir).ok()?;
    let file = dir.join(script.file_name()?);
    std::fs::write(&file, rewrite(&std::fs::read_to_string(script).ok()?, &host.paths)).ok()?;
    let mut command = tokio::process::Command::new("/bin/sh");
    command.arg(&file).args(["", ""]).env_clear().env("PATH", search_path(host.path_prefix.as_deref())).envs(&host.env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().ok()?;
    let group = child.id().map(|p| p as i32);
    sim.groups.lock().expect("groups").extend(group);
    let ended = tokio::time::timeout(Duration::from_millis(timeout_ms), child.wait()).await;
    let code = ended.ok()?.ok()?.code();
    sim.groups.lock().expect("groups").retain(|g| Some(*g) != group);
    code
}
