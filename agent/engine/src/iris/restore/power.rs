//! Up, down, and who gets in.

use super::super::files::{self, Position};
use super::{ASK_MS, Failed, START_MS, STOP_MS, Say};
use crate::iris::Iris;
use doors::clock::boot_now;

/// A login that is refused answers at once; one that hangs is not refused.
const LOGIN_MS: u64 = 20_000;
/// Lines of messages.log in an error.
const LOG_LINES: usize = 6;

/// Data Integrity Guide: what the log says when the start ends for the administrator.
const SINGLE_USER: &str = "entering single user mode";

impl Iris {
    pub(super) fn stop(&self) -> Result<String, Failed> {
        if self.is_down()? {
            return Ok("it is down already".into());
        }
        let name = self.runner.name().to_owned();
        let output = self.runner.iris(&["stop", &name, "quietly"], boot_now().plus(STOP_MS)).map_err(Failed::from)?;
        if self.is_down()? {
            return Ok(self.runner.shown(&["stop", &name, "quietly"]));
        }
        Err(Failed::new(format!("it does not stop: {}", self.runner.said(&output)))
            .next(format!("end what holds it, or: {}", self.runner.shown(&["force", &name]))))
    }

    pub(super) fn force(&self) -> Result<String, Failed> {
        if self.is_down()? {
            return Ok("it is down already".into());
        }
        let name = self.runner.name().to_owned();
        let output = self.runner.iris(&["force", &name, "quietly"], boot_now().plus(STOP_MS)).map_err(Failed::from)?;
        if self.is_down()? { Ok("ended".into()) } else { Err(Failed::new(self.runner.said(&output))) }
    }

    /// Up for the administrator. An instance that is up for everybody is not what is wanted, and is left to the person.
    pub(super) fn start_for_administrator(&self, say: Say<'_>) -> Result<String, Failed> {
        if self.is_down()? {
            let (code, said, log) = self.start(true, say)?;
            if code != Some(0) || log.contains(SINGLE_USER) {
                return Err(Failed {
                    why: format!("the recovery at the start did not end well: {said}{}", tail(&log)),
                    next: String::new(),
                    recovery: true,
                    anew: false,
                });
            }
        }
        self.only_the_administrator()
    }

    /// In most cases it ends in single-user mode; if it is up all the same, as well.
    pub(super) fn start_without_wij(&self, say: Say<'_>) -> Result<String, Failed> {
        if !self.is_down()? {
            return Ok("it is up already".into());
        }
        let (code, said, log) = self.start(true, say)?;
        if code == Some(0) || log.contains(SINGLE_USER) {
            return Ok(if log.contains(SINGLE_USER) { "it entered single-user mode, as expected".into() } else { said });
        }
        Err(Failed::new(format!("it did not start at all: {said}{}", tail(&log))))
    }

    /// `^STURECOV` option 8, "Reset system so journal is not restored at startup", in an administrator's session.
    pub(super) fn skip_journal_at_start(&self) -> Result<String, Failed> {
        let by = boot_now().plus(ASK_MS);
        // The menu is left with an empty line; what follows ends the session if the menu has ended already.
        let output = self.runner.admin_session("set $namespace=\"%SYS\"\ndo ^STURECOV\n8\n\nhalt\n", by).map_err(Failed::from)?;
        let text = output.out();
        if output.code() == Some(0) && text.contains("8)") && !text.contains("<NOROUTINE>") {
            return Ok(self.runner.said(&output));
        }
        Err(Failed::new(format!("^STURECOV did not answer: {}", self.runner.said(&output)))
            .next(format!("by hand: {} then do ^STURECOV, option 8", self.runner.shown(&["session", self.runner.name(), "-B"]))))
    }

    pub(super) fn start_for_users(&self, say: Say<'_>) -> Result<String, Failed> {
        if self.is_down()? {
            let (code, said, log) = self.start(false, say)?;
            if code != Some(0) {
                return Err(Failed::new(format!("it does not start: {said}{}", tail(&log))));
            }
        }
        if self.lets_in()? { Ok("users may connect now".into()) } else { Err(Failed::new("it is up, but no login is answered")) }
    }

    fn start(&self, for_administrator: bool, say: Say<'_>) -> Result<(Option<i32>, String, String), Failed> {
        let located = self.located_now()?;
        let from = Position::end_of(&located.messages);
        let name = self.runner.name().to_owned();
        say("starting; recovery may take long after a crash");
        let mut words = vec!["start".to_owned(), name, "quietly".into()];
        if for_administrator {
            words.push(one_time_login().map_err(|e| Failed::new(e.to_string()))?);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = self.runner.iris(&words, boot_now().plus(START_MS)).map_err(Failed::from)?;
        let log = files::since(&self.runner, &from, boot_now().plus(ASK_MS)).unwrap_or_default();
        Ok((output.code(), self.runner.said(&output), log))
    }

    fn is_down(&self) -> Result<bool, Failed> {
        Ok(self.located_now()?.listed.down())
    }

    fn only_the_administrator(&self) -> Result<String, Failed> {
        self.script(ASK_MS, |s| s.say("UP", "1"))?;
        if self.lets_in()? {
            return Err(Failed::new("the instance is up for everybody: an ordinary login was answered").next("stop it, then run again"));
        }
        Ok("up; an ordinary login is refused".into())
    }

    /// Does an ordinary login execute a line?
    fn lets_in(&self) -> Result<bool, Failed> {
        let nonce = crate::iris::script::nonce().map_err(|e| Failed::new(e.to_string()))?;
        let text = crate::iris::script::Script::new(&nonce).end("5");
        let output = self.runner.session(&text, boot_now().plus(LOGIN_MS), None).map_err(Failed::from)?;
        Ok(crate::iris::script::Reply::parse(&output.out(), &nonce).is_some())
    }
}

/// `EmergencyId=user,password`: "the name must not match an existing user". Made for one start, known to nobody.
fn one_time_login() -> std::io::Result<String> {
    let (user, password) = (crate::iris::script::nonce()?, crate::iris::script::nonce()?);
    Ok(format!("EmergencyId=snapfreeze{},{}", &user.replace('-', "")[..12], password.replace('-', "")))
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    if lines.is_empty() { String::new() } else { format!("\n  {}", lines[from..].join("\n  ")) }
}
