//! A database that nobody of ours knows: it is frozen, thawed and asked by configured programs.
//!
//! `is_frozen` answers by its exit code: 0 yes, 1 no, anything else (or no answer in time) unknown. `freeze` and `thaw`
//! answer 0 for "done". Argument lists, never a shell line; the program by absolute path or by name in the door's own
//! `PATH`. They see `SNAPFREEZE_ID` and, for the freeze, `SNAPFREEZE_WITHIN_MS`: a freeze that has not been sent by then
//! must not be sent, for what a program leaves behind in the background is out of our reach.
//!
//! There is no log to tell whether another tool thawed and froze again inside the window. So the configuration either
//! names an `epoch` command, whose output changes with every freeze and thaw and must be the same right after our freeze
//! and right before our thaw, or says `continuity = "trust"`; then `check` warns. One of the two is required.

use crate::gtm::call::{become_user, one_line};
use crate::{Check, Engine, Error, Facts, FreezeAnswer, FreezeOrder, Held, Level, Place, Role, Rung, ThawAnswer};
use doors::clock::boot_now;
use doors::exec::{self, Call, Cancel, Ended, Output, Program};
use protocol::outcome::Part;
use protocol::proof::{Disturbed, Known, Proof};
use protocol::wire::Frozen;
use protocol::{BootMs, InstanceName, JournalMark};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// `engine = "command"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    pub name: InstanceName,
    pub freeze: Vec<String>,
    pub thaw: Vec<String>,
    pub is_frozen: Vec<String>,
    /// A second rung, tried when `thaw` did not help. A window that needed it is broken.
    #[serde(default)]
    pub last_resort: Option<Vec<String>>,
    /// Run right after the freeze; its lines `switched=`, `required=` and `offset=` become the journal mark.
    #[serde(default)]
    pub journal_mark: Option<Vec<String>>,
    /// Prints something that changes with every freeze and thaw, whoever makes it.
    #[serde(default)]
    pub epoch: Option<Vec<String>>,
    #[serde(default)]
    pub continuity: Option<Continuity>,
    /// Becomes this user through `setpriv` (or `user:group`).
    #[serde(default)]
    pub run_as: Option<String>,
    /// What a snapshot set must contain, by role: `layout = { data = ["/srv/db"], journal = ["/srv/log"] }`.
    #[serde(default)]
    pub layout: BTreeMap<Role, Vec<PathBuf>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Continuity {
    /// Nobody else freezes or thaws this database: the operator says so.
    Trust,
}

/// A database behind commands.
#[derive(Clone, Debug)]
pub struct Command {
    config: CommandConfig,
    before: Vec<OsString>,
}

/// [`Held::token`].
#[derive(Serialize, Deserialize)]
struct Token {
    epoch: Option<String>,
}

impl Command {
    pub fn new(config: CommandConfig) -> Result<Self, Error> {
        let bad = |why: String| Error::Config { instance: config.name.to_string(), why };
        let lists = [
            ("freeze", Some(&config.freeze)),
            ("thaw", Some(&config.thaw)),
            ("is_frozen", Some(&config.is_frozen)),
            ("last_resort", config.last_resort.as_ref()),
            ("journal_mark", config.journal_mark.as_ref()),
            ("epoch", config.epoch.as_ref()),
        ];
        for (key, list) in lists {
            if list.is_some_and(Vec::is_empty) {
                return Err(bad(format!("{key} = [] names no program")));
            }
        }
        if config.epoch.is_none() && config.continuity.is_none() {
            return Err(bad("set epoch = [\"program\", …] (prints something that changes with every freeze and thaw), or \
                 continuity = \"trust\" when nothing else freezes this database"
                .into()));
        }
        if let Some(path) = config.layout.values().flatten().find(|p| !p.is_absolute()) {
            return Err(bad(format!("layout: {} is not absolute", path.display())));
        }
        let before = match &config.run_as {
            Some(user) => become_user(user).map_err(bad)?,
            None => Vec::new(),
        };
        Ok(Self { config, before })
    }

    fn call(&self, list: &[String]) -> Result<Call, exec::Error> {
        let mut line = self.before.clone();
        // The program is found here even behind setpriv, so that nothing else looks it up.
        let (program, args) = list.split_first().ok_or_else(|| exec::Error::NotFound(String::new()))?;
        line.push(Program::find(program)?.path().into());
        line.extend(args.iter().map(Into::into));
        Ok(Call::new(&Program::find(&line[0].to_string_lossy())?, &line[1..]))
    }

    fn run(&self, list: &[String], by: BootMs) -> Result<Output, exec::Error> {
        self.call(list)?.run(by, None)
    }

    /// Output of a command that ended with 0, trimmed.
    fn read(&self, list: &[String], by: BootMs) -> Result<String, String> {
        let out = self.run(list, by).map_err(|e| e.to_string())?;
        if out.code() == Some(0) {
            Ok(out.out().trim().to_owned())
        } else {
            Err(format!("{} answered {:?}: {}", list[0], out.ended, one_line(&out)))
        }
    }

