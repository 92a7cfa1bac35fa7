//! The rules. Each is a function that panics when the engine breaks it; `broken_rules` runs all and names the broken.

use doors::clock::boot_now;
use doors::exec::Cancel;
use engine::{Engine, FreezeAnswer, FreezeOrder, Held, Rung, ThawAnswer};
use protocol::proof::{Known, Proof};
use protocol::wire::Frozen;
use protocol::{BackupId, BootMs, HoldMs, OnOverrun, WindowRules};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// An engine under test with a second way to its database.
pub trait Rig: Sync {
    fn engine(&self) -> &dyn Engine;
    /// Another tool's freeze and thaw, not through the engine under test.
    fn other_freeze(&self);
    fn other_thaw(&self);
    /// Is it frozen? By the database itself, not by the engine under test.
    fn truth(&self) -> bool;
}

type Rule = (&'static str, fn(&dyn Rig));

const RULES: [Rule; 15] = [
    ("freeze and thaw give a good proof", freeze_and_thaw),
    ("asking changes nothing", asking_changes_nothing),
    ("what the freeze returned survives JSON", held_survives_json),
    ("a second freeze is refused and harmless", second_freeze),
    ("another tool's freeze is refused, not taken over", foreign_freeze),
    ("a second thaw changes nothing and says so", second_thaw),
    ("a thaw of nothing changes nothing", thaw_of_nothing),
    ("a thaw without its freeze thaws without proof", thaw_without_held),
    ("another tool's thaw breaks the proof", other_thaw),
    ("another tool's thaw and freeze break the proof", other_thaw_and_freeze),
    ("a freeze of an earlier window proves nothing", old_held),
    ("a late freeze freezes nothing", late_freeze),
    ("a cancelled freeze ends soon and never lands later", cancelled_freeze),
    ("a freeze keeps its deadline and never lands later", short_deadlines),
    ("discover, layout and is_frozen keep their deadline", other_deadlines),
];

/// No step of a rule may be slower on a loaded machine; the rules compare orders, not speed.
const STEP_MS: u64 = 10_000;
/// "Soon": the reaping of a killed process and a little.
const SOON_MS: u64 = 3_000;

pub fn broken_rules(rig: &dyn Rig) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, rule) in RULES {
        if rig.truth() {
            rig.other_thaw();
        }
        println!("rule: {name}");
        if let Err(e) = catch_unwind(AssertUnwindSafe(|| rule(rig))) {
            let why = e.downcast_ref::<String>().cloned().or_else(|| e.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            broken.push(format!("{name}: {why}"));
        }
    }
    if rig.truth() {
        rig.other_thaw();
    }
    broken
}

fn soon() -> BootMs {
    boot_now().plus(STEP_MS)
}

pub fn order(by: BootMs) -> FreezeOrder {
    let id: BackupId = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap();
    let hold = HoldMs::new(30_000).unwrap();
    let rules = WindowRules::new(hold, OnOverrun::FailBackup, None, None, Default::default());
    FreezeOrder { id, rules: rules.unwrap(), by }
}

fn freeze(rig: &dyn Rig) -> Held {
    match rig.engine().freeze(&order(soon()), &Cancel::new().unwrap()) {
        FreezeAnswer::Frozen(held) => {
            assert!(rig.truth(), "it said Frozen and the database is not");
            held
        }
        FreezeAnswer::Failed(why) => panic!("the freeze failed: {why}"),
        FreezeAnswer::Unknown(why) => panic!("the freeze is unknown: {why}"),
        FreezeAnswer::NotOurs(why) => panic!("it was frozen already: {why}"),
    }
}

