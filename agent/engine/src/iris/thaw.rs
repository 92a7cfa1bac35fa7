//! The thaw and its proof. The ladder: a script that asks, thaws and asks again · the command-line form of
//! ExternalThaw, which needs no login · `iris thaw` · `irisstat -W`.

use super::ladder::{Answer, Climb, ScriptAnswer, Step, climb};
use super::parse::{logfile, messages};
use super::run::Runner;
use super::script::{Reply, Script, nonce};
use super::token::{Started, Token};
use super::{Iris, Product, ask, files, judge, quote};
use crate::{Held, Rung, ThawAnswer};
use doors::clock::{boot_now, wall_now};
use doors::exec::Output;
use protocol::outcome::Part;
use protocol::wire::Frozen;
use protocol::{BootMs, Disturbed, Known, Proof};
use std::path::Path;
use std::sync::Arc;

/// Reading the evidence, after writes go on again.
const EVIDENCE_MS: u64 = 10_000;

impl Iris {
    pub(super) fn thaw_by_ladder(
        &self,
        held: Option<&Held>,
        rung_ms: u64,
        say: &dyn Fn(&Rung),
    ) -> ThawAnswer {
        let began = boot_now();
        let wall = wall_now().0;
        let token = held
            .map(|h| serde_json::from_value::<Token>(h.token.clone()).map_err(|e| e.to_string()));
        // Without a freeze of ours there is nothing to prove, and a LogFile that cannot be opened fails the thaw.
        let log = match &token {
            Some(Ok(t)) => self.log_path(t.id, "thaw").to_string_lossy().into_owned(),
            Some(Err(_)) | None => String::new(),
        };
        let steps = self.steps(&log);
        let climbed = climb(&self.runner, steps, rung_ms, say);
        let thawed = boot_now();
        let (proof, evidence) = self.prove(token, &log, &climbed, thawed.plus(EVIDENCE_MS));
        let parts = parts(climbed.script.as_ref(), wall, thawed.since(began));
        ThawAnswer {
            frozen: climbed.frozen,
            proof,
            rungs: climbed.rungs,
            evidence,
            parts,
        }
    }

    fn steps(&self, log: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let runner = || Arc::clone(&self.runner);
        let name = self.config.name.as_str().to_owned();
        let step = |ran: String, run: Box<dyn FnOnce(BootMs) -> Answer + Send>| Step {
            ran,
            last_resort: false,
            run,
        };
        if let Some(words) = self.config.thaw_with.clone() {
            let r = runner();
            steps.push(step(
                words.join(" "),
                Box::new(move |by| by_wrapper(&r, &words, by)),
            ));
        }
        let (r, l, login) = (runner(), log.to_owned(), self.thaw_login.clone());
        steps.push(step(
            format!(
                "{} (script: Backup.General.ExternalThaw)",
                self.runner.shown(&["session", &name, "-U%SYS"])
            ),
            Box::new(move |by| by_script(&r, &l, login.as_ref(), by)),
        ));
        if self.thaw_login.is_none() {
            // No LogFile here: failing to open it would fail the thaw.
            let call = "ExternalThaw()";
            let r = runner();
            steps.push(step(
                self.runner.shown(&[
                    "session",
                    &name,
                    "-U%SYS",
                    &format!("##Class(Backup.General).{call}"),
                ]),
                Box::new(move |by| plain(&r, r.class_method(call, by), 5)),
            ));
        }
        let (r, n) = (runner(), name.clone());
        if self.product == Product::Iris {
            steps.push(step(
                self.runner.shown(&["thaw", &name]),
                Box::new(move |by| plain(&r, r.iris(&["thaw", &n], by), 0)),
            ));
        }
        let (r, n) = (runner(), name.clone());
        steps.push(Step {
            ran: self.runner.shown(&["stat", &name, "-W"]),
            last_resort: true,
            run: Box::new(move |by| plain(&r, r.iris(&["stat", &n, "-W"], by), 0)),
        });
        steps
    }

