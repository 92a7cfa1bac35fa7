//! Where each backup is: a line per backup that changes where somebody sees it, a line per step elsewhere, an object with `--json`.

use crate::out::Out;
use crate::say::when;
use coordinator::{Saga, Step};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use protocol::BackupId;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub struct Progress {
    out: Out,
    all: Option<MultiProgress>,
    lines: Mutex<BTreeMap<BackupId, (ProgressBar, String)>>,
}

impl Progress {
    pub fn new(out: Out) -> Self {
        Self { out, all: out.shows_progress().then(MultiProgress::new), lines: Mutex::default() }
    }

    /// Before a step.
    pub fn step(&self, saga: &Saga, step: &Step) {
        self.show(saga, &words(step));
    }

    pub fn show(&self, saga: &Saga, text: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (bar, last) = lines.entry(saga.order.id).or_insert_with(|| (self.bar(), String::new()));
        // A step that is tried again is told once.
        if last == text {
            return;
        }
        text.clone_into(last);
        self.out.object("phase", &json!({ "id": saga.order.id, "hosts": hosts(saga), "phase": saga.phase, "text": text }));
        match &self.all {
            Some(_) => bar.set_message(format!("{}: {text}", names(saga))),
            None => self.out.note(format!("{} {}: {text}", saga.order.id, names(saga))),
        }
    }

    pub fn done(&self, saga: &Saga) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bar, _)) = lines.get(&saga.order.id) {
            bar.finish_and_clear();
        }
    }

    fn bar(&self) -> ProgressBar {
        let Some(all) = &self.all else { return ProgressBar::hidden() };
        let bar = all.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

fn words(step: &Step) -> String {
    match step {
        Step::Inspect => "looking at host and volumes".into(),
        Step::Wait(at) => format!("waits until {}", when(*at)),
        Step::Freeze(_) => "freezing".into(),
        Step::Backup(_) => "the host makes its backup".into(),
        Step::Snapshot(_) => "frozen; snapshot call".into(),
        Step::Thaw(_) => "thawing".into(),
        Step::Find => "thawed; looking for snapshots whose answer was lost".into(),
        Step::Mark => "thawed; writing the verdict".into(),
        Step::Complete => "held; waiting for the copies".into(),
        Step::After => "complete; copy, lock, fast restore".into(),
        Step::Done => "done".into(),
    }
}

pub fn hosts(saga: &Saga) -> Vec<&str> {
    saga.members.iter().map(|m| m.target.id.as_str()).collect()
}

/// For people: the cloud's names where there are some.
pub fn names(saga: &Saga) -> String {
    let name = |m: &coordinator::saga::Member| if m.target.name.is_empty() { m.target.id.clone() } else { m.target.name.clone() };
    saga.members.iter().map(name).collect::<Vec<_>>().join("+")
}
