//! The AWS templates: the state machine's graph, the documents' scripts, rights, alarms, and other people's linters. Every rule
//! has a negative control: the thing is broken in memory, and the rule must see it.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use suite::cloud::tools::tool_or_skip;
use suite::house::aws::*;
use suite::house::aws_graph::{RULES, check};
use suite::house::aws_script::{By, Ran, breakers, run, stray_braces};
use suite::house::rules::{read, root};

const NONE: [&str; 0] = [];

fn asl() -> Value {
    serde_json::from_str(&read("infra/aws/backup.asl.json")).expect("the state machine")
}

// ---- the graph

#[test]
fn no_way_out_of_freeze_avoids_thaw_and_every_other_rule_of_the_machine_holds() {
    assert_eq!(check(&asl()), NONE);
    let states = asl()["States"]["Targets"]["ItemProcessor"]["States"].as_object().unwrap().len();
    assert!(states >= 20, "only {states} states");
}

type Break = fn(&mut Value, &mut Value);

/// Each takes (the run, the states of one target) and breaks one thing.
const BREAKS: [(&str, &str, Break); 31] = [
    ("edges", "a typo in Next", |_, s| s["Freeze"]["Next"] = json!("Frosen")),
    ("edges", "no Default", |_, s| drop(s["Frozen"].as_object_mut().unwrap().remove("Default"))),
    ("reachable", "a state that nobody enters", |_, s| s["Lost"] = json!({ "Type": "Fail", "Error": "Internal" })),
    ("one-state-per-action", "a second freeze", |_, s| s["WaitForSlot"] = with_next(&s["Freeze"], "Freeze")),
    ("freeze-reaches-thaw", "Freeze's Catch ends", |_, s| s["Freeze"]["Catch"][0]["Next"] = json!("Backup.Broken")),
    ("freeze-reaches-thaw", "Snapshot's Catch ends", |_, s| s["Snapshot"]["Catch"][0]["Next"] = json!("NotHeld")),
    ("freeze-reaches-thaw", "a choice ends", |_, s| s["Frozen"]["Default"] = json!("NotHeld")),
    ("freeze-reaches-thaw", "a snapshot is enough", |_, s| s["Snapshot"]["Next"] = json!("Settle")),
    ("freeze-reaches-thaw", "round in circles", |_, s| s["Snapshot"]["Next"] = json!("Frozen")),
    ("no-retry", "Snapshot again", |_, s| s["Snapshot"]["Retry"] = s["Thaw"]["Retry"].clone()),
    ("no-retry", "Freeze again", |_, s| s["Freeze"]["Retry"] = s["Thaw"]["Retry"].clone()),
    ("doubt-thaws", "no Catch", |_, s| drop(s["Freeze"].as_object_mut().unwrap().remove("Catch"))),
    ("doubt-thaws", "only some errors", |_, s| s["Snapshot"]["Catch"][0]["ErrorEquals"] = json!(["States.Timeout"])),
    ("doubt-thaws", "the saga is overwritten", |_, s| s["Freeze"]["Catch"][0]["ResultPath"] = json!("$.now")),
    ("thaw-insists", "no Retry", |_, s| drop(s["Thaw"].as_object_mut().unwrap().remove("Retry"))),
    ("thaw-insists", "gives up at once", |_, s| s["Thaw"]["Retry"][0]["MaxAttempts"] = json!(1)),
    ("thaw-insists", "a failed thaw is only broken", |_, s| s["Thaw"]["Catch"][0]["Next"] = json!("NotHeld")),
    ("thaw-insists", "an unknown answer is fine", |_, s| s["Thawed"]["Default"] = json!("Settle")),
    ("snapshot-needs-freeze", "straight to the snapshot", |_, s| s["WaitForSlot"]["Next"] = json!("Snapshot")),
    ("never-back", "once more after the thaw", |_, s| s["Thawed"]["Default"] = json!("Freeze")),
    ("only-held-succeeds", "broken succeeds", |_, s| s["Backup.Broken"] = json!({ "Type": "Succeed" })),
    ("only-held-succeeds", "settled is enough", |_, s| drop(s["Settled"]["Choices"][0]["And"].as_array_mut().unwrap().pop())),
    ("failure-is-told", "a broken set without an event", |_, s| s["Settled"]["Choices"][1]["Next"] = json!("Backup.Broken")),
    ("failure-is-told", "left frozen without an event", |_, s| s["LeftFrozen"] = json!({ "Type": "Pass", "Next": "Thaw.LeftFrozen" })),
    ("every-task-ends", "no time-out", |_, s| drop(s["Freeze"].as_object_mut().unwrap().remove("TimeoutSeconds"))),
    ("every-task-ends", "too long", |_, s| s["Thaw"]["TimeoutSeconds"] = json!(900)),
    ("every-task-ends", "an error ends it", |_, s| drop(s["Settle"].as_object_mut().unwrap().remove("Catch"))),
    ("names", "an error that nobody has", |_, s| s["Thaw"]["Retry"][0]["ErrorEquals"] = json!(["Freeze.Refused.Moon"])),
    ("names", "a snapshot without the coordinator", |_, s| {
        s["Snapshot"]["Resource"] = json!("arn:aws:states:::aws-sdk:ec2:createSnapshots")
    }),
    ("map-tolerates", "a threshold", |run, _| run["States"]["Targets"]["ToleratedFailurePercentage"] = json!(5.0)),
    ("map-tolerates", "the run has a time-out", |run, _| run["TimeoutSeconds"] = json!(3600)),
];

