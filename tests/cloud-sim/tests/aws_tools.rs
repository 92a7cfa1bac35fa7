//! The double held to the truth by others: boto3 and the AWS command line drive it, and botocore parses every answer.

mod common;

use common::{Stage, Tools};
use serde_json::json;

#[test]
fn the_command_line_makes_a_set_and_finds_it_by_its_tags() {
    let Some(tools) = Tools::or_skip("the_command_line_makes_a_set_and_finds_it_by_its_tags") else { return };
    let stage = Stage::quick();
    let made = stage.aws_json(
        &tools,
        &[
            "ec2",
            "create-snapshots",
            "--instance-specification",
            "InstanceId=i-1,ExcludeBootVolume=true",
            "--description",
            "a <set> & more",
            "--copy-tags-from-source",
            "volume",
            "--tag-specifications",
            "ResourceType=snapshot,Tags=[{Key=snapfreeze:backup-id,Value=b-1}]",
        ],
    );
    let set = made["Snapshots"].as_array().unwrap();
    assert_eq!(set.len(), 2, "{made}");
    assert!(set.iter().all(|s| s["State"] == "pending" && s["StartTime"] == set[0]["StartTime"] && s["Description"] == "a <set> & more"));
    stage.aws_json(&tools, &["ec2", "wait", "snapshot-completed", "--filters", "Name=tag:snapfreeze:backup-id,Values=b-1"]);
    let found =
        stage.aws_json(&tools, &["ec2", "describe-snapshots", "--owner-ids", "self", "--filters", "Name=tag:snapfreeze:*,Values=b-1"]);
    assert_eq!(found["Snapshots"].as_array().unwrap().len(), 0, "a wildcard is for values, not for keys");
    let filters = ["Name=tag:snapfreeze:backup-id,Values=b-?", "Name=volume-id,Values=vol-data", "Name=status,Values=completed,error"];
    let found = stage.aws_json(&tools, &[&["ec2", "describe-snapshots", "--owner-ids", "self", "--filters"], &filters[..]].concat());
    let one = &found["Snapshots"][0];
    assert_eq!(
        (one["Progress"].as_str(), one["VolumeId"].as_str(), one["OwnerId"].as_str()),
        (Some("100%"), Some("vol-data"), Some("123456789012"))
    );
    assert!(one["Tags"].as_array().unwrap().contains(&json!({"Key": "of", "Value": "vol-data"})), "{one}");
    let dry = stage.aws(&tools, &["ec2", "create-snapshots", "--dry-run", "--instance-specification", "InstanceId=i-1"]);
    assert!(String::from_utf8_lossy(&dry.stderr).contains("(DryRunOperation)"), "{dry:?}");
    assert_eq!(stage.sim.snapshots().len(), 2, "a dry run makes nothing");
}

