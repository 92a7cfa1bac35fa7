//! What can be made to go wrong, and with which calls.

use super::wire::Ask;
use crate::faults::{Matching, Moment};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum ArmFault {
    /// The call waits for `release`.
    Hold { when: Moment },
    /// The connection closes before anything is done.
    LostRequest,
    /// Everything is done, then the connection closes without an answer.
    LostReply,
    /// Nothing happens for so long, then the call goes on.
    Delay { ms: u64 },
    /// The answer is held back for so long after everything was done.
    DelayReply { ms: u64 },
    /// Any refusal. Nothing is done.
    Status {
        status: u16,
        code: String,
        #[serde(default)]
        retry_after_s: Option<u64>,
    },
    /// 429 with Retry-After and the limits' headers. Nothing is done.
    Throttle { retry_after_s: u64 },
    /// 409 Conflict. Nothing is done.
    Conflict,
    /// The operation stays InProgress for ever; what it does is done all the same (a snapshot's bytes are copied).
    EndlessAccepted,
    /// The operation fails with this code, and so does the resource's provisioningState.
    LroFailed { code: String },
    /// snapshots.put, points.put: the bytes are copied so long after the acceptance.
    CopyAfter { ms: u64 },
    /// snapshots.put: gone without a trace when its operation has succeeded.
    Vanishes,
    /// run.*: accepted; the script never starts, and nothing is told.
    RunLost,
    /// run.*: the script runs, its end is never told. An action keeps its only slot.
    RunHang,
    /// run.*: the script starts so long after the acceptance.
    StartLate { ms: u64 },
    /// run.*: only so many last bytes of the output are told.
    CutOutput { bytes: usize },
    /// run.put: the script runs to its end, which is told so (`Failed`, `TimedOut`, `Unknown`, …).
    ReportAs { execution_state: String, exit_code: i32 },
    /// run.action: the sample script ran instead of the given one (azure-cli#32286).
    SampleScript,
}

/// Every field that is set must agree. A question about an operation is matched by what the operation was for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArmMatch {
    /// `snapshots.put`, …: src/arm/route.rs has them all.
    pub op: Option<String>,
    /// The resource's name, without regard to case.
    pub name: Option<String>,
    pub name_contains: Option<String>,
    /// Some text in the path or the body; a source disk's name, say.
    pub contains: Option<String>,
    /// The VM that a Run Command or a restore point is for: its id.
    pub vm: Option<String>,
    pub principal: Option<String>,
}

impl ArmMatch {
    pub fn op(op: &str) -> Self {
        Self { op: Some(op.into()), ..Self::default() }
    }
    pub fn any() -> Self {
        Self::default()
    }
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }
    pub fn name_contains(mut self, text: &str) -> Self {
        self.name_contains = Some(text.into());
        self
    }
    pub fn contains(mut self, text: &str) -> Self {
        self.contains = Some(text.into());
        self
    }
    pub fn vm(mut self, id: &str) -> Self {
        self.vm = Some(id.into());
        self
    }
    pub fn principal(mut self, name: &str) -> Self {
        self.principal = Some(name.into());
        self
    }
}

impl Matching for ArmMatch {
    type Call = Ask;

    fn agrees(&self, ask: &Ask) -> bool {
        let lower = |t: &str| t.to_ascii_lowercase();
        let name = lower(&ask.about_name());
        self.op.as_deref().is_none_or(|w| w == ask.op)
            && self.name.as_deref().is_none_or(|w| lower(w) == name)
            && self.name_contains.as_deref().is_none_or(|w| name.contains(&lower(w)))
            && self.contains.as_deref().is_none_or(|w| ask.about.contains(w) || ask.body.to_string().contains(w))
            && self.vm.as_deref().is_none_or(|w| lower(&ask.about).starts_with(&lower(w)))
            && self.principal.as_deref().is_none_or(|w| ask.principal_name() == Some(w))
    }
}