fn with_next(state: &Value, next: &str) -> Value {
    let mut s = state.clone();
    s["Next"] = json!(next);
    s
}

#[test]
fn each_rule_of_the_machine_sees_what_breaks_it() {
    let mut seen = BTreeSet::new();
    for (rule, what, break_it) in BREAKS {
        let mut run = asl();
        let mut states = run["States"]["Targets"]["ItemProcessor"]["States"].take();
        break_it(&mut run, &mut states);
        run["States"]["Targets"]["ItemProcessor"]["States"] = states;
        let found = check(&run);
        assert!(found.iter().any(|f| f.starts_with(&format!("{rule}:"))), "{what}: {rule} did not see it: {found:?}");
        seen.insert(rule);
    }
    assert_eq!(seen, BTreeSet::from(RULES), "every rule has a control");
}

// ---- the documents

const ID: &str = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e";
const SHA: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"; // of "test"

/// What really arrives, by parameter.
const RIGHT: [(&str, &[&str]); 18] = [
    ("backupId", &[ID]),
    ("hold", &["1000", "60000", "1179000"]),
    ("issuedAt", &["1795668548000"]),
    ("notAfter", &["1795668608000"]),
    ("by", &["nightly 0197c4a2/3", "snapfreezectl admin@ops-1", "a"]),
    ("instances", &["", "IRIS", "IRIS,_TRAK-2.b", "gtm"]),
    ("policy", &["nightly", "ward-7.gtm_B"]),
    ("executionId", &["None", ID, "AAAAAAAA-bbbb-4ccc-8ddd-eeeeeeeeeeee"]),
    ("command", &["pre-script", "post-script", "dry-run"]),
    ("source", &["s3://my.bucket-1/agents/snapfreeze_0.1.0-1_amd64.deb", "https://example.org:8443/a/snapfreeze-0.1.0~rc1+2.x86_64.rpm"]),
    ("sha256", &[SHA]),
    ("step", &["mount", "plan", "run", "unmount"]),
    ("volumes", &["", "vol-0123456789abcdef0", "vol-0123456789abcdef0 vol-01234567"]),
    ("set", &["", "wpVPLbtswEPwVQqcEKCWSetDSLa5d1EWQQ-2gRW-0tLLZWqRKSnbsov8eUskhcpxLcuFhZ2d2drT6F9yJBoIisEq0tQE4Ado30eL7YokYYRmmFDO"]),
    ("until", &["end", "backup", "20261127.001", "MIRROR-M1-20261127.001"]),
    ("wij", &["backup", "without"]),
    ("everything", &["yes", "no"]),
    ("evenIfNotHeld", &["yes", "no"]),
];
const WRONG: [&str; 16] = [
    "x;id",
    "$(id)",
    "`id`",
    "a|b",
    "a&b",
    "a\nb",
    "a\"b",
    "a'b",
    "a\\b",
    "a>b",
    "--help",
    "../etc",
    "a*",
    "${IFS}",
    "{{ssm:secret}}",
    "s3://b/k.deb;id",
];

