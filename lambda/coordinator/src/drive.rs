//! Carries out steps through the ports, as many as its caller wants: all of them (Lambda, terminal) or one phase (Step
//! Functions). Every call has a deadline here as well, whatever the adapter does: a call that hangs counts as not answered.

use crate::act::Action;
use crate::marks;
use crate::order::Target;
use crate::policy::Policy;
use crate::ports::{After, BackupAnswer, Clock, Disks, FreezeAnswer, FreezeCall, Hosts, SnapshotAnswer, SnapshotCall, ThawAnswer};
use crate::saga::{FREEZE_ANSWER_MS, HOST_TAIL_MS, Inspected, Outcome, Phase, Saga, Step, THAW_TRY_MS, minus, plus};
use futures_util::future::{Either, join, join_all, select};
use protocol::wire::Problem;
use protocol::{Code, WallMs};
use std::future::Future;
use std::pin::pin;

/// The facts of a host are waited for this long: SSM delivers in seconds, a busy host takes longer.
const INSPECT_MS: u64 = 90_000;
/// A call outside the window.
const CALL_MS: u64 = 60_000;

/// What the saga runs on.
pub struct World<'a, H, D, C> {
    pub hosts: &'a H,
    pub disks: &'a D,
    pub clock: &'a C,
    /// Told before each step, for progress bars and logs.
    pub told: &'a (dyn Fn(&Saga, &Step) + Sync),
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// Stop before the first step of a phase that is not one of these; empty: go on to the end.
    pub phases: &'static [Phase],
    /// Do not wait beyond this moment (a Lambda's own deadline).
    pub stop_by: Option<WallMs>,
}

pub const TO_THE_END: Until = Until { phases: &[], stop_by: None };

