//! A host as the agent makes it: freezes once per id, thaws by itself, refuses an id that was thawed before it was frozen.

use super::disk::Store;
use super::time::Answered;
use super::{Event, Fault, Inner, Op, Reply, Sim, Waits};
use crate::order::Target;
use crate::ports::{BackupAnswer, Clock, CloudVolume, FreezeAnswer, FreezeCall, Hosts, Made, SnapshotAnswer, SnapshotCall, ThawAnswer};
use crate::saga::plus;
use protocol::outcome::{InstanceMarks, SnapshotFate, judge};
use protocol::tags::{SetTags, to_tags};
use protocol::wire::{Facts, FreezeReply, Frozen, InstanceFacts, Phase, Problem, VolumeFacts};
use protocol::{BackupId, BrokenReason, Code, HoldMs, JournalMark, SCHEMA, Verdict, WallMs, Window, WindowState};
use std::collections::BTreeMap;

/// The agent answers a thaw that does not come about after this long, and goes on.
const THAW_BUDGET_MS: u64 = 15_000;
/// What a host does between its thaw and the tags of a set that it made itself.
const TAIL_MS: u64 = 2_000;

pub struct Host {
    pub target: Target,
    pub tags: BTreeMap<String, String>,
    pub facts: Facts,
    pub volumes: Vec<CloudVolume>,
    pub freeze_ms: u64,
    pub thaw_ms: u64,
    /// What the snapshot call takes.
    pub snapshot_ms: u64,
    /// The way of an order, and of its answer.
    pub there_ms: u64,
    pub back_ms: u64,
    /// This host's clock against the true one.
    pub skew_ms: i64,
    /// The engine does not resume before this.
    pub stuck_until: Option<WallMs>,
    /// So long after the freeze another tool thaws and freezes again.
    pub disturbed_after: Option<u64>,
    /// The agent's journal is gone: it knows no id of the past, nor the freeze under way.
    pub amnesia: bool,
    /// A backup of its own whose window somebody else ended before its snapshot.
    cut: Option<(BackupId, Waits)>,
    state: State,
    past: BTreeMap<BackupId, Option<Window>>,
    over: Vec<Truth>,
}

enum State {
    Idle,
    Open {
        truth: Truth,
        fails: Option<Code>,
        freezers: Vec<Waits>,
        thawers: Vec<Waits>,
        cause: Option<Option<BrokenReason>>,
        own: Option<Own>,
    },
}

/// A backup that the host makes itself.
struct Own {
    waits: Waits,
    snapshot: Option<SnapshotAnswer>,
}

/// One window as it really was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    pub host: String,
    pub id: BackupId,
    pub by: String,
    pub from: WallMs,
    pub frozen: Option<WallMs>,
    pub thaw_by: WallMs,
    /// When a thaw began, and when writes flowed again.
    pub thaw_began: Option<WallMs>,
    pub until: Option<WallMs>,
    pub disturbed: Option<WallMs>,
}

impl Truth {
    /// A snapshot of this moment is consistent.
    pub fn holds_at(&self, at: WallMs) -> bool {
        self.frozen.is_some_and(|f| f <= at) && self.thaw_began.is_none_or(|t| at < t) && self.disturbed.is_none_or(|d| at < d)
    }
}

pub(crate) enum Due {
    Frozen,
    SelfThaw,
    StillFrozen,
    Thawed,
    /// Host-held: the snapshot's answer, and the tags.
    Snapped,
    Tagged(Box<(Waits, Verdict, Window, Vec<Made>)>),
}

impl Host {
    /// An IRIS host with a boot volume and a volume of data.
    pub fn new(id: &str) -> Self {
        let volume = |n: &str, boot| CloudVolume {
            volume: format!("vol-{id}-{n}"),
            key: format!("vol-{id}-{n}"),
            device: if boot { "/dev/xvda".into() } else { "/dev/sdf".into() },
            boot,
            kind: "gp3 100 GiB 3000 IOPS 125 MiB/s".into(),
            size_gib: 100,
            pending: 0,
            pending_max: 5,
            last_snapshot: None,
        };
        let instance = InstanceFacts {
            instance: "IRIS".parse().expect("a name"),
            engine: "iris".into(),
            engine_version: "2025.1".into(),
            guid: format!("guid-{id}"),
            mirror: String::new(),
            member_role: String::new(),
            scope: "system".into(),
            frozen: Frozen::No,
            buffers_last_ms: None,
        };
        let data = VolumeFacts {
            volume: format!("vol-{id}-data"),
            device: "/dev/nvme1n1".into(),
            mounts: vec!["/data".into()],
            roles: vec!["data".into(), "journal".into()],
        };
        Self {
            target: Target { id: id.into(), name: String::new() },
            tags: BTreeMap::new(),
            facts: Facts {
                schema: SCHEMA,
                agent_version: "0.1.0".into(),
                host: id.into(),
                now: WallMs(0),
                phase: Phase::Idle,
                left_frozen: false,
                largest_hold_ms: HoldMs::MAX,
                instances: vec![instance],
                volumes: vec![data],
                problems: vec![],
                extra_tags: BTreeMap::new(),
            },
            volumes: vec![volume("boot", true), volume("data", false)],
            freeze_ms: 1_100,
            thaw_ms: 1_000,
            snapshot_ms: 800,
            there_ms: 300,
            back_ms: 300,
            skew_ms: 0,
            stuck_until: None,
            disturbed_after: None,
            amnesia: false,
            cut: None,
            state: State::Idle,
            past: BTreeMap::new(),
            over: Vec::new(),
        }
    }

