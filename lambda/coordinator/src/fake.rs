//! A simulated world for the saga: a clock of discrete events, hosts that behave like the agent, disks whose snapshots record
//! what the host really was at that moment. Nothing sleeps, nothing is random.
//!
//! What the saga is told and what really happened are kept apart: `Truth` is the oracle. Faults are put before a call of a host
//! and used up by it, the first call the first fault. Orders under way live in the world, not in the caller: a caller that is
//! dropped (killed) takes back nothing.

mod disk;
mod host;
mod time;

pub use disk::{Bucket, Call, Snap, Taken};
pub use host::{Host, Truth};

use crate::order::Target;
use crate::ports::{BackupAnswer, FreezeAnswer, FreezeCall, SnapshotAnswer, SnapshotCall, ThawAnswer};
use disk::Store;
use protocol::{BackupId, Code, WallMs};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

/// The calls that faults can be put before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Facts,
    Look,
    Freeze,
    Snapshot,
    Thaw,
    Backup,
    /// Of the whole world: `find`, `tag`, `after`, `delete`; the host's name is empty.
    Find,
    Tag,
    After,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It never arrives, and no answer either.
    LoseOrder,
    /// Carried out; the answer is lost.
    LoseReply,
    /// Arrives so much later.
    LateOrder(u64),
    /// The answer comes so much later.
    LateReply(u64),
    /// Refused for certain, before anything was done.
    Refuse(Code),
    /// Tried, failed, undone.
    Fail(Code),
}

/// The world. Clones are the same world.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<Inner>>);

pub(crate) struct Inner {
    now: WallMs,
    seq: u64,
    timers: BTreeMap<(WallMs, u64), Waker>,
    events: BTreeMap<(WallMs, u64), Event>,
    tickets: BTreeMap<u64, Ticket>,
    hosts: Vec<Host>,
    by_id: BTreeMap<String, usize>,
    faults: BTreeMap<(String, Op), VecDeque<Fault>>,
    store: Store,
}

#[derive(Default)]
struct Ticket {
    answer: Option<Reply>,
    waker: Option<Waker>,
}

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Freeze(FreezeAnswer),
    Thaw(ThawAnswer),
    Backup(BackupAnswer),
    Snapshot(SnapshotAnswer),
}

/// Who waits for a host's answer: the ticket and the way back in ms, `None` when the answer gets lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    ticket: u64,
    back: Option<u64>,
}

pub(crate) enum Event {
    Freeze { host: usize, call: FreezeCall, fails: Option<Code>, waits: Waits },
    Backup { host: usize, call: FreezeCall, waits: Waits },
    Thaw { host: usize, id: BackupId, owner: String, waits: Waits },
    Snapshot { host: usize, call: SnapshotCall, waits: Waits },
    Host { host: usize, id: BackupId, what: host::Due },
    Answer { ticket: u64, reply: Reply },
}

impl Sim {
    pub fn new(start: WallMs) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: start,
            seq: 0,
            timers: BTreeMap::new(),
            events: BTreeMap::new(),
            tickets: BTreeMap::new(),
            hosts: Vec::new(),
            by_id: BTreeMap::new(),
            faults: BTreeMap::new(),
            store: Store::default(),
        })))
    }

    pub fn add(&self, host: Host) {
        let mut w = self.lock();
        let at = w.hosts.len();
        w.by_id.insert(host.target.id.clone(), at);
        w.hosts.push(host);
    }

    /// Before the next call of this kind that has no fault yet.
    pub fn fault(&self, host: &str, op: Op, fault: Fault) {
        self.lock().faults.entry((host.to_owned(), op)).or_default().push_back(fault);
    }

    /// Every window of every host, as it really was; open ones at the end.
    pub fn truth(&self) -> Vec<Truth> {
        self.lock().hosts.iter().flat_map(Host::truth).collect()
    }

    /// Every snapshot that was ever taken, also deleted ones.
    pub fn taken(&self) -> Vec<Taken> {
        self.lock().store.taken.clone()
    }

    /// Every snapshot call that arrived at the cloud: host, when, whether it was throttled, whether the host was frozen then.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().store.calls.clone()
    }

    /// Snapshot calls go through this bucket from now on.
    pub fn limit(&self, bucket: Bucket) {
        self.lock().store.bucket = Some(bucket);
    }

    /// Changes a host, or what is on it, behind everybody's back.
    pub fn with_host<T>(&self, id: &str, change: impl FnOnce(&mut Host) -> T) -> T {
        let mut w = self.lock();
        let at = w.by_id[id];
        change(&mut w.hosts[at])
    }

    /// Changes the snapshots behind everybody's back.
    pub fn with_snaps<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Snap>) -> T) -> T {
        change(&mut self.lock().store.snaps)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn after(&mut self, ms: u64, e: Event) {
        let key = (crate::saga::plus(self.now, ms), self.next_seq());
        self.events.insert(key, e);
    }

    fn host(&self, target: &Target) -> Option<usize> {
        self.by_id.get(&target.id).copied()
    }

    fn next_fault(&mut self, host: &str, op: Op) -> Fault {
        self.faults.get_mut(&(host.to_owned(), op)).and_then(VecDeque::pop_front).unwrap_or(Fault::None)
    }

    /// Opens a ticket; the way there and who waits.
    fn send(&mut self, host: usize, fault: Fault) -> (Option<u64>, Waits) {
        let ticket = self.next_seq();
        self.tickets.insert(ticket, Ticket::default());
        let h = &self.hosts[host];
        let (there, back) = (h.there_ms, h.back_ms);
        let (there, back) = match fault {
            Fault::LoseOrder => (None, None),
            Fault::LoseReply => (Some(there), None),
            Fault::LateOrder(ms) => (Some(there + ms), Some(back)),
            Fault::LateReply(ms) => (Some(there), Some(back + ms)),
            Fault::None | Fault::Refuse(_) | Fault::Fail(_) => (Some(there), Some(back)),
        };
        (there, Waits { ticket, back })
    }

    fn answer(&mut self, waits: Waits, reply: Reply) {
        if let Some(back) = waits.back {
            self.after(back, Event::Answer { ticket: waits.ticket, reply });
        }
    }

    fn happen(&mut self, e: Event) {
        match e {
            Event::Freeze { host, call, fails, waits } => self.freeze_arrives(host, &call, fails, waits),
            Event::Backup { host, call, waits } => self.backup_arrives(host, &call, waits),
            Event::Thaw { host, id, owner, waits } => self.thaw_arrives(host, id, &owner, waits),
            Event::Snapshot { host, call, waits } => {
                let answer = self.take(host, &call, false);
                self.answer(waits, Reply::Snapshot(answer));
            }
            Event::Host { host, id, what } => self.host_due(host, id, what),
            Event::Answer { ticket, reply } => {
                // Nobody may wait any more.
                if let Some(t) = self.tickets.get_mut(&ticket) {
                    t.answer = Some(reply);
                    if let Some(w) = t.waker.take() {
                        w.wake();
                    }
                }
            }
        }
    }
}
