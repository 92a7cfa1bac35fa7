//! Documents run as they are stored, on hosts: an `exit 0` in place of the step changes what happens.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the doors")]

mod common;

use cloud_sim::{Host, Instance};
use common::{Stage, http};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// As the product's documents are made: the program by its absolute path, its exit code handed on.
fn document(step: &str) -> String {
    format!(
        "
schemaVersion: '2.2'
parameters:
  backupId: {{type: String, allowedPattern: '^[a-z0-9-]*$', interpolationType: ENV_VAR}}
mainSteps:
- action: aws:runShellScript
  name: snapfreeze
  precondition: {{StringEquals: [platformType, Linux]}}
  inputs:
    timeoutSeconds: '2'
    runCommand:
    - 'if [ -z \"${{SSM_backupId+x}}\" ]; then export SSM_backupId=\"{{{{backupId}}}}\"; fi'
    - '{step}'
"
    )
}

const STEP: &str = "/usr/bin/snapfreeze freeze --json --id \"$SSM_backupId\"";

fn stage(change: impl FnOnce(&mut Host)) -> Stage {
    let stage = Stage::quick();
    let program = stage.path("agent");
    let log = stage.path("log");
    std::fs::write(&program, format!("#!/bin/sh\necho \"$TITLE $*\" >> {}\necho SNAPFREEZE $4\nexit 4\n", log.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut host = Host::new("i-1").path("/usr/bin/snapfreeze", program).env("TITLE", "agent");
    change(&mut host);
    stage.sim.add_host(host);
    stage
}

#[test]
fn an_exit_0_in_place_of_the_step_changes_what_happens() {
    let stage = stage(|_| {});
    stage.sim.put_document("freeze", &document(STEP)).unwrap();
    let got = stage.run("freeze", json!({ "backupId": ["b-1"] }));
    assert_eq!((&got["ResponseCode"], &got["StandardOutputContent"]), (&json!(4), &json!("SNAPFREEZE b-1\n")), "{got}");
    assert_eq!(std::fs::read_to_string(stage.path("log")).unwrap(), "agent freeze --json --id b-1\n");

    stage.sim.put_document("freeze", &document("exit 0")).unwrap();
    let got = stage.run("freeze", json!({ "backupId": ["b-2"] }));
    assert_eq!((&got["Status"], &got["StandardOutputContent"]), (&json!("Success"), &json!("")));
    assert!(!std::fs::read_to_string(stage.path("log")).unwrap().contains("b-2"), "the agent never heard of it");
}

#[test]
fn an_agent_without_env_var_interpolation_takes_the_fallback() {
    let stage = stage(|h| h.old_agent = true);
    stage.sim.put_document("freeze", &document(STEP)).unwrap();
    assert_eq!(stage.run("freeze", json!({ "backupId": ["b-1"] }))["StandardOutputContent"], "SNAPFREEZE b-1\n");
    let without = document(STEP).replace("export SSM_backupId", "true");
    stage.sim.put_document("freeze", &without).unwrap();
    assert_eq!(stage.run("freeze", json!({ "backupId": ["b-1"] }))["StandardOutputContent"], "SNAPFREEZE\n", "the control");
}

#[test]
fn a_script_that_takes_too_long_is_killed_with_its_group() {
    let stage = stage(|_| {});
    let marker = stage.path("survived");
    stage.sim.put_document("slow", &document(&format!("echo begun; (sleep 4; touch {}) & wait", marker.display()))).unwrap();
    let got = stage.run("slow", json!({ "backupId": ["x"] }));
    assert_eq!(
        (&got["Status"], &got["StatusDetails"], &got["ResponseCode"]),
        (&json!("TimedOut"), &json!("ExecutionTimedOut"), &json!(137))
    );
    assert_eq!(got["StandardOutputContent"], "begun\n");
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(!marker.exists(), "no process is left behind");
}

#[test]
fn a_step_for_another_platform_is_skipped_and_so_says_success() {
    let stage = stage(|h| h.platform = "Windows".into());
    stage.sim.put_document("freeze", &document(STEP)).unwrap();
    let got = stage.run("freeze", json!({ "backupId": ["b-1"] }));
    assert_eq!((&got["Status"], &got["StandardOutputContent"]), (&json!("Success"), &json!("")));
    assert!(!stage.path("log").exists());
}

#[test]
fn the_sixth_command_waits_for_a_worker() {
    let stage = stage(|_| {});
    let gate = stage.path("gate");
    let ask = |commands: String| json!({ "DocumentName": "AWS-RunShellScript", "InstanceIds": ["i-1"], "Parameters": { "commands": [commands] } });
    let send = |commands: String| -> String {
        stage.ssm("SendCommand", &ask(commands)).unwrap().1["Command"]["CommandId"].as_str().unwrap().to_owned()
    };
    let busy: Vec<String> = (0..5).map(|_| send(format!("while [ ! -e {} ]; do sleep 0.05; done", gate.display()))).collect();
    let running = || stage.sim.invocations().iter().filter(|i| i.ran).count();
    while running() < 5 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let sixth = send("true".into());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running(), 5);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(stage.ended(&sixth)["Status"], "Success");
    assert!(busy.iter().all(|c| stage.ended(c)["Status"] == "Success"));
}

#[test]
fn a_lost_host_gets_nothing_and_a_stopped_one_is_refused() {
    let stage = stage(|_| {});
    stage.sim.set_online("i-1", false);
    assert_eq!(stage.run("AWS-RunShellScript", json!({ "commands": ["true"] }))["StatusDetails"], "DeliveryTimedOut");
    assert!(stage.sim.calls_of("GetCommandInvocation").len() > 2, "it was asked about while it was Delayed");
    assert!(!stage.sim.invocations()[0].ran);
    stage.sim.set_online("i-1", true);
    assert_eq!(stage.run("AWS-RunShellScript", json!({ "commands": ["true"] }))["Status"], "Success", "the control");
    stage.sim.set_state("i-1", "stopped");
    let ask = json!({ "DocumentName": "AWS-RunShellScript", "InstanceIds": ["i-1"], "Parameters": { "commands": ["true"] } });
    assert_eq!(stage.ssm("SendCommand", &ask).unwrap().1["__type"], "InvalidInstanceId");
}

#[test]
fn right_after_sending_the_invocation_does_not_exist() {
    let mut quick = None;
    let stage = Stage::with(|c| {
        c.ssm.visible_after_ms = 400;
        quick = Some(c.ssm.visible_after_ms);
    });
    let ask = json!({ "DocumentName": "AWS-RunShellScript", "InstanceIds": ["i-1"], "Parameters": { "commands": ["true"] } });
    let id = stage.ssm("SendCommand", &ask).unwrap().1["Command"]["CommandId"].as_str().unwrap().to_owned();
    let question = json!({ "CommandId": id, "InstanceId": "i-1" });
    assert_eq!(stage.ssm("GetCommandInvocation", &question).unwrap().1["__type"], "InvocationDoesNotExist");
    assert_eq!(stage.ended(&id)["Status"], "Success");
}

#[test]
fn a_host_has_a_metadata_service_and_its_credentials_reach_its_own_instance_only() {
    let stage = stage(|h| h.imds = true);
    stage.sim.add_instance(Instance::new("i-2").volume(cloud_sim::Volume::new("vol-2", "/dev/sdf")));
    let imds = stage.sim.imds("i-1").unwrap();
    let path = "/latest/meta-data/instance-id";
    assert_eq!(http("GET", &imds, path, &[], "").unwrap().0, 401, "IMDSv2 only");
    let token = http("PUT", &imds, "/latest/api/token", &["x-aws-ec2-metadata-token-ttl-seconds: 60"], "").unwrap().1;
    let get = |path: &str| http("GET", &imds, path, &[&format!("x-aws-ec2-metadata-token: {token}")], "").unwrap().1;
    assert_eq!(get(path), "i-1");
    assert_eq!(get("/latest/meta-data/placement/region"), "us-east-1");
    let role = get("/latest/meta-data/iam/security-credentials/");
    let credentials: Value = serde_json::from_str(&get(&format!("/latest/meta-data/iam/security-credentials/{role}"))).unwrap();
    let identity: Value = serde_json::from_str(&get("/latest/dynamic/instance-identity/document")).unwrap();
    assert_eq!((&credentials["Code"], &identity["region"]), (&json!("Success"), &json!("us-east-1")));

    let key = credentials["AccessKeyId"].as_str().unwrap();
    let scope = format!("authorization: AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/ec2/aws4_request, Signature=0");
    let snapshot = |instance: &str| {
        let form = format!("Action=CreateSnapshots&Version=2016-11-15&InstanceSpecification.InstanceId={instance}");
        common::post(&stage.sim.endpoint(), "/", &["content-type: application/x-www-form-urlencoded", &scope], &form).unwrap().0
    };
    assert_eq!((snapshot("i-1"), snapshot("i-2")), (200, 403));
    let calls = stage.sim.calls_of("CreateSnapshots");
    assert!(
        calls.iter().all(|c| c.principal.as_deref() == Some("arn:aws:sts::123456789012:assumed-role/snapfreeze-host/i-1")),
        "{calls:?}"
    );
}
