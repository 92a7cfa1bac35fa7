//! What is refused before anything is frozen: each with its code, and a message that names host, value and next step.

use coordinator::admit::{admit, choose};
use coordinator::cloud::{Cloud, rules};
use coordinator::fake::Host;
use coordinator::policy::MemberRule;
use coordinator::ports::Look;
use coordinator::saga::{Inspected, Member, Saga, plus};
use coordinator::{Order, Policy, Target};
use protocol::wire::{Facts, Frozen, Phase, Problem};
use protocol::{Code, WallMs};
use serde_json::{Value, json};

const NOW: WallMs = WallMs(1_764_000_000_000);

fn order(change: Value) -> Order {
    let mut v = json!({ "name": "nightly", "select": { "ids": ["i-0"] }, "hold": "60s" });
    for (k, x) in change.as_object().unwrap() {
        v[k] = x.clone();
    }
    let policy: Policy = serde_json::from_value(v).unwrap();
    Order::new(policy, "run", vec![Target { id: "i-0".into(), name: String::new() }], "one", NOW, NOW)
}

fn good() -> Inspected {
    let h = Host::new("i-0");
    Inspected { facts: Facts { now: NOW, ..h.facts }, look: Look { problem: None, volumes: h.volumes }, hop_ms: 600, asked_at: Some(NOW) }
}

fn members(order: &Order, plan: Inspected) -> Vec<Member> {
    let mut all = Saga::new(order.clone()).members;
    all[0].plan = Some(plan);
    all
}

fn answer(change: Value, make: impl FnOnce(&mut Inspected)) -> Result<WallMs, Problem> {
    let order = order(change);
    let mut plan = good();
    make(&mut plan);
    admit(&order, &members(&order, plan), plus(NOW, 700))
}

type Make = fn(&mut Inspected);

#[test]
fn every_refusal_has_its_code_and_names_host_value_and_next_step() {
    let table: Vec<(Value, Make, Code, &str)> = vec![
        (json!({}), |p| p.facts.left_frozen = true, Code::RefusedAlreadyFrozen, "left frozen"),
        (json!({}), |p| p.facts.phase = Phase::Guarding, Code::RefusedGuarding, "killed"),
        (json!({}), |p| p.facts.phase = Phase::Frozen, Code::RefusedBusy, "another freeze"),
        (json!({}), |p| p.facts.phase = Phase::Thawing, Code::RefusedBusy, "another freeze"),
        (
            json!({}),
            |p| p.facts.problems = vec![Problem::new(Code::RefusedJournaling, "journal is off").next("switch it on")],
            Code::RefusedJournaling,
            "journal is off",
        ),
        (json!({}), |p| p.facts.instances.clear(), Code::RefusedInstance, "no database instance"),
        (json!({}), |p| p.facts.instances[0].frozen = Frozen::Yes, Code::RefusedAlreadyFrozen, "IRIS"),
        (json!({}), |p| p.facts.instances[0].frozen = Frozen::Unknown("?".into()), Code::RefusedAlreadyFrozen, "unknown"),
        (json!({}), |p| p.facts.now = WallMs(NOW.0 - 5_001), Code::RefusedClock, "5 s behind"),
        (json!({}), |p| p.facts.now = WallMs(NOW.0 + 60_001), Code::RefusedClock, "60 s ahead"),
        (json!({}), |p| p.facts.largest_hold_ms = 59_999, Code::RefusedHold, "59999"),
        (json!({}), |p| p.facts.instances[0].buffers_last_ms = Some(59_999), Code::RefusedBuffers, "59999"),
        (json!({}), |p| p.hop_ms = 27_001, Code::RefusedTooSlow, "27001"),
        (
            json!({}),
            |p| p.look.problem = Some(Problem::new(Code::CloudRefused, "UnauthorizedOperation").next("see the role")),
            Code::CloudRefused,
            "Unauthorized",
        ),
        (json!({}), |p| p.look.volumes.clear(), Code::CloudRefused, "no volume"),
        (json!({}), |p| p.look.volumes[1].pending = 5, Code::CloudRefused, "vol-i-0-data"),
        (json!({}), |p| p.facts.volumes.clear(), Code::RefusedNotCovered, "cannot tell"),
        (json!({ "exclude_volumes": ["vol-i-0-data"] }), |_| {}, Code::RefusedNotCovered, "vol-i-0-data"),
        (json!({ "exclude_boot": true, "exclude_volumes": ["vol-i-0-data"] }), |_| {}, Code::RefusedNotCovered, "vol-i-0-data"),
        (
            json!({ "tags": (0..40).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>() }),
            |_| {},
            Code::CloudRefused,
            "tags",
        ),
    ];
    for (n, (change, make, code, value)) in table.iter().enumerate() {
        let p = answer(change.clone(), *make).expect_err(&format!("row {n}"));
        assert_eq!(p.code, *code, "row {n}: {p:?}");
        assert!(p.detail.contains("i-0") && p.detail.contains(value), "row {n}: {p:?}");
        assert!(!p.next.is_empty(), "row {n} says what to do next: {p:?}");
    }
    assert_eq!(table.len(), 20);
    assert_eq!(answer(json!({}), |_| {}), Ok(NOW), "the control");
    // At the limits it fits.
    let at = |p: &mut Inspected| (p.facts.now, p.hop_ms, p.facts.largest_hold_ms) = (WallMs(NOW.0 - 5_000), 27_000, 60_000);
    assert_eq!(answer(json!({}), at), Ok(NOW));
}

