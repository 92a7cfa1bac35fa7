//! The cloud's disks: one call snapshots all volumes of a host, at one moment; the copies complete later, or fail.

use super::time::Answered;
use super::{Event, Fault, Inner, Op, Reply, Sim};
use crate::order::Target;
use crate::policy::Select;
use crate::ports::{After, Candidate, Clock, Disks, Fleet, Look, Made, Shelf, Snapshot, SnapshotAnswer, SnapshotCall, State};
use crate::saga::plus;
use protocol::tags::limits::{Cloud, check};
use protocol::wire::Problem;
use protocol::{BackupId, Code, WallMs};
use std::collections::BTreeMap;

/// One call of the cloud's API that is not inside a window.
const CALL_MS: u64 = 100;

/// A snapshot as the cloud keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snap {
    pub volume: String,
    pub host: String,
    pub started: WallMs,
    pub complete_at: WallMs,
    pub fails: bool,
    /// Listed from this moment on.
    pub visible_from: WallMs,
    pub tags: BTreeMap<String, String>,
}

/// The oracle's record of a snapshot: was its host held at that moment, undisturbed since the freeze?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub snapshot: String,
    pub volume: String,
    pub host: String,
    pub id: BackupId,
    pub at: WallMs,
    pub consistent: bool,
    /// By the host itself.
    pub by_host: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub host: String,
    pub id: BackupId,
    pub at: WallMs,
    pub throttled: bool,
    pub frozen: bool,
}

/// A token bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub size: u64,
    /// Refill, and what others take of it first, in thousandths of a call per second.
    pub refill_milli: u64,
    pub others_milli: u64,
    /// Millionths of a call.
    pub micro: u64,
    pub at: WallMs,
}

impl Bucket {
    pub const fn full(size: u64, refill_milli: u64, others_milli: u64, at: WallMs) -> Self {
        Self { size, refill_milli, others_milli, micro: size * 1_000_000, at }
    }

    fn take(&mut self, now: WallMs) -> bool {
        let ms = u64::try_from(now.0 - self.at.0).unwrap_or(0);
        self.at = now;
        let (refill, others) = (ms * self.refill_milli, ms * self.others_milli);
        self.micro = (self.micro + refill).saturating_sub(others).min(self.size * 1_000_000);
        let has = self.micro >= 1_000_000;
        self.micro -= if has { 1_000_000 } else { 0 };
        has
    }
}

#[derive(Default)]
pub(crate) struct Store {
    pub snaps: BTreeMap<String, Snap>,
    by_backup: BTreeMap<BackupId, Vec<String>>,
    pub taken: Vec<Taken>,
    pub calls: Vec<Call>,
    pub bucket: Option<Bucket>,
    pub afters: Vec<String>,
    /// Volumes whose copies end in error; how long copies take; how long a new snapshot is not listed.
    pub failing: Vec<String>,
    pub copy_ms: u64,
    pub hidden_ms: u64,
}

impl Store {
    pub fn put_tags(&mut self, ids: &[String], tags: &BTreeMap<String, String>) {
        for id in ids {
            if let Some(s) = self.snaps.get_mut(id) {
                s.tags.extend(tags.clone());
            }
        }
    }
}

impl Sim {
    /// Copies of this volume end in error.
    pub fn failing(&self, volume: &str) {
        self.lock().store().failing.push(volume.into());
    }
    pub fn copies_take(&self, ms: u64) {
        self.lock().store().copy_ms = ms;
    }
    /// New snapshots are listed so much later.
    pub fn hide_for(&self, ms: u64) {
        self.lock().store().hidden_ms = ms;
    }
    /// What was asked for after held sets.
    pub fn afters(&self) -> Vec<String> {
        self.lock().store().afters.clone()
    }
}

impl Inner {
    /// The cloud carries out the call, now.
    pub(super) fn take(&mut self, host: usize, call: &SnapshotCall, by_host: bool) -> SnapshotAnswer {
        let now = self.now;
        let h = &self.hosts[host];
        let (name, consistent) = (h.target.id.clone(), h.holds_at(now));
        let volumes: Vec<String> = h
            .volumes
            .iter()
            .filter(|v| if v.boot { !call.exclude_boot } else { !call.exclude_volumes.contains(&v.volume) })
            .map(|v| v.volume.clone())
            .collect();
        let throttled = self.store.bucket.as_mut().is_some_and(|b| !b.take(now));
        self.store.calls.push(Call { host: name.clone(), id: call.id, at: now, throttled, frozen: consistent });
        if throttled {
            return SnapshotAnswer::Failed(Problem::new(Code::CloudRefused, "RequestLimitExceeded"));
        }
        if check(&call.tags, Cloud::Ebs).is_err() {
            return SnapshotAnswer::Failed(Problem::new(Code::CloudRefused, "TagLimitExceeded"));
        }
        let mut made = Vec::new();
        for volume in volumes {
            let snapshot = format!("snap-{:06}", self.next_seq());
            let s = &mut self.store;
            let snap = Snap {
                volume: volume.clone(),
                host: name.clone(),
                started: now,
                complete_at: plus(now, s.copy_ms),
                fails: s.failing.contains(&volume),
                visible_from: plus(now, s.hidden_ms),
                tags: call.tags.clone(),
            };
            s.snaps.insert(snapshot.clone(), snap);
            s.by_backup.entry(call.id).or_default().push(snapshot.clone());
            let (host, id) = (name.clone(), call.id);
            s.taken.push(Taken { snapshot: snapshot.clone(), volume: volume.clone(), host, id, at: now, consistent, by_host });
            made.push(Made { snapshot, volume });
        }
        SnapshotAnswer::Accepted(made)
    }

