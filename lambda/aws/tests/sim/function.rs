//! The Lambda's actions, called as the state machine calls them.

use crate::support::*;
use aws::lambda::{Failure, Function, Log};
use cloud_sim::{Fault, Match, Rule};
use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// The function, and what it printed.
pub struct Lambda {
    function: Function,
    pub lines: Arc<Mutex<Vec<Value>>>,
}

impl Lambda {
    pub fn new(cloud: &Cloud) -> Self {
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let into = lines.clone();
        let log: Log = Arc::new(move |line: &Value| into.lock().unwrap().push(line.clone()));
        Self { function: Function::new(cloud.clients(), log), lines }
    }

    /// With 15 minutes left.
    pub async fn call(&self, event: Value) -> Result<Value, Failure> {
        self.within(event, 900_000).await
    }

    pub async fn within(&self, event: Value, ms: i64) -> Result<Value, Failure> {
        self.function.handle(event, u64::try_from(in_ms(ms).0).unwrap(), "request-1").await
    }

    pub fn metrics(&self) -> Vec<Value> {
        self.lines.lock().unwrap().iter().filter(|l| l.get("_aws").is_some()).cloned().collect()
    }

    /// The orders that `list` makes.
    pub async fn orders(&self, more: Value) -> Vec<Value> {
        let event =
            json!({ "action": "list", "policy": policy_json(more), "execution": "run-1", "started_at": "2026-11-26T02:00:00.123Z" });
        let reply = self.call(event).await.unwrap();
        assert_eq!(reply["next"], Value::Null);
        reply["targets"].as_array().unwrap().iter().map(|t| t["order"].clone()).collect()
    }

    pub async fn saga(&self, action: &str, saga: &Value) -> Value {
        self.call(json!({ "action": action, "saga": saga })).await.unwrap()
    }

    /// Settles as the state machine does, without its waits.
    pub async fn settle(&self, mut reply: Value) -> Value {
        for _ in 0..50 {
            reply["saga"]["resume_at"] = Value::Null;
            reply = self.saga("settle", &reply["saga"]).await;
            if reply["settled"] == true {
                return reply;
            }
        }
        panic!("not settled: {reply}")
    }
}

fn name(f: Failure) -> (String, String) {
    let d = Diagnostic::from(f);
    (d.error_type, d.error_message)
}

#[tokio::test]
async fn the_actions_in_turn_make_a_held_set() {
    let cloud = Cloud::start();
    let lambda = Lambda::new(&cloud);
    let orders = lambda.orders(json!({})).await;
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0], lambda.orders(json!({})).await[0].clone().tap(|o| o["owner"] = orders[0]["owner"].clone()), "all but the owner");
    assert_ne!(orders[0]["owner"], lambda.orders(json!({})).await[0]["owner"], "made anew by every run");

    let admitted = lambda.call(json!({ "action": "admit", "order": orders[0] })).await.unwrap();
    assert_eq!(admitted["phase"], "freeze");
    assert!(admitted["slot"].as_str().unwrap().ends_with('Z'), "{}", admitted["slot"]);
    assert_eq!((cloud.state(HOST).as_str(), cloud.sim.snapshots().len()), ("", 0), "nothing is frozen yet");

    let frozen = lambda.saga("freeze", &admitted["saga"]).await;
    assert_eq!((frozen["phase"].as_str(), cloud.state(HOST).as_str()), (Some("snapshot"), "frozen"));
    let snapped = lambda.saga("snapshot", &frozen["saga"]).await;
    assert_eq!((snapped["phase"].as_str(), cloud.state(HOST).as_str()), (Some("thaw"), "frozen"));
    let thawed = lambda.saga("thaw", &snapped["saga"]).await;
    assert_eq!(
        (thawed["phase"].as_str(), thawed["left_frozen"].as_bool(), cloud.state(HOST).as_str()),
        (Some("settle"), Some(false), "thawed")
    );
    let settled = lambda.settle(thawed).await;
    assert_eq!((settled["verdict"].as_str(), settled["phase"].as_str()), (Some("held"), Some("done")), "{settled}");
    assert_eq!(settled["problem"], Value::Null);

    let set = cloud.sim.snapshots();
    assert_eq!(set.len(), 3);
    let tags = &set[0].tags;
    assert!(set.iter().all(|s| s.tags["snapfreeze:verdict"] == "held" && s.tags["snapfreeze:backup-id"] == orders[0]["id"]));
    assert_eq!((tags["snapfreeze:journal-switched"].as_str(), tags["snapfreeze:set-size"].as_str()), ("/jrn/20261126.001", "3"));
    let call = &cloud.sim.calls_of("CreateSnapshots").into_iter().find(|c| c.params.get("DryRun").is_none()).unwrap();
    assert!(call.params.to_string().contains("/jrn/20261126.001"), "the journal is in the call itself");
    assert_eq!((cloud.asked(HOST, "freeze"), cloud.asked(HOST, "thaw")), (1, 1));

    let metrics = lambda.metrics();
    assert_eq!(metrics.len(), 1, "one line at the saga's end");
    let m = &metrics[0];
    assert_eq!((&m["Held"], &m["Broken"], &m["LeftFrozen"], &m["Policy"]), (&json!(1), &json!(0), &json!(0), &json!("nightly")));
    assert!(m["WindowMs"].as_u64().unwrap() > 0 && m["FreezeHopMs"].as_u64().unwrap() > 0);
    let steps: Vec<String> = lambda.lines.lock().unwrap().iter().filter_map(|l| l["step"].as_str().map(Into::into)).collect();
    assert_eq!(steps[..5], ["inspect", "freeze", "snapshot", "thaw", "mark"]);
    let owner = orders[0]["owner"].as_str().unwrap();
    assert!(!lambda.lines.lock().unwrap().iter().any(|l| l.to_string().contains(owner)), "an owner is as good as a key to a window");

    // A saga that is over comes back unchanged, and says so only once.
    for action in ["freeze", "snapshot", "thaw", "settle"] {
        assert_eq!(lambda.saga(action, &settled["saga"]).await["saga"], settled["saga"], "{action}");
    }
    assert_eq!((lambda.metrics().len(), cloud.asked(HOST, "freeze")), (1, 1));
}