#[test]
fn more_volumes_than_can_be_excluded_are_refused_by_number() {
    let ids: Vec<String> = (0..=rules(Cloud::Ebs).exclude_max.unwrap()).map(|n| format!("vol-{n}")).collect();
    let many = |p: &mut Inspected| {
        for n in 0..=rules(Cloud::Ebs).exclude_max.unwrap() {
            let mut v = p.look.volumes[1].clone();
            v.volume = format!("vol-{n}");
            p.look.volumes.push(v);
        }
    };
    let p = answer(json!({ "exclude_volumes": ids }), many).unwrap_err();
    assert!(p.code == Code::CloudRefused && p.detail.contains("41") && p.detail.contains("40"), "{p:?}");
    assert_eq!(answer(json!({ "exclude_volumes": &ids[1..] }), many), Ok(NOW));
}

#[test]
fn a_slow_answer_of_another_host_or_of_the_cloud_is_no_clock_that_is_wrong() {
    let order = order(json!({}));
    // The whole inspection took 80 s; this host answered at once.
    assert_eq!(admit(&order, &members(&order, good()), plus(NOW, 80_000)), Ok(NOW));
    let mut old = good();
    old.asked_at = None;
    assert!(admit(&order, &members(&order, old), plus(NOW, 80_000)).is_err(), "the control: without the moment of asking");
}

#[test]
fn the_slot_waits_for_the_rate_per_volume() {
    let slot = answer(json!({}), |p| p.look.volumes[1].last_snapshot = Some(plus(NOW, 500))).unwrap();
    assert!(slot.0 - NOW.0 >= i64::try_from(rules(Cloud::Ebs).per_volume_ms).unwrap() + 500, "{slot:?}");
    // A volume that is not taken does not matter.
    let not = answer(json!({ "exclude_boot": true }), |p| p.look.volumes[0].last_snapshot = Some(plus(NOW, 500)));
    assert_eq!(not, Ok(NOW));
}

#[test]
fn a_member_that_was_not_inspected_is_refused() {
    let order = order(json!({}));
    let p = admit(&order, &Saga::new(order.clone()).members, NOW).unwrap_err();
    assert!(p.code == Code::AgentUnreachable && p.detail.contains("i-0") && !p.next.is_empty(), "{p:?}");
}

#[test]
fn of_a_mirror_the_live_role_decides() {
    let order = order(json!({}));
    let with = |roles: &[Option<&str>]| -> Vec<Member> {
        let member = |r: &Option<&str>| {
            let mut m = Saga::new(order.clone()).members.remove(0);
            m.plan = r.map(|role| {
                let mut p = good();
                p.facts.instances[0].member_role = role.into();
                p
            });
            m
        };
        roles.iter().map(member).collect()
    };
    let both = with(&[Some("Primary"), Some("backup")]);
    assert_eq!(choose(&both, MemberRule::Primary), Ok(0));
    assert_eq!(choose(&both, MemberRule::Backup), Ok(1));
    assert_eq!(choose(&both, MemberRule::Any), Ok(1), "the backup member first");
    assert_eq!(choose(&with(&[Some("primary"), None]), MemberRule::Any), Ok(0));
    assert_eq!(choose(&with(&[None, Some("")]), MemberRule::Any), Ok(1));
    let p = choose(&with(&[Some("primary"), None]), MemberRule::Backup).unwrap_err();
    assert!(p.code == Code::RefusedRole && p.detail.contains("no answer") && p.detail.contains("primary") && !p.next.is_empty(), "{p:?}");
}
