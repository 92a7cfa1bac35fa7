//! One table of what may happen to a backup, run against AWS and Azure: the same saga, the same exit codes, the same verdicts, the
//! same words in `snapfreezectl --json`. Real agents on `iris-sim` behind each cloud's double.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the agent's doors")]

mod bed;

use bed::{Bed, Trouble};
use cloud_sim::arm::ArmConfig;
use serde_json::Value;
use std::collections::BTreeSet;
use suite::cloud::azure::AzureFleet;
use suite::cloud::fleet::{Fleet, setup};
use suite::cloud::programs::said;
use suite::host::Setup;

const ANY: usize = usize::MAX;

/// What happens; the exit code; what `reap` leaves of the set (`None`: there is none); how often the engine was frozen (`ANY`: as it
/// comes, for a thaw may arrive before the order whose reply was lost).
const TABLE: [(Trouble, i32, Option<&str>, usize); 13] = [
    (Trouble::None, 0, Some("held"), 1),
    (Trouble::FactsReplyLost, 10, None, 0),
    (Trouble::AgentOffline, 10, None, 0),
    (Trouble::HostStopped, 9, None, 0),
    (Trouble::FreezeReplyLost, 6, None, ANY),
    (Trouble::FreezeRequestLost, 6, None, 0),
    (Trouble::FreezeOutputCut, 6, None, 1),
    (Trouble::SnapshotDenied, 7, None, 1),
    (Trouble::SnapshotThrottled, 7, None, 1),
    (Trouble::SnapshotReplyLost, 3, Some("broken"), 1),
    (Trouble::SnapshotTooLate, 3, Some("broken"), 1),
    // Thawed, and nobody who asks is told so: "not frozen" is not confirmed.
    (Trouble::ThawReplyLost, 8, Some("broken"), 1),
    (Trouble::AnotherOneThaws, 3, Some("broken"), 1),
];

fn run(bed: &Bed, trouble: Trouble) -> (i32, Option<String>, usize, BTreeSet<String>, String) {
    bed.cause(trouble);
    let out = bed.backup();
    bed.clear();
    bed.settle();
    let verdicts: BTreeSet<String> = bed.verdicts().into_iter().collect();
    let keys = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .find(|v| v["type"] == "backup")
        .and_then(|v| Some(v.as_object()?.keys().cloned().collect()))
        .unwrap_or_default();
    let verdict = (!verdicts.is_empty()).then(|| verdicts.into_iter().collect::<Vec<_>>().join("+"));
    (out.status.code().unwrap_or(-1), verdict, bed.freezes(), keys, said(&out))
}

fn short() -> Setup {
    Setup { hold_ms: 8_000, ..setup() }
}

#[test]
fn the_same_saga_on_both_clouds() {
    let lanes: Vec<(usize, bool)> = (0..TABLE.len()).flat_map(|row| [(row, false), (row, true)]).collect();
    let told = std::sync::Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let Some((row, azure)) = lanes.get(n).copied() else { return };
                    let trouble = TABLE[row].0;
                    let bed = if azure {
                        Bed::Azure(Box::new(AzureFleet::iris(1, ArmConfig::quick, &short())))
                    } else {
                        Bed::Aws(Box::new(Fleet::iris(1, cloud_sim::Config::quick, &short())))
                    };
                    let result = run(&bed, trouble);
                    assert!(!bed.any_frozen(), "{trouble:?} azure={azure}: LEFT FROZEN");
                    assert!(result.1.as_deref() != Some("held") || bed.in_window(), "{trouble:?} azure={azure}: FALSE held");
                    told.lock().expect("told").push((row, azure, result));
                }
            });
        }
    });
    let told = told.into_inner().expect("told");
    assert_eq!(told.len(), 2 * TABLE.len());
    let mut wrong = Vec::new();
    for (row, (trouble, exit, verdict, freezes)) in TABLE.iter().enumerate() {
        let of = |azure: bool| &told.iter().find(|(r, a, _)| *r == row && *a == azure).expect("a result").2;
        for azure in [false, true] {
            let (code, seen, frozen, _, said) = of(azure);
            let count = if *freezes == ANY { *frozen <= 1 } else { frozen == freezes };
            if (*code, seen.as_deref()) != (*exit, *verdict) || !count {
                wrong.push(format!("{trouble:?}, azure={azure}: exit {code}, {seen:?}, frozen {frozen} times: {said}"));
            }
        }
        if of(false).3 != of(true).3 {
            wrong.push(format!("{trouble:?}: other keys in --json: {:?} {:?}", of(false).3, of(true).3));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
