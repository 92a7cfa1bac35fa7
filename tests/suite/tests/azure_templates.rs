//! The Bicep of `infra/azure`, as other people's parser and scanner read it: jobs that never retry, identities with one role each,
//! alerts that read what jobs write. Each rule has a negative control: the text is broken, and the rule must see it.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use suite::cloud::tools::tool_or_skip;
use suite::house::rules::{read, root};

const NONE: [&str; 0] = [];
const FILES: [&str; 3] = ["main.bicep", "jobs.bicep", "access.bicep"];
const PARSE: &str = "import sys,json,pathlib\nfrom pycep import BicepParser\n\
    print(json.dumps(BicepParser().parse(file_path=pathlib.Path(sys.argv[1])), default=str))";

fn text(name: &str) -> String {
    read(&format!("infra/azure/{name}"))
}

/// As pycep reads it, the parser that checkov uses.
fn parsed(python: &Path, text: &str) -> Result<Value, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.bicep");
    std::fs::write(&file, text).unwrap();
    let o = Command::new(python).args(["-c", PARSE]).arg(&file).output().unwrap();
    match o.status.success() {
        true => Ok(serde_json::from_slice(&o.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&o.stderr).into_owned()),
    }
}

/// `a.b.c` of a property chain, a literal as it is.
fn chain(v: &Value) -> String {
    let of = &v["operator"];
    match of["type"].as_str() {
        Some("property_accessor") => format!("{}.{}", chain(&of["operands"]["operand_1"]), chain(&of["operands"]["operand_2"])),
        _ => v.as_str().map_or_else(|| v.to_string(), str::to_owned),
    }
}

/// What is wrong with the jobs.
fn job_faults(jobs: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let all = jobs["resources"].as_object().unwrap();
    let of: Vec<(&String, &Value)> = all.iter().filter(|(_, r)| r["type"] == "Microsoft.App/jobs").collect();
    if of.len() != 2 {
        faults.push(format!("{} jobs", of.len()));
    }
    for (name, r) in of {
        let config = if r["config"]["config"].is_object() { &r["config"]["config"] } else { &r["config"] };
        let c = &config["properties"]["configuration"];
        if c["replicaRetryLimit"] != json!(0) {
            faults.push(format!("{name}: a retry would freeze twice"));
        }
        let t = &c["scheduleTriggerConfig"];
        if (&c["triggerType"], &t["parallelism"], &t["replicaCompletionCount"]) != (&json!("Schedule"), &json!(1), &json!(1)) {
            faults.push(format!("{name}: not one at a time, on schedule"));
        }
        let seconds = c["replicaTimeout"].as_u64().or_else(|| jobs["variables"][c["replicaTimeout"].as_str()?]["value"].as_u64());
        let container = &config["properties"]["template"]["containers"][0];
        if container["args"][0] == "backup" {
            let stop =
                jobs["variables"]["stopBy"]["value"].as_str().and_then(|s| s.strip_suffix('m')?.parse::<u64>().ok()).unwrap_or(u64::MAX);
            if container["args"][1] != "--stop-by"
                || container["args"][2] != "stopBy"
                || seconds.unwrap_or(0) < stop.saturating_mul(60) + 120
            {
                faults.push(format!("{name}: the platform ends it before it has thawed"));
            }
        }
        let ids = config["identity"]["userAssignedIdentities"].as_object().cloned().unwrap_or_default();
        let own = if name == "backup" { "'${backupIdentity.id}'" } else { "'${upkeepIdentity.id}'" };
        if ids.keys().collect::<Vec<_>>() != [own] {
            faults.push(format!("{name}: not its own identity"));
        }
        let env = &container["env"]["function"]["parameters"];
        let client = &env["arg_2"][0];
        if env["arg_1"] != "environment"
            || client["name"] != "AZURE_CLIENT_ID"
            || !own.contains(chain(&client["value"]).split('.').next().unwrap_or("?"))
        {
            faults.push(format!("{name}: not told who it is"));
        }
    }
    let verbs: Vec<&str> =
        jobs["variables"]["upkeep"]["value"].as_array().into_iter().flatten().filter_map(|j| j["verb"].as_str()).collect();
    if verbs != ["prune", "reap", "watch"] {
        faults.push(format!("upkeep is {verbs:?}"));
    }
    let env: Vec<&str> =
        jobs["variables"]["environment"]["value"].as_array().into_iter().flatten().filter_map(|e| e["name"].as_str()).collect();
    if env != ["AZURE_SUBSCRIPTION_ID", "SNAPFREEZE_POLICY"] {
        faults.push(format!("the environment is {env:?}"));
    }
    faults
}

