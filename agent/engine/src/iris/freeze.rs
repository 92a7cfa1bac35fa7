//! One freeze: one session, one script, one answer.
//!
//! **A script that lands late must not freeze.** It may: a login can hang, and killing `docker exec` leaves what it
//! started. So the line with the call compares the time first, in the same command line. Two clocks, as none alone
//! is enough: `$ZTIMESTAMP` (UTC; the engine's kernel is ours, so its clock is too) against the wall time of our
//! deadline *and* of our sending, so that a clock which was set back is noticed as well; and `$ZHOROLOG` (seconds since
//! the instance started, "independent of clock changes") against the script's own first line. What remains, a clock set
//! back by just the time that the script is late, is covered by the machine: it asks after every killed freeze.

use super::files::{self, Position};
use super::find::Located;
use super::parse::{logfile, messages};
use super::script::{Reply, Script, nonce};
use super::token::{Started, Token};
use super::{Iris, ask, judge, mark, quote};
use crate::{FreezeAnswer, FreezeOrder, Held};
use doors::clock::{boot_now, wall_now};
use doors::exec::{Cancel, Ended, Output};
use protocol::outcome::Part;
use protocol::{BootMs, WallMs};
use std::path::PathBuf;

/// `$ZTIMESTAMP` may lie this far before our sending without being a clock that was set back (rounding, slewing).
const CLOCK_SLACK_MS: i64 = 1_000;
/// Reading the LogFile and asking once more after the freeze.
const AFTER_MS: u64 = 5_000;
/// Nothing of an instance that is still starting has run (exit code seen in a public script).
const SIGN_ON_INHIBITED: i32 = 239;

