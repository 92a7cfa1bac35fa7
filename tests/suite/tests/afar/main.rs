//! What a program far away gets: answers that are read whole or not at all, facts, host-held backups, the hooks of AWS
//! Data Lifecycle Manager. All from the real binary over a model of IRIS.
#![allow(clippy::disallowed_methods, reason = "a test host stands outside the agent's doors")]

mod answers;
mod backup;
mod disk;
mod dlm;
mod facts;

use protocol::BackupId;
use protocol::answer::{Answer, read};
use suite::host::{Ended, Host, Setup, What};

const VOLUME: &str = "vol-0123456789abcdef0";

/// Room enough for a loaded machine, and for the hold of a DLM hook.
fn calm() -> Setup {
    Setup {
        hold_ms: 6_000,
        window: "wd_suspend_limit = \"600s\"\n".into(),
        margins: "watchdog = \"1s\"\nthaw_budget = \"3s\"\nfreeze = \"30s\"\nrung = \"2s\"\nguard = \"1s\"\n".into(),
        workload: false,
        ..Setup::default()
    }
}

/// A host whose files lie on [`VOLUME`], by its configuration, with more tables of it.
fn host(more: &str) -> Host {
    let h = Host::iris(calm());
    let disk = h.disk.path().canonicalize().unwrap();
    reconfigure(&h, &format!("{}\n[layout]\nvolumes = {{ \"{}\" = \"{VOLUME}\" }}\n{more}", h.config_text(), disk.display()));
    h
}

/// Agent and callers get another file.
fn reconfigure(h: &Host, text: &str) {
    assert!(h.agent.stop(10_000));
    h.write_config(text);
    h.start_agent();
}

/// A machine in a cloud names its own volume, and is not overruled.
#[track_caller]
fn seen_as(volume: &str) {
    let in_a_cloud = volume.starts_with("vol-") || volume.starts_with("lun:") || volume == "os";
    assert!(volume == VOLUME || in_a_cloud, "{volume}");
}

/// As a coordinator reads it.
#[track_caller]
fn answer(e: &Ended, id: Option<&str>) -> Answer {
    let asked: Option<BackupId> = id.map(|i| i.parse().unwrap());
    read(&e.out, asked).unwrap_or_else(|why| panic!("{why}: {e:#?}"))
}

/// By the engine's history: how often it was frozen, and that every freeze has ended.
#[track_caller]
fn frozen_times(host: &Host, times: usize) {
    host.until("the thaw", 15_000, || !host.engine.frozen());
    let count = |w: What| host.engine.history().iter().filter(|h| h.what == w).count();
    assert_eq!(count(What::Frozen), times, "{:?}", host.engine.history());
    assert_eq!(count(What::Frozen), count(What::Thawed) + count(What::LimitThawed), "{:?}", host.engine.history());
}
