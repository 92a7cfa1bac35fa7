//! The coordinator's Lambda function: one action per invocation, the saga in and out as JSON.
//!
//! The state machine (infra/aws/backup.asl.json) waits and repeats; what may be repeated and what must not is decided by the
//! saga. An error's `errorType` is the stable name of a `protocol::Code`.

mod event;
mod steps;
mod upkeep;

pub use event::Event;

use crate::client::{Clients, Settings};
use crate::ebs::Ebs;
use crate::ssm::{DOCUMENTS, Ssm};
use common::{Limiter, WallClock};
use coordinator::ports::Clock;
use lambda_runtime::Diagnostic;
use protocol::wire::Problem;
use protocol::{Code, WallMs};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// An invocation that failed: the name goes to `errorType`, the sentence to `errorMessage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub Problem);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { code, detail, next, .. } = &self.0;
        if next.is_empty() { write!(f, "{code}: {detail}") } else { write!(f, "{code}: {detail} ({next})") }
    }
}

impl From<Problem> for Failure {
    fn from(p: Problem) -> Self {
        Self(p)
    }
}

impl From<Failure> for Diagnostic {
    fn from(f: Failure) -> Self {
        let Problem { code, detail, next, .. } = f.0;
        Self { error_type: code.name().into(), error_message: if next.is_empty() { detail } else { format!("{detail} ({next})") } }
    }
}

/// Takes one line of the function's log: metrics (embedded metric format) and steps.
pub type Log = Arc<dyn Fn(&Value) + Send + Sync>;

/// What outlives an invocation: connections, and the rate that its sagas share.
pub struct Function {
    clients: OnceCell<Clients>,
    limiter: Arc<Limiter>,
    documents: String,
    log: Log,
}

/// One invocation.
struct Call<'a> {
    clock: WallClock,
    ebs: Ebs,
    ssm: Ssm,
    /// When the sandbox is ended.
    deadline: WallMs,
    request: &'a str,
    log: &'a Log,
}

impl Function {
    /// Configured by its environment: the SDK's variables, and `SNAPFREEZE_DOCUMENTS` for another prefix than [`DOCUMENTS`].
    pub fn from_env() -> Self {
        let documents = std::env::var("SNAPFREEZE_DOCUMENTS").unwrap_or_else(|_| DOCUMENTS.into());
        let log: Log = Arc::new(|line| println!("{line}"));
        Self { clients: OnceCell::new(), limiter: Arc::default(), documents, log }
    }

    pub fn new(clients: Clients, log: Log) -> Self {
        Self { clients: OnceCell::new_with(Some(clients)), limiter: Arc::default(), documents: DOCUMENTS.into(), log }
    }

    /// `deadline_ms`: as the Runtime API gives it. Errors: every refusal and failure under its own name.
    pub async fn handle(&self, event: Value, deadline_ms: u64, request: &str) -> Result<Value, Failure> {
        let event = Event::read(event)?;
        let clients = self.clients.get_or_try_init(|| Box::pin(Clients::load(Settings::default()))).await?;
        let clients = if event.dry_run() { &clients.read_only_copy()? } else { clients };
        let clock = WallClock::start();
        let ssm = Ssm::new(clients.clone(), clock, self.limiter.clone(), self.documents.clone());
        let call = Call {
            clock,
            ebs: Ebs::new(clients.clone(), clock),
            ssm,
            deadline: deadline(deadline_ms, clock.now()),
            request,
            log: &self.log,
        };
        // Boxed: the SDK's futures are large, and all of them would lie in this one.
        match event {
            Event::List { policy, execution, started_at, from } => Box::pin(call.list(&policy, &execution, &started_at, from)).await,
            Event::Admit { order } => Box::pin(call.admit(order)).await,
            Event::Freeze { saga } => Box::pin(call.freeze(saga)).await,
            Event::Snapshot { saga } => Box::pin(call.snapshot(saga)).await,
            Event::Thaw { saga } => Box::pin(call.thaw(saga)).await,
            Event::Settle { saga } => Box::pin(call.settle(saga)).await,
            Event::Backup { policy, execution, started_at } => Box::pin(call.backup(&policy, execution, started_at)).await,
            Event::Reap { policy, dry_run } => Box::pin(call.reap(&policy, dry_run)).await,
            Event::Prune { policy, dry_run } => Box::pin(call.prune(&policy, dry_run)).await,
            Event::Watch { policy, dry_run: _ } => Box::pin(call.watch(&policy)).await,
        }
    }
}

/// `cargo lambda watch` gives the remaining time where Lambda gives a moment.
fn deadline(ms: u64, now: WallMs) -> WallMs {
    const YEAR_2001_MS: i64 = 1_000_000_000_000;
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    if ms < YEAR_2001_MS { WallMs(now.0.saturating_add(ms)) } else { WallMs(ms) }
}

fn usage(detail: impl Into<String>) -> Failure {
    Failure(Problem::new(Code::UsageInvalid, detail))
}
