//! An empty host with nothing but a set in a cloud: the machine burnt, a new one has an instance that was just installed. The volumes
//! are made, attached and mounted, and the database comes back, over the double of each cloud.

use crate::judge::{recorded_of, whole};
use cloud_sim::arm::{ArmConfig, ArmPrincipal};
use serde_json::Value;
use std::process::{Command, Output};
use suite::cloud::azure::{AzureFleet, GROUP, SUBSCRIPTION, run_host};
use suite::cloud::fleet::{Fleet, TAG, setup, ssm_host};
use suite::cloud::programs::{ctl, program, said};
use suite::host::{Engine, Host, Setup, iris_sim, sleep_ms};

fn root(test: &str) -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        println!("SKIP {test}: no right to make loop devices");
    }
    is
}

fn wide() -> Setup {
    let setup = setup();
    Setup { workload: true, more: format!("{}\n[restore]\ndisks = \"{{disk}}/dev/disk\"\n", setup.more), ..setup }
}

/// Everything of the host is lost; an instance of the same name is installed anew, with fewer databases, and never started. Returns
/// what the workload had committed.
fn burn(host: &mut Host, places: &[&str]) -> std::collections::BTreeMap<String, u64> {
    let Engine::Iris(sim) = &mut host.engine else { panic!("a host of iris-sim") };
    sim.iris(&["force", "IRIS"]);
    sim.stop_workload();
    let committed = recorded_of(&host.run.path().join("record.jsonl"));
    host.agent.stop(10_000);
    let disk = host.disk.path().to_owned();
    for lost in ["iris", "state", "jrn", "wij"] {
        let _ = std::fs::remove_dir_all(disk.join(lost));
    }
    for dir in places {
        std::fs::create_dir_all(disk.join(dir)).expect("a directory");
    }
    let mut c = Command::new(iris_sim());
    c.args(["install", "--name", "IRIS", "--max-life", "1500", "--blocks", "256", "--databases", "1", "--root"]).arg(disk.join("iris"));
    if let [a, b, w] = places {
        c.arg("--journal").arg(disk.join(a)).arg("--altjournal").arg(disk.join(b)).arg("--wij").arg(disk.join(w));
    }
    let out = c.output().expect("iris-sim");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    host.start_agent();
    committed
}

fn lines(o: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&o.stdout).lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}

fn of_type<'a>(all: &'a [Value], kind: &str) -> &'a Value {
    all.iter().find(|v| v["type"] == kind).unwrap_or_else(|| panic!("no {kind}: {all:?}"))
}

fn ok(mut c: Command) -> Output {
    let o = c.output().expect("it runs");
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
    o
}

/// What came back is what was committed before the freeze, and whole; the databases that only the set knew are there.
fn judge(host: &Host, before: &std::collections::BTreeMap<String, u64>, committed: &std::collections::BTreeMap<String, u64>) {
    assert_eq!(host.engine.sim().m("T2", "write $get(^only,0)"), "1", "a database of which only the set's configuration knew");
    let report = crate::judge::stopped(host);
    let found = |w: &str| report["recovered"]["seq"][w].as_u64().unwrap_or(0);
    assert_eq!(report["recovered"]["sum"], 0, "no half transaction: {report}");
    for (worker, n) in before {
        assert!(found(worker) >= *n, "worker {worker}: {n} before the backup, found {}", found(worker));
    }
    assert!(whole(&report, committed).is_err(), "the control: what came after the set is not in it");
}

fn until_snapshots_are_complete(states: impl Fn() -> Vec<bool>) {
    for _ in 0..200 {
        if states().iter().all(|done| *done) {
            return;
        }
        sleep_ms(50);
    }
    panic!("the snapshots are never complete");
}

