//! One saga, driven to its end: every step is on disk before it begins, and a person may interrupt at any time.

use super::progress::Progress;
use super::stop::Stop;
use super::store::{Place, Store, Stored};
use coordinator::Outcome;
use coordinator::drive::{Until, World};
use coordinator::ports::{Clock, Disks, Hosts};
use coordinator::saga::{Phase, Saga, Step};
use protocol::wire::Problem;
use protocol::{Code, Verdict};

pub struct Driver<'a, H, D, C> {
    pub hosts: &'a H,
    pub disks: &'a D,
    pub clock: &'a C,
    pub store: &'a Store,
    pub stop: &'a Stop,
    pub progress: &'a Progress,
    pub place: Place,
    /// Stop when the verdict is written, before the copies are complete.
    pub no_wait: bool,
}

/// How far a backup came.
pub struct End {
    pub saga: Saga,
    pub interrupted: bool,
}

impl End {
    /// `Ok` only for a held set. A set whose copies are still being made counts when nobody wanted to wait.
    pub fn result(&self) -> Result<(), Problem> {
        match self.saga.result() {
            Err(p) if p.code == Code::LeftFrozen => Err(p),
            _ if self.interrupted => {
                let how = match (&self.saga.verdict, self.saga.frozen_from) {
                    (_, None) => "nothing was frozen",
                    (Some(Verdict::Held), _) => "thawed; the set is held, its copies are still being made",
                    (None, _) => "thawed; no set was made",
                    (Some(Verdict::Pending | Verdict::Broken(_)), _) => "thawed; the set is marked broken",
                };
                Err(Problem::new(Code::Interrupted, how))
            }
            Err(_) if self.completing() => Ok(()),
            result => result,
        }
    }

    pub fn completing(&self) -> bool {
        self.saga.phase == Phase::Complete && self.saga.marked == Some(Verdict::Held) && self.saga.problem.is_none()
    }
}

impl<H: Hosts, D: Disks, C: Clock> Driver<'_, H, D, C> {
    pub async fn run(&self, mut saga: Saga) -> End {
        let mut interrupted = false;
        loop {
            let step = saga.next(self.clock.now());
            let waits_for_copies = matches!(saga.phase, Phase::Complete | Phase::After);
            if step == Step::Done || (waits_for_copies && (self.no_wait || interrupted)) {
                break;
            }
            if !interrupted && self.stop.asked() {
                interrupted = true;
                before(&mut saga);
            } else if let Step::Wait(at) = step {
                self.progress.step(&saga, &step);
                tokio::select! {
                    () = self.clock.sleep_until(at) => {}
                    () = self.stop.wait(), if !interrupted => {}
                }
            } else if let Err(p) = self.on_record(&saga, &step) {
                saga.refuse(p);
            } else if self.step(&mut saga, interrupted).await {
                interrupted = true;
                self.during(&mut saga);
            }
        }
        self.progress.done(&saga);
        if saga.phase == Phase::Done {
            self.store.forget(saga.order.id);
        } else {
            let _ = self.write(&saga, true);
        }
        End { saga, interrupted }
    }

    /// Goes on where a process is gone: what it was doing may have happened.
    pub async fn resume(&self, mut saga: Saga) -> End {
        match saga.phase {
            Phase::Freeze if saga.frozen_from.is_none() => {
                let p = Problem::new(Code::Internal, "the process went before it sent a freeze; nothing was frozen");
                saga.refuse(p.next("start a new backup"));
            }
            Phase::Inspect | Phase::Freeze | Phase::Snapshot => saga.apply(Outcome::Lost, self.clock.now()),
            Phase::Thaw | Phase::Find | Phase::Mark | Phase::Complete | Phase::After | Phase::Done => {}
        }
        self.run(saga).await
    }

    /// One phase. `true`: a person wants it to stop.
    async fn step(&self, saga: &mut Saga, interrupted: bool) -> bool {
        let told = |saga: &Saga, step: &Step| {
            // The freeze was put on record before; in the window nobody waits for a disk.
            if !matches!(step, Step::Freeze(_) | Step::Backup(_))
                && let Err(p) = self.write(&self.begun(saga, step), false)
            {
                self.progress.show(saga, &p.detail);
            }
            self.progress.step(saga, step);
        };
        let world = World { hosts: self.hosts, disks: self.disks, clock: self.clock, told: &told };
        // Once the thaw is under way nothing is gained by stopping.
        let stoppable = match saga.phase {
            Phase::Inspect | Phase::Freeze | Phase::Snapshot | Phase::Complete | Phase::After => !interrupted,
            Phase::Thaw | Phase::Find | Phase::Mark | Phase::Done => false,
        };
        let until = Until { phases: only(saga.phase), stop_by: None };
        tokio::select! {
            biased;
            () = world.run(saga, until) => false,
            () = self.stop.wait(), if stoppable => true,
        }
    }

    /// The step was cut off: it may have happened.
    fn during(&self, saga: &mut Saga) {
        match saga.phase {
            Phase::Inspect => before(saga),
            Phase::Freeze | Phase::Snapshot => saga.apply(Outcome::Lost, self.clock.now()),
            Phase::Thaw | Phase::Find | Phase::Mark | Phase::Complete | Phase::After | Phase::Done => {}
        }
    }

    /// A freeze is sent only when what undoes it after a crash is durable.
    fn on_record(&self, saga: &Saga, step: &Step) -> Result<(), Problem> {
        match step {
            Step::Freeze(_) | Step::Backup(_) => self.write(&self.begun(saga, step), true),
            _ => Ok(()),
        }
    }

    fn begun(&self, saga: &Saga, step: &Step) -> Saga {
        let mut begun = saga.clone();
        begun.begin(step, self.clock.now());
        begun
    }

    fn write(&self, saga: &Saga, durable: bool) -> Result<(), Problem> {
        self.store.write(&Stored { schema: protocol::SCHEMA, place: self.place.clone(), saga: saga.clone() }, durable)
    }
}

