//! Restore points as the snapshots of a set: one call for all disks, its collection has the tags, and Azure runs no script around it.

use crate::common::{ctl, exit, job, lines};
use cloud_sim::arm::{ArmConfig, ArmDisk, ArmFault, ArmMatch, ArmPoint, ArmRule, PointsConfig, PrePost, Vm};
use serde_json::{Value, json};
use suite::cloud::azure::{AzureFleet, AzureMember, DISKS, GROUP, SUBSCRIPTION, clean, run_host};
use suite::cloud::fleet::{TAG, setup};
use suite::cloud::programs::said;

fn with(more: Value) -> Value {
    let mut v = json!({ "snapshotter": "restore-point", "keep": { "pending": "1ms", "broken": "1ms" } });
    v.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    v
}

fn verdicts(fleet: &AzureFleet) -> Vec<String> {
    fleet.sim.collections().iter().map(|c| c.tags.get("snapfreeze:verdict").cloned().unwrap_or_default()).collect()
}

/// Do all its copies lie inside a freeze of this host, by the engine's own history?
fn inside(m: &AzureMember, p: &ArmPoint) -> bool {
    let windows = m.windows();
    let one = |from: u64, to: u64| windows.iter().any(|(f, t)| *f <= from / 1000 && to.div_ceil(1000) <= *t);
    p.disks.len() == 3 && p.disks.iter().all(|d| d.copy_to_us > 0 && one(d.copy_from_us, d.copy_to_us))
}

#[test]
fn a_set_is_one_restore_point_with_the_tags_on_its_collection() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let m = &fleet.members[0];
    // Scripts as Azure Backup would run them: each would be seen.
    let script = fleet.dir.path().join("script.sh");
    std::fs::write(&script, "exit 0\n").unwrap();
    let scripts = PrePost { pre: script.clone(), post: script, timeout_ms: 5_000, continue_on_failure: true };
    fleet.sim.add_host(cloud_sim::arm::ArmHost { scripts: Some(scripts), ..run_host(&m.id, &m.host) });

    let out = job(&fleet, "backup", &with(json!({ "tags": { "CostCenter": "0042" } })));
    assert_eq!(exit(&out), 0, "{}", said(&out));
    assert_eq!((fleet.freezes(), fleet.any_frozen(), fleet.sim.snapshots().len()), (1, false, 0));
    let points = fleet.sim.points();
    assert_eq!(points.len(), 1, "{points:?}");
    let p = &points[0];
    assert_eq!((p.consistency.as_str(), p.pre, p.post), ("CrashConsistent", None, None), "Azure ran no script");
    assert!(inside(m, p), "{p:?} {:?}", m.windows());
    let dirs: Vec<_> = DISKS.iter().map(|d| p.disks.iter().find(|x| x.disk_id.ends_with(d)).and_then(|x| x.dir.clone()).unwrap()).collect();
    assert!(clean(&dirs));
    let c = &fleet.sim.collections()[0];
    let tag = |n: &str| c.tags.get(&format!("snapfreeze:{n}")).map_or("", String::as_str);
    assert_eq!((tag("verdict"), tag("set-size"), tag("policy"), c.tags["CostCenter"].as_str()), ("held", "3", "p", "0042"));
    assert!(!tag("restore-from").is_empty() && !tag("window-ms").is_empty());

    let shown = ctl(&fleet, &["--json", "list"]);
    let listed: Vec<_> = lines(&shown).into_iter().filter(|l| l["type"] == "set").collect();
    assert_eq!((listed.len(), listed[0]["state"].as_str()), (1, Some("held")), "{}", said(&shown));
    assert_eq!(exit(&job(&fleet, "watch", &with(json!({})))), 0);
}

