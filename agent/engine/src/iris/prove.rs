//! What a thaw proves about its window (contract §3): read after writes go on again.

use super::ladder::{Climb, ScriptAnswer};
use super::parse::{logfile, messages};
use super::token::Token;
use super::{Iris, files, judge};
use protocol::{BootMs, Disturbed, Known, Proof};
use std::path::Path;

impl Iris {
    pub(super) fn prove(&self, token: Option<Result<Token, String>>, log: &str, c: &Climb, by: BootMs) -> (Proof, Vec<String>) {
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
                proof.alone = Err(Disturbed::Unreadable(format!("what the freeze left cannot be read: {why}")));
                return (proof, Vec::new());
            }
            Some(Ok(t)) => t,
        };
        let findings = match files::since(&self.runner, &token.log, by) {
            Ok(text) => {
                let ours = judge::Ours { freeze_pid: token.freeze_pid, thaw: self.our_thaw(c) };
                judge::judge(&messages::parse(&text), ours)
            }
            Err(why) => judge::Findings::unreadable(&why),
        };
        let own = files::read(&self.runner, Path::new(log), by).ok().map(|t| logfile::parse(&t));
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
    fn our_thaw(&self, c: &Climb) -> judge::OurThaw {
        let pid = c.script.as_ref().and_then(|s| s.pid);
        match pid {
            _ if c.nothing_to_do => judge::OurThaw::Nobody,
            Some(pid) if self.config.thaw_with.is_none() && c.rungs.len() == 1 => judge::OurThaw::By(pid),
            Some(_) | None => judge::OurThaw::Somebody,
        }
    }

    fn same_instance(&self, token: &Token, now: Option<&ScriptAnswer>, by: BootMs) -> Result<(), String> {
        let Some(now) = now else {
            return Err("the instance did not say whether it is still the same".into());
        };
        if now.mirror != token.mirror {
            return Err(format!("mirror status was {:?}, is {:?}", token.mirror, now.mirror));
        }
        match (token.started, now.started) {
            (Some(then), Some(now)) if then.could_be(now) => {}
            (Some(_), Some(_)) => return Err("the instance was restarted".into()),
            (_, None) | (None, _) => {
                return Err("the instance did not say since when it is up".into());
            }
        }
        let lock = self.located(by).ok().and_then(|l| files::stat(&self.runner, &[&l.lock], by)[0]);
        match (token.lock_inode, lock) {
            (Some(then), Some((now, _))) if then != now => Err("the instance's lock file is another one: it was restarted".into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_log_file_decides_what_was_released() {
        let log = |resumed, already_resumed| logfile::LogFile { resumed, already_resumed, ..Default::default() };
        for (own, logged, expected) in [
            (Some(log(true, false)), Known::Unknown, Known::Yes),
            (Some(log(false, true)), Known::Yes, Known::No),
            (Some(log(true, true)), Known::Yes, Known::No),
            (Some(log(false, false)), Known::Yes, Known::Yes),
            (None, Known::Yes, Known::Yes),
            (None, Known::No, Known::No),
            (None, Known::Unknown, Known::Unknown),
        ] {
            assert_eq!(released(own.as_ref(), logged), expected, "{own:?} {logged:?}");
        }
    }
}
