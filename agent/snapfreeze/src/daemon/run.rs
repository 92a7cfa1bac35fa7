//! The run loop: takes messages, steps the machine, hands its effects to the workers. No I/O of its own.

use super::Shared;
use super::lane::{self, Job};
use super::session::Session;
use super::workers::{Work, worker};
use crate::alarm_clock::AlarmClock;
use crate::instances::{self, Set};
use crate::journal::{Entry, Intent, Journal, Outcome};
use crate::points::reach;
use crate::watchdog::Orders;
use doors::clock::{boot_now, wall_now};
use doors::exec::{Left, start_time_of};
use engine::{FreezeAnswer, FreezeOrder, ThawAnswer};
use lifecycle::{Effect, Event, FreezeOutcome, Machine, News, Order, State, ThawOutcome};
use protocol::outcome::{Window, WindowState};
use protocol::wire::{FreezeReply, Phase, Problem, StatusReply};
use protocol::{BackupId, BootId, BootMs, Code, InstanceName, Proof, SCHEMA, WallMs};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

pub enum Msg {
    Event(Event),
    Freeze {
        order: Order,
        set: Set,
        by: String,
        warnings: Vec<String>,
        reply: oneshot::Sender<Answer>,
    },
    Thaw {
        id: BackupId,
        /// `None`: whoever opened it.
        by: Option<String>,
        reply: oneshot::Sender<Answer>,
    },
    /// A person asks for a thaw of whatever is open.
    ThawAll(oneshot::Sender<Answer>),
    /// Would an order with this id be a new freeze?
    IsNew(BackupId, oneshot::Sender<bool>),
    Status(oneshot::Sender<StatusReply>),
    PhaseOf(BackupId, oneshot::Sender<Option<(Phase, Option<Window>)>>),
    Figures(oneshot::Sender<Figures>),
    FreezeDone(BackupId, FreezeOutcome, Vec<(InstanceName, FreezeAnswer)>),
    ThawDone {
        id: BackupId,
        outcome: ThawOutcome,
        answers: Vec<(InstanceName, ThawAnswer)>,
        proofs: BTreeMap<InstanceName, Proof>,
        took_us: u64,
    },
    DogUp(BackupId, Arc<Left>),
    DogEnding(BackupId),
    DogEnded(BackupId, u32),
    ArmFailed(BackupId, String),
    Forgotten(Vec<BackupId>),
}

/// What a waiting caller gets.
#[derive(Clone, Debug)]
pub enum Answer {
    Frozen(FreezeReply),
    Thawed(Window, Option<Code>, Vec<String>),
    Problem(Problem),
}

/// Counters for `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub unbroken: u64,
    pub broken: u64,
    pub refused: u64,
    pub left_frozen: bool,
    pub frozen: bool,
    pub last_window_ms: u64,
    pub last_freeze_ms: u64,
}

/// The newest are kept for `status`; all are in the service manager's log.
const MAX_ALARMS: usize = 20;

pub struct Run {
    machine: Machine,
    shared: Arc<Shared>,
    boot: BootId,
    tx: UnboundedSender<Msg>,
    lane: Sender<Job>,
    freezer: Sender<Work>,
    thawer: Sender<Work>,
    session: Option<Session>,
    waiters: Vec<(BackupId, Waits, oneshot::Sender<Answer>)>,
    dog: Option<(BackupId, u32)>,
    recording: Option<Window>,
    last: Option<Window>,
    last_by: String,
    results: BTreeMap<BackupId, Window>,
    left_frozen: bool,
    alarms: Vec<String>,
    figures: Figures,
    exit: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    ForFreeze,
    ForThaw,
}

