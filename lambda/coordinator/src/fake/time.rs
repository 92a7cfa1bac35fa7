//! The clock of the simulated world, and what runs futures on it.

use super::{Inner, Reply, Sim};
use crate::ports::Clock;
use protocol::WallMs;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

impl Clock for Sim {
    fn now(&self) -> WallMs {
        self.lock().now
    }
    fn sleep_until(&self, at: WallMs) -> impl Future<Output = ()> + Send {
        Sleep { sim: self.clone(), at, key: None }
    }
}

struct Sleep {
    sim: Sim,
    at: WallMs,
    key: Option<(WallMs, u64)>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sim = self.sim.clone();
        let mut w = sim.lock();
        if self.at <= w.now {
            return Poll::Ready(());
        }
        let at = self.at;
        let key = *self.key.get_or_insert_with(|| (at, w.next_seq()));
        w.timers.insert(key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.sim.lock().timers.remove(&key);
        }
    }
}

/// Waits for the answer of one call.
pub(super) struct Answered {
    pub sim: Sim,
    pub ticket: u64,
}

impl Future for Answered {
    type Output = Reply;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let mut w = self.sim.lock();
        let Some(t) = w.tickets.get_mut(&self.ticket) else { return Poll::Pending };
        match t.answer.take() {
            Some(a) => Poll::Ready(a),
            None => {
                t.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.sim.lock().tickets.remove(&self.ticket);
    }
}

impl Inner {
    /// The next thing happens, not later than `until`. `false`: nothing will.
    fn turn(&mut self, until: Option<WallMs>) -> bool {
        let timer = self.timers.first_key_value().map(|(k, _)| *k);
        let event = self.events.first_key_value().map(|(k, _)| *k);
        let Some(next) = [timer, event].into_iter().flatten().min().filter(|k| until.is_none_or(|u| k.0 <= u)) else { return false };
        self.now = self.now.max(next.0);
        if timer == Some(next) {
            if let Some(waker) = self.timers.remove(&next) {
                waker.wake();
            }
        } else if let Some(e) = self.events.remove(&next) {
            self.happen(e);
        }
        true
    }
}

struct Flag(AtomicBool);
impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Queued {
    task: usize,
    queue: Arc<Mutex<VecDeque<usize>>>,
}
impl Wake for Queued {
    fn wake(self: Arc<Self>) {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_back(self.task);
    }
}

impl Sim {
    /// Runs one future to its end.
    pub fn run<T>(&self, f: impl Future<Output = T>) -> T {
        self.run_or_kill(f, usize::MAX).0.expect("nothing will ever happen, and the future is not done")
    }

    /// Drops the future after so many turns of the world (events and timers); the turns that it had.
    pub fn run_or_kill<T>(&self, f: impl Future<Output = T>, turns: usize) -> (Option<T>, usize) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(flag.clone());
        let mut cx = Context::from_waker(&waker);
        let mut f = pin!(f);
        let mut had = 0;
        loop {
            if flag.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(v) = f.as_mut().poll(&mut cx) {
                    return (Some(v), had);
                }
            } else {
                if had >= turns || !self.lock().turn(None) {
                    return (None, had);
                }
                had += 1;
            }
        }
    }

    /// Runs many at once, to their ends.
    pub fn run_all<'a>(&self, tasks: Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>) {
        let queue = Arc::new(Mutex::new((0..tasks.len()).collect::<VecDeque<usize>>()));
        let wakers: Vec<Waker> = (0..tasks.len()).map(|task| Waker::from(Arc::new(Queued { task, queue: queue.clone() }))).collect();
        let mut tasks: Vec<Option<_>> = tasks.into_iter().map(Some).collect();
        let mut open = tasks.len();
        while open > 0 {
            let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
            let Some(i) = next else {
                assert!(self.lock().turn(None), "nothing will ever happen, and {open} futures are not done");
                continue;
            };
            if let Some(task) = &mut tasks[i]
                && task.as_mut().poll(&mut Context::from_waker(&wakers[i])).is_ready()
            {
                tasks[i] = None;
                open -= 1;
            }
        }
    }

    /// Time passes without anybody: what is under way arrives.
    pub fn pass(&self, ms: u64) {
        let mut w = self.lock();
        let until = crate::saga::plus(w.now, ms);
        while w.turn(Some(until)) {}
        w.now = until;
    }
}
