//! One freeze: one session, one script, one answer.

use super::files::{self, Position};
use super::find::Located;
use super::parse::{logfile, messages};
use super::script::Reply;
use super::token::{Started, Token};
use super::{Iris, ask, judge, mark};
use crate::{FreezeAnswer, FreezeOrder, Held};
use doors::clock::{boot_now, wall_now};
use doors::exec::{Cancel, Ended, Output};
use protocol::outcome::Part;
use protocol::{BootMs, WallMs};
use std::path::PathBuf;

/// Reading the LogFile and asking once more after the freeze.
const AFTER_MS: u64 = 5_000;
/// Nothing of an instance that is still starting has run (exit code seen in a public script).
const SIGN_ON_INHIBITED: i32 = 239;

/// What the freeze starts from.
pub(super) struct Begin {
    pub(super) at: BootMs,
    pub(super) wall: WallMs,
    log: Position,
    pub(super) freeze_log: PathBuf,
    freeze_log_from: u64,
    lock_inode: Option<u64>,
}

#[cfg(test)]
impl Begin {
    pub(super) fn new(at: BootMs, wall: WallMs, freeze_log: PathBuf) -> Self {
        let log = Position { path: "/messages.log".into(), inode: 1, offset: 0 };
        Self { at, wall, log, freeze_log, freeze_log_from: 0, lock_inode: None }
    }
}

impl Iris {
    pub(super) fn freeze_once(&self, order: &FreezeOrder, cancel: &Cancel) -> FreezeAnswer {
        let begin = match self.begin(order) {
            Ok(b) => b,
            Err(why) => return FreezeAnswer::Failed(why),
        };
        if cancel.thrown() {
            return FreezeAnswer::Failed("cancelled before it began".into());
        }
        if boot_now() >= order.by {
            return FreezeAnswer::Failed("its time was over before it began".into());
        }
        match &self.config.freeze_with {
            Some(words) => self.freeze_by_wrapper(words, order, cancel, &begin),
            None => self.freeze_by_script(order, cancel, &begin),
        }
    }

    /// Everything that is noted before the call. Without a readable log no window could be proved, so nothing is frozen.
    fn begin(&self, order: &FreezeOrder) -> Result<Begin, String> {
        let at = boot_now();
        let Located { messages, lock, .. } = self.located(order.by).map_err(|e| e.to_string())?;
        let freeze_log = self.config.log_file.clone().unwrap_or_else(|| self.log_path(order.id, "freeze"));
        let looked = files::stat(&self.runner, &[&messages, &lock, &freeze_log], order.by);
        let [log, lock, log_file] = looked.as_slice() else {
            return Err("the instance's files could not be looked at".into());
        };
        let (inode, offset) = log.ok_or_else(|| {
            format!("{} cannot be read, so nothing could be proved about this freeze; nothing was frozen", messages.display())
        })?;
        Ok(Begin {
            at,
            wall: wall_now(),
            log: Position { path: messages, inode, offset },
            freeze_log_from: log_file.map_or(0, |(_, size)| size),
            freeze_log,
            lock_inode: lock.map(|(inode, _)| inode),
        })
    }