trait Tap: Sized {
    fn tap(self, f: impl FnOnce(&mut Self)) -> Self;
}
impl Tap for Value {
    fn tap(mut self, f: impl FnOnce(&mut Self)) -> Self {
        f(&mut self);
        self
    }
}

#[tokio::test]
async fn a_whole_backup_in_one_invocation() {
    let cloud = Cloud::start();
    cloud.host("i-0000000000000000b", 1);
    let lambda = Lambda::new(&cloud);
    let event = json!({ "action": "backup", "policy": policy_json(json!({})) });
    let done = lambda.call(event.clone()).await.unwrap();
    let all = done["backups"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|b| b["verdict"] == "held"), "{done}");
    assert_eq!(cloud.sim.snapshots().iter().filter(|s| s.tags["snapfreeze:verdict"] == "held").count(), 5);

    // A hold that cannot end before the sandbox does is not begun.
    let asked = cloud.asked(HOST, "facts");
    let (code, why) = name(lambda.within(event.clone(), 200_000).await.unwrap_err());
    assert_eq!(code, "Usage.Invalid");
    assert!(why.contains("use the state machine"), "{why}");
    let long = json!({ "action": "backup", "policy": policy_json(json!({ "hold": "1179s" })) });
    assert_eq!(name(lambda.call(long).await.unwrap_err()).0, "Usage.Invalid");
    assert_eq!(cloud.asked(HOST, "facts"), asked);

    // What is not held is an error here.
    cloud.sim.fault(Rule::new(Match::action("CreateSnapshots").contains("journal-switched"), Fault::Throttle).always());
    for f in ["frozen", "window"] {
        for host in [HOST, "i-0000000000000000b"] {
            let _ = std::fs::remove_file(cloud.stub(host).join(f));
        }
    }
    let (code, why) = name(lambda.call(event).await.unwrap_err());
    assert_eq!(code, "Snapshot.Failed", "{why}");
    assert!(why.contains("throttled") && why.contains("1 more of 2"), "{why}");
    assert_eq!((cloud.state(HOST).as_str(), cloud.sim.snapshots().len()), ("thawed", 5));
}

