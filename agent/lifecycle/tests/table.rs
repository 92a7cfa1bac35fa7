//! The state × event table and the graph, computed from `step` itself, compared with `docs/machine.md`.
//! `UPDATE=1 make test` rewrites the file.

use lifecycle::{
    Budget, Cause, Dog, Effect, Event, FreezeCall, FreezeOutcome, GuardStep, Machine, Order, State, Stored, ThawOutcome, ThawStep,
};
use protocol::outcome::WindowState;
use protocol::window::{HoldMs, Margins, OnOverrun};
use protocol::{BackupId, BootMs, Code, Known, Proof, WindowRules};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const NOW: BootMs = BootMs(100_000);

fn order(n: u128) -> Order {
    let rules = WindowRules::new(HoldMs::new(30_000).unwrap(), OnOverrun::FailBackup, None, None, Margins::default()).unwrap();
    Order { id: BackupId::from_uuid(uuid::Uuid::from_u128(n)), rules }
}

fn states() -> Vec<(&'static str, State)> {
    let o = order(1);
    let later = NOW.plus(10_000);
    let thawing = |cause, freeze, step| State::Thawing { order: o, since: NOW, cause, freeze, budget: Budget::Until(later), step };
    let doubt = FreezeCall::Doubtful { until: later };
    let window = WindowState::Unbroken;
    vec![
        ("Idle", State::Idle),
        ("Arming", State::Arming { order: o, since: NOW, thaw_by: later }),
        ("Freezing", State::Freezing { order: o, since: NOW, thaw_by: later, give_up: later, dog: Dog::Armed }),
        ("Freezing, overdue", State::Freezing { order: o, since: NOW, thaw_by: NOW, give_up: NOW, dog: Dog::Armed }),
        ("Frozen", State::Frozen { order: o, since: NOW, thaw_by: later, dog: Dog::Armed }),
        ("Frozen, rearm overdue", State::Frozen { order: o, since: NOW, thaw_by: later, dog: Dog::Rearming { by: NOW } }),
        ("Frozen, overdue", State::Frozen { order: o, since: NOW, thaw_by: NOW, dog: Dog::Armed }),
        ("Thawing: killing", thawing(Cause::FreezeFault(Code::FreezeTimedOut), doubt, ThawStep::Killing { until: NOW })),
        ("Thawing: round", thawing(Cause::Asked, FreezeCall::Over, ThawStep::Round)),
        ("Thawing: waiting", thawing(Cause::Asked, FreezeCall::Over, ThawStep::Waiting { at: NOW })),
        ("Thawing: zombie", thawing(Cause::Zombie, doubt, ThawStep::Round)),
        ("Recording", State::Recording { order: o, window: window.clone(), fault: None, freeze: FreezeCall::Over }),
        ("Recording, doubtful", State::Recording { order: o, window, fault: None, freeze: doubt }),
        ("Guarding", State::Guarding { order: o, until: later, step: GuardStep::Waiting { at: NOW } }),
        ("Guarding: asking", State::Guarding { order: o, until: later, step: GuardStep::Asking }),
        ("Guarding, over", State::Guarding { order: o, until: NOW, step: GuardStep::Asking }),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let id = order(1).id;
    vec![
        ("FreezeAsked", Event::FreezeAsked(order(1))),
        ("FreezeAsked (other id)", Event::FreezeAsked(order(2))),
        ("ThawAsked", Event::ThawAsked(id)),
        ("ThawAsked (other id)", Event::ThawAsked(order(2).id)),
        ("ThawAllAsked", Event::ThawAllAsked),
        ("Armed", Event::Armed(id)),
        ("Armed (other id)", Event::Armed(order(2).id)),
        ("ArmFailed", Event::ArmFailed(id)),
        ("FreezeAnswered: frozen", Event::FreezeAnswered(id, FreezeOutcome::Frozen)),
        ("FreezeAnswered: failed", Event::FreezeAnswered(id, FreezeOutcome::Failed)),
        ("FreezeAnswered: unknown", Event::FreezeAnswered(id, FreezeOutcome::Unknown)),
        ("FreezeAnswered: not ours", Event::FreezeAnswered(id, FreezeOutcome::NotOurs)),
        ("ThawAnswered: not frozen", Event::ThawAnswered(id, ThawOutcome::NotFrozen(Proof::good()))),
        ("ThawAnswered: still frozen", Event::ThawAnswered(id, ThawOutcome::StillFrozen)),
        ("ThawAnswered: unknown", Event::ThawAnswered(id, ThawOutcome::Unknown)),
        ("GuardAnswered: yes", Event::GuardAnswered(id, Known::Yes)),
        ("GuardAnswered: no", Event::GuardAnswered(id, Known::No)),
        ("GuardAnswered: unknown", Event::GuardAnswered(id, Known::Unknown)),
        ("Recorded", Event::Recorded(id, Stored::Durable)),
        ("Recorded: lost", Event::Recorded(id, Stored::Lost)),
        ("WatchdogLost", Event::WatchdogLost(id)),
        ("Tick", Event::Tick),
        ("Stop", Event::Stop),
    ]
}

fn effect(e: &Effect) -> String {
    match e {
        Effect::Arm { .. } => "Arm".into(),
        Effect::Rearm { .. } => "Rearm".into(),
        Effect::Freeze { .. } => "Freeze".into(),
        Effect::KillFreeze { .. } => "KillFreeze".into(),
        Effect::Thaw { .. } => "Thaw".into(),
        Effect::Ask { .. } => "Ask".into(),
        Effect::Record { .. } => "Record".into(),
        Effect::Tombstone { .. } => "Tombstone".into(),
        Effect::Disarm { .. } => "Disarm".into(),
        Effect::Tell { news, .. } => match news {
            lifecycle::News::Frozen => "Tell frozen".into(),
            lifecycle::News::Refused(c) => format!("Tell refused {c}"),
            lifecycle::News::Thawed { window, .. } => format!("Tell thawed, {}", if window.is_unbroken() { "unbroken" } else { "broken" }),
            lifecycle::News::LeftFrozen => "Tell LEFT FROZEN".into(),
        },
        Effect::Exit => "Exit".into(),
    }
}

#[test]
fn the_table_and_the_graph_are_those_of_the_manual() {
    let mut table = String::new();
    let mut edges: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut decided = 0;
    for (label, state) in states() {
        let _ = write!(table, "\n### {label}\n\n| event | next | effects |\n|---|---|---|\n");
        let mut ignored = Vec::new();
        for (name, event) in events() {
            let mut m = Machine { state: state.clone(), past: BTreeMap::new(), stopping: false };
            let effects = m.step(event, NOW);
            decided += 1;
            if m.state == state && effects.is_empty() {
                ignored.push(name);
                continue;
            }
            let list: Vec<String> = effects.iter().map(effect).collect();
            let _ = writeln!(table, "| {name} | {} | {} |", m.state.name(), list.join(", "));
            if m.state.name() != state.name() {
                let word = name.split(['(', ':']).next().unwrap().trim().to_owned();
                edges.entry((state.name().into(), m.state.name().into())).or_default().insert(word);
            }
        }
        let _ = writeln!(table, "\nNo change: {}.", ignored.join(", "));
    }
    assert_eq!(decided, states().len() * events().len());
    let mut graph = String::from(
        "```mermaid\nstateDiagram-v2\n    [*] --> Idle\n    [*] --> Thawing: start with an open entry\n    [*] --> Guarding: start inside a guard\n",
    );
    for ((from, to), by) in &edges {
        let _ = writeln!(graph, "    {from} --> {to}: {}", by.iter().cloned().collect::<Vec<_>>().join(", "));
    }
    graph.push_str("```\n");
    // No way out of Freezing or Frozen avoids Thawing.
    for (from, to) in edges.keys() {
        if from == "Freezing" {
            // To Idle only when nothing was sent, because another tool holds the database.
            assert!(["Frozen", "Thawing", "Idle"].contains(&to.as_str()), "{from} -> {to}");
        }
        if from == "Frozen" {
            assert_eq!(to, "Thawing");
        }
    }
    let text = format!(
        "# The freeze machine\n\nComputed from `agent/lifecycle` by its test; do not edit (`UPDATE=1 make test` rewrites it).\nThe order under way has id 1, \"other id\" is id 2.\n\n## Graph\n\n{graph}\n## State × event\n{table}"
    );
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/machine.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(on_disk == text, "docs/machine.md is not what the machine does: run UPDATE=1 make test and read the difference");
}