impl<H: Hosts, D: Disks, C: Clock> World<'_, H, D, C> {
    /// Runs until done, or as far as `until` says. The saga is as good a state to go on from as any other.
    pub async fn run(&self, saga: &mut Saga, until: Until) {
        loop {
            let now = self.clock.now();
            let step = saga.next(now);
            let goes_on = until.phases.is_empty() || until.phases.contains(&saga.phase);
            if step == Step::Done || !goes_on {
                return;
            }
            if let Step::Wait(at) = step {
                if until.stop_by.is_some_and(|stop| at >= stop) {
                    return;
                }
                self.clock.sleep_until(at).await;
                continue;
            }
            if until.stop_by.is_some_and(|stop| now >= stop) {
                return;
            }
            if let Some(problem) = out_of_time(saga, &step, until, now) {
                saga.refuse(problem);
                continue;
            }
            (self.told)(saga, &step);
            if saga.too_late_to_snapshot(now) {
                saga.skip_snapshot();
                continue;
            }
            saga.begin(&step, now);
            let outcome = self.carry_out(saga, &step, now).await;
            saga.apply(outcome, self.clock.now());
        }
    }

    /// One action of the Lambda on a saga that may come from another process.
    pub async fn act(&self, action: Action, saga: &mut Saga, stop_by: Option<WallMs>) {
        action.take_up(saga, self.clock.now());
        self.run(saga, Until { phases: action.phases(), stop_by }).await;
    }

    async fn carry_out(&self, saga: &Saga, step: &Step, now: WallMs) -> Outcome {
        let target = |i: &usize| &saga.members[*i].target;
        match step {
            Step::Inspect => Outcome::Inspected(join_all(saga.members.iter().map(|m| self.inspect(saga, &m.target, now))).await),
            Step::Freeze(all) => {
                let call = freeze_call(saga, now);
                let call = &call;
                let one = |i| async move {
                    let unknown = || FreezeAnswer::Unknown("no answer to the freeze in time".into());
                    self.by(call.answer_by, self.hosts.freeze(target(i), call)).await.unwrap_or_else(unknown)
                };
                Outcome::Froze(join_all(all.iter().map(one)).await)
            }
            Step::Backup(all) => {
                let mut call = freeze_call(saga, now);
                call.answer_by = backup_answer_by(saga, now);
                let call = &call;
                let one = |i: &usize| {
                    let i = *i;
                    async move {
                        let by_cloud = !saga.order.policy.snapshotter.is_disks();
                        let call = FreezeCall { snapshots: by_cloud.then(|| snapshot_call(saga, i, call.answer_by)), ..call.clone() };
                        let unknown = || BackupAnswer::Unknown("no answer to the backup order in time".into());
                        let answer = self.hosts.backup(&saga.members[i].target, &call);
                        self.by(call.answer_by, answer).await.unwrap_or_else(unknown)
                    }
                };
                Outcome::BackedUp(join_all(all.iter().map(one)).await)
            }
            Step::Snapshot(all) => {
                let answer_by = answer_by(saga, now);
                let one = |i: &usize| {
                    let i = *i;
                    async move {
                        let call = snapshot_call(saga, i, answer_by);
                        let unknown = || SnapshotAnswer::Unknown("no answer to the snapshot call before the thaw".into());
                        self.by(answer_by, self.disks.snapshot(&saga.members[i].target, &call)).await.unwrap_or_else(unknown)
                    }
                };
                Outcome::Snapped(join_all(all.iter().map(one)).await)
            }
            Step::Thaw(all) => {
                let by = plus(now, THAW_TRY_MS);
                let one = |i| async move {
                    let unknown = || ThawAnswer::Unknown("no answer to the thaw in time".into());
                    self.by(by, self.hosts.thaw(target(i), saga.order.id, &saga.order.owner, by)).await.unwrap_or_else(unknown)
                };
                Outcome::Thawed(join_all(all.iter().map(one)).await)
            }
            Step::Find => Outcome::Found(self.call(self.disks.find(saga.order.id)).await),
            Step::Complete => Outcome::Completion(self.call(self.disks.find(saga.order.id)).await),
            Step::Mark => Outcome::Marked(self.mark(saga).await),
            Step::After => Outcome::Aftered(self.after(saga).await),
            Step::Wait(_) | Step::Done => Outcome::Lost,
        }
    }

    async fn inspect(&self, saga: &Saga, target: &Target, now: WallMs) -> Result<Inspected, Problem> {
        let order = &saga.order;
        let by = plus(now, INSPECT_MS);
        let call = SnapshotCall {
            id: order.id,
            exclude_boot: order.policy.exclude_boot,
            exclude_volumes: order.policy.exclude_volumes.clone(),
            snapshotter: order.policy.snapshotter,
            tags: marks::before(order),
            answer_by: by,
        };
        let facts = async {
            let answer = self.by(by, self.hosts.facts(target, order.id, order.policy.hold, by)).await;
            let late = || {
                Err(Problem::new(Code::AgentUnreachable, "the agent did not answer in time")
                    .next("is the cloud's agent on the host online?"))
            };
            (answer.unwrap_or_else(late), self.clock.now())
        };
        let look = async { self.by(by, self.disks.look(target, &call)).await };
        let ((facts, answered), look) = join(facts, look).await;
        let look = look.unwrap_or_else(|| Err(Problem::new(Code::CloudRefused, "the cloud did not answer in time")))?;
        // What the cloud says about a host that is stopped explains why its agent does not answer.
        let facts = match (facts, &look.problem) {
            (Err(_), Some(p)) => return Err(p.clone()),
            (facts, _) => facts?,
        };
        let hop_ms = u64::try_from(answered.0 - now.0).unwrap_or(0);
        Ok(Inspected { facts, look, hop_ms, asked_at: Some(now) })
    }

    async fn mark(&self, saga: &Saga) -> Result<(), Problem> {
        if saga.marked.is_none() {
            for (snapshot, tags) in marks::of_volumes(saga) {
                self.call(self.disks.tag(&[snapshot], &tags)).await?;
            }
        }
        let ids: Vec<String> = saga.made().into_iter().map(|m| m.snapshot).collect();
        self.call(self.disks.tag(&ids, &marks::verdict(saga))).await
    }

    async fn after(&self, saga: &Saga) -> Vec<Problem> {
        let made = saga.made();
        let mut problems = Vec::new();
        for what in wishes(&saga.order.policy) {
            if let Err(p) = self.call(self.disks.after(&made, &what)).await {
                problems.push(p);
            }
        }
        problems
    }

    async fn call<T>(&self, f: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        let late = || Err(Problem::new(Code::CloudRefused, "the cloud did not answer in time"));
        self.by(plus(self.clock.now(), CALL_MS), f).await.unwrap_or_else(late)
    }

    async fn by<T>(&self, deadline: WallMs, f: impl Future<Output = T>) -> Option<T> {
        match select(pin!(f), pin!(self.clock.sleep_until(deadline))).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }
}

