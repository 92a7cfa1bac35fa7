//! Run Command, the action and the managed one: what runs, as what, and what is told of it.

use crate::stage::{COMPUTE, Stage, VM, wait};
use cloud_sim::arm::{ArmFault, ArmHost, ArmMatch, ArmRule};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn action(script: &str) -> Value {
    json!({ "commandId": "RunShellScript", "script": script.lines().collect::<Vec<_>>() })
}

fn managed(script: &str) -> Value {
    json!({ "location": "westeurope", "properties": { "source": { "script": script }, "asyncExecution": false } })
}

fn path(name: &str) -> String {
    format!("{VM}/runCommands/{name}")
}

fn view(stage: &Stage, name: &str) -> Value {
    stage.get(&format!("{}?$expand=instanceView", path(name))).body["properties"]["instanceView"].clone()
}

#[test]
fn an_action_tells_output_and_no_exit_code() {
    let stage = Stage::quick();
    let got = stage.ask("POST", &format!("{VM}/runCommand"), action("echo out\necho err >&2\nexit 123"));
    assert_eq!((got.status, got.text.as_str()), (202, ""));
    let end = stage.ended(&got);
    let value = &end["properties"]["output"]["value"][0];
    assert_eq!((&end["status"], &value["code"]), (&json!("Succeeded"), &json!("ProvisioningState/succeeded")), "exit 123");
    assert_eq!(value["message"], "Enable succeeded: \n[stdout]\nout\n\n[stderr]\nerr\n");
    assert_eq!(stage.follow(&got.headers["location"]).body, end["properties"]["output"]);
    assert_eq!(stage.sim.runs()[0].exit_code, Some(123), "the double knows");
}

#[test]
fn one_action_at_a_time_beside_managed_ones() {
    let stage = Stage::quick();
    let first = stage.ask("POST", &format!("{VM}/runCommand"), action("until [ -e go ]; do sleep 0.02; done"));
    let second = stage.ask("POST", &format!("{VM}/runCommand"), action("true"));
    assert_eq!(second.refused(), (409, "Conflict"));
    assert!(second.text.contains("Run command extension execution is in progress"));
    stage.done("PUT", &path("beside"), managed("true"));
    wait(|| std::fs::write(stage.path("arm/run/0/go"), "").is_ok());
    stage.ended(&first);
    stage.done("POST", &format!("{VM}/runCommand"), action("true"));
}

#[test]
fn parameters_of_an_action_are_pasted_and_those_of_a_managed_one_are_not_unless_they_have_no_name() {
    let stage = Stage::quick();
    let script = "echo \"[$a] [$1]\"";
    let given = json!([{ "name": "a", "value": "x;touch${IFS}pasted" }]);
    let mut ask = action(script);
    ask["parameters"] = given.clone();
    stage.done("POST", &format!("{VM}/runCommand"), ask);
    let run = &stage.sim.runs()[0];
    assert_eq!((run.stdout.trim(), stage.path("arm/run/0/pasted").exists()), ("[x] [x]", true), "{run:?}");

    let mut ask = managed(script);
    ask["properties"]["parameters"] = given;
    stage.done("PUT", &path("named"), ask);
    let run = &stage.sim.runs()[1];
    assert_eq!((run.stdout.trim(), stage.path("arm/run/1/pasted").exists()), ("[x;touch${IFS}pasted] []", false), "{run:?}");

    let mut ask = managed(script);
    ask["properties"]["parameters"] = json!([{ "value": "y;touch pasted" }]);
    stage.done("PUT", &path("unnamed"), ask);
    let run = &stage.sim.runs()[2];
    assert_eq!((run.stdout.trim(), stage.path("arm/run/2/pasted").exists()), ("[] [y]", true), "{run:?}");
}

#[test]
fn a_managed_command_tells_its_exit_code_when_it_is_asked_for_the_instance_view() {
    let stage = Stage::quick();
    stage.sim.add_host(ArmHost::new(VM).deliver_ms(700));
    let put = stage.ask("PUT", &path("c1"), managed("echo out; echo err >&2; exit 3"));
    assert_eq!((put.status, &put.body["properties"]["provisioningState"]), (201, &json!("Creating")));
    assert_eq!(view(&stage, "c1")["executionState"], "Pending");
    assert_eq!(stage.ended(&put)["status"], "Succeeded", "delivered, although it failed");
    let got = stage.get(&path("c1")).body;
    assert_eq!((&got["properties"]["provisioningState"], got["properties"].get("instanceView")), (&json!("Succeeded"), None));
    let v = view(&stage, "c1");
    assert_eq!(
        (&v["executionState"], &v["exitCode"], &v["output"], &v["error"]),
        (&json!("Failed"), &json!(3), &json!("out\n"), &json!("err\n"))
    );
    assert_eq!(stage.get(&format!("{VM}/runCommands")).body["value"][0]["name"], "c1");
    let mut strict = managed("exit 3");
    strict["properties"]["treatFailureAsDeploymentFailure"] = json!(true);
    let put = stage.ask("PUT", &path("c2"), strict);
    assert_eq!(stage.ended(&put)["error"]["code"], "VMExtensionProvisioningError");
    assert_eq!(stage.get(&path("c2")).body["properties"]["provisioningState"], "Failed");
}

