//! Seeded bugs: each, put between the answers and the saga, must turn the exploration red. A check that no bug can turn red
//! checks nothing.

use crate::pure::{Bug, NO_BUG, explore};
use coordinator::admit;
use coordinator::ports::{BackupAnswer, FreezeAnswer, Made, SnapshotAnswer, ThawAnswer};
use coordinator::saga::{Freeze, Outcome, Phase, Saga, Snap, Thaw};
use protocol::{Verdict, WindowState};
use serde_json::{Value, json};

fn red(hosts: usize, change: Value, bug: Bug, finding: &str) {
    let found = explore(hosts, change, bug).expect_err("the exploration did not see the bug");
    println!("{found}");
    assert!(found.contains(finding), "{found}");
}

fn all_of(s: &Saga, i: usize) -> Vec<Made> {
    let plan = s.members[i].plan.as_ref().unwrap();
    admit::taken(&s.order, plan).map(|v| Made { snapshot: format!("snap-{}", v.volume), volume: v.volume.clone() }).collect()
}

#[test]
fn another_owners_window_taken_for_ours() {
    let answer = |s: &Saga, o: Outcome| match o {
        Outcome::Froze(all) => Outcome::Froze(
            all.into_iter()
                .map(|a| match a {
                    FreezeAnswer::Frozen(mut r) => {
                        r.by.clone_from(&s.order.owner);
                        FreezeAnswer::Frozen(r)
                    }
                    other => other,
                })
                .collect(),
        ),
        other => other,
    };
    red(1, json!({}), Bug { answer, ..NO_BUG }, "before every host's freeze reply");
}

#[test]
fn a_lost_answer_taken_for_accepted() {
    let answer = |s: &Saga, o: Outcome| match o {
        Outcome::Snapped(all) => Outcome::Snapped(
            all.into_iter()
                .enumerate()
                .map(|(i, a)| match a {
                    SnapshotAnswer::Unknown(_) => SnapshotAnswer::Accepted(all_of(s, i)),
                    other => other,
                })
                .collect(),
        ),
        other => other,
    };
    red(1, json!({}), Bug { answer, ..NO_BUG }, "a false held");
}

#[test]
fn some_of_the_volumes_taken_for_all() {
    let answer = |s: &Saga, o: Outcome| match o {
        Outcome::Snapped(all) => Outcome::Snapped(
            all.into_iter()
                .enumerate()
                .map(|(i, a)| match a {
                    SnapshotAnswer::Accepted(_) => SnapshotAnswer::Accepted(all_of(s, i)),
                    other => other,
                })
                .collect(),
        ),
        other => other,
    };
    red(1, json!({}), Bug { answer, ..NO_BUG }, "a false held");
}

#[test]
fn a_doubtful_freeze_that_is_not_thawed() {
    let saga = |s: &mut Saga| {
        for m in &mut s.members {
            if matches!(m.freeze, Freeze::Doubtful { .. }) && matches!(m.thaw, Thaw::NotConfirmed { .. }) {
                m.thaw = Thaw::NotNeeded;
            }
        }
    };
    red(1, json!({}), Bug { saga, ..NO_BUG }, "ended without a thaw");
}

#[test]
fn a_refusal_of_unknown_meaning_taken_for_certain() {
    let saga = |s: &mut Saga| {
        for m in &mut s.members {
            if let Freeze::Doubtful { problem } = &m.freeze
                && problem.detail == "said no"
            {
                m.freeze = Freeze::Refused { problem: problem.clone() };
            }
        }
    };
    red(1, json!({}), Bug { saga, ..NO_BUG }, "ended without a thaw");
}

#[test]
fn a_thaw_given_up_without_calling_a_person() {
    let saga = |s: &mut Saga| {
        for m in &mut s.members {
            if matches!(m.thaw, Thaw::LeftFrozen { .. }) {
                m.thaw = Thaw::Confirmed { window: None };
            }
        }
    };
    red(1, json!({}), Bug { saga, ..NO_BUG }, "nobody is called");
}

#[test]
fn a_snapshot_call_that_the_hold_does_not_cover() {
    red(1, json!({}), Bug { ignores_the_hold: true, ..NO_BUG }, "the hold does not cover");
}

#[test]
fn a_snapshot_call_that_is_sent_again() {
    let saga = |s: &mut Saga| {
        if s.phase == Phase::Thaw && s.members.iter().any(|m| matches!(m.snapshot, Snap::Lost)) && s.thaw_from.is_none() {
            s.phase = Phase::Snapshot;
        }
    };
    red(1, json!({}), Bug { saga, ..NO_BUG }, "a second snapshot call");
}

#[test]
fn a_freeze_that_is_sent_again() {
    let saga = |s: &mut Saga| {
        if s.phase == Phase::Thaw && s.members.iter().any(|m| matches!(m.freeze, Freeze::Doubtful { .. })) && s.thaw_from.is_none() {
            s.phase = Phase::Freeze;
        }
    };
    red(1, json!({}), Bug { saga, ..NO_BUG }, "a second freeze");
}

#[test]
fn one_member_of_a_group_that_is_not_judged() {
    let answer = |_: &Saga, o: Outcome| match o {
        Outcome::Thawed(mut all) if all.len() == 2 => {
            if let [ThawAnswer::Thawed(first), ThawAnswer::Thawed(second)] = &mut all[..]
                && first.state.is_unbroken()
            {
                second.clone_from(first);
            }
            Outcome::Thawed(all)
        }
        other => other,
    };
    red(2, json!({}), Bug { answer, ..NO_BUG }, "a false held");
}

#[test]
fn a_window_that_ended_before_our_thaw() {
    let answer = |_: &Saga, o: Outcome| match o {
        Outcome::Thawed(mut all) => {
            for a in &mut all {
                if let ThawAnswer::Thawed(w) = a {
                    w.window_ms = w.window_ms.max(5_000);
                }
            }
            Outcome::Thawed(all)
        }
        other => other,
    };
    red(1, json!({}), Bug { answer, ..NO_BUG }, "a false held");
}

#[test]
fn a_host_that_calls_its_own_backup_broken() {
    let answer = |_: &Saga, o: Outcome| match o {
        Outcome::BackedUp(mut all) => {
            for a in &mut all {
                if let BackupAnswer::Done { verdict, window, .. } = a
                    && window.state == WindowState::Unbroken
                {
                    *verdict = Verdict::Held;
                }
            }
            Outcome::BackedUp(all)
        }
        other => other,
    };
    red(1, json!({ "held_by": "host" }), Bug { answer, ..NO_BUG }, "a false held");
}

#[test]
fn a_copy_that_failed_and_is_not_looked_at() {
    let answer = |s: &Saga, o: Outcome| match o {
        Outcome::Completion(Ok(all)) => {
            let mut all: Vec<_> = all.into_iter().filter(|x| s.made().iter().any(|m| m.snapshot == x.snapshot)).collect();
            all.iter_mut().for_each(|x| x.state = coordinator::ports::State::Completed);
            Outcome::Completion(Ok(all))
        }
        other => other,
    };
    red(1, json!({}), Bug { answer, ..NO_BUG }, "success without a complete set");
}
