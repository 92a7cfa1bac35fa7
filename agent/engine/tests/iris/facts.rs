//! Discovery, facts, layout, old versions, Caché.

use crate::support::{Sim, ask, assert_good, freeze, frozen, id, order, thaw};
use doors::clock::boot_now;
use doors::exec::Cancel;
use engine::iris::config::Scope;
use engine::iris::{Iris, Product, discover_instances};
use engine::{Engine, FreezeAnswer, Journaling, Level, Role};
use protocol::wire::Frozen;

#[test]
fn instances_are_discovered_and_their_facts_read() {
    let sim = sim!("--mirror-type", "Failover", "--mirror-status", "Primary", "--mirror-name", "MIR");
    let found = discover_instances(&[sim.path("root/bin")]).unwrap();
    assert!(found.iter().any(|(p, c)| *p == Product::Iris && c.name.as_str() == "IRIS"), "{found:?}");
    let iris = sim.open();
    let facts = iris.discover(boot_now().plus(5000)).unwrap();
    assert!(facts.version.starts_with("IRIS for UNIX") && facts.running && facts.has_suspend_limit, "{facts:#?}");
    assert_eq!((facts.frozen, facts.journaling), (Frozen::No, Some(Journaling::Normal)));
    let mirror = facts.mirror.unwrap();
    assert_eq!((mirror.name.as_str(), mirror.member_type.as_str(), mirror.status.as_str()), ("MIR", "Failover", "PRIMARY"));
    assert_eq!(facts.current_journal.as_deref(), sim.state()["journal"].as_str());
    assert!(facts.checks.iter().all(|c| c.level != Level::Fail), "{:?}", facts.checks);
    assert_eq!(facts.buffers_last_ms, None);
}

#[test]
fn what_is_wrong_shows_in_the_facts() {
    let sim = sim!();
    let iris = sim.open();
    let look = || iris.discover(boot_now().plus(3000)).unwrap();
    let failing = |f: &engine::Facts| f.checks.iter().filter(|c| c.level == Level::Fail).map(|c| c.name.clone()).collect::<Vec<_>>();
    sim.ctl("health=hung");
    assert_eq!(failing(&look()), ["health"]);
    sim.ctl("health=ok");
    sim.ctl("journal_frozen=1");
    let f = look();
    assert_eq!((f.journaling.clone(), failing(&f)), (Some(Journaling::Other("Frozen".into())), vec!["journaling".to_owned()]));
    sim.ctl("journal_frozen=");
    sim.ctl("login=refused");
    let f = look();
    assert_eq!(failing(&f), ["login"]);
    assert!(matches!(f.frozen, Frozen::Unknown(_)));
    sim.ctl("login=ok");
    sim.iris(&["force", "IRIS"]);
    let f = look();
    assert_eq!((f.running, f.frozen.clone(), failing(&f)), (false, Frozen::No, vec!["instance".to_owned()]));
    let mut other = sim.config();
    other.name = "OTHER".parse().unwrap();
    assert!(Iris::open(&other, Product::Iris).unwrap().discover(boot_now().plus(3000)).is_err());
}

#[test]
fn an_old_version_is_found_out_and_frozen_with_fewer_arguments() {
    let sim = sim!("--old-freeze");
    let iris = sim.open();
    let facts = iris.discover(boot_now().plus(5000)).unwrap();
    assert!(!facts.has_suspend_limit && facts.checks.iter().any(|c| c.name == "suspend-limit" && c.level == Level::Warn));
    let held = frozen(freeze(&iris));
    assert!(held.warnings.iter().any(|w| w.contains("no WDSuspendLimit")), "{:?}", held.warnings);
    assert_eq!(held.marks[0].required, None);
    assert_eq!(ask(&iris), Frozen::Yes, "without IsWDSuspendedExt the script answers");
    assert_good(&thaw(&iris, Some(&held)));
}

#[test]
fn an_eight_field_qlist_is_enough() {
    let sim = sim!("--qlist-fields", "8");
    let iris = sim.open();
    assert!(iris.discover(boot_now().plus(5000)).unwrap().running);
    let held = frozen(freeze(&iris));
    assert_good(&thaw(&iris, Some(&held)));
}

#[test]
fn the_layout_names_everything_where_it_lies() {
    let sim = sim!("--split");
    let iris = sim.open();
    let places = iris.layout(boot_now().plus(5000)).unwrap();
    for role in [Role::Install, Role::Data, Role::Cpf, Role::Wij, Role::Journal, Role::Altjournal] {
        assert_eq!(places.iter().filter(|p| p.role == role).count(), 1, "{role:?} in {places:#?}");
    }
    assert!(places.iter().filter(|p| p.role == Role::Database).count() >= 4, "{places:#?}");
    for p in &places {
        assert!(p.path.exists(), "{p:?}");
    }
    let wij = &places.iter().find(|p| p.role == Role::Wij).unwrap().path;
    assert!(wij.join("IRIS.WIJ").exists());
    let one = places.iter().find(|p| p.role == Role::Database).unwrap().path.clone();
    let iris = sim.open_with(|c| {
        c.scope = Scope::Databases;
        c.databases = vec![one.join("")];
    });
    let some = iris.layout(boot_now().plus(5000)).unwrap();
    assert_eq!(some.iter().filter(|p| p.role == Role::Database).map(|p| &p.path).collect::<Vec<_>>(), [&one]);
    let iris = sim.open_with(|c| c.databases = vec!["/no/such/db".into()]);
    assert!(iris.layout(boot_now().plus(5000)).is_err());
}

#[test]
fn cache_is_the_same_engine_under_its_old_names() {
    let Some(sim) = Sim::start(&["--flavor", "cache", "--old-freeze"]) else {
        return;
    };
    let mut c = sim.config();
    c.program = Some(sim.bin("ccontrol").to_string_lossy().into_owned());
    let cache = Iris::open(&c, Product::Cache).unwrap();
    assert_eq!(cache.discover(boot_now().plus(5000)).unwrap().engine, "cache");
    let held = match cache.freeze(&order(1, 10_000), &Cancel::new().unwrap()) {
        FreezeAnswer::Frozen(h) => h,
        other => panic!("{other:?}"),
    };
    assert_good(&thaw(&cache, Some(&held)));
    assert!(cache.layout(boot_now().plus(5000)).unwrap().iter().any(|p| p.role == Role::Wij));
}

#[test]
fn several_windows_in_a_row_are_all_unbroken() {
    let sim = sim!();
    let iris = sim.open();
    for n in 0..10 {
        let held = frozen(iris.freeze(&order(n, 10_000), &Cancel::new().unwrap()));
        assert_eq!(held.token["id"], serde_json::json!(id(n)));
        assert_good(&thaw(&iris, Some(&held)));
    }
}
