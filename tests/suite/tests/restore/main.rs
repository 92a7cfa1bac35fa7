//! Restores by the real program: on real GT.M, and on the model of IRIS. The judge is the engine itself and the workload's own
//! record, never the program's word.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

mod afar;
mod bed;
mod buckets;
mod drill;
mod gtm;
mod iris;
mod judge;
mod shipping;
mod troubles;

use std::path::Path;
use suite::host::{Ended, Host};

/// A restore of test sizes.
const RESTORE_MS: u64 = 120_000;

/// Runs `snapfreeze restore …` to its end.
fn restore(host: &Host, words: &[&str]) -> Ended {
    let mut args = vec!["restore"];
    args.extend(words);
    host.spawn(&args).wait(RESTORE_MS)
}

fn said(e: &Ended) -> String {
    format!("exit {:?}\n{}{}", e.code, e.out, e.err)
}

/// A backup with its set below `to`; its id.
fn backup(host: &Host, to: &Path) -> String {
    std::fs::create_dir_all(to).expect("a directory");
    let id = suite::host::new_id();
    let e = host.call(&["backup", "--to", text(to), "--snapshotter", "copy", "--id", &id]);
    assert_eq!(e.code, Some(0), "{}", said(&e));
    id
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
