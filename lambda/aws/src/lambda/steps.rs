//! A backup's steps: each action runs the saga as far as its name says.

use super::{Call, Failure, usage};
use common::report::{self, verdict_of};
use coordinator::act::stage;
use coordinator::drive::World;
use coordinator::ops::{Run, orders};
use coordinator::policy::HeldBy;
use coordinator::ports::Clock;
use coordinator::saga::{FREEZE_ANSWER_MS, HOST_TAIL_MS, SELF_THAW_MS, THAW_TRY_MS};
use coordinator::{Action, Cloud, Order, Phase, Policy, Saga, Step};
use futures_util::future::join_all;
use protocol::tags::text::utc;
use protocol::wire::Problem;
use protocol::{Code, WallMs};
use serde_json::{Value, json};

/// Step Functions carries 256 KiB between states; the run's own input and the map's bookkeeping need their share.
const REPLY_MAX: usize = 160 * 1024;
/// To write the reply before the sandbox is ended.
const TAIL_MS: u64 = 5_000;
/// A call outside a window (`drive`), and the reply.
const CALL_MS: u64 = 60_000 + TAIL_MS;
/// Settling waits in the state machine, which costs nothing, rather than here.
const SETTLE_MS: i64 = 25_000;
/// One turn of thawing: well before the task's 300 s, so that the saga comes back and remembers how long it has tried.
const THAW_MS: i64 = 240_000;
/// Facts of a host (`drive`).
const INSPECT_MS: u64 = 90_000;
/// A host is looked at so long before its slot: `INSPECT_MS` and a Lambda that had to wait for its turn.
const LOOK_AHEAD_MS: u64 = 120_000;

impl Call<'_> {
    async fn act(&self, action: Action, saga: &mut Saga, stop_by: Option<WallMs>) {
        let told = |saga: &Saga, step: &Step| (self.log)(&report::step(self.clock.now(), saga, step));
        World { hosts: &self.ssm, disks: &self.ebs, clock: &self.clock, told: &told }.act(action, saga, stop_by).await;
    }

    fn before_end(&self, ms: u64) -> WallMs {
        WallMs(self.deadline.0.saturating_sub_unsigned(ms))
    }

    /// The later of "so long before the sandbox ends" and "one step": an action that does nothing would be repeated for ever.
    fn stop(&self, before_end_ms: u64) -> WallMs {
        self.before_end(before_end_ms).max(WallMs(self.clock.now().0 + 1_000))
    }

    fn remaining_ms(&self) -> u64 {
        u64::try_from(self.deadline.0 - self.clock.now().0).unwrap_or(0)
    }

    fn reply(&self, was: Phase, saga: &Saga) -> Value {
        if saga.phase == Phase::Done && was != Phase::Done {
            (self.log)(&report::ended(self.clock.now(), saga).emf());
        }
        let problem = if saga.phase == Phase::Done { saga.result().err() } else { saga.problem.clone() };
        json!({ "saga": saga, "phase": stage(saga.phase), "verdict": verdict_of(saga), "settled": saga.phase == Phase::Done,
            "left_frozen": saga.left_frozen().next().is_some(), "problem": problem })
    }

    pub async fn list(&self, policy: &Policy, execution: &str, started_at: &str, from: usize) -> Result<Value, Failure> {
        let started = moment(started_at)?;
        let all = self.orders(policy, execution, started).await?;
        let mut targets = Vec::new();
        let mut size = 0;
        for order in all.iter().skip(from) {
            // A fleet of thousands is not looked at all at once: each host shortly before its slot.
            let turn = WallMs(order.slot.0.saturating_sub_unsigned(LOOK_AHEAD_MS).max(started.0));
            let target = json!({ "order": order, "turn": utc(turn) });
            size += target.to_string().len();
            if size > REPLY_MAX && !targets.is_empty() {
                break;
            }
            targets.push(target);
        }
        let next = from + targets.len();
        Ok(json!({ "targets": targets, "next": (next < all.len()).then_some(next) }))
    }

    async fn orders(&self, policy: &Policy, execution: &str, started: WallMs) -> Result<Vec<Order>, Failure> {
        let nonce = uuid::Uuid::new_v4().to_string();
        let run = Run { execution, nonce: &nonce, started, cloud: Cloud::Ebs };
        Ok(orders(&self.ebs, policy, &run).await?)
    }

    /// Errors: why it is refused, before anything is frozen.
    pub async fn admit(&self, order: Order) -> Result<Value, Failure> {
        let mut saga = Saga::new(order);
        self.act(Action::Admit, &mut saga, None).await;
        let mut reply = self.reply(Phase::Inspect, &saga);
        if saga.phase == Phase::Done {
            return Err(saga.result().err().unwrap_or_else(|| Problem::new(Code::Internal, "ended before the freeze")).into());
        }
        reply["slot"] = json!(utc(saga.resume_at.unwrap_or(self.clock.now())));
        Ok(reply)
    }

    /// Until the freeze is answered, or doubtful. One whose answer may come after this invocation's end is not sent.
    pub async fn freeze(&self, saga: Saga) -> Result<Value, Failure> {
        Ok(self.step(Action::Freeze, saga, Some(self.before_end(TAIL_MS))).await)
    }

    pub async fn snapshot(&self, saga: Saga) -> Result<Value, Failure> {
        Ok(self.step(Action::Snapshot, saga, None).await)
    }

    /// Until every host confirms "not frozen", or this invocation ends: then in phase `thaw`, to be called again.
    pub async fn thaw(&self, saga: Saga) -> Result<Value, Failure> {
        let stop = self.stop(THAW_TRY_MS + TAIL_MS).min(WallMs(self.clock.now().0 + THAW_MS));
        Ok(self.step(Action::Thaw, saga, Some(stop)).await)
    }

    /// `settled` false: it waits for the copies to the store, to be called again.
    pub async fn settle(&self, saga: Saga) -> Result<Value, Failure> {
        if saga.phase == Phase::Inspect {
            return Err(usage("nothing to settle: the saga was never admitted"));
        }
        let stop = self.stop(CALL_MS).min(WallMs(self.clock.now().0 + SETTLE_MS));
        Ok(self.step(Action::Settle, saga, Some(stop)).await)
    }

    async fn step(&self, action: Action, mut saga: Saga, stop_by: Option<WallMs>) -> Value {
        let was = saga.phase;
        self.act(action, &mut saga, stop_by).await;
        self.reply(was, &saga)
    }

    /// Everything in one invocation. Errors: as `admit`, and every backup that is not held, the worst one's name first.
    pub async fn backup(&self, policy: &Policy, execution: Option<String>, started_at: Option<String>) -> Result<Value, Failure> {
        let more = !policy.copy_to.is_empty() || policy.lock.is_some() || !policy.fast_restore.is_empty();
        if more {
            return Err(usage(
                "copy, lock and fast restore follow a completed set, which one invocation cannot await: use the state machine",
            ));
        }
        let started = started_at.as_deref().map(moment).transpose()?.unwrap_or_else(|| self.clock.now());
        let execution = execution.unwrap_or_else(|| self.request.to_owned());
        let all = self.orders(policy, &execution, started).await?;
        let last = all.iter().map(|o| o.slot.0).max().unwrap_or(0);
        let waits = u64::try_from(last.saturating_sub(self.clock.now().0)).unwrap_or(0);
        let needs = waits + INSPECT_MS + answer_ms(policy) + policy.hold.ms() + SELF_THAW_MS + 2 * THAW_TRY_MS + CALL_MS;
        if needs > self.remaining_ms() {
            let detail = format!(
                "{} backups with a hold of {} ms may take {needs} ms, but this invocation ends in {} ms: use the state machine",
                all.len(),
                policy.hold.ms(),
                self.remaining_ms()
            );
            return Err(usage(detail));
        }
        let stop = Some(self.stop(CALL_MS));
        let mut sagas: Vec<Saga> = all.into_iter().map(Saga::new).collect();
        join_all(sagas.iter_mut().map(|saga| self.act(Action::Backup, saga, stop))).await;
        let backups: Vec<Value> = sagas.iter().map(|saga| summary(&self.reply(Phase::Inspect, saga), saga)).collect();
        match worst(&sagas) {
            Some(p) => Err(p.into()),
            None => Ok(json!({ "backups": backups })),
        }
    }
}