    fn freeze_by_script(&self, order: &FreezeOrder, cancel: &Cancel, begin: &Begin) -> FreezeAnswer {
        let (nonce, script) = match self.freeze_script(order, begin) {
            Ok(s) => s,
            Err(why) => return FreezeAnswer::Failed(why),
        };
        let sent = boot_now();
        let output = match self.runner.session(&script, order.by, Some(cancel)) {
            Ok(o) => o,
            Err(crate::Error::Exec(doors::exec::Error::Io { .. })) => {
                return FreezeAnswer::Unknown("the session broke off".into());
            }
            Err(e) => return FreezeAnswer::Failed(e.to_string()),
        };
        let read = boot_now();
        let reply = match verdict(&output, &nonce, &self.runner.said(&output)) {
            Ok(reply) => reply,
            Err(answer) => return answer,
        };
        let log = self.read_freeze_log(begin, read.plus(AFTER_MS));
        let parsed = log.as_deref().map(logfile::parse).ok();
        let (mark, mut warnings) = mark::mark(&mark::Sources {
            switch: self.config.switch_journal,
            log: parsed.as_ref(),
            current: reply.some("CUR").as_deref(),
            offset: reply.number("OFF"),
            required: reply.some("REQ").as_deref(),
        });
        if let Err(why) = &log {
            warnings.push(format!("the freeze's own log {} could not be read: {why}", begin.freeze_log.display()));
        }
        if reply.get("CAP") != "11" && reply.get("CAP") != "10" {
            warnings.push("this version's ExternalFreeze has no WDSuspendLimit: it cannot free itself".into());
        }
        warnings.extend(parsed.iter().flat_map(|l| l.warnings.clone()));
        let mut evidence = parsed.map(|l| l.lines).unwrap_or_default();
        evidence.retain(|l| !l.contains("Warning, "));
        evidence.push(format!("IsWDSuspended = {}; image journal {} offset {}", reply.get("WDS"), reply.get("IMG"), reply.get("IMGOFF")));
        let token = Token {
            id: order.id,
            log: begin.log.clone(),
            freeze_pid: reply.get("PID").parse().ok(),
            lock_inode: begin.lock_inode,
            started: reply.seconds("UP").map(|up| Started::new(up, sent.0, read.0)),
            mirror: reply.get("MIR").into(),
        };
        let parts = parts(&reply, begin, boot_now());
        held(token, mark, warnings, evidence, parts)
    }

    fn read_freeze_log(&self, begin: &Begin, by: BootMs) -> Result<String, String> {
        let text = files::read(&self.runner, &begin.freeze_log, by)?;
        Ok(text.get(begin.freeze_log_from as usize..).unwrap_or_default().to_owned())
    }

    /// `freeze_with`: its exit code says whether it worked, the engine whether it froze, messages.log what it did.
    fn freeze_by_wrapper(&self, words: &[String], order: &FreezeOrder, cancel: &Cancel, begin: &Begin) -> FreezeAnswer {
        let output = match self.runner.other(words, order.by, Some(cancel)) {
            Ok(o) => o,
            Err(crate::Error::Exec(doors::exec::Error::Io { .. })) => {
                return FreezeAnswer::Unknown("freeze_with broke off".into());
            }
            Err(e) => return FreezeAnswer::Failed(e.to_string()),
        };
        let said = format!("{}: {}", words.join(" "), self.runner.said(&output));
        match output.ended {
            Ended::Exited(0) => {}
            Ended::Exited(_) => return FreezeAnswer::Failed(said),
            Ended::Signaled(_) | Ended::TimedOut | Ended::Cancelled => {
                return FreezeAnswer::Unknown(said);
            }
        }
        let done = boot_now();
        let state = match ask::state(&self.runner, order.by, Some(cancel)) {
            Ok(s) if s.suspended == "1" => s,
            Ok(s) => {
                return FreezeAnswer::Unknown(format!("{said}, but IsWDSuspended answers {:?}", s.suspended));
            }
            Err(why) => {
                return FreezeAnswer::Unknown(format!("{said}; then no answer to IsWDSuspended: {why}"));
            }
        };
        let read = boot_now();
        let logged = files::since(&self.runner, &begin.log, read.plus(AFTER_MS)).unwrap_or_default();
        let entries = messages::parse(&logged);
        let freeze = judge::single_freeze(&entries);
        let (mark, mut warnings) = mark::mark(&mark::Sources {
            switch: freeze.as_ref().is_some_and(|f| f.log.switched.is_some()),
            log: freeze.as_ref().map(|f| &f.log),
            current: state.current_journal.as_deref(),
            offset: state.current_offset,
            required: state.required_journal.as_deref(),
        });
        warnings.extend(freeze.iter().flat_map(|f| f.log.warnings.clone()));
        let evidence = freeze.as_ref().map(|f| f.shown.clone()).unwrap_or_default();
        let token = Token {
            id: order.id,
            log: begin.log.clone(),
            freeze_pid: freeze.map(|f| f.pid),
            lock_inode: begin.lock_inode,
            started: state.up_s.map(|up| Started::new(up, done.0, read.0)),
            mirror: state.mirror,
        };
        let parts = vec![
            Part { name: "freeze-with".into(), at_ms: 0, took_ms: output.took_ms },
            Part { name: "ask".into(), at_ms: done.since(begin.at), took_ms: read.since(done) },
        ];
        held(token, mark, warnings, evidence, parts)
    }
}

