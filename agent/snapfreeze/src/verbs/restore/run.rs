//! Carries a plan out: the record says "begun", the step is done and seen to be done, the record says "done". Whatever kills it
//! in between, the step is repeated: each asks the world first.

use super::record::{Record, Records};
use crate::out::Out;
use crate::points::reach;
use crate::verbs::progress::Bar;
use engine::restore::{Failed, Restorer};
use protocol::Code;
use protocol::code::exit;
use protocol::wire::Problem;
use recovery::{Action, Plan};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use storage::place::{self, Expect};

/// `--yes`, or the name of the instance typed at the terminal.
pub fn confirmed(plan: &Plan, yes: bool) -> Result<(), Problem> {
    if yes || !plan.steps.iter().any(|s| s.dangerous) {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Problem::new(Code::UsageInvalid, "the plan has steps that must be confirmed, and nobody is there to ask")
            .next("read it with `snapfreeze restore plan`, then add --yes"));
    }
    let _ = write!(std::io::stderr(), "Type the name of the instance to go on: ");
    let mut line = String::new();
    let _ = std::io::stdin().lock().read_line(&mut line);
    if line.trim() == plan.instance.as_str() {
        return Ok(());
    }
    Err(Problem::new(Code::UsageInvalid, "not confirmed; nothing was changed"))
}

pub fn run(engine: &dyn Restorer, records: &Records, mut record: Record, out: Out) -> Result<u8, Problem> {
    let of = record.plan.steps.len();
    if record.steps.is_empty() && !record.plan.wish.online {
        let found = engine.found().map_err(|e| failed(&record, 0, &e.into()))?;
        record.down = (!found.running).then_some(found.status);
    }
    as_it_was_left(engine, &record).map_err(|f| failed(&record, record.done().min(of - 1), &f))?;
    while record.done() < of {
        let n = record.done();
        let step = record.plan.steps[n].clone();
        let word = step.action.word();
        record.begin();
        still_down(engine, &mut record, &step.action).map_err(|f| failed(&record, n, &f))?;
        if starts(&step.action) && record.last_journal.is_none() {
            let found = engine.found().map_err(|e| failed(&record, n, &e.into()))?;
            record.last_journal = found.journals.last().map(|j| recovery::journals::plain(&j.file()).to_owned());
        }
        records.write(&record)?;
        out.say(format!("[{}/{of}] {}", n + 1, step.action));
        out.object("restore-step", &json!({ "run": record.run, "step": n + 1, "of": of, "do": word, "state": "begun" }));
        reach(&format!("restore.{word}.before"));
        let said = act(engine, &until_the_start(step.action.clone(), &record), out).map_err(|f| failed(&record, n, &f))?;
        reach(&format!("restore.{word}.after"));
        if matches!(step.action, Action::Stop | Action::Force) {
            record.down = Some(engine.found().map_err(|e| failed(&record, n, &e.into()))?.status);
        }
        record.end(said);
        records.write(&record)?;
        let said = &record.steps[n].said;
        out.say(format!("        {said}"));
        out.object("restore-step", &json!({ "run": record.run, "step": n + 1, "of": of, "do": word, "state": "done", "said": said }));
    }
    reach("restore.end");
    let aside = aside(&record.plan);
    for dir in &aside {
        out.say(format!("kept aside: {} (remove it when you are sure)", dir.display()));
    }
    let online = record.plan.wish.online || record.plan.engine == "gtm";
    out.say(if online { "RESTORED" } else { "RESTORED; users may connect now" });
    out.object("restored", &json!({ "run": record.run, "id": record.plan.id, "instance": record.plan.instance, "aside": aside }));
    if !record.plan.held {
        let p = Problem::new(
            Code::WindowBroken,
            "restored, and its integrity was checked, but the set was not held: nobody vouches for its moment",
        );
        let p = p.next("compare the data with what you know before anybody works with it");
        return Ok(if out.packed { out.fail(Some(record.plan.id), &p) } else { out.problem(&p) });
    }
    Ok(exit::DONE)
}

const BEGIN_ANEW: &str = "stop the instance, `snapfreeze restore abandon`, and begin anew: what was there before is kept aside, whole";

