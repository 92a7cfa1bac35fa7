//! The state machine on ministack with the real bootstrap and a real agent: holds that outlast a Lambda, functions that die inside
//! a window, the same event delivered twice, and the rights that all this needs.

use crate::common::{by_tag, in_window, policy, policy_file};
use cloud_sim::{Fault, Match, Moment, Rule};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use suite::cloud::fleet::setup;
use suite::cloud::programs::{ctl, said};
use suite::cloud::stacks::{Deployed, REGION};
use suite::host::{Setup, sleep_ms};
use suite::house::aws::iam_actions;

/// Lambda's 900 s at 1:15.
const LAMBDA_S: u32 = 60;

/// Hosts that allow the longest hold there is.
fn longest() -> Setup {
    Setup { window: "on_overrun = \"block-users\"\nwd_suspend_limit = \"1200s\"\nexternal_freeze_timeout = \"1200s\"\n".into(), ..setup() }
}

fn quiet(d: &Deployed) -> bool {
    let ended = |s: &str| !["Pending", "InProgress", "Delayed"].contains(&s);
    d.fleet.sim.invocations().iter().all(|i| ended(&i.status_details))
        && d.fleet.members.iter().all(|m| m.host.phase() == "idle")
        && !d.fleet.any_frozen()
}

/// Nothing frozen, nothing pending, nothing falsely held.
fn judge(d: &Deployed, what: &str) {
    let thawed = (0..300).any(|_| {
        sleep_ms(100);
        quiet(d)
    });
    assert!(thawed, "{what}: LEFT FROZEN");
    let policy = policy_file(&d.fleet, &json!({ "keep": { "pending": "1ms" } }));
    let reap = ctl(&d.fleet.sim.endpoint(), REGION, d.fleet.dir.path(), &["reap", "--policy", &policy, "--yes"]).output().expect("it runs");
    assert_eq!(reap.status.code(), Some(0), "{what}: {}", said(&reap));
    for (id, tags) in super::deploy::described(d) {
        assert_ne!(tags["snapfreeze:verdict"], "pending", "{what}: {id}");
    }
}

fn held(d: &Deployed) -> usize {
    super::deploy::described(d).values().filter(|t| t["snapfreeze:verdict"] == "held").count()
}

