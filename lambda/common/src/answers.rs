//! What a command's output means for each order. By the marker only; everything else is doubt.

use coordinator::ports::{BackupAnswer, FreezeAnswer, Made, ThawAnswer};
use protocol::answer::{Answer, BadAnswer, read};
use protocol::code::exit;
use protocol::wire::{BackupReply, Facts, FreezeReply, Problem, StatusReply, ThawReply};
use protocol::{BackupId, Code};

/// What became of a command that a cloud was to run on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran {
    /// Certainly not sent.
    NotSent(Problem),
    /// The cloud says that it ended, somehow; what it printed.
    Ended { status: String, output: Output },
    /// It may have run, may run, or may run later.
    Lost(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    /// Characters of stdout that the cloud keeps; zero: all of them.
    pub kept: usize,
}

pub fn freeze(ran: Ran, id: BackupId) -> FreezeAnswer {
    match answer(ran, id) {
        Err(Doubt::NotSent(p)) => FreezeAnswer::Refused(p),
        Err(Doubt::Why(why)) => FreezeAnswer::Unknown(why),
        Ok(a) if a.kind == "problem" => match classed(&a) {
            Class::NothingDone(p) => FreezeAnswer::Refused(p),
            Class::Failed(p) => FreezeAnswer::Failed(p),
        },
        Ok(a) => match a.whole::<FreezeReply>("freeze") {
            Ok(r) if r.id == id => FreezeAnswer::Frozen(r),
            Ok(r) => FreezeAnswer::Unknown(format!("the freeze reply is about {}", r.id)),
            Err(e) => FreezeAnswer::Unknown(e.to_string()),
        },
    }
}

pub fn thaw(ran: Ran, id: BackupId) -> ThawAnswer {
    match answer(ran, id) {
        Err(Doubt::NotSent(p)) => ThawAnswer::Unknown(p.detail),
        Err(Doubt::Why(why)) => ThawAnswer::Unknown(why),
        Ok(a) if a.kind == "problem" => match a.code {
            Some(Code::ThawUnknownId) => ThawAnswer::NeverFrozen,
            Some(Code::ThawNotYours) => ThawAnswer::NotOurs,
            Some(Code::LeftFrozen) => ThawAnswer::StillFrozen(problem(&a)),
            _ => ThawAnswer::Unknown(said(&problem(&a))),
        },
        Ok(a) => match a.whole::<ThawReply>("window") {
            Ok(r) if r.window.backup_id == id => ThawAnswer::Thawed(r.window),
            Ok(r) => ThawAnswer::Unknown(format!("the window is of {}", r.window.backup_id)),
            Err(e) => ThawAnswer::Unknown(e.to_string()),
        },
    }
}

pub fn backup(ran: Ran, id: BackupId) -> BackupAnswer {
    match answer(ran, id) {
        Err(Doubt::NotSent(p)) => BackupAnswer::Refused(p),
        Err(Doubt::Why(why)) => BackupAnswer::Unknown(why),
        Ok(a) if a.kind == "problem" => match classed(&a) {
            Class::NothingDone(p) => BackupAnswer::Refused(p),
            Class::Failed(p) => BackupAnswer::Failed(p),
        },
        Ok(a) => match a.whole::<BackupReply>("backup") {
            Ok(r) if r.id == id && r.window.backup_id == id => {
                let made = |m: &std::collections::BTreeMap<String, String>| {
                    Some(Made { snapshot: m.get("snapshot")?.clone(), volume: m.get("volume")?.clone() })
                };
                BackupAnswer::Done {
                    verdict: r.verdict,
                    window: Box::new(r.window),
                    snapshots: r.produced.iter().filter_map(made).collect(),
                }
            }
            Ok(r) => BackupAnswer::Unknown(format!("the backup is {}", r.id)),
            Err(e) => BackupAnswer::Unknown(e.to_string()),
        },
    }
}

pub fn facts(ran: Ran, id: BackupId) -> Result<Facts, Problem> {
    let unreachable = |why: String| Problem::new(Code::AgentUnreachable, why).next("on the host: is snapfreeze installed and does it run?");
    match answer(ran, id) {
        Err(Doubt::NotSent(p)) => Err(p),
        Err(Doubt::Why(why)) => Err(unreachable(why)),
        Ok(a) if a.kind == "problem" => Err(problem(&a)),
        Ok(a) => a.whole::<Facts>("facts").map_err(|e| unreachable(e.to_string())),
    }
}

/// Of `status --id`: it freezes nothing, so there is nothing to be in doubt about.
pub fn status(ran: Ran, id: BackupId) -> Result<StatusReply, Problem> {
    let unreachable = |why: String| Problem::new(Code::AgentUnreachable, why);
    match answer(ran, id) {
        Err(Doubt::NotSent(p)) => Err(p),
        Err(Doubt::Why(why)) => Err(unreachable(why)),
        Ok(a) if a.kind == "problem" => Err(problem(&a)),
        Ok(a) => a.whole::<StatusReply>("status").map_err(|e| unreachable(e.to_string())),
    }
}

/// Of a step of a restore: its body, whatever kind it is of.
pub fn restore(ran: Ran, id: BackupId) -> Result<serde_json::Value, Problem> {
    let unreachable = |why: String| {
        Problem::new(Code::AgentUnreachable, why)
            .next("on the host: `snapfreeze check`; a restore that was begun is gone on with by `snapfreeze restore resume`")
    };
    match answer(ran, id) {
        Err(Doubt::NotSent(p)) => Err(p),
        Err(Doubt::Why(why)) => Err(unreachable(why)),
        Ok(a) if a.kind == "problem" => Err(problem(&a)),
        // The marker alone is of an answer that was cut.
        Ok(a) => a.body.ok_or_else(|| unreachable("its answer was cut".into())),
    }
}

enum Doubt {
    NotSent(Problem),
    Why(String),
}

fn answer(ran: Ran, id: BackupId) -> Result<Answer, Doubt> {
    match ran {
        Ran::NotSent(p) => Err(Doubt::NotSent(p)),
        Ran::Lost(why) => Err(Doubt::Why(why)),
        Ran::Ended { status, output } => read(&output.stdout, Some(id)).map_err(|e| Doubt::Why(unread(&e, &status, &output))),
    }
}

fn unread(e: &BadAnswer, status: &str, output: &Output) -> String {
    let Output { stdout, stderr, kept } = output;
    let mut why = format!("{e}; the command ended as {status}");
    if *e == BadAnswer::Cut || (*kept > 0 && stdout.chars().count() >= *kept) {
        why.push_str("; its output was cut");
        if *kept > 0 {
            why.push_str(&format!(" ({kept} characters are kept)"));
        }
    }
    if !stderr.is_empty() {
        why.push_str("; stderr ends with: ");
        why.push_str(stderr);
    }
    why
}

enum Class {
    /// Certainly nothing was frozen by this order.
    NothingDone(Problem),
    Failed(Problem),
}

fn classed(a: &Answer) -> Class {
    let p = problem(a);
    match p.code.exit() {
        exit::REFUSED | exit::USAGE | exit::CLOUD_REFUSED | exit::UNREACHABLE => Class::NothingDone(p),
        _ => Class::Failed(p),
    }
}

fn problem(a: &Answer) -> Problem {
    let next = a.body.as_ref().unwrap_or(&a.line).get("next").and_then(|n| n.as_str()).unwrap_or_default();
    Problem::new(a.code.unwrap_or(Code::Internal), a.detail()).next(next)
}

fn said(p: &Problem) -> String {
    format!("{}: {}", p.code, p.detail)
}

#[cfg(test)]
mod tests;
