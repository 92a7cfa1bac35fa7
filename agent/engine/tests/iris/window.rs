//! The whole window: marks, arguments, proof; and the contract of every engine.

use crate::contract;
use crate::support::{Sim, ask, assert_good, freeze, frozen, order, rules, thaw};
use doors::clock::boot_now;
use doors::exec::Cancel;
use engine::Engine;
use engine::iris::Iris;
use protocol::wire::Frozen;
use std::time::Duration;

#[test]
fn a_whole_window_is_unbroken_and_carries_its_journal_mark() {
    let sim = sim!();
    let iris = sim.open_with(|c| c.text = "said \"hello\" ) do halt".into());
    assert_eq!(ask(&iris), Frozen::No);
    let before = sim.state()["journal"].as_str().unwrap().to_owned();
    let held = frozen(freeze(&iris));
    assert!(sim.really_frozen());
    assert_eq!(ask(&iris), Frozen::Yes);
    let mark = &held.marks[0];
    let now = sim.state()["journal"].as_str().unwrap().to_owned();
    assert_ne!(before, now);
    assert_eq!(mark.switched.as_deref(), Some(now.as_str()));
    assert!(mark.offset.is_some() && mark.required.is_some());
    assert!(held.warnings.iter().any(|w| w.contains("not being journalled")), "{:?}", held.warnings);
    assert!(held.evidence.iter().any(|e| e.ends_with("System suspended")), "{:?}", held.evidence);
    let answer = thaw(&iris, Some(&held));
    assert_good(&answer);
    assert!(!sim.really_frozen());
    assert_eq!((answer.rungs.len(), answer.rungs[0].thawed), (1, true));
    assert!(answer.evidence.iter().any(|e| e.starts_with("LogFile: ") && e.ends_with("System resumed")));
    assert_eq!(ask(&iris), Frozen::No);
}

#[test]
fn an_open_transaction_makes_an_older_journal_required() {
    let sim = sim!();
    let iris = sim.open();
    let root = sim.root();
    let record = sim.path("record");
    let record = record.to_string_lossy().into_owned();
    let mut working =
        sim.start_workload(&["--root", &root, "IRIS", "--record", &record, "--seconds", "20", "--rate", "200", "--hold-ms", "15000"]);
    assert!(working.line(boot_now().plus(200)).is_ok());
    std::thread::sleep(Duration::from_millis(500));
    let held = frozen(freeze(&iris));
    let mark = &held.marks[0];
    assert!(mark.required.is_some() && mark.required < mark.switched, "{mark:?}");
    assert_eq!(mark.restore_from(), mark.required.as_deref());
    assert_good(&thaw(&iris, Some(&held)));
}

#[test]
fn without_a_journal_switch_the_mark_is_the_current_file_and_offset() {
    let sim = sim!();
    let iris = sim.open_with(|c| c.switch_journal = false);
    let held = frozen(freeze(&iris));
    let state = sim.state();
    assert_eq!(held.marks[0].switched, None);
    assert_eq!(held.marks[0].restore_from(), state["journal"].as_str());
    assert_eq!(held.marks[0].offset, state["journal_offset"].as_u64());
    assert_good(&thaw(&iris, Some(&held)));
}

#[test]
fn all_arguments_reach_the_engine() {
    let sim = sim!();
    let secret = sim.secret("thaw.cred", "backup\nse\"cret\n");
    let log = sim.path("log/own file \"x\".log");
    let iris = sim.open_with(|c| {
        c.log_file = Some(log.clone());
        c.cluster_timeout = Some(20);
        c.cluster_hibernate = Some(1);
        c.cluster_verbose = Some(true);
        c.thaw_credentials_file = Some(secret);
    });
    let mut o = order(1, 10_000);
    o.rules = rules(1000, Some(77));
    let held = frozen(iris.freeze(&o, &Cancel::new().unwrap()));
    assert_eq!(sim.state()["limit_s"], 77);
    assert!(sim.history().contains("\"timeout_s\":600"), "{}", sim.history());
    assert!(std::fs::read_to_string(&log).unwrap().contains("System suspended"));
    assert_ne!(sim.other_tool("ExternalThaw()"), Some(5), "a thaw without the freeze's user and password is refused");
    assert!(sim.really_frozen());
    // The form whose arguments show in `ps` is no rung then.
    sim.ctl("thaw_fail=1");
    let answer = thaw(&iris, Some(&held));
    sim.ctl("thaw_fail=");
    assert_eq!((answer.frozen.clone(), answer.rungs.len()), (Frozen::No, 2), "{answer:#?}");
    assert!(answer.rungs.iter().all(|r| !r.ran.contains("ExternalThaw()")));
    let held = frozen(iris.freeze(&o, &Cancel::new().unwrap()));
    let answer = thaw(&iris, Some(&held));
    assert_good(&answer);
    let shown = format!("{answer:?} {held:?} {iris_config:?}", iris_config = sim.config());
    assert!(!shown.contains("cret"), "{shown}");
}

#[test]
fn a_second_window_in_the_same_log_file_reads_only_its_own_lines() {
    let sim = sim!();
    let log = sim.path("log/fixed.log");
    let iris = sim.open_with(|c| c.log_file = Some(log));
    let mut last = None;
    for n in 0..2 {
        let held = frozen(iris.freeze(&order(n, 10_000), &Cancel::new().unwrap()));
        assert_ne!(held.marks[0].switched, last);
        last.clone_from(&held.marks[0].switched);
        assert_eq!(held.evidence.iter().filter(|e| e.ends_with("System suspended")).count(), 1);
        assert_good(&thaw(&iris, Some(&held)));
    }
}

/// The contract of every engine, with another session as the other tool.
struct Rig(Sim, Iris);

impl contract::Rig for Rig {
    fn engine(&self) -> &dyn Engine {
        &self.1
    }
    fn other_freeze(&self) {
        assert_eq!(self.0.other_tool("ExternalFreeze()"), Some(5));
    }
    fn other_thaw(&self) {
        assert_eq!(self.0.other_tool("ExternalThaw()"), Some(5));
    }
    fn truth(&self) -> bool {
        self.0.really_frozen()
    }
}

#[test]
fn it_keeps_the_contract_of_every_engine() {
    let sim = sim!();
    let iris = sim.open();
    let broken = contract::broken_rules(&Rig(sim, iris));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
