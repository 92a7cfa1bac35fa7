//! The configured or discovered instances, and what is done to all of them at once.

use crate::config::Config;
use doors::clock::boot_now;
use doors::exec::Cancel;
use engine::{FreezeAnswer, FreezeOrder, Held, Instance, InstanceConfig, Rung, ThawAnswer};
use lifecycle::{FreezeOutcome, ThawOutcome};
use protocol::wire::{Frozen, Problem};
use protocol::{BootMs, Code, InstanceName, Known, Proof};
use std::collections::BTreeMap;
use std::sync::Arc;

pub type Set = Vec<Arc<Instance>>;

/// What is configured, or else what is found.
pub fn configs(config: &Config) -> Result<Vec<InstanceConfig>, Problem> {
    let configs = if config.instances.is_empty() {
        let found = engine::discover().map_err(|e| {
            Problem::new(Code::RefusedInstance, crate::chain(&e)).next("name the instance in an [[instance]] table of the configuration")
        })?;
        // The instance for drills is not one to be backed up.
        found.into_iter().filter(|c| Some(c.name()) != config.drill.instance.as_ref()).collect()
    } else {
        config.instances.clone()
    };
    Ok(configs.into_iter().map(|c| own_log_dir(c, config)).collect())
}

/// Opens all of them. One that cannot be opened is named, not skipped.
pub fn open(config: &Config) -> Result<Set, Problem> {
    configs(config)?
        .into_iter()
        .map(|c| {
            let name = c.name().clone();
            engine::open(c).map(Arc::new).map_err(|e| {
                Problem::new(Code::ConfigInvalid, format!("instance {name}: {}", crate::chain(&e))).next("run `snapfreeze check`")
            })
        })
        .collect()
}

/// An IRIS LogFile goes below our own run directory unless the instance names another place.
fn own_log_dir(mut c: InstanceConfig, config: &Config) -> InstanceConfig {
    if let InstanceConfig::Iris(i) | InstanceConfig::Cache(i) = &mut c
        && i.exec_prefix.is_empty()
        && i.log_dir == std::path::Path::new(engine::iris::config::DEFAULT_LOG_DIR)
    {
        i.log_dir = config.dirs.run.join("log");
    }
    c
}

/// The wanted ones of a set; empty means all.
pub fn choose(set: &Set, wanted: &[InstanceName]) -> Result<Set, Problem> {
    let known = || set.iter().map(|i| i.name.to_string()).collect::<Vec<_>>().join(", ");
    if set.is_empty() {
        return Err(Problem::new(Code::RefusedInstance, "no instance is configured and none was found on this host")
            .next("name one in an [[instance]] table, or install the engine's command (`iris list` must work)"));
    }
    if wanted.is_empty() {
        return Ok(set.clone());
    }
    wanted
        .iter()
        .map(|w| {
            set.iter()
                .find(|i| i.name == *w)
                .cloned()
                .ok_or_else(|| Problem::new(Code::RefusedInstance, format!("no instance {w} here; there is: {}", known())))
        })
        .collect()
}

fn in_parallel<T: Send>(set: &Set, act: impl Fn(&Instance) -> T + Sync) -> Vec<(InstanceName, T)> {
    std::thread::scope(|s| {
        let act = &act;
        let running: Vec<_> = set.iter().map(|i| (i.name.clone(), s.spawn(move || act(i)))).collect();
        running.into_iter().map(|(n, t)| (n, t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))).collect()
    })
}

/// All at once; the first that does not freeze ends the others.
pub fn freeze(set: &Set, order: &FreezeOrder, cancel: &Cancel) -> (FreezeOutcome, Vec<(InstanceName, FreezeAnswer)>) {
    let answers = in_parallel(set, |i| {
        let a = i.engine.freeze(order, cancel);
        if !matches!(a, FreezeAnswer::Frozen(_)) {
            cancel.throw();
        }
        a
    });
    (outcome_of(&answers), answers)
}

/// One doubtful member makes the set doubtful. Only a set of which nothing at all was sent is not ours.
fn outcome_of(answers: &[(InstanceName, FreezeAnswer)]) -> FreezeOutcome {
    let any = |is: fn(&FreezeAnswer) -> bool| answers.iter().any(|(_, a)| is(a));
    if any(|a| matches!(a, FreezeAnswer::Unknown(_))) {
        FreezeOutcome::Unknown
    } else if answers.iter().all(|(_, a)| matches!(a, FreezeAnswer::NotOurs(_))) {
        FreezeOutcome::NotOurs
    } else if any(|a| !matches!(a, FreezeAnswer::Frozen(_))) {
        FreezeOutcome::Failed
    } else {
        FreezeOutcome::Frozen
    }
}

/// One round of every instance's ladder. `proofs` keeps, over the rounds, what the releasing thaw of each said.
pub fn thaw(
    set: &Set,
    held: &BTreeMap<InstanceName, Held>,
    proofs: &mut BTreeMap<InstanceName, Proof>,
    rung_ms: u64,
    say: &(dyn Fn(&InstanceName, &Rung) + Sync),
) -> (ThawOutcome, Vec<(InstanceName, ThawAnswer)>) {
    let answers = in_parallel(set, |i| i.engine.thaw(held.get(&i.name), rung_ms, &|r| say(&i.name, r)));
    for (name, a) in &answers {
        let released_before = proofs.get(name).is_some_and(|p| p.released == Known::Yes);
        if a.frozen == Frozen::No && !released_before {
            proofs.insert(name.clone(), a.proof.clone());
        }
        if a.frozen != Frozen::No {
            proofs.remove(name);
        }
    }
    let outcome = if answers.is_empty() {
        ThawOutcome::Unknown // nobody was asked, so nothing is known
    } else if answers.iter().any(|(_, a)| a.frozen == Frozen::Yes) {
        ThawOutcome::StillFrozen
    } else if answers.iter().any(|(_, a)| a.frozen != Frozen::No) {
        ThawOutcome::Unknown
    } else {
        ThawOutcome::NotFrozen(proofs.values().cloned().fold(Proof::good(), Proof::and))
    };
    (outcome, answers)
}

pub fn ask(set: &Set, ms: u64) -> Vec<(InstanceName, Frozen)> {
    let by: BootMs = boot_now().plus(ms);
    in_parallel(set, |i| i.engine.is_frozen(by))
}

/// Of a whole set: one frozen is frozen, otherwise one unknown is unknown, and so is an empty set.
pub fn worst(answers: &[(InstanceName, Frozen)]) -> Known {
    let has = |k: fn(&Frozen) -> bool| answers.iter().any(|(_, f)| k(f));
    if has(|f| matches!(f, Frozen::Yes)) {
        Known::Yes
    } else if answers.is_empty() || has(|f| matches!(f, Frozen::Unknown(_))) {
        Known::Unknown
    } else {
        Known::No
    }
}