#[test]
fn only_the_last_four_kilobytes_are_told_and_bash_runs_it_on_the_hosts_paths() {
    let stage = Stage::quick();
    let tool = stage.path("tool");
    std::fs::write(&tool, "#!/bin/bash\necho \"tool $X\"\n").unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    stage.sim.add_host(ArmHost::new(VM).env("X", "of the host").path("/usr/bin/tool", &tool));
    let script = "a=(1 2); for n in {1..5000}; do echo -n x; done; echo \"${a[1]} ${BASH_VERSION:+bash}\"; /usr/bin/tool";
    stage.done("PUT", &path("c"), managed(script));
    let out = view(&stage, "c")["output"].as_str().unwrap().to_owned();
    assert_eq!(out.len(), 4096);
    assert!(out.starts_with('x') && out.ends_with("2 bash\ntool of the host\n"), "{}", &out[4000..]);
}

#[test]
fn asynchronous_execution_succeeds_at_the_start_and_goes_on() {
    let stage = Stage::quick();
    let mut ask = managed("until [ -e go ]; do sleep 0.02; done; echo done");
    ask["properties"]["asyncExecution"] = json!(true);
    stage.done("PUT", &path("c"), ask);
    assert_eq!(view(&stage, "c")["executionState"], "Running");
    wait(|| std::fs::write(stage.path("arm/run/0/go"), "").is_ok());
    wait(|| view(&stage, "c")["executionState"] == "Succeeded");
    assert_eq!(view(&stage, "c")["output"], "done\n");
}

#[test]
fn the_time_limit_kills_bash_and_not_its_children() {
    let stage = Stage::quick();
    let mut ask = managed("(sleep 1.6; echo child > child) & sleep 30");
    ask["properties"]["timeoutInSeconds"] = json!(1);
    let before = Instant::now();
    stage.done("PUT", &path("c"), ask);
    assert!(before.elapsed() < Duration::from_secs(10));
    let v = view(&stage, "c");
    assert_eq!((&v["executionState"], &v["exitCode"]), (&json!("TimedOut"), &json!(-1)));
    wait(|| stage.path("arm/run/0/child").exists());
}

#[test]
fn the_same_again_is_not_run_and_another_kills_what_runs() {
    let stage = Stage::quick();
    stage.done("PUT", &path("c"), managed("echo 1"));
    let again = stage.ask("PUT", &path("c"), managed("echo 1"));
    assert_eq!((again.status, stage.ended(&again)["status"].as_str()), (200, Some("Succeeded")));
    assert_eq!(stage.sim.runs().len(), 1, "not executed again");

    let slow = stage.ask("PUT", &path("c"), managed("(sleep 0.7; echo child > child) & sleep 30; echo never > never"));
    wait(|| stage.sim.runs()[1].started_us.is_some());
    std::thread::sleep(Duration::from_millis(100));
    stage.done("PUT", &path("c"), managed("echo 2"));
    assert_eq!(stage.ended(&slow)["error"]["code"], "OperationPreempted");
    wait(|| stage.path("arm/run/1/child").exists());
    let killed = &stage.sim.runs()[1];
    assert_eq!((killed.cancelled, killed.exit_code, killed.state.as_str()), (true, Some(-1), "Canceled"));
    assert_eq!(view(&stage, "c")["output"], "2\n");

    stage.ask("PUT", &path("d"), managed("sleep 30"));
    wait(|| stage.sim.runs()[3].started_us.is_some());
    stage.done("DELETE", &path("d"), Value::Null);
    wait(|| stage.sim.runs()[3].ended_us.is_some());
    assert!(stage.sim.runs()[3].cancelled && stage.get(&path("d")).status == 404);
    assert_eq!(stage.ask("DELETE", &path("d"), Value::Null).status, 204);
    assert_eq!(stage.sim.run_names(VM), ["c"]);
}

#[test]
fn twenty_five_are_all_that_a_vm_has() {
    let stage = Stage::quick();
    for n in 0..25 {
        assert_eq!(stage.ask("PUT", &path(&format!("c{n}")), managed("true")).status, 201);
    }
    assert_eq!(stage.ask("PUT", &path("c25"), managed("true")).refused(), (409, "OperationNotAllowed"));
    stage.done("DELETE", &path("c0"), Value::Null);
    assert_eq!(stage.ask("PUT", &path("c25"), managed("true")).status, 201);
}