fn right(name: &str) -> &'static [&'static str] {
    RIGHT.iter().find(|r| r.0 == name).unwrap_or_else(|| panic!("{name} has no row in RIGHT")).1
}

#[test]
fn parameters_let_pass_what_is_needed_and_nothing_that_could_leave_its_quotes() {
    let mut looked = 0;
    for d in documents().values() {
        for (name, p) in &d.parameters {
            let pattern = p["allowedPattern"].as_str().unwrap_or_else(|| panic!("{}: {name} takes anything", d.name));
            assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{}: {name}: {pattern}", d.name);
            assert_eq!((p["type"].as_str(), p["interpolationType"].as_str()), (Some("String"), Some("ENV_VAR")), "{}: {name}", d.name);
            let regex = regex_lite::Regex::new(pattern).unwrap();
            let values: Vec<&str> = right(name).iter().copied().filter(|v| !v.is_empty() || p["default"] == "").collect();
            assert!(values.iter().all(|v| regex.is_match(v)), "{}: {name} = {values:?}", d.name);
            for w in WRONG {
                assert!(!regex.is_match(w), "{}: {name} lets {w:?} pass", d.name);
            }
            assert_eq!(breakers(p, &values), NONE, "{}: {name}", d.name);
            looked += 1;
        }
    }
    assert_eq!(looked, 29, "parameters of all documents");
    assert!(breakers(&json!({ "allowedPattern": "^[^;]+$" }), &["a b"]).len() > 10, "the control: a pattern that only shuts out one");
}

#[test]
fn documents_are_one_short_step_on_linux_without_text_from_outside() {
    let all = documents();
    let names = ["backup", "dlm", "facts", "freeze", "install", "restore", "status", "thaw"].map(|n| format!("snapfreeze-{n}"));
    assert_eq!(all.keys().cloned().collect::<Vec<_>>(), names);
    for d in all.values() {
        assert_eq!(d.steps.len(), 1, "{}", d.name);
        let step = &d.steps[0];
        assert_eq!((step["action"].as_str(), step["name"].as_str()), (Some("aws:runShellScript"), Some("snapfreeze")));
        assert_eq!(step["precondition"], json!({ "StringEquals": ["platformType", "Linux"] }));
        let script = d.script();
        assert!((1..=16).contains(&script.len()), "{}: {} lines", d.name, script.len());
        let names: Vec<&str> = d.parameters.keys().map(String::as_str).collect();
        assert_eq!(stray_braces(&script, &names), NONE, "{}", d.name);
        for n in names {
            assert!(script.iter().any(|l| l.contains(&format!("{{{{{n}}}}}"))), "{}: {n} has no fallback", d.name);
        }
    }
    assert_eq!(stray_braces(&["snapfreeze thaw --id {{backupId}}".into()], &["backupId"]).len(), 1, "the control");
    // What Data Lifecycle Manager asks of a document (user guide, "Automate application-consistent snapshots").
    let dlm = &all["snapfreeze-dlm"];
    assert_eq!(dlm.tags, json!([{ "Key": "DLMScriptsAccess", "Value": "true" }]));
    assert_eq!(dlm.parameters["command"]["allowedValues"], json!(["pre-script", "post-script", "dry-run"]));
    assert_eq!((&dlm.parameters["command"]["default"], &dlm.parameters["executionId"]["default"]), (&json!("dry-run"), &json!("None")));
}

fn ran(script: &[String], values: &[(&str, &str)], by: By, exit: u8) -> Ran {
    run(script, values, by, tempfile::tempdir().unwrap().path(), exit)
}

