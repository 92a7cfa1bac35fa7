//! The thaw ladder as such: rungs one after the other, each on a thread of its own, until the engine answers "not
//! frozen". A rung that does not answer in time is not waited for; its late answer still counts.

use super::ask;
use super::run::Runner;
use crate::Rung;
use doors::clock::boot_now;
use protocol::BootMs;
use protocol::wire::Frozen;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A thaw that the engine has begun is not killed with its rung's time: it has as long again, twice.
const LINGER: u64 = 2;

/// What a rung brought.
#[derive(Debug, Default)]
pub struct Answer {
    /// One line.
    pub said: String,
    /// It claims success: worth waiting for the engine's answer before the next rung.
    pub positive: bool,
    /// The engine's own answer after the rung, when the rung asked for it itself.
    pub frozen: Option<Frozen>,
    /// The engine's own answer before the rung.
    pub before: Option<Frozen>,
    /// Only of the rung that ran a script.
    pub script: Option<ScriptAnswer>,
}

/// What the thaw script knows beside the answer.
#[derive(Clone, Debug, Default)]
pub struct ScriptAnswer {
    pub pid: Option<u32>,
    pub mirror: String,
    pub started: Option<super::token::Started>,
    pub thaw_at_wall_ms: Option<i64>,
    pub thaw_ms: Option<u64>,
}

pub struct Step {
    /// As a person would type it.
    pub ran: String,
    pub last_resort: bool,
    pub run: Box<dyn FnOnce(BootMs) -> Answer + Send>,
}

/// How it went.
#[derive(Debug)]
pub struct Climb {
    pub frozen: Frozen,
    /// From the first rung that could say so.
    pub before: Option<Frozen>,
    pub rungs: Vec<Rung>,
    pub script: Option<ScriptAnswer>,
    /// The last resort was tried.
    pub last_resort: bool,
    /// Nothing was thawed: the first answer was a plain "no". There are no rungs then.
    pub nothing_to_do: bool,
}

enum News {
    Rung(usize, Answer),
    Asked(Frozen),
}

pub fn climb(runner: &Arc<Runner>, steps: Vec<Step>, rung_ms: u64, say: &dyn Fn(&Rung)) -> Climb {
    let (tx, rx) = channel();
    let mut c = Climbing {
        tx,
        rx,
        runner: Arc::clone(runner),
        rung_ms,
        open_asks: 0,
        last: Frozen::Unknown("not asked".into()),
        before: None,
        script: None,
        done: false,
        nothing: false,
    };
    let mut rungs: Vec<Rung> = Vec::new();
    let mut last_resort = false;
    for (i, step) in steps.into_iter().enumerate() {
        let Step { ran, last_resort: last, run } = step;
        last_resort |= last;
        let began = boot_now();
        c.start(i, run);
        let said = c.await_rung(i, began);
        if c.nothing {
            break;
        }
        let rung = Rung { ran, took_ms: boot_now().since(began), said, thawed: c.done };
        say(&rung);
        rungs.push(rung);
        if c.done {
            break;
        }
    }
    if !c.done {
        // The last rung may have worked although nobody could be asked so far.
        c.await_asks();
        if let (true, Some(r)) = (c.done, rungs.last_mut()) {
            r.thawed = true;
        }
    }
    Climb { frozen: c.last, before: c.before, rungs, script: c.script, last_resort, nothing_to_do: c.nothing }
}

struct Climbing {
    tx: Sender<News>,
    rx: Receiver<News>,
    runner: Arc<Runner>,
    rung_ms: u64,
    open_asks: usize,
    last: Frozen,
    before: Option<Frozen>,
    script: Option<ScriptAnswer>,
    done: bool,
    nothing: bool,
}

impl Climbing {
    fn start(&self, i: usize, run: Box<dyn FnOnce(BootMs) -> Answer + Send>) {
        let tx = self.tx.clone();
        let by = boot_now().plus(self.rung_ms * (1 + LINGER));
        // A receiver that is gone has its answer from elsewhere.
        std::thread::spawn(move || drop(tx.send(News::Rung(i, run(by)))));
    }

    fn ask(&mut self) {
        let (tx, runner) = (self.tx.clone(), Arc::clone(&self.runner));
        let by = boot_now().plus(self.rung_ms);
        self.open_asks += 1;
        std::thread::spawn(move || drop(tx.send(News::Asked(ask::is_frozen(&runner, by)))));
    }

    /// Until this rung has answered and the engine has been asked, or its time is over. What it said.
    fn await_rung(&mut self, i: usize, began: BootMs) -> String {
        let mut until = began.plus(self.rung_ms);
        let mut said = None;
        loop {
            match self.next(until) {
                None => {
                    if said.is_none() {
                        self.ask();
                    }
                    return said.unwrap_or_else(|| format!("no answer in {} ms", self.rung_ms));
                }
                Some(News::Asked(_)) => {
                    if self.done || (said.is_some() && self.open_asks == 0) {
                        return said.unwrap_or_else(|| "not waited for: not frozen any more".into());
                    }
                }
                Some(News::Rung(j, answer)) => {
                    let asked_itself = answer.frozen.is_some();
                    let positive = answer.positive;
                    self.take(answer.before, answer.frozen, answer.script);
                    if j == i {
                        said = Some(answer.said);
                    }
                    if self.done {
                        return said.unwrap_or_else(|| "not waited for: an earlier rung answered".into());
                    }
                    if j == i {
                        if !asked_itself {
                            self.ask();
                        }
                        if !positive {
                            return said.unwrap_or_default();
                        }
                        until = boot_now().plus(self.rung_ms);
                    }
                }
            }
        }
    }

    fn await_asks(&mut self) {
        let until = boot_now().plus(self.rung_ms);
        while !self.done && self.open_asks > 0 {
            match self.next(until) {
                None => return,
                Some(News::Rung(_, a)) => self.take(a.before, a.frozen, a.script),
                Some(News::Asked(_)) => {}
            }
        }
    }

    fn take(&mut self, before: Option<Frozen>, after: Option<Frozen>, script: Option<ScriptAnswer>) {
        let plain_no = before == Some(Frozen::No) && self.before.is_none();
        if self.before.is_none() {
            self.before = before;
        }
        if let Some(s) = script {
            self.script.get_or_insert(s);
        }
        if let Some(f) = after {
            self.hear(f);
        }
        self.nothing |= plain_no && self.done;
    }

    fn hear(&mut self, frozen: Frozen) {
        self.done |= frozen == Frozen::No;
        if !self.done || frozen == Frozen::No {
            self.last = frozen;
        }
    }

    /// The next news before `until`. Every answer of the engine is heard on the way.
    fn next(&mut self, until: BootMs) -> Option<News> {
        let left = Duration::from_millis(until.since(boot_now()));
        match self.rx.recv_timeout(left) {
            Ok(News::Asked(f)) => {
                self.open_asks -= 1;
                self.hear(f.clone());
                Some(News::Asked(f))
            }
            Ok(rung @ News::Rung(..)) => Some(rung),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}