#[test]
fn windows_outlast_a_lambda_and_functions_die_and_no_database_stays_frozen() {
    let test = "windows_outlast_a_lambda_and_functions_die_and_no_database_stays_frozen";
    let Some(d) = Deployed::new(1, &longest(), LAMBDA_S, test) else { return };

    // Silence is told apart from any schedule: a host that the policy selects and that never had a set, nobody to watch at all.
    let watch = |with: &Value| invoke(&d, &json!({ "action": "watch", "policy": policy(with) }), 9);
    let never = watch(&json!({}));
    assert_eq!((&never["silent"], &never["never"][0]), (&json!(1), &json!(d.fleet.members[0].id)), "{never}");
    let blind = watch(&json!({ "select": { "tags": { "snapfreeze": "nobody" } } }));
    assert_eq!((&blind["silent"], &blind["blind"]), (&json!(1), &json!(true)), "{blind}");

    // 1180 s is refused before anything is frozen.
    let e = d.start("too-long", &policy(&json!({ "hold": "1180s" })));
    let (status, story) = d.wait(&e, 60);
    assert_eq!(status, "FAILED", "{story}");
    assert!(story.to_string().contains("1179s") || story.to_string().contains("Config.Invalid"), "{story}");
    assert_eq!((d.fleet.freezes(), d.fleet.sim.snapshots().len()), (0, 0));

    // 1179 s passes, with a window that is longer than one Lambda may run: 50 s for the snapshot call, 15 s for the thaw's.
    let slow = d.fleet.sim.fault(Rule::new(Match::action("CreateSnapshots").contains("snapfreeze:frozen-at"), Fault::Slow { ms: 50_000 }));
    let late = d.fleet.sim.fault(Rule::new(Match::action("SendCommand").document("snapfreeze-thaw"), Fault::Slow { ms: 15_000 }));
    let e = d.start("longest", &policy(&json!({ "hold": "1179s", "snapshot": "60s", "late": "5s", "tags": { "CostCenter": "0042" } })));
    let (status, story) = d.wait(&e, 180);
    assert_eq!((d.fleet.sim.hits(slow), d.fleet.sim.hits(late)), (1, 1), "{story}");
    assert_eq!(status, "SUCCEEDED", "{story}");
    let told = super::deploy::described(&d);
    let ms: u64 = told.values().filter_map(|t| t["snapfreeze:window-ms"].parse().ok()).max().unwrap_or(0);
    assert!(ms > u64::from(LAMBDA_S) * 1000, "the window of {ms} ms outlasts a Lambda of {LAMBDA_S} s");
    assert_eq!(held(&d), 2, "root and data volume");
    assert!(in_window(&d.fleet, &d.fleet.members[0]));
    d.fleet.sim.clear_faults();

    // Heard of now; and with the tag gone from the instance, what was heard is watched all the same.
    let heard = watch(&json!({}));
    assert_eq!((&heard["silent"], heard["all"].as_array().map(Vec::len)), (&json!(0), Some(1)), "{heard}");
    let removed = json!({ "select": { "tags": { "snapfreeze": "nobody" } } });
    let still = watch(&removed);
    assert_eq!((&still["blind"], still["all"].as_array().map(Vec::len)), (&json!(false), Some(1)), "its sets are watched: {still}");

    // The function is killed inside each step of the window. The machine goes on with Thaw and the saga as it was before.
    let about = |action: &str, document: &str| Match::action(action).document(document);
    let snapshot = || Match::action("CreateSnapshots").contains("snapfreeze:frozen-at");
    let cases: Vec<(&str, Match, Moment, usize)> = vec![
        ("Freeze, before the order is sent", about("SendCommand", "snapfreeze-freeze"), Moment::Before, 0),
        ("Freeze, the order sent, its reply lost", about("SendCommand", "snapfreeze-freeze"), Moment::After, 0),
        ("Freeze, frozen, the answer not read", about("GetCommandInvocation", "snapfreeze-freeze"), Moment::After, 0),
        ("Snapshot, before the call", snapshot(), Moment::Before, 0),
        ("Snapshot, after the call", snapshot(), Moment::After, 0),
        // When the first thaw was sent is lost as well; that the snapshot came before it cannot be shown any more.
        ("Thaw, sent, its reply lost", about("SendCommand", "snapfreeze-thaw"), Moment::After, 0),
        ("Settle, half the tags written", Match::action("CreateTags"), Moment::After, 2),
    ];
    let count = cases.len();
    for (n, (what, matches, when, more_held)) in cases.into_iter().enumerate() {
        let before = held(&d);
        let rule = d.fleet.sim.fault(Rule::new(matches, Fault::Hold { when }));
        let e = d.start(&format!("dies-{n}"), &policy(&json!({ "hold": "30s", "snapshot": "1s" })));
        assert!(d.fleet.sim.wait_held(rule, Duration::from_secs(60)), "{what}: not reached: {:?}", d.function_log());
        d.kill_function();
        d.fleet.sim.clear_faults(); // what the function had asked for is done
        let (status, story) = d.wait(&e, 120);
        judge(&d, what);
        assert_eq!(held(&d) - before, more_held, "{what}: {story}");
        assert_eq!(status == "SUCCEEDED", more_held > 0, "{what}: an execution succeeds only with a held set: {story}");
    }
    assert_eq!(count, 7);

    rights(&d);
}

