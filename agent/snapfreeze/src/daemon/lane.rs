//! The lane: one worker that makes the undo durable and takes it down again, in the machine's order.
//! A late `Arm` can therefore never end a newer watchdog.

use super::run::Msg;
use crate::journal::{Intent, Journal, Outcome};
use crate::points::reach;
use crate::watchdog::{self, Orders};
use doors::clock::boot_now;
use doors::exec::Left;
use lifecycle::{Event, Stored};
use protocol::{BackupId, WallMs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

/// A disarmed watchdog ends at once, or after the thaw round it is in.
const DISARM_MS: u64 = 25_000;
/// What matters of a LogFile is kept as evidence in the journal.
const LOG_KEEP_MS: i64 = 7 * 86_400_000;

pub enum Job {
    Arm(Box<(Intent, Orders)>),
    Rearm(Box<Orders>),
    Record(BackupId, Box<Outcome>),
    Tombstone(Box<Intent>),
    Disarm(BackupId),
    ForgetOld(WallMs),
    /// Everything before it is done.
    Drained(oneshot::Sender<()>),
}

struct Lane {
    journal: Journal,
    run_dir: PathBuf,
    dog: Option<(BackupId, Arc<Left>)>,
    tx: UnboundedSender<Msg>,
}

/// Starts the worker.
pub fn start(journal: Journal, run_dir: PathBuf, tx: UnboundedSender<Msg>) -> std::io::Result<Sender<Job>> {
    let (send, jobs): (Sender<Job>, Receiver<Job>) = channel();
    let mut lane = Lane { journal, run_dir, dog: None, tx };
    std::thread::Builder::new().name("lane".into()).spawn(move || {
        while let Ok(job) = jobs.recv() {
            lane.carry_out(job);
        }
    })?;
    Ok(send)
}

/// The engines' LogFiles of calls long past: each is a few lines, but they lie in memory.
fn forget_logs(dir: &Path, now: WallMs) {
    for f in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = f.metadata() else { continue };
        let old = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        let age_ms = old.map_or(0, |t| now.0 - t.as_millis() as i64);
        if meta.is_file() && age_ms > LOG_KEEP_MS {
            let _ = std::fs::remove_file(f.path()); // the next round tries again
        }
    }
}

impl Lane {
    fn carry_out(&mut self, job: Job) {
        match job {
            Job::Arm(both) => {
                let (intent, orders) = *both;
                let id = intent.id;
                reach("agent.entry.before");
                if let Err(e) = self.journal.begin(&intent) {
                    return self.send(Msg::ArmFailed(id, format!("the journal entry could not be written: {}", crate::chain(&e))));
                }
                reach("agent.entry.after");
                self.start_dog(orders);
            }
            Job::Rearm(orders) => self.start_dog(*orders),
            Job::Record(id, outcome) => {
                reach("agent.record.before");
                let stored = match self.journal.finish(id, &outcome) {
                    Ok(()) => Stored::Durable,
                    Err(e) => {
                        crate::log_alarm(&format!("the result of {id} could not be stored: {}", crate::chain(&e)));
                        Stored::Lost
                    }
                };
                reach("agent.record.after");
                self.send(Msg::Event(Event::Recorded(id, stored)));
            }
            Job::Tombstone(intent) => {
                if let Err(e) = self.journal.tombstone(&intent) {
                    crate::log_alarm(&format!("the tombstone of {} could not be stored: {}", intent.id, crate::chain(&e)));
                }
            }
            Job::Disarm(id) => self.disarm(id),
            Job::ForgetOld(now) => {
                forget_logs(&self.run_dir.join("log"), now);
                if let Ok(gone) = self.journal.forget_old(now) {
                    self.send(Msg::Forgotten(gone));
                }
            }
            Job::Drained(done) => {
                let _ = done.send(());
            }
        }
    }

    fn start_dog(&mut self, orders: Orders) {
        let id = orders.id;
        if let Some((_, old)) = self.dog.take() {
            old.end(boot_now().plus(DISARM_MS));
        }
        match watchdog::arm(&orders) {
            Ok(left) => {
                reach("agent.watchdog.after");
                let left = Arc::new(left);
                self.dog = Some((id, left.clone()));
                self.send(Msg::DogUp(id, left));
            }
            Err(why) => self.send(Msg::ArmFailed(id, why)),
        }
    }

    fn disarm(&mut self, id: BackupId) {
        reach("agent.disarm.before");
        self.send(Msg::DogEnding(id));
        match self.dog.take() {
            Some((of, left)) if of == id => left.end(boot_now().plus(DISARM_MS)),
            other => self.dog = other,
        }
        reach("agent.disarm.watchdog");
        // Also one that an agent before us left behind.
        watchdog::end_recorded(&self.run_dir, Some(id));
        let closed = match self.journal.get(id) {
            Some(e) if e.outcome.is_none() => self.journal.finish(id, &Outcome { window: None, fault: None, guard: None }),
            _ => Ok(()),
        };
        reach("agent.disarm.closed");
        if let Err(e) = closed.and_then(|()| if self.journal.get(id).is_some() { self.journal.done(id) } else { Ok(()) }) {
            crate::log_alarm(&format!("the entry of {id} could not be closed: {}", crate::chain(&e)));
        }
        reach("agent.disarm.after");
    }

    fn send(&self, m: Msg) {
        let _ = self.tx.send(m); // the loop ends only after the lane is drained
    }
}
