//! Runs a command on one host as the SSM agent does: delivered after a while, one script file per step in a process group of
//! its own, killed at its time-out. It goes through every state that SSM reports.

use super::commands::{Odd, StepState, change, is_cancelled, terminal};
use super::documents::{Resolved, Step};
use super::nodes;
use super::script::{Script, prepare};
use super::send::Parameters;
use crate::clock::wall_ms;
use crate::shell::{interpreter, kill_group, search_path};
use crate::sim::Sim;
use crate::world::Host;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

pub struct Run {
    pub command: String,
    pub instance: String,
    pub document: Resolved,
    pub parameters: Parameters,
    pub odd: Odd,
}

/// How a script ended.
struct Ended {
    code: i32,
    details: &'static str,
    stdout: String,
    stderr: String,
}

/// The agent's exit code for a script that it killed.
const KILLED: i32 = 137;
/// "exit 194: reboot request on Linux" (amazon-ssm-agent#289); nothing of ours may ever ask for one.
const REBOOT: i32 = 194;

pub async fn run(sim: Arc<Sim>, run: Run) {
    let ms = Duration::from_millis;
    let host = { sim.world().hosts.get(&run.instance).cloned() };
    let Some(host) = host else { return };
    let delivery_ms = sim.world().commands.get(&run.command).map_or(0, |c| c.delivery_ms);

    if run.odd.undelivered {
        tokio::spawn(expire(sim.clone(), run.command.clone(), run.instance.clone(), delivery_ms));
        // Whether it starts late or never, the report stays what it is.
        let Some(late) = run.odd.start_ms else { return };
        tokio::time::sleep(ms(late)).await;
        steps(&sim, &run, &host, false).await;
        return;
    }
    let wait = run.odd.start_ms.or(host.deliver_ms).unwrap_or(sim.config.ssm.deliver_ms);
    let delivered = tokio::time::timeout(ms(delivery_ms), async {
        tokio::time::sleep(ms(wait)).await;
        while !reachable(&sim, &run.instance) {
            set(&sim, &run, "Delayed");
            tokio::time::sleep(ms(20)).await;
        }
    });
    if delivered.await.is_err() {
        set(&sim, &run, "DeliveryTimedOut");
        return;
    }
    let workers = sim.workers(&run.instance);
    let _slot = workers.acquire().await;
    if is_cancelled(&sim, &run.command, &run.instance) {
        return;
    }
    let details = steps(&sim, &run, &host, true).await;
    if !run.odd.never_reported {
        finish(&sim, &run, run.odd.report_as.as_deref().unwrap_or(&details));
    }
}

fn reachable(sim: &Sim, instance: &str) -> bool {
    let world = sim.world();
    world.hosts.get(instance).is_some_and(|h| nodes::online(&world, h))
}

async fn expire(sim: Arc<Sim>, command: String, instance: String, after_ms: u64) {
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    change(&sim, &command, &instance, |i| i.details = "DeliveryTimedOut".into());
}

/// Unless it is over already.
fn set(sim: &Sim, run: &Run, details: &str) {
    change(sim, &run.command, &run.instance, |i| {
        if !terminal(&i.details) {
            i.details = details.into();
        }
    });
}

/// The steps' results become visible with the whole.
fn finish(sim: &Sim, run: &Run, details: &str) {
    let kept = run.odd.cut;
    change(sim, &run.command, &run.instance, |i| {
        i.details = details.into();
        for step in &mut i.steps {
            if let Some(chars) = kept {
                step.stdout = step.stdout.chars().take(chars).collect();
            }
            if i.details != "Success" && step.details == "Success" && run.odd.report_as.is_some() {
                step.details = details.into();
            }
        }
    });
}

/// Runs all steps and says how the whole ended. `reported`: the invocation's state follows.
async fn steps(sim: &Arc<Sim>, run: &Run, host: &Host, reported: bool) -> String {
    if reported {
        set(sim, run, "InProgress");
    }
    let (mut whole, mut ended, mut done) = ("Success".to_owned(), false, Vec::new());
    for (n, step) in run.document.content.main_steps.iter().enumerate() {
        if (ended && !step.finally_step) || !applies(step, host) || is_cancelled(sim, &run.command, &run.instance) {
            // "A step with a false precondition is skipped" and counts as good.
            done.push((n, None));
            continue;
        }
        if reported {
            step_state(sim, run, n, |s| (s.details, s.start_wall_ms) = ("InProgress".into(), Some(wall_ms())));
        }
        let result = one(sim, run, step, host).await;
        let failed = result.details != "Success";
        ended |= step.is_end || (failed && step.on_failure.is_some()) || (!failed && step.on_success.as_deref() == Some("exit"));
        if failed && whole == "Success" && step.on_failure.as_deref() != Some("successAndExit") {
            whole = result.details.to_owned();
        }
        done.push((n, Some((result, wall_ms()))));
    }
    if !reported {
        return whole;
    }
    let reply_ms = host.reply_ms.unwrap_or(sim.config.ssm.reply_ms);
    tokio::time::sleep(Duration::from_millis(reply_ms)).await;
    if !run.odd.never_reported {
        for (n, result) in done {
            step_state(sim, run, n, |s| match result {
                Some((r, at)) => {
                    (s.code, s.details, s.stdout, s.stderr) = (r.code, r.details.into(), r.stdout, r.stderr);
                    s.end_wall_ms = Some(at);
                }
                None => (s.code, s.details) = (0, "Success".into()),
            });
        }
    }
    whole
}