/// The same event delivered twice at once, without the state machine's named runs: two functions, one window, one set.
#[test]
fn the_same_event_twice_gives_one_window_and_at_most_one_set() {
    let test = "the_same_event_twice_gives_one_window_and_at_most_one_set";
    let Some(d) = Deployed::new(1, &setup(), 400, test) else { return };
    let event = json!({ "action": "backup", "policy": policy(&json!({ "hold": "10s", "snapshot": "300ms" })), "execution": "twice",
        "started_at": "2026-11-26T02:00:00Z" });
    let both: Vec<Value> = std::thread::scope(|s| {
        let two: Vec<_> = (0..2)
            .map(|n| {
                s.spawn({
                    let (d, event) = (&d, &event);
                    move || invoke(d, event, n)
                })
            })
            .collect();
        two.into_iter().map(|c| c.join().expect("an invocation")).collect()
    });
    judge(&d, "the same event twice");
    let sets = by_tag(&d.fleet.sim.snapshots(), "snapfreeze:backup-id").len();
    let taken = d.fleet.sim.calls_of("CreateSnapshots").iter().filter(|c| c.params["DryRun"] != "true").count();
    let said: Vec<String> = both.iter().map(ToString::to_string).collect();
    println!("twice at once: {sets} sets, {taken} calls: {}", said.join(" | "));
    assert_eq!(d.fleet.freezes(), 1, "one window: {said:?}");
    assert!(sets <= 1 && taken <= 1, "at most one set of one call: {sets}, {taken}: {said:?}");
    let held = held(&d);
    assert!(held == 0 || in_window(&d.fleet, &d.fleet.members[0]), "a false held: {said:?}");
    let refused =
        both.iter().filter(|v| v["errorType"].as_str().is_some_and(|t| t.starts_with("Freeze.") || t.starts_with("Thaw."))).count();
    assert!(refused >= 1, "one of the two stood down: {said:?}");
}

/// `aws lambda invoke`, and what the function answered.
fn invoke(d: &Deployed, event: &Value, n: usize) -> Value {
    let out = d.fleet.dir.path().join(format!("answer-{n}.json"));
    d.ministack.json(&[
        "lambda",
        "invoke",
        "--function-name",
        "snapfreeze-coordinator",
        "--payload",
        &event.to_string(),
        &out.to_string_lossy(),
    ]);
    serde_json::from_str(&std::fs::read_to_string(out).unwrap_or_default()).unwrap_or_default()
}

/// Every string in it.
fn strings(v: &Value) -> Vec<String> {
    match v {
        Value::String(s) => vec![s.clone()],
        Value::Array(all) => all.iter().flat_map(strings).collect(),
        Value::Object(all) => all.values().flat_map(strings).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => vec![],
    }
}

/// Every call that the function made on the wire is allowed by its role, and the role allows nothing that no test needs.
fn rights(d: &Deployed) {
    let allowed = iam_actions("CoordinatorRole");
    let calls = d.fleet.sim.calls();
    let made: BTreeSet<String> = calls
        .iter()
        // The tests' own calls are signed as `test`; ministack gives the function a key of its own.
        .filter(|c| c.principal.as_deref().is_some_and(|p| p != "test") && ["ec2", "ssm"].contains(&c.service.as_str()))
        .map(|c| format!("{}:{}", c.service, c.action))
        .collect();
    let keys: BTreeSet<_> = calls.iter().filter_map(|c| c.principal.clone()).collect();
    assert!(made.len() >= 7, "the function's calls are known by its key: {made:?}, {keys:?}");
    let not_allowed: Vec<&String> = made.difference(&allowed).collect();
    assert!(not_allowed.is_empty(), "calls without a right: {not_allowed:?}");
    // What only other settings or upkeep need. Whatever else stands in the role must have been seen.
    let elsewhere =
        ["ec2:DeleteSnapshot", "ec2:CopySnapshot", "ec2:ModifySnapshotAttribute", "ec2:LockSnapshot", "ec2:EnableFastSnapshotRestores"];
    let ours = allowed.iter().filter(|a| a.starts_with("ec2:") || a.starts_with("ssm:"));
    let unused: Vec<&String> =
        ours.filter(|a| !made.contains(*a) && !elsewhere.contains(&a.as_str()) && *a != "ssm:CancelCommand").collect();
    assert!(unused.is_empty(), "rights that nothing used: {unused:?}");
    // After the creation the role may write our own tags only.
    let of_function = calls.iter().filter(|c| c.action == "CreateTags" && c.principal.as_deref().is_some_and(|p| p != "test"));
    let written: BTreeSet<String> =
        of_function.flat_map(|c| strings(&c.params)).filter(|s| s == "CostCenter" || s == "snapfreeze:verdict").collect();
    assert_eq!(written.into_iter().collect::<Vec<_>>(), ["snapfreeze:verdict"], "tags that the role may not write");
    let one_less: BTreeSet<String> = allowed.iter().filter(|a| *a != "ec2:CreateSnapshots").cloned().collect();
    assert_eq!(made.difference(&one_less).count(), 1, "the control: a right taken away is missed");
}