impl Run {
    pub fn new(machine: Machine, shared: Arc<Shared>, journal: Journal, boot: BootId, tx: UnboundedSender<Msg>) -> Self {
        let lane = lane::start(journal, shared.config.dirs.run.clone(), tx.clone()).expect("a thread for the lane");
        Self {
            machine,
            shared,
            boot,
            lane,
            freezer: worker("freezer", tx.clone()),
            thawer: worker("thawer", tx.clone()),
            tx,
            session: None,
            waiters: Vec::new(),
            dog: None,
            recording: None,
            last: None,
            last_by: String::new(),
            results: BTreeMap::new(),
            left_frozen: false,
            alarms: Vec::new(),
            figures: Figures::default(),
            exit: false,
        }
    }

    /// Takes up what an earlier agent left open.
    pub fn resume(&mut self, entry: Option<Entry>, damaged: &[PathBuf], fallback: BackupId) {
        for d in damaged {
            self.alarm(format!("a journal entry was not readable and is kept as {}; every frozen instance is thawed", d.display()));
        }
        let all = self.shared.set.clone().unwrap_or_default();
        let session = match entry {
            Some(e) => {
                // An instance that is configured no more may still be frozen: then everything there is is looked at.
                let set = instances::choose(&all, &e.intent.instances).unwrap_or_else(|p| {
                    self.alarm(format!("an open freeze names an instance that is not configured: {}", p.detail));
                    all.clone()
                });
                self.alarm(format!("the agent was lost inside the window of {}; it is thawed now", e.intent.id));
                Session::resumed(&e.intent, set, &self.boot)
            }
            None if !damaged.is_empty() => Session::new(fallback, all, "journal recovery".into(), vec![]),
            None => return,
        };
        match session {
            Ok(s) => self.session = Some(s),
            Err(e) => self.alarm(format!("no session: {e}")),
        }
    }

    /// Ends the watchdogs and closes the entries of windows that are over.
    pub fn close(&mut self, ids: Vec<BackupId>) {
        for id in ids {
            self.in_lane(Job::Disarm(id));
        }
    }

    pub fn forget_old(&self, now: WallMs) {
        let _ = self.lane.send(Job::ForgetOld(now));
    }

