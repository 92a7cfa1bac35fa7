//! A small host: engine, freeze command, watchdog, journal, callers. `successors` lists whatever may happen next.

use lifecycle::{
    Budget as ThawBudget, Cause, Dog as BelievedDog, Effect, Event, Found, FreezeOutcome, Machine, News, Order, Past, State, Stored,
    ThawOutcome,
};
use protocol::outcome::WindowState;
use protocol::window::{HoldMs, Margins, OnOverrun};
use protocol::{BackupId, BootMs, Code, Disturbed, Known, Proof, WindowRules};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const UNIT: u64 = 1000;
const HOLD: u64 = 3;
const FREEZE: u64 = 2;
const DOG_MARGIN: u64 = 1;
const GUARD: u64 = 3;
/// A command that lost its client lands at most this long after its deadline (the script compares it just before it freezes).
const LATE: u64 = 1;
/// Beyond this nothing new can happen: hold, margins, guard and every budgeted fault have passed.
const HORIZON: u64 = 16;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Budget {
    pub freezes: u8,
    pub thaws: u8,
    pub agent_kills: u8,
    pub dog_kills: u8,
    pub thaw_failures: u8,
    pub other_acts: u8,
    pub stops: u8,
    pub records_lost: u8,
    pub second_id: bool,
}

