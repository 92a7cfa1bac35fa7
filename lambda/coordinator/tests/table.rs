//! The phase × outcome table and the graph, computed from `apply` itself, compared with `docs/saga.md`.
//! `UPDATE=1 make test` rewrites the file.

use coordinator::fake::Host;
use coordinator::ports::{BackupAnswer, FreezeAnswer, Look, Made, Snapshot, SnapshotAnswer, State, ThawAnswer};
use coordinator::saga::{Freeze, Inspected, Outcome, Phase, Saga, Snap, Step, Thaw, plus};
use coordinator::{Order, Policy, Target};
use protocol::wire::{FreezeReply, Problem};
use protocol::{BrokenReason, Code, Verdict, WallMs, Window, WindowState};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const NOW: WallMs = WallMs(1_764_000_000_000);

const GUARANTEES: &str = "\
One backup of one host, or of a group that is frozen together. The saga is a value: `next(now)` names the step, `apply(outcome,
now)` takes the answer, and between the two it can be stored and go on elsewhere. It does no I/O. Who carries out steps may die
at any point; what it may have done counts as done (`lost`).

| phase | what is done | what holds when it is left |
|---|---|---|
| inspect | facts of every host, a look at its disks, a rehearsal of the snapshot call | nothing was changed anywhere; \
everything that can be known to go wrong was asked |
| freeze | one order per host, all at once, not before the start slot, with a time after which the host refuses it | on to \
*snapshot* only if every host says frozen, by this owner, with time left; any doubt leads to *thaw* |
| snapshot | one call per host, never repeated, not begun when less of the shortest hold is left than it may take | on to \
*thaw*, whatever was answered; an answer after the thaw was sent does not count |
| thaw | until every host that may be frozen says \"not frozen\" | confirmed, or a person is called (`Thaw.LeftFrozen`): \
after two tries if the host itself says that it cannot, after its own timer must have ended the window if it is silent |
| find | only if an answer was lost: what carries the backup's id | what is there is part of the set, and never makes it \
held; a host that held the window itself has judged it |
| mark | facts per volume, then the verdict on all with one call | `held` stands on the tags only if the window was unbroken \
and every planned volume was accepted before the thaw; not written after two minutes: `reap` calls it broken |
| complete | only if held: waits for the copies | a copy that failed, is missing in the end, or was made twice makes the \
verdict broken |
| after | copies elsewhere, lock, fast restore | failures are notes; the verdict stands |
| done | nothing | applied again it changes nothing |

The exit code is the first of contract order that applies: left frozen (8), freeze failed (6), snapshot failed (7), broken (3),
refused (4, 9, 10). Two coordinators with the same order share the backup id and differ in the owner: the host's reply names the
first one, and the other neither snapshots nor thaws. The thaw names
its owner as well, and the host leaves another one's window alone (`Thaw.NotYours`). A thaw without a name, a person's, is seen when
the host's window is shorter than what was observed of it; closer to our own thaw than the order's way it is not.
";

fn order(held_by: &str) -> Order {
    let policy: Policy = serde_json::from_value(json!({ "name": "nightly", "select": { "ids": ["i-0"] }, "hold": "60s",
        "held_by": held_by, "complete": "2m", "copy_to": [{ "region": "eu-west-1" }] }))
    .unwrap();
    Order::new(policy, "run-1", vec![Target { id: "i-0".into(), name: String::new() }], "one", NOW, NOW)
}

fn inspected() -> Inspected {
    let h = Host::new("i-0");
    let facts = protocol::wire::Facts { now: NOW, ..h.facts };
    Inspected { facts, look: Look { problem: None, volumes: h.volumes }, hop_ms: 600, asked_at: Some(NOW) }
}

fn made() -> Vec<Made> {
    Host::new("i-0").volumes.into_iter().map(|v| Made { snapshot: format!("snap-{}", v.volume), volume: v.volume }).collect()
}

fn window(id: protocol::BackupId, state: WindowState) -> Window {
    Window { backup_id: id, state, frozen_at: None, thawed_at: None, window_ms: 9_000, parts: vec![], marks: vec![], evidence: vec![] }
}

fn reply(by: &str) -> FreezeReply {
    let id = order("coordinator").id;
    FreezeReply {
        schema: 1,
        id,
        remaining_ms: 58_000,
        frozen_at: NOW,
        freeze_ms: 1_000,
        instances: vec![],
        warnings: vec![],
        by: by.into(),
        sync_ms: Some(40),
    }
}

/// A saga at each phase, on the way of a backup that goes well unless the label says otherwise.
fn states() -> Vec<(&'static str, Saga)> {
    let long_ago = Some(WallMs(NOW.0 - 1_000_000));
    let mut s = Saga::new(order("coordinator"));
    let mut all = vec![("inspect", s.clone())];
    s.apply(Outcome::Inspected(vec![Ok(inspected())]), NOW);
    all.push(("freeze", s.clone()));
    let mut host = Saga::new(order("host"));
    host.apply(Outcome::Inspected(vec![Ok(inspected())]), NOW);
    host.begin(&Step::Backup(vec![0]), NOW);
    all.push(("freeze, held by the host", host));
    s.begin(&Step::Freeze(vec![0]), NOW);
    s.apply(Outcome::Froze(vec![FreezeAnswer::Frozen(reply("nightly one"))]), plus(NOW, 2_000));
    all.push(("snapshot", s.clone()));
    let mut doubt = s.clone();
    (doubt.phase, doubt.members[0].freeze) = (Phase::Thaw, Freeze::Doubtful { problem: Problem::new(Code::FreezeTimedOut, "no answer") });
    let mut lost = s.clone();
    s.apply(Outcome::Snapped(vec![SnapshotAnswer::Accepted(made())]), plus(NOW, 3_000));
    all.push(("thaw", s.clone()));
    all.push(("thaw, the freeze in doubt", doubt));
    let mut late = s.clone();
    late.thaw_from = Some(WallMs(NOW.0 - 1_000_000));
    late.frozen_from = Some(WallMs(NOW.0 - 1_000_000));
    all.push(("thaw, the host's own time over", late));
    let confirm = |s: &mut Saga| s.members[0].thaw = Thaw::Confirmed { window: Some(Box::new(window(s.order.id, WindowState::Unbroken))) };
    lost.members[0].snapshot = Snap::Lost;
    lost.phase = Phase::Thaw;
    all.push(("thaw, the snapshot's answer lost", lost.clone()));
    confirm(&mut lost);
    (lost.phase, lost.verdict) = (Phase::Find, Some(Verdict::Broken(BrokenReason::SnapshotLate)));
    all.push(("find", lost.clone()));
    lost.since = long_ago;
    all.push(("find, for long enough", lost));
    confirm(&mut s);
    (s.phase, s.verdict) = (Phase::Mark, Some(Verdict::Held));
    all.push(("mark", s.clone()));
    all.push(("mark, for long enough", Saga { since: long_ago, ..s.clone() }));
    (s.phase, s.marked) = (Phase::Complete, Some(Verdict::Held));
    all.push(("complete", s.clone()));
    s.phase = Phase::After;
    all.push(("after", s.clone()));
    s.phase = Phase::Done;
    all.push(("done", s));
    all
}

fn outcomes() -> Vec<(&'static str, Outcome)> {
    let id = order("coordinator").id;
    let no = |c| Problem::new(c, "said no");
    let froze = |a| Outcome::Froze(vec![a]);
    let thawed = |a| Outcome::Thawed(vec![a]);
    let listed = |state| -> Vec<Snapshot> {
        let one = |m: Made| Snapshot {
            snapshot: m.snapshot,
            volume: m.volume,
            started: NOW,
            state,
            progress: 0,
            size_gib: 1,
            tags: BTreeMap::new(),
        };
        made().into_iter().map(one).collect()
    };
    let done = |verdict, state| BackupAnswer::Done { verdict, window: Box::new(window(id, state)), snapshots: made() };
    vec![
        ("inspected: fits", Outcome::Inspected(vec![Ok(inspected())])),
        ("inspected: refused", Outcome::Inspected(vec![Err(no(Code::AgentUnreachable))])),
        ("froze: frozen, ours", froze(FreezeAnswer::Frozen(reply("nightly one")))),
        ("froze: frozen, another owner's", froze(FreezeAnswer::Frozen(reply("nightly two")))),
        ("froze: frozen, owner not said", froze(FreezeAnswer::Frozen(reply("")))),
        ("froze: refused", froze(FreezeAnswer::Refused(no(Code::RefusedBusy)))),
        ("froze: failed", froze(FreezeAnswer::Failed(no(Code::FreezeFailed)))),
        ("froze: unknown", froze(FreezeAnswer::Unknown("no answer".into()))),
        ("backed up: held", Outcome::BackedUp(vec![done(Verdict::Held, WindowState::Unbroken)])),
        ("backed up: broken", Outcome::BackedUp(vec![done(Verdict::Broken(BrokenReason::Interrupted), WindowState::Unbroken)])),
        ("backed up: refused", Outcome::BackedUp(vec![BackupAnswer::Refused(no(Code::RefusedBusy))])),
        ("backed up: unknown", Outcome::BackedUp(vec![BackupAnswer::Unknown("no answer".into())])),
        ("snapped: accepted", Outcome::Snapped(vec![SnapshotAnswer::Accepted(made())])),
        ("snapped: failed", Outcome::Snapped(vec![SnapshotAnswer::Failed(no(Code::CloudRefused))])),
        ("snapped: unknown", Outcome::Snapped(vec![SnapshotAnswer::Unknown("no answer".into())])),
        ("thawed: unbroken", thawed(ThawAnswer::Thawed(window(id, WindowState::Unbroken)))),
        ("thawed: broken", thawed(ThawAnswer::Thawed(window(id, WindowState::Broken(BrokenReason::HoldExpired))))),
        ("thawed: never frozen", thawed(ThawAnswer::NeverFrozen)),
        ("thawed: another owner's", thawed(ThawAnswer::NotOurs)),
        ("thawed: still frozen", thawed(ThawAnswer::StillFrozen(no(Code::LeftFrozen)))),
        ("thawed: unknown", thawed(ThawAnswer::Unknown("no answer".into()))),
        ("found: all", Outcome::Found(Ok(listed(State::Pending)))),
        ("found: nothing", Outcome::Found(Ok(vec![]))),
        ("found: could not be asked", Outcome::Found(Err(no(Code::CloudRefused)))),
        ("marked", Outcome::Marked(Ok(()))),
        ("marked: failed", Outcome::Marked(Err(no(Code::CloudRefused)))),
        ("completion: all", Outcome::Completion(Ok(listed(State::Completed)))),
        ("completion: not yet", Outcome::Completion(Ok(listed(State::Pending)))),
        ("completion: one failed", Outcome::Completion(Ok(listed(State::Failed)))),
        ("aftered", Outcome::Aftered(vec![])),
        ("lost", Outcome::Lost),
    ]
}

fn name(p: Phase) -> String {
    serde_json::to_value(p).unwrap().as_str().unwrap().to_owned()
}

fn says(s: &Saga) -> String {
    let verdict = match &s.verdict {
        None => String::new(),
        Some(Verdict::Broken(why)) => format!("broken: {why}"),
        Some(v) => v.word().to_owned(),
    };
    let problem = s.problem.as_ref().map(|p| format!("`{}`", p.code));
    let wait = s.resume_at.filter(|at| *at > NOW).map(|at| format!("wait {} s", (at.0 - NOW.0) / 1000));
    [Some(verdict).filter(|v| !v.is_empty()), problem, wait].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[test]
fn the_table_and_the_graph_are_those_of_the_manual() {
    let mut table = String::new();
    let mut edges: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    let mut decided = 0;
    for (label, state) in states() {
        let _ = write!(table, "\n### {label}\n\n| outcome | next | says |\n|---|---|---|\n");
        let mut changes = 0;
        for (what, outcome) in outcomes() {
            let mut s = state.clone();
            s.apply(outcome, plus(NOW, 4_000));
            decided += 1;
            if s == state {
                continue;
            }
            changes += 1;
            let _ = writeln!(table, "| {what} | {} | {} |", name(s.phase), says(&s));
            if s.phase != state.phase {
                edges.entry((name(state.phase), name(s.phase))).or_default().insert(what.split(':').next().unwrap());
            }
        }
        let _ = writeln!(table, "\n{}", if changes == 0 { "Nothing changes it." } else { "Nothing else changes it." });
    }
    assert_eq!(decided, states().len() * outcomes().len());
    for (from, to) in edges.keys() {
        // No way out of a freeze that may have been sent avoids the thaw: done only after a certain refusal.
        if from == "freeze" {
            assert!(["snapshot", "thaw", "done", "mark"].contains(&to.as_str()), "{from} -> {to}");
        }
        if from == "snapshot" {
            assert_eq!(to, "thaw");
        }
    }
    let mut graph = String::from("```mermaid\nstateDiagram-v2\n    [*] --> inspect\n");
    for ((from, to), by) in &edges {
        let _ = writeln!(graph, "    {from} --> {to}: {}", by.iter().copied().collect::<Vec<_>>().join(", "));
    }
    graph.push_str("    done --> [*]\n```\n");
    let text = format!(
        "# The saga of one backup\n\n\
         Computed from `lambda/coordinator` by its test; do not edit (`UPDATE=1 make test` rewrites it).\n\n{GUARANTEES}\n## Graph\n\n{graph}\n## Phase × outcome\n\nOne host. \"Wait\" is until the next step.\n{table}"
    );
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/saga.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(on_disk == text, "docs/saga.md is not what the saga does: run UPDATE=1 make test and read the difference");
}