    fn prove(
        &self,
        token: Option<Result<Token, String>>,
        log: &str,
        c: &Climb,
        by: BootMs,
    ) -> (Proof, Vec<String>) {
        let mut proof = Proof {
            frozen_before: c.before.as_ref().map_or(Known::Unknown, Known::from),
            released: Known::Unknown,
            alone: Err(Disturbed::Unreadable("no freeze of ours is known".into())),
            same_instance: Err("no freeze of ours is known".into()),
            log_clean: Err("no freeze of ours is known".into()),
            last_resort: c.last_resort,
        };
        if c.nothing_to_do {
            proof.released = Known::No;
        }
        let token = match token {
            None => return (proof, Vec::new()),
            Some(Err(why)) => {
                proof.alone = Err(Disturbed::Unreadable(format!(
                    "what the freeze left cannot be read: {why}"
                )));
                return (proof, Vec::new());
            }
            Some(Ok(t)) => t,
        };
        let thaw_pid = c.script.as_ref().and_then(|s| s.pid);
        let findings = match files::since(&self.runner, &token.log, by) {
            Ok(text) => {
                let ours = judge::Ours {
                    freeze_pid: token.freeze_pid,
                    thaw_pid: self.script_thawed(c).then_some(thaw_pid).flatten(),
                };
                judge::judge(&messages::parse(&text), ours)
            }
            Err(why) => judge::Findings::unreadable(&why),
        };
        let own = files::read(&self.runner, Path::new(log), by)
            .ok()
            .map(|t| logfile::parse(&t));
        if !c.nothing_to_do {
            proof.released = released(own.as_ref(), findings.released);
        }
        proof.alone = findings.alone;
        proof.log_clean = findings.log_clean;
        proof.same_instance = self.same_instance(&token, c.script.as_ref(), by);
        let mut evidence = findings.evidence;
        if let Some(own) = own {
            evidence.extend(own.lines.into_iter().map(|l| format!("LogFile: {l}")));
        }
        (proof, evidence)
    }

    /// The thaw's lines in messages.log carry the script's process number only when the script did the thawing.
    fn script_thawed(&self, c: &Climb) -> bool {
        self.config.thaw_with.is_none() && c.rungs.len() == 1
    }

    fn same_instance(
        &self,
        token: &Token,
        now: Option<&ScriptAnswer>,
        by: BootMs,
    ) -> Result<(), String> {
        let Some(now) = now else {
            return Err("the instance did not say whether it is still the same".into());
        };
        if now.mirror != token.mirror {
            return Err(format!(
                "mirror status was {:?}, is {:?}",
                token.mirror, now.mirror
            ));
        }
        match (token.started, now.started) {
            (Some(then), Some(now)) if then.could_be(now) => {}
            (Some(_), Some(_)) => return Err("the instance was restarted".into()),
            (_, None) | (None, _) => {
                return Err("the instance did not say since when it is up".into());
            }
        }
        let lock = self
            .located(by)
            .ok()
            .and_then(|l| files::stat(&self.runner, &[&l.lock], by)[0]);
        match (token.lock_inode, lock) {
            (Some(then), Some((now, _))) if then != now => {
                Err("the instance's lock file is another one: it was restarted".into())
            }
            _ => Ok(()),
        }
    }
}

/// Our LogFile goes before messages.log, in which the same line stands with our process number.
fn released(own: Option<&logfile::LogFile>, logged: Known) -> Known {
    match own {
        Some(l) if l.already_resumed => Known::No,
        Some(l) if l.resumed => Known::Yes,
        Some(_) | None => logged,
    }
}

/// Asks, thaws unless the answer is a plain no, asks again.
fn by_script(
    runner: &Runner,
    log: &str,
    login: Option<&super::run::Credentials>,
    by: BootMs,
) -> Answer {
    let sent = boot_now();
    let (nonce, script) = match thaw_script(log, login) {
        Ok(s) => s,
        Err(said) => {
            return Answer {
                said,
                ..Default::default()
            };
        }
    };
    let output = match runner.session(&script, by, None) {
        Ok(o) => o,
        Err(e) => {
            return Answer {
                said: e.to_string(),
                ..Default::default()
            };
        }
    };
    let Some(reply) = Reply::parse(&output.out(), &nonce).filter(|r| r.complete) else {
        return Answer {
            said: runner.said(&output),
            ..Default::default()
        };
    };
    let frozen = |key| match reply.get(key) {
        "1" => Some(Frozen::Yes),
        "0" => Some(Frozen::No),
        other => Some(Frozen::Unknown(format!("IsWDSuspended answered {other:?}"))),
    };
    let text = if reply.get("TEXT").is_empty() {
        String::new()
    } else {
        format!(": {}", reply.get("TEXT"))
    };
    Answer {
        said: format!(
            "IsWDSuspended before {}, ExternalThaw {}{text}, after {}",
            reply.get("BEFORE"),
            shown_status(&reply),
            reply.get("AFTER")
        ),
        positive: reply.get("SC") == "1",
        before: frozen("BEFORE"),
        frozen: frozen("AFTER"),
        script: Some(ScriptAnswer {
            pid: reply.get("PID").parse().ok(),
            mirror: reply.get("MIR").into(),
            started: reply
                .seconds("UP")
                .map(|up| Started::new(up, sent.0, boot_now().0)),
            thaw_at_wall_ms: reply.seconds("AT").map(|s| (s * 1000.0) as i64),
            thaw_ms: reply.seconds("TOOK").map(|s| (s * 1000.0) as u64),
        }),
    }
}