impl Budget {
    pub fn must_reach(&self) -> Vec<&'static str> {
        let mut m = vec!["frozen", "guarding"];
        m.extend((self.thaws > 0).then_some("unbroken"));
        m.extend((self.agent_kills > 0).then_some("restarted while frozen"));
        m.extend((self.dog_kills > 0).then_some("watchdog rearmed"));
        m.extend((self.thaw_failures > 1).then_some("left frozen told"));
        m.extend((self.other_acts > 0).then_some("other tool's freeze"));
        m.extend((self.other_acts > 0).then_some("not ours"));
        m
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Owner {
    Nobody,
    /// `held`: continuously since our freeze landed.
    Ours(BackupId),
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct FreezeCmd {
    id: BackupId,
    by: u64,
    /// Its client (our child) is alive and may answer.
    client: bool,
    landed: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Entry {
    Open { order: Order, thaw_by: u64, freeze_by: u64 },
    Closed { order: Order, window: Option<WindowState>, guard: Option<u64> },
    Tombstone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Dog {
    id: BackupId,
    thaw_by: u64,
    until: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
enum Job {
    Arm { id: BackupId, thaw_by: u64, freeze_by: u64 },
    Rearm(BackupId),
    Kill(BackupId),
    Thaw(BackupId),
    Ask(BackupId),
    Record(BackupId),
    Disarm(BackupId),
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct World {
    now: u64,
    left: Budget,
    agent: Option<Machine>,
    jobs: BTreeSet<Job>,
    /// Arm, rearm, record and disarm are carried out by one worker, in their order.
    lane: VecDeque<Job>,
    mail: VecDeque<Event>,
    recording: Option<(WindowState, Option<u64>)>,
    engine: Owner,
    cmd: Option<FreezeCmd>,
    zombies: BTreeSet<(BackupId, u64)>,
    dog: Option<Dog>,
    entries: BTreeMap<BackupId, Entry>,
    /// Ours since it landed, no thaw of anybody in between: the oracle.
    unbroken_now: Option<BackupId>,
    released_by_us: BTreeSet<BackupId>,
    asked_in_time: BTreeSet<BackupId>,
    frozen_since: Option<u64>,
    sent: BTreeSet<BackupId>,
    told_frozen: BTreeSet<BackupId>,
    told: BTreeMap<BackupId, bool>,
    /// A thaw for them came before any freeze: they must never freeze.
    kept_out: BTreeSet<BackupId>,
    flags: BTreeSet<&'static str>,
    wrong: Option<String>,
    pub why: String,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "now {} engine={:?} cmd={:?} zombies={:?} dog={:?} jobs={:?} lane={:?} mail={:?}\n entries={:?}\n agent={:#?}",
            self.now,
            self.engine,
            self.cmd,
            self.zombies,
            self.dog,
            self.jobs,
            self.lane,
            self.mail,
            self.entries,
            self.agent.as_ref().map(|m| &m.state)
        )
    }
}

fn id(n: u128) -> BackupId {
    BackupId::from_uuid(uuid::Uuid::from_u128(n))
}

fn order(n: u128) -> Order {
    let margins = Margins {
        watchdog_ms: DOG_MARGIN * UNIT,
        thaw_budget_ms: 2 * UNIT,
        freeze_ms: FREEZE * UNIT,
        rung_ms: 500,
        guard_ms: GUARD * UNIT,
    };
    Order { id: id(n), rules: WindowRules::new(HoldMs::new(HOLD * UNIT).unwrap(), OnOverrun::FailBackup, None, None, margins).unwrap() }
}

impl World {
    pub fn new(left: Budget) -> Self {
        let (machine, effects) = Machine::start(Found::Nothing, BTreeMap::new(), BootMs(0));
        assert!(effects.is_empty());
        Self {
            now: 0,
            left,
            agent: Some(machine),
            jobs: BTreeSet::new(),
            lane: VecDeque::new(),
            mail: VecDeque::new(),
            recording: None,
            engine: Owner::Nobody,
            cmd: None,
            zombies: BTreeSet::new(),
            dog: None,
            entries: BTreeMap::new(),
            unbroken_now: None,
            released_by_us: BTreeSet::new(),
            asked_in_time: BTreeSet::new(),
            frozen_since: None,
            sent: BTreeSet::new(),
            told_frozen: BTreeSet::new(),
            told: BTreeMap::new(),
            kept_out: BTreeSet::new(),
            flags: BTreeSet::new(),
            wrong: None,
            why: "start".into(),
        }
    }

    pub fn sometimes(&self) -> Vec<&'static str> {
        self.flags.iter().copied().collect()
    }

    fn branch(&self, out: &mut Vec<World>, why: impl Into<String>, act: impl FnOnce(&mut World)) {
        let mut w = self.clone();
        w.why = format!("t={} {}", self.now, why.into());
        act(&mut w);
        out.push(w);
    }

    /// Everything that may happen next.
    pub fn successors(&self) -> Vec<World> {
        let mut out = Vec::new();
        if self.wrong.is_some() {
            return out;
        }
        self.deliver(&mut out);
        self.callers(&mut out);
        self.commands(&mut out);
        self.faults(&mut out);
        self.time(&mut out);
        for w in &mut out {
            w.settle();
        }
        out
    }

    fn deliver(&self, out: &mut Vec<World>) {
        if let (Some(event), Some(_)) = (self.mail.front(), &self.agent) {
            self.branch(out, format!("mail {event:?}"), |w| {
                let e = w.mail.pop_front().unwrap();
                w.step(e);
            });
        }
        for job in self.jobs.iter().chain(self.lane.front()) {
            let take = |w: &mut World| {
                if !w.jobs.remove(job) {
                    w.lane.pop_front();
                }
            };
            match job.clone() {
                Job::Arm { id, thaw_by, freeze_by } => {
                    self.branch(out, "armed", |w| {
                        take(w);
                        w.arm(id, thaw_by, freeze_by);
                        w.mail.push_back(Event::Armed(id));
                    });
                    self.branch(out, "arming failed after the entry was written", |w| {
                        take(w);
                        w.open(id, thaw_by, freeze_by);
                        w.mail.push_back(Event::ArmFailed(id));
                    });
                }
                Job::Rearm(id) => {
                    self.branch(out, "rearmed", |w| {
                        take(w);
                        if let Some(Entry::Open { thaw_by, freeze_by, .. }) = w.entries.get(&id) {
                            w.dog = Some(Dog { id, thaw_by: *thaw_by, until: freeze_by + GUARD });
                            w.flags.insert("watchdog rearmed");
                        }
                        w.mail.push_back(Event::Armed(id));
                    });
                    self.branch(out, "rearming failed", |w| {
                        take(w);
                        w.mail.push_back(Event::ArmFailed(id));
                    });
                }
                Job::Disarm(id) => self.branch(out, "disarmed", |w| {
                    take(w);
                    w.disarm(id);
                }),
                Job::Kill(id) => self.branch(out, "freeze killed", |w| {
                    take(w);
                    if let Some(c) = w.cmd.take()
                        && c.id == id
                    {
                        if !c.landed {
                            w.zombies.insert((id, c.by + LATE));
                        }
                        w.mail.push_back(Event::FreezeAnswered(id, FreezeOutcome::Unknown));
                    }
                }),
                Job::Thaw(id) => {
                    self.branch(out, "thaw runs", |w| {
                        take(w);
                        let proof = w.thaw_engine(id);
                        w.mail.push_back(Event::ThawAnswered(id, ThawOutcome::NotFrozen(proof)));
                    });
                    if self.left.thaw_failures > 0 {
                        self.branch(out, "thaw refused", |w| {
                            take(w);
                            w.left.thaw_failures -= 1;
                            let o = if w.engine == Owner::Nobody { ThawOutcome::Unknown } else { ThawOutcome::StillFrozen };
                            w.mail.push_back(Event::ThawAnswered(id, o));
                        });
                        self.branch(out, "thaw works but its answer is lost", |w| {
                            take(w);
                            w.left.thaw_failures -= 1;
                            w.thaw_engine(id);
                            w.mail.push_back(Event::ThawAnswered(id, ThawOutcome::Unknown));
                        });
                    }
                }
                Job::Ask(id) => self.branch(out, "guard asks", |w| {
                    take(w);
                    let frozen = if w.engine == Owner::Nobody { Known::No } else { Known::Yes };
                    w.mail.push_back(Event::GuardAnswered(id, frozen));
                }),
                Job::Record(id) => {
                    self.branch(out, "recorded", |w| {
                        take(w);
                        let (window, guard) = w.recording.take().unwrap();
                        let order = w.order_of(id);
                        w.entries.insert(id, Entry::Closed { order, window: Some(window), guard });
                        w.mail.push_back(Event::Recorded(id, Stored::Durable));
                    });
                    if self.left.records_lost > 0 {
                        self.branch(out, "record lost", |w| {
                            take(w);
                            w.left.records_lost -= 1;
                            w.recording = None;
                            w.mail.push_back(Event::Recorded(id, Stored::Lost));
                        });
                    }
                }
            }
        }
    }

    fn callers(&self, out: &mut Vec<World>) {
        if self.agent.is_none() || self.now > 4 {
            return;
        }
        let ids: &[u128] = if self.left.second_id { &[1, 2] } else { &[1] };
        for n in ids {
            if self.left.freezes > 0 {
                self.branch(out, format!("freeze {n} asked"), |w| {
                    w.left.freezes -= 1;
                    w.step(Event::FreezeAsked(order(*n)));
                });
            }
            if self.left.thaws > 0 {
                self.branch(out, format!("thaw {n} asked"), |w| {
                    w.left.thaws -= 1;
                    if w.told_frozen.contains(&id(*n)) {
                        w.asked_in_time.insert(id(*n));
                    }
                    w.step(Event::ThawAsked(id(*n)));
                });
            }
        }
    }

    fn commands(&self, out: &mut Vec<World>) {
        if let Some(c) = self.cmd {
            if c.client && !c.landed && self.engine == Owner::Other {
                self.branch(out, "frozen by another tool, nothing sent", |w| {
                    w.cmd = None;
                    w.flags.insert("not ours");
                    w.mail.push_back(Event::FreezeAnswered(c.id, FreezeOutcome::NotOurs));
                });
            }
            if !c.landed && self.now <= c.by {
                self.branch(out, "freeze lands", |w| w.land(c.id, true));
            }
            if c.client && self.agent.is_some() {
                let answer = |w: &mut World, o| {
                    w.cmd = None;
                    w.mail.push_back(Event::FreezeAnswered(c.id, o));
                };
                if c.landed {
                    self.branch(out, "freeze confirmed", |w| answer(w, FreezeOutcome::Frozen));
                    self.branch(out, "freeze lies: failed", |w| answer(w, FreezeOutcome::Failed));
                } else {
                    self.branch(out, "freeze failed", |w| answer(w, FreezeOutcome::Failed));
                    self.branch(out, "freeze lost its client", |w| {
                        answer(w, FreezeOutcome::Unknown);
                        w.zombies.insert((c.id, c.by + LATE));
                    });
                }
            }
        }
        for z in &self.zombies {
            if self.now <= z.1 {
                self.branch(out, "zombie freeze lands", |w| {
                    w.zombies.remove(z);
                    w.land(z.0, false);
                });
            }
            self.branch(out, "zombie freeze dies", |w| {
                w.zombies.remove(z);
            });
        }
    }

    fn faults(&self, out: &mut Vec<World>) {
        if self.left.agent_kills > 0 && self.agent.is_some() {
            self.branch(out, "agent killed", |w| w.kill_agent(None));
            if let Some(Job::Arm { id, thaw_by, freeze_by }) = self.lane.front().cloned() {
                self.branch(out, "agent killed, entry written", |w| w.kill_agent(Some((id, thaw_by, freeze_by, false))));
                self.branch(out, "agent killed, watchdog up", |w| w.kill_agent(Some((id, thaw_by, freeze_by, true))));
            }
        }
        if self.agent.is_none() {
            self.branch(out, "agent starts", World::start_agent);
        }
        if self.left.dog_kills > 0
            && let Some(d) = self.dog
        {
            self.branch(out, "watchdog killed", |w| {
                w.left.dog_kills -= 1;
                w.dog = None;
                if w.agent.is_some() {
                    w.mail.push_back(Event::WatchdogLost(d.id));
                }
            });
        }
        if self.left.other_acts > 0 {
            match self.engine {
                Owner::Nobody => self.branch(out, "other tool freezes", |w| {
                    w.left.other_acts -= 1;
                    w.engine = Owner::Other;
                    w.flags.insert("other tool's freeze");
                }),
                Owner::Ours(_) | Owner::Other => self.branch(out, "other tool thaws", |w| {
                    w.left.other_acts -= 1;
                    w.release();
                }),
            }
        }
        if self.left.stops > 0 && self.agent.is_some() {
            self.branch(out, "stop", |w| {
                w.left.stops -= 1;
                w.step(Event::Stop);
            });
        }
    }

    /// Thaw, question, record and mail take less than a unit; arming and the freeze command may take longer.
    fn time(&self, out: &mut Vec<World>) {
        let waits = !self.jobs.is_empty() || self.lane.front().is_some_and(|j| !matches!(j, Job::Arm { .. })) || !self.mail.is_empty();
        // A service manager restarts a dead agent at once: one unit at the most.
        let down = self.agent.is_none() && self.flags.contains("down for a unit");
        if waits || down || self.now >= HORIZON {
            return;
        }
        self.branch(out, "time", |w| {
            w.now += 1;
            match &w.agent {
                None => {
                    w.flags.insert("down for a unit");
                }
                Some(m) => {
                    if m.next_wake().is_some_and(|t| t.0 <= w.now * UNIT) {
                        w.step(Event::Tick);
                        if w.agent.as_ref().and_then(Machine::next_wake).is_some_and(|t| t.0 <= w.now * UNIT) {
                            w.wrong = Some("a tick moved nothing: the loop would spin".into());
                        }
                    }
                }
            }
            w.dog_acts();
        });
    }

    fn dog_acts(&mut self) {
        let Some(d) = self.dog else { return };
        let open = match self.entries.get(&d.id) {
            Some(Entry::Open { .. }) => true,
            Some(Entry::Closed { guard, .. }) => guard.is_some(),
            Some(Entry::Tombstone) | None => false,
        };
        if !open || (self.now > d.until && self.engine == Owner::Nobody) {
            self.dog = None;
            return;
        }
        let fires = if self.agent.is_some() { d.thaw_by + DOG_MARGIN } else { d.thaw_by };
        if self.now >= fires && self.engine != Owner::Nobody {
            self.release();
        }
    }

    fn settle(&mut self) {
        if self.zombies.iter().any(|z| z.1 < self.now) {
            let now = self.now;
            self.zombies.retain(|z| z.1 >= now);
        }
    }

    fn step(&mut self, event: Event) {
        let now = BootMs(self.now * UNIT);
        let Some(m) = self.agent.as_mut() else { return };
        let effects = m.step(event, now);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for e in effects {
            match e {
                Effect::Arm { order, thaw_by, freeze_by } => {
                    self.lane.push_back(Job::Arm { id: order.id, thaw_by: thaw_by.0 / UNIT, freeze_by: freeze_by.0 / UNIT });
                }
                Effect::Rearm { id } => {
                    self.lane.push_back(Job::Rearm(id));
                }
                Effect::Freeze { id, by } => {
                    if !matches!(self.entries.get(&id), Some(Entry::Open { .. })) {
                        self.wrong = Some("a freeze was sent without an open entry".into());
                    }
                    if self.dog.is_none_or(|d| d.id != id) && !self.mail.contains(&Event::WatchdogLost(id)) {
                        self.wrong = Some("a freeze was sent without a watchdog".into());
                    }
                    if !self.sent.insert(id) {
                        self.wrong = Some("a second freeze with the same id was sent".into());
                    }
                    if self.cmd.is_some() {
                        self.wrong = Some("two freezes at once".into());
                    }
                    if self.kept_out.contains(&id) {
                        self.wrong = Some("a freeze was sent whose thaw had come before it".into());
                    }
                    self.cmd = Some(FreezeCmd { id, by: by.0 / UNIT, client: true, landed: false });
                }
                Effect::KillFreeze { id } => {
                    self.jobs.insert(Job::Kill(id));
                }
                Effect::Thaw { id } => {
                    if self.cmd.is_some_and(|c| c.client && c.id == id) {
                        self.wrong = Some("a thaw began while our freeze command was still running".into());
                    }
                    self.jobs.insert(Job::Thaw(id));
                }
                Effect::Ask { id } => {
                    self.flags.insert("guarding");
                    self.jobs.insert(Job::Ask(id));
                }
                Effect::Record { id, window, guard, .. } => {
                    self.recording = Some((window, guard.map(|g| g.0 / UNIT)));
                    self.lane.push_back(Job::Record(id));
                }
                Effect::Tombstone { id } => {
                    self.entries.entry(id).or_insert(Entry::Tombstone);
                }
                Effect::Disarm { id } => self.lane.push_back(Job::Disarm(id)),
                Effect::Tell { id, news } => self.hear(id, news),
                Effect::Exit => {
                    self.run_lane();
                    let guarding = self.agent.as_ref().is_some_and(|m| matches!(m.state, State::Guarding { .. }));
                    if matches!(self.engine, Owner::Ours(_)) && (self.dog.is_none() || !guarding) {
                        self.wrong = Some("the agent ended and left a frozen database".into());
                    }
                    self.kill_agent(None);
                    self.left.agent_kills += 1; // this was no kill
                    return;
                }
            }
        }
    }

    /// Before it exits the agent empties its lane.
    fn run_lane(&mut self) {
        while let Some(job) = self.lane.pop_front() {
            if let Job::Disarm(id) = job {
                self.disarm(id);
            }
        }
    }

    fn hear(&mut self, id: BackupId, news: News) {
        match news {
            News::Frozen => {
                let somebody_thawed = self.flags.contains("other released");
                if self.engine != Owner::Ours(id) && !somebody_thawed {
                    self.wrong = Some("told frozen, but it is not".into());
                }
                self.told_frozen.insert(id);
                self.flags.insert("frozen");
            }
            News::Refused(code) => {
                if code == Code::ThawUnknownId {
                    self.kept_out.insert(id);
                }
                if self.engine == Owner::Ours(id) {
                    self.wrong = Some("told \"refused, nothing frozen\", but it is frozen by this id".into());
                }
            }
            News::Thawed { window, .. } => {
                if window.is_unbroken() {
                    self.flags.insert("unbroken");
                    if !self.released_by_us.contains(&id) {
                        self.wrong = Some("told unbroken, but our thaw did not release an undisturbed freeze".into());
                    }
                    if !self.asked_in_time.contains(&id) {
                        self.wrong = Some("told unbroken, but the owner did not ask for the thaw inside the window".into());
                    }
                    match self.entries.get(&id) {
                        Some(Entry::Closed { window: Some(w), .. }) if w.is_unbroken() => {}
                        _ => self.wrong = Some("told unbroken before it was stored".into()),
                    }
                }
                if let Some(before) = self.told.insert(id, window.is_unbroken())
                    && before != window.is_unbroken()
                {
                    self.wrong = Some("the same thaw got two different answers".into());
                }
            }
            News::LeftFrozen => {
                self.flags.insert("left frozen told");
            }
        }
    }

    fn arm(&mut self, id: BackupId, thaw_by: u64, freeze_by: u64) {
        self.open(id, thaw_by, freeze_by);
        self.dog = Some(Dog { id, thaw_by, until: freeze_by + GUARD });
    }

    fn open(&mut self, of: BackupId, thaw_by: u64, freeze_by: u64) {
        let o = if of == id(1) { order(1) } else { order(2) };
        self.entries.entry(of).or_insert(Entry::Open { order: o, thaw_by, freeze_by });
    }

    fn order_of(&self, of: BackupId) -> Order {
        if of == id(1) { order(1) } else { order(2) }
    }

    fn disarm(&mut self, id: BackupId) {
        if self.engine == Owner::Ours(id) {
            self.wrong = Some("disarmed while frozen".into());
        }
        if self.dog.is_some_and(|d| d.id == id) {
            self.dog = None;
        }
        let order = self.order_of(id);
        match self.entries.get_mut(&id) {
            Some(e @ Entry::Open { .. }) => *e = Entry::Closed { order, window: None, guard: None },
            Some(Entry::Closed { guard, .. }) => *guard = None,
            Some(Entry::Tombstone) | None => {}
        }
    }

    fn land(&mut self, id: BackupId, with_client: bool) {
        if self.engine == Owner::Nobody {
            self.engine = Owner::Ours(id);
            self.unbroken_now = Some(id);
            self.frozen_since = Some(self.now);
            if with_client && let Some(c) = self.cmd.as_mut() {
                c.landed = true;
            }
        } else {
            self.cmd = self.cmd.filter(|_| !with_client);
            if with_client {
                self.mail.push_back(Event::FreezeAnswered(id, FreezeOutcome::Failed));
            }
        }
    }

    /// Somebody who is not our agent thaws.
    fn release(&mut self) {
        self.flags.insert("other released");
        self.engine = Owner::Nobody;
        self.unbroken_now = None;
        self.frozen_since = None;
    }

    fn thaw_engine(&mut self, id: BackupId) -> Proof {
        let proof = match self.engine {
            Owner::Nobody => Proof { frozen_before: Known::No, released: Known::No, ..Proof::good() },
            Owner::Ours(_) if self.unbroken_now == Some(id) => {
                self.released_by_us.insert(id);
                Proof::good()
            }
            Owner::Ours(_) | Owner::Other => Proof { alone: Err(Disturbed::Other("log".into())), ..Proof::good() },
        };
        self.engine = Owner::Nobody;
        self.unbroken_now = None;
        self.frozen_since = None;
        proof
    }

    fn kill_agent(&mut self, arming: Option<(BackupId, u64, u64, bool)>) {
        self.left.agent_kills = self.left.agent_kills.saturating_sub(1);
        self.agent = None;
        self.mail.clear();
        self.jobs.clear();
        self.lane.clear();
        self.recording = None;
        self.flags.remove("down for a unit");
        if let Some((id, thaw_by, freeze_by, dog)) = arming {
            self.open(id, thaw_by, freeze_by);
            if dog {
                self.arm(id, thaw_by, freeze_by);
            }
        }
        // The freeze command outlives its agent.
        if let Some(c) = self.cmd.take()
            && !c.landed
        {
            self.zombies.insert((c.id, c.by + LATE));
        }
    }

    fn start_agent(&mut self) {
        if matches!(self.engine, Owner::Ours(_)) {
            self.flags.insert("restarted while frozen");
        }
        let mut past = BTreeMap::new();
        let mut found = Found::Nothing;
        for (id, e) in &self.entries {
            match e {
                Entry::Open { order, freeze_by, .. } => found = Found::Open { order: *order, freeze_by: Some(BootMs(freeze_by * UNIT)) },
                Entry::Closed { order, window, guard } => {
                    let p = window.clone().map_or(Past::Tombstone, |window| Past::Ended { window, fault: None });
                    past.insert(*id, p);
                    // A guard that was never ended by an answer is taken up even when its time is over.
                    if let Some(g) = guard
                        && found == Found::Nothing
                    {
                        found = Found::Guard { order: *order, until: BootMs(g * UNIT) };
                    }
                }
                Entry::Tombstone => {
                    past.insert(*id, Past::Tombstone);
                }
            }
        }
        let (m, effects) = Machine::start(found, past, BootMs(self.now * UNIT));
        self.agent = Some(m);
        self.carry_out(effects);
    }

    /// What the machine believes of its undo is so, and nothing of it is left when it rests.
    fn check_undo(&self) -> Result<(), String> {
        let Some(m) = &self.agent else { return Ok(()) };
        let quiet = self.mail.is_empty() && self.lane.is_empty() && self.jobs.is_empty();
        if let (true, State::Freezing { dog: BelievedDog::Armed, .. } | State::Frozen { dog: BelievedDog::Armed, .. }) = (quiet, &m.state)
            && self.dog.is_none()
        {
            return Err("the machine believes in a watchdog that is gone".into());
        }
        if quiet && m.state == State::Idle && self.entries.values().any(|e| matches!(e, Entry::Open { .. })) {
            return Err("at rest with an open entry".into());
        }
        Ok(())
    }

    /// The tenets.
    pub fn check(&self) -> Result<(), String> {
        if let Some(w) = &self.wrong {
            return Err(w.clone());
        }
        self.check_undo()?;
        let Owner::Ours(by) = self.engine else { return Ok(()) };
        let state = self.agent.as_ref().map(|m| &m.state);
        let agent_on_it = match state {
            None | Some(State::Idle) | Some(State::Arming { .. }) => false,
            Some(State::Freezing { order, .. } | State::Frozen { order, .. } | State::Recording { order, .. }) => order.id == by,
            Some(State::Thawing { .. } | State::Guarding { .. }) => true,
        };
        let entry_will_tell = match self.entries.get(&by) {
            Some(Entry::Open { .. }) => true,
            Some(Entry::Closed { guard, .. }) => guard.is_some(),
            Some(Entry::Tombstone) | None => false,
        };
        let next_start_on_it = self.agent.is_none() && entry_will_tell;
        if !agent_on_it && self.dog.is_none() && !next_start_on_it {
            return Err("frozen by us, and nobody is on the way to a thaw".into());
        }
        // While the agent lives it thaws at thaw_by; only a refusing engine may delay that.
        if let Some(State::Freezing { thaw_by, .. } | State::Frozen { thaw_by, .. }) = state
            && self.now * UNIT > thaw_by.0
        {
            return Err("the hold is over and the machine has not begun to thaw".into());
        }
        if self.now >= HORIZON - 1 && self.left.thaw_failures == 0 {
            let told = matches!(state, Some(State::Thawing { budget: ThawBudget::Told, .. }));
            let zombie = matches!(state, Some(State::Thawing { cause: Cause::Zombie, .. }));
            if !told && !zombie {
                return Err("still frozen at the horizon".into());
            }
        }
        Ok(())
    }
}
