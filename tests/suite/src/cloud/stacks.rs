//! The templates of `infra/aws`, deployed to emulators: the SSM documents and EC2 to moto behind the double, the function, the
//! state machine and the schedules to ministack, whose Lambda runs the real `bootstrap` and reaches EC2 and SSM through the double.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use super::fleet::{Fleet, TAG};
use super::programs::program;
use super::tools::{Aws, Server, ministack, moto, tool_or_skip, tools};
use crate::host::{Setup, sleep_ms};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything that one deployment has.
pub struct Deployed {
    /// First: its hosts and their commands end before the servers that they speak to.
    pub fleet: Fleet,
    /// EC2, SSM, CloudFormation as moto has them, through the double.
    pub moto: Aws,
    /// Lambda, Step Functions, Scheduler.
    pub ministack: Aws,
    pub machine: String,
    _servers: [Server; 2],
}

/// A region that all of them agree on.
pub const REGION: &str = "us-east-1";

impl Deployed {
    /// Hosts are made by `run-instances` and `create-volume`. `None`: a tool is not installed, and `test` says that it is skipped.
    pub fn new(hosts: usize, setup: &Setup, lambda_timeout_s: u32, test: &str) -> Option<Self> {
        tool_or_skip("aws", "moto_server", test)?;
        tool_or_skip("aws", "ministack", test)?;
        let aws = tool_or_skip("aws", "aws", test)?;
        let mut fleet = Fleet::empty(|state| cloud_sim::Config { region: REGION.into(), ..cloud_sim::Config::quick(state) });
        let dir = fleet.dir.path().to_owned();
        let moto_server = moto(&tools().join("aws/bin/python"), &dir, Some(fleet.sim.address().port()));
        fleet.sim.set_upstream(&moto_server.url());
        let ministack_server = ministack(&tools().join("aws/bin/ministack"), &dir, &[]);
        fleet.sim.set_lambda(&ministack_server.url());
        let at = |endpoint: &str| Aws { region: REGION.into(), ..Aws::new(&aws, endpoint) };
        let (through_double, stack) = (at(&fleet.sim.endpoint()), at(&ministack_server.url()));

        create(&through_double, "documents", &crate::house::rules::read("infra/aws/documents.yaml"), None);
        for _ in 0..hosts {
            let (id, root, volume) = instance(&through_double);
            fleet.add_as(&id, &root, &volume, setup);
        }
        function(&stack, &fleet.sim.endpoint(), &dir, lambda_timeout_s);
        let machine = stack.json(&["stepfunctions", "list-state-machines"])["stateMachines"][0]["stateMachineArn"].as_str()?.to_owned();
        Some(Self { fleet, moto: through_double, ministack: stack, machine, _servers: [moto_server, ministack_server] })
    }

    /// The stack of one policy, whose schedule is due each minute. ministack leaves the Scheduler's own words as they are, so the
    /// planned time is written in.
    pub fn policy_stack(&self, policy: &Value) {
        let body = crate::house::rules::read("infra/aws/policy.yaml").replace("<aws.scheduler.scheduled-time>", "2026-11-26T02:00:00Z");
        let text = policy.to_string();
        let name = policy["name"].as_str().expect("a name");
        let parameters = json!([
            { "ParameterKey": "PolicyName", "ParameterValue": name },
            { "ParameterKey": "Policy", "ParameterValue": text },
            { "ParameterKey": "Schedule", "ParameterValue": "rate(1 minute)" },
        ]);
        create(&self.ministack, "policy", &body, Some(&parameters));
    }

    /// The executions of the state machine, children of a Distributed Map not among them.
    pub fn executions(&self) -> Vec<Value> {
        let v = self.ministack.json(&["stepfunctions", "list-executions", "--state-machine-arn", &self.machine]);
        v["executions"].as_array().cloned().unwrap_or_default()
    }