#[test]
fn scripts_hand_over_every_value_whole_and_end_with_the_verbs_code() {
    let all = documents();
    let timed = [("backupId", ID), ("hold", "60000"), ("issuedAt", "1795668548000"), ("notAfter", "1795668608000"), ("by", "nightly 3/a")];
    let times = ["--issued-at", "1795668548000", "--not-after", "1795668608000", "--by", "nightly 3/a"];
    let with = |more: &[(&'static str, &'static str)]| timed.iter().chain(more).copied().collect::<Vec<_>>();
    let argv = |words: &[&[&str]]| words.concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let freeze = ["freeze", "--json", "--id", ID, "--hold", "60000ms"];
    let backup = ["backup", "--json", "--snapshotter", "command", "--id", ID, "--hold", "60000ms"];
    let cases = [
        ("facts", with(&[]), argv(&[&["facts", "--json", "--id", ID, "--hold", "60000ms"]])),
        ("freeze", with(&[("instances", "")]), argv(&[&freeze, &times])),
        ("freeze", with(&[("instances", "IRIS,B-2")]), argv(&[&freeze, &times, &["--instance", "IRIS", "--instance", "B-2"]])),
        ("thaw", with(&[]), argv(&[&["thaw", "--json", "--id", ID, "--by", "nightly 3/a"]])),
        (
            "restore",
            vec![
                ("backupId", ID),
                ("step", "mount"),
                ("volumes", "vol-01234567 vol-89abcdef"),
                ("set", "wA-_9"),
                ("until", "end"),
                ("wij", "backup"),
                ("everything", "yes"),
                ("evenIfNotHeld", "yes"),
            ],
            argv(&[&[
                "restore",
                "--json",
                "--packed",
                "mount",
                ID,
                "--set",
                "wA-_9",
                "--volume",
                "vol-01234567",
                "--volume",
                "vol-89abcdef",
            ]]),
        ),
        (
            "restore",
            vec![
                ("backupId", ID),
                ("step", "run"),
                ("volumes", ""),
                ("set", ""),
                ("until", "20261127.001"),
                ("wij", "without"),
                ("everything", "yes"),
                ("evenIfNotHeld", "yes"),
            ],
            argv(&[&[
                "restore",
                "--json",
                "--packed",
                "run",
                ID,
                "--until",
                "20261127.001",
                "--wij",
                "without",
                "--everything",
                "--even-if-not-held",
                "--yes",
            ]]),
        ),
        (
            "restore",
            vec![
                ("backupId", ID),
                ("step", "plan"),
                ("volumes", ""),
                ("set", ""),
                ("until", "end"),
                ("wij", "backup"),
                ("everything", "no"),
                ("evenIfNotHeld", "no"),
            ],
            argv(&[&["restore", "--json", "--packed", "plan", ID, "--until", "end", "--wij", "backup"]]),
        ),
        ("status", vec![("backupId", "")], argv(&[&["status", "--json"]])),
        ("status", vec![("backupId", ID)], argv(&[&["status", "--json", "--id", ID]])),
        ("backup", with(&[("policy", "ward-7")]), argv(&[&backup, &times, &["--policy", "ward-7"]])),
        ("dlm", vec![("executionId", ID), ("command", "pre-script")], argv(&[&["hook", "dlm", "pre", "--execution-id", ID]])),
        ("dlm", vec![("executionId", ID), ("command", "post-script")], argv(&[&["hook", "dlm", "post", "--execution-id", ID]])),
        ("dlm", vec![("executionId", "None"), ("command", "dry-run")], argv(&[&["hook", "dlm", "dry-run"]])),
    ];
    for (name, values, expected) in &cases {
        let script = all[&format!("snapfreeze-{name}")].script();
        for by in [By::Environment, By::Text] {
            for exit in [0, 3, 8, 201] {
                let r = ran(&script, values, by, exit);
                assert_eq!(r.code, i32::from(exit), "{name} {by:?}: {}", r.stderr);
                assert_eq!(r.calls, [[&["snapfreeze".to_owned()], expected.as_slice()].concat()], "{name} {by:?}");
            }
        }
    }
    let mut lying = all["snapfreeze-freeze"].script();
    let last = lying.pop().unwrap().replace("exec ", "");
    lying.extend([last, "exit 0".into()]);
    assert_eq!(ran(&lying, &cases[1].1, By::Environment, 6).code, 0, "the control: a script that hides its verb's code is seen");
}

