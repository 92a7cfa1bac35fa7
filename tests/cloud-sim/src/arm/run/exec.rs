//! `/bin/bash -c "<script> <arguments>"`, killed alone at its limit: its children live on.

use super::{Plan, Sim, change};
use crate::arm::world::ArmHost;
use crate::shell::{interpreter, kill_one, rewrite, search_path};
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

pub struct Ended {
    /// -1: killed, or it could not be started.
    pub code: i32,
    pub timed_out: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn broken(e: &io::Error) -> Self {
        Self { code: -1, timed_out: false, stdout: String::new(), stderr: format!("failed to run the script: {e}") }
    }
}

/// Output goes to files, as in the guest: a child that stays behind keeps no pipe open.
pub async fn bash(sim: &Sim, host: &ArmHost, plan: &Plan) -> io::Result<Ended> {
    let dir = sim.config.state.join("run").join(plan.n.to_string());
    std::fs::create_dir_all(&dir)?;
    let (file, stdout, stderr) = (dir.join("script.sh"), dir.join("stdout"), dir.join("stderr"));
    let text = rewrite(&plan.text, &host.paths);
    std::fs::write(&file, &text)?;
    let line = format!("{} {}{}", interpreter(&text, "/bin/bash").join(" "), file.display(), plan.arguments);
    let mut command = tokio::process::Command::new("/bin/bash");
    command.arg("-c").arg(line).env_clear().env("PATH", search_path(host.path_prefix.as_deref())).envs(&host.env).envs(plan.env.clone());
    command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?).current_dir(&dir).process_group(0);
    let mut child = command.spawn()?;
    let pid = child.id().map(|p| p as i32);
    sim.groups.lock().expect("groups").extend(pid);
    change(sim, plan.n, |r| r.pid = pid);
    if super::cancelled(sim, plan.n) {
        pid.into_iter().for_each(kill_one); // Cancelled before it was known by its number.
    }
    let waited = tokio::time::timeout(Duration::from_millis(plan.limit_ms), child.wait()).await;
    let timed_out = waited.is_err();
    let status = match waited {
        Ok(status) => status?,
        Err(_) => {
            pid.into_iter().for_each(kill_one);
            child.wait().await?
        }
    };
    let code = status.code().filter(|_| !timed_out).unwrap_or(-1);
    if code != -1 {
        // What bash left behind on purpose is not ours to kill; numbers of groups are used again.
        sim.groups.lock().expect("groups").retain(|g| Some(*g) != pid);
    }
    let read = |p: &Path| std::fs::read(p).map(|b| String::from_utf8_lossy(&b).into_owned());
    Ok(Ended { code, timed_out, stdout: read(&stdout)?, stderr: read(&stderr)? })
}