/// Interrupted between two steps: the next one is not begun.
fn before(saga: &mut Saga) {
    let p = || Problem::new(Code::Interrupted, "interrupted before the freeze; nothing was frozen");
    match saga.phase {
        Phase::Inspect | Phase::Freeze => saga.refuse(p()),
        Phase::Snapshot => {
            saga.problem = Some(p());
            saga.skip_snapshot();
        }
        Phase::Thaw | Phase::Find | Phase::Mark | Phase::Complete | Phase::After | Phase::Done => {}
    }
}

const fn only(phase: Phase) -> &'static [Phase] {
    match phase {
        Phase::Inspect => &[Phase::Inspect],
        Phase::Freeze => &[Phase::Freeze],
        Phase::Snapshot => &[Phase::Snapshot],
        Phase::Thaw => &[Phase::Thaw],
        Phase::Find => &[Phase::Find],
        Phase::Mark => &[Phase::Mark],
        Phase::Complete => &[Phase::Complete],
        Phase::After => &[Phase::After],
        Phase::Done => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator::saga::Thaw;
    use coordinator::{Order, Target};
    use protocol::{BrokenReason, WallMs};

    fn end(interrupted: bool, change: impl FnOnce(&mut Saga)) -> Result<(), Code> {
        let policy = crate::policy::manual(&["i-1".into()], Default::default()).unwrap();
        let target = Target { id: "i-1".into(), name: String::new() };
        let mut saga = Saga::new(Order::new(policy, "run", vec![target], "nonce", WallMs(1), WallMs(1)));
        saga.frozen_from = Some(WallMs(1));
        change(&mut saga);
        End { saga, interrupted }.result().map_err(|p| p.code)
    }

    #[test]
    fn only_a_held_set_that_nobody_interrupted_is_a_success() {
        let at = |phase, verdict: Option<Verdict>| move |s: &mut Saga| (s.phase, s.marked, s.verdict) = (phase, verdict.clone(), verdict);
        let broken = || Some(Verdict::Broken(BrokenReason::SnapshotLate));
        assert_eq!(end(false, at(Phase::Done, Some(Verdict::Held))), Ok(()));
        assert_eq!(end(false, at(Phase::Complete, Some(Verdict::Held))), Ok(()), "its copies are being made");
        assert_eq!(end(false, at(Phase::Done, broken())), Err(Code::WindowBroken));
        assert_eq!(end(true, at(Phase::Done, Some(Verdict::Held))), Err(Code::Interrupted));
        assert_eq!(end(true, at(Phase::Done, broken())), Err(Code::Interrupted));
        for phase in [Phase::Inspect, Phase::Freeze, Phase::Snapshot, Phase::Thaw, Phase::Find, Phase::Mark] {
            assert!(end(false, at(phase, Some(Verdict::Held))).is_err(), "{phase:?}");
        }
    }

    #[test]
    fn a_host_that_is_left_frozen_is_told_before_anything_else() {
        for interrupted in [false, true] {
            let left = end(interrupted, |s| {
                let problem = Problem::new(Code::LeftFrozen, "no answer");
                s.problem = Some(problem.clone());
                s.members[0].thaw = Thaw::LeftFrozen { problem };
                s.phase = Phase::Done;
            });
            assert_eq!(left, Err(Code::LeftFrozen));
        }
    }
}
