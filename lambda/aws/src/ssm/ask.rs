//! One command to one host: sent, then asked about until it ended or the deadline is there.

use super::{Ssm, refused};
use crate::fail::Fail;
use aws_sdk_ssm::types::CommandInvocationStatus;
use common::answers::{Output, Ran};
use common::limiter::jittered;
use coordinator::Target;
use coordinator::ports::Clock;
use protocol::{BackupId, WallMs};
use std::collections::HashMap;

/// The step's name in every document.
const STEP: &str = "snapfreeze";
/// The waiter of the SDK asks every 5 s, which is longer than a window should be.
const POLL_FIRST_MS: u64 = 100;
const POLL_MS: u64 = 250;
/// After this a command waits in a queue, and asking more often does not help.
const SOON_MS: i64 = 30_000;
const POLL_LATER_MS: u64 = 1_000;
/// A throttled SendCommand did nothing, so it may be sent again; not for long, the order has a `notAfter`.
const SEND_TRIES: u32 = 4;
const SEND_AGAIN_MS: u64 = 500;
/// Of stderr, for people.
const STDERR_TAIL: usize = 300;

/// SSM API reference, GetCommandInvocation: "the first 24,000 characters written by the plugin to stdout".
const STDOUT_MAX: usize = 24_000;

pub(super) struct Order {
    verb: &'static str,
    instance: String,
    id: BackupId,
    once: bool,
    /// Nobody cancels it: what it does goes on when its answer is waited for no more.
    lasting: bool,
    deliver_s: i64,
    parameters: HashMap<String, Vec<String>>,
}

impl Order {
    pub fn new(verb: &'static str, target: &Target, id: BackupId) -> Self {
        let parameters = HashMap::from([("backupId".to_owned(), vec![id.to_string()])]);
        Self { verb, instance: target.id.clone(), id, once: false, lasting: false, deliver_s: super::DELIVER_MIN_S, parameters }
    }
    /// A second command would be a second freeze order.
    pub const fn once(mut self) -> Self {
        self.once = true;
        self
    }
    pub const fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }
    pub const fn deliver_within(mut self, seconds: i64) -> Self {
        self.deliver_s = seconds;
        self
    }
    pub fn with(mut self, name: &str, value: String) -> Self {
        self.parameters.insert(name.to_owned(), vec![value]);
        self
    }
}

impl Ssm {
    pub(super) async fn ask(&self, order: Order, by: WallMs) -> Ran {
        let command = match self.clock.by(by, Box::pin(self.send(&order))).await {
            Some(Ok(command)) => command,
            Some(Err(ran)) => return ran,
            None => return Ran::Lost("SendCommand was not answered in time".into()),
        };
        match self.clock.by(by, Box::pin(self.poll(&order, &command))).await {
            Some(ran) => ran,
            None => {
                if order.once && !order.lasting {
                    self.cancel(&order, &command);
                }
                Ran::Lost(format!("command {command} did not end in time"))
            }
        }
    }

    async fn send(&self, order: &Order) -> Result<String, Ran> {
        let document = format!("{}{}", self.documents, order.verb);
        let client = if order.once { &self.clients.ssm_once } else { &self.clients.ssm_patient };
        let call = client
            .send_command()
            .document_name(&document)
            .instance_ids(&order.instance)
            .timeout_seconds(i32::try_from(order.deliver_s).unwrap_or(i32::MAX))
            .comment(format!("snapfreeze {} {}", order.verb, order.id))
            .set_parameters(Some(order.parameters.clone()));
        let mut tries = 1;
        loop {
            self.limiter.take(&self.clock).await;
            match call.clone().send().await.map_err(|e| Fail::of(&e)) {
                Ok(sent) => {
                    let id = sent.command.and_then(|c| c.command_id);
                    return id.ok_or_else(|| Ran::Lost("SendCommand answered without a command id".into()));
                }
                Err(f) if f.throttled() && tries < SEND_TRIES => {
                    tokio::time::sleep(std::time::Duration::from_millis(jittered(SEND_AGAIN_MS))).await;
                    tries += 1;
                }
                Err(Fail::Lost(why)) => return Err(Ran::Lost(format!("no answer to SendCommand: {why}"))),
                Err(f) => return Err(Ran::NotSent(refused(&f, &document, self.clients.region()))),
            }
        }
    }

    async fn poll(&self, order: &Order, command: &str) -> Ran {
        let began = self.clock.now();
        let mut pause = POLL_FIRST_MS;
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(jittered(pause))).await;
            self.limiter.take(&self.clock).await;
            let call = self.clients.ssm_once.get_command_invocation().command_id(command).instance_id(&order.instance).plugin_name(STEP);
            match call.send().await.map_err(|e| Fail::of(&e)) {
                Ok(i) if i.status().is_some_and(ended) => {
                    let details = i.status_details().filter(|d| !d.is_empty()).map(Into::into);
                    return Ran::Ended {
                        status: details.or_else(|| i.status().map(|s| s.as_str().to_owned())).unwrap_or_default(),
                        output: Output {
                            stdout: i.standard_output_content.unwrap_or_default(),
                            stderr: tail(i.standard_error_content.as_deref().unwrap_or_default()),
                            kept: STDOUT_MAX,
                        },
                    };
                }
                Ok(_) | Err(Fail::Lost(_)) => {}
                // Right after SendCommand ("eventual consistency"); and an answer to a poll that was not given is no answer.
                Err(f) if f.is("InvocationDoesNotExist") || f.throttled() => {}
                Err(f) => {
                    return Ran::Lost(format!(
                        "what became of command {command} cannot be asked: {}",
                        f.problem("ssm:GetCommandInvocation").detail
                    ));
                }
            }
            pause = if self.clock.now().0 - began.0 < SOON_MS { POLL_MS } else { POLL_LATER_MS };
        }
    }

    /// A freeze that nobody waits for any more. Best effort and beside everything else: the thaw does not rely on it.
    fn cancel(&self, order: &Order, command: &str) {
        let call = self.clients.ssm_patient.cancel_command().command_id(command).instance_ids(&order.instance);
        tokio::spawn(async move {
            let _ = call.send().await;
        });
    }
}

fn ended(status: &CommandInvocationStatus) -> bool {
    use CommandInvocationStatus as S;
    matches!(status, S::Success | S::Failed | S::TimedOut | S::Cancelled)
}

fn tail(text: &str) -> String {
    let text = text.trim();
    let from = text.char_indices().rev().nth(STDERR_TAIL).map_or(0, |(i, _)| i);
    text[from..].to_owned()
}