#[test]
fn what_azure_does_not_do_is_refused_before_the_freeze() {
    let config = |c: std::path::PathBuf| {
        let quick = ArmConfig::quick(c);
        ArmConfig { points: PointsConfig { limits: true, ..quick.points.clone() }, ..quick }
    };
    let fleet = AzureFleet::iris(1, config, &setup());
    for n in 0..3 {
        let out = job(&fleet, "backup", &with(json!({})));
        assert_eq!(exit(&out), 0, "{n}: {}", said(&out));
    }
    let out = job(&fleet, "backup", &with(json!({})));
    assert!(exit(&out) == 9 && said(&out).contains("3 restore points in an hour"), "{}", said(&out));
    fleet.sim.age_points(3_600_000);
    assert_eq!(fleet.freezes(), 3);
    // Disks that no crash-consistent point can have.
    let m = &fleet.members[0];
    let disks = || (0u32..).zip(DISKS);
    for (what, change) in [("UltraSSD_LRS", ArmDisk::sku as fn(ArmDisk, &str) -> ArmDisk), ("PremiumV2_LRS", ArmDisk::sku)] {
        let vm = Vm::new(SUBSCRIPTION, GROUP, "db1").tag(TAG.0, TAG.1).os_disk(ArmDisk::new("db1-os"));
        let vm = disks().fold(vm, |vm, (lun, d)| {
            let disk = ArmDisk::new(&format!("db1-{d}")).dir(m.host.disk.path().join(d));
            vm.data_disk(lun, if lun == 0 { change(disk, what) } else { disk })
        });
        fleet.sim.add_vm(vm);
        let out = job(&fleet, "backup", &with(json!({})));
        assert!(exit(&out) == 9 && said(&out).contains(what), "{what}: {}", said(&out));
    }
    assert_eq!(fleet.freezes(), 3, "nothing of it was frozen");
}

#[test]
fn whatever_becomes_of_its_calls_nothing_stays_frozen_and_nothing_is_called_held() {
    let none = |code: &str| ArmFault::Status { status: 409, code: code.into(), retry_after_s: None };
    let cases: Vec<(&str, ArmFault, i32, usize)> = vec![
        ("collections.put", none("OperationNotAllowed"), 7, 0),
        ("points.put", none("OperationNotAllowed"), 7, 1),
        ("points.put", ArmFault::LostRequest, 3, 1),
        ("points.put", ArmFault::LostReply, 3, 1),
        ("points.put", ArmFault::LroFailed { code: "InternalError".into() }, 3, 1),
        ("points.put", ArmFault::EndlessAccepted, 3, 1),
        ("points.put", ArmFault::CopyAfter { ms: 9_000 }, 3, 1),
    ];
    std::thread::scope(|s| {
        for case in cases {
            s.spawn(|| fault_case(case));
        }
    });
}

fn fault_case((op, fault, code, left): (&str, ArmFault, i32, usize)) {
    let what = format!("{op} {fault:?}");
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let rule = fleet.sim.fault(ArmRule::new(ArmMatch::op(op), fault));
    let with = with(json!({ "hold": "6s", "snapshot": "500ms" }));
    let out = job(&fleet, "backup", &with);
    assert_eq!((fleet.sim.hits(rule), exit(&out)), (1, code), "{what}: {}", said(&out));
    assert!(!fleet.any_frozen() && fleet.freezes() == 1, "{what}");
    assert_eq!(fleet.sim.calls_of("points.put").len(), usize::from(op == "points.put"), "{what}: sent once");
    assert_eq!(fleet.sim.collections().len(), left, "{what}");
    assert!(!verdicts(&fleet).contains(&"held".to_owned()), "{what}");
    fleet.sim.clear_faults();
    // No orphan after reap and prune.
    let out = job(&fleet, "reap", &with);
    assert_eq!(exit(&out), 0, "{what}: {}", said(&out));
    assert!(verdicts(&fleet).iter().all(|v| v == "broken"), "{what}: {:?}", verdicts(&fleet));
    let out = job(&fleet, "prune", &with);
    assert_eq!((exit(&out), fleet.sim.collections().len(), fleet.sim.points().len()), (0, 0, 0), "{what}: {}", said(&out));
}

/// The machine's own scripts, as they are shipped: Azure's extension would run them around an application-consistent point.
fn scripted(change: impl Fn(&str, String) -> String, continue_on_failure: bool) -> AzureFleet {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let m = &fleet.members[0];
    let etc = m.host.run.path().join("azure");
    std::fs::create_dir(&etc).unwrap();
    let config = etc.join("VMSnapshotScriptPluginConfig.json");
    std::fs::write(config, suite::house::rules::read("infra/azure/backup/VMSnapshotScriptPluginConfig.json")).unwrap();
    assert!(m.host.agent.stop(10_000));
    m.host.write_config(&format!("{}\n[azure_backup]\ndir = \"{}\"\nhold = \"8s\"\n", m.host.config_text(), etc.display()));
    m.host.start_agent();
    let script = |stage: &str| {
        let path = etc.join(format!("{stage}.sh"));
        let text = suite::house::rules::read(&format!("infra/azure/backup/{stage}.sh"));
        std::fs::write(&path, change(stage, text)).unwrap();
        path
    };
    let scripts = PrePost { pre: script("pre"), post: script("post"), timeout_ms: 20_000, continue_on_failure };
    fleet.sim.add_host(cloud_sim::arm::ArmHost { scripts: Some(scripts), ..run_host(&m.id, &m.host) });
    fleet
}

