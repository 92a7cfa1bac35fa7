//! With moto behind: what CloudFormation made is what runs, moto's snapshots have bytes, Lambda goes elsewhere.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the doors")]

mod common;

use cloud_sim::{Host, Instance, Volume};
use common::{Stage, Tools, post};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// A moto server whose state machines call this double.
struct Moto {
    child: Child,
    url: String,
}

/// facts of moto: its ASL engine calls every service at `http://localhost:$MOTO_PORT`, which its own start overwrites.
const WRAPPED: &str = "
import os, sys, moto.server as server
run = server.run_simple
def routed(*a, **k):
    os.environ['MOTO_PORT'] = sys.argv[1]
    return run(*a, **k)
server.run_simple = routed
server.main(['-H', '127.0.0.1', '-p', '0'])
";

impl Moto {
    fn start(tools: &Tools, router: u16) -> Self {
        let mut command = Command::new(tools.bin("python"));
        let mut child =
            command.arg("-c").arg(WRAPPED).arg(router.to_string()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let url = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "moto ended");
            if let Some((_, url)) = line.split_once("Running on ") {
                break url.trim().to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, url }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same content, once said to be JSON and once YAML, with what a Python repr would spoil.
fn template() -> String {
    let step = json!({ "action": "aws:runShellScript", "name": "speak", "inputs": { "runCommand": ["# it's \"x\"\necho \"$SSM_word\"", "exit 0"] } });
    let parameters = json!({ "word": { "type": "String", "allowedPattern": "^[a-z]+$", "interpolationType": "ENV_VAR" } });
    let content = json!({ "schemaVersion": "2.2", "parameters": parameters, "mainSteps": [step] });
    let document = |name: &str, format: &str| {
        let properties = json!({ "Name": name, "DocumentType": "Command", "DocumentFormat": format, "Content": content });
        json!({ "Type": "AWS::SSM::Document", "Properties": properties })
    };
    json!({ "Resources": { "Json": document("say-json", "JSON"), "Yaml": document("say-yaml", "YAML") } }).to_string()
}

#[test]
fn the_snapshots_of_moto_have_bytes_and_the_documents_of_its_cloudformation_run() {
    let Some(tools) = Tools::or_skip("the_snapshots_of_moto_have_bytes_and_the_documents_of_its_cloudformation_run") else { return };
    let stage = Stage::quick();
    let moto = Moto::start(&tools, stage.sim.address().port());
    stage.sim.set_upstream(&moto.url);
    let made = stage.boto(
        &tools,
        &r"
i = ec2.run_instances(ImageId='ami-1', MinCount=1, MaxCount=1, Placement={'AvailabilityZone': 'us-east-1a'})['Instances'][0]['InstanceId']
v = ec2.create_volume(AvailabilityZone='us-east-1a', Size=1)['VolumeId']
ec2.attach_volume(InstanceId=i, VolumeId=v, Device='/dev/sdf')
boto3.client('cloudformation', config=one).create_stack(StackName='s', TemplateBody='''TEMPLATE''')
answer(dict(instance=i, volume=v))
"
        .replace("TEMPLATE", &template().replace('\\', "\\\\")),
    );
    let (instance, volume) = (made["instance"].as_str().unwrap(), made["volume"].as_str().unwrap());
    stage.sim.add_instance(Instance::new(instance).volume(Volume::new(volume, "/dev/sdf").dir(stage.path("data"))));
    stage.sim.add_host(Host::new(instance));
    let got = stage.boto(
        &tools,
        &r"
import time
tags = [{'ResourceType': 'snapshot', 'Tags': [{'Key': 'set', 'Value': 'x'}]}]
made = ec2.create_snapshots(InstanceSpecification={'InstanceId': 'INSTANCE'}, TagSpecifications=tags)['Snapshots']
found = ec2.describe_snapshots(Filters=[{'Name': 'tag:set', 'Values': ['x']}])['Snapshots']
long = fails(ec2.create_tags, Resources=[found[0]['SnapshotId']], Tags=[{'Key': 'k', 'Value': 'v' * 257}])
dry = fails(ec2.create_snapshots, InstanceSpecification={'InstanceId': 'INSTANCE'}, DryRun=True)
def say(name, word):
    c = ssm.send_command(DocumentName=name, InstanceIds=['INSTANCE'], Parameters={'word': [word]})['Command']['CommandId']
    ssm.get_waiter('command_executed').wait(CommandId=c, InstanceId='INSTANCE', WaiterConfig={'Delay': 1})
    return ssm.get_command_invocation(CommandId=c, InstanceId='INSTANCE')['StandardOutputContent']
bad = fails(ssm.send_command, DocumentName='say-yaml', InstanceIds=['INSTANCE'], Parameters={'word': ['$(x)']})
answer(dict(set=[s['SnapshotId'] for s in made if s['VolumeId'] == 'VOLUME'], found=len(found) >= 1, long=long, dry=dry, bad=bad,
  said=say('say-json', 'hello') + say('say-yaml', 'again')))
"
        .replace("INSTANCE", instance)
        .replace("VOLUME", volume),
    );
    let id = got["set"][0].as_str().unwrap();
    let bytes = stage.sim.snapshot_dir(id).expect("the copy has moto's id").join("file");
    assert_eq!(std::fs::read_to_string(bytes).unwrap(), "bytes of data");
    let rest = json!({ "found": got["found"], "long": got["long"], "dry": got["dry"], "bad": got["bad"], "said": got["said"] });
    let expected = json!({ "found": true, "long": "InvalidParameterValue", "dry": "DryRunOperation", "bad": "InvalidParameters", "said": "hello\nagain\n" });
    assert_eq!(rest, expected);
    let actions: Vec<String> = stage.sim.calls().into_iter().map(|c| format!("{}:{}", c.service, c.action)).collect();
    assert!(actions.contains(&"cloudformation:CreateStack".to_owned()), "what is proxied is recorded too: {actions:?}");
}

#[test]
fn a_state_machine_of_moto_calls_the_double() {
    let Some(tools) = Tools::or_skip("a_state_machine_of_moto_calls_the_double") else { return };
    let stage = Stage::quick();
    let moto = Moto::start(&tools, stage.sim.address().port());
    stage.sim.set_upstream(&moto.url);
    let engine = r#"{"stepfunctions": {"execute_state_machine": true}, "lambda": {"use_docker": false}}"#;
    assert_eq!(post(&moto.url, "/moto-api/config", &["content-type: application/json"], engine).unwrap().0, 201);
    let got = stage.boto(
        &tools,
        r"
import time
arguments = {'DocumentName': 'AWS-RunShellScript', 'InstanceIds': ['i-1'], 'Parameters': {'commands': ['echo from the machine']}}
asl = {'StartAt': 'Send', 'States': {'Send': {'Type': 'Task', 'Resource': 'arn:aws:states:::aws-sdk:ssm:sendCommand',
  'Parameters': arguments, 'ResultSelector': {'id.$': '$.Command.CommandId'}, 'End': True}}}
sfn = boto3.client('stepfunctions', config=one)
machine = sfn.create_state_machine(name='m', definition=json.dumps(asl), roleArn='arn:aws:iam::123456789012:role/r')['stateMachineArn']
run = sfn.start_execution(stateMachineArn=machine, name='n', input='{}')['executionArn']
for _ in range(600):
    d = sfn.describe_execution(executionArn=run)
    if d['status'] != 'RUNNING': break
    time.sleep(0.05)
answer(dict(status=d['status'], id=json.loads(d.get('output') or '{}').get('id')))
",
    );
    assert_eq!(got["status"], "SUCCEEDED", "{got}");
    assert_eq!(stage.ended(got["id"].as_str().unwrap())["StandardOutputContent"], "from the machine\n");
}

#[test]
fn lambda_goes_to_its_own_upstream_as_it_came() {
    let stage = Stage::quick();
    let path = "/2015-03-31/functions/snapfreeze-coordinator/invocations";
    assert_eq!(post(&stage.sim.endpoint(), path, &[], "{}").unwrap().0, 503, "nothing behind it");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    stage.sim.set_lambda(&format!("http://{}", listener.local_addr().unwrap()));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (String::new(), [0; 4096]);
        while !request.ends_with("{\"action\":\"list\"}") {
            let n = stream.read(&mut buffer).unwrap();
            request.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        write!(stream, "HTTP/1.1 200 OK\r\nx-amz-function-error: Unhandled\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]").unwrap();
        request
    });
    let answer = post(&stage.sim.endpoint(), path, &["x-amz-invocation-type: RequestResponse"], "{\"action\":\"list\"}").unwrap();
    assert_eq!(answer, (200, "[]".to_owned()));
    let request = server.join().unwrap();
    assert!(
        request.starts_with(&format!("POST {path} HTTP/1.1")) && request.contains("x-amz-invocation-type: RequestResponse"),
        "{request}"
    );
    assert_eq!(stage.sim.calls_of("Invoke").len(), 2);
}