    pub(super) fn truth(&self) -> Vec<Truth> {
        let open = match &self.state {
            State::Idle => None,
            State::Open { truth, .. } => Some(truth.clone()),
        };
        self.over.iter().cloned().chain(open).collect()
    }

    pub(super) fn holds_at(&self, at: WallMs) -> bool {
        matches!(&self.state, State::Open { truth, .. } if truth.holds_at(at))
    }

    fn facts_now(&self, now: WallMs) -> Facts {
        let phase = match &self.state {
            State::Idle => self.facts.phase,
            State::Open { truth, .. } if truth.thaw_began.is_some() => Phase::Thawing,
            State::Open { truth, .. } if truth.frozen.is_some() => Phase::Frozen,
            State::Open { .. } => Phase::Freezing,
        };
        Facts { now: self.clock(now), phase, ..self.facts.clone() }
    }

    fn clock(&self, now: WallMs) -> WallMs {
        WallMs(now.0 + self.skew_ms)
    }

    fn refusal(&self, call: &FreezeCall, now: WallMs) -> Option<Code> {
        let clock = self.clock(now);
        if self.past.contains_key(&call.id) {
            return Some(Code::RefusedUsedId);
        }
        match &self.state {
            State::Open { truth, .. } if truth.id != call.id => return Some(Code::RefusedBusy),
            State::Open { truth, .. } if truth.thaw_began.is_some() => return Some(Code::RefusedUsedId),
            State::Open { .. } => return None,
            State::Idle => {}
        }
        if clock > call.not_after {
            return Some(Code::RefusedLate);
        }
        (clock.0 < call.issued_at.0 - 5_000).then_some(Code::RefusedClock)
    }

    fn reply(&self, truth: &Truth, now: WallMs) -> FreezeReply {
        let frozen = truth.frozen.unwrap_or(now);
        FreezeReply {
            schema: SCHEMA,
            id: truth.id,
            remaining_ms: u64::try_from(truth.thaw_by.0 - now.0).unwrap_or(0),
            frozen_at: self.clock(frozen),
            freeze_ms: u64::try_from(frozen.0 - truth.from.0).unwrap_or(0),
            instances: self.marks(),
            warnings: vec![],
            by: truth.by.clone(),
            sync_ms: Some(40),
        }
    }

    fn marks(&self) -> Vec<InstanceMarks> {
        let journal = JournalMark { switched: Some("/jrn/20261125.003".into()), ..JournalMark::default() };
        self.facts.instances.iter().map(|i| InstanceMarks { instance: i.instance.clone(), marks: vec![journal.clone()] }).collect()
    }

    fn window(&self, t: &Truth, now: WallMs, state: WindowState) -> Window {
        Window {
            backup_id: t.id,
            state,
            frozen_at: t.frozen.map(|f| self.clock(f)),
            thawed_at: Some(self.clock(now)),
            window_ms: u64::try_from(now.0 - t.from.0).unwrap_or(0),
            parts: vec![],
            marks: self.marks(),
            evidence: vec![],
        }
    }
}

impl Inner {
    pub(super) fn freeze_arrives(&mut self, host: usize, call: &FreezeCall, fails: Option<Code>, waits: Waits) {
        self.open(host, call, fails, Some(waits), None);
    }

    pub(super) fn backup_arrives(&mut self, host: usize, call: &FreezeCall, waits: Waits) {
        self.open(host, call, None, None, Some(waits));
    }

