//! The thaw and its proof. The ladder: a script that asks, thaws and asks again · the command-line form of
//! ExternalThaw, which needs no login · `iris thaw` · `irisstat -W`.

use super::ladder::{Answer, ScriptAnswer, Step, climb};
use super::run::Runner;
use super::script::{Reply, Script, nonce};
use super::token::{Started, Token};
use super::{Iris, Product, ask, quote};
use crate::{Held, Rung, ThawAnswer};
use doors::clock::{boot_now, wall_now};
use doors::exec::Output;
use protocol::BootMs;
use protocol::outcome::Part;
use protocol::wire::Frozen;
use std::sync::Arc;

/// Reading the evidence, after writes go on again.
const EVIDENCE_MS: u64 = 10_000;

impl Iris {
    pub(super) fn thaw_by_ladder(&self, held: Option<&Held>, rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer {
        let began = boot_now();
        let wall = wall_now().0;
        let token = held.map(|h| serde_json::from_value::<Token>(h.token.clone()).map_err(|e| e.to_string()));
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
        ThawAnswer { frozen: climbed.frozen, proof, rungs: climbed.rungs, evidence, parts }
    }

    fn steps(&self, log: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let runner = || Arc::clone(&self.runner);
        let name = self.config.name.as_str().to_owned();
        let step = |ran: String, run: Box<dyn FnOnce(BootMs) -> Answer + Send>| Step { ran, last_resort: false, run };
        if let Some(words) = self.config.thaw_with.clone() {
            let r = runner();
            steps.push(step(words.join(" "), Box::new(move |by| by_wrapper(&r, &words, by))));
        }
        let (r, l, login) = (runner(), log.to_owned(), self.thaw_login.clone());
        steps.push(step(
            format!("{} (script: Backup.General.ExternalThaw)", self.runner.shown(&["session", &name, "-U%SYS"])),
            Box::new(move |by| by_script(&r, &l, login.as_ref(), by)),
        ));
        if self.thaw_login.is_none() {
            // No LogFile here: failing to open it would fail the thaw.
            let call = "ExternalThaw()";
            let r = runner();
            steps.push(step(
                self.runner.shown(&["session", &name, "-U%SYS", &format!("##Class(Backup.General).{call}")]),
                Box::new(move |by| plain(&r, r.class_method(call, by), 5)),
            ));
        }
        let (r, n) = (runner(), name.clone());
        if self.product == Product::Iris {
            steps.push(step(self.runner.shown(&["thaw", &name]), Box::new(move |by| plain(&r, r.iris(&["thaw", &n], by), 0))));
        }
        let (r, n) = (runner(), name.clone());
        steps.push(Step {
            ran: self.runner.shown(&["stat", &name, "-W"]),
            last_resort: true,
            run: Box::new(move |by| plain(&r, r.iris(&["stat", &n, "-W"], by), 0)),
        });
        steps
    }
}

/// Asks, thaws unless the answer is a plain no, asks again.
fn by_script(runner: &Runner, log: &str, login: Option<&super::run::Credentials>, by: BootMs) -> Answer {
    let sent = boot_now();
    let (nonce, script) = match thaw_script(log, login) {
        Ok(s) => s,
        Err(said) => {
            return Answer { said, ..Default::default() };
        }
    };
    let output = match runner.session(&script, by, None) {
        Ok(o) => o,
        Err(e) => {
            return Answer { said: e.to_string(), ..Default::default() };
        }
    };
    let Some(reply) = Reply::parse(&output.out(), &nonce).filter(|r| r.complete) else {
        return Answer { said: runner.said(&output), ..Default::default() };
    };
    let frozen = |key| match reply.get(key) {
        "1" => Some(Frozen::Yes),
        "0" => Some(Frozen::No),
        other => Some(Frozen::Unknown(format!("IsWDSuspended answered {other:?}"))),
    };
    let text = if reply.get("TEXT").is_empty() { String::new() } else { format!(": {}", reply.get("TEXT")) };
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
            started: reply.seconds("UP").map(|up| Started::new(up, sent.0, boot_now().0)),
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

fn thaw_script(log: &str, login: Option<&super::run::Credentials>) -> Result<(String, String), String> {
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
    s.ask("TEXT", "$select(sfs=\"\":\"\",sfs:\"\",1:$SYSTEM.Status.GetErrorText(sfs))");
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
        return Answer { said, positive: false, before: Some(before), frozen: Some(Frozen::No), script };
    }
    let ran = plain(runner, runner.other(words, by, None), 0);
    Answer { before: Some(before), script, ..ran }
}

/// A program whose exit code is all that it says.
fn plain(runner: &Runner, output: Result<Output, crate::Error>, success: i32) -> Answer {
    match output {
        Ok(o) => Answer { said: runner.said(&o), positive: o.code() == Some(success), ..Default::default() },
        Err(e) => Answer { said: e.to_string(), ..Default::default() },
    }
}

/// Milliseconds since the thaw call began.
fn parts(script: Option<&ScriptAnswer>, wall_ms: i64, all_ms: u64) -> Vec<Part> {
    let (Some(at), Some(took)) = (script.and_then(|s| s.thaw_at_wall_ms), script.and_then(|s| s.thaw_ms)) else {
        return vec![Part { name: "thaw".into(), at_ms: 0, took_ms: all_ms }];
    };
    let at_ms = ((at - wall_ms).max(0) as u64).min(all_ms);
    let after = (at_ms + took).min(all_ms);
    vec![
        Part { name: "login".into(), at_ms: 0, took_ms: at_ms },
        Part { name: "external-thaw".into(), at_ms, took_ms: took },
        Part { name: "thaw-answer".into(), at_ms: after, took_ms: all_ms - after },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::run::Credentials;
    use super::*;

    fn lines(log: &str, login: Option<&Credentials>) -> Vec<String> {
        thaw_script(log, login).unwrap().1.lines().map(str::to_owned).collect()
    }

    #[test]
    fn it_asks_thaws_tries_without_a_log_and_asks_again() {
        let ask = format!("set sfa={}", ask::IS_SUSPENDED);
        let s = lines("/run/a \"b\".log", None);
        let first = s.iter().position(|l| l.starts_with("set sfw=##class")).unwrap();
        let expected = [
            "set:sfw'=0 sfs=##class(Backup.General).ExternalThaw(\"/run/a \"\"b\"\".log\")",
            &ask,
            "set:(sfw'=0)&(sfa'=0) sfs=##class(Backup.General).ExternalThaw(\"\")",
            &ask,
        ];
        assert_eq!(s[first + 1..first + 5], expected);
        assert_eq!(s.iter().filter(|l| l.contains("ExternalThaw")).count(), 2);
        assert_eq!(lines("", None).iter().filter(|l| l.contains("ExternalThaw")).count(), 1);
    }

    #[test]
    fn a_thaw_that_cannot_be_written_as_a_literal_is_not_sent() {
        assert!(thaw_script("/a\nhalt", None).is_err());
    }
}