fn shown_status(reply: &Reply) -> &'static str {
    match reply.get("SC") {
        "1" => "ok",
        "0" => "failed",
        _ => "not called",
    }
}

fn thaw_script(
    log: &str,
    login: Option<&super::run::Credentials>,
) -> Result<(String, String), String> {
    let nonce = nonce().map_err(|e| e.to_string())?;
    let text = |s: &str| quote::literal(s).map_err(|e| e.to_string());
    let with_login = |log: &str| -> Result<String, String> {
        let arguments = match login {
            Some(l) => format!("{},{},{}", text(log)?, text(&l.user)?, text(&l.password)?),
            None => text(log)?,
        };
        Ok(format!("##class(Backup.General).ExternalThaw({arguments})"))
    };
    let mut s = Script::new(&nonce);
    s.line("set sfu=$ZHOROLOG,sfw=\"?\",sfa=\"?\",sfs=\"\",sfm=\"\",sfz=$ZTIMESTAMP");
    s.line(&format!("set sfm={}", ask::MIRROR));
    s.line(&format!("set sfw={}", ask::IS_SUSPENDED));
    // Every answer but a plain no is thawed.
    s.line(&format!("set:sfw'=0 sfs={}", with_login(log)?));
    s.line(&format!("set sfa={}", ask::IS_SUSPENDED));
    if !log.is_empty() {
        // "Failed to open logfile" must not keep anything frozen.
        s.line(&format!("set:(sfw'=0)&(sfa'=0) sfs={}", with_login("")?));
        s.line(&format!("set sfa={}", ask::IS_SUSPENDED));
    }
    s.line("set sfe=$ZHOROLOG");
    s.say("BEFORE", "sfw");
    s.say("AFTER", "sfa");
    s.say("SC", "$select(sfs=\"\":\"\",sfs:1,1:0)");
    s.say("PID", "$JOB");
    s.say("UP", "sfu");
    s.say("MIR", "sfm");
    s.say("AT", "$piece(sfz,\",\")-47117*86400+$piece(sfz,\",\",2)");
    s.say("TOOK", "sfe-sfu");
    s.ask(
        "TEXT",
        "$select(sfs=\"\":\"\",sfs:\"\",1:$SYSTEM.Status.GetErrorText(sfs))",
    );
    Ok((nonce, s.end("$select(sfa=0:5,1:3)")))
}

/// `thaw_with` between two questions.
fn by_wrapper(runner: &Runner, words: &[String], by: BootMs) -> Answer {
    let sent = boot_now();
    let state = ask::state(runner, by, None);
    let read = boot_now();
    let before = match &state {
        Ok(s) => s.frozen(),
        Err(why) => Frozen::Unknown(why.clone()),
    };
    let script = state.ok().map(|s| ScriptAnswer {
        pid: None,
        mirror: s.mirror,
        started: s.up_s.map(|up| Started::new(up, sent.0, read.0)),
        thaw_at_wall_ms: None,
        thaw_ms: None,
    });
    if before == Frozen::No {
        let said = "not called: IsWDSuspended answers 0".into();
        return Answer {
            said,
            positive: false,
            before: Some(before),
            frozen: Some(Frozen::No),
            script,
        };
    }
    let ran = plain(runner, runner.other(words, by, None), 0);
    Answer {
        before: Some(before),
        script,
        ..ran
    }
}

/// A program whose exit code is all that it says.
fn plain(runner: &Runner, output: Result<Output, crate::Error>, success: i32) -> Answer {
    match output {
        Ok(o) => Answer {
            said: runner.said(&o),
            positive: o.code() == Some(success),
            ..Default::default()
        },
        Err(e) => Answer {
            said: e.to_string(),
            ..Default::default()
        },
    }
}

/// Milliseconds since the thaw call began.
fn parts(script: Option<&ScriptAnswer>, wall_ms: i64, all_ms: u64) -> Vec<Part> {
    let (Some(at), Some(took)) = (
        script.and_then(|s| s.thaw_at_wall_ms),
        script.and_then(|s| s.thaw_ms),
    ) else {
        return vec![Part {
            name: "thaw".into(),
            at_ms: 0,
            took_ms: all_ms,
        }];
    };
    let at_ms = ((at - wall_ms).max(0) as u64).min(all_ms);
    let after = (at_ms + took).min(all_ms);
    vec![
        Part {
            name: "login".into(),
            at_ms: 0,
            took_ms: at_ms,
        },
        Part {
            name: "external-thaw".into(),
            at_ms,
            took_ms: took,
        },
        Part {
            name: "thaw-answer".into(),
            at_ms: after,
            took_ms: all_ms - after,
        },
    ]
}
