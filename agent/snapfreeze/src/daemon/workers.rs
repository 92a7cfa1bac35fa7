//! The freezer and the thawer: threads that call engines, so that the loop never waits for one. A call that panics is a call without
//! an answer.

use super::run::Msg;
use crate::instances::{self, Set};
use crate::points::reach;
use doors::clock::boot_now_us;
use engine::FreezeOrder;
use lifecycle::{Event, FreezeOutcome, ThawOutcome};
use protocol::{BackupId, InstanceName, Known, Proof};
use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use tokio::sync::mpsc::UnboundedSender;

pub(super) enum Work {
    Freeze { id: BackupId, set: Set, order: FreezeOrder, cancel: doors::exec::Cancel },
    Thaw { id: BackupId, set: Set, held: BTreeMap<InstanceName, engine::Held>, proofs: BTreeMap<InstanceName, Proof>, rung_ms: u64 },
    Ask { id: BackupId, set: Set, ms: u64 },
}

/// A thread that is there before it is needed: a thaw must not wait for one to be made.
pub(super) fn worker(name: &str, tx: UnboundedSender<Msg>) -> Sender<Work> {
    let (send, work) = std::sync::mpsc::channel::<Work>();
    let run = move || {
        while let Ok(w) = work.recv() {
            let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| carry(&w)));
            let m = answer.unwrap_or_else(|_| match w {
                Work::Freeze { id, .. } => Msg::FreezeDone(id, FreezeOutcome::Unknown, vec![]),
                Work::Thaw { id, proofs, .. } => Msg::ThawDone { id, outcome: ThawOutcome::Unknown, answers: vec![], proofs, took_us: 0 },
                Work::Ask { id, .. } => Msg::Event(Event::GuardAnswered(id, Known::Unknown)),
            });
            let _ = tx.send(m);
        }
    };
    std::thread::Builder::new().name(name.into()).spawn(run).expect("a thread at the start of the agent");
    send
}

fn carry(w: &Work) -> Msg {
    match w {
        Work::Freeze { id, set, order, cancel } => {
            reach("agent.freezer.before");
            let (outcome, answers) = instances::freeze(set, order, cancel);
            reach("agent.freezer.after");
            Msg::FreezeDone(*id, outcome, answers)
        }
        Work::Thaw { id, set, held, proofs, rung_ms } => {
            let (mut proofs, begun) = (proofs.clone(), boot_now_us());
            reach("agent.thawer.before");
            let (outcome, answers) = instances::thaw(set, held, &mut proofs, *rung_ms, &|_, _| {});
            reach("agent.thawer.after");
            Msg::ThawDone { id: *id, outcome, answers, proofs, took_us: boot_now_us() - begun }
        }
        Work::Ask { id, set, ms } => Msg::Event(Event::GuardAnswered(*id, instances::worst(&instances::ask(set, *ms)))),
    }
}
