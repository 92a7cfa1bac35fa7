//! An instance of the model with a set, and what happens to it.

use crate::judge::{sim, sim_mut};
use crate::{restore, said, text};
use std::path::PathBuf;
use suite::host::{Ended, Host, Reply, Setup, sleep_ms};

pub fn stage(workload: bool) -> (Host, PathBuf) {
    stage_with(workload, &[])
}

pub fn stage_with(workload: bool, sim: &[&str]) -> (Host, PathBuf) {
    let sim = sim.iter().map(ToString::to_string).collect();
    let host = Host::iris(Setup { workload, sim, hold_ms: 3_000, ..Setup::default() });
    let to = host.disk.path().join("sets");
    (host, to)
}

pub fn data(host: &Host, name: &str) -> PathBuf {
    sim(host).instance().join("data").join(name)
}

pub fn run(host: &Host, to: &std::path::Path, words: &[&str]) -> Ended {
    let mut all = vec!["run"];
    all.extend(words);
    all.extend(["--to", text(to), "--yes"]);
    restore(host, &all)
}

/// Commits go on after the backup, then the instance dies and nobody writes any more.
pub fn crash_later(host: &mut Host) {
    sleep_ms(700);
    sim(host).m("USER", "set ^postbackup=1");
    sleep_ms(300);
    sim(host).iris(&["force", "IRIS"]);
    sim_mut(host).stop_workload();
}

/// Every database and the WIJ are lost, the journals are there.
pub fn lose_all_but_journals(host: &Host) {
    let dir = sim(host).instance();
    for lost in ["mgr/IRIS.DAT", "mgr/user/IRIS.DAT", "mgr/irislocaldata/IRIS.DAT", "data/t1/IRIS.DAT", "data/t2/IRIS.DAT", "wij/IRIS.WIJ"]
    {
        std::fs::remove_file(dir.join(lost)).expect(lost);
    }
}

/// Kills the run at the first arrival at this point.
pub fn killed_at(host: &Host, to: &std::path::Path, point: &'static str, words: &[&str]) {
    host.points.begin(move |seen| {
        if seen.name == point {
            suite::host::kill(seen.pid);
        }
        Reply::Go
    });
    let e = run(host, to, words);
    assert_eq!(e.code, None, "killed at {point}: {}", said(&e));
    host.points.begin(|_| Reply::Go);
}
