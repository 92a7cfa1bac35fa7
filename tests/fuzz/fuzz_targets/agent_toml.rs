//! `agent.toml`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::tags::{self, SetTags};
use protocol::window::HoldMs;
use protocol::{BackupId, Verdict, WallMs};
use snapfreeze::config::Config;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use storage::catalogue::retain::{self, Item, Kind, Policy};

fuzz_target!(|text: &str| {
    let c = match Config::parse(text, Path::new("agent.toml")) {
        Ok(c) => c,
        Err(e) => {
            assert!(e.to_string().contains("agent.toml"), "{e}");
            return;
        }
    };
    // What was accepted can be used: with its own hold always, with another one without a panic.
    let rules = c.window.rules(None).expect("checked when it was read");
    assert!((HoldMs::MIN..=HoldMs::MAX).contains(&rules.hold.ms()));
    for ms in [0, 1000, 30_000, 1_179_000, u64::MAX] {
        if let Ok(r) = c.window.rules(Some(ms)) {
            let needs = r.hold.ms() + r.margins.watchdog_ms + r.margins.thaw_budget_ms;
            assert!(r.hold.ms() == ms && needs < r.external_freeze_timeout_s * 1000);
        }
    }
    // Times mean what is written there.
    let raw: toml::Table = text.parse().expect("it was read before");
    let written = |section: &str, key: &str| {
        raw.get(section).and_then(|s| s.get(key)).and_then(|v| v.as_str()).and_then(|v| humantime::parse_duration(v).ok())
    };
    let ms = |ms: u64| Duration::from_millis(ms);
    let m = rules.margins;
    for (key, read) in [
        ("watchdog", m.watchdog_ms),
        ("thaw_budget", m.thaw_budget_ms),
        ("freeze", m.freeze_ms),
        ("rung", m.rung_ms),
        ("guard", m.guard_ms),
    ] {
        assert!(written("margins", key).is_none_or(|d| d >= ms(read) && d < ms(read + 1)), "margins.{key} = {read}");
    }
    assert!(written("window", "hold").is_none_or(|d| d >= ms(rules.hold.ms()) && d < ms(rules.hold.ms() + 1)), "hold = {:?}", rules.hold);
    assert!(written("window", "external_freeze_timeout").is_none_or(|d| d == Duration::from_secs(rules.external_freeze_timeout_s)));
    assert!(written("window", "wd_suspend_limit").is_none_or(|d| Some(d.as_secs()) == rules.wd_suspend_limit.secs()));
    assert!(c.dirs.state.is_absolute() && c.dirs.run.is_absolute());
    let names: BTreeSet<_> = c.instances.iter().map(|i| i.name()).collect();
    assert_eq!(names.len(), c.instances.len());
    // An organisation's own tags never make a set unreadable.
    let mut set = SetTags::new(BackupId::from_uuid(uuid::Uuid::from_u128(7)));
    set.extra = c.tags.clone();
    set.verdict = Verdict::Held;
    let written = tags::to_tags(&set);
    assert_eq!(tags::from_tags(&written).as_ref(), Ok(&set));
    // However many are kept, the last held set is.
    let n = |k: Option<u32>| k.unwrap_or(0);
    let b = &c.backup;
    let policy = Policy {
        keep_last: n(b.keep_last),
        daily: n(b.keep_daily),
        weekly: n(b.keep_weekly),
        monthly: n(b.keep_monthly),
        ..Policy::default()
    };
    let half_day = |d: i64| Item { name: d.to_string(), at: WallMs(d * 43_200_000), kind: Kind::Held, kept_until: None, expires: None };
    let plan = retain::plan(&(0..40).map(half_day).collect::<Vec<_>>(), &policy, WallMs(40 * 86_400_000));
    assert!(plan.iter().any(|d| d.name == "39" && !d.delete));
    assert!(plan.iter().filter(|d| !d.delete).count() >= policy.keep_last.clamp(1, 40) as usize);
});