/// A thaw whose answer is true, and whose rungs were all told.
fn thaw(rig: &dyn Rig, held: Option<&Held>) -> ThawAnswer {
    let told = std::cell::RefCell::new(Vec::<Rung>::new());
    let answer = rig.engine().thaw(held, STEP_MS, &|r| told.borrow_mut().push(r.clone()));
    assert_eq!(*told.borrow(), answer.rungs, "rungs were not all told");
    match answer.frozen {
        Frozen::No => assert!(!rig.truth(), "it said thawed and the database is frozen"),
        Frozen::Yes => assert!(rig.truth(), "it said frozen and the database is not"),
        Frozen::Unknown(_) => {}
    }
    answer
}

fn thawed(rig: &dyn Rig, held: Option<&Held>) -> Proof {
    let answer = thaw(rig, held);
    assert_eq!(answer.frozen, Frozen::No, "{:?}", answer.rungs);
    answer.proof
}

fn is_good(p: &Proof) -> bool {
    *p == Proof::good()
}

fn freeze_and_thaw(rig: &dyn Rig) {
    assert_eq!(rig.engine().is_frozen(soon()), Frozen::No);
    for _ in 0..3 {
        let held = freeze(rig);
        assert_eq!(rig.engine().is_frozen(soon()), Frozen::Yes);
        let proof = thawed(rig, Some(&held));
        assert!(is_good(&proof), "{proof:?}");
        assert_eq!(rig.engine().is_frozen(soon()), Frozen::No);
    }
}

fn asking_changes_nothing(rig: &dyn Rig) {
    let discovered = rig.engine().discover(soon()).unwrap();
    assert_eq!(discovered.frozen, Frozen::No);
    assert!(!rig.truth(), "asking froze it");
    let held = freeze(rig);
    for _ in 0..3 {
        assert_eq!(rig.engine().is_frozen(soon()), Frozen::Yes);
    }
    assert_eq!(rig.engine().discover(soon()).unwrap().frozen, Frozen::Yes);
    let places = rig.engine().layout(soon()).unwrap();
    assert!(places.iter().all(|p| p.path.is_absolute()) && !places.is_empty());
    let proof = thawed(rig, Some(&held));
    assert!(is_good(&proof), "{proof:?}");
}

/// The watchdog and a restarted agent thaw with what was stored.
fn held_survives_json(rig: &dyn Rig) {
    let held = freeze(rig);
    let stored = serde_json::to_string(&held).unwrap();
    let read: Held = serde_json::from_str(&stored).unwrap();
    assert_eq!(held, read);
    let proof = thawed(rig, Some(&read));
    assert!(is_good(&proof), "{proof:?}");
}

fn second_freeze(rig: &dyn Rig) {
    let held = freeze(rig);
    let second = rig.engine().freeze(&order(soon()), &Cancel::new().unwrap());
    assert!(matches!(second, FreezeAnswer::NotOurs(_)), "{second:?}");
    assert!(rig.truth(), "the second freeze thawed the first");
    let proof = thawed(rig, Some(&held));
    assert!(is_good(&proof), "{proof:?}");
}

fn foreign_freeze(rig: &dyn Rig) {
    rig.other_freeze();
    assert_eq!(rig.engine().is_frozen(soon()), Frozen::Yes);
    let answer = rig.engine().freeze(&order(soon()), &Cancel::new().unwrap());
    assert!(matches!(answer, FreezeAnswer::NotOurs(_)), "{answer:?}");
    assert!(rig.truth(), "a refused freeze thawed another tool's");
    thawed(rig, None);
}

fn second_thaw(rig: &dyn Rig) {
    let held = freeze(rig);
    thawed(rig, Some(&held));
    let proof = thawed(rig, Some(&held));
    assert_eq!((proof.frozen_before, proof.released), (Known::No, Known::No), "{proof:?}");
}

fn thaw_of_nothing(rig: &dyn Rig) {
    let answer = thaw(rig, None);
    assert_eq!(answer.frozen, Frozen::No);
    assert_eq!(answer.rungs, vec![], "a plain no is no reason to thaw");
    let (before, released) = (answer.proof.frozen_before, answer.proof.released);
    assert_eq!((before, released), (Known::No, Known::No));
}