/// While files are replaced the instance must stay down. One that was up in between has recovered, or worse, with half of them.
fn still_down(engine: &dyn Restorer, record: &mut Record, next: &Action) -> Result<(), Failed> {
    if starts(next) || matches!(next, Action::Stop | Action::StartForUsers) {
        record.down = None;
        return Ok(());
    }
    let Some(was) = &record.down else { return Ok(()) };
    let now = match engine.found() {
        Ok(now) => now,
        // Its configuration is one of the files.
        Err(_) if record.plan.wish.everything && matches!(next, Action::KeepAside { .. } | Action::Copy { .. }) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if !now.running && now.status == *was {
        return Ok(());
    }
    Err(Failed::new(format!("the instance was started while its files were being replaced ({})", now.status)).anew(BEGIN_ANEW))
}

/// A run that goes on, perhaps after a reboot: up for the administrator is made so again, and what was dismounted too.
fn as_it_was_left(engine: &dyn Restorer, record: &Record) -> Result<(), Failed> {
    let done = &record.plan.steps[..record.done()];
    let power = |a: &Action| starts(a) || matches!(a, Action::Stop | Action::Force | Action::StartForUsers);
    let Some(at) = done.iter().rposition(|s| power(&s.action)) else { return Ok(()) };
    if done[at].action != Action::StartForAdministrator {
        return Ok(());
    }
    let again = engine.act(&Action::StartForAdministrator, &|_| {});
    again.map_err(|f| if f.recovery { Failed { recovery: false, ..f }.anew(BEGIN_ANEW) } else { f })?;
    for step in &done[at..] {
        let Action::Dismount { dir } = &step.action else { continue };
        if !done.iter().any(|s| matches!(&s.action, Action::Mount { dir: d } if d == dir)) {
            engine.act(&step.action, &|_| {})?;
        }
    }
    Ok(())
}

const fn starts(action: &Action) -> bool {
    matches!(action, Action::StartForAdministrator | Action::StartWithoutWij)
}

/// "All that are there" are those that were there before our own start.
fn until_the_start(action: Action, record: &Record) -> Action {
    match action {
        Action::RestoreJournals { first, last: None, locations, select } => {
            Action::RestoreJournals { first, last: record.last_journal.clone(), locations, select }
        }
        other => other,
    }
}

pub fn act(engine: &dyn Restorer, action: &Action, out: Out) -> Result<String, Failed> {
    let plain = |e: place::Error| Failed::new(crate::chain(&e));
    match action {
        Action::KeepAside { files, to } => {
            let n = place::keep_aside(files, to).map_err(plain)?;
            Ok(format!("{n} moved to {}", to.display()))
        }
        Action::Copy { files } => {
            let mut bytes = 0;
            for (file, to) in files {
                let bar = Bar::new(out, "copy");
                let expect = Expect { size: file.size, sha256: file.sha256.as_deref() };
                reach("restore.copy.file");
                place::copy(&file.copy, to, expect, &|p| bar.show(p)).map_err(plain)?;
                bytes += file.size;
            }
            Ok(format!("{} copied and compared, {bytes} bytes", files.len()))
        }
        other => engine.act(other, &|line| out.note(format!("        {line}"))),
    }
}

fn failed(record: &Record, n: usize, f: &Failed) -> Problem {
    let step = &record.plan.steps[n];
    let detail = format!("step {} of {} ({}): {}", n + 1, record.plan.steps.len(), step.action.word(), f.why);
    let next = if f.recovery {
        record.plan.if_recovery_fails.clone()
    } else if f.next.is_empty() {
        "mend it, then go on with `snapfreeze restore resume`".into()
    } else if f.anew {
        f.next.clone()
    } else {
        format!("{}; then `snapfreeze restore resume`", f.next)
    };
    Problem::new(Code::RestoreFailed, detail).next(next)
}

/// Where a plan keeps files aside.
pub fn aside(plan: &Plan) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        plan.steps.iter().filter_map(|s| if let Action::KeepAside { to, .. } = &s.action { Some(to.clone()) } else { None }).collect();
    all.sort();
    all.dedup();
    all
}