/// What the freeze may take until it counts as lost; host-held, the whole backup.
fn answer_ms(p: &Policy) -> u64 {
    match p.held_by {
        HeldBy::Coordinator => p.hold.ms().saturating_sub(p.snapshot_ms).min(p.late_ms + FREEZE_ANSWER_MS),
        HeldBy::Host => p.late_ms + p.hold.ms() + HOST_TAIL_MS,
    }
}

fn summary(reply: &Value, saga: &Saga) -> Value {
    let hosts: Vec<&str> = saga.members.iter().map(|m| m.target.id.as_str()).collect();
    json!({ "id": saga.order.id, "hosts": hosts, "phase": reply["phase"], "verdict": reply["verdict"], "settled": reply["settled"] })
}

/// Held and only waiting for the copy to the store is no failure.
fn worst(sagas: &[Saga]) -> Option<Problem> {
    let waits = |s: &Saga| s.phase == Phase::Complete;
    let mut bad: Vec<(&Saga, Problem)> = sagas.iter().filter(|s| !waits(s)).filter_map(|s| Some((s, problem_of(s)?))).collect();
    bad.sort_by_key(|(_, p)| p.code != Code::LeftFrozen);
    let (first, p) = bad.first()?;
    let others = if bad.len() > 1 { format!("; and {} more of {}", bad.len() - 1, sagas.len()) } else { String::new() };
    Some(Problem { detail: format!("{}: {}{others}", first.order.id, p.detail), ..p.clone() })
}

/// One that still waits for its thaw when the time is over is not known to be thawed.
fn problem_of(saga: &Saga) -> Option<Problem> {
    if matches!(saga.phase, Phase::Freeze | Phase::Snapshot | Phase::Thaw) {
        return Some(Problem::new(Code::LeftFrozen, "the thaw was not confirmed before the invocation's end").next("sudo snapfreeze thaw"));
    }
    saga.result().err()
}

fn moment(text: &str) -> Result<WallMs, Failure> {
    let at: jiff::Timestamp = text.parse().map_err(|e| usage(format!("started_at = {text:?} is no RFC 3339 time: {e}")))?;
    Ok(WallMs(at.as_millisecond()))
}
