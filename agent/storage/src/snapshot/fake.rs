//! Stands in for a real snapshotter in tests of what surrounds it: takes as long as it is told, fails where it is told.

use super::{Error, Finished, Moment, Plan, Request, Say, Snapshotter, Taken};
use crate::catalogue::setdir;
use doors::clock::boot_now;
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default)]
pub struct Fake {
    pub take_ms: u64,
    pub fails_at: Option<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Prepare,
    Take,
    Finish,
    Abort,
}

impl Fake {
    fn step(&self, step: Step) -> Result<(), Error> {
        if self.fails_at == Some(step) {
            return Err(Error::Helper(format!("was told to fail at {step:?}")));
        }
        Ok(())
    }
}

impl Snapshotter for Fake {
    fn prepare(&self, request: &Request) -> Result<Plan, Error> {
        self.step(Step::Prepare)?;
        let set = request.to.join(request.id.to_string());
        setdir::create(&set).map_err(|e| Error::io("make", &set, e))?;
        let mut plan = Plan::new(request.id, set, request.sources.clone());
        plan.estimate.ms = self.take_ms;
        Ok(plan)
    }
    fn take(&self, _plan: &Plan, moment: &Moment<'_>) -> Result<Taken, Error> {
        let begun = boot_now();
        while boot_now().since(begun) < self.take_ms {
            moment.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.step(Step::Take)?;
        Ok(Taken { took_ms: boot_now().since(begun), ..Taken::default() })
    }
    fn finish(&self, _plan: &Plan, _checksums: bool, _say: Say<'_>) -> Result<Finished, Error> {
        self.step(Step::Finish)?;
        Ok(Finished::default())
    }
    fn abort(&self, plan: &Plan) -> Result<(), Error> {
        self.step(Step::Abort)?;
        setdir::remove(&plan.set).map_err(|e| Error::io("remove", &plan.set, e))
    }
}
