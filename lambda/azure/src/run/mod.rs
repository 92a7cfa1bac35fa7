//! Orders to the agents by Run Command. The managed one (parallel, under a name of its own) by default; the action, of which a
//! machine carries out one at a time, where a machine takes no managed command.
//!
//! What Azure says about a command is not believed, in either direction: its exit code is hidden or arrives late, and a command may
//! hang for ever. Only the agent's own last line counts (`protocol::answer`), packed, for 4 KiB of the output are kept. A freeze that
//! was not answered may still start later; what protects the host is its `notAfter`, and the thaw that makes the id unusable.

mod ask;
mod by_azure;
mod order;
mod tidy;

use crate::client::Arm;
use crate::disks::ManagedDisks;
use crate::fail::Fail;
use crate::id::VmId;
use common::{Limiter, WallClock, answers};
use coordinator::Target;
use coordinator::ports::{BackupAnswer, Clock, FreezeAnswer, FreezeCall, Hosts, Orders, ThawAnswer};
use coordinator::restore::RestoreOrder;
use order::Order;
use protocol::wire::{Facts, Problem};
use protocol::{BackupId, Code, HoldMs, WallMs};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// To say so before the caller gives up.
const TAIL_MS: i64 = 200;
/// A script that hangs is ended by the machine; the agent's own deadlines are far shorter.
const FACTS_S: i32 = 120;
const ORDER_S: i32 = 300;

/// Which Run Command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Managed; the action where the machine takes no managed command.
    #[default]
    Auto,
    Managed,
    Action,
}

#[derive(Clone)]
pub struct RunCommand {
    arm: Arm,
    clock: WallClock,
    limiter: Arc<Limiter>,
    mode: Mode,
    kept: Arc<Kept>,
    /// For restore points that Azure makes with the host's own scripts.
    disks: Option<ManagedDisks>,
}

/// What one process remembers.
#[derive(Default)]
struct Kept {
    /// A command is created in its machine's region.
    locations: Mutex<HashMap<String, String>>,
    /// Machines that take only the action.
    actions: Mutex<HashMap<String, ()>>,
    /// Ended commands, deleted when no window is open.
    ended: Mutex<Vec<(VmId, String)>>,
    /// Backups whose windows Azure's scripts open, under ids of their own.
    by_azure: Mutex<HashSet<BackupId>>,
}

impl RunCommand {
    pub fn new(arm: Arm, clock: WallClock, limiter: Arc<Limiter>, mode: Mode) -> Self {
        Self { arm, clock, limiter, mode, kept: Arc::default(), disks: None }
    }

    /// With the disks of the same subscription.
    #[must_use]
    pub fn with(self, disks: &ManagedDisks) -> Self {
        Self { disks: Some(disks.clone()), ..self }
    }

    fn frozen_by(&self, call: &FreezeCall, verb: &'static str) -> Order {
        Order::new(verb, call.id, ORDER_S.saturating_add(i32::try_from(call.hold.ms() / 1000).unwrap_or(0)))
            .with("SF_HOLD", call.hold.ms().to_string())
            .with("SF_ISSUED", call.issued_at.0.to_string())
            .with("SF_NOT_AFTER", call.not_after.0.to_string())
            .with("SF_BY", call.by.clone())
    }

    /// The machine's region; and why nothing can be asked of it.
    async fn reachable(&self, vm: &VmId) -> Result<String, Problem> {
        let unreachable = |why: String, next: &str| Err(Problem::new(Code::AgentUnreachable, why).next(next));
        let found = match self.arm.vm(vm).await {
            Ok(found) => found,
            Err(f) if f.missing() => {
                return unreachable(format!("no machine {} in resource group {}", vm.name(), vm.group()), "az vm list");
            }
            Err(f) => return Err(f.problem("Microsoft.Compute/virtualMachines/read")),
        };
        let agent = found.properties.as_ref().and_then(|p| p.instance_view.as_ref()).and_then(|v| v.vm_agent.as_ref());
        let ready = agent.is_none_or(|a| a.statuses.is_empty() || a.statuses.iter().any(|s| s.display_status.as_deref() == Some("Ready")));
        if !ready {
            return unreachable(format!("the VM agent of {} is not ready", vm.name()), "on the host: sudo systemctl status walinuxagent");
        }
        let location = found.resource.location;
        self.kept.locations.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key(vm), location.clone());
        Ok(location)
    }

    /// Without a question when it is known.
    async fn location(&self, vm: &VmId) -> Result<String, Problem> {
        let known = self.kept.locations.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key(vm)).cloned();
        match known {
            Some(l) => Ok(l),
            None => self.reachable(vm).await,
        }
    }
}

