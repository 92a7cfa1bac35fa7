//! The start of the agent: an open entry is thawed first; what is not ours is left alone.

use crate::{Budget, Cause, Effect, FreezeCall, GuardStep, Machine, Order, Past, State, ThawStep};
use protocol::{BackupId, BootMs};
use std::collections::BTreeMap;

/// What the journal says when the agent starts.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Found {
    /// Readable, nothing open. A frozen engine is then not ours: never thawed, freezes are refused.
    Nothing,
    /// An entry without a result. `freeze_by`: until when its freeze command could have been running; `None` after a reboot.
    Open { order: Order, freeze_by: Option<BootMs> },
    /// A result, but a killed freeze may still land: asked at least once, even when `until` has passed.
    Guard { order: Order, until: BootMs },
    /// Not readable (kept aside): every configured instance that is frozen is thawed, under this made-up order.
    Unreadable { order: Order },
}

impl Machine {
    pub fn start(found: Found, past: BTreeMap<BackupId, Past>, now: BootMs) -> (Self, Vec<Effect>) {
        let thawing = |order: Order, cause, freeze| {
            let budget = Budget::Until(now.plus(order.rules.margins.thaw_budget_ms));
            (State::Thawing { order, since: now, cause, freeze, budget, step: ThawStep::Round }, vec![Effect::Thaw { id: order.id }])
        };
        let (state, effects) = match found {
            Found::Nothing => (State::Idle, vec![]),
            Found::Open { order, freeze_by } => {
                let freeze = match freeze_by.map(|t| t.plus(order.rules.margins.guard_ms)) {
                    Some(until) if until > now => FreezeCall::Doubtful { until },
                    Some(_) | None => FreezeCall::Over,
                };
                thawing(order, Cause::AgentLost, freeze)
            }
            Found::Guard { order, until } => {
                (State::Guarding { order, until, step: GuardStep::Asking }, vec![Effect::Ask { id: order.id }])
            }
            Found::Unreadable { order } => {
                let until = now.plus(order.rules.margins.freeze_ms + order.rules.margins.guard_ms);
                thawing(order, Cause::JournalLost, FreezeCall::Doubtful { until })
            }
        };
        (Self { state, past, stopping: false }, effects)
    }
}