fn step_state(sim: &Sim, run: &Run, n: usize, f: impl FnOnce(&mut StepState)) {
    change(sim, &run.command, &run.instance, |i| f(&mut i.steps[n]));
}

/// `StringEquals: [platformType, Linux]`, both in either order.
fn applies(step: &Step, host: &Host) -> bool {
    step.precondition.iter().all(|(operator, pair)| {
        let value = |p: &String| if p == "platformType" { host.platform.clone() } else { p.clone() };
        operator == "StringEquals" && pair.len() == 2 && value(&pair[0]) == value(&pair[1])
    })
}

async fn one(sim: &Arc<Sim>, run: &Run, step: &Step, host: &Host) -> Ended {
    let failed = |why: String| Ended { code: 1, details: "Failed", stdout: String::new(), stderr: why };
    if step.action != "aws:runShellScript" || host.platform == "Windows" {
        return failed(format!("the double runs aws:runShellScript only, not {} on {}", step.action, host.platform));
    }
    let script = prepare(&run.document.content, step, &run.parameters, host);
    let dir = sim.config.state.join("ssm").join(&run.command).join(&run.instance).join(&step.name);
    match execute(sim, run, host, &script, &dir).await {
        Ok(ended) => ended,
        Err(e) => failed(format!("failed to run commands: {e}")),
    }
}

async fn execute(sim: &Arc<Sim>, run: &Run, host: &Host, script: &Script, dir: &Path) -> io::Result<Ended> {
    std::fs::create_dir_all(dir)?;
    let (file, stdout, stderr) = (dir.join("_script.sh"), dir.join("stdout"), dir.join("stderr"));
    std::fs::write(&file, &script.text)?;
    // The agent runs `sh -c FILE`, so that a first line `#!…` decides.
    let program = interpreter(&script.text, "/bin/sh");
    let path = search_path(host.path_prefix.as_deref());
    // Output goes to files: a child that stays behind keeps no pipe open, and the command ends with its script.
    let mut command = tokio::process::Command::new(&program[0]);
    command.args(&program[1..]).arg(&file).env_clear().env("PATH", path).envs(&host.env).envs(&script.env);
    command.env("AWS_SSM_INSTANCE_ID", &run.instance).env("AWS_SSM_REGION_NAME", &sim.config.region);
    command.current_dir(script.workdir.as_deref().unwrap_or(dir));
    command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?).process_group(0);
    let mut child = command.spawn()?;
    let group = child.id().map(|id| id as i32);
    change(sim, &run.command, &run.instance, |i| (i.group, i.ran) = (group, true));

    let limit_ms = sim.config.ssm.execution_timeout_ms.unwrap_or(script.timeout_s * 1000);
    let waited = tokio::time::timeout(Duration::from_millis(limit_ms), child.wait()).await;
    let timed_out = waited.is_err();
    let status = match waited {
        Ok(status) => status?,
        Err(_) => {
            group.into_iter().for_each(kill_group);
            child.wait().await?
        }
    };
    change(sim, &run.command, &run.instance, |i| i.group = None);
    let text = |p: &Path| std::fs::read(p).map(|b| String::from_utf8_lossy(&b).into_owned());
    let (stdout, mut stderr) = (text(&stdout)?, text(&stderr)?);
    let code = status.code().unwrap_or(KILLED);
    let details = match () {
        () if timed_out => "ExecutionTimedOut",
        () if is_cancelled(sim, &run.command, &run.instance) => "Cancelled",
        () if code == 0 => "Success",
        () => "Failed",
    };
    match code {
        0 => {}
        REBOOT => stderr.push_str("\nexit 194 asks for a reboot: the double takes it for a failure"),
        code => stderr.push_str(&format!("\nfailed to run commands: exit status {code}")),
    }
    Ok(Ended { code, details, stdout, stderr })
}
