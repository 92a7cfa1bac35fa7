//! The control of everything here: a coordinator that thaws before it takes the snapshot calls its set held all the same, and the
//! judges of these tests see through it. Builds that coordinator, so it runs in `make test-long`.

use crate::common::{exit, in_window, policy_file};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use suite::cloud::azure::AzureFleet;
use suite::cloud::fleet::{Fleet, setup};
use suite::cloud::programs::{ctl_by, program, said};
use suite::house::rules::root;

const WHERE: &str = "lambda/coordinator/src/drive.rs";
const SOUND: &str = "            Step::Snapshot(all) => {\n                let answer_by = answer_by(saga, now);\n";
const MOVED: &str = "            Step::Snapshot(all) => {\n                let answer_by = answer_by(saga, now);\n                for i in all {\n                    let _ = self.hosts.thaw(target(i), saga.order.id, &saga.order.owner, answer_by).await;\n                }\n";

/// The tracked files in a directory of their own, with the snapshot moved behind the thaw.
fn source(to: &Path) {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    for name in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|n| !n.is_empty()) {
        let (from, to) = (root().join(name), to.join(name));
        std::fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        if from.is_file() {
            std::fs::copy(from, to).expect("a copy");
        }
    }
    let text = std::fs::read_to_string(to.join(WHERE)).expect("the driver");
    assert_eq!(text.matches(SOUND).count(), 1, "{WHERE} was changed: this control must follow");
    std::fs::write(to.join(WHERE), text.replace(SOUND, MOVED)).expect("the driver is written");
}

/// `snapfreezectl` built from there; what others have compiled is used again, by hard links.
fn build(dir: &Path) -> PathBuf {
    let (work, target) = (dir.join("work"), dir.join("target"));
    source(&work);
    let built = program("snapfreezectl").parent().expect("target/debug").to_owned();
    std::fs::create_dir_all(&target).expect("a directory");
    let linked = Command::new("cp").arg("-al").arg(&built).arg(target.join("debug")).status().expect("cp runs");
    assert!(linked.success(), "hard links");
    // Not the links of what is about to be built: they are the originals.
    for stale in ["snapfreezectl", "snapfreezectl.d"] {
        let _ = std::fs::remove_file(target.join("debug").join(stale));
    }
    let o = Command::new("cargo")
        .args(["build", "--offline", "-p", "ctl", "--target-dir"])
        .arg(&target)
        .current_dir(&work)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("cargo runs");
    assert!(o.status.success(), "{}", said(&o));
    target.join("debug/snapfreezectl")
}

#[test]
fn a_build_whose_snapshot_lies_outside_the_window_is_seen_by_the_judges() {
    if std::env::var_os("SNAPFREEZE_LONG").is_none() {
        println!("SKIP a_build_whose_snapshot_lies_outside_the_window_is_seen_by_the_judges: make test-long builds it");
        return;
    }
    let beside = program("snapfreezectl").parent().and_then(Path::parent).expect("the target directory").to_owned();
    let dir = tempfile::Builder::new().prefix("moved-").tempdir_in(beside).expect("a directory on the same file system");
    let moved = build(dir.path());
    let fleet = Fleet::iris(1, cloud_sim::Config::quick, &setup());
    let policy = policy_file(&fleet, &json!({ "hold": "20s", "held_by": "coordinator" }));
    let run = |binary: &Path| {
        ctl_by(binary, &fleet.sim.endpoint(), "us-east-1", fleet.dir.path(), &["--json", "backup", "--policy", &policy])
            .output()
            .expect("it runs")
    };
    let out = run(&moved);
    assert_eq!(exit(&out), 0, "it believes itself: {}", said(&out));
    assert!(!in_window(&fleet, &fleet.members[0]), "the engine's history gives it away");
    // The same on Azure, whose snapshots are calls of their own.
    let azure = AzureFleet::iris(1, cloud_sim::arm::ArmConfig::quick, &setup());
    let out = azure.program(&moved, &["--json", "--cloud", "azure", "backup", "--policy", &policy]).output().expect("it runs");
    assert_eq!(exit(&out), 0, "it believes itself: {}", said(&out));
    let sets = azure.sets();
    assert!(sets.len() == 1 && sets.values().all(|set| !azure.in_window(&azure.members[0], set)), "the engine's history gives it away");
    println!("the moved snapshot's image is {}", if fleet.images().iter().all(|(_, clean)| *clean) { "clean by chance" } else { "torn" });
}
