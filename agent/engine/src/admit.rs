//! Whether this instance may be frozen now, decided from what `discover` found. Pure. Doubt is a refusal that says why
//! and what to do next; what the vendor calls normal is a warning.

use crate::iris::config::Member;
use crate::{Facts, InstanceConfig, Journaling, Level};
use protocol::window::SuspendLimit;
use protocol::wire::{Frozen, Problem};
use protocol::{Code, WindowRules};

/// Warnings, or the first reason against it.
pub fn admit(facts: &Facts, rules: &WindowRules, config: &InstanceConfig) -> Result<Vec<String>, Problem> {
    let name = config.name();
    if !facts.running {
        return Err(refuse(
            Code::RefusedInstance,
            format!("{name} is not running: {}", facts.status),
            "start the instance, or leave it out of the set",
        ));
    }
    match &facts.frozen {
        Frozen::No => {}
        Frozen::Yes => {
            return Err(refuse(
                Code::RefusedAlreadyFrozen,
                format!("{name} is frozen already"),
                "find out who holds it (`snapfreeze status`, messages.log); `snapfreeze thaw` releases it",
            ));
        }
        Frozen::Unknown(why) => {
            return Err(refuse(
                Code::RefusedInstance,
                format!("{name} does not say whether it is frozen: {why}"),
                "make the login work (`snapfreeze setup iris --print`, `snapfreeze check`)",
            ));
        }
    }
    if let Some(bad) = facts.checks.iter().find(|c| c.level == Level::Fail && !has_code_of_its_own(&c.name)) {
        return Err(refuse(Code::RefusedInstance, format!("{name}: {}: {}", bad.name, bad.text), "`snapfreeze check` lists what is wrong"));
    }
    let mut warnings: Vec<String> =
        facts.checks.iter().filter(|c| c.level == Level::Warn).map(|c| format!("{name}: {}: {}", c.name, c.text)).collect();
    journaling(facts, name.as_str(), &mut warnings)?;
    role(facts, config)?;
    buffers(facts, rules, name.as_str())?;
    suspend_limit(facts, rules, config, &mut warnings)?;
    Ok(warnings)
}

fn refuse(code: Code, detail: String, next: &str) -> Problem {
    Problem::new(code, detail).next(next)
}

/// Checks whose failure is refused below under a more exact name.
fn has_code_of_its_own(check: &str) -> bool {
    check == "journaling"
}

fn journaling(facts: &Facts, name: &str, warnings: &mut Vec<String>) -> Result<(), Problem> {
    match &facts.journaling {
        Some(Journaling::Normal) => Ok(()),
        Some(Journaling::Other(state)) => Err(refuse(
            Code::RefusedJournaling,
            format!("journaling of {name} is {state}"),
            "bring journaling back to Normal first: without it no transaction open at the freeze can be rolled back",
        )),
        None => {
            warnings.push(format!("{name} does not say in which state its journaling is"));
            Ok(())
        }
    }
}

/// The member rule, by the live role.
fn role(facts: &Facts, config: &InstanceConfig) -> Result<(), Problem> {
    let (InstanceConfig::Iris(c) | InstanceConfig::Cache(c)) = config else {
        return Ok(());
    };
    let Some(mirror) = &facts.mirror else {
        return match c.member {
            Member::Any => Ok(()),
            Member::Primary | Member::Backup => Err(refuse(
                Code::RefusedRole,
                format!("{} is no mirror member, but member = {:?} is set", c.name, word(c.member)),
                "set member = \"any\", or see why the instance has left its mirror",
            )),
        };
    };
    let wrong = |wanted: &str| {
        Err(refuse(
            Code::RefusedRole,
            format!("{} is {} of mirror {}, and only the {wanted} member is backed up", c.name, mirror.status, mirror.name),
            "nothing to do: the other member makes the backup; member = \"any\" takes whichever is there",
        ))
    };
    match (c.member, mirror.status.as_str()) {
        (_, "TRANSITION" | "SYNCHRONIZING" | "CRASHED" | "") => Err(refuse(
            Code::RefusedRole,
            format!("{} is changing its role in mirror {} ({:?})", c.name, mirror.name, mirror.status),
            "wait until the mirror has settled",
        )),
        (Member::Any, _) | (Member::Primary, "PRIMARY") | (Member::Backup, "BACKUP") => Ok(()),
        // An async member is no failover member, but "backup" asks for a copy that users do not work on.
        (Member::Backup, "CONNECTED") if mirror.member_type != "Failover" => Ok(()),
        (Member::Primary, _) => wrong("primary"),
        (Member::Backup, _) => wrong("backup"),
    }
}