#[test]
fn a_package_is_installed_only_if_its_digest_is_the_one_that_was_given() {
    let script = documents()["snapfreeze-install"].script();
    let [s3, https] = right("source") else { panic!("two sources") };
    for by in [By::Environment, By::Text] {
        for (source, fetches, installs) in [(s3, "aws", "dpkg"), (https, "curl", "rpm")] {
            let names = |r: &Ran| r.calls.iter().map(|c| c[0].clone()).collect::<Vec<_>>();
            let r = ran(&script, &[("source", source), ("sha256", SHA)], by, 0);
            assert_eq!((r.code, names(&r)), (0, vec![fetches.into(), installs.into(), "snapfreeze".into()]), "{by:?}: {}", r.stderr);
            let r = ran(&script, &[("source", source), ("sha256", &SHA.replace('9', "8"))], by, 0);
            assert_eq!(names(&r), [fetches], "nothing may be installed");
            assert_ne!(r.code, 0);
        }
    }
    let careless: Vec<String> = script.iter().filter(|l| !l.contains("sha256sum")).cloned().collect();
    let r = ran(&careless, &[("source", https), ("sha256", &SHA.replace('9', "8"))], By::Environment, 0);
    assert_eq!(r.calls.len(), 3, "the control: without the check it is installed");
}

// ---- what the templates promise

fn properties(template: &Value, kind: &str) -> Vec<(String, Value)> {
    let all = of_type(template, kind);
    assert!(!all.is_empty(), "no {kind}");
    all.into_iter().map(|(id, r)| (id.to_owned(), r["Properties"].clone())).collect()
}