/// What is wrong with the alerts. `report`: the source of the lines that they read.
fn alert_faults(jobs: &Value, report: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = jobs["variables"]["lines"]["value"].as_str().unwrap_or_default();
    if !lines.contains("isfuzzy=true") || !lines.contains("datatable(") || !lines.contains("line.Policy) == \"${policyName}\"") {
        faults.push("a query that fails before the first line, or reads another policy's".into());
    }
    for name in ["leftFrozen", "failed", "silence"] {
        let p = &jobs["resources"][name]["config"]["properties"];
        let c = &p["criteria"]["allOf"][0];
        let query = c["query"].as_str().unwrap_or_default();
        if !query.starts_with("${lines} | ") || chain(&p["scopes"][0]) != "logs.id" || p["enabled"] != json!(true) {
            faults.push(format!("{name}: reads something else"));
        }
        if p["actions"]["actionGroups"] != "actionGroups" {
            faults.push(format!("{name}: tells nobody"));
        }
        for field in query.split("line.").skip(1).map(|r| r.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("")) {
            if !report.contains(&format!("\"{field}\"")) {
                faults.push(format!("{name}: no job writes {field}"));
            }
        }
        for message in query.split("message) == \"").skip(1).filter_map(|r| r.split('"').next()) {
            if !report.contains(&format!("\"message\": \"{message}\"")) {
                faults.push(format!("{name}: no job says {message}"));
            }
        }
        let fires = (c["operator"].as_str().unwrap_or(""), c["threshold"].as_u64());
        let right = if name == "silence" { ("LessThan", Some(1)) } else { ("GreaterThan", Some(0)) };
        if fires != right {
            faults.push(format!("{name}: fires at {fires:?}"));
        }
    }
    // One row whatever there is, so that nothing is less than one, too.
    let silence = jobs["resources"]["silence"]["config"]["properties"]["criteria"]["allOf"][0]["query"].as_str().unwrap_or_default();
    if !silence.contains("| summarize fresh = countif(")
        || silence.contains(" by ")
        || !silence.contains("isnotnull(toint(line.AgeOfLastHeldSet))")
    {
        faults.push("silence: no rows would be no alarm".into());
    }
    if jobs["resources"]["leftFrozen"]["config"]["properties"]["severity"] != json!(0) {
        faults.push("leftFrozen: there is nothing worse".into());
    }
    faults
}

fn report() -> String {
    ["lambda/common/src/report.rs", "lambda/azure/src/job/mod.rs"].map(read).join("\n")
}

#[test]
fn jobs_never_retry_and_alerts_read_what_jobs_write() {
    let Some(python) = tool_or_skip("checkov", "python", "jobs_never_retry_and_alerts_read_what_jobs_write") else { return };
    let good = text("jobs.bicep");
    let jobs = parsed(&python, &good).expect("it is Bicep");
    assert_eq!(job_faults(&jobs), NONE);
    assert_eq!(alert_faults(&jobs, &report()), NONE);
    let breaks = [
        ("replicaRetryLimit: 0", "replicaRetryLimit: 1", "freeze twice"),
        ("parallelism: 1", "parallelism: 2", "one at a time"),
        ("var replicaTimeout = 3600", "var replicaTimeout = 3300", "before it has thawed"),
        ("var stopBy = '55m'", "var stopBy = '59m'", "before it has thawed"),
        ("{ '${backupIdentity.id}': {} }", "{ '${upkeepIdentity.id}': {} }", "own identity"),
        ("value: upkeepIdentity.properties.clientId", "value: backupIdentity.properties.clientId", "who it is"),
        ("verb: 'watch'", "verb: 'wacth'", "upkeep is"),
        ("'SNAPFREEZE_POLICY'", "'POLICY'", "environment is"),
        ("isfuzzy=true", "", "fails before"),
        ("toint(line.LeftFrozen)", "toint(line.Frozen)", "no job writes"),
        ("tostring(line.message) == \"watch\"", "tostring(line.message) == \"watched\"", "no job says"),
        ("operator: 'LessThan'", "operator: 'GreaterThan'", "silence: fires at"),
        ("summarize fresh = countif(", "where (", "no rows"),
        ("severity: 0", "severity: 3", "nothing worse"),
        ("actions: { actionGroups: actionGroups }", "actions: { actionGroups: [] }", "tells nobody"),
    ];
    for (from, to, must) in breaks {
        assert!(good.contains(from), "{from}");
        let bad = parsed(&python, &good.replacen(from, to, 1)).unwrap_or_else(|e| panic!("{from}: {e}"));
        let faults = [job_faults(&bad), alert_faults(&bad, &report())].concat();
        assert!(faults.iter().any(|f| f.contains(must)), "{from} -> {to}: {must} was not seen: {faults:?}");
    }
    assert!(parsed(&python, &good.replacen("resource backup ", "resorce backup ", 1)).is_err(), "the parser's control");
}