#[test]
fn an_empty_host_is_restored_from_ebs_snapshots() {
    if !root("an_empty_host_is_restored_from_ebs_snapshots") {
        return;
    }
    let mut f = Fleet::iris(1, cloud_sim::Config::quick, &wide());
    let run = |f: &Fleet, args: &[&str]| ctl(&f.sim.endpoint(), &f.sim.config().region, f.dir.path(), args);
    let policy = f.dir.path().join("p.json");
    let text =
        serde_json::json!({ "name": "p", "select": { "tags": { TAG.0: TAG.1 } }, "hold": "8s", "snapshot": "1s", "exclude_boot": true });
    std::fs::write(&policy, text.to_string()).unwrap();
    f.members[0].host.engine.sim().m("T2", "set ^only=1");
    sleep_ms(300);
    let before = recorded_of(&f.members[0].host.run.path().join("record.jsonl"));
    ok(run(&f, &["backup", "--policy", policy.to_str().unwrap()]));
    sleep_ms(500);
    until_snapshots_are_complete(|| f.sim.snapshots().iter().map(|s| s.status() == "completed").collect());
    let committed = burn(&mut f.members[0].host, &[]);
    // The new machine.
    let new = "i-00000000000000abc";
    f.sim.add_instance(cloud_sim::Instance::new(new).volume(cloud_sim::Volume::new("vol-00000000000000abc", "/dev/xvda")));
    f.sim.add_host(ssm_host(new, &f.members[0].host));
    // Shown, and nothing is made.
    let o = ok(run(&f, &["--json", "restore", "latest", "--onto", new]));
    let shown = lines(&o);
    let volumes = of_type(&shown, "restore-plan")["volumes"].as_array().unwrap().clone();
    assert!(volumes.len() == 1 && volumes[0]["new"]["kind"]["name"] == "gp3" && volumes[0]["device"] == "/dev/sdf", "{volumes:?}");
    assert!(f.sim.made_volumes().is_empty(), "a plan makes nothing");
    // Volumes, and the host's plan. Answers are lost on the way, and nothing is made twice for it.
    for action in ["CreateVolume", "AttachVolume"] {
        f.sim.fault(cloud_sim::Rule::new(cloud_sim::Match::action(action), cloud_sim::Fault::LostReply));
    }
    let o = ok(run(&f, &["--json", "restore", "latest", "--onto", new, "--rate", "200", "--yes"]));
    let planned = lines(&o);
    assert_eq!(of_type(&planned, "restore")["done"], false);
    let made = f.sim.made_volumes();
    assert!(made.len() == 1 && made[0].rate == Some(200) && made[0].iops == Some(3000) && made[0].throughput == Some(125), "{made:?}");
    // A set of the new host, for every verb.
    let list = f.members[0].host.call(&["list"]);
    assert!(list.out.contains("HELD") && list.out.contains("never drilled"), "{}", crate::said(&list));
    let v = f.members[0].host.call(&["verify", "latest"]);
    assert_eq!(v.code, Some(0), "{}", crate::said(&v));
    // Again, and this time it is carried out: the same volumes.
    let o = ok(run(&f, &["--json", "restore", "latest", "--onto", new, "--rate", "200", "--yes", "--run"]));
    assert_eq!(f.sim.made_volumes().len(), 1, "nothing is made twice");
    let done = lines(&o);
    assert!(done.iter().any(|v| v["type"] == "restore" && v["done"] == true), "{}", said(&o));
    judge(&f.members[0].host, &before, &committed);
    is_unmounted(&f.members[0].host);
    // A backup of the host that came back holds.
    let id: Vec<String> = f.sim.snapshots().iter().map(|s| s.id.clone()).collect();
    assert!(!id.is_empty());
}

fn is_unmounted(host: &Host) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!table.contains(host.state_dir().to_str().unwrap()), "the volumes are unmounted");
}