    fn open(&mut self, host: usize, call: &FreezeCall, fails: Option<Code>, waits: Option<Waits>, own: Option<Waits>) {
        let now = self.now;
        let h = &mut self.hosts[host];
        if let Some(code) = h.refusal(call, now) {
            let p = Problem::new(code, code.says());
            if let Some(w) = waits {
                self.answer(w, Reply::Freeze(FreezeAnswer::Refused(p.clone())));
            }
            if let Some(w) = own {
                self.answer(w, Reply::Backup(BackupAnswer::Refused(p)));
            }
            return;
        }
        match &mut h.state {
            State::Open { truth, freezers, .. } => {
                let truth = truth.clone();
                match (truth.frozen, waits) {
                    (Some(_), Some(w)) => {
                        let reply = h.reply(&truth, now);
                        self.answer(w, Reply::Freeze(FreezeAnswer::Frozen(reply)));
                    }
                    (None, Some(w)) => freezers.push(w),
                    // A host-held backup is not begun twice.
                    (_, None) => {
                        let p = Problem::new(Code::RefusedBusy, Code::RefusedBusy.says());
                        if let Some(w) = own {
                            self.answer(w, Reply::Backup(BackupAnswer::Refused(p)));
                        }
                    }
                }
            }
            State::Idle => {
                let truth = Truth {
                    host: h.target.id.clone(),
                    id: call.id,
                    by: call.by.clone(),
                    from: now,
                    frozen: None,
                    thaw_by: plus(now, call.hold.ms()),
                    thaw_began: None,
                    until: None,
                    disturbed: None,
                };
                let own = own.map(|waits| Own { waits, snapshot: None });
                h.state = State::Open { truth, fails, freezers: waits.into_iter().collect(), thawers: vec![], cause: None, own };
                let (ms, id) = (h.freeze_ms, call.id);
                self.after(ms, Event::Host { host, id, what: Due::Frozen });
                self.after(call.hold.ms(), Event::Host { host, id, what: Due::SelfThaw });
            }
        }
    }

    pub(super) fn thaw_arrives(&mut self, host: usize, id: BackupId, owner: &str, waits: Waits) {
        let h = &mut self.hosts[host];
        match &mut h.state {
            State::Open { truth, .. } if truth.id == id && truth.by != owner && !h.amnesia => {
                self.answer(waits, Reply::Thaw(ThawAnswer::NotOurs));
            }
            State::Open { truth, thawers, .. } if truth.id == id && !h.amnesia => {
                thawers.push(waits);
                self.begin_thaw(host, id, None);
            }
            State::Open { .. } | State::Idle => match h.past.entry(id).or_insert(None).clone() {
                Some(w) => self.answer(waits, Reply::Thaw(ThawAnswer::Thawed(w))),
                None => self.answer(waits, Reply::Thaw(ThawAnswer::NeverFrozen)),
            },
        }
    }

    /// `why`: what breaks the window, whatever else is known.
    fn begin_thaw(&mut self, host: usize, id: BackupId, why: Option<BrokenReason>) {
        let now = self.now;
        let h = &mut self.hosts[host];
        let State::Open { truth, cause, .. } = &mut h.state else { return };
        if truth.id != id || truth.thaw_began.is_some() {
            return;
        }
        truth.thaw_began = Some(now);
        truth.disturbed = truth.disturbed.filter(|at| *at < now);
        let why = why.or_else(|| truth.frozen.is_none().then_some(BrokenReason::FreezeUnconfirmed));
        *cause = Some(why.or_else(|| truth.disturbed.map(|_| BrokenReason::OtherTool("thawed and frozen again".into()))));
        let done = plus(now, h.thaw_ms).max(h.stuck_until.unwrap_or(now));
        let ms = u64::try_from(done.0 - now.0).unwrap_or(0);
        self.after(ms, Event::Host { host, id, what: Due::Thawed });
        self.after(THAW_BUDGET_MS, Event::Host { host, id, what: Due::StillFrozen });
    }

    pub(super) fn host_due(&mut self, host: usize, id: BackupId, what: Due) {
        match what {
            Due::SelfThaw => self.begin_thaw(host, id, Some(BrokenReason::HoldExpired)),
            Due::Frozen => self.frozen(host, id),
            Due::Snapped => self.own_snapped(host, id),
            Due::Tagged(done) => {
                let (waits, verdict, window, snapshots) = *done;
                let tags = own_tags(&self.hosts[host], id, &verdict, snapshots.len());
                let ids: Vec<String> = snapshots.iter().map(|m| m.snapshot.clone()).collect();
                self.store.put_tags(&ids, &tags);
                self.answer(waits, Reply::Backup(BackupAnswer::Done { verdict, window: Box::new(window), snapshots }));
            }
            Due::StillFrozen => {
                if let State::Open { truth, thawers, .. } = &mut self.hosts[host].state
                    && truth.id == id
                {
                    let p = Problem::new(Code::LeftFrozen, "the engine does not resume").next("sudo snapfreeze thaw");
                    for w in std::mem::take(thawers) {
                        self.answer(w, Reply::Thaw(ThawAnswer::StillFrozen(p.clone())));
                    }
                }
            }
            Due::Thawed => self.thawed(host, id),
        }
    }