fn by_azure() -> Value {
    with(json!({ "held_by": "host", "hold": "8s", "snapshot": "500ms" }))
}

#[test]
fn an_application_consistent_point_is_held_by_the_machines_own_scripts() {
    let fleet = scripted(|_, t| t, false);
    let m = &fleet.members[0];
    let out = job(&fleet, "backup", &by_azure());
    assert_eq!(exit(&out), 0, "{}", said(&out));
    let p = &fleet.sim.points()[0];
    assert_eq!((p.consistency.as_str(), p.pre, p.post), ("ApplicationConsistent", Some(0), Some(0)));
    assert!(inside(m, p) && fleet.freezes() == 1 && !fleet.any_frozen(), "{p:?} {:?}", m.windows());
    let c = &fleet.sim.collections()[0];
    let tag = |n: &str| c.tags.get(&format!("snapfreeze:{n}")).map_or("", String::as_str);
    assert_eq!((tag("verdict"), tag("set-size")), ("held", "3"));
    assert!(!tag("restore-from").is_empty() && !tag("host").is_empty(), "{:?}", c.tags);
    // The agent was asked nothing but facts and status: nobody froze twice.
    let verbs: Vec<_> =
        fleet.sim.runs().iter().map(|r| r.name.as_deref().and_then(|n| n.split('-').nth(1)).unwrap_or_default().to_owned()).collect();
    assert_eq!(verbs, ["facts", "status", "status"], "{verbs:?}");
}

#[test]
fn a_point_that_azure_did_not_make_application_consistent_is_never_held() {
    // The published sample's 5; and scripts that say 0 and freeze nothing, which Azure believes.
    let nothing = |_: &str, _: String| "exit 0\n".to_owned();
    let fails = |stage: &str, t: String| if stage == "pre" { "exit 5\n".to_owned() } else { t };
    let case = |what: &str, fleet: AzureFleet| {
        let out = job(&fleet, "backup", &by_azure());
        assert_eq!(exit(&out), 3, "{what}: {}", said(&out));
        let believed = fleet.sim.points().iter().any(|p| p.consistency == "ApplicationConsistent");
        assert_eq!(believed, what == "scripts that lie", "{what}");
        assert!(!fleet.any_frozen() && !verdicts(&fleet).contains(&"held".to_owned()), "{what}");
        let out = job(&fleet, "reap", &by_azure());
        assert_eq!(exit(&out), 0, "{what}: {}", said(&out));
        assert!(verdicts(&fleet).iter().all(|v| v == "broken"), "{what}: {:?}", verdicts(&fleet));
    };
    std::thread::scope(|s| {
        s.spawn(|| case("no snapshot", scripted(fails, false)));
        s.spawn(|| case("file-system-consistent", scripted(fails, true)));
        s.spawn(|| case("scripts that lie", scripted(nothing, true)));
        s.spawn(|| {
            let fleet = scripted(|_, t| t, false);
            // A lost answer: the scripts' window is waited for, and nothing is claimed.
            fleet.sim.fault(ArmRule::new(ArmMatch::op("points.put"), ArmFault::LostReply));
            let out = job(&fleet, "backup", &by_azure());
            assert!(exit(&out) != 0, "{}", said(&out));
            assert!(!fleet.any_frozen() && !verdicts(&fleet).contains(&"held".to_owned()));
        });
    });
}

#[test]
fn another_backups_window_proves_nothing_about_a_point() {
    // Scripts that say 0 and freeze nothing by the hook, while a backup of another name opens and closes a good window.
    let id = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e";
    let other = |stage: &str, _: String| match stage {
        "pre" => format!("/usr/bin/snapfreeze freeze --id {id} --by nightly --hold 8s --no-sync\n"),
        _ => format!("/usr/bin/snapfreeze thaw --id {id} --by nightly\n"),
    };
    let fleet = scripted(other, false);
    let m = &fleet.members[0];
    let out = job(&fleet, "backup", &by_azure());
    let p = &fleet.sim.points()[0];
    assert_eq!((p.consistency.as_str(), p.pre, p.post), ("ApplicationConsistent", Some(0), Some(0)), "Azure believes them");
    assert!(inside(m, p) && !fleet.any_frozen(), "a window was there: {:?}", m.windows());
    assert_eq!(exit(&out), 3, "{}", said(&out));
    assert!(said(&out).contains("no script has frozen anything") && said(&out).contains("snapfreeze check"), "{}", said(&out));
    assert!(!verdicts(&fleet).contains(&"held".to_owned()), "{}", said(&out));
}
