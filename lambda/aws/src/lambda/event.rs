//! What the function may be asked, read strictly: an unknown field is an error that names it, never something ignored.

use super::{Failure, usage};
use coordinator::{Order, Policy, Saga};
use protocol::{Code, SCHEMA};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
pub enum Event {
    /// One order per host or group, as many as fit into a reply of the state machine; `from`: the index of the first.
    List {
        policy: Policy,
        execution: String,
        started_at: String,
        #[serde(default)]
        from: usize,
    },
    Admit {
        order: Order,
    },
    Freeze {
        saga: Saga,
    },
    Snapshot {
        saga: Saga,
    },
    Thaw {
        saga: Saga,
    },
    Settle {
        saga: Saga,
    },
    /// The whole of it in one invocation.
    Backup {
        policy: Policy,
        #[serde(default)]
        execution: Option<String>,
        #[serde(default)]
        started_at: Option<String>,
    },
    Reap {
        policy: Policy,
        #[serde(default)]
        dry_run: bool,
    },
    Prune {
        policy: Policy,
        #[serde(default)]
        dry_run: bool,
    },
    Watch {
        policy: Policy,
        #[serde(default)]
        dry_run: bool,
    },
}

impl Event {
    /// Errors: `Config.Invalid` for a policy that cannot work, `Usage.Invalid` for everything else.
    pub fn read(event: Value) -> Result<Self, Failure> {
        if let Some(policy) = event.get("policy") {
            Policy::deserialize(policy).map_err(|e| Failure(protocol::wire::Problem::new(Code::ConfigInvalid, format!("policy: {e}"))))?;
        }
        let read: Self = serde_json::from_value(event).map_err(|e| usage(format!("the event cannot be read: {e}")))?;
        match &read {
            Self::Freeze { saga } | Self::Snapshot { saga } | Self::Thaw { saga } | Self::Settle { saga } => known(saga.schema),
            Self::Admit { order } => known(order.schema),
            Self::List { .. } | Self::Backup { .. } | Self::Reap { .. } | Self::Prune { .. } | Self::Watch { .. } => Ok(()),
        }?;
        Ok(read)
    }

    /// Nothing that changes anything can be sent.
    pub const fn dry_run(&self) -> bool {
        match self {
            Self::Reap { dry_run, .. } | Self::Prune { dry_run, .. } => *dry_run,
            Self::List { .. } | Self::Watch { .. } => true,
            Self::Admit { .. }
            | Self::Freeze { .. }
            | Self::Snapshot { .. }
            | Self::Thaw { .. }
            | Self::Settle { .. }
            | Self::Backup { .. } => false,
        }
    }
}

fn known(schema: u32) -> Result<(), Failure> {
    if schema > SCHEMA {
        return Err(usage(format!("written by a newer snapfreeze (schema {schema}; this one reads up to {SCHEMA})")));
    }
    Ok(())
}
