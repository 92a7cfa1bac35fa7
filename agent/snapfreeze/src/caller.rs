//! A caller of the agent who never walks away from a freeze: lost replies are asked for again, and where the agent
//! is gone the engines are asked, and thawed, directly.

use crate::client::Client;
use crate::config::Config;
use crate::instances::{self, Set};
use crate::journal;
use crate::points::reach;
use doors::clock::{boot_now, wall_now};
use engine::Rung;
use protocol::outcome::{BrokenReason, Window, WindowState};
use protocol::wire::{FreezeReply, FreezeRequest, Frozen, Problem, ThawReply, ThawRequest};
use protocol::{BackupId, BootMs, Code, InstanceName, Known};
use std::collections::BTreeMap;
use std::time::Duration;

/// A request beyond its own time: connecting, admission, a loaded host.
const EXTRA: Duration = Duration::from_secs(30);
/// A service manager restarts the agent at once; it then thaws first. Until then we ask again.
const AGENT_BACK_MS: u64 = 5_000;
const ASK_MS: u64 = 5_000;

pub struct Caller<'a> {
    pub config: &'a Config,
    client: Client,
    by: Option<String>,
}

impl<'a> Caller<'a> {
    pub fn new(config: &'a Config) -> Self {
        Self { config, client: Client::new(&config.dirs.socket()), by: None }
    }

    /// Thaws only what this name asked for.
    #[must_use]
    pub fn by(self, by: &str) -> Self {
        Self { by: Some(by.to_owned()), ..self }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Frozen, or a problem after which nothing is frozen by us unless it is `Thaw.LeftFrozen`.
    pub async fn freeze(&self, request: &FreezeRequest) -> Result<FreezeReply, Problem> {
        let m = &self.config.window.margins;
        let within = EXTRA + Duration::from_millis(m.freeze_ms + m.thaw_budget_ms);
        reach("caller.freeze.before");
        let answer = self.client.post::<_, FreezeReply>("/v1/freezes", request, within).await;
        reach("caller.freeze.after");
        match answer {
            Err(p) if p.code == Code::Internal => Err(self.take_back(request.id, p).await),
            other => other,
        }
    }

    /// The freeze was sent and its reply is lost: it is thawed, or kept out by a tombstone.
    async fn take_back(&self, id: BackupId, lost: Problem) -> Problem {
        match self.thaw(id).await {
            Ok(_) => Problem::new(Code::FreezeFailed, format!("{}; {}", Code::FreezeFailed.says(), lost.detail)),
            Err(p) if p.code == Code::ThawUnknownId => Problem::new(Code::Internal, format!("no freeze was made: {}", lost.detail)),
            Err(p) => p,
        }
    }

    /// The window, or `Thaw.LeftFrozen`, or `Thaw.UnknownId`.
    pub async fn thaw(&self, id: BackupId) -> Result<Window, Problem> {
        let within = EXTRA + Duration::from_millis(self.config.window.margins.thaw_budget_ms);
        let until = boot_now().plus(AGENT_BACK_MS);
        let asked = ThawRequest { by: self.by.clone() };
        reach("caller.thaw.before");
        loop {
            match self.client.post::<_, ThawReply>(&format!("/v1/freezes/{id}/thaw"), &asked, within).await {
                Ok(r) => {
                    reach("caller.thaw.after");
                    return Ok(r.window);
                }
                Err(p) if matches!(p.code, Code::AgentUnreachable | Code::Internal) => {
                    if boot_now() >= until {
                        return self.thaw_without_agent(id, p);
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(p) => return Err(p),
            }
        }
    }

    /// Only for a freeze that the journal names as open: another one is not ours to thaw.
    fn thaw_without_agent(&self, id: BackupId, why: Problem) -> Result<Window, Problem> {
        let entry = std::fs::read(self.config.dirs.journal().join(format!("{id}.entry"))).ok().and_then(|b| journal::parse(&b));
        let Some(entry) = entry else { return Err(why) };
        if let Some(window) = entry.outcome.and_then(|o| o.window) {
            return Ok(window);
        }
        if self.by.as_ref().is_some_and(|by| *by != entry.intent.by) {
            return Err(Problem::new(Code::ThawNotYours, Code::ThawNotYours.says()).next("see `snapfreeze status`"));
        }
        let all = instances::open(self.config)?;
        let set = instances::choose(&all, &entry.intent.instances).unwrap_or(all);
        if ladder(&set, self.config.window.margins.rung_ms, boot_now().plus(self.config.window.margins.thaw_budget_ms), &|_, _| {}) {
            Ok(lost_window(id))
        } else {
            Err(Problem::new(Code::LeftFrozen, format!("the agent is gone ({}) and no rung of the ladder helped", why.detail))
                .next("run `sudo snapfreeze thaw` now; without it `irisstat -W`"))
        }
    }
}

fn lost_window(id: BackupId) -> Window {
    Window {
        backup_id: id,
        state: WindowState::Broken(BrokenReason::AgentLost),
        frozen_at: None,
        thawed_at: Some(wall_now()),
        window_ms: 0,
        parts: vec![],
        marks: vec![],
        evidence: vec![],
    }
}

/// Every rung on every instance, again each second until `by`. True: all confirmed "not frozen".
pub fn ladder(set: &Set, rung_ms: u64, by: BootMs, say: &(dyn Fn(&InstanceName, &Rung) + Sync)) -> bool {
    loop {
        let answers = instances::ask(set, ASK_MS);
        if instances::worst(&answers) == Known::No {
            return true;
        }
        let frozen: Set = set.iter().filter(|i| answers.iter().any(|(n, f)| *n == i.name && *f != Frozen::No)).cloned().collect();
        let (outcome, _) = instances::thaw(&frozen, &BTreeMap::new(), &mut BTreeMap::new(), rung_ms, say);
        if matches!(outcome, lifecycle::ThawOutcome::NotFrozen(_)) {
            return true;
        }
        if boot_now() >= by {
            return false;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