    fn held(&self, parts: Vec<Part>, by: BootMs) -> Result<Held, String> {
        let mut warnings = Vec::new();
        let epoch = match &self.config.epoch {
            Some(list) => Some(self.read(list, by)?),
            None => None,
        };
        let mut marks = Vec::new();
        if let Some(list) = &self.config.journal_mark {
            match self.read(list, by) {
                Ok(text) => marks.push(parse_mark(&text)),
                Err(why) => warnings.push(format!("no journal mark: {why}")),
            }
        }
        Ok(Held {
            marks,
            token: serde_json::to_value(Token { epoch }).map_err(|e| e.to_string())?,
            warnings,
            evidence: Vec::new(),
            parts,
            sent_after_ms: 0,
        })
    }

    fn alone(&self, held: Option<&Held>, now: Option<Result<String, String>>) -> Result<(), Disturbed> {
        let token = held.and_then(|h| serde_json::from_value::<Token>(h.token.clone()).ok());
        match (token, now) {
            (None, _) => Err(Disturbed::Unreadable("no freeze of ours is known".into())),
            // Without an epoch command the operator has vouched for it.
            (Some(Token { epoch: None }), _) | (_, None) => Ok(()),
            (Some(Token { epoch: Some(_) }), Some(Err(why))) => Err(Disturbed::Unreadable(why)),
            (Some(Token { epoch: Some(then) }), Some(Ok(now))) if then == now => Ok(()),
            (Some(Token { epoch: Some(then) }), Some(Ok(now))) => {
                Err(Disturbed::Other(format!("the epoch was {then:?} after the freeze and is {now:?} before the thaw")))
            }
        }
    }
}

/// `key=value` lines; unknown keys are the command's own business.
fn parse_mark(text: &str) -> JournalMark {
    let mut mark = JournalMark::default();
    for (key, value) in text.lines().filter_map(|l| l.split_once('=')) {
        let value = value.trim();
        match key.trim() {
            "switched" if !value.is_empty() => mark.switched = Some(value.to_owned()),
            "required" if !value.is_empty() => mark.required = Some(value.to_owned()),
            "offset" => mark.offset = value.parse().ok(),
            _ => {}
        }
    }
    mark
}

impl Engine for Command {
    fn discover(&self, by: BootMs) -> Result<Facts, Error> {
        let frozen = self.is_frozen(by);
        let mut checks = Vec::new();
        let mut check = |name: &str, level, text: String| {
            checks.push(Check { name: name.into(), level, text });
        };
        match &frozen {
            Frozen::Yes | Frozen::No => check("is_frozen", Level::Ok, frozen.word().into()),
            Frozen::Unknown(why) => check("is_frozen", Level::Fail, format!("{why}: exit 0 means yes, 1 no")),
        }
        for (key, list) in [("freeze", &self.config.freeze), ("thaw", &self.config.thaw)] {
            match self.call(list) {
                Ok(_) => check(key, Level::Ok, list.join(" ")),
                Err(e) => check(key, Level::Fail, e.to_string()),
            }
        }
        match &self.config.epoch {
            Some(list) => match self.read(list, by) {
                Ok(_) => check("epoch", Level::Ok, list.join(" ")),
                Err(why) => check("epoch", Level::Fail, why),
            },
            None => check(
                "continuity",
                Level::Warn,
                "trusted: another tool's thaw and freeze inside a window would go unseen; name an epoch command".into(),
            ),
        }
        Ok(Facts {
            engine: "command".into(),
            version: String::new(),
            running: !matches!(frozen, Frozen::Unknown(_)),
            status: format!("frozen: {}", frozen.word()),
            frozen,
            journaling: None,
            mirror: None,
            has_suspend_limit: false,
            buffers_last_ms: None,
            guid: None,
            current_journal: None,
            checks,
        })
    }

    fn freeze(&self, order: &FreezeOrder, cancel: &Cancel) -> FreezeAnswer {
        let not_sent = |why: &str| FreezeAnswer::Failed(format!("no freeze was sent: {why}"));
        let began = boot_now();
        match self.is_frozen(order.by) {
            Frozen::No => {}
            Frozen::Yes => return FreezeAnswer::NotOurs("no freeze was sent: it was frozen already".into()),
            Frozen::Unknown(why) => return not_sent(&why),
        }
        let asked = boot_now();
        if cancel.thrown() || asked >= order.by {
            return not_sent("too late or cancelled");
        }
        let call = match self.call(&self.config.freeze) {
            Ok(call) => call.env("SNAPFREEZE_ID", order.id.to_string()).env("SNAPFREEZE_WITHIN_MS", order.by.since(boot_now()).to_string()),
            Err(e) => return not_sent(&e.to_string()),
        };
        let out = match call.run(order.by, Some(cancel)) {
            Ok(out) => out,
            Err(e @ exec::Error::Io { .. }) => return FreezeAnswer::Unknown(e.to_string()),
            Err(e) => return not_sent(&e.to_string()),
        };
        match out.ended {
            Ended::Exited(0) => {}
            Ended::Exited(_) => {
                return FreezeAnswer::Failed(format!("{:?}: {}", out.ended, one_line(&out)));
            }
            Ended::Signaled(_) | Ended::TimedOut | Ended::Cancelled => {
                return FreezeAnswer::Unknown(format!("{:?}: {}", out.ended, one_line(&out)));
            }
        }
        let frozen = boot_now();
        match self.is_frozen(order.by) {
            Frozen::Yes => {}
            Frozen::No => {
                return FreezeAnswer::Unknown("freeze ended with 0, but it is not frozen".into());
            }
            Frozen::Unknown(why) => return FreezeAnswer::Unknown(why),
        }
        let part = |name: &str, from: BootMs, to: BootMs| Part { name: name.into(), at_ms: from.since(began), took_ms: to.since(from) };
        let parts = vec![part("ask", began, asked), part("freeze", asked, frozen), part("ask again", frozen, boot_now())];
        match self.held(parts, order.by) {
            Ok(held) => FreezeAnswer::Frozen(held),
            Err(why) => FreezeAnswer::Unknown(why),
        }
    }

