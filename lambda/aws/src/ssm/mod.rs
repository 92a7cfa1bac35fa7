//! Orders to the agents over SSM: one document per verb (infra/aws/documents.yaml), one step named `snapfreeze` in each.
//!
//! What a command's status says is not believed, in either direction: SSM reports finished commands as DeliveryTimedOut
//! (amazon-ssm-agent#316) and an `exit 0` proves nothing. Only the agent's own last line counts (`protocol::answer`). A freeze that
//! was not answered may still start later; what protects the host is its `notAfter`, and the thaw that makes the id unusable.

mod ask;

use crate::client::Clients;
use crate::fail::Fail;
use ask::Order;
use aws_sdk_ssm::types::{InstanceInformationFilter, InstanceInformationFilterKey, PingStatus};
use common::answers::{self, Ran};
use common::{Limiter, WallClock};
use coordinator::Target;
use coordinator::ports::{BackupAnswer, Clock, FreezeAnswer, FreezeCall, Hosts, Orders, ThawAnswer};
use coordinator::restore::RestoreOrder;
use protocol::wire::{Facts, Problem};
use protocol::{BackupId, Code, HoldMs, WallMs};
use std::sync::Arc;

/// What the documents' names begin with unless configured otherwise.
pub const DOCUMENTS: &str = "snapfreeze-";
/// SSM API reference, SendCommand: the smallest TimeoutSeconds.
const DELIVER_MIN_S: i64 = 30;
/// A thaw is welcome at any time: it is delivered to a host that was away for two minutes.
const DELIVER_THAW_S: i64 = 120;
/// Time to say so before whoever asked stops listening.
const TAIL_MS: i64 = 50;

#[derive(Clone, Debug)]
pub struct Ssm {
    clients: Clients,
    clock: WallClock,
    limiter: Arc<Limiter>,
    documents: String,
}

impl Ssm {
    /// `limiter`: the process's one. `documents`: what their names begin with, [`DOCUMENTS`].
    pub fn new(clients: Clients, clock: WallClock, limiter: Arc<Limiter>, documents: impl Into<String>) -> Self {
        Self { clients, clock, limiter, documents: documents.into() }
    }

    /// In whole seconds, rounded up.
    fn seconds_until(&self, at: WallMs) -> i64 {
        (at.0.saturating_sub(self.clock.now().0).max(0) + 999) / 1000
    }

    /// `Err`: SSM knows that no command will reach it. That it cannot be asked proves nothing.
    async fn online(&self, target: &Target) -> Result<(), Problem> {
        let only = InstanceInformationFilter::builder().key(InstanceInformationFilterKey::InstanceIds).value_set(&target.id).build();
        let Ok(only) = only else { return Ok(()) };
        let asked = self.clients.ssm_patient.describe_instance_information().instance_information_filter_list(only).send().await;
        let Ok(all) = asked else { return Ok(()) };
        let unreachable = |detail: &str| Problem::new(Code::AgentUnreachable, detail);
        match all.instance_information_list().iter().find(|i| i.instance_id() == Some(target.id.as_str())) {
            None => Err(unreachable("the instance is not managed by Systems Manager")
                .next("does the SSM agent run, and has the instance profile AmazonSSMManagedInstanceCore?")),
            Some(i) if matches!(i.ping_status(), Some(PingStatus::ConnectionLost | PingStatus::Inactive)) => {
                Err(unreachable("the SSM agent is not connected").next("on the host: sudo systemctl status amazon-ssm-agent"))
            }
            Some(_) => Ok(()),
        }
    }

    fn frozen_by(&self, target: &Target, call: &FreezeCall, verb: &'static str) -> Order {
        Order::new(verb, target, call.id)
            .once()
            .deliver_within(self.seconds_until(call.not_after).max(DELIVER_MIN_S))
            .with("hold", call.hold.ms().to_string())
            .with("issuedAt", call.issued_at.0.to_string())
            .with("notAfter", call.not_after.0.to_string())
            .with("by", call.by.clone())
    }
}

impl Hosts for Ssm {
    async fn facts(&self, target: &Target, id: BackupId, hold: HoldMs, by: WallMs) -> Result<Facts, Problem> {
        let order =
            Order::new("facts", target, id).deliver_within(self.seconds_until(by).max(DELIVER_MIN_S)).with("hold", hold.ms().to_string());
        let ran = tokio::select! {
            ran = self.ask(order, WallMs(by.0 - TAIL_MS)) => ran,
            Err(offline) = Box::pin(self.online(target)) => return Err(offline),
        };
        answers::facts(ran, id)
    }

    async fn freeze(&self, target: &Target, call: &FreezeCall) -> FreezeAnswer {
        let order = self.frozen_by(target, call, "freeze");
        answers::freeze(self.ask(order, WallMs(call.answer_by.0 - TAIL_MS)).await, call.id)
    }

    async fn thaw(&self, target: &Target, id: BackupId, owner: &str, by: WallMs) -> ThawAnswer {
        let order = || Order::new("thaw", target, id).deliver_within(DELIVER_THAW_S);
        let until = WallMs(by.0 - TAIL_MS);
        let mut ran = self.ask(order().with("by", owner.to_owned()), until).await;
        // A document that was made before the thaw had an owner: better a thaw that names nobody than none.
        if matches!(&ran, Ran::NotSent(p) if p.detail.contains("InvalidParameters")) {
            ran = self.ask(order(), until).await;
        }
        answers::thaw(ran, id)
    }

    async fn backup(&self, target: &Target, call: &FreezeCall) -> BackupAnswer {
        let order = self.frozen_by(target, call, "backup").with("policy", call.policy.clone());
        answers::backup(self.ask(order, WallMs(call.answer_by.0 - TAIL_MS)).await, call.id)
    }
}

impl Orders for Ssm {
    async fn restore(&self, target: &Target, order: &RestoreOrder, by: WallMs) -> Result<serde_json::Value, Problem> {
        // A second command would find the first one's lock, and a restore is never begun twice.
        let mut o =
            Order::new("restore", target, order.id).once().lasting().deliver_within(DELIVER_THAW_S).with("step", order.step.word().into());
        for (name, value) in order.step.values() {
            o = o.with(name, value);
        }
        answers::restore(self.ask(o, WallMs(by.0 - TAIL_MS)).await, order.id)
    }
}

/// Why nothing was sent, for people.
fn refused(fail: &Fail, document: &str, region: &str) -> Problem {
    if fail.is("InvalidInstanceId") {
        return Problem::new(Code::AgentUnreachable, "SSM does not reach the instance: unknown, stopped, or its agent is not running")
            .next("does the SSM agent run, and has the instance profile AmazonSSMManagedInstanceCore?");
    }
    if fail.is("InvalidDocument") || fail.is("InvalidDocumentVersion") {
        return Problem::new(Code::CloudRefused, format!("there is no SSM document {document} in {region}"))
            .next("deploy infra/aws/documents.yaml there");
    }
    fail.problem("ssm:SendCommand")
}