/// A process that ends before the answer, or before the thaw when that is its own, does not freeze.
fn out_of_time(saga: &Saga, step: &Step, until: Until, now: WallMs) -> Option<Problem> {
    let stop = until.stop_by?;
    let p = &saga.order.policy;
    let answer = match step {
        Step::Freeze(_) => freeze_call(saga, now).answer_by,
        Step::Backup(_) => backup_answer_by(saga, now),
        Step::Inspect
        | Step::Wait(_)
        | Step::Snapshot(_)
        | Step::Thaw(_)
        | Step::Find
        | Step::Mark
        | Step::Complete
        | Step::After
        | Step::Done => {
            return None;
        }
    };
    let thaws_too = until.phases.is_empty() || until.phases.contains(&Phase::Thaw);
    let done = if thaws_too { plus(answer.max(plus(now, p.hold.ms())), THAW_TRY_MS) } else { answer };
    (done > stop).then(|| {
        let (has, needs) = (stop.0.saturating_sub(now.0) / 1000, done.0.saturating_sub(now.0).div_euclid(1000) + 1);
        Problem::new(Code::RefusedTooSlow, format!("{has} s are left to this process, the window may need {needs} s; nothing was frozen"))
            .next("use the state machine, a longer time-out of the function, or a shorter hold")
    })
}

fn backup_answer_by(saga: &Saga, now: WallMs) -> WallMs {
    let p = &saga.order.policy;
    plus(now, p.late_ms + p.hold.ms() + HOST_TAIL_MS)
}

fn freeze_call(saga: &Saga, now: WallMs) -> FreezeCall {
    let p = &saga.order.policy;
    // An answer that leaves no time for the snapshot is of no use; and the sooner doubt is thawed, the better.
    let useful = p.hold.ms().saturating_sub(p.snapshot_ms);
    FreezeCall {
        id: saga.order.id,
        hold: p.hold,
        issued_at: now,
        not_after: plus(now, p.late_ms),
        by: saga.order.owner.clone(),
        snapshots: None,
        policy: p.name.clone(),
        answer_by: plus(now, useful.min(p.late_ms + FREEZE_ANSWER_MS)),
    }
}

fn snapshot_call(saga: &Saga, member: usize, answer_by: WallMs) -> SnapshotCall {
    let p = &saga.order.policy;
    // Of a fleet's list, what is attached here as data, by the cloud's name: EC2 refuses the root and volumes of other hosts.
    let exclude_volumes = saga.members[member].plan.as_ref().map_or_else(
        || p.exclude_volumes.clone(),
        |i| i.look.volumes.iter().filter(|v| !v.boot && v.named(&p.exclude_volumes)).map(|v| v.volume.clone()).collect(),
    );
    let (id, tags) = (saga.order.id, marks::at_freeze(saga, member));
    SnapshotCall { id, exclude_boot: p.exclude_boot, exclude_volumes, snapshotter: p.snapshotter, tags, answer_by }
}

/// So that a thaw still arrives inside the shortest hold; never less than what the call may take.
fn answer_by(saga: &Saga, now: WallMs) -> WallMs {
    let hop = saga.members.iter().filter_map(|m| m.plan.as_ref()).map(|p| p.hop_ms).max().unwrap_or(0);
    let ends = saga.shortest_hold().unwrap_or(now);
    minus(ends, hop).max(plus(now, saga.order.policy.snapshot_ms)).min(ends)
}

fn wishes(p: &Policy) -> Vec<After<'_>> {
    let mut all: Vec<After<'_>> = p.copy_to.iter().map(After::Copy).collect();
    all.extend(p.lock.as_ref().map(After::Lock));
    if !p.fast_restore.is_empty() {
        all.push(After::FastRestore(&p.fast_restore));
    }
    all
}
