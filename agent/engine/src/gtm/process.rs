//! `mupip freeze` must come to its own end.
//!
//! Seen on GT.M 7.0-005: when it is killed (SIGKILL or SIGTERM) or loses the reader of its output while it holds the
//! database's freeze latch, the latch stays with the dead process. From then on every `mupip freeze` hangs, `-off` too,
//! and no process can close the database; only stopping all of them helps. The latch is held for some 10 ms.
//!
//! So its output goes to a file in memory that outlives us instead of a pipe, no signal is sent before it had time to
//! end by itself, and a thaw that takes too long is left to run beside the next rung.

use super::call::{Caller, Tool, door};
use crate::Error;
use doors::clock::boot_now;
use doors::exec::{Cancel, Ended, Output, Running, ended_by};
use protocol::BootMs;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;

/// The whole freeze of two busy regions takes 20 to 50 ms: one that has not ended this long after its deadline waits for
/// something and holds no latch.
const GRACE_MS: u64 = 2_000;
/// A latch that is taken (a journal switch on a very slow disk) is waited for this much longer.
const LATCH_MS: u64 = 8_000;
/// How often a running call looks for its cancel.
const LOOK_MS: u64 = 5;
/// After its answer an asking process closes the database within some ms, or never.
const CLOSE_MS: u64 = 250;
/// How long a thaw may go on beside later ones.
const LEFT_MS: u64 = 60_000;

/// A running `mupip freeze`.
pub(super) struct Mupip {
    running: Running,
    pidfd: OwnedFd,
    started: BootMs,
}

impl Mupip {
    fn ended_by(&self, by: BootMs) -> bool {
        ended_by(&self.pidfd, by)
    }

    /// Reaps it; one that still runs is killed.
    fn finish(self) -> Result<Output, Error> {
        Ok(self.running.finish(boot_now().plus(1), None)?)
    }
}

/// Thaws that are still running. Clones of an engine share it.
#[derive(Clone, Default)]
pub(super) struct Left(std::sync::Arc<std::sync::Mutex<Vec<Mupip>>>);

impl Left {
    fn add(&self, mupip: Mupip) {
        let mut left = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Dropping one kills and reaps it: after so long it waits for a latch and holds none.
        left.retain(|m| !m.ended_by(boot_now()) && boot_now().since(m.started) < LEFT_MS);
        left.push(mupip);
    }
}

impl Caller {
    fn start_freeze(&self, args: &[&str], by: BootMs) -> Result<Mupip, Error> {
        let failed = |e: std::io::Error| Error::NoAnswer { program: "mupip".into(), why: e.to_string() };
        let (line, env) = self.line(Tool::Mupip, args, by.plus(GRACE_MS + LATCH_MS));
        let started = boot_now();
        let running = Running::start(door(&line, env)?.in_memory())?;
        let pid = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
        let pidfd = match pid.map(|p| pidfd_open(p, PidfdFlags::empty())) {
            Some(Ok(fd)) => fd,
            Some(Err(e)) => return Err(failed(e.into())),
            None => return Err(failed(std::io::ErrorKind::NotFound.into())),
        };
        Ok(Mupip { running, pidfd, started })
    }

    /// `mupip freeze -on …`. `ended` is `TimedOut` or `Cancelled` when the deadline or the cancel came before its end,
    /// whatever it still did; it has ended and is reaped in any case.
    pub fn freeze_on(&self, args: &[&str], by: BootMs, cancel: &Cancel) -> Result<Output, Error> {
        let mupip = self.start_freeze(args, by)?;
        let late = loop {
            if mupip.ended_by(by.min(boot_now().plus(LOOK_MS))) {
                return mupip.finish();
            }
            if cancel.thrown() {
                break Ended::Cancelled;
            }
            if boot_now() >= by {
                break Ended::TimedOut;
            }
        };
        let patience = boot_now().plus(GRACE_MS + LATCH_MS);
        let mut ended = mupip.ended_by(boot_now().plus(GRACE_MS));
        while !ended && boot_now() < patience && self.latch_taken() {
            ended = mupip.ended_by(boot_now().plus(LOOK_MS));
        }
        let mut out = mupip.finish()?;
        out.ended = late;
        Ok(out)
    }

    /// `mupip freeze -off …`. `None`: it is still running and was left to run.
    pub fn freeze_off(&self, args: &[&str], by: BootMs) -> Result<Option<Output>, Error> {
        let mupip = self.start_freeze(args, by.plus(LEFT_MS))?;
        if mupip.ended_by(by) {
            return mupip.finish().map(Some);
        }
        self.left.add(mupip);
        Ok(None)
    }

    fn latch_taken(&self) -> bool {
        let seen = self.ask(boot_now().plus(CLOSE_MS), None);
        seen.is_ok_and(|s| s.regions.iter().any(|r| r.latch.is_some()))
    }

    /// Runs `%XCMD code` until it has written the line that begins with `last`. Its own end is not waited for long: where
    /// a freeze latch is stuck, a process answers and then hangs while it closes the database. Killing it harms nothing.
    pub fn read_m(&self, code: &str, last: &str, by: BootMs, cancel: Option<&Cancel>) -> Result<Output, Error> {
        let (line, env) = self.line(Tool::Mumps, &["-run", "%XCMD", code], by);
        let mut running = Running::start(door(&line, env)?)?;
        let pid = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.and_then(|p| pidfd_open(p, PidfdFlags::empty()).ok());
        let mut until = by;
        while boot_now() < by && !cancel.is_some_and(Cancel::thrown) {
            match running.line(by.min(boot_now().plus(LOOK_MS)))? {
                Some(line) if line.starts_with(last) => {
                    until = by.min(boot_now().plus(CLOSE_MS));
                    break;
                }
                Some(_) => {}
                // Its output is closed, or nothing came: the end of the process is the end of the answer.
                None if pidfd.as_ref().is_none_or(|fd| ended_by(fd, boot_now())) => break,
                None => {}
            }
        }
        Ok(running.finish(until, cancel)?)
    }
}
