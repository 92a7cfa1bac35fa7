//! Every reachable state of machine × host, with commands that land late, die and outlive the agent, thaws before
//! freezes, watchdogs that die, restarts and other tools. The tenets are asserted in each.
//!
//! One unit of time is one second. A scenario bounds what may go wrong; within it nothing is sampled.

mod world;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use world::{Budget, World};

fn explore(name: &str, budget: Budget, at_least: usize) {
    let mut seen: HashSet<u64> = HashSet::new();
    let mut stack = vec![(World::new(budget), 0usize)];
    let mut trail: Vec<String> = Vec::new();
    let mut reached: std::collections::BTreeMap<&'static str, usize> = Default::default();
    while let Some((world, depth)) = stack.pop() {
        trail.truncate(depth);
        trail.push(world.why.clone());
        if !seen.insert(hash(&world)) {
            continue;
        }
        for s in world.sometimes() {
            *reached.entry(s).or_default() += 1;
        }
        if let Err(broken) = world.check() {
            panic!("{name}: {broken}\n  trail:\n    {}\n  world: {world:#?}", trail.join("\n    "));
        }
        for next in world.successors() {
            stack.push((next, depth + 1));
        }
    }
    println!("{name}: {} states, {reached:?}", seen.len());
    assert!(seen.len() >= at_least, "{name} explored only {} states", seen.len());
    for must in budget.must_reach() {
        assert!(reached.contains_key(must), "{name} never reached {must:?}: the exploration proves nothing about it");
    }
}

fn hash(w: &World) -> u64 {
    let mut h = DefaultHasher::new();
    w.hash(&mut h);
    h.finish()
}

const CALM: Budget = Budget {
    freezes: 1,
    thaws: 1,
    agent_kills: 0,
    dog_kills: 0,
    thaw_failures: 0,
    other_acts: 0,
    stops: 0,
    records_lost: 0,
    second_id: false,
};

#[test]
fn undisturbed() {
    explore("undisturbed", CALM, 100);
}
#[test]
fn agent_and_watchdog_are_killed() {
    explore("kills", Budget { agent_kills: 1, dog_kills: 1, ..CALM }, 1000);
}
#[test]
fn the_agent_is_killed_twice() {
    explore("two kills", Budget { agent_kills: 2, thaws: 0, ..CALM }, 1000);
}
#[test]
fn the_watchdog_is_killed_twice() {
    explore("two dogs", Budget { dog_kills: 2, ..CALM }, 1000);
}
#[test]
fn thaws_fail() {
    explore("thaws fail", Budget { thaw_failures: 2, agent_kills: 1, ..CALM }, 1000);
}
#[test]
fn another_tool_thaws_and_freezes() {
    explore("another tool", Budget { other_acts: 2, ..CALM }, 1000);
}
#[test]
fn another_tool_and_a_kill() {
    explore("another tool and a kill", Budget { other_acts: 1, agent_kills: 1, thaws: 0, ..CALM }, 1000);
}
#[test]
fn two_ids_repeated_and_out_of_order() {
    explore("two ids", Budget { freezes: 3, thaws: 2, second_id: true, ..CALM }, 1000);
}
#[test]
fn an_early_thaw_and_a_restart() {
    explore("early thaw and restart", Budget { agent_kills: 1, ..CALM }, 1000);
}
#[test]
fn the_agent_is_stopped() {
    explore("stop", Budget { stops: 1, agent_kills: 1, ..CALM }, 1000);
}
#[test]
fn the_result_cannot_be_stored() {
    explore("records lost", Budget { records_lost: 1, thaw_failures: 1, ..CALM }, 100);
}