#[test]
fn nothing_starts_a_backup_twice_or_late() {
    let (main, policy) = (template("template.yaml"), template("policy.yaml"));
    let (_, function) = &properties(&main, "AWS::Serverless::Function")[0];
    assert_eq!(function["EventInvokeConfig"]["MaximumRetryAttempts"], 0);
    assert!(function["EventInvokeConfig"]["MaximumEventAgeInSeconds"].as_u64().unwrap() <= 600);
    assert_eq!(function["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"], "DeadLetters.Arn");
    assert_eq!((function["Timeout"].as_u64(), function["Runtime"].as_str()), (Some(900), Some("provided.al2023")));
    let (_, machine) = &properties(&main, "AWS::Serverless::StateMachine")[0];
    assert_eq!(machine["Type"], "STANDARD", "Express runs at least once");
    let schedules = properties(&policy, "AWS::Scheduler::Schedule");
    assert_eq!(schedules.len(), 4);
    for (id, s) in &schedules {
        let retry = &s["Target"]["RetryPolicy"];
        assert!(retry["MaximumEventAgeInSeconds"].as_u64().unwrap() <= 600, "{id}");
        assert!(retry["MaximumRetryAttempts"].as_u64().unwrap() <= 5, "{id}");
        assert!(s["Target"]["DeadLetterConfig"]["Arn"].as_str().unwrap().ends_with(":snapfreeze-dead-letters"), "{id}");
        assert!(s["FlexibleTimeWindow"]["Mode"].is_string(), "{id}");
    }
    let (_, backup) = schedules.iter().find(|(id, _)| id == "BackupSchedule").unwrap();
    assert_eq!(backup["FlexibleTimeWindow"]["Mode"], "FLEXIBLE", "a fleet does not start as one");
    let input = backup["Target"]["Input"].as_str().unwrap();
    assert!(input.contains(r#""scheduled_time":"<aws.scheduler.scheduled-time>""#), "{input}");
    let once = &asl()["States"]["Once"]["Parameters"];
    assert!(once["Name.$"].as_str().unwrap().contains("$.planned.time"), "the planned time names the run: {once}");
    assert_eq!(once["Input"], json!({ "policy.$": "$.policy" }), "the same input in each attempt");
}

/// Alarms that nothing silences: what they watch comes every hour, and its absence is an alarm.
fn silent_alarms(policy: &Value) -> Vec<String> {
    let alarms = properties(policy, "AWS::CloudWatch::Alarm").into_iter().map(|(_, a)| a);
    let good = alarms.filter(|a| {
        let watched = a["Namespace"] == "snapfreeze" && a["Dimensions"] == json!([{ "Name": "Policy", "Value": "PolicyName" }]);
        watched && a["TreatMissingData"] == "breaching" && a["AlarmActions"][0].as_str().is_some_and(|t| t.ends_with(":snapfreeze-alarms"))
    });
    let mut names: Vec<String> = good.filter_map(|a| a["MetricName"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

#[test]
fn silence_is_an_alarm_of_its_own_apart_from_the_backups_schedule() {
    let policy = template("policy.yaml");
    assert_eq!(silent_alarms(&policy), ["AgeOfLastHeldSet", "SilentInstances"]);
    let schedules = properties(&policy, "AWS::Scheduler::Schedule");
    let (_, watch) = schedules.iter().find(|(id, _)| id == "WatchSchedule").unwrap();
    assert_eq!((watch["ScheduleExpression"].as_str(), watch.get("State")), (Some("rate(1 hour)"), None));
    assert!(watch["Target"]["Arn"].as_str().unwrap().ends_with(":function:snapfreeze-coordinator"), "not the state machine");
    assert!(watch["Target"]["Input"].as_str().unwrap().starts_with(r#"{"action":"watch""#));
    let mut quiet = policy;
    quiet["Resources"]["SilenceAlarm"]["Properties"]["TreatMissingData"] = json!("notBreaching");
    assert_eq!(silent_alarms(&quiet), ["AgeOfLastHeldSet"], "the control");
}

#[test]
fn every_failure_has_an_alarm_that_somebody_gets() {
    let main = template("template.yaml");
    let alarms = properties(&main, "AWS::CloudWatch::Alarm");
    let watched: BTreeSet<String> =
        alarms.iter().map(|(_, a)| format!("{}/{}", a["Namespace"], a["MetricName"]).replace('"', "")).collect();
    let wanted = [
        "AWS/Events/TriggeredRules",
        "AWS/SQS/ApproximateNumberOfMessagesVisible",
        "AWS/Scheduler/InvocationsFailedToBeSentToDeadLetterCount",
        "AWS/Scheduler/TargetErrorCount",
        "AWS/States/ExecutionsAborted",
        "AWS/States/ExecutionsFailed",
    ];
    assert_eq!(watched.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    assert!(alarms.iter().all(|(_, a)| a["AlarmActions"] == json!(["Alarms"])));
    // The events that the machine sends, and what the rules wait for.
    let sent = read("infra/aws/backup.asl.json");
    let rules = properties(&main, "AWS::Events::Rule");
    for (_, r) in &rules {
        let kind = r["EventPattern"]["detail-type"][0].as_str().unwrap();
        assert_eq!(r["EventPattern"]["source"], json!(["snapfreeze"]));
        assert!(sent.contains(&format!(r#""DetailType": "{kind}""#)), "nobody sends {kind}");
        assert_eq!((r["Targets"][0]["Arn"].as_str(), r["Targets"][0]["DeadLetterConfig"].is_object()), (Some("Alarms"), true));
    }
    assert_eq!(rules.len(), 2);
    let left = asl()["States"]["Targets"]["ItemProcessor"]["States"]["LeftFrozen"]["Parameters"]["Entries"][0]["Detail"].clone();
    assert!(left["say"].as_str().unwrap().ends_with("sudo snapfreeze thaw"), "what to do: {left}");
    assert_eq!((left["order.$"].as_str(), left["now.$"].as_str()), (Some("$.order"), Some("$.now")), "which hosts, since when");
    for (_, q) in properties(&main, "AWS::SQS::Queue") {
        assert!(q["SqsManagedSseEnabled"].is_array() && q["KmsMasterKeyId"].is_array(), "encrypted either way");
    }
    for (id, l) in properties(&main, "AWS::Logs::LogGroup") {
        assert_eq!(l["RetentionInDays"], "LogDays", "{id}");
    }
}

#[test]
fn the_default_policy_is_valid_and_agrees_with_its_alarm() {
    let parameters = &template("policy.yaml")["Parameters"];
    let text = parameters["Policy"]["Default"].as_str().unwrap();
    let policy: coordinator::policy::Policy = serde_json::from_str(text).expect("a valid policy");
    assert_eq!(parameters["PolicyName"]["Default"], policy.name);
    assert_eq!(parameters["MaxAgeSeconds"]["Default"].as_u64(), Some(policy.max_age_ms / 1000));
}

#[test]
fn the_manual_names_every_key_of_a_policy_and_every_alarm() {
    let manual = read("docs/aws.md");
    let text = r#"{"name":"p","select":{"ids":["i-1"]},"keep":{"max_age":"9d"},"lock":{"mode":"governance","days":1}}"#;
    let policy: coordinator::policy::Policy = serde_json::from_str(text).unwrap();
    let written = serde_json::to_value(&policy).unwrap();
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let all = [keys(&written), keys(&written["select"]), keys(&written["keep"])].concat();
    assert!(all.len() >= 25, "{all:?}");
    for k in all {
        assert!(manual.contains(&format!("`{k}`")), "{k} in docs/aws.md");
    }
    let alarms = ["template.yaml", "policy.yaml"].map(|t| properties(&template(t), "AWS::CloudWatch::Alarm")).concat();
    assert_eq!(alarms.len(), 8);
    for (_, a) in alarms {
        let name = a["AlarmName"].as_str().unwrap().replace("${PolicyName}", "NAME");
        assert!(manual.contains(&format!("`{name}`")), "{name} in docs/aws.md");
    }
    for p in template("template.yaml")["Parameters"].as_object().unwrap().keys() {
        assert!(manual.contains(p), "{p} in docs/aws.md");
    }
}

#[test]
fn data_lifecycle_manager_makes_no_snapshot_without_a_freeze() {
    let (_, p) = properties(&template("dlm.yaml"), "AWS::DLM::LifecyclePolicy").remove(0);
    let script = &p["PolicyDetails"]["Schedules"][0]["CreateRule"]["Scripts"][0];
    assert_eq!(script["ExecuteOperationOnScriptFailure"], false);
    assert_eq!((script["Stages"].clone(), script["MaximumRetryCount"].clone()), (json!(["PRE", "POST"]), json!(0)));
    assert_eq!(script["ExecutionHandler"], "snapfreeze-dlm");
}

// ---- rights

#[test]
fn rights_are_named_one_by_one_and_bound_to_what_is_ours() {
    let mut looked = 0;
    for (role, _) in HOLDERS {
        let all = statements(role);
        looked += all.len();
        assert_eq!(too_much(&all), NONE, "{role}");
    }
    assert!(looked >= 30, "{looked} statements");
    let sid = |role: &str, sid: &str| statements(role).into_iter().find(|s| s.sid == sid).unwrap_or_else(|| panic!("{role} has no {sid}"));
    assert_eq!(
        sid("CoordinatorRole", "PruneOfThisSchemaOnly").condition,
        json!({ "StringEquals": { "aws:ResourceTag/snapfreeze:schema": protocol::SCHEMA.to_string() } }),
        "what a newer release made is not deleted"
    );
    for role in ["CoordinatorRole", "OwnSnapshots"] {
        let ours = json!({ "Null": { "aws:RequestTag/snapfreeze:backup-id": "false" } });
        assert_eq!(sid(role, "SnapshotOnlyWithOurTags").condition, ours);
        assert_eq!(sid(role, "TagsAtCreation").condition, json!({ "StringEquals": { "ec2:CreateAction": "CreateSnapshots" } }));
    }
    let itself = sid("OwnSnapshots", "SnapshotItself").condition;
    assert!(itself["ArnLike"]["ec2:SourceInstanceARN"].as_str().unwrap().ends_with(":instance/${!ec2:InstanceId}"), "{itself}");
    for s in statements("CoordinatorRole").iter().filter(|s| s.actions.contains("ssm:SendCommand")) {
        assert!(!s.resources.iter().any(|r| r.ends_with("document/*")), "only our documents");
    }
    let bad = json!({ "Policies": [{ "PolicyDocument": { "Statement": [
        { "Effect": "Allow", "Sid": "A", "Action": "ec2:*", "Resource": "*" },
        { "Effect": "Allow", "Sid": "B", "Action": ["ec2:DeleteSnapshot"], "Resource": "arn:aws:ec2:*::snapshot/*" },
    ] } }] });
    assert_eq!(too_much(&of_policy(&bad)).len(), 4, "the control");
}

#[test]
fn the_list_of_rights_is_what_the_templates_say() {
    let page = actions_page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root().join("infra/aws/actions.md"), &page).unwrap();
    }
    assert!(read("infra/aws/actions.md") == page, "UPDATE=1 make test rewrites infra/aws/actions.md");
    assert!(iam_actions("CoordinatorRole").contains("ec2:CreateSnapshots") && !iam_actions("BackupRole").contains("ec2:CreateSnapshots"));
}

// ---- other people's eyes

/// Runs a linter in `infra/aws`; its whole output when it is not content.
fn lint(program: &std::path::Path, args: &[&str]) -> Result<String, String> {
    let mut c = Command::new(program);
    c.args(args).current_dir(root().join("infra/aws")).env("SAM_CLI_TELEMETRY", "0").env("AWS_DEFAULT_REGION", "eu-central-1");
    let out = c.output().expect("it runs");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if out.status.success() { Ok(text) } else { Err(text) }
}

/// A copy of a template in which one text is replaced: what a linter must not like.
fn spoilt(name: &str, from: &str, to: &str) -> tempfile::NamedTempFile {
    let text = read(&format!("infra/aws/{name}"));
    assert!(text.contains(from), "{name} no longer says {from:?}");
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text.replacen(from, to, 1)).unwrap();
    file
}

#[test]
fn cfn_lint_has_nothing_to_say() {
    let Some(tool) = tool_or_skip("aws", "cfn-lint", "cfn_lint_has_nothing_to_say") else { return };
    assert_eq!(lint(&tool, &TEMPLATES).map(|s| s.trim().to_owned()), Ok(String::new()));
    let bad = spoilt("documents.yaml", "schemaVersion: \"2.2\"", "schemaVersion: \"9.9\"");
    assert!(lint(&tool, &[bad.path().to_str().unwrap()]).is_err(), "the control");
}

/// cfn-lint looks into a definition only when it stands in the template.
#[test]
fn cfn_lint_accepts_the_state_machine() {
    let Some(tool) = tool_or_skip("aws", "cfn-lint", "cfn_lint_accepts_the_state_machine") else { return };
    let around = |definition: Value| {
        let machine = json!({ "Type": "AWS::StepFunctions::StateMachine", "Properties": { "Definition": definition,
            "RoleArn": "arn:aws:iam::123456789012:role/x", "DefinitionSubstitutions": { "Function": "f" } } });
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        std::fs::write(file.path(), json!({ "Resources": { "Machine": machine } }).to_string()).unwrap();
        lint(&tool, &[file.path().to_str().unwrap()])
    };
    assert_eq!(around(asl()).map(|s| s.trim().to_owned()), Ok(String::new()));
    let mut bad = asl();
    bad["States"]["Targets"]["ItemProcessor"]["States"]["Thaw"]["Retyr"] = json!([]);
    assert!(around(bad).unwrap_err().contains("'Retyr' was unexpected"), "the control");
}

#[test]
fn sam_calls_the_template_valid() {
    let Some(tool) = tool_or_skip("sam", "sam", "sam_calls_the_template_valid") else { return };
    let said = lint(&tool, &["validate", "--lint", "--template", "template.yaml"]).expect("valid");
    assert!(said.contains("is a valid SAM Template"), "{said}");
    let bad = spoilt("template.yaml", "      Runtime: provided.al2023\n", "      Runtime: provided.al2\n      Runtim: x\n");
    assert!(lint(&tool, &["validate", "--lint", "--template", bad.path().to_str().unwrap()]).is_err(), "the control");
}

#[test]
fn checkov_finds_nothing_that_is_not_explained() {
    let Some(tool) = tool_or_skip("checkov", "checkov", "checkov_finds_nothing_that_is_not_explained") else { return };
    let args = ["--skip-download", "--framework", "cloudformation", "--output", "json", "--file"];
    let said = lint(&tool, &[&args[..], &TEMPLATES].concat()).expect("no finding");
    let report: Value = serde_json::from_str(&said).expect("a report");
    let results = |kind: &str| report["results"][kind].as_array().cloned().unwrap_or_default();
    assert!(results("passed_checks").len() >= 20 && results("failed_checks").is_empty());
    // An exception that is no longer needed goes.
    let excused = TEMPLATES.iter().map(|t| read(&format!("infra/aws/{t}")).matches("{ id: CKV_").count()).sum::<usize>();
    assert_eq!(results("skipped_checks").len(), excused, "{:?}", results("skipped_checks"));
    let bad = spoilt("template.yaml", "{ id: CKV_AWS_117,", "{ id: CKV_AWS_000,");
    assert!(lint(&tool, &[&args[..], &[bad.path().to_str().unwrap()]].concat()).is_err(), "the control");
}