const fn word(member: Member) -> &'static str {
    match member {
        Member::Any => "any",
        Member::Primary => "primary",
        Member::Backup => "backup",
    }
}

/// Rule 8: full buffers stop users long before any time-out.
fn buffers(facts: &Facts, rules: &WindowRules, name: &str) -> Result<(), Problem> {
    match facts.buffers_last_ms {
        Some(last) if last < rules.hold.ms() => Err(refuse(
            Code::RefusedBuffers,
            format!("the buffers of {name} last about {last} ms at the present write rate, the hold is {} ms", rules.hold.ms()),
            "freeze at a quieter time, shorten the hold, or give the instance more buffers",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Rule 2: an engine without a limit of its own is found out before the freeze.
fn suspend_limit(facts: &Facts, rules: &WindowRules, config: &InstanceConfig, warnings: &mut Vec<String>) -> Result<(), Problem> {
    let (InstanceConfig::Iris(c) | InstanceConfig::Cache(c)) = config else {
        // Rule 9: no such engine has a limit; the service manager stands in for it.
        return Ok(());
    };
    let name = &c.name;
    if c.freeze_with.is_some() {
        warnings.push(format!("{name}: freeze_with decides by itself about time-outs; wd_suspend_limit is not passed on"));
        return Ok(());
    }
    match (facts.has_suspend_limit, rules.wd_suspend_limit) {
        (true, SuspendLimit::Secs(_)) => {}
        (true, SuspendLimit::None) => warnings.push(format!("{name}: wd_suspend_limit = \"none\": the engine will not free itself")),
        (false, _) => warnings.push(format!("{name}: this engine has no limit of its own, so only agent and watchdog can thaw it")),
    }
    // The engine's own block of users must not come before the hold is over (the rules guarantee it for their own values).
    let needs_s = rules.hold.ms().div_ceil(1000);
    if rules.external_freeze_timeout_s <= needs_s {
        return Err(refuse(
            Code::RefusedHold,
            format!("a hold of {needs_s} s does not fit into ExternalFreezeTimeOut = {} s", rules.external_freeze_timeout_s),
            "shorten the hold or raise external_freeze_timeout (at most 1200 s)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IrisConfig;
    use crate::{Check, Mirror};
    use protocol::window::Margins;
    use protocol::{HoldMs, OnOverrun};

    fn facts() -> Facts {
        Facts {
            engine: "iris".into(),
            version: "2024.1".into(),
            running: true,
            status: "running, since Wed Aug  4 07:12:45 2021".into(),
            frozen: Frozen::No,
            journaling: Some(Journaling::Normal),
            mirror: None,
            has_suspend_limit: true,
            buffers_last_ms: None,
            guid: None,
            current_journal: None,
            checks: vec![],
        }
    }
    fn rules() -> WindowRules {
        WindowRules::new(HoldMs::new(30_000).unwrap(), OnOverrun::FailBackup, None, None, Margins::default()).unwrap()
    }
    fn config(member: Member) -> InstanceConfig {
        let mut c = IrisConfig::named("IRIS".parse().unwrap());
        c.member = member;
        InstanceConfig::Iris(c)
    }
    fn mirror(member_type: &str, status: &str) -> Option<Mirror> {
        Some(Mirror { name: "MIR".into(), member_type: member_type.into(), status: status.into() })
    }
    fn check(name: &str, level: Level) -> Check {
        Check { name: name.into(), level, text: "text".into() }
    }

    #[test]
    fn the_table_of_refusals() {
        type Change = fn(&mut Facts);
        let cases: [(&str, Change, Option<Code>); 12] = [
            ("all well", |_| {}, None),
            ("down", |f| f.running = false, Some(Code::RefusedInstance)),
            ("frozen", |f| f.frozen = Frozen::Yes, Some(Code::RefusedAlreadyFrozen)),
            ("doubt", |f| f.frozen = Frozen::Unknown("login hangs".into()), Some(Code::RefusedInstance)),
            ("hung", |f| f.checks = vec![check("health", Level::Fail)], Some(Code::RefusedInstance)),
            (
                "journaling failed as a check",
                |f| {
                    f.checks = vec![check("journaling", Level::Fail)];
                    f.journaling = Some(Journaling::Other("Disabled".into()));
                },
                Some(Code::RefusedJournaling),
            ),
            ("journaling", |f| f.journaling = Some(Journaling::Other("Suspended".into())), Some(Code::RefusedJournaling)),
            ("journaling not said", |f| f.journaling = None, None),
            ("buffers", |f| f.buffers_last_ms = Some(29_999), Some(Code::RefusedBuffers)),
            ("buffers last", |f| f.buffers_last_ms = Some(30_000), None),
            ("mirror in transition", |f| f.mirror = mirror("Failover", "TRANSITION"), Some(Code::RefusedRole)),
            ("no limit of its own", |f| f.has_suspend_limit = false, None),
        ];
        for (what, change, expected) in cases {
            let mut f = facts();
            change(&mut f);
            let answer = admit(&f, &rules(), &config(Member::Any));
            assert_eq!(answer.as_ref().err().map(|p| p.code), expected, "{what}");
            if let Err(p) = answer {
                assert!(!p.next.is_empty() && p.detail.contains("IRIS"), "{what}: {p:?}");
            }
        }
    }

    #[test]
    fn the_member_rule_by_the_live_role() {
        let cases = [
            (Member::Any, None, true),
            (Member::Primary, None, false),
            (Member::Backup, None, false),
            (Member::Any, mirror("Failover", "PRIMARY"), true),
            (Member::Primary, mirror("Failover", "PRIMARY"), true),
            (Member::Backup, mirror("Failover", "PRIMARY"), false),
            (Member::Any, mirror("Failover", "BACKUP"), true),
            (Member::Primary, mirror("Failover", "BACKUP"), false),
            (Member::Backup, mirror("Failover", "BACKUP"), true),
            (Member::Backup, mirror("Disaster Recovery", "CONNECTED"), true),
            (Member::Backup, mirror("Failover", "CONNECTED"), false),
            (Member::Any, mirror("Failover", "CRASHED"), false),
            (Member::Any, mirror("Failover", ""), false),
        ];
        for (member, mirror, allowed) in cases {
            let shown = format!("{member:?} {mirror:?}");
            let f = Facts { mirror, ..facts() };
            let answer = admit(&f, &rules(), &config(member));
            assert_eq!(answer.is_ok(), allowed, "{shown}");
            assert!(allowed || answer.unwrap_err().code == Code::RefusedRole, "{shown}");
        }
    }

    #[test]
    fn an_engine_without_a_limit_and_warnings_of_discover_are_passed_on() {
        let mut f = facts();
        f.has_suspend_limit = false;
        f.checks = vec![check("freeze-on-error", Level::Warn), check("login", Level::Ok)];
        let w = admit(&f, &rules(), &config(Member::Any)).unwrap();
        assert_eq!(w.len(), 2, "{w:?}");
        assert!(w[0].contains("freeze-on-error") && w[1].contains("no limit of its own"));
        let over =
            WindowRules::new(HoldMs::new(30_000).unwrap(), OnOverrun::BlockUsers, None, Some(SuspendLimit::None), Margins::default())
                .unwrap();
        assert!(admit(&facts(), &over, &config(Member::Any)).unwrap()[0].contains("will not free itself"));
    }
}