    fn is_frozen(&self, by: BootMs) -> Frozen {
        match self.run(&self.config.is_frozen, by) {
            Ok(out) => match out.ended {
                Ended::Exited(0) => Frozen::Yes,
                Ended::Exited(1) => Frozen::No,
                _ => Frozen::Unknown(format!("is_frozen: {:?}: {}", out.ended, one_line(&out))),
            },
            Err(e) => Frozen::Unknown(format!("is_frozen: {e}")),
        }
    }

    fn thaw(&self, held: Option<&Held>, rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer {
        let began = boot_now();
        let by = || boot_now().plus(rung_ms);
        let before = self.is_frozen(by());
        let epoch = self.config.epoch.as_ref().map(|list| self.read(list, by()));
        let asked = boot_now();
        let mut now = before.clone();
        let mut rungs: Vec<Rung> = Vec::new();
        let mut released = Known::No;
        let ladder = [Some(&self.config.thaw), self.config.last_resort.as_ref()];
        for list in ladder.into_iter().flatten() {
            if now == Frozen::No {
                break;
            }
            let from = boot_now();
            let (said, code) = match self.run(list, by()) {
                Ok(out) => (format!("{:?}: {}", out.ended, one_line(&out)), out.code()),
                Err(e) => (e.to_string(), None),
            };
            now = self.is_frozen(by());
            let thawed = now == Frozen::No;
            released = match (&before, thawed, code) {
                (Frozen::Yes, true, Some(0)) => Known::Yes,
                _ => Known::Unknown,
            };
            let rung = Rung { ran: list.join(" "), took_ms: boot_now().since(from), said, thawed };
            say(&rung);
            rungs.push(rung);
        }
        ThawAnswer {
            proof: Proof {
                frozen_before: Known::from(&before),
                released,
                alone: self.alone(held, epoch),
                same_instance: Ok(()),
                log_clean: Ok(()),
                last_resort: rungs.len() > 1,
            },
            frozen: now,
            evidence: rungs.iter().map(|r| format!("{}: {}", r.ran, r.said)).collect(),
            rungs,
            parts: vec![
                Part { name: "ask".into(), at_ms: 0, took_ms: asked.since(began) },
                Part { name: "thaw".into(), at_ms: asked.since(began), took_ms: boot_now().since(asked) },
            ],
        }
    }

    fn layout(&self, _by: BootMs) -> Result<Vec<Place>, Error> {
        let roles = self.config.layout.iter();
        let all = roles.flat_map(|(role, paths)| paths.iter().map(move |p| Place { role: *role, path: p.clone() }));
        Ok(all.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_from_key_value_lines() {
        let m = parse_mark("switched=/j/2\nrequired = /j/1\noffset=17\nother=x\nnonsense\n");
        assert_eq!(
            m,
            JournalMark { region: String::new(), switched: Some("/j/2".into()), required: Some("/j/1".into()), offset: Some(17) }
        );
    }

    #[test]
    fn a_configuration_says_how_continuity_is_known() {
        let config = |more: &str| {
            let text = format!(r#"{{"name":"c","freeze":["a"],"thaw":["b"],"is_frozen":["c"]{more}}}"#);
            serde_json::from_str::<CommandConfig>(&text).map_err(|e| e.to_string()).and_then(|c| Command::new(c).map_err(|e| e.to_string()))
        };
        assert!(config("").unwrap_err().contains("epoch"));
        assert!(config(r#","epoch":["e"]"#).is_ok() && config(r#","continuity":"trust""#).is_ok());
        assert!(config(r#","epoch":[]"#).unwrap_err().contains("names no program"));
        assert!(config(r#","continuity":"trust","layout":{"data":["x"]}"#).unwrap_err().contains("absolute"));
        assert!(config(r#","thow":["b"]"#).unwrap_err().contains("thow"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_mark_panic(text in "(\\PC|=|\n|offset=|switched=){0,40}") {
            let _ = parse_mark(&text);
        }
    }
}