#[test]
fn botocore_parses_every_answer_of_ec2() {
    let Some(tools) = Tools::or_skip("botocore_parses_every_answer_of_ec2") else { return };
    let stage = Stage::quick();
    for n in 2..30 {
        stage.sim.add_instance(cloud_sim::Instance::new(&format!("i-{n}")).state("stopped"));
    }
    let got = stage.boto(&tools, "
i = ec2.describe_instances(InstanceIds=['i-1'])['Reservations'][0]['Instances'][0]
pages = [len(p['Reservations']) for p in ec2.get_paginator('describe_instances').paginate(PaginationConfig={'PageSize': 10})]
running = ec2.describe_instances(Filters=[{'Name': 'tag:snapfreeze', 'Values': ['yes']}, {'Name': 'instance-state-name', 'Values': ['running']}])
v = ec2.describe_volumes(Filters=[{'Name': 'attachment.instance-id', 'Values': ['i-1']}])['Volumes']
a = ec2.describe_instance_attribute(InstanceId='i-1', Attribute='blockDeviceMapping')['BlockDeviceMappings']
s = ec2.create_snapshot(VolumeId='vol-data', TagSpecifications=[{'ResourceType': 'snapshot', 'Tags': [{'Key': 'k', 'Value': 'v'}]}])
id = s['SnapshotId']
ec2.get_waiter('snapshot_completed').wait(SnapshotIds=[id], WaiterConfig={'Delay': 1})
ec2.create_tags(Resources=[id], Tags=[{'Key': 'verdict', 'Value': 'held'}])
ec2.delete_tags(Resources=[id], Tags=[{'Key': 'k', 'Value': 'other'}])
tags = ec2.describe_snapshots(SnapshotIds=[id])['Snapshots'][0]['Tags']
west = boto3.client('ec2', config=one, region_name='eu-west-1')
copy = west.copy_snapshot(SourceRegion='us-east-1', SourceSnapshotId=id, Description='copy')['SnapshotId']
there = west.describe_snapshots(SnapshotIds=[copy])['Snapshots'][0]
ec2.modify_snapshot_attribute(SnapshotId=id, Attribute='createVolumePermission', OperationType='add', UserIds=['210987654321'])
f = ec2.enable_fast_snapshot_restores(AvailabilityZones=['us-east-1a'], SourceSnapshotIds=[id, 'snap-none'])
l = ec2.lock_snapshot(SnapshotId=id, LockMode='governance', LockDuration=3)
locked = fails(ec2.delete_snapshot, SnapshotId=id)
west.delete_snapshot(SnapshotId=copy)
who = boto3.client('sts').get_caller_identity()
answer(dict(mapped=[m['DeviceName'] for m in i['BlockDeviceMappings']], root=i['RootDeviceName'], state=i['State'], pages=pages,
  running=len(running['Reservations']), volumes=sorted(x['VolumeId'] for x in v), iops=v[0]['Iops'], attribute=len(a), created=s['State'],
  tags=sorted(t['Key'] for t in tags), there=there['VolumeId'], fast=[x['State'] for x in f['Successful']], slow=len(f['Unsuccessful']),
  lock=l['LockState'], locked=locked, none=fails(ec2.describe_snapshots, SnapshotIds=[copy]), far=fails(west.describe_instances, InstanceIds=['i-1']),
  account=who['Account']))
");
    assert_eq!(
        got,
        json!({
            "mapped": ["/dev/sdf", "/dev/sdg", "/dev/xvda"], "root": "/dev/xvda", "state": {"Code": 16, "Name": "running"}, "pages": [10, 10, 9],
            "running": 1, "volumes": ["vol-data", "vol-journal", "vol-root"], "iops": 3000, "attribute": 3, "created": "pending",
            "tags": ["k", "verdict"], "there": "vol-ffffffff", "fast": ["enabling"], "slow": 1, "lock": "governance", "locked": "SnapshotLocked",
            "none": "InvalidSnapshot.NotFound", "far": "InvalidInstanceID.NotFound", "account": "123456789012",
        })
    );
}

#[test]
fn what_aws_refuses_is_refused_and_nothing_is_made() {
    let Some(tools) = Tools::or_skip("what_aws_refuses_is_refused_and_nothing_is_made") else { return };
    let stage = Stage::quick();
    let got = stage.boto(&tools, "
def tags(*pairs): return [{'ResourceType': 'snapshot', 'Tags': [{'Key': k, 'Value': v} for k, v in pairs]}]
def snap(spec={}, **a): return fails(ec2.create_snapshots, InstanceSpecification=dict({'InstanceId': 'i-1'}, **spec), **a)
answer(dict(
  many=snap(TagSpecifications=tags(*[(f'k{n}', 'v') for n in range(51)])),
  value=snap(TagSpecifications=tags(('k', 'v' * 257))), key=snap(TagSpecifications=tags(('k' * 128, 'v'))),
  reserved=snap(TagSpecifications=tags(('aws:x', 'v'))), root=snap({'ExcludeDataVolumeIds': ['vol-root']}),
  forty=snap({'ExcludeDataVolumeIds': [f'vol-{n}' for n in range(41)]}), unknown=snap({'InstanceId': 'i-none'}),
  nothing=snap({'ExcludeBootVolume': True, 'ExcludeDataVolumeIds': ['vol-data', 'vol-journal']}),
  filter=fails(ec2.describe_snapshots, Filters=[{'Name': 'colour', 'Values': ['red']}]),
  page=fails(ec2.describe_snapshots, MaxResults=4), untagged=fails(ec2.create_tags, Resources=['snap-none'], Tags=[{'Key': 'k', 'Value': 'v'}]),
  action=fails(ec2.describe_vpcs), fits=snap(TagSpecifications=tags(*[('k' * 126 + chr(33 + n), 'v' * 256) for n in range(50)]))))
");
    assert_eq!(
        got,
        json!({
            "many": "TagLimitExceeded", "value": "InvalidParameterValue", "key": "InvalidParameterValue", "reserved": "InvalidParameterValue",
            "root": "InvalidParameterValue", "forty": "InvalidParameterValue", "unknown": "InvalidInstanceID.NotFound",
            "nothing": "InvalidParameterValue", "filter": "InvalidParameterValue", "page": "InvalidParameterValue",
            "untagged": "InvalidSnapshot.NotFound", "action": "InvalidAction", "fits": null,
        })
    );
    assert_eq!(stage.sim.snapshots().len(), 3, "only the one that fits");
}

const DOCUMENT: &str = "
schemaVersion: '2.2'
parameters:
  word: {type: String, allowedPattern: '^[a-z]+$', interpolationType: ENV_VAR}
mainSteps:
- action: aws:runShellScript
  name: speak
  precondition: {StringEquals: [platformType, Linux]}
  inputs: {timeoutSeconds: '20', runCommand: ['echo \"$SSM_word on $AWS_SSM_INSTANCE_ID\"', 'exit 3']}
";

#[test]
fn the_command_line_sends_a_command_that_really_runs() {
    let Some(tools) = Tools::or_skip("the_command_line_sends_a_command_that_really_runs") else { return };
    let stage = Stage::quick();
    let file = stage.path("document.yaml");
    std::fs::write(&file, DOCUMENT).unwrap();
    let content = format!("file://{}", file.display());
    let create =
        ["ssm", "create-document", "--name", "say", "--document-type", "Command", "--document-format", "YAML", "--content", &content];
    assert_eq!(stage.aws_json(&tools, &create)["DocumentDescription"]["Parameters"][0]["Name"], "word");
    let send = ["ssm", "send-command", "--document-name", "say", "--instance-ids", "i-1", "--parameters", "word=hello"];
    let sent = stage.aws_json(&tools, &send);
    let id = sent["Command"]["CommandId"].as_str().unwrap().to_owned();
    let waited = stage.aws(&tools, &["ssm", "wait", "command-executed", "--command-id", &id, "--instance-id", "i-1"]);
    assert!(String::from_utf8_lossy(&waited.stderr).contains("terminal failure state"), "it failed, as it should: {waited:?}");
    let got =
        stage.aws_json(&tools, &["ssm", "get-command-invocation", "--command-id", &id, "--instance-id", "i-1", "--plugin-name", "speak"]);
    assert_eq!((got["ResponseCode"].as_i64(), got["Status"].as_str()), (Some(3), Some("Failed")));
    assert_eq!(got["StandardOutputContent"], "hello on i-1\n");
    assert!(got["StandardErrorContent"].as_str().unwrap().contains("exit status 3"));
    let bad = stage.aws(&tools, &[&send[..7], &["word=$(id)"]].concat());
    assert!(String::from_utf8_lossy(&bad.stderr).contains("(InvalidParameters)"), "{bad:?}");
}

#[test]
fn botocore_parses_every_answer_of_ssm() {
    let Some(tools) = Tools::or_skip("botocore_parses_every_answer_of_ssm") else { return };
    let stage = Stage::quick();
    stage.sim.add_host(cloud_sim::Host::new("i-lost").offline());
    let script = r"
import time
doc = '''DOCUMENT'''
ssm.create_document(Name='say', Content=doc, DocumentType='Command', DocumentFormat='YAML', Tags=[{'Key': 'a', 'Value': 'b'}])
ssm.update_document(Name='say', Content=doc.replace('exit 3', 'exit 0'), DocumentFormat='YAML', DocumentVersion='$LATEST')
def run(version, **more):
    c = ssm.send_command(DocumentName='say', DocumentVersion=version, InstanceIds=['i-1'], Parameters={'word': ['x']}, **more)['Command']['CommandId']
    while True:
        try: r = ssm.get_command_invocation(CommandId=c, InstanceId='i-1')
        except ssm.exceptions.InvocationDoesNotExist: r = {'Status': 'Pending'}
        if r['Status'] not in ('Pending', 'InProgress'): return c, r
        time.sleep(0.02)
id, first = run('$DEFAULT')
newer, second = run('$LATEST', Comment='c')
lists = ssm.list_command_invocations(CommandId=id, Details=True)['CommandInvocations'][0]
got = ssm.get_document(Name='say', DocumentVersion='2')
as_json = json.loads(ssm.get_document(Name='say', DocumentFormat='JSON')['Content'])
ssm.update_document_default_version(Name='say', DocumentVersion='2')
desc = ssm.describe_document(Name='say')['Document']
nodes = ssm.describe_instance_information(Filters=[{'Key': 'InstanceIds', 'Values': ['i-1', 'i-lost']}])['InstanceInformationList']
shell = ssm.send_command(DocumentName='AWS-RunShellScript', InstanceIds=['i-1'], Parameters={'commands': ['sleep 60']})['Command']['CommandId']
def state(): return ssm.list_commands(CommandId=shell)['Commands']
while not state() or state()[0]['Status'] != 'InProgress': time.sleep(0.02)
ssm.cancel_command(CommandId=shell)
while state()[0]['Status'] in ('InProgress', 'Cancelling'): time.sleep(0.02)
def send(**a): return fails(ssm.send_command, **dict(dict(DocumentName='say', InstanceIds=['i-1'], Parameters={'word': ['x']}), **a))
answer(dict(codes=[first['ResponseCode'], second['ResponseCode']], plugin=first['PluginName'], listed=lists['CommandPlugins'][0]['Output'],
  content=got['Content'].count('exit 0'), schema=as_json['schemaVersion'], default=desc['DefaultVersion'], docs=len(ssm.list_documents()['DocumentIdentifiers']),
  nodes={n['InstanceId']: n['PingStatus'] for n in nodes}, cancelled=state()[0]['Status'], unknown=send(InstanceIds=['i-none']),
  many=send(InstanceIds=[f'i-{n}' for n in range(51)]), short=send(TimeoutSeconds=29), nodoc=send(DocumentName='none'),
  extra=send(Parameters={'word': ['x'], 'more': ['y']}), missing=send(Parameters={}), twice=send(InstanceIds=['i-1', 'i-1']),
  plugin_type=fails(ssm.get_command_invocation, CommandId=id, InstanceId='i-1', PluginName='aws:runShellScript'),
  name=fails(ssm.create_document, Name='aws-x', Content=doc, DocumentType='Command', DocumentFormat='YAML'),
  broken=fails(ssm.create_document, Name='broken', Content='a: [', DocumentType='Command', DocumentFormat='YAML'),
  deleted=fails(ssm.delete_document, Name='say'), gone=fails(ssm.get_document, Name='say')))
";
    let got = stage.boto(&tools, &script.replace("DOCUMENT", DOCUMENT));
    let listed = got["listed"].as_str().unwrap();
    assert!(listed.starts_with("x on i-1\n\n----------ERROR-------\n"), "{listed}");
    let mut got = got;
    got["listed"] = json!("seen");
    assert_eq!(
        got,
        json!({
            "codes": [3, 0], "plugin": "speak", "listed": "seen", "content": 1, "schema": "2.2", "default": "2", "docs": 1,
            "nodes": {"i-1": "Online", "i-lost": "ConnectionLost"}, "cancelled": "Cancelled", "unknown": "InvalidInstanceId",
            "many": "ValidationException", "short": "ValidationException", "nodoc": "InvalidDocument", "extra": "InvalidParameters",
            "missing": "InvalidParameters", "twice": "DuplicateInstanceId", "plugin_type": "InvalidPluginName", "name": "ValidationException",
            "broken": "InvalidDocumentContent", "deleted": null, "gone": "InvalidDocument",
        })
    );
}