#[test]
fn a_vm_that_is_off_refuses_and_an_agent_that_is_lost_never_answers() {
    let stage = Stage::quick();
    stage.sim.set_online(VM, false);
    let got = stage.ask("PUT", &path("c"), managed("echo late"));
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(stage.follow(&got.headers["azure-asyncoperation"]).body["status"], "InProgress");
    stage.sim.set_online(VM, true);
    assert_eq!(stage.ended(&got)["status"], "Succeeded", "delivered late");
    stage.sim.set_power(VM, "deallocated");
    assert_eq!(stage.ask("POST", &format!("{VM}/runCommand"), action("true")).refused(), (409, "OperationNotAllowed"));
    assert_eq!(stage.ask("PUT", &path("d"), managed("true")).refused(), (409, "OperationNotAllowed"));
    let other = format!("{COMPUTE}/virtualMachines/none/runCommand");
    assert_eq!(stage.ask("POST", &other, action("true")).refused(), (404, "ResourceNotFound"));
}

#[test]
fn what_is_wrong_is_named() {
    let stage = Stage::quick();
    let run = format!("{VM}/runCommand");
    assert_eq!(stage.ask("POST", &run, json!({ "commandId": "ifconfig" })).refused(), (400, "InvalidParameter"));
    assert_eq!(stage.ask("PUT", &path("c"), json!({ "properties": {} })).refused(), (400, "LocationRequired"));
    assert_eq!(stage.ask("PUT", &path("c"), json!({ "location": "westeurope" })).refused(), (400, "InvalidParameter"));
    assert!(stage.sim.runs().is_empty());
}

#[test]
fn a_run_that_is_lost_and_one_whose_end_is_never_told() {
    let stage = Stage::quick();
    let run = format!("{VM}/runCommand");
    stage.fault("run.action", ArmFault::RunHang);
    let hangs = stage.ask("POST", &run, action("echo 1"));
    wait(|| stage.sim.runs()[0].ended_us.is_some());
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(stage.follow(&hangs.headers["azure-asyncoperation"]).body["status"], "InProgress");
    assert_eq!(stage.ask("POST", &run, action("true")).status, 409, "the slot is taken for ever");
    stage.sim.free_slot(VM);
    stage.done("POST", &run, action("true"));

    for (fault, runs) in [(ArmFault::RunLost, false), (ArmFault::RunHang, true)] {
        let rule = stage.fault("run.put", fault);
        let name = format!("c{runs}");
        let got = stage.ask("PUT", &path(&name), managed("true"));
        wait(|| !runs || stage.sim.runs().last().unwrap().ended_us.is_some());
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(stage.follow(&got.headers["azure-asyncoperation"]).body["status"], "InProgress");
        assert_eq!(stage.sim.runs().last().unwrap().started_us.is_some(), runs);
        assert_eq!(view(&stage, &name)["executionState"], if runs { "Running" } else { "Pending" });
        assert_eq!(stage.sim.hits(rule), 1);
    }
    stage.done("PUT", &path("good"), managed("true"));
}

#[test]
fn late_cut_misreported_and_the_wrong_script() {
    let stage = Stage::quick();
    stage.fault("run.put", ArmFault::StartLate { ms: 300 });
    stage.done("PUT", &path("late"), managed("true"));
    let run = &stage.sim.runs()[0];
    assert!(run.started_us.unwrap() - run.asked_us >= 290_000);
    stage.fault("run.put", ArmFault::CutOutput { bytes: 3 });
    stage.done("PUT", &path("cut"), managed("echo 12345"));
    assert_eq!(view(&stage, "cut")["output"], "45\n");
    stage.fault("run.put", ArmFault::ReportAs { execution_state: "Unknown".into(), exit_code: -7 });
    stage.done("PUT", &path("told"), managed("echo fine"));
    let v = view(&stage, "told");
    assert_eq!((&v["executionState"], &v["exitCode"], &v["output"]), (&json!("Unknown"), &json!(-7), &json!("fine\n")));
    stage.fault("run.action", ArmFault::SampleScript);
    let done = stage.done("POST", &format!("{VM}/runCommand"), action("echo mine"));
    assert!(done["value"][0]["message"].as_str().unwrap().contains("[stdout]\nthis is the sample script\n"), "{done}");
    stage.sim.fault(ArmRule::new(
        ArmMatch::op("run.put").vm(VM).name("this"),
        ArmFault::LroFailed { code: "VMAgentStatusCommunicationError".into() },
    ));
    stage.done("PUT", &path("other"), managed("true"));
    let failed = stage.ask("PUT", &path("this"), managed("true"));
    assert_eq!(stage.ended(&failed)["error"]["code"], "VMAgentStatusCommunicationError");
    assert_eq!(stage.get(&path("this")).body["properties"]["provisioningState"], "Failed");
}

#[test]
fn the_double_takes_what_still_runs_with_it() {
    let stage = Stage::quick();
    let marker = stage.path("marker");
    stage.ask("PUT", &path("c"), managed(&format!("sleep 0.6; echo > {}", marker.display())));
    wait(|| stage.sim.runs()[0].started_us.is_some());
    std::thread::sleep(Duration::from_millis(50));
    let Stage { sim, dir, .. } = stage;
    drop(sim);
    std::thread::sleep(Duration::from_millis(900));
    assert!(!marker.exists());
    drop(dir);
}