fn key(vm: &VmId) -> String {
    vm.to_string().to_lowercase()
}

impl Hosts for RunCommand {
    async fn facts(&self, target: &Target, id: BackupId, hold: HoldMs, by: WallMs) -> Result<Facts, Problem> {
        let vm: VmId = target.id.parse()?;
        self.reachable(&vm).await?;
        self.tidy(&vm);
        let order = Order::new("facts", id, FACTS_S).with("SF_HOLD", hold.ms().to_string());
        answers::facts(self.ask(&vm, order, WallMs(by.0 - TAIL_MS)).await, id)
    }

    async fn freeze(&self, target: &Target, call: &FreezeCall) -> FreezeAnswer {
        let vm = match target.id.parse() {
            Ok(vm) => vm,
            Err(p) => return FreezeAnswer::Refused(p),
        };
        answers::freeze(self.ask(&vm, self.frozen_by(call, "freeze"), WallMs(call.answer_by.0 - TAIL_MS)).await, call.id)
    }

    async fn thaw(&self, target: &Target, id: BackupId, owner: &str, by: WallMs) -> ThawAnswer {
        let vm: VmId = match target.id.parse() {
            Ok(vm) => vm,
            Err(p) => return ThawAnswer::Unknown(p.detail),
        };
        let order = Order::new("thaw", id, ORDER_S).with("SF_BY", owner.to_owned());
        let answer = answers::thaw(self.ask(&vm, order, WallMs(by.0 - TAIL_MS)).await, id);
        let answer = if answer == ThawAnswer::NeverFrozen { self.nor_by_azure(&vm, id, by).await } else { answer };
        self.tidy(&vm);
        answer
    }

    async fn backup(&self, target: &Target, call: &FreezeCall) -> BackupAnswer {
        let vm: VmId = match target.id.parse() {
            Ok(vm) => vm,
            Err(p) => return BackupAnswer::Refused(p),
        };
        if let Some(set) = &call.snapshots {
            return self.by_azure(&vm, target, call, set).await;
        }
        let order = self.frozen_by(call, "backup").with("SF_POLICY", call.policy.clone());
        let answer = answers::backup(self.ask(&vm, order, WallMs(call.answer_by.0 - TAIL_MS)).await, call.id);
        self.tidy(&vm);
        answer
    }
}

impl Orders for RunCommand {
    async fn restore(&self, target: &Target, order: &RestoreOrder, by: WallMs) -> Result<serde_json::Value, Problem> {
        let vm: VmId = target.id.parse()?;
        self.reachable(&vm).await?;
        let within = i32::try_from((by.0 - self.clock.now().0) / 1000).unwrap_or(i32::MAX);
        let mut o = Order::new("restore", order.id, within).with("SF_STEP", order.step.word().into());
        for (name, value) in order.step.values() {
            o = o.with(variable(name), value);
        }
        answers::restore(self.ask(&vm, o, WallMs(by.0 - TAIL_MS)).await, order.id)
    }
}

/// As `order.sh` reads it.
fn variable(name: &str) -> &'static str {
    match name {
        "volumes" => "SF_VOLUMES",
        "set" => "SF_SET",
        "until" => "SF_UNTIL",
        "wij" => "SF_WIJ",
        "everything" => "SF_EVERYTHING",
        _ => "SF_EVEN_IF_NOT_HELD",
    }
}

/// Why nothing was sent, for people.
fn refused(fail: &Fail, action: &str) -> Problem {
    match fail {
        Fail::Refused { status: 409, .. } => {
            Problem::new(Code::AgentUnreachable, "another Run Command is being carried out on the machine")
                .next("wait until it ended; az vm run-command list")
        }
        _ => fail.problem(action),
    }
}