fn thaw_without_held(rig: &dyn Rig) {
    freeze(rig);
    let proof = thawed(rig, None);
    assert!(!is_good(&proof), "nobody knows the freeze that was thawed");
}

fn other_thaw(rig: &dyn Rig) {
    let held = freeze(rig);
    rig.other_thaw();
    assert_eq!(rig.engine().is_frozen(soon()), Frozen::No);
    let proof = thawed(rig, Some(&held));
    assert!(!is_good(&proof), "{proof:?}");
}

fn other_thaw_and_freeze(rig: &dyn Rig) {
    let held = freeze(rig);
    rig.other_thaw();
    rig.other_freeze();
    let proof = thawed(rig, Some(&held));
    assert!(!is_good(&proof), "frozen before and released, but not the whole time: {proof:?}");
}

fn old_held(rig: &dyn Rig) {
    let old = freeze(rig);
    thawed(rig, Some(&old));
    freeze(rig);
    let proof = thawed(rig, Some(&old));
    assert!(!is_good(&proof), "{proof:?}");
}

fn late_freeze(rig: &dyn Rig) {
    let now = boot_now();
    for by in [BootMs(0), BootMs(now.0 - 1), now] {
        let answer = rig.engine().freeze(&order(by), &Cancel::new().unwrap());
        assert!(matches!(answer, FreezeAnswer::Failed(_)), "{answer:?}");
        assert!(!rig.truth(), "a late freeze has frozen");
    }
    let cancel = Cancel::new().unwrap();
    cancel.throw();
    let answer = rig.engine().freeze(&order(soon()), &cancel);
    assert!(matches!(answer, FreezeAnswer::Failed(_)), "{answer:?}");
    assert!(!rig.truth(), "a cancelled freeze has frozen");
}

/// After an end that was not "Frozen", and one thaw, it stays thawed.
fn nothing_lands_later(rig: &dyn Rig, answer: &FreezeAnswer) {
    let held = match answer {
        FreezeAnswer::Frozen(held) => Some(held),
        FreezeAnswer::Failed(_) | FreezeAnswer::Unknown(_) | FreezeAnswer::NotOurs(_) => None,
    };
    thawed(rig, held);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(25));
        assert!(!rig.truth(), "a freeze landed after it was over and thawed");
    }
}

fn cancelled_freeze(rig: &dyn Rig) {
    for after_ms in [0, 2, 5, 9, 14, 20, 28, 40, 60, 90] {
        let cancel = Cancel::new().unwrap();
        let answer = std::thread::scope(|s| {
            let by = soon();
            let running = s.spawn({
                let cancel = cancel.clone();
                move || rig.engine().freeze(&order(by), &cancel)
            });
            std::thread::sleep(Duration::from_millis(after_ms));
            cancel.throw();
            let thrown = boot_now();
            let answer = running.join().unwrap();
            let took = boot_now().since(thrown);
            assert!(took < SOON_MS, "it ended {took} ms after the cancel");
            answer
        });
        nothing_lands_later(rig, &answer);
    }
}

fn short_deadlines(rig: &dyn Rig) {
    for within_ms in [1, 4, 8, 13, 19, 26, 34, 45, 60, 90] {
        let by = boot_now().plus(within_ms);
        let answer = rig.engine().freeze(&order(by), &Cancel::new().unwrap());
        let over = boot_now().since(by);
        assert!(over < SOON_MS, "it ended {over} ms after its deadline");
        nothing_lands_later(rig, &answer);
    }
}

fn other_deadlines(rig: &dyn Rig) {
    let held = freeze(rig);
    let (past, began) = (BootMs(1), boot_now());
    let frozen = rig.engine().is_frozen(past);
    assert_ne!(frozen, Frozen::No, "no time to ask is no reason to say no");
    let _ = rig.engine().discover(past);
    let _ = rig.engine().layout(past);
    let took = boot_now().since(began);
    assert!(took < 3 * SOON_MS, "three late calls took {took} ms");
    thawed(rig, Some(&held));
}