/// Which role each identity gets, by the names of the template.
fn assigned(main: &Value) -> BTreeSet<(String, String)> {
    let modules = main["modules"].as_object().unwrap();
    let access = modules.values().filter(|m| m["detail"]["path"] == "access.bicep");
    access.map(|m| &m["config"]["config"]["params"]).map(|p| (chain(&p["principalId"]), chain(&p["roleDefinitionId"]))).collect()
}

#[test]
fn each_identity_gets_one_role_and_roles_are_those_that_were_tried() {
    let Some(python) = tool_or_skip("checkov", "python", "each_identity_gets_one_role_and_roles_are_those_that_were_tried") else { return };
    let main = parsed(&python, &text("main.bicep")).expect("it is Bicep");
    let pair = |p: &str, r: &str| (format!("jobs.outputs.{p}Principal"), format!("{r}Role.id"));
    let right = BTreeSet::from([pair("backup", "coordinator"), pair("backup", "points"), pair("upkeep", "upkeep")]);
    assert_eq!(assigned(&main), right);
    let roles: Value = serde_json::from_str(&text("roles.json")).unwrap();
    let defined: BTreeSet<String> = main["resources"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, r)| {
            let p = &r["config"]["properties"];
            let key = name.strip_suffix("Role").unwrap();
            assert_eq!(chain(&p["permissions"][0]["actions"]), format!("roles.{key}.actions"), "{name}");
            assert_eq!(p["permissions"][0].as_object().unwrap().len(), 1, "{name}: nothing but these actions");
            key.to_owned()
        })
        .collect();
    assert_eq!(defined, roles.as_object().unwrap().keys().cloned().collect());
    for (role, may) in [("coordinator", false), ("points", false), ("upkeep", true), ("host", false)] {
        let actions = roles[role]["actions"].as_array().unwrap();
        assert!(actions.iter().all(|a| !a.as_str().unwrap().contains('*')), "{role}: named exactly");
        let has = |what: &str| actions.iter().any(|a| a.as_str().unwrap().ends_with(what));
        assert_eq!((has("snapshots/delete"), has("restorePointCollections/delete")), (may, may), "{role}");
        assert!(!has("disks/delete") && !has("disks/write"), "{role}");
        assert!(role == "coordinator" || !has("runCommands/write") && !has("runCommand/action"), "{role}");
    }
    // Whoever restores makes and attaches disks, and deletes nothing.
    let restore: Vec<&str> = roles["restore"]["actions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(restore.iter().all(|a| !a.contains('*') && !a.contains("delete")) && restore.contains(&"Microsoft.Compute/disks/write"));
    let wrong = text("main.bicep").replacen("principalId: jobs.outputs.upkeepPrincipal", "principalId: jobs.outputs.backupPrincipal", 1);
    assert_ne!(assigned(&parsed(&python, &wrong).unwrap()), right, "the control");
    // What a module is given is what it asks for.
    for (file, module) in [("jobs.bicep", "jobs"), ("access.bicep", "backupAccess")] {
        let asks: BTreeSet<String> = parsed(&python, &text(file)).unwrap()["parameters"].as_object().unwrap().keys().cloned().collect();
        let m = &main["modules"][module]["config"];
        let params = if m["config"].is_object() { &m["config"]["params"] } else { &m["params"] };
        assert_eq!(asks, params.as_object().unwrap().keys().cloned().collect(), "{module}");
    }
    let outputs = parsed(&python, &text("jobs.bicep")).unwrap()["outputs"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(outputs, ["backupPrincipal", "upkeepPrincipal"]);
}

#[test]
fn the_example_is_a_policy_and_its_parameters_are_the_templates() {
    let policy: coordinator::Policy = serde_json::from_str(&text("nightly.json")).expect("a policy");
    let example = text("nightly.bicepparam");
    let given: BTreeSet<&str> = example.lines().filter_map(|l| l.strip_prefix("param ")?.split(' ').next()).collect();
    let main = text("main.bicep");
    let known = |needed: bool| -> BTreeSet<&str> {
        main.lines()
            .filter_map(|l| l.strip_prefix("param "))
            .filter(|l| !needed || !l.contains(" = "))
            .filter_map(|l| l.split(' ').next())
            .collect()
    };
    assert!(given.is_subset(&known(false)) && given.is_superset(&known(true)), "{given:?}");
    assert!(example.contains(&format!("param policyName = '{}'", policy.name)) && example.contains("using 'main.bicep'"));
    // Container Apps: a job's name has less than 32 characters.
    let most: usize = main.split("@maxLength(").nth(1).and_then(|r| r.split(')').next()?.parse().ok()).unwrap();
    assert!("snapfreeze-".len() + most + "-backup".len() < 32);
}

#[test]
fn functions_are_those_that_the_handler_serves() {
    let host: Value = serde_json::from_str(&text("functions/host.json")).unwrap();
    let d = &host["customHandler"]["description"];
    assert_eq!(
        (&host["version"], &d["defaultExecutablePath"], &d["arguments"]),
        (&json!("2.0"), &json!("snapfreeze-job"), &json!(["serve"]))
    );
    assert_eq!(host["functionTimeout"], "01:00:00", "later than the 25 min after which the handler ends a backup");
    let names: BTreeSet<String> = std::fs::read_dir(root().join("infra/azure/functions"))
        .unwrap()
        .flatten()
        .filter(|f| f.path().is_dir())
        .map(|f| f.file_name().into_string().unwrap())
        .collect();
    let served = read("lambda/azure/src/job/serve.rs");
    for name in &names {
        let f: Value = serde_json::from_str(&text(&format!("functions/{name}/function.json"))).unwrap();
        let b = &f["bindings"][0];
        assert_eq!((f["bindings"].as_array().unwrap().len(), &b["type"], &b["direction"]), (1, &json!("timerTrigger"), &json!("in")));
        assert_eq!(b["schedule"].as_str().unwrap().split(' ').count(), 6, "with seconds");
        assert!(served.contains(&format!("\"{name}\"")), "nobody serves {name}");
    }
    assert_eq!(names, ["backup", "prune", "reap", "watch"].map(str::to_owned).into());
}

fn checkov(tool: &Path, dir: &Path) -> Result<Value, String> {
    let mut c = Command::new(tool);
    c.args(["--skip-download", "--framework", "bicep", "dockerfile", "--output", "json", "--directory"]).arg(dir);
    let o = c.env("HOME", tool.parent().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&o.stdout).into_owned();
    if o.status.success() { serde_json::from_str(&said).map_err(|e| e.to_string()) } else { Err(said) }
}

#[test]
fn checkov_finds_nothing_in_bicep_and_image() {
    let Some(tool) = tool_or_skip("checkov", "checkov", "checkov_finds_nothing_in_bicep_and_image") else { return };
    let found = checkov(&tool, &root().join("infra/azure")).expect("no finding");
    for r in found.as_array().expect("a report of each kind") {
        let s = &r["summary"];
        assert_eq!((&s["failed"], &s["parsing_errors"]), (&json!(0), &json!(0)), "{s}");
        assert!(s["passed"].as_u64() >= Some(if r["check_type"] == "dockerfile" { 20 } else { 1 }), "{s}");
    }
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| -> PathBuf {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().to_owned()
    };
    for f in FILES {
        put(f, &text(f));
    }
    let bad = put("Dockerfile", &text("Dockerfile").replace("USER 65534:65534\n", ""));
    assert!(checkov(&tool, &bad).is_err_and(|e| e.contains("CKV_DOCKER_3")), "the control");
}
