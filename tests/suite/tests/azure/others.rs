//! What others say of our work: `az` reads the set and would have asked for the same, and Prism holds our requests against the
//! published descriptions.

use crate::common::{exit, job, policy_file, tag};
use cloud_sim::arm::ArmConfig;
use serde_json::{Value, json};
use suite::cloud::azure::{AzureFleet, GROUP};
use suite::cloud::azure_tools::{Az, Prism, essence};
use suite::cloud::fleet::setup;
use suite::cloud::programs::{program, said};

fn with_tls(dir: std::path::PathBuf) -> ArmConfig {
    ArmConfig { tls: true, retry_after_s: 1, ..ArmConfig::quick(dir) }
}

#[test]
fn az_reads_our_set_and_asks_for_a_snapshot_and_a_command_as_we_do() {
    let test = "az_reads_our_set_and_asks_for_a_snapshot_and_a_command_as_we_do";
    let fleet = AzureFleet::iris(1, with_tls, &setup());
    let out = job(&fleet, "backup", &json!({}));
    assert_eq!(exit(&out), 0, "{}", said(&out));
    let Some(az) = Az::or_skip(&fleet.sim, fleet.dir.path(), test) else { return };
    let set = fleet.sim.snapshots();

    let listed = az.json(&["snapshot", "list", "-g", GROUP]);
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 3, "{listed:?}");
    for s in listed {
        assert_eq!((s["tags"]["snapfreeze:verdict"].as_str(), s["provisioningState"].as_str()), (Some("held"), Some("Succeeded")), "{s}");
        let journal = s["tags"]["snapfreeze:restore-from"].as_str().expect("a journal");
        assert!(std::path::Path::new(journal).is_file(), "the journal's path arrived whole: {journal}");
    }

    // The same again by az: the same method, path and body.
    let ours = fleet.sim.calls();
    let put = ours.iter().find(|c| c.op == "snapshots.put").expect("our snapshot");
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    let one = set.iter().find(|s| put.path.ends_with(&s.name)).expect("the snapshot of that call");
    az.json(&["snapshot", "delete", "-g", GROUP, "-n", &one.name]);
    let tags: Vec<String> = put.body["tags"].as_object().expect("tags").iter().map(|(k, v)| format!("{k}={}", text(v))).collect();
    let source = text(&put.body["properties"]["creationData"]["sourceResourceId"]);
    let location = text(&put.body["location"]);
    let mut args = vec!["snapshot", "create", "-g", GROUP, "-n", &one.name, "--incremental", "true", "--location", &location];
    args.extend(["--source", &source, "--tags"]);
    args.extend(tags.iter().map(String::as_str));
    az.json(&args);
    let theirs = fleet.sim.calls_of("snapshots.put");
    assert_eq!(essence(put), essence(theirs.last().expect("by az")));

    let run = ours.iter().find(|c| c.op == "run.put" && c.path.contains("-thaw-")).expect("our thaw");
    let p = &run.body["properties"];
    let name = run.path.rsplit('/').next().expect("a name");
    let values: Vec<String> =
        p["parameters"].as_array().expect("values").iter().map(|v| format!("{}={}", text(&v["name"]), text(&v["value"]))).collect();
    let (script, seconds) = (text(&p["source"]["script"]), p["timeoutInSeconds"].to_string());
    let mut args = vec!["vm", "run-command", "create", "-g", GROUP, "--vm-name", "db1", "--run-command-name", name];
    args.extend([
        "--location",
        &location,
        "--script",
        &script,
        "--timeout-in-seconds",
        &seconds,
        "--async-execution",
        "true",
        "--parameters",
    ]);
    args.extend(values.iter().map(String::as_str));
    az.json(&args);
    let theirs = fleet.sim.calls_of("run.put");
    assert_eq!(essence(run), essence(theirs.last().expect("by az")));
    assert!(set.iter().all(|s| tag(s, "verdict") == "held"));
}

#[test]
fn the_published_descriptions_allow_every_request_of_a_run_that_they_know() {
    let test = "the_published_descriptions_allow_every_request_of_a_run_that_they_know";
    let Some(prism) = Prism::or_skip(test) else { return };
    let fleet = AzureFleet::iris(1, ArmConfig::quick, &setup());
    let checked = prism.watching(&fleet.sim.endpoint(), fleet.dir.path());
    let policy = policy_file(&fleet, &json!({ "hold": "20s", "keep": { "last": 1, "max_age": "1h" } }));
    for verb in ["backup", "watch", "reap", "prune"] {
        let mut c = fleet.program(&program("snapfreeze-job"), &[verb, "--policy", &policy]);
        let out = c.env("SNAPFREEZE_ARM_ENDPOINT", checked.url()).output().expect("it runs");
        assert_eq!(exit(&out), 0, "{verb}: {}", said(&out));
    }
    let policy = policy_file(&fleet, &json!({ "hold": "20s", "snapshotter": "restore-point" }));
    for verb in ["backup", "reap"] {
        let mut c = fleet.program(&program("snapfreeze-job"), &[verb, "--policy", &policy]);
        let out = c.env("SNAPFREEZE_ARM_ENDPOINT", checked.url()).output().expect("it runs");
        assert_eq!(exit(&out), 0, "restore point, {verb}: {}", said(&out));
    }
    assert!(fleet.sim.snapshots().len() == 3 && fleet.sim.snapshots().iter().all(|s| tag(s, "verdict") == "held"));
    let through = |op: &str| fleet.sim.calls_of(op).len();
    assert!(through("snapshots.put") == 3 && through("snapshots.patch") >= 6 && through("vms.get") > 0 && through("disks.get") > 0);
    assert!(through("points.put") == 1 && through("collections.put") == 1 && through("collections.patch") >= 2);
    assert!(through("collections.list") > 0 && through("collections.get") > 0);
    suite::host::sleep_ms(1_000); // Prism notes a moment after it answered.
    assert!(checked.unchecked() > 0, "managed Run Commands are in no description that is packaged");
    assert_eq!(checked.bad_requests(), Vec::<String>::new());
}
