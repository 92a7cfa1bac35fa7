//! The function lost at each step of a backup: the state machine goes on with the saga as it was before that step.

use crate::function::Lambda;
use crate::support::*;
use cloud_sim::{Fault, Match, Rule};
use serde_json::{Value, json};

async fn admitted(lambda: &Lambda, more: Value) -> Value {
    let order = lambda.orders(more).await.remove(0);
    lambda.call(json!({ "action": "admit", "order": order })).await.unwrap()["saga"].clone()
}

fn verdicts(cloud: &Cloud) -> Vec<String> {
    let mut all: Vec<String> = cloud.sim.snapshots().iter().map(|s| s.tags["snapfreeze:verdict"].clone()).collect();
    all.dedup();
    all
}

/// What the next action makes of it when `lost` was carried out, or not, and nobody knows. `done`: it was.
async fn loses(lost: &str, done: bool) -> (Cloud, Value) {
    let cloud = Cloud::start();
    let lambda = Lambda::new(&cloud);
    let mut saga = admitted(&lambda, json!({})).await;
    for action in ["freeze", "snapshot", "thaw"] {
        if action != lost {
            saga = lambda.saga(action, &saga).await["saga"].clone();
            continue;
        }
        if done {
            // Carried out, and its reply thrown away.
            lambda.saga(action, &saga).await;
        }
        break;
    }
    let thawed = lambda.saga("thaw", &saga).await;
    assert!(["settle", "done"].contains(&thawed["phase"].as_str().unwrap()), "{lost} {done}: {thawed}");
    assert_eq!(thawed["left_frozen"], false);
    let settled = lambda.settle(thawed).await;
    (cloud, settled)
}

#[tokio::test]
async fn after_any_loss_nothing_is_frozen_and_only_an_undisturbed_set_is_held() {
    let mut seen = Vec::new();
    for (lost, done) in [("freeze", false), ("freeze", true), ("snapshot", false), ("snapshot", true), ("thaw", true)] {
        let (cloud, settled) = loses(lost, done).await;
        assert_ne!(cloud.state(HOST), "frozen", "{lost} {done}");
        let calls = cloud.sim.calls_of("CreateSnapshots").iter().filter(|c| c.params.get("DryRun").is_none()).count();
        assert!(calls <= 1, "{lost} {done}");
        assert_eq!(cloud.asked(HOST, "freeze"), usize::from(lost != "freeze" || done));
        let held = settled["verdict"] == "held";
        assert_eq!(held, lost == "thaw", "{lost} {done}: {settled}");
        assert!(held || !verdicts(&cloud).contains(&"held".to_owned()), "{lost} {done}: no false claim in the tags");
        seen.push((lost, done, settled["verdict"].as_str().unwrap().to_owned(), cloud.sim.snapshots().len()));
    }
    let made: Vec<usize> = seen.iter().map(|s| s.3).collect();
    assert_eq!(made, [0, 0, 0, 3, 3], "{seen:?}");
}

/// The set whose answer was lost is found by its tags, and called broken.
#[tokio::test]
async fn a_lost_snapshot_answer_makes_no_second_set() {
    let cloud = Cloud::start();
    let lambda = Lambda::new(&cloud);
    let saga = admitted(&lambda, json!({})).await;
    let frozen = lambda.saga("freeze", &saga).await;
    let lost = cloud.sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::LostReply));
    let snapped = lambda.saga("snapshot", &frozen["saga"]).await;
    assert_eq!((cloud.sim.hits(lost), snapped["phase"].as_str()), (1, Some("thaw")));
    let thawed = lambda.saga("thaw", &snapped["saga"]).await;
    let settled = lambda.settle(thawed).await;
    assert_eq!((settled["verdict"].as_str(), verdicts(&cloud)), (Some("broken"), vec!["broken".to_owned()]));
    assert_eq!(cloud.sim.snapshots().len(), 3);
}

