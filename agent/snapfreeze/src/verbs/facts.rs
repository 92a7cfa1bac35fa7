//! `facts`: what a coordinator decides on before a freeze, and everything that a freeze would refuse now. Freezes nothing;
//! with an id it leaves the host file in the file systems, for a restore of their snapshots.

use crate::caller::Caller;
use crate::cli;
use crate::config::Config;
use crate::instances;
use crate::layout::{self, HostLayout, InstancePlaces};
use crate::out::Out;
use doors::clock::wall_now;
use engine::iris::config::Scope;
use engine::{InstanceConfig, Mirror};
use protocol::code::exit;
use protocol::wire::{Facts, FreezeState, Frozen, InstanceFacts, Phase, Problem, StatusReply};
use protocol::{BackupId, Code, InstanceName, SCHEMA, WindowRules};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const QUICK: Duration = Duration::from_secs(5);
const LAYOUT: Duration = Duration::from_secs(60);
/// A journal entry has 40 KiB; with less than this free a freeze would soon be refused.
const JOURNAL_FREE: u64 = 1 << 20;

pub async fn facts(config: &Config, args: &cli::Facts, out: Out) -> u8 {
    let f = match gather(config, args.id, args.hold, &args.instances).await {
        Ok(f) => f,
        Err(p) => return out.fail(args.id, &p),
    };
    say(&f, args.id, out);
    exit::DONE
}

/// As the end of a verb.
pub fn say(f: &Facts, id: Option<BackupId>, out: Out) {
    let codes: Vec<Code> = f.problems.iter().map(|p| p.code).collect();
    out.answer("facts", f, &json!({ "id": id, "phase": f.phase, "left_frozen": f.left_frozen, "problems": codes }));
    out.say(format!("{}: agent {}, {:?}, holds of at most {} s", f.host, f.agent_version, f.phase, f.largest_hold_ms / 1000));
    for i in &f.instances {
        let role = [&i.mirror, &i.member_role].into_iter().filter(|s| !s.is_empty()).cloned().collect::<Vec<_>>().join(" ");
        out.say(format!("  {}: {} {} {role} frozen: {}", i.instance, i.engine, i.engine_version, i.frozen.word()));
    }
    for v in &f.volumes {
        out.say(format!("  {} ({}) carries {} of {}", v.volume, v.device, v.roles.join(", "), v.mounts.join(", ")));
    }
    for p in &f.problems {
        out.say(format!("would be refused: {}: {} ({})", p.code, p.detail, p.next));
    }
}

/// An agent that does not answer is an error; everything else that is wrong is in the answer.
pub async fn gather(config: &Config, id: Option<BackupId>, hold_ms: Option<u64>, names: &[InstanceName]) -> Result<Facts, Problem> {
    let caller = Caller::new(config);
    let status: StatusReply = caller.client().get("/v1/status", QUICK).await?;
    let mut problems = Vec::new();
    problems.extend(busy(&status, id));
    problems.extend(used(&caller, id).await);
    problems.extend(no_room(config));
    let rules = match config.window.rules(hold_ms) {
        Ok(r) => r,
        Err(e) => {
            problems.push(Problem::new(Code::RefusedHold, e.to_string()).next("ask for a shorter hold"));
            // The configured one, which is valid, for the other questions.
            config.window.rules(None).map_err(|e| Problem::new(Code::ConfigInvalid, e.to_string()))?
        }
    };
    let host = match caller.client().get::<HostLayout>("/v1/layout", LAYOUT).await {
        Ok(h) => Some(h.only(names)),
        Err(p) => {
            problems.push(p);
            None
        }
    };
    let mut found = Vec::new();
    let mut volumes = Vec::new();
    if let Some(host) = host {
        problems.extend(missing(&host, names));
        let configs = configs(config, &mut problems);
        for i in &host.instances {
            found.push(instance(i, configs.get(&i.instance), &rules, &mut problems));
        }
        if is_repeated(&status, id) {
            problems.retain(|p| p.code != Code::RefusedAlreadyFrozen); // by this very backup
        }
        problems.extend(layout::in_the_cloud(&host.layout).err());
        if let Some(id) = id {
            // Where it cannot be written a restore asks a person; that is no reason to have no backup.
            super::restore::image::leave(id, &host).await;
        }
        volumes = layout::volumes(&host.layout);
    }
    Ok(Facts {
        schema: SCHEMA,
        agent_version: status.agent_version,
        host: layout::hostname(),
        now: wall_now(),
        phase: status.phase,
        left_frozen: status.left_frozen,
        largest_hold_ms: config.window.largest_hold_ms(),
        instances: found,
        volumes,
        problems,
        extra_tags: config.tags.clone(),
    })
}

/// A repeated order gets the first one's answer.
fn is_repeated(s: &StatusReply, id: Option<BackupId>) -> bool {
    s.phase == Phase::Frozen && id.is_some() && s.id == id
}

fn busy(s: &StatusReply, id: Option<BackupId>) -> Option<Problem> {
    match s.phase {
        Phase::Idle | Phase::Ended | Phase::Tombstone => None,
        Phase::Frozen if is_repeated(s, id) => None,
        Phase::Guarding => Some(Problem::new(Code::RefusedGuarding, Code::RefusedGuarding.says()).next("try again in about a minute")),
        Phase::Arming | Phase::Freezing | Phase::Frozen | Phase::Thawing => {
            let whose = s.id.map_or_else(String::new, |id| format!(": {id} by {}", s.by));
            Some(
                Problem::new(Code::RefusedBusy, format!("{}{whose}", Code::RefusedBusy.says()))
                    .next("wait for it, or see `snapfreeze status`"),
            )
        }
    }
}