#[test]
fn an_empty_host_is_restored_from_managed_disk_snapshots() {
    if !root("an_empty_host_is_restored_from_managed_disk_snapshots") {
        return;
    }
    let mut f = AzureFleet::iris(1, ArmConfig::quick, &wide());
    let ctl = program("snapfreezectl");
    let run = |f: &AzureFleet, args: &[&str]| {
        f.program(&ctl, &[&["--cloud", "azure", "--subscription", SUBSCRIPTION, "--resource-group", GROUP], args].concat())
    };
    let policy = f.dir.path().join("p.json");
    let text = serde_json::json!({ "name": "p", "select": { "tags": { TAG.0: TAG.1 } }, "hold": "8s", "snapshot": "1s", "held_by": "coordinator", "exclude_boot": true });
    std::fs::write(&policy, text.to_string()).unwrap();
    f.members[0].host.engine.sim().m("T2", "set ^only=1");
    sleep_ms(300);
    let before = recorded_of(&f.members[0].host.run.path().join("record.jsonl"));
    ok(run(&f, &["backup", "--policy", policy.to_str().unwrap()]));
    sleep_ms(500);
    let committed = burn(&mut f.members[0].host, &["jrn/1", "jrn/2", "wij"]);
    let vm = cloud_sim::arm::Vm::new(SUBSCRIPTION, GROUP, "db9").data_disk(0, cloud_sim::arm::ArmDisk::new("db9-own"));
    let id = vm.id();
    f.sim.add_vm(vm);
    f.sim.add_host(run_host(&id, &f.members[0].host));
    // With the rights of roles.json and no other; each of them is needed.
    let roles: Value = serde_json::from_str(&suite::house::rules::read("infra/azure/roles.json")).unwrap();
    let role: Vec<String> = roles["restore"]["actions"].as_array().unwrap().iter().filter_map(|a| a.as_str().map(Into::into)).collect();
    let with = |less: &str| {
        let may: Vec<&String> = role.iter().filter(|a| a.as_str() != less).collect();
        f.sim.add_principal(ArmPrincipal::new("system").actions(&may));
    };
    with("Microsoft.Compute/disks/write");
    let o = run(&f, &["restore", "latest", "--onto", "db9", "--yes"]).output().unwrap();
    assert!(o.status.code() == Some(9) && said(&o).contains("disks/write"), "{}", said(&o));
    with("");
    let o = ok(run(&f, &["--json", "restore", "latest", "--onto", "db9"]));
    let shown = lines(&o);
    let volumes = of_type(&shown, "restore-plan")["volumes"].as_array().unwrap().clone();
    let luns: Vec<&str> = volumes.iter().filter_map(|v| v["device"].as_str()).collect();
    assert_eq!(luns, ["lun:1", "lun:2", "lun:3"], "what is there keeps its LUN");
    let o = ok(run(&f, &["--json", "restore", "latest", "--onto", "db9", "--yes", "--run"]));
    let done = lines(&o);
    assert!(done.iter().any(|v| v["type"] == "restore" && v["done"] == true), "{}", said(&o));
    judge(&f.members[0].host, &before, &committed);
    is_unmounted(&f.members[0].host);
}

#[test]
fn what_is_not_held_or_not_whole_is_refused_unless_told_and_never_ends_with_0() {
    if !root("what_is_not_held_or_not_whole_is_refused_unless_told_and_never_ends_with_0") {
        return;
    }
    let mut f = AzureFleet::iris(1, ArmConfig::quick, &wide());
    let ctl = program("snapfreezectl");
    let run = |f: &AzureFleet, args: &[&str]| {
        f.program(&ctl, &[&["--cloud", "azure", "--subscription", SUBSCRIPTION, "--resource-group", GROUP], args].concat())
    };
    let policy = f.dir.path().join("p.json");
    let text = serde_json::json!({ "name": "p", "select": { "tags": { TAG.0: TAG.1 } }, "hold": "8s", "snapshot": "1s", "held_by": "coordinator", "exclude_boot": true });
    std::fs::write(&policy, text.to_string()).unwrap();
    ok(run(&f, &["backup", "--policy", policy.to_str().unwrap()]));
    let set = f.sim.snapshots();
    let id = set[0].tags["snapfreeze:backup-id"].clone();
    burn(&mut f.members[0].host, &["jrn/1", "jrn/2", "wij"]);
    let vm = cloud_sim::arm::Vm::new(SUBSCRIPTION, GROUP, "db9");
    f.sim.add_host(run_host(&vm.id(), &f.members[0].host));
    f.sim.add_vm(vm);
    // One of its snapshots is deleted by somebody.
    let lost = set.iter().find(|s| s.disk_id.ends_with("-jrn")).expect("the journals' disk").id.clone();
    f.sim.remove_snapshot(&lost);
    let restore = |f: &AzureFleet, more: &[&str]| run(f, &[&["restore", &id, "--onto", "db9"], more].concat()).output().expect("it runs");
    let o = restore(&f, &["--yes"]);
    assert!(
        o.status.code() == Some(4) && said(&o).contains("Restore.Impossible") && said(&o).contains("--even-if-not-held"),
        "{}",
        said(&o)
    );
    let o = restore(&f, &["--yes", "--even-if-not-held"]);
    assert!(o.status.code() == Some(4) && said(&o).contains("is on none of them"), "the host sees what is missing: {}", said(&o));
    is_unmounted(&f.members[0].host);
}
