//! The SSM documents reach the agent, and what comes back is the agent's own word.

use protocol::answer::read;
use protocol::wire::Facts;
use serde_json::Value;
use suite::cloud::fleet::{Fleet, setup};
use suite::cloud::tools::{Aws, tool_or_skip};
use suite::host::{Setup, new_id, sleep_ms};

/// Sends a document by the `aws` command line and waits for its end: status and stdout.
fn send(aws: &Aws, instance: &str, document: &str, parameters: &Value) -> (String, String) {
    let sent = aws.json(&[
        "ssm",
        "send-command",
        "--instance-ids",
        instance,
        "--document-name",
        document,
        "--parameters",
        &parameters.to_string(),
    ]);
    let command = sent["Command"]["CommandId"].as_str().expect("a command id").to_owned();
    for _ in 0..600 {
        sleep_ms(100);
        let o = aws.output(&["ssm", "get-command-invocation", "--command-id", &command, "--instance-id", instance]);
        let Ok(v) = serde_json::from_slice::<Value>(&o.stdout) else { continue };
        let status = v["Status"].as_str().unwrap_or_default();
        if !["Pending", "InProgress", "Delayed"].contains(&status) {
            return (status.to_owned(), v["StandardOutputContent"].as_str().unwrap_or_default().to_owned());
        }
    }
    panic!("{document} never ended");
}

/// The contract of AWS Data Lifecycle Manager, as it calls the document: pre, its snapshots, post.
#[test]
fn the_dlm_document_freezes_at_pre_and_thaws_at_post() {
    let Some(program) = tool_or_skip("aws", "aws", "the_dlm_document_freezes_at_pre_and_thaws_at_post") else { return };
    let fleet = Fleet::iris(1, cloud_sim::Config::quick, &Setup { window: "wd_suspend_limit = \"600s\"\n".into(), ..setup() });
    let aws = Aws { region: fleet.sim.config().region.clone(), ..Aws::new(&program, &fleet.sim.endpoint()) };
    let m = &fleet.members[0];
    let id = new_id();
    let ask =
        |id: &str, command: &str| send(&aws, &m.id, "snapfreeze-dlm", &serde_json::json!({ "executionId": [id], "command": [command] }));
    let (status, out) = ask("None", "dry-run");
    assert_eq!((status.as_str(), m.host.engine.frozen()), ("Success", false), "{out}");
    let (status, out) = ask(&id, "pre-script");
    assert_eq!((status.as_str(), m.host.engine.frozen()), ("Success", true), "{out}");
    let (status, out) = ask(&id, "post-script");
    assert_eq!((status.as_str(), m.host.engine.frozen()), ("Success", false), "{out}");
    // The control: a post without its pre is a failure, never "fine".
    let (status, out) = ask(&new_id(), "post-script");
    assert_eq!(status, "Failed", "{out}");
    assert_eq!(fleet.freezes(), 1);
}

#[test]
fn the_facts_document_tells_engine_volume_and_what_is_in_the_way() {
    let Some(program) = tool_or_skip("aws", "aws", "the_facts_document_tells_engine_volume_and_what_is_in_the_way") else { return };
    let fleet = Fleet::iris(1, cloud_sim::Config::quick, &setup());
    let aws = Aws { region: fleet.sim.config().region.clone(), ..Aws::new(&program, &fleet.sim.endpoint()) };
    let m = &fleet.members[0];
    let id = new_id();
    let ask = serde_json::json!({ "backupId": [id], "hold": ["15000"] });
    let (status, out) = send(&aws, &m.id, "snapfreeze-facts", &ask);
    assert_eq!(status, "Success", "{out}\n{}", m.host.agent_log());
    let facts: Facts = read(&out, Some(id.parse().expect("a UUID"))).and_then(|a| a.whole("facts")).expect("an answer");
    assert_eq!(facts.problems, [], "nothing is in the way");
    assert_eq!(facts.volumes.iter().map(|v| v.volume.as_str()).collect::<Vec<_>>(), [m.volume.as_str()]);
    assert!(facts.volumes[0].roles.iter().any(|r| r == "database"), "{:?}", facts.volumes);
    assert_eq!(facts.instances[0].engine, "iris");
    assert!(facts.largest_hold_ms >= 15_000, "{facts:?}");
}