    fn frozen(&mut self, host: usize, id: BackupId) {
        let (now, disturbed_after) = (self.now, self.hosts[host].disturbed_after);
        let State::Open { truth, fails, freezers, own, .. } = &mut self.hosts[host].state else { return };
        if truth.id != id || truth.thaw_began.is_some() {
            return;
        }
        if let Some(code) = *fails {
            for w in std::mem::take(freezers) {
                self.answer(w, Reply::Freeze(FreezeAnswer::Failed(Problem::new(code, code.says()))));
            }
            return self.begin_thaw(host, id, Some(BrokenReason::FreezeUnconfirmed));
        }
        truth.frozen = Some(now);
        truth.disturbed = disturbed_after.map(|ms| plus(now, ms));
        let (truth, waiting, has_own) = (truth.clone(), std::mem::take(freezers), own.is_some());
        for w in waiting {
            let reply = self.hosts[host].reply(&truth, now);
            self.answer(w, Reply::Freeze(FreezeAnswer::Frozen(reply)));
        }
        if has_own {
            let ms = self.hosts[host].snapshot_ms;
            self.after(ms, Event::Host { host, id, what: Due::Snapped });
        }
    }

    /// The host's own call: taken when it is answered. The verb then asks for the thaw, whatever became of the window meanwhile.
    fn own_snapped(&mut self, host: usize, id: BackupId) {
        let h = &self.hosts[host];
        let call = SnapshotCall {
            id,
            exclude_boot: false,
            exclude_volumes: vec![],
            snapshotter: crate::policy::Snapshotter::Disks,
            tags: own_tags(h, id, &Verdict::Pending, h.volumes.len()),
            answer_by: self.now,
        };
        let answer = self.take(host, &call, true);
        let h = &mut self.hosts[host];
        if let State::Open { truth, own: Some(own), .. } = &mut h.state
            && truth.id == id
        {
            own.snapshot = Some(answer);
            self.begin_thaw(host, id, None);
        } else if let Some((_, waits)) = h.cut.take_if(|c| c.0 == id)
            && let Some(Some(window)) = h.past.get(&id).cloned()
        {
            // The verb asks for the thaw and is told the window as it was.
            self.own_done(host, waits, window, Some(answer));
        }
    }

    fn thawed(&mut self, host: usize, id: BackupId) {
        let now = self.now;
        let h = &mut self.hosts[host];
        let State::Open { truth, .. } = &h.state else { return };
        if truth.id != id {
            return;
        }
        let State::Open { mut truth, freezers, thawers, cause, own, .. } = std::mem::replace(&mut h.state, State::Idle) else { return };
        truth.until = Some(now);
        let had_frozen = truth.frozen.is_some();
        let state = cause.flatten().map_or(WindowState::Unbroken, WindowState::Broken);
        let window = h.window(&truth, now, state);
        h.past.insert(id, Some(window.clone()));
        h.over.push(truth);
        for w in freezers {
            let p = Problem::new(Code::WindowBroken, "thawed while it was being frozen");
            self.answer(w, Reply::Freeze(FreezeAnswer::Failed(p)));
        }
        for w in thawers {
            self.answer(w, Reply::Thaw(ThawAnswer::Thawed(window.clone())));
        }
        match own {
            Some(Own { waits, snapshot: None }) if had_frozen => self.hosts[host].cut = Some((id, waits)),
            Some(Own { waits, snapshot }) => self.own_done(host, waits, window, snapshot),
            None => {}
        }
    }

    fn own_done(&mut self, host: usize, waits: Waits, window: Window, snapshot: Option<SnapshotAnswer>) {
        let (fate, made) = match snapshot {
            Some(SnapshotAnswer::Accepted(made)) => (SnapshotFate::AcceptedBeforeThaw, made),
            Some(SnapshotAnswer::Failed(p)) => (SnapshotFate::Failed(p.detail), vec![]),
            Some(SnapshotAnswer::Unknown(_)) | None => (SnapshotFate::ReplyLost, vec![]),
        };
        let (id, verdict) = (window.backup_id, judge(Some(&window.state), &fate));
        let what = Due::Tagged(Box::new((waits, verdict, window, made)));
        self.after(TAIL_MS, Event::Host { host, id, what });
    }
}