    pub async fn forever(mut self, mut rx: UnboundedReceiver<Msg>, clock: AlarmClock) {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut term, mut int) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(t), Ok(i)) => (t, i),
            (Err(e), _) | (_, Err(e)) => return crate::log_alarm(&format!("no signal handlers: {e}")),
        };
        while !self.exit {
            if let Err(e) = clock.set(self.machine.next_wake()) {
                crate::log_alarm(&format!("the timer could not be set: {e}"));
            }
            tokio::select! {
                Some(m) = rx.recv() => self.take(m),
                () = clock.rings() => self.step(Event::Tick),
                _ = term.recv() => self.step(Event::Stop),
                _ = int.recv() => self.step(Event::Stop),
            }
        }
        let (done, drained) = oneshot::channel();
        let _ = self.lane.send(Job::Drained(done));
        let _ = drained.await;
        // Replies told in the last step are still on their way out.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    fn take(&mut self, m: Msg) {
        match m {
            Msg::Event(e) => self.step(e),
            Msg::Freeze { order, set, by, warnings, reply } => self.freeze_asked(order, set, by, warnings, reply),
            Msg::ThawAll(reply) => match self.machine.state.order().map(|o| o.id) {
                Some(id) => {
                    self.waiters.push((id, Waits::ForThaw, reply));
                    self.step(Event::ThawAllAsked);
                }
                None => drop(reply.send(Answer::Problem(Problem::new(Code::ThawUnknownId, "nothing of ours is frozen")))),
            },
            Msg::Thaw { id, by: Some(by), reply } if self.opened_by_another(id, &by) => {
                let p = Problem::new(Code::ThawNotYours, Code::ThawNotYours.says()).next("see `snapfreeze status`");
                drop(reply.send(Answer::Problem(p)));
            }
            Msg::Thaw { id, by: _, reply } => {
                self.waiters.push((id, Waits::ForThaw, reply));
                self.step(Event::ThawAsked(id));
            }
            Msg::IsNew(id, reply) => drop(reply.send(self.is_new(id))),
            Msg::Status(reply) => drop(reply.send(self.status())),
            Msg::PhaseOf(id, reply) => drop(reply.send(self.phase_of(id))),
            Msg::Figures(reply) => {
                let frozen =
                    !matches!(self.machine.state, State::Idle | State::Arming { .. } | State::Guarding { .. } | State::Recording { .. });
                drop(reply.send(Figures { left_frozen: self.left_frozen, frozen, ..self.figures.clone() }));
            }
            Msg::FreezeDone(id, outcome, answers) => {
                if let Some(s) = self.session.as_mut().filter(|s| s.id == id) {
                    s.freeze_ended(answers);
                }
                reach("agent.freeze.after");
                self.step(Event::FreezeAnswered(id, outcome));
            }
            Msg::ThawDone { id, outcome, answers, proofs, took_us } => {
                if let Some(s) = self.session.as_mut().filter(|s| s.id == id) {
                    s.proofs = proofs;
                    s.thaw_ended(took_us, &answers, matches!(outcome, ThawOutcome::NotFrozen(_)));
                }
                reach("agent.thaw.after");
                self.step(Event::ThawAnswered(id, outcome));
            }
            Msg::DogUp(id, left) => {
                self.dog = Some((id, left.id()));
                self.watch_dog(id, &left);
                self.step(Event::Armed(id));
            }
            Msg::DogEnding(id) => self.dog = self.dog.filter(|d| d.0 != id),
            Msg::DogEnded(id, pid) => {
                if self.dog == Some((id, pid)) {
                    self.dog = None;
                    self.step(Event::WatchdogLost(id));
                }
            }
            Msg::ArmFailed(id, why) => {
                if let Some(s) = self.session.as_mut().filter(|s| s.id == id) {
                    s.why.push(why);
                }
                self.step(Event::ArmFailed(id));
            }
            Msg::Forgotten(ids) => {
                for id in ids {
                    self.machine.past.remove(&id);
                    self.results.remove(&id);
                }
            }
        }
    }

    /// The same id from two callers (an event delivered twice): the window belongs to the first one alone.
    fn opened_by_another(&self, id: BackupId, by: &str) -> bool {
        let open = self.machine.state.order().is_some_and(|o| o.id == id);
        open && self.session.as_ref().is_some_and(|s| s.id == id && s.by != by)
    }

    fn freeze_asked(&mut self, order: Order, set: Set, by: String, warnings: Vec<String>, reply: oneshot::Sender<Answer>) {
        self.waiters.push((order.id, Waits::ForFreeze, reply));
        if self.is_new(order.id) {
            if set.is_empty() {
                // It was not new when it came; meanwhile the other one has ended.
                return self.tell(order.id, Answer::Problem(refusal(Code::RefusedBusy, &[])));
            }
            match Session::new(order.id, set, by, warnings) {
                Ok(s) => self.session = Some(s),
                Err(e) => return self.tell(order.id, Answer::Problem(Problem::new(Code::RefusedNotArmed, e.to_string()))),
            }
        }
        self.step(Event::FreezeAsked(order));
    }

    fn is_new(&self, id: BackupId) -> bool {
        matches!(self.machine.state, State::Idle) && !self.machine.past.contains_key(&id) && !self.machine.stopping
    }

    fn step(&mut self, e: Event) {
        let effects = self.machine.step(e, boot_now());
        self.carry_out(effects);
    }

    pub fn carry_out(&mut self, effects: Vec<Effect>) {
        for e in effects {
            match e {
                Effect::Arm { order, thaw_by, freeze_by } => self.arm(order, thaw_by, freeze_by),
                Effect::Rearm { id } => self.rearm(id),
                Effect::Freeze { id, by } => self.freeze(id, by),
                Effect::KillFreeze { id } => {
                    if let Some(s) = self.session_of(id) {
                        s.cancel.throw();
                    }
                }
                Effect::Thaw { id } => self.thaw(id),
                Effect::Ask { id } => {
                    let ms = self.shared.config.window.margins.rung_ms;
                    let set = self.session_of(id).map(|s| s.set.clone()).unwrap_or_default();
                    let _ = self.thawer.send(Work::Ask { id, set, ms });
                }
                Effect::Record { id, window, fault, guard } => self.record(id, window, fault, guard),
                Effect::Tombstone { id } => self.tombstone(id),
                Effect::Disarm { id } => self.in_lane(Job::Disarm(id)),
                Effect::Tell { id, news } => self.news(id, news),
                Effect::Exit => self.exit = true,
            }
        }
    }

    fn session_of(&mut self, id: BackupId) -> Option<&mut Session> {
        self.session.as_mut().filter(|s| s.id == id)
    }

    fn intent(&self, order: &Order, thaw_by: BootMs, freeze_by: BootMs) -> Intent {
        let (instances, by) = self.session.as_ref().filter(|s| s.id == order.id).map(|s| (s.names(), s.by.clone())).unwrap_or_default();
        Intent {
            schema: SCHEMA,
            id: order.id,
            rules: order.rules,
            instances,
            by,
            thaw_by,
            freeze_by,
            boot_id: self.boot.clone(),
            at: wall_now(),
            tombstone: false,
        }
    }

    fn orders(&self, order: &Order, thaw_by: BootMs, freeze_by: BootMs) -> Orders {
        let pid = std::process::id();
        let instances = self.session.as_ref().map(|s| s.set.iter().map(|i| i.config.clone()).collect()).unwrap_or_default();
        Orders {
            id: order.id,
            boot_id: self.boot.clone(),
            agent_pid: pid,
            agent_start: start_time_of(pid).unwrap_or(0),
            thaw_by,
            margin_ms: order.rules.margins.watchdog_ms,
            rung_ms: order.rules.margins.rung_ms,
            guard_until: freeze_by.plus(order.rules.margins.guard_ms),
            instances,
            run_dir: self.shared.config.dirs.run.clone(),
        }
    }

    fn arm(&mut self, order: Order, thaw_by: BootMs, freeze_by: BootMs) {
        let both = (self.intent(&order, thaw_by, freeze_by), self.orders(&order, thaw_by, freeze_by));
        self.in_lane(Job::Arm(Box::new(both)));
    }

    fn rearm(&mut self, id: BackupId) {
        let Some(order) = self.machine.state.order().copied().filter(|o| o.id == id) else { return };
        // Its times are those of the window under way; one that is over makes the new watchdog act at once.
        let thaw_by = match &self.machine.state {
            State::Freezing { thaw_by, .. } | State::Frozen { thaw_by, .. } | State::Arming { thaw_by, .. } => *thaw_by,
            State::Idle | State::Thawing { .. } | State::Recording { .. } | State::Guarding { .. } => boot_now(),
        };
        let freeze_by = boot_now().plus(order.rules.margins.freeze_ms);
        let orders = self.orders(&order, thaw_by, freeze_by);
        self.in_lane(Job::Rearm(Box::new(orders)));
    }

    fn freeze(&mut self, id: BackupId, by: BootMs) {
        let Some(rules) = self.machine.state.order().map(|o| o.rules) else { return };
        reach("agent.freeze.before");
        let Some(s) = self.session_of(id) else { return };
        s.freeze_begins();
        let work = Work::Freeze { id, set: s.set.clone(), order: FreezeOrder { id, rules, by }, cancel: s.cancel.clone() };
        let _ = self.freezer.send(work);
    }

    fn thaw(&mut self, id: BackupId) {
        let rung_ms = self.machine.state.order().map_or(5_000, |o| o.rules.margins.rung_ms);
        reach("agent.thaw.before");
        let work = match self.session_of(id) {
            Some(s) => Work::Thaw { id, set: s.set.clone(), held: s.held.clone(), proofs: s.proofs.clone(), rung_ms },
            None => {
                Work::Thaw { id, set: self.shared.set.clone().unwrap_or_default(), held: BTreeMap::new(), proofs: BTreeMap::new(), rung_ms }
            }
        };
        let _ = self.thawer.send(work);
    }

    fn record(&mut self, id: BackupId, state: WindowState, fault: Option<Code>, guard: Option<BootMs>) {
        let window = match self.session_of(id) {
            Some(s) => s.window(state),
            None => Window {
                backup_id: id,
                state,
                frozen_at: None,
                thawed_at: Some(wall_now()),
                window_ms: 0,
                parts: vec![],
                marks: vec![],
                evidence: vec![],
            },
        };
        self.recording = Some(window.clone());
        self.in_lane(Job::Record(id, Box::new(Outcome { window: Some(window), fault, guard })));
    }

    fn tombstone(&mut self, id: BackupId) {
        let Ok(rules) = self.shared.config.window.rules(None) else { return };
        let mut intent = self.intent(&Order { id, rules }, BootMs(0), BootMs(0));
        intent.tombstone = true;
        self.in_lane(Job::Tombstone(Box::new(intent)));
    }

    fn in_lane(&self, job: Job) {
        let _ = self.lane.send(job);
    }

    /// The monitor of a watchdog: told when its process ends, reaps it.
    fn watch_dog(&self, id: BackupId, left: &Arc<Left>) {
        let (tx, left) = (self.tx.clone(), left.clone());
        let Ok(fd) = left.pidfd().try_clone() else { return };
        tokio::spawn(async move {
            if let Ok(fd) = crate::alarm_clock::watch(fd) {
                let _ = fd.readable().await;
                left.reap();
                let _ = tx.send(Msg::DogEnded(id, left.id()));
            }
        });
    }

    fn news(&mut self, id: BackupId, news: News) {
        let why = self.session.as_ref().filter(|s| s.id == id).map(|s| s.why.clone()).unwrap_or_default();
        match news {
            News::Frozen => {
                let thaw_by = match &self.machine.state {
                    State::Frozen { thaw_by, .. } => *thaw_by,
                    _ => boot_now(),
                };
                let Some(s) = self.session_of(id) else { return };
                let reply = s.reply(thaw_by, boot_now());
                self.figures.last_freeze_ms = reply.freeze_ms;
                reach("agent.reply.before");
                self.tell_waiters(id, Some(Waits::ForFreeze), &Answer::Frozen(reply));
                reach("agent.reply.after");
            }
            News::Refused(code) => {
                self.figures.refused += 1;
                self.tell(id, Answer::Problem(refusal(code, &why)));
            }
            News::Thawed { window: state, fault } => {
                self.left_frozen = false;
                let recorded = self.recording.take_if(|w| w.backup_id == id);
                let first = recorded.is_some();
                let mut window = recorded.or_else(|| self.results.get(&id).cloned()).unwrap_or_else(|| bare(id, state.clone()));
                window.state = state;
                if first {
                    if window.state.is_unbroken() {
                        self.figures.unbroken += 1
                    } else {
                        self.figures.broken += 1
                    }
                    self.figures.last_window_ms = window.window_ms;
                    if let WindowState::Broken(reason) = &window.state {
                        crate::log_line(&format!("window of {id} broken: {reason}"));
                    }
                    self.forget_old(wall_now()); // behind the disarm in the lane
                    self.last = Some(window.clone());
                    self.last_by = self.session.as_ref().filter(|s| s.id == id).map(|s| s.by.clone()).unwrap_or_default();
                    self.results.insert(id, window.clone());
                }
                reach("agent.tell.before");
                self.tell(id, Answer::Thawed(window, fault, why));
                reach("agent.tell.after");
            }
            News::LeftFrozen => {
                self.left_frozen = true;
                self.alarm(format!("LEFT FROZEN: {id} is not confirmed as thawed; going on. Run `snapfreeze thaw`. {}", why.join("; ")));
                let p = Problem::new(Code::LeftFrozen, why.join("; "))
                    .next("run `sudo snapfreeze thaw` on this host now; without it `irisstat -W`");
                self.tell(id, Answer::Problem(p));
            }
        }
    }

    fn tell(&mut self, id: BackupId, answer: Answer) {
        self.tell_waiters(id, None, &answer);
    }

    fn tell_waiters(&mut self, id: BackupId, kind: Option<Waits>, answer: &Answer) {
        let (now, later) =
            std::mem::take(&mut self.waiters).into_iter().partition(|(of, waits, _)| *of == id && kind.is_none_or(|k| k == *waits));
        self.waiters = later;
        let now: Vec<(BackupId, Waits, oneshot::Sender<Answer>)> = now;
        for (_, _, reply) in now {
            let _ = reply.send(answer.clone()); // a caller that is gone gets nothing; the machine goes on
        }
    }

    fn alarm(&mut self, text: String) {
        crate::log_alarm(&text);
        if self.alarms.len() == MAX_ALARMS {
            self.alarms.remove(0);
        }
        self.alarms.push(text);
    }

    fn status(&self) -> StatusReply {
        let (phase, thaw_by) = match &self.machine.state {
            State::Idle => (Phase::Idle, None),
            State::Arming { thaw_by, .. } => (Phase::Arming, Some(*thaw_by)),
            State::Freezing { thaw_by, .. } => (Phase::Freezing, Some(*thaw_by)),
            State::Frozen { thaw_by, .. } => (Phase::Frozen, Some(*thaw_by)),
            State::Thawing { .. } | State::Recording { .. } => (Phase::Thawing, None),
            State::Guarding { .. } => (Phase::Guarding, None),
        };
        let open = self.machine.state.order().map(|o| o.id);
        let s = self.session.as_ref().filter(|s| Some(s.id) == open);
        StatusReply {
            schema: SCHEMA,
            agent_version: env!("CARGO_PKG_VERSION").into(),
            phase,
            id: open,
            by: s.map(|s| s.by.clone()).unwrap_or_default(),
            instances: s.map(Session::names).unwrap_or_default(),
            since: s.and_then(Session::since),
            thaw_in_ms: thaw_by.map(|t| t.since(boot_now())),
            watchdog_pid: self.dog.map(|d| d.1),
            left_frozen: self.left_frozen,
            alarms: self.alarms.clone(),
            last: self.last.clone(),
            last_by: self.last_by.clone(),
        }
    }

    fn phase_of(&self, id: BackupId) -> Option<(Phase, Option<Window>)> {
        if self.machine.state.order().is_some_and(|o| o.id == id) {
            return Some((self.status().phase, self.results.get(&id).cloned()));
        }
        match self.machine.past.get(&id)? {
            lifecycle::Past::Ended { window, .. } => {
                Some((Phase::Ended, Some(self.results.get(&id).cloned().unwrap_or_else(|| bare(id, window.clone())))))
            }
            lifecycle::Past::Tombstone => Some((Phase::Tombstone, None)),
        }
    }
}

fn bare(id: BackupId, state: WindowState) -> Window {
    Window { backup_id: id, state, frozen_at: None, thawed_at: None, window_ms: 0, parts: vec![], marks: vec![], evidence: vec![] }
}

fn refusal(code: Code, why: &[String]) -> Problem {
    let detail = if why.is_empty() { code.says().to_owned() } else { format!("{}: {}", code.says(), why.join("; ")) };
    let next = match code {
        Code::RefusedBusy => "wait for it, or see `snapfreeze status`",
        Code::RefusedUsedId => "use a new backup id",
        Code::RefusedGuarding => "try again in about a minute",
        _ => "",
    };
    Problem::new(code, detail).next(next)
}
