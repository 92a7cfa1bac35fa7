use super::*;
use proptest::prelude::*;

const DAY: i64 = 86_400_000;
/// 2026-11-25T12:00Z, a Wednesday.
const NOW: WallMs = WallMs(1_795_608_000_000);

fn held(days_ago: i64) -> Item {
    Item { name: format!("d{days_ago:03}"), at: WallMs(NOW.0 - days_ago * DAY), kind: Kind::Held, kept_until: None, expires: None }
}
fn stays(items: &[Item], policy: &Policy) -> Vec<String> {
    let mut names: Vec<_> = plan(items, policy, NOW).into_iter().filter(|d| !d.delete).map(|d| d.name).collect();
    names.sort();
    names
}
fn policy() -> Policy {
    Policy::default()
}

#[test]
fn counts_keep_what_they_say() {
    let days: Vec<Item> = (0..100).map(held).collect();
    let table: [(Policy, &[&str]); 6] = [
        (Policy { keep_last: 2, ..policy() }, &["d000", "d001"]),
        (Policy { daily: 3, ..policy() }, &["d000", "d001", "d002"]),
        // Wednesday; the Sundays before are 3 and 10 days ago.
        (Policy { weekly: 3, ..policy() }, &["d000", "d003", "d010"]),
        // 25 November; 31 October is 25 days ago, 30 September 56.
        (Policy { monthly: 3, ..policy() }, &["d000", "d025", "d056"]),
        (Policy { daily: 2, weekly: 2, monthly: 2, ..policy() }, &["d000", "d001", "d003", "d025"]),
        (Policy { monthly: 3, max_age_ms: Some(30 * DAY as u64), ..policy() }, &["d000", "d025"]),
    ];
    for (p, want) in table {
        assert_eq!(stays(&days, &p), want, "{p:?}");
    }
}

#[test]
fn the_largest_counts_are_counts() {
    let twice = Item { name: "again".into(), ..held(0) };
    assert_eq!(stays(&[held(0), twice, held(1)], &Policy { daily: u32::MAX, weekly: 1, ..policy() }), ["d000", "d001"]);
}

#[test]
fn without_any_rule_everything_held_stays() {
    let days: Vec<Item> = (0..9).map(held).collect();
    assert_eq!(stays(&days, &policy()).len(), 9);
    assert_eq!(stays(&days, &Policy { max_age_ms: Some(3 * DAY as u64), ..policy() }), ["d000", "d001", "d002", "d003"]);
}

#[test]
fn the_last_held_set_stays_though_old_expired_and_counted_out() {
    let mut only = held(400);
    only.expires = Some(WallMs(NOW.0 - 1));
    let p = Policy { keep_last: 1, max_age_ms: Some(1), ..policy() };
    assert_eq!(stays(&[only], &p), ["d400"]);
}

#[test]
fn each_kind_has_its_rule() {
    let p = Policy { keep_last: 1, max_age_ms: Some(1), ..policy() };
    let table = [
        (Kind::Pending, 1, false),
        (Kind::Pending, 3, true),
        (Kind::Broken, 6, false),
        (Kind::Broken, 8, true),
        (Kind::Partial, 0, true),
        (Kind::Newer, 900, false),
        (Kind::Damaged, 900, false),
        (Kind::Foreign, 900, false),
        (Kind::Held, 900, true),
    ];
    for (kind, days, deleted) in table {
        let it = Item { kind, ..held(days) };
        let d = plan(&[Item { name: "newest".into(), ..held(-1) }, it], &p, NOW);
        assert_eq!(d[1].delete, deleted, "{kind:?} {days} {}", d[1].reason);
    }
}

#[test]
fn a_kept_set_stays_until_its_time() {
    let p = Policy { keep_last: 1, ..policy() };
    for (until, deleted) in [(NOW.0 + 1, false), (NOW.0, true)] {
        let it = Item { kept_until: Some(WallMs(until)), ..held(9) };
        assert_eq!(plan(&[held(0), it], &p, NOW)[1].delete, deleted);
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Held, Kind::Broken, Kind::Pending, Kind::Partial, Kind::Newer, Kind::Damaged, Kind::Foreign])
}

proptest! {
    #[test]
    fn never_the_last_held_never_a_kept_never_a_newer(
        sets in prop::collection::vec((kinds(), -5i64..2000, any::<Option<i16>>(), any::<Option<i16>>()), 1..40),
        (keep_last, daily, weekly, monthly) in (0u32..4, 0u32..4, 0u32..4, 0u32..4),
        max_age_ms: Option<u32>,
        (pending_grace_ms, broken_ms) in (0u64..DAY as u64, 0u64..DAY as u64),
    ) {
        let at = |h: i64| WallMs(NOW.0 - h * 3_600_000);
        let items: Vec<Item> = sets.into_iter().enumerate().map(|(n, (kind, hours, keep, expires))| Item {
            name: format!("s{n}"), at: at(hours), kind,
            kept_until: keep.map(|k| at(k.into())), expires: expires.map(|e| at(e.into())),
        }).collect();
        let p = Policy { keep_last, daily, weekly, monthly, max_age_ms: max_age_ms.map(Into::into), pending_grace_ms, broken_ms };
        let decisions = plan(&items, &p, NOW);
        prop_assert_eq!(decisions.len(), items.len());
        for d in decisions.iter().filter(|d| d.delete) {
            let i = items.iter().find(|i| i.name == d.name).unwrap();
            prop_assert!(!matches!(i.kind, Kind::Newer | Kind::Damaged | Kind::Foreign));
            prop_assert!(i.kind == Kind::Partial || i.kept_until.is_none_or(|t| t <= NOW));
            if i.kind == Kind::Held {
                prop_assert!(items.iter().any(|o| o.kind == Kind::Held && o.name != i.name && o.at >= i.at), "the last held set");
            }
            if i.kind == Kind::Pending {
                prop_assert!((NOW.0 - i.at.0).max(0) as u64 >= pending_grace_ms);
            }
        }
        // A second run on what is left deletes nothing more.
        let left: Vec<Item> = items.iter().filter(|i| decisions.iter().any(|d| d.name == i.name && !d.delete)).cloned().collect();
        prop_assert!(plan(&left, &p, NOW).iter().all(|d| !d.delete));
    }
}