/// What the freeze starts from.
struct Begin {
    at: BootMs,
    wall: WallMs,
    log: Position,
    freeze_log: PathBuf,
    freeze_log_from: u64,
    lock_inode: Option<u64>,
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
        match &self.config.freeze_with {
            Some(words) => self.freeze_by_wrapper(words, order, cancel, &begin),
            None => self.freeze_by_script(order, cancel, &begin),
        }
    }

    /// Everything that is noted before the call. Without a readable log no window could be proved, so nothing is frozen.
    fn begin(&self, order: &FreezeOrder) -> Result<Begin, String> {
        let at = boot_now();
        let Located { messages, lock, .. } = self.located(order.by).map_err(|e| e.to_string())?;
        let freeze_log = self
            .config
            .log_file
            .clone()
            .unwrap_or_else(|| self.log_path(order.id, "freeze"));
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
            log: Position {
                path: messages,
                inode,
                offset,
            },
            freeze_log_from: log_file.map_or(0, |(_, size)| size),
            freeze_log,
            lock_inode: lock.map(|(inode, _)| inode),
        })
    }

    fn freeze_by_script(
        &self,
        order: &FreezeOrder,
        cancel: &Cancel,
        begin: &Begin,
    ) -> FreezeAnswer {
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
            warnings.push(format!(
                "the freeze's own log {} could not be read: {why}",
                begin.freeze_log.display()
            ));
        }
        if reply.get("CAP") != "11" && reply.get("CAP") != "10" {
            warnings.push(
                "this version's ExternalFreeze has no WDSuspendLimit: it cannot free itself".into(),
            );
        }
        warnings.extend(parsed.iter().flat_map(|l| l.warnings.clone()));
        let mut evidence = parsed.map(|l| l.lines).unwrap_or_default();
        evidence.retain(|l| !l.contains("Warning, "));
        evidence.push(format!(
            "IsWDSuspended = {}; image journal {} offset {}",
            reply.get("WDS"),
            reply.get("IMG"),
            reply.get("IMGOFF")
        ));
        let token = Token {
            id: order.id,
            log: begin.log.clone(),
            freeze_pid: reply.get("PID").parse().ok(),
            lock_inode: begin.lock_inode,
            started: reply
                .seconds("UP")
                .map(|up| Started::new(up, sent.0, read.0)),
            mirror: reply.get("MIR").into(),
        };
        let parts = parts(&reply, begin, boot_now());
        held(token, mark, warnings, evidence, parts)
    }

    /// The script and its nonce.
    fn freeze_script(
        &self,
        order: &FreezeOrder,
        begin: &Begin,
    ) -> Result<(String, String), String> {
        let nonce = nonce().map_err(|e| e.to_string())?;
        let left_ms = order.by.since(boot_now());
        let deadline = begin.wall.0 + order.by.since(begin.at) as i64;
        let (earliest, latest) = (seconds(begin.wall.0 - CLOCK_SLACK_MS), seconds(deadline));
        let mut s = Script::new(&nonce);
        s.line("set sfu=$ZHOROLOG,sfs=\"\",sfr=\"\",sfk=0,sfl=3,sfd=\"\",sfn=0,sfy=sfu");
        s.say("PID", "$JOB");
        s.say("UP", "sfu");
        s.ask("MIR", ask::MIRROR);
        s.line(FORMAL_SPEC);
        s.line(
            "set sfk=$select(sfd=\"\":11,sfd[\"RequiredFile\":11,sfd[\"WDSuspendLimit\":10,1:7)",
        );
        s.say("CAP", "sfk");
        s.line("set sfw=\"\"");
        s.line(&format!("set sfw={}", ask::IS_SUSPENDED));
        s.say("BEFORE", "sfw");
        let [full, ten, seven] = self.freeze_calls(order, begin)?;
        for (arguments, call) in [(11, full), (10, ten), (7, seven)] {
            // Left to right, without precedence, as ObjectScript evaluates; 47117 is 1970-01-01.
            s.line(&format!(
                "set:sfk={arguments} sfy=$ZHOROLOG,sfz=$ZTIMESTAMP,sfn=$piece(sfz,\",\")-47117*86400+$piece(sfz,\",\",2),sfl=$select(sfn<{earliest}:2,sfn>{latest}:1,$ZHOROLOG-sfu>{left}:1,1:0) set:(sfk={arguments})&(sfl=0)&(sfw=0) sfs={call}",
                left = seconds(left_ms as i64),
            ));
        }
        s.line("set sfe=$ZHOROLOG");
        s.say("LATE", "sfl");
        s.say("AT", "sfn");
        s.say("TOOK", "sfe-sfy");
        s.say("SC", "$select(sfs=\"\":\"\",sfs:1,1:0)");
        s.ask(
            "TEXT",
            "$select(sfs=\"\":$ZERROR,sfs:\"\",1:$SYSTEM.Status.GetErrorText(sfs))",
        );
        s.ask("WDS", ask::IS_SUSPENDED);
        s.say("REQ", "sfr");
        s.ask("CUR", ask::CURRENT_FILE);
        s.ask("OFF", ask::CURRENT_OFFSET);
        s.line("set sfi=\"\",sfo=\"\"");
        s.line("set sfx=##class(%SYS.Journal.System).GetImageJournalInfo(.sfi,.sfo)");
        s.say("IMG", "sfi");
        s.say("IMGOFF", "sfo");
        s.line("set sfc=3");
        s.line("set sfx=0");
        s.line(&format!("set sfx={}", ask::IS_SUSPENDED));
        s.line("set:(sfs=1)&(sfx=1) sfc=5");
        Ok((nonce, s.end("sfc")))
    }

    /// With 11, 10 and 7 arguments (class reference, Backup.General.ExternalFreeze).
    fn freeze_calls(&self, order: &FreezeOrder, begin: &Begin) -> Result<[String; 3], String> {
        let text = |s: &str| quote::literal(s).map_err(|e| e.to_string());
        let c = &self.config;
        let number = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
        let (user, password) = match &self.thaw_login {
            Some(l) => (text(&l.user)?, text(&l.password)?),
            None => (String::new(), String::new()),
        };
        let first_seven = [
            text(&begin.freeze_log.to_string_lossy())?,
            if c.text.is_empty() {
                String::new()
            } else {
                text(&c.text)?
            },
            u8::from(c.switch_journal).to_string(),
            number(c.cluster_timeout),
            number(c.cluster_hibernate),
            number(c.cluster_verbose.map(u32::from)),
            order.rules.external_freeze_timeout_s.to_string(),
        ]
        .join(",");
        let limit = order.rules.wd_suspend_limit.secs().unwrap_or(0);
        let nine = format!("{first_seven},{user},{password}");
        let call = |args: &str| format!("##class(Backup.General).ExternalFreeze({args})");
        let without_limit = if self.thaw_login.is_some() {
            &nine
        } else {
            &first_seven
        };
        Ok([
            call(&format!("{nine},{limit},.sfr")),
            call(&format!("{nine},{limit}")),
            call(without_limit),
        ])
    }

    fn read_freeze_log(&self, begin: &Begin, by: BootMs) -> Result<String, String> {
        let text = files::read(&self.runner, &begin.freeze_log, by)?;
        Ok(text
            .get(begin.freeze_log_from as usize..)
            .unwrap_or_default()
            .to_owned())
    }

    /// `freeze_with`: its exit code says whether it worked, the engine whether it froze, messages.log what it did.
    fn freeze_by_wrapper(
        &self,
        words: &[String],
        order: &FreezeOrder,
        cancel: &Cancel,
        begin: &Begin,
    ) -> FreezeAnswer {
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
                return FreezeAnswer::Unknown(format!(
                    "{said}, but IsWDSuspended answers {:?}",
                    s.suspended
                ));
            }
            Err(why) => {
                return FreezeAnswer::Unknown(format!(
                    "{said}; then no answer to IsWDSuspended: {why}"
                ));
            }
        };
        let read = boot_now();
        let logged =
            files::since(&self.runner, &begin.log, read.plus(AFTER_MS)).unwrap_or_default();
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
            Part {
                name: "freeze-with".into(),
                at_ms: 0,
                took_ms: output.took_ms,
            },
            Part {
                name: "ask".into(),
                at_ms: done.since(begin.at),
                took_ms: read.since(done),
            },
        ];
        held(token, mark, warnings, evidence, parts)
    }
}