    /// Starts a run by hand and gives its name.
    pub fn start(&self, name: &str, policy: &Value) -> String {
        let input = json!({ "policy": policy }).to_string();
        let args = ["stepfunctions", "start-execution", "--state-machine-arn", &self.machine, "--name", name, "--input", &input];
        self.ministack.json(&args)["executionArn"].as_str().expect("an execution").to_owned()
    }

    /// The last lines of the function's log, for a person who reads a failed test.
    pub fn function_log(&self) -> Vec<String> {
        let v = self.ministack.json(&["logs", "filter-log-events", "--log-group-name", "/aws/lambda/snapfreeze-coordinator"]);
        let all = v["events"].as_array().into_iter().flatten().filter_map(|e| e["message"].as_str());
        let ours: Vec<String> = all.filter(|m| m.starts_with('{')).map(Into::into).collect();
        ours[ours.len().saturating_sub(12)..].to_vec()
    }

    /// The same definition in moto's interpreter, whose calls of Lambda go through the double to the same function; its end's status.
    pub fn on_moto(&self, policy: &Value, name: &str, seconds: u64) -> String {
        let function = self.ministack.json(&["lambda", "get-function", "--function-name", "snapfreeze-coordinator"]);
        let arn = function["Configuration"]["FunctionArn"].as_str().expect("the function").to_owned();
        let definition = crate::house::rules::read("infra/aws/backup.asl.json").replace("${Function}", &arn);
        let role = "arn:aws:iam::123456789012:role/states";
        let made =
            self.moto.json(&["stepfunctions", "create-state-machine", "--name", name, "--definition", &definition, "--role-arn", role]);
        let machine = made["stateMachineArn"].as_str().expect("a state machine");
        let input = json!({ "policy": policy }).to_string();
        let args = ["stepfunctions", "start-execution", "--state-machine-arn", machine, "--name", name, "--input", &input];
        let execution = self.moto.json(&args)["executionArn"].as_str().expect("an execution").to_owned();
        for _ in 0..seconds {
            sleep_ms(1000);
            let v = self.moto.json(&["stepfunctions", "describe-execution", "--execution-arn", &execution]);
            match v["status"].as_str().unwrap_or_default() {
                "RUNNING" => {}
                status => return status.to_owned(),
            }
        }
        panic!("{execution} did not end within {seconds} s")
    }

    /// SIGKILL for every process of the function.
    pub fn kill_function(&self) {
        let code = format!("{}/ministack-provided-code", self.fleet.dir.path().display());
        let all = crate::host::with_text(&code);
        assert!(!all.is_empty(), "the function has a process");
        all.iter().for_each(|p| crate::host::kill(p.pid));
    }

    /// Waits for its end: status, and everything that is known about it.
    pub fn wait(&self, execution: &str, seconds: u64) -> (String, Value) {
        for _ in 0..seconds * 2 {
            let v = self.ministack.json(&["stepfunctions", "describe-execution", "--execution-arn", execution]);
            let status = v["status"].as_str().unwrap_or_default().to_owned();
            if status != "RUNNING" {
                return (status, json!({ "execution": v, "function": self.function_log() }));
            }
            sleep_ms(500);
        }
        panic!("{execution} did not end within {seconds} s")
    }
}

/// `run-instances` and a volume for the data: ids of instance, root and data volume.
fn instance(aws: &Aws) -> (String, String, String) {
    let tags = format!("ResourceType=instance,Tags=[{{Key={},Value={}}},{{Key=Name,Value=db}}]", TAG.0, TAG.1);
    let made = aws.json(&["ec2", "run-instances", "--image-id", "ami-12c6146b", "--count", "1", "--tag-specifications", &tags]);
    let i = &made["Instances"][0];
    let id = i["InstanceId"].as_str().expect("an instance").to_owned();
    let zone = i["Placement"]["AvailabilityZone"].as_str().unwrap_or("us-east-1a").to_owned();
    let volume = aws.json(&["ec2", "create-volume", "--availability-zone", &zone, "--size", "8", "--volume-type", "gp3"]);
    let volume = volume["VolumeId"].as_str().expect("a volume").to_owned();
    aws.json(&["ec2", "attach-volume", "--instance-id", &id, "--volume-id", &volume, "--device", "/dev/sdf"]);
    let seen = aws.json(&["ec2", "describe-instances", "--instance-ids", &id]);
    let mappings = seen["Reservations"][0]["Instances"][0]["BlockDeviceMappings"].as_array().cloned().unwrap_or_default();
    let root = mappings.iter().find_map(|m| m["Ebs"]["VolumeId"].as_str().filter(|v| *v != volume)).unwrap_or("vol-none");
    (id, root.to_owned(), volume)
}

