//! All backups of a run, side by side, each from its slot to its verdict.

use super::World;
use common::{report, worst};
use coordinator::drive::{self, Until};
use coordinator::ops::{Run, orders};
use coordinator::ports::{Clock, Disks, Fleet, Hosts, Shelf};
use coordinator::{Action, Cloud, Outcome, Phase, Policy, Saga, Step};
use futures_util::future::join_all;
use protocol::code::exit;
use protocol::wire::Problem;
use protocol::{Code, WallMs};
use tokio::sync::watch;

/// What is still done after an interruption: thawing, and a true verdict.
const SETTLE: &[Phase] = &[Phase::Thaw, Phase::Find, Phase::Mark];
/// For that, before the time is over.
const TAIL_MS: u64 = 60_000;

impl<H: Hosts, D: Disks + Fleet + Shelf, C: Clock> World<'_, H, D, C> {
    pub(super) async fn backup(&self, policy: &Policy, stop_by_ms: u64, stop: watch::Receiver<bool>) -> Result<u8, Problem> {
        let nonce = uuid::Uuid::new_v4().to_string();
        let started = self.clock.now();
        let execution = format!("job {nonce}");
        let run = Run { execution: &execution, nonce: &nonce, started, cloud: Cloud::Azure };
        let orders = orders(self.disks, policy, &run).await?;
        let end = WallMs(started.0.saturating_add_unsigned(stop_by_ms.saturating_sub(TAIL_MS)));
        let last = orders.iter().map(|o| o.slot.0).max().unwrap_or(0);
        let needs = policy.hold.ms() + TAIL_MS;
        if end.0 < last.saturating_add_unsigned(needs) {
            let detail = format!(
                "{} backups start until {} s from now and need {} s, but the run ends before",
                orders.len(),
                (last - started.0) / 1000,
                needs / 1000
            );
            return Err(Problem::new(Code::ConfigInvalid, detail)
                .next("a longer --stop-by and replicaTimeout, fewer hosts, or a higher rate_percent"));
        }
        let sagas: Vec<Saga> = orders.into_iter().map(Saga::new).collect();
        let codes = join_all(sagas.into_iter().map(|saga| self.one(saga, end, stop.clone()))).await;
        Ok(worst(codes))
    }

    async fn one(&self, mut saga: Saga, end: WallMs, mut stop: watch::Receiver<bool>) -> u8 {
        let told = |saga: &Saga, step: &Step| (self.log)(&report::step(self.clock.now(), saga, step));
        let world = drive::World { hosts: self.hosts, disks: self.disks, clock: self.clock, told: &told };
        let interrupted = tokio::select! {
            biased;
            () = world.act(Action::Backup, &mut saga, Some(end)) => None,
            () = asked(&mut stop) => Some("a signal ended the run"),
        };
        // Whatever ended it: a step that was cut off may have happened, and what may be frozen is thawed.
        let late = (saga.phase != Phase::Done && interrupted.is_none()).then_some("the time of the run is over");
        if let Some(why) = interrupted.or(late) {
            let p = || Problem::new(Code::Interrupted, format!("{why}; nothing was frozen"));
            match saga.phase {
                Phase::Inspect => saga.refuse(p()),
                Phase::Freeze if saga.frozen_from.is_none() => saga.refuse(p()),
                Phase::Freeze | Phase::Snapshot => saga.apply(Outcome::Lost, self.clock.now()),
                Phase::Thaw | Phase::Find | Phase::Mark | Phase::Complete | Phase::After | Phase::Done => {}
            }
            world.run(&mut saga, Until { phases: SETTLE, stop_by: None }).await;
        }
        (self.log)(&report::ended(self.clock.now(), &saga).plain());
        let problem = match problem_of(&saga) {
            // Thawed: what a person or the platform wanted.
            Some(p) if interrupted.is_some() && p.code != Code::LeftFrozen => Some(Problem { code: Code::Interrupted, ..p }),
            other => other,
        };
        match problem {
            None => exit::DONE,
            Some(p) => {
                self.problem(&Problem { detail: format!("{}: {}", saga.order.id, p.detail), ..p.clone() });
                p.code.exit()
            }
        }
    }
}

/// Held and only waiting for its copies is no failure; one that still waits for its thaw is not known to be thawed.
fn problem_of(saga: &Saga) -> Option<Problem> {
    match saga.phase {
        Phase::Freeze | Phase::Snapshot | Phase::Thaw => Some(
            Problem::new(Code::LeftFrozen, "the thaw was not confirmed before the run's end").next("on the host: sudo snapfreeze thaw"),
        ),
        Phase::Complete if saga.marked == Some(protocol::Verdict::Held) => None,
        _ => saga.result().err(),
    }
}

async fn asked(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|s| *s).await.is_err() {
        std::future::pending::<()>().await;
    }
}