#[tokio::test]
async fn refusals_before_the_freeze_carry_their_names() {
    let cloud = Cloud::start();
    let lambda = Lambda::new(&cloud);
    let order = lambda.orders(json!({})).await.remove(0);
    let admit = json!({ "action": "admit", "order": order });
    let refused = async || name(lambda.call(admit.clone()).await.unwrap_err());

    cloud.sim.set_state(HOST, "stopped");
    let (code, why) = refused().await;
    assert_eq!(code, "Cloud.Refused");
    assert!(why.contains("the instance is stopped"), "{why}");
    cloud.sim.set_state(HOST, "running");

    cloud.sim.set_online(HOST, false);
    assert_eq!(refused().await.0, "Agent.Unreachable");
    cloud.sim.set_online(HOST, true);

    let denied = cloud.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::AccessDenied));
    let (code, why) = refused().await;
    assert!(code == "Cloud.Refused" && why.contains("ec2:CreateSnapshots"), "{why}");
    assert_eq!(cloud.sim.hits(denied), 1);

    let excluded = lambda.orders(json!({ "exclude_volumes": ["vol-a-1"] })).await.remove(0);
    assert_eq!(name(lambda.call(json!({ "action": "admit", "order": excluded })).await.unwrap_err()).0, "Freeze.Refused.NotCovered");

    assert_eq!(cloud.asked(HOST, "freeze"), 0);
    assert_eq!(lambda.call(admit.clone()).await.unwrap()["phase"], "freeze", "the control");
    let none = json!({ "action": "list", "policy": policy_json(json!({ "select": { "tags": { "snapfreeze": "monthly" } } })),
        "execution": "e", "started_at": "2026-11-26T02:00:00Z" });
    let (code, why) = name(lambda.call(none).await.unwrap_err());
    assert!(code == "Cloud.Refused" && why.contains("selects no host"), "{why}");
}

/// EC2 takes 40 exclusions; a fleet's list may be longer, as only what is attached to the host is sent.
#[tokio::test]
async fn of_a_long_exclusion_list_only_what_is_attached_is_sent() {
    let cloud = Cloud::start();
    cloud.host(HOST, 60);
    let lambda = Lambda::new(&cloud);
    let list =
        |n: usize| -> Vec<String> { (2..2 + n).map(|i| format!("vol-a-{i}")).chain((0..90).map(|i| format!("vol-x-{i}"))).collect() };
    let too_many = lambda.orders(json!({ "exclude_volumes": list(41) })).await.remove(0);
    let (code, why) = name(lambda.call(json!({ "action": "admit", "order": too_many })).await.unwrap_err());
    assert_eq!(code, "Cloud.Refused");
    assert!(why.contains("41 volumes to exclude, but the call takes 40"), "{why}");

    let fits = lambda.orders(json!({ "exclude_volumes": list(40) })).await.remove(0);
    let admitted = lambda.call(json!({ "action": "admit", "order": fits })).await.unwrap();
    let frozen = lambda.saga("freeze", &admitted["saga"]).await;
    let snapped = lambda.saga("snapshot", &frozen["saga"]).await;
    assert_eq!(snapped["saga"]["members"][0]["snapshot"]["is"], "accepted", "{}", snapped["saga"]["members"][0]["snapshot"]);
    assert_eq!(cloud.sim.snapshots().len(), 21);
    lambda.saga("thaw", &snapped["saga"]).await;
}

#[tokio::test]
async fn events_are_read_strictly() {
    let cloud = Cloud::start();
    let lambda = Lambda::new(&cloud);
    let bad = [
        (json!({}), "Usage.Invalid", "action"),
        (json!({ "action": "melt" }), "Usage.Invalid", "melt"),
        (json!({ "action": "watch", "policy": policy_json(json!({})), "dry-run": true }), "Usage.Invalid", "dry-run"),
        (json!({ "action": "watch", "policy": policy_json(json!({ "holt": "60s" })) }), "Config.Invalid", "holt"),
        (json!({ "action": "watch", "policy": policy_json(json!({ "hold": "1180s" })) }), "Config.Invalid", "1179s"),
        (json!({ "action": "admit" }), "Usage.Invalid", "order"),
        (json!({ "action": "thaw", "saga": { "schema": 1 } }), "Usage.Invalid", "missing field"),
        (json!({ "action": "list", "policy": policy_json(json!({})), "execution": "e", "started_at": "today" }), "Usage.Invalid", "today"),
    ];
    for (event, code, word) in bad {
        let (got, why) = name(lambda.call(event.clone()).await.unwrap_err());
        assert_eq!(got, code, "{event}: {why}");
        assert!(why.contains(word), "{event}: {why}");
    }
    let mut newer = lambda.orders(json!({})).await.remove(0);
    newer["schema"] = json!(99);
    let (code, why) = name(lambda.call(json!({ "action": "admit", "order": newer })).await.unwrap_err());
    assert!(code == "Usage.Invalid" && why.contains("newer"), "{why}");
    assert_eq!(cloud.count("SendCommand"), 0);
}

