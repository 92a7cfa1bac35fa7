//! One order to one machine: sent once, then asked about until it ended or the deadline is there.

use super::order::{Order, SCRIPT};
use super::{Mode, RunCommand, refused, tidy};
use crate::client::models;
use crate::fail::Fail;
use crate::id::VmId;
use crate::lro::{End, SOON};
use common::answers::{Output, Ran};
use common::limiter::jittered;
use coordinator::ports::Clock;
use models::virtual_machine_run_command_instance_view::ExecutionState;
use protocol::wire::Problem;
use protocol::{Code, WallMs};
use serde_json::Value;
use std::time::Duration;

/// "Run Command … output is limited to the last 4,096 bytes".
const KEPT: usize = 4_096;
const POLL_FIRST_MS: u64 = 150;
const POLL_MS: u64 = 400;
/// After this it waits in a queue, and asking more often does not help.
const SOON_MS: i64 = 60_000;
const POLL_LATER_MS: u64 = 2_000;
/// A throttled or conflicting call did nothing, so it may be sent again; not for long, the order has a `notAfter`.
const SEND_TRIES: u32 = 4;
const SEND_AGAIN_MS: u64 = 500;
const MANAGED: &str = "Microsoft.Compute/virtualMachines/runCommands/write";
const ACTION: &str = "Microsoft.Compute/virtualMachines/runCommand/action";

impl RunCommand {
    pub(super) async fn ask(&self, vm: &VmId, order: Order, by: WallMs) -> Ran {
        if let Some(name) = order.odd() {
            return Ran::NotSent(Problem::new(Code::Internal, format!("{name} has characters that are not sent to a host")));
        }
        let location = match self.clock.by(by, self.location(vm)).await {
            Some(Ok(l)) => l,
            Some(Err(p)) => return Ran::NotSent(p),
            None => return Ran::NotSent(Problem::new(Code::AgentUnreachable, "Azure did not say in time where the machine is")),
        };
        let action = match self.mode {
            Mode::Managed => false,
            Mode::Action => true,
            Mode::Auto => self.kept.actions.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains_key(&super::key(vm)),
        };
        if !action {
            match self.managed(vm, &order, &location, by).await {
                Ok(ran) => return ran,
                Err(f) if self.mode == Mode::Auto && not_taken(&f) => {
                    self.kept.actions.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(super::key(vm), ());
                }
                Err(f) => return Ran::NotSent(refused(&f, MANAGED)),
            }
        }
        self.action(vm, &order, by).await
    }

    /// `Err`: certainly not sent.
    async fn managed(&self, vm: &VmId, order: &Order, location: &str, by: WallMs) -> Result<Ran, Fail> {
        let name = tidy::name(order.verb, self.clock.now());
        let mut tries = 1;
        loop {
            self.limiter.take(&self.clock).await;
            match self.clock.by(by, self.arm.put_command(vm, &name, command(order, location))).await {
                None => return Ok(Ran::Lost(format!("{MANAGED} was not answered in time"))),
                Some(Ok(_)) => break,
                Some(Err(Fail::Lost(why))) => return Ok(Ran::Lost(format!("no answer to {MANAGED}: {why}"))),
                Some(Err(f)) if f.throttled() && tries < SEND_TRIES => pause(SEND_AGAIN_MS).await,
                Some(Err(f)) => return Err(f),
            }
            tries += 1;
        }
        Ok(match self.clock.by(by, self.poll(vm, &name)).await {
            Some(ran) => {
                self.kept.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((vm.clone(), name));
                ran
            }
            // It is not deleted: that would kill a freeze or a thaw half way.
            None => Ran::Lost(format!("command {name} did not end in time")),
        })
    }

    async fn poll(&self, vm: &VmId, name: &str) -> Ran {
        let began = self.clock.now();
        pause(POLL_FIRST_MS).await;
        loop {
            self.limiter.take(&self.clock).await;
            match self.arm.command(vm, name).await {
                Ok(c) => {
                    if let Some(view) = c.properties.and_then(|p| p.instance_view).filter(ended) {
                        let status = view.execution_state.as_ref().map(|s| format!("{s:?}")).unwrap_or_default();
                        let output = Output {
                            stdout: view.output.unwrap_or_default(),
                            stderr: view.error.unwrap_or_default().trim().to_owned(),
                            kept: KEPT,
                        };
                        return Ran::Ended { status, output };
                    }
                }
                // Not seen yet; and an answer to a poll that was not given is no answer.
                Err(f) if f.missing() || f.throttled() || matches!(f, Fail::Lost(_)) => {}
                Err(f) => {
                    let why = f.problem("Microsoft.Compute/virtualMachines/runCommands/read").detail;
                    return Ran::Lost(format!("what became of command {name} cannot be asked: {why}"));
                }
            }
            pause(if self.clock.now().0 - began.0 < SOON_MS { POLL_MS } else { POLL_LATER_MS }).await;
        }
    }