/// A thaw that is not answered is called for again; the invocation's end is no end of the thaw.
#[tokio::test]
async fn a_thaw_without_an_answer_comes_back_to_be_called_again() {
    let cloud = Cloud::start();
    let lambda = Lambda::new(&cloud);
    let saga = admitted(&lambda, json!({})).await;
    let frozen = lambda.saga("freeze", &saga).await;
    let snapped = lambda.saga("snapshot", &frozen["saga"]).await;
    let deaf = cloud.sim.fault(Rule::new(Match::action("SendCommand").document("snapfreeze-thaw"), Fault::LostRequest).always());
    let thaw = json!({ "action": "thaw", "saga": snapped["saga"] });
    let reply = lambda.within(thaw, 40_000).await.unwrap();
    assert_eq!(
        (reply["phase"].as_str(), reply["left_frozen"].as_bool(), reply["settled"].as_bool()),
        (Some("thaw"), Some(false), Some(false))
    );
    assert!(cloud.sim.hits(deaf) >= 2);
    cloud.sim.clear_faults();
    let thawed = lambda.saga("thaw", &reply["saga"]).await;
    assert_eq!((thawed["phase"].as_str(), cloud.state(HOST).as_str()), (Some("settle"), "thawed"));
    // Even with no time left one thaw is sent.
    let again = json!({ "action": "thaw", "saga": snapped["saga"] });
    assert_eq!(lambda.within(again, 500).await.unwrap()["phase"], "settle");
}

/// A freeze whose answer could come after this invocation's end is not sent.
#[tokio::test]
async fn no_freeze_is_begun_that_would_outlive_its_invocation() {
    let cloud = Cloud::start();
    let lambda = Lambda::new(&cloud);
    let saga = admitted(&lambda, json!({})).await;
    let reply = lambda.within(json!({ "action": "freeze", "saga": saga }), 30_000).await.unwrap();
    assert_eq!((reply["phase"].as_str(), reply["problem"]["code"].as_str()), (Some("done"), Some("Freeze.Refused.TooSlow")), "{reply}");
    assert_eq!(cloud.asked(HOST, "freeze"), 0);
    assert_eq!(lambda.metrics()[0]["Refused"], 1);
    assert_eq!(lambda.saga("freeze", &saga).await["phase"], "snapshot", "the control: with time enough it freezes");
    lambda.saga("thaw", &saga).await;
    assert_eq!(cloud.state(HOST), "thawed");
}

#[tokio::test]
async fn a_duplicate_of_the_run_leaves_the_first_ones_window_alone() {
    let cloud = Cloud::start();
    let lambda = Lambda::new(&cloud);
    let saga = admitted(&lambda, json!({})).await;
    let twin = admitted(&lambda, json!({})).await;
    assert_eq!(saga["order"]["id"], twin["order"]["id"]);
    let frozen = lambda.saga("freeze", &saga).await;
    // The agent answers a repeated order with the first one's answer: the window is not the twin's.
    let by = saga["order"]["owner"].as_str().unwrap();
    let body = json!({ "schema": 1, "id": saga["order"]["id"], "remaining_ms": 50_000, "frozen_at": in_ms(0).0, "freeze_ms": 5,
        "instances": [], "warnings": [], "by": by, "sync_ms": 3 });
    let marker =
        json!({ "schema": 1, "type": "freeze", "id": saga["order"]["id"], "body": protocol::answer::digest_of(&body.to_string()) });
    cloud.says("freeze", &format!("{body}\nSNAPFREEZE {marker}\n"), 0);
    let second = lambda.saga("freeze", &twin).await;
    assert_eq!((second["phase"].as_str(), second["problem"]["code"].as_str()), (Some("done"), Some("Freeze.Refused.UsedId")));
    assert_eq!((cloud.state(HOST).as_str(), cloud.asked(HOST, "thaw")), ("frozen", 0), "the first window goes on");
    let snapped = lambda.saga("snapshot", &frozen["saga"]).await;
    let thawed = lambda.saga("thaw", &snapped["saga"]).await;
    assert_eq!(lambda.settle(thawed).await["verdict"], "held");
    assert_eq!(cloud.sim.snapshots().len(), 3);
}