#[tokio::test]
async fn a_fleet_that_does_not_fit_into_one_reply_comes_in_pages() {
    let cloud = Cloud::start();
    for n in 0..700 {
        cloud.sim.add_instance(cloud_sim::Instance::new(&format!("i-{n:017x}")).tag("snapfreeze", "big"));
    }
    let lambda = Lambda::new(&cloud);
    let (mut from, mut ids, mut pages) = (0, Vec::new(), 0);
    loop {
        let event = json!({ "action": "list", "policy": policy_json(json!({ "select": { "tags": { "snapfreeze": "big" } } })),
            "execution": "run-1", "started_at": "2026-11-26T02:00:00Z", "from": from });
        let page = lambda.call(event).await.unwrap();
        assert!(page.to_string().len() < 200 * 1024);
        let before = ids.len();
        ids.extend(page["targets"].as_array().unwrap().iter().map(|t| (t["order"]["id"].clone(), t["order"]["slot"].as_i64().unwrap())));
        assert!(ids.len() > before);
        pages += 1;
        match page["next"].as_u64() {
            Some(next) => from = next,
            None => break,
        }
    }
    assert!(pages > 1, "{pages}");
    assert_eq!(ids.len(), 700);
    assert!(ids.windows(2).all(|w| w[0].1 <= w[1].1), "slots follow each other across pages");
    let mut unique: Vec<String> = ids.iter().map(|(id, _)| id.to_string()).collect();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 700);
}

#[tokio::test]
async fn silence_is_counted_and_upkeep_changes_nothing_in_a_dry_run() {
    let cloud = Cloud::start();
    let lambda = Lambda::new(&cloud);
    let watch = json!({ "action": "watch", "policy": policy_json(json!({})), "dry_run": false });
    assert_eq!(lambda.call(watch.clone()).await.unwrap()["silent"], 1, "never a set");
    let m = lambda.metrics().remove(0);
    assert_eq!((&m["SilentInstances"], m.get("AgeOfLastHeldSet")), (&json!(1), None));
    let emf = &m["_aws"]["CloudWatchMetrics"][0];
    assert_eq!((&emf["Namespace"], &emf["Dimensions"]), (&json!("snapfreeze"), &json!([["Policy"]])));

    lambda.call(json!({ "action": "backup", "policy": policy_json(json!({})) })).await.unwrap();
    let seen = lambda.call(watch).await.unwrap();
    assert_eq!((&seen["silent"], seen["all"].as_array().unwrap().len()), (&json!(0), 1));
    assert!(lambda.metrics().last().unwrap()["AgeOfLastHeldSet"].as_u64().unwrap() < 600);

    // A pending set whose coordinator is gone.
    let id = new_id();
    let mut call = snapshot_call(id);
    call.tags.insert("snapfreeze:policy".into(), "nightly".into());
    call.tags.insert("snapfreeze:set-size".into(), "3".into());
    assert!(matches!(
        coordinator::ports::Disks::snapshot(&cloud.ebs(), &target(HOST), &call).await,
        coordinator::ports::SnapshotAnswer::Accepted(_)
    ));
    let keep = json!({ "keep": { "pending": "1ms", "broken": "1ms" } });
    let verdicts = || -> Vec<String> {
        cloud
            .sim
            .snapshots()
            .iter()
            .filter(|s| s.tags["snapfreeze:backup-id"] == id.to_string())
            .map(|s| s.tags["snapfreeze:verdict"].clone())
            .collect()
    };
    let upkeep =
        async |action: &str, dry: bool| lambda.call(json!({ "action": action, "policy": policy_json(keep.clone()), "dry_run": dry })).await;
    assert_eq!(upkeep("reap", true).await.unwrap()["planned"].as_array().unwrap().len(), 1);
    assert_eq!(verdicts(), ["pending"; 3]);
    upkeep("reap", false).await.unwrap();
    assert_eq!(verdicts(), ["broken"; 3]);
    let planned = upkeep("prune", true).await.unwrap();
    assert_eq!(planned["planned"].as_array().unwrap().iter().filter(|f| f["delete"] == true).count(), 1, "{planned}");
    assert_eq!(cloud.sim.snapshots().len(), 6);
    cloud.sim.fault(Rule::new(Match::action("DeleteSnapshot"), Fault::AccessDenied));
    assert_eq!(name(upkeep("prune", false).await.unwrap_err()).0, "Cloud.Refused");
    upkeep("prune", false).await.unwrap();
    assert_eq!((verdicts().len(), cloud.sim.snapshots().len()), (0, 3), "and the held set stays");
}
