//! Bad input: each has its error's name and page, and nothing is frozen.

use crate::common::{backup, exit};
use cloud_sim::{Fault, Instance, Match, Rule, Volume};
use serde_json::{Value, json};
use suite::cloud::fleet::{Fleet, setup};
use suite::cloud::programs::{ctl, said};

/// The problem that a run told, by name.
fn problem(out: &std::process::Output) -> Value {
    let text = String::from_utf8_lossy(&out.stdout);
    let all = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let mut found = all.filter_map(|v| if v["type"] == "problem" { Some(v) } else { v.get("problem").filter(|p| p.is_object()).cloned() });
    found.next().unwrap_or_else(|| panic!("no problem was told: {}", said(out)))
}

/// Each wrong thing that a person can do, what it is called, and its exit code.
#[test]
fn every_bad_input_has_a_name_and_a_page_and_freezes_nothing() {
    let fleet = Fleet::iris(1, cloud_sim::Config::quick, &setup());
    let m = &fleet.members[0];
    let root = || m.host.engine.sim().root.clone();
    let boot = || Volume::new("vol-00000000000009999", "/dev/xvda");
    let good = || Instance::new(&m.id).tag("snapfreeze", "nightly").volume(boot()).volume(Volume::new(&m.volume, "/dev/sdf").dir(root()));
    let many = |n: usize| (0..n).fold(good(), |i, k| i.volume(Volume::new(&format!("vol-{:017x}", 0x2000 + k), &format!("/dev/x{k}"))));
    let other_ids: Vec<String> = (0..41).map(|k| format!("vol-{:017x}", 0x2000 + k)).collect();
    let ids = |id: &str| json!({ "hold": "15s", "select": { "ids": [id] } });
    let plain = json!({ "hold": "15s" });
    let nothing = |_: &Fleet| {};
    type Change<'a> = Box<dyn Fn(&Fleet) + 'a>;
    let cases: Vec<(&str, Change, Value, &str, i32)> = vec![
        ("unknown tag", Box::new(nothing), json!({ "select": { "tags": { "snapfreeze": "weekly" } } }), "Cloud.Refused", 9),
        ("unknown instance", Box::new(nothing), ids("i-00000000deadbeef0"), "Cloud.Refused", 9),
        ("stopped instance", Box::new(|f: &Fleet| f.sim.set_state(&f.members[0].id, "stopped")), plain.clone(), "Cloud.Refused", 9),
        ("instance without agent", Box::new(|f: &Fleet| f.sim.set_online(&f.members[0].id, false)), plain.clone(), "Agent.Unreachable", 10),
        (
            "no volumes",
            Box::new(|f: &Fleet| f.sim.add_instance(Instance::new(&f.members[0].id).tag("snapfreeze", "nightly"))),
            plain.clone(),
            "Cloud.Refused",
            9,
        ),
        (
            "more volumes than can be excluded",
            Box::new(move |f: &Fleet| f.sim.add_instance(many(41))),
            json!({ "hold": "15s", "exclude_volumes": other_ids }),
            "Cloud.Refused",
            9,
        ),
        (
            "the data's volume is excluded",
            Box::new(nothing),
            json!({ "hold": "15s", "exclude_volumes": [m.volume] }),
            "Freeze.Refused.NotCovered",
            4,
        ),
        (
            "permission denied",
            Box::new(|f: &Fleet| {
                f.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::AccessDenied).always());
            }),
            plain.clone(),
            "Cloud.Refused",
            9,
        ),
        (
            "may not send commands",
            Box::new(|f: &Fleet| {
                f.sim.fault(Rule::new(Match::action("SendCommand"), Fault::AccessDenied).always());
            }),
            plain.clone(),
            "Cloud.Refused",
            9,
        ),
        (
            "throttled before the freeze",
            Box::new(|f: &Fleet| {
                f.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::Throttle).always());
            }),
            plain.clone(),
            "Cloud.Refused",
            9,
        ),
        (
            "too many tags",
            Box::new(nothing),
            json!({ "hold": "15s", "tags": (0..40).map(|k| (format!("t{k}"), json!("v"))).collect::<serde_json::Map<_, _>>() }),
            "Cloud.Refused",
            9,
        ),
        ("a hold of 1180 s", Box::new(nothing), json!({ "hold": "1180s" }), "Config.Invalid", 2),
        ("a hold longer than the host allows", Box::new(nothing), json!({ "hold": "500s" }), "Freeze.Refused.Hold", 4),
        ("a hold too short for the hops", Box::new(nothing), json!({ "hold": "1s", "snapshot": "900ms" }), "Freeze.Refused.TooSlow", 4),
        ("an unknown key", Box::new(nothing), json!({ "holt": "15s" }), "Config.Invalid", 2),
    ];
    let count = cases.len();
    for (what, change, with, code, code_exit) in cases {
        fleet.sim.add_instance(good());
        fleet.sim.set_online(&m.id, true);
        fleet.sim.clear_faults();
        change(&fleet);
        let out = backup(&fleet, &with, &[]);
        let p = problem(&out);
        assert_eq!((p["code"].as_str(), exit(&out)), (Some(code), code_exit), "{what}: {}", said(&out));
        assert!(p["detail"].as_str().is_some_and(|d| d.len() > 10), "{what}: {p}");
        let page = ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &["explain", code]).output().expect("it runs");
        assert!(page.status.success() && page.stdout.len() > 200, "{what}: a page for {code}");
    }
    assert_eq!(count, 15);
    assert_eq!(fleet.freezes(), 0, "nothing was frozen");
    assert_eq!(fleet.sim.snapshots().len(), 0);

    // A wrong region: nothing of ours is there.
    let policy = crate::common::policy_file(&fleet, &plain);
    let args = ["--json", "--region", "eu-west-3", "backup", "--policy", &policy];
    let out = ctl(&fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &args).output().expect("it runs");
    let said_so = said(&out);
    assert_eq!((problem(&out)["code"].as_str(), exit(&out)), (Some("Cloud.Refused"), 9), "{said_so}");
    assert!(said_so.contains("eu-west-3"), "it names the region: {said_so}");

    // The control: put right, the same policy gives a set.
    fleet.sim.add_instance(good());
    fleet.sim.clear_faults();
    assert_eq!(exit(&backup(&fleet, &plain, &[])), 0);
    assert_eq!(fleet.freezes(), 1);
}