async fn used(caller: &Caller<'_>, id: Option<BackupId>) -> Option<Problem> {
    let state = caller.client().get::<FreezeState>(&format!("/v1/freezes/{}", id?), QUICK).await.ok()?;
    matches!(state.phase, Phase::Ended | Phase::Tombstone)
        .then(|| Problem::new(Code::RefusedUsedId, Code::RefusedUsedId.says()).next("use a new backup id"))
}

fn no_room(config: &Config) -> Option<Problem> {
    let s = rustix::fs::statvfs(&config.dirs.state).ok()?;
    let next = "free space there: without a journal entry nothing is frozen";
    let text = || format!("less than 1 MiB is free at {}", config.dirs.state.display());
    (s.f_bavail * s.f_frsize < JOURNAL_FREE).then(|| Problem::new(Code::RefusedNotArmed, text()).next(next))
}

fn missing(host: &HostLayout, names: &[InstanceName]) -> Vec<Problem> {
    if host.instances.is_empty() && names.is_empty() {
        let p = Problem::new(Code::RefusedInstance, "no instance is configured and none was found on this host");
        return vec![p.next("name one in an [[instance]] table, or install the engine's command (`iris list` must work)")];
    }
    let unknown = names.iter().filter(|n| !host.instances.iter().any(|i| i.instance == **n));
    unknown.map(|n| Problem::new(Code::RefusedInstance, format!("no instance {n} here")).next("run `snapfreeze check`")).collect()
}

/// Each instance's own rules (mirror member, limits).
fn configs(config: &Config, problems: &mut Vec<Problem>) -> BTreeMap<InstanceName, InstanceConfig> {
    match instances::open(config) {
        Ok(set) => set.iter().map(|i| (i.name.clone(), i.config.clone())).collect(),
        Err(p) => {
            problems.push(p);
            BTreeMap::new()
        }
    }
}

fn instance(i: &InstancePlaces, config: Option<&InstanceConfig>, rules: &WindowRules, problems: &mut Vec<Problem>) -> InstanceFacts {
    let Some(f) = &i.facts else {
        let why = format!("{} does not answer", i.instance);
        problems.push(Problem::new(Code::RefusedInstance, &why).next("run `snapfreeze check`"));
        return InstanceFacts {
            instance: i.instance.clone(),
            engine: String::new(),
            engine_version: String::new(),
            guid: String::new(),
            mirror: String::new(),
            member_role: String::new(),
            scope: String::new(),
            frozen: Frozen::Unknown(why),
            buffers_last_ms: None,
        };
    };
    if let Some(c) = config {
        let named = |mut p: Problem| {
            p.detail = format!("{}: {}", i.instance, p.detail);
            p
        };
        problems.extend(engine::admit::admit(f, rules, c).err().map(named));
    }
    InstanceFacts {
        instance: i.instance.clone(),
        engine: f.engine.clone(),
        engine_version: f.version.clone(),
        guid: f.guid.clone().unwrap_or_default(),
        mirror: f.mirror.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
        member_role: f.mirror.as_ref().map(role).unwrap_or_default(),
        scope: config.map(scope).unwrap_or_default(),
        frozen: f.frozen.clone(),
        buffers_last_ms: f.buffers_last_ms,
    }
}

/// The live role. IRIS says `CONNECTED` of a member that copies and is none of the failover pair.
fn role(m: &Mirror) -> String {
    match m.status.as_str() {
        "CONNECTED" if m.member_type != "Failover" => "async".into(),
        other => other.to_lowercase(),
    }
}

/// `system`, or the databases that are to be taken.
pub fn scope(config: &InstanceConfig) -> String {
    match config {
        InstanceConfig::Iris(c) | InstanceConfig::Cache(c) if c.scope == Scope::Databases => {
            c.databases.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(",")
        }
        InstanceConfig::Iris(_) | InstanceConfig::Cache(_) | InstanceConfig::Gtm(_) | InstanceConfig::Command(_) => "system".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_hold_is_the_last_one_that_the_limits_allow() {
        for text in [
            "",
            "[window]\non_overrun = \"block-users\"",
            "[window]\nwd_suspend_limit = \"60s\"",
            "[window]\nhold = \"5s\"\nexternal_freeze_timeout = \"31s\"",
        ] {
            let c = Config::parse(text, std::path::Path::new("x")).unwrap();
            let h = c.window.largest_hold_ms();
            assert!(c.window.rules(Some(h)).is_ok() && c.window.rules(Some(h + 1)).is_err(), "{text}: {h}");
        }
        let c = Config::parse("[window]\non_overrun = \"block-users\"", std::path::Path::new("x")).unwrap();
        assert_eq!(c.window.largest_hold_ms(), 1_179_000);
    }

    #[test]
    fn a_member_that_only_copies_is_async() {
        let m =
            |member_type: &str, status: &str| role(&Mirror { name: "M".into(), member_type: member_type.into(), status: status.into() });
        assert_eq!(m("Failover", "PRIMARY"), "primary");
        assert_eq!(m("Failover", "BACKUP"), "backup");
        assert_eq!(m("Disaster Recovery", "CONNECTED"), "async");
        assert_eq!(m("Failover", "CONNECTED"), "connected");
    }
}