fn held(token: Token, mark: protocol::JournalMark, warnings: Vec<String>, evidence: Vec<String>, parts: Vec<Part>) -> FreezeAnswer {
    match serde_json::to_value(&token) {
        Ok(token) => FreezeAnswer::Frozen(Held { marks: vec![mark], token, warnings, evidence, parts, sent_after_ms: 0 }),
        Err(e) => FreezeAnswer::Unknown(format!("frozen, but its evidence cannot be kept: {e}")),
    }
}

/// The rule of all return paths. `Ok`: the engine confirmed the freeze.
fn verdict(output: &Output, nonce: &str, said: &str) -> Result<Reply, FreezeAnswer> {
    let unknown = |why: &str| Err(FreezeAnswer::Unknown(format!("{why} ({said})")));
    let failed = |why: &str| Err(FreezeAnswer::Failed(why.into()));
    let code = match output.ended {
        Ended::Exited(code) => code,
        Ended::Signaled(_) | Ended::TimedOut | Ended::Cancelled => {
            return unknown("the freeze did not end by itself");
        }
    };
    let Some(reply) = Reply::parse(&output.out(), nonce) else {
        // The session ended and not one line of the script had run.
        return if code == SIGN_ON_INHIBITED || said.contains("Sign-on inhibited") {
            failed(&format!("the instance is not up: {said}"))
        } else {
            failed(&format!("no login to the instance: {said}"))
        };
    };
    if !reply.complete {
        return unknown("the script broke off");
    }
    let (late, before, status, after) = (reply.get("LATE"), reply.get("BEFORE"), reply.get("SC"), reply.get("WDS"));
    match (late, before, status, after) {
        ("1", _, "", _) => failed("the freeze command was late; it froze nothing"),
        ("2", _, "", _) => failed("the engine's clock lies before the time of the order; it froze nothing"),
        (_, "1", "", _) => {
            Err(FreezeAnswer::NotOurs("the write daemon was suspended already, and not by us; this freeze did nothing".into()))
        }
        (_, "" | "?", "", _) => failed(&format!(
            "the instance does not say whether it is frozen (has the user the right to use Backup.General?), so it was not frozen: {said}"
        )),
        (_, _, "1", "1") if code == 5 => Ok(reply),
        (_, _, "1", "1") => unknown(&format!("the freeze worked, but the session ended with {code}")),
        (_, _, "1", _) => unknown("ExternalFreeze said yes, IsWDSuspended does not"),
        (_, _, "0" | "", "0") => {
            let text = reply.get("TEXT");
            failed(&format!("ExternalFreeze failed: {}", if text.is_empty() { said } else { text }))
        }
        _ => unknown(&format!("ExternalFreeze answered {status:?}, IsWDSuspended {after:?}: {}", reply.get("TEXT"))),
    }
}