    async fn action(&self, vm: &VmId, order: &Order, by: WallMs) -> Ran {
        let input = models::RunCommandInput { script: order.lines(), ..models::RunCommandInput::new("RunShellScript".into()) };
        let mut tries = 1;
        let sent = loop {
            self.limiter.take(&self.clock).await;
            match self.clock.by(by, self.arm.run(vm, input.clone())).await {
                None => return Ran::Lost(format!("{ACTION} was not answered in time")),
                Some(Ok(sent)) => break sent,
                Some(Err(Fail::Lost(why))) => return Ran::Lost(format!("no answer to {ACTION}: {why}")),
                // 409: another one is being carried out.
                Some(Err(f)) if (f.throttled() || f.status() == 409) && tries < SEND_TRIES => pause(SEND_AGAIN_MS << tries).await,
                Some(Err(f)) => return Ran::NotSent(refused(&f, ACTION)),
            }
            tries += 1;
        };
        match self.clock.by(by, self.arm.finish(sent, SOON)).await {
            None => Ran::Lost("Azure did not end the Run Command in time".into()),
            Some(End::Lost(why)) => Ran::Lost(why),
            Some(End::Failed { code, message }) => Ran::Ended { status: code, output: Output { stderr: message, ..Output::default() } },
            Some(End::Succeeded(value)) => Ran::Ended { status: "ended".into(), output: parted(&value) },
        }
    }
}

fn command(order: &Order, location: &str) -> models::VirtualMachineRunCommand {
    let source = models::VirtualMachineRunCommandScriptSource { script: Some(SCRIPT.into()), ..Default::default() };
    let properties = models::VirtualMachineRunCommandProperties {
        source: Some(source),
        parameters: order.parameters(),
        // Its own end is told by the instance view; the deployment need not wait for it.
        async_execution: Some(true),
        timeout_in_seconds: Some(order.within_s),
        ..Default::default()
    };
    let mut command = models::VirtualMachineRunCommand::new(models::Resource::new(location.to_owned()));
    command.properties = Some(properties);
    command
}

/// The machine has no slot, or its agent knows no managed commands: nothing was begun.
fn not_taken(f: &Fail) -> bool {
    matches!(f, Fail::Refused { status: 404 | 405, .. } | Fail::Refused { status: 409, .. })
        || matches!(f, Fail::Refused { code, .. } if code == "OperationNotAllowed" || code == "FeatureNotSupported")
}

fn ended(view: &models::VirtualMachineRunCommandInstanceView) -> bool {
    use ExecutionState as S;
    matches!(view.execution_state, Some(S::Succeeded | S::Failed | S::TimedOut | S::Canceled))
}

/// `Enable succeeded: \n[stdout]\n…\n[stderr]\n…`, the only form in which an action tells its output.
fn parted(value: &Value) -> Output {
    let message = value.pointer("/value/0/message").and_then(Value::as_str).unwrap_or_default();
    let rest = message.split_once("[stdout]\n").map_or("", |(_, r)| r);
    let (stdout, stderr) = rest.rsplit_once("\n[stderr]").unwrap_or((rest, ""));
    Output { stdout: stdout.to_owned(), stderr: stderr.trim().to_owned(), kept: KEPT }
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(jittered(ms))).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_actions_message_is_taken_apart() {
        let message = "Enable succeeded: \n[stdout]\n{\"a\":1}\nSNAPFREEZE {}\n\n[stderr]\nwarn\n";
        let o = parted(&json!({ "value": [{ "code": "ProvisioningState/succeeded", "message": message }] }));
        assert_eq!((o.stdout.as_str(), o.stderr.as_str()), ("{\"a\":1}\nSNAPFREEZE {}\n", "warn"));
        assert_eq!(parted(&json!({})).stdout, "");
    }
}
