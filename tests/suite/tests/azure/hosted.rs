//! Windows that the host holds itself: one Run Command, and the agent's helper `snapfreeze-azdisk` makes the snapshots with the
//! machine's own identity.

use crate::common::{exit, job, tag};
use cloud_sim::arm::{ArmConfig, ArmFault, ArmMatch, ArmRule, of_vm};
use serde_json::json;
use suite::cloud::azure::{AzureFleet, run_host};
use suite::cloud::fleet::setup;
use suite::cloud::programs::{program, said};
use suite::host::Setup;

/// The helper begins with an empty environment: what points it at the double is put in front of it by a script.
fn hosted(n: usize) -> AzureFleet {
    hosted_with(n, None)
}

/// Machines whose own identities may do these actions; `None`: as the double has them.
pub fn hosted_with(n: usize, may: Option<&[&str]>) -> AzureFleet {
    let more = "[backup]\nsnapshotter = \"command\"\ncommand = [\"/bin/sh\", \"{disk}/azdisk\"]\nhelper_covers = \"paths\"\n";
    let fleet = AzureFleet::iris(n, ArmConfig::quick, &Setup { more: more.into(), ..setup() });
    for m in &fleet.members {
        let host = run_host(&m.id, &m.host);
        fleet.sim.add_host(if let Some(may) = may { host.own_actions(may) } else { host });
        let script = format!(
            "export AZURE_POD_IDENTITY_AUTHORITY_HOST={} SNAPFREEZE_ARM_ENDPOINT={}\nexec {} --exclude-boot --snapshot 500ms\n",
            fleet.sim.imds(&m.id),
            fleet.sim.endpoint(),
            program("snapfreeze-azdisk").display()
        );
        std::fs::write(m.host.disk.path().join("azdisk"), script).expect("a script");
    }
    fleet
}

#[test]
fn a_host_that_holds_its_own_window_makes_the_snapshots_with_its_own_identity() {
    let fleet = hosted(2);
    let with = json!({ "held_by": "host", "snapshot": "500ms" });
    let out = job(&fleet, "backup", &with);
    assert_eq!(exit(&out), 0, "{}", said(&out));
    assert_eq!((fleet.freezes(), fleet.sim.snapshots().len()), (2, 6));
    for (id, set) in fleet.sets() {
        assert!(set.len() == 3 && set.iter().all(|s| tag(s, "verdict") == "held" && tag(s, "set-size") == "3"), "{id}: {set:?}");
        let m = fleet.members.iter().find(|m| set.iter().all(|s| m.owns(s))).expect("one host's");
        assert!(fleet.in_window(m, &set));
        let own = of_vm(&m.id);
        let puts = fleet.sim.calls_of("snapshots.put");
        let by_host =
            puts.iter().filter(|c| c.body.to_string().contains(&id)).filter(|c| c.principal.as_deref() == Some(own.as_str())).count();
        assert_eq!(by_host, 3, "{id}: by its own identity");
        // What a restore must know of each disk.
        assert!(
            set.iter().all(|s| !tag(s, "roles").is_empty() && tag(s, "device").contains("lun") && !tag(s, "volume").is_empty()),
            "{set:?}"
        );
    }
    assert!(fleet.members.iter().all(|m| fleet.images(m).iter().any(|(_, clean)| *clean)));
    // No order but one crossed the cloud.
    let puts: Vec<String> = fleet.sim.calls_of("run.put").into_iter().map(|c| c.path).collect();
    assert!(puts.iter().all(|p| p.contains("/snapfreeze-facts-") || p.contains("/snapfreeze-backup-")), "{puts:?}");
}

#[test]
fn a_helper_whose_call_is_unanswered_gives_a_thawed_host_and_a_broken_set() {
    let fleet = hosted(1);
    let with = json!({ "held_by": "host", "snapshot": "500ms", "keep": { "pending": "1ms" } });
    let lost = fleet.sim.fault(ArmRule::new(ArmMatch::op("snapshots.put").contains("db1-jrn"), ArmFault::LostReply));
    let out = job(&fleet, "backup", &with);
    assert_eq!((fleet.sim.hits(lost), exit(&out)), (1, 7), "{}", said(&out));
    assert!(!fleet.any_frozen());
    assert_eq!(exit(&job(&fleet, "reap", &with)), 0);
    let set = fleet.sim.snapshots();
    assert!(set.len() == 3 && set.iter().all(|s| tag(s, "verdict") == "broken"), "{set:?}");
    assert_eq!(fleet.sim.calls_of("snapshots.put").len(), 3, "none was sent a second time");
}