/// `aws cloudformation create-stack`, to its end.
fn create(aws: &Aws, stack: &str, body: &str, parameters: Option<&Value>) {
    let mut args: Vec<String> =
        ["cloudformation", "create-stack", "--stack-name", stack, "--template-body", body].map(String::from).to_vec();
    args.extend(["--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"].map(String::from));
    if let Some(p) = parameters {
        args.extend(["--parameters".into(), p.to_string()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    aws.json(&args);
    for _ in 0..240 {
        let v = aws.json(&["cloudformation", "describe-stacks", "--stack-name", stack]);
        match v["Stacks"][0]["StackStatus"].as_str().unwrap_or_default() {
            "CREATE_COMPLETE" => return,
            "CREATE_IN_PROGRESS" => sleep_ms(250),
            other => {
                let events = aws.json(&["cloudformation", "describe-stack-events", "--stack-name", stack]);
                panic!("stack {stack}: {other}: {events:#}");
            }
        }
    }
    panic!("stack {stack} did not become complete");
}

/// The coordinator's stack on ministack, as `aws cloudformation package` makes it; then the function learns where the double is.
fn function(stack: &Aws, double: &str, dir: &Path, timeout_s: u32) {
    let packaged = package(stack, dir);
    create(stack, "snapfreeze", &packaged, Some(&json!([{ "ParameterKey": "Architecture", "ParameterValue": "x86_64" }])));
    let environment = json!({ "Variables": {
        "AWS_ENDPOINT_URL_EC2": double, "AWS_ENDPOINT_URL_SSM": double } });
    stack.json(&[
        "lambda",
        "update-function-configuration",
        "--function-name",
        "snapfreeze-coordinator",
        "--environment",
        &environment.to_string(),
        "--timeout",
        &timeout_s.to_string(),
    ]);
}

/// The template with its local files in a bucket.
fn package(aws: &Aws, dir: &Path) -> String {
    let root = dir.join("package");
    let (infra, zip) = (root.join("infra/aws"), root.join("target/aws/bootstrap"));
    std::fs::create_dir_all(&infra).and_then(|()| std::fs::create_dir_all(&zip)).expect("directories");
    let source = crate::house::rules::root().join("infra/aws");
    for f in std::fs::read_dir(source).expect("infra/aws").flatten().filter(|f| f.path().is_file()) {
        std::fs::copy(f.path(), infra.join(f.file_name())).expect("a copy");
    }
    zipped(&program("bootstrap"), &zip.join("bootstrap.zip"));
    aws.json(&["s3api", "create-bucket", "--bucket", "artefacts"]);
    let out: PathBuf = root.join("packaged.yaml");
    let o = aws.output(&[
        "cloudformation",
        "package",
        "--template-file",
        &infra.join("template.yaml").to_string_lossy(),
        "--s3-bucket",
        "artefacts",
        "--output-template-file",
        &out.to_string_lossy(),
    ]);
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    std::fs::read_to_string(out).expect("the packaged template")
}

/// By Python's own zipfile, which keeps the mode.
fn zipped(bootstrap: &Path, to: &Path) {
    let o = Command::new(tools().join("aws/bin/python"))
        .args(["-c", "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[2], 'w', zipfile.ZIP_DEFLATED, compresslevel=1)\nz.write(sys.argv[1], 'bootstrap')"])
        .args([bootstrap, to])
        .output()
        .expect("python runs");
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
}
