//! What a restored instance holds, by the model's own look at the files, against the workload's own record.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use suite::host::{Engine, Host, Sim, iris_sim};

pub fn sim(host: &Host) -> &Sim {
    host.engine.sim()
}

pub fn sim_mut(host: &mut Host) -> &mut Sim {
    match &mut host.engine {
        Engine::Iris(s) => s,
        Engine::Gtm(_) => panic!("a host of iris-sim"),
    }
}

/// The last number of each worker in the record.
pub fn recorded(host: &Host) -> BTreeMap<String, u64> {
    let out = recorded_until(host, u64::MAX);
    assert!(!out.is_empty(), "the workload committed something");
    out
}

/// Of a record by its file.
pub fn recorded_of(file: &Path) -> BTreeMap<String, u64> {
    until(file, u64::MAX)
}

/// Of what was committed before this moment of `CLOCK_BOOTTIME`.
pub fn recorded_until(host: &Host, at_ms: u64) -> BTreeMap<String, u64> {
    until(&host.run.path().join("record.jsonl"), at_ms)
}

fn until(file: &Path, at_ms: u64) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(file).expect("a record");
    let mut out = BTreeMap::new();
    for line in text.lines() {
        let v: Value = serde_json::from_str(line).expect("a line");
        if v["t_ms"].as_f64().expect("a time") < at_ms as f64 {
            out.insert(v["worker"].to_string(), v["txn"].as_u64().expect("a number"));
        }
    }
    out
}

/// Directories in which a restore kept files aside.
pub fn asides(host: &Host) -> Vec<PathBuf> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for e in std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
            let aside = e.file_name().to_string_lossy().starts_with("snapfreeze-aside-");
            if aside { out.push(e.path()) } else { walk(&e.path(), out) }
        }
    }
    let mut out = Vec::new();
    walk(&sim(host).instance(), &mut out);
    out
}

/// Stops the instance and reads its files, without what was kept aside.
pub fn stopped(host: &Host) -> Value {
    let (code, said) = sim(host).iris(&["stop", "IRIS", "quietly"]);
    assert_eq!(code, Some(0), "{said}");
    for dir in asides(host) {
        std::fs::remove_dir_all(dir).expect("removed");
    }
    let out = Command::new(iris_sim()).args(["verify", "--json"]).arg(sim(host).instance()).output().expect("iris-sim");
    let reports: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let report = if reports.is_array() { reports[0].clone() } else { reports };
    assert_eq!(report["clean"], true, "{}", report["problems"]);
    report
}

/// Is every recorded commit there, and no half transaction?
pub fn whole(report: &Value, recorded: &BTreeMap<String, u64>) -> Result<(), String> {
    if report["recovered"]["sum"] != 0 {
        return Err(format!("the balances sum to {}", report["recovered"]["sum"]));
    }
    for (worker, committed) in recorded {
        let found = report["recovered"]["seq"][worker].as_u64().unwrap_or(0);
        // A commit may be done and its line not yet written.
        if found != *committed && found != *committed + 1 {
            return Err(format!("worker {worker}: recorded {committed}, found {found}"));
        }
    }
    Ok(())
}