/// `%Dictionary.CompiledMethod`, the formal arguments of this version's ExternalFreeze.
pub(super) const FORMAL_SPEC: &str = "set sfd=##class(%Dictionary.CompiledMethod).%OpenId(\"Backup.General||ExternalFreeze\").FormalSpec";

fn held(
    token: Token,
    mark: protocol::JournalMark,
    warnings: Vec<String>,
    evidence: Vec<String>,
    parts: Vec<Part>,
) -> FreezeAnswer {
    match serde_json::to_value(&token) {
        Ok(token) => FreezeAnswer::Frozen(Held {
            marks: vec![mark],
            token,
            warnings,
            evidence,
            parts,
        }),
        Err(e) => FreezeAnswer::Unknown(format!("frozen, but its evidence cannot be kept: {e}")),
    }
}

/// Milliseconds as an ObjectScript number of seconds.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
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
    let (late, before, status, after) = (
        reply.get("LATE"),
        reply.get("BEFORE"),
        reply.get("SC"),
        reply.get("WDS"),
    );
    match (late, before, status, after) {
        ("1", _, "", _) => failed("the freeze command was late; it froze nothing"),
        ("2", _, "", _) => {
            failed("the engine's clock lies before the time of the order; it froze nothing")
        }
        (_, "1", "", _) => {
            failed("the write daemon was suspended already, and not by us; this freeze did nothing")
        }
        (_, _, "1", "1") if code == 5 => Ok(reply),
        (_, _, "1", "1") => unknown(&format!(
            "the freeze worked, but the session ended with {code}"
        )),
        (_, _, "1", _) => unknown("ExternalFreeze said yes, IsWDSuspended does not"),
        (_, _, "0" | "", "0") => {
            let text = reply.get("TEXT");
            failed(&format!(
                "ExternalFreeze failed: {}",
                if text.is_empty() { said } else { text }
            ))
        }
        _ => unknown(&format!(
            "ExternalFreeze answered {status:?}, IsWDSuspended {after:?}: {}",
            reply.get("TEXT")
        )),
    }
}

/// The engine's own part is told by the engine's clock.
fn parts(reply: &Reply, begin: &Begin, done: BootMs) -> Vec<Part> {
    let at_ms = reply
        .seconds("AT")
        .map_or(0, |at| ((at * 1000.0) as i64 - begin.wall.0).max(0) as u64);
    let took_ms = reply
        .seconds("TOOK")
        .map_or(0, |s| (s * 1000.0).max(0.0) as u64);
    let all_ms = done.since(begin.at);
    let after = (at_ms + took_ms).min(all_ms);
    vec![
        Part {
            name: "login".into(),
            at_ms: 0,
            took_ms: at_ms,
        },
        Part {
            name: "external-freeze".into(),
            at_ms,
            took_ms,
        },
        Part {
            name: "freeze-answer".into(),
            at_ms: after,
            took_ms: all_ms - after,
        },
    ]
}