/// The engine's own part is told by the engine's clock.
fn parts(reply: &Reply, begin: &Begin, done: BootMs) -> Vec<Part> {
    let at_ms = reply.seconds("AT").map_or(0, |at| ((at * 1000.0) as i64 - begin.wall.0).max(0) as u64);
    let took_ms = reply.seconds("TOOK").map_or(0, |s| (s * 1000.0).max(0.0) as u64);
    let all_ms = done.since(begin.at);
    let after = (at_ms + took_ms).min(all_ms);
    vec![
        Part { name: "login".into(), at_ms: 0, took_ms: at_ms },
        Part { name: "external-freeze".into(), at_ms, took_ms },
        Part { name: "freeze-answer".into(), at_ms: after, took_ms: all_ms - after },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(ended: Ended, stdout: &str) -> Output {
        Output { ended, stdout: stdout.into(), stderr: Vec::new(), truncated: false, took_ms: 1, reaped: true }
    }
    fn script(lines: &str) -> String {
        format!("%SYS>\nSNAPFREEZE-BEGIN-n\n{lines}\nSNAPFREEZE-END-n\n")
    }

    /// Every return path: (how it ended, what it printed) and what that means. Only one line of it is a freeze.
    #[test]
    fn the_table_of_return_paths() {
        let good = script("LATE=0\nBEFORE=0\nSC=1\nWDS=1");
        let cases = [
            (Ended::Exited(5), good.clone(), "frozen"),
            (Ended::Exited(0), good.clone(), "unknown"),
            (Ended::Exited(3), good.clone(), "unknown"),
            (Ended::Exited(137), good.clone(), "unknown"),
            (Ended::TimedOut, good.clone(), "unknown"),
            (Ended::Cancelled, good.clone(), "unknown"),
            (Ended::Signaled(9), String::new(), "unknown"),
            (Ended::Exited(5), good.replace("SNAPFREEZE-END", "END"), "unknown"),
            (Ended::Exited(5), good.replace("-n\n", "-m\n"), "failed"),
            (Ended::Exited(5), String::new(), "failed"),
            (Ended::Exited(239), "Sign-on inhibited: Startup or Installation in progress".into(), "failed"),
            (Ended::Exited(1), "Access Denied".into(), "failed"),
            (Ended::Exited(5), script("LATE=0\nBEFORE=0\nSC=1\nWDS=0"), "unknown"),
            (Ended::Exited(5), script("LATE=0\nBEFORE=0\nSC=1\nWDS="), "unknown"),
            (Ended::Exited(3), script("LATE=0\nBEFORE=0\nSC=0\nTEXT=no\nWDS=0"), "failed"),
            (Ended::Exited(3), script("LATE=0\nBEFORE=0\nSC=0\nTEXT=no\nWDS=1"), "unknown"),
            (Ended::Exited(3), script("LATE=0\nBEFORE=0\nSC=0\nTEXT=no\nWDS="), "unknown"),
            (Ended::Exited(3), script("LATE=0\nBEFORE=0\nSC=\nTEXT=<PARAMETER>\nWDS=0"), "failed"),
            (Ended::Exited(3), script("LATE=0\nBEFORE=0\nSC=\nWDS=1"), "unknown"),
            (Ended::Exited(3), script("LATE=1\nBEFORE=0\nSC=\nWDS=0"), "failed"),
            (Ended::Exited(3), script("LATE=2\nBEFORE=0\nSC=\nWDS=0"), "failed"),
            (Ended::Exited(3), script("LATE=0\nBEFORE=1\nSC=\nWDS=1"), "not ours"),
            (Ended::Exited(3), script("LATE=0\nBEFORE=\nSC=\nWDS="), "failed"),
            (Ended::Exited(5), script(""), "failed"),
        ];
        for (ended, printed, means) in cases {
            let answer = match verdict(&output(ended, &printed), "n", "said") {
                Ok(_) => "frozen",
                Err(FreezeAnswer::Failed(_)) => "failed",
                Err(FreezeAnswer::Unknown(_)) => "unknown",
                Err(FreezeAnswer::NotOurs(_)) => "not ours",
                Err(FreezeAnswer::Frozen(_)) => "impossible",
            };
            assert_eq!(answer, means, "{ended:?} {printed}");
        }
    }
}
