//! Bad input: each has its error's name and page, and nothing is frozen.

use crate::common::{ctl, exit, lines, policy_file};
use cloud_sim::arm::{ArmConfig, ArmDisk, ArmFault, ArmMatch, ArmPrincipal, ArmRule, Vm};
use serde_json::{Value, json};
use suite::cloud::azure::{AzureFleet, DISKS, GROUP, SUBSCRIPTION};
use suite::cloud::fleet::setup;
use suite::cloud::programs::{program, said};

/// The problem that a run told.
fn problem(o: &std::process::Output) -> Value {
    let of = |v: Value| if v["type"] == "problem" { Some(v) } else { v.get("problem").filter(|p| p.is_object()).cloned() };
    lines(o).into_iter().find_map(of).unwrap_or_else(|| panic!("no problem was told: {}", said(o)))
}

#[test]
fn every_bad_input_has_a_name_and_a_page_and_freezes_nothing() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let m = &fleet.members[0];
    let bare = || Vm::new(SUBSCRIPTION, GROUP, "db1").tag("snapfreeze", "nightly").os_disk(ArmDisk::new("db1-os"));
    let good = || {
        let disks = (0u32..).zip(DISKS);
        disks.fold(bare(), |vm, (lun, d)| vm.data_disk(lun, ArmDisk::new(&format!("db1-{d}")).dir(m.host.disk.path().join(d))))
    };
    let id = m.id.clone();
    let refuse = |op: &str, status: u16, code: &str| {
        ArmRule::new(ArmMatch::op(op), ArmFault::Status { status, code: code.into(), retry_after_s: None }).always()
    };
    let nothing = |_: &AzureFleet| {};
    type Change<'a> = Box<dyn Fn(&AzureFleet) + 'a>;
    let cases: Vec<(&str, Change, Value, &str, i32)> = vec![
        ("unknown tag", Box::new(nothing), json!({ "select": { "tags": { "snapfreeze": "weekly" } } }), "Cloud.Refused", 9),
        ("unknown machine", Box::new(nothing), json!({ "select": { "ids": [id.replace("db1", "db9")] } }), "Cloud.Refused", 9),
        ("no resource id", Box::new(nothing), json!({ "select": { "ids": ["i-0123"] } }), "Usage.Invalid", 2),
        ("stopped machine", Box::new(|f: &AzureFleet| f.sim.set_power(&f.members[0].id, "deallocated")), json!({}), "Cloud.Refused", 9),
        ("machine without agent", Box::new(|f: &AzureFleet| f.sim.set_online(&f.members[0].id, false)), json!({}), "Agent.Unreachable", 10),
        ("no data disk", Box::new(move |f: &AzureFleet| f.sim.add_vm(bare())), json!({}), "Freeze.Refused.NotCovered", 4),
        ("the data's disk is excluded", Box::new(nothing), json!({ "exclude_volumes": ["lun:0"] }), "Freeze.Refused.NotCovered", 4),
        (
            "may not read snapshots",
            Box::new(move |f: &AzureFleet| {
                f.sim.fault(refuse("snapshots.list", 403, "AuthorizationFailed"));
            }),
            json!({}),
            "Cloud.Refused",
            9,
        ),
        (
            "may not run commands",
            Box::new(move |f: &AzureFleet| {
                f.sim.fault(refuse("run.put", 403, "AuthorizationFailed"));
            }),
            json!({}),
            "Cloud.Refused",
            9,
        ),
        (
            "throttled before the freeze",
            Box::new(move |f: &AzureFleet| {
                f.sim.fault(refuse("disks.get", 429, "TooManyRequests"));
            }),
            json!({}),
            "Cloud.Refused",
            9,
        ),
        (
            "too many tags",
            Box::new(nothing),
            json!({ "tags": (0..40).map(|k| (format!("t{k}"), json!("v"))).collect::<serde_json::Map<_, _>>() }),
            "Cloud.Refused",
            9,
        ),
        ("a tag that Azure forbids", Box::new(nothing), json!({ "tags": { "a/b": "v" } }), "Cloud.Refused", 9),
        ("a lock", Box::new(nothing), json!({ "lock": { "mode": "governance", "days": 1 } }), "Config.Invalid", 2),
        ("a hold of 1180 s", Box::new(nothing), json!({ "hold": "1180s" }), "Config.Invalid", 2),
        ("a hold longer than the host allows", Box::new(nothing), json!({ "hold": "500s" }), "Freeze.Refused.Hold", 4),
        ("a hold too short for the hops", Box::new(nothing), json!({ "hold": "1s", "snapshot": "900ms" }), "Freeze.Refused.TooSlow", 4),
        ("an unknown key", Box::new(nothing), json!({ "holt": "15s" }), "Config.Invalid", 2),
    ];
    let count = cases.len();
    for (what, change, with, code, code_exit) in cases {
        fleet.sim.add_vm(good());
        fleet.sim.set_power(&id, "running");
        fleet.sim.set_online(&id, true);
        fleet.sim.clear_faults();
        change(&fleet);
        let policy = policy_file(&fleet, &with);
        let out = ctl(&fleet, &["--json", "backup", "--policy", &policy]);
        let p = problem(&out);
        assert_eq!((p["code"].as_str(), exit(&out)), (Some(code), code_exit), "{what}: {}", said(&out));
        assert!(p["detail"].as_str().is_some_and(|d| d.len() > 10), "{what}: {p}");
        let page = ctl(&fleet, &["explain", code]);
        assert!(page.status.success() && page.stdout.len() > 200, "{what}: a page for {code}");
    }
    assert_eq!(count, 17);
    assert_eq!((fleet.freezes(), fleet.sim.snapshots().len()), (0, 0), "nothing was frozen");

    // Where to look, and as whom.
    let policy = policy_file(&fleet, &json!({}));
    let run = |change: &dyn Fn(&mut std::process::Command)| {
        let mut c = fleet.program(&program("snapfreezectl"), &["--json", "--cloud", "azure", "backup", "--policy", &policy]);
        change(&mut c);
        let o = c.output().expect("it runs");
        (problem(&o)["code"].as_str().unwrap_or_default().to_owned(), exit(&o), said(&o))
    };
    let (code, e, text) = run(&|c| {
        c.env_remove("AZURE_SUBSCRIPTION_ID");
    });
    assert_eq!((code.as_str(), e), ("Config.Invalid", 2), "{text}");
    let (code, e, text) = run(&|c| {
        c.env("SNAPFREEZE_ARM_ENDPOINT", "http://10.1.2.3");
    });
    assert_eq!((code.as_str(), e), ("Config.Invalid", 2), "a token is sent over https only: {text}");
    let (code, e, text) = run(&|c| {
        c.env("IDENTITY_HEADER", "wrong");
    });
    assert_eq!((code.as_str(), e), ("Cloud.Refused", 9), "{text}");
    assert!(text.contains("managed identity") && !text.contains("wrong"), "{text}");

    // The control: put right, the same policy gives a set.
    fleet.sim.add_vm(good());
    fleet.sim.set_online(&id, true);
    fleet.sim.clear_faults();
    let out = ctl(&fleet, &["--json", "backup", "--policy", &policy]);
    assert_eq!((exit(&out), fleet.freezes()), (0, 1), "{}", said(&out));
}

/// A right to write snapshots cannot be rehearsed on Azure: its lack is found inside the window, thawed, and named.
#[test]
fn a_missing_right_to_write_is_found_in_the_window_and_thawed() {
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let actions = [
        "Microsoft.Compute/virtualMachines/*",
        "Microsoft.Compute/disks/*",
        "Microsoft.Compute/snapshots/read",
        "Microsoft.Compute/locations/*",
    ];
    fleet.sim.add_principal(ArmPrincipal::new("system").actions(&actions));
    let policy = policy_file(&fleet, &json!({}));
    let out = ctl(&fleet, &["--json", "backup", "--policy", &policy]);
    assert_eq!(exit(&out), 7, "{}", said(&out));
    assert!(said(&out).contains("Microsoft.Compute/snapshots/write"), "{}", said(&out));
    assert_eq!((fleet.freezes(), fleet.sim.snapshots().len(), fleet.any_frozen()), (1, 0, false));
}
