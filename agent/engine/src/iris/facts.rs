//! What is there before anything is frozen: registry, one script, CPF. Changes nothing.

use super::find::Located;
use super::script::{Reply, Script, nonce};
use super::{Iris, ask, freeze_script};
use crate::{Check, Error, Facts, Journaling, Level, Mirror};
use protocol::BootMs;
use protocol::wire::Frozen;

impl Iris {
    pub(super) fn discover_facts(&self, by: BootMs) -> Result<Facts, Error> {
        let located = self.locate(by)?;
        let l = &located.listed;
        let mut facts = Facts {
            engine: self.product.word().into(),
            version: l.version.clone(),
            running: l.running(),
            status: status(&located),
            frozen: Frozen::Unknown("not asked".into()),
            journaling: None,
            mirror: None,
            has_suspend_limit: false,
            buffers_last_ms: None,
            guid: None,
            current_journal: None,
            checks: Vec::new(),
        };
        facts.checks.extend(self.registry_checks(&located));
        if l.running() {
            match self.ask_everything(by) {
                Ok(reply) => self.fill(&mut facts, &reply),
                Err(why) => {
                    facts.frozen = ask::is_frozen(&self.runner, by);
                    facts.checks.push(check(
                        "login",
                        Level::Fail,
                        format!("no answer from a session: {why} (see `snapfreeze setup iris --print`)"),
                    ));
                }
            }
        } else if l.down() {
            facts.frozen = Frozen::No;
        }
        Ok(facts)
    }

    fn registry_checks(&self, located: &Located) -> Vec<Check> {
        let l = &located.listed;
        let mut checks = vec![if l.running() {
            check("instance", Level::Ok, l.status.clone())
        } else {
            check("instance", Level::Fail, format!("{} (start it: {})", l.status, self.runner.shown(&["start", &l.name])))
        }];
        if let Some(c) = health(&l.health) {
            checks.push(c);
        }
        match located.cpf.freeze_on_error() {
            Some(false) => checks.push(check(
                "freeze-on-error",
                Level::Warn,
                "[Journal] FreezeOnError is 0: a journal error during a freeze loses updates (the vendor advises 1)".into(),
            )),
            Some(true) => checks.push(check("freeze-on-error", Level::Ok, "[Journal] FreezeOnError is 1".into())),
            None => {}
        }
        checks.push(self.log_dir_check());
        checks
    }

    fn log_dir_check(&self) -> Check {
        let dir = self.config.log_dir.display();
        if self.runner.in_container() {
            return check(
                "log-dir",
                Level::Ok,
                format!("{dir} inside the container must be writable for the instance, and not on a disk that is frozen"),
            );
        }
        if self.config.log_dir.is_dir() {
            check("log-dir", Level::Ok, format!("{dir} is there"))
        } else {
            check(
                "log-dir",
                Level::Fail,
                format!("{dir} is missing: the freeze could not open its LogFile (create it, writable for the instance's user)"),
            )
        }
    }

    fn ask_everything(&self, by: BootMs) -> Result<Reply, String> {
        let nonce = nonce().map_err(|e| e.to_string())?;
        let mut s = Script::new(&nonce);
        s.ask("VERSION", "$ZVERSION");
        s.ask("WDS", ask::IS_SUSPENDED);
        s.ask("STATE", "##class(%SYS.Journal.System).GetStateString()");
        s.ask("CUR", ask::CURRENT_FILE);
        s.ask("MEMBER", "$SYSTEM.Mirror.IsMember()");
        s.ask("MNAME", "$SYSTEM.Mirror.MirrorName()");
        s.ask("MTYPE", "$SYSTEM.Mirror.GetMemberType()");
        s.ask("MIR", ask::MIRROR);
        // Seen in a public routine only, so an empty answer is as good.
        s.ask("GUID", "##class(%SYS.System).InstanceGUID()");
        s.line("set sfd=\"\"");
        s.line(freeze_script::FORMAL_SPEC);
        s.say("SPEC", "sfd");
        let output = self.runner.session(&s.end("5"), by, None).map_err(|e| e.to_string())?;
        Reply::parse(&output.out(), &nonce).filter(|r| r.complete).ok_or_else(|| self.runner.said(&output))
    }

    fn fill(&self, facts: &mut Facts, r: &Reply) {
        facts.checks.push(check("login", Level::Ok, "a session answers".into()));
        if let Some(v) = r.some("VERSION") {
            facts.version = v;
        }
        facts.frozen = match r.get("WDS") {
            "1" => Frozen::Yes,
            "0" => Frozen::No,
            other => Frozen::Unknown(format!("IsWDSuspended answered {other:?}: has the user the right to use Backup.General?")),
        };
        facts.journaling = r.some("STATE").map(|s| if s == "Normal" { Journaling::Normal } else { Journaling::Other(s) });
        facts.checks.push(match &facts.journaling {
            Some(Journaling::Normal) => check("journaling", Level::Ok, "Normal".into()),
            Some(Journaling::Other(s)) => {
                check("journaling", Level::Fail, format!("{s}: no freeze until journaling is Normal again (^JOURNAL)"))
            }
            None => check("journaling", Level::Warn, "the engine does not say".into()),
        });
        facts.current_journal = r.some("CUR");
        facts.guid = r.some("GUID");
        facts.mirror = matches!(r.get("MEMBER"), "1" | "2").then(|| Mirror {
            name: r.get("MNAME").into(),
            member_type: r.get("MTYPE").into(),
            status: r.get("MIR").into(),
        });
        let spec = r.get("SPEC");
        facts.has_suspend_limit = spec.contains("WDSuspendLimit");
        facts.checks.push(if facts.has_suspend_limit {
            check("suspend-limit", Level::Ok, "ExternalFreeze has WDSuspendLimit: the engine can free itself".into())
        } else if spec.is_empty() {
            check(
                "suspend-limit",
                Level::Warn,
                "whether ExternalFreeze has WDSuspendLimit cannot be read (%Dictionary.CompiledMethod)".into(),
            )
        } else {
            check(
                "suspend-limit",
                Level::Warn,
                "this version's ExternalFreeze has no WDSuspendLimit: the engine cannot free itself, only agent and watchdog thaw".into(),
            )
        });
        if !spec.is_empty() && !spec.contains("RequiredFile") {
            facts.checks.push(check(
                "required-file",
                Level::Warn,
                "this version's ExternalFreeze does not name the oldest journal needed: keep journals from before the switch".into(),
            ));
        }
    }
}

fn check(name: &str, level: Level, text: String) -> Check {
    Check { name: name.into(), level, text }
}

fn status(located: &Located) -> String {
    let l = &located.listed;
    if l.health.is_empty() { l.status.clone() } else { format!("{}; state {}", l.status, l.health) }
}

/// Monitoring Guide: `hung` when the write daemon is stopped for any reason, also by a freeze.
fn health(word: &str) -> Option<Check> {
    match word {
        "" => None,
        "ok" => Some(check("health", Level::Ok, "ok".into())),
        "warn" => Some(check("health", Level::Warn, "warn: see messages.log".into())),
        bad => Some(check("health", Level::Fail, format!("{bad}: see messages.log before anything is frozen"))),
    }
}