    fn listed<'a>(&self, ids: impl Iterator<Item = &'a String>) -> Vec<Snapshot> {
        let now = self.now;
        let all = ids.filter_map(|id| self.store.snaps.get_key_value(id)).filter(|(_, s)| s.visible_from <= now);
        all.map(|(id, s)| {
            let done = s.complete_at <= now;
            Snapshot {
                snapshot: id.clone(),
                volume: s.volume.clone(),
                started: s.started,
                state: if !done {
                    State::Pending
                } else if s.fails {
                    State::Failed
                } else {
                    State::Completed
                },
                progress: if done { 100 } else { 0 },
                size_gib: 100,
                tags: s.tags.clone(),
            }
        })
        .collect()
    }
}

impl Sim {
    /// A call of the whole account, outside any window. The effect comes first; a lost answer is one that never comes.
    async fn call<T>(&self, op: Op, effect: impl FnOnce(&mut Inner) -> T) -> Result<T, Problem> {
        let (fault, done) = {
            let mut w = self.lock();
            match w.next_fault("", op) {
                Fault::Refuse(c) | Fault::Fail(c) => return Err(Problem::new(c, c.says())),
                Fault::LoseOrder => (Fault::LoseReply, None),
                f => (f, Some(effect(&mut w))),
            }
        };
        let late = match fault {
            Fault::LateOrder(ms) | Fault::LateReply(ms) => ms,
            Fault::LoseOrder | Fault::LoseReply => return std::future::pending().await,
            Fault::None | Fault::Refuse(_) | Fault::Fail(_) => 0,
        };
        self.sleep_until(plus(self.now(), CALL_MS + late)).await;
        match done {
            Some(v) => Ok(v),
            None => std::future::pending().await,
        }
    }
}

impl Disks for Sim {
    async fn look(&self, target: &Target, _call: &SnapshotCall) -> Result<Look, Problem> {
        let (fault, volumes) = {
            let mut w = self.lock();
            let volumes = w.host(target).map(|at| w.hosts[at].volumes.clone());
            (w.next_fault(&target.id, Op::Look), volumes)
        };
        let late = match fault {
            Fault::Refuse(c) | Fault::Fail(c) => return Err(Problem::new(c, c.says())),
            Fault::LoseOrder | Fault::LoseReply => return std::future::pending().await,
            Fault::LateOrder(ms) | Fault::LateReply(ms) => ms,
            Fault::None => 0,
        };
        self.sleep_until(plus(self.now(), CALL_MS + late)).await;
        match volumes {
            Some(volumes) => Ok(Look { problem: None, volumes }),
            None => Ok(Look { problem: Some(Problem::new(Code::CloudRefused, "InvalidInstanceID.NotFound")), volumes: vec![] }),
        }
    }

    async fn snapshot(&self, target: &Target, call: &SnapshotCall) -> SnapshotAnswer {
        let ticket = {
            let mut w = self.lock();
            let Some(host) = w.host(target) else { return SnapshotAnswer::Unknown("no such host".into()) };
            let fault = w.next_fault(&target.id, Op::Snapshot);
            if let Fault::Refuse(c) | Fault::Fail(c) = fault {
                return SnapshotAnswer::Failed(Problem::new(c, c.says()));
            }
            let (there, mut waits) = w.send(host, fault);
            // No agent on this way: the point in time is early in the call, the answer takes the rest.
            let late = there.map(|t| t.saturating_sub(w.hosts[host].there_ms));
            let (ms, back) = (w.hosts[host].snapshot_ms, w.hosts[host].back_ms);
            waits.back = waits.back.map(|b| b.saturating_sub(back) + ms - ms / 4);
            if let Some(late) = late {
                w.after(ms / 4 + late, Event::Snapshot { host, call: call.clone(), waits });
            }
            waits.ticket
        };
        match (Answered { sim: self.clone(), ticket }).await {
            Reply::Snapshot(a) => a,
            other => SnapshotAnswer::Unknown(format!("{other:?}")),
        }
    }

    async fn find(&self, id: BackupId) -> Result<Vec<Snapshot>, Problem> {
        self.call(Op::Find, |w| w.listed(w.store.by_backup.get(&id).into_iter().flatten())).await
    }

    async fn tag(&self, snapshots: &[String], tags: &BTreeMap<String, String>) -> Result<(), Problem> {
        self.call(Op::Tag, |w| w.store.put_tags(snapshots, tags)).await
    }

    async fn after(&self, snapshots: &[Made], what: &After<'_>) -> Result<(), Problem> {
        let said = format!("{what:?} of {}", snapshots.len());
        self.call(Op::After, |w| w.store.afters.push(said)).await
    }
}

impl Fleet for Sim {
    fn place(&self) -> &str {
        "the simulated world"
    }

    async fn select(&self, select: &Select) -> Result<Vec<Candidate>, Problem> {
        let w = self.lock();
        let by_tag = |h: &super::Host| !select.tags.is_empty() && select.tags.iter().all(|(k, v)| h.tags.get(k) == Some(v));
        let chosen = w.hosts.iter().filter(|h| select.ids.contains(&h.target.id) || by_tag(h));
        let one = |h: &super::Host| Candidate {
            target: h.target.clone(),
            tags: h.tags.clone(),
            volumes: h.volumes.iter().map(|v| v.volume.clone()).collect(),
        };
        Ok(chosen.map(one).collect())
    }
}

impl Shelf for Sim {
    async fn all(&self) -> Result<Vec<Snapshot>, Problem> {
        self.call(Op::Find, |w| w.listed(w.store.snaps.keys())).await
    }
    async fn delete(&self, snapshot: &str) -> Result<(), Problem> {
        self.call(Op::Delete, |w| w.store.snaps.remove(snapshot)).await.map(|_| ())
    }
}