fn own_tags(h: &Host, id: BackupId, verdict: &Verdict, size: usize) -> BTreeMap<String, String> {
    let mut t = SetTags::new(id);
    t.host.clone_from(&h.facts.host);
    t.set_size = u32::try_from(size).unwrap_or(u32::MAX);
    t.verdict = verdict.clone();
    t.policy = "nightly".into();
    t.instances = h.marks();
    to_tags(&t)
}

impl Hosts for Sim {
    async fn facts(&self, target: &Target, _id: BackupId, _hold: HoldMs, _by: WallMs) -> Result<Facts, Problem> {
        let unknown = || Problem::new(Code::AgentUnreachable, "the agent is not online").next("look at the SSM agent");
        let (at, fault, there, back) = {
            let mut w = self.lock();
            let at = w.host(target).ok_or_else(unknown)?;
            let fault = w.next_fault(&target.id, Op::Facts);
            (at, fault, w.hosts[at].there_ms, w.hosts[at].back_ms)
        };
        let late = match fault {
            Fault::LateOrder(ms) | Fault::LateReply(ms) => ms,
            Fault::LoseOrder | Fault::LoseReply => return std::future::pending().await,
            Fault::Refuse(c) | Fault::Fail(c) => return Err(Problem::new(c, c.says())),
            Fault::None => 0,
        };
        self.sleep_until(plus(self.now(), there)).await;
        let facts = {
            let w = self.lock();
            w.hosts[at].facts_now(w.now)
        };
        self.sleep_until(plus(self.now(), back + late)).await;
        Ok(facts)
    }

    async fn freeze(&self, target: &Target, call: &FreezeCall) -> FreezeAnswer {
        let ticket = {
            let mut w = self.lock();
            let Some(host) = w.host(target) else { return FreezeAnswer::Unknown("no such host".into()) };
            let fault = w.next_fault(&target.id, Op::Freeze);
            let fails = match fault {
                Fault::Refuse(c) => return FreezeAnswer::Refused(Problem::new(c, c.says())),
                Fault::Fail(c) => Some(c),
                Fault::None | Fault::LoseOrder | Fault::LoseReply | Fault::LateOrder(_) | Fault::LateReply(_) => None,
            };
            let (there, waits) = w.send(host, fault);
            if let Some(there) = there {
                w.after(there, Event::Freeze { host, call: call.clone(), fails, waits });
            }
            waits.ticket
        };
        match (Answered { sim: self.clone(), ticket }).await {
            Reply::Freeze(a) => a,
            other => FreezeAnswer::Unknown(format!("{other:?}")),
        }
    }

    async fn thaw(&self, target: &Target, id: BackupId, owner: &str, _by: WallMs) -> ThawAnswer {
        let ticket = {
            let mut w = self.lock();
            let Some(host) = w.host(target) else { return ThawAnswer::Unknown("no such host".into()) };
            let fault = w.next_fault(&target.id, Op::Thaw);
            if let Fault::Refuse(c) | Fault::Fail(c) = fault {
                return ThawAnswer::Unknown(c.says().into());
            }
            let (there, waits) = w.send(host, fault);
            if let Some(there) = there {
                w.after(there, Event::Thaw { host, id, owner: owner.to_owned(), waits });
            }
            waits.ticket
        };
        match (Answered { sim: self.clone(), ticket }).await {
            Reply::Thaw(a) => a,
            other => ThawAnswer::Unknown(format!("{other:?}")),
        }
    }

    async fn backup(&self, target: &Target, call: &FreezeCall) -> BackupAnswer {
        let ticket = {
            let mut w = self.lock();
            let Some(host) = w.host(target) else { return BackupAnswer::Unknown("no such host".into()) };
            let fault = w.next_fault(&target.id, Op::Backup);
            match fault {
                Fault::Refuse(c) => return BackupAnswer::Refused(Problem::new(c, c.says())),
                Fault::Fail(c) => return BackupAnswer::Failed(Problem::new(c, c.says())),
                Fault::None | Fault::LoseOrder | Fault::LoseReply | Fault::LateOrder(_) | Fault::LateReply(_) => {}
            }
            let (there, waits) = w.send(host, fault);
            if let Some(there) = there {
                w.after(there, Event::Backup { host, call: call.clone(), waits });
            }
            waits.ticket
        };
        match (Answered { sim: self.clone(), ticket }).await {
            Reply::Backup(a) => a,
            other => BackupAnswer::Unknown(format!("{other:?}")),
        }
    }
}

/// For [`Store`]: what the oracle knows of the moment.
impl Inner {
    pub(super) fn store(&mut self) -> &mut Store {
        &mut self.store
    }
}
