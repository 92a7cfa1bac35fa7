//! A configured helper makes the snapshots (`snapfreeze-ebs`, `snapfreeze-azdisk`, a storage array's tool).
//!
//! It is started before the freeze and may fetch credentials and open connections then. The talk, one line each:
//!
//! ```text
//! helper: READY            or READY ms=1200 verdict=yes: what its call will take, and that it waits for the verdict
//! agent:  GO {"snapfreeze:backup-id":"…",…}      the tags that are known at the freeze, one line of JSON
//! helper: snapshot=snap-0123 volume=vol-0456     or the same as a JSON object; one line per snapshot
//! helper: DONE             the point in time of every snapshot is fixed; it may go on working
//! agent:  VERDICT {"snapfreeze:verdict":"held",…}    after the thaw, if it still runs: tags to overwrite (verdict, reason,
//!                          thawed-at, window-ms, Name); then its standard input is closed
//! helper: NOTE text        anything for people, such as a tag that could not be written
//! helper: FAILED text      a snapshot came to nothing after all: the set is broken
//! ```
//!
//! Exit 0 after at least one snapshot line counts as DONE. Another exit, or the deadline, is a failure; then its whole
//! process group is killed, and what it may have made is for its own reaper. Only a helper that said `verdict=yes` states
//! by its DONE that nothing but tagging is left: its later exit, or that it did not end, is a note and changes no verdict.
//! Environment: `SNAPFREEZE_ID`, `SNAPFREEZE_SET` (directory), `SNAPFREEZE_HOLD_MS`, `SNAPFREEZE_PATHS` (the sources, JSON
//! array), `SNAPFREEZE_VOLUMES` (the cloud volumes that carry them with device, mounts and roles, JSON array).

use super::sources::resolve;
use super::{Error, Finished, Method, Moment, Part, Plan, Request, Say, Snapshotter, Taken};
use crate::catalogue::setdir;
use doors::clock::boot_now;
use doors::exec::{Call, Cancel, Ended, Output, Program, Running};
use protocol::{BootMs, Code};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Command {
    pub program: Program,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    /// From its start to READY: credentials and TLS, before the freeze.
    pub ready_ms: u64,
    /// After DONE it may work this long, outside the window, before it counts as failed.
    pub finish_ms: u64,
}

/// A started helper that has said READY.
pub(super) struct Helper {
    running: Running,
    /// After its DONE nothing but tagging is left.
    wants_verdict: bool,
}

impl std::fmt::Debug for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Helper({})", self.running.id())
    }
}

/// How long one wait for a line lasts before cancel is looked at again; a line that comes ends it at once.
const SLICE_MS: u64 = 50;

impl Snapshotter for Command {
    fn prepare(&self, request: &Request) -> Result<Plan, Error> {
        let (to, wanted) = resolve(request)?;
        let set = to.join(request.id.to_string());
        let paths: Vec<String> = wanted.iter().map(|w| w.path.to_string_lossy().into_owned()).collect();
        let mut call = Call::new(&self.program, self.args.clone())
            .env("SNAPFREEZE_ID", request.id.to_string())
            .env("SNAPFREEZE_SET", &set)
            .env("SNAPFREEZE_HOLD_MS", request.hold_ms.to_string())
            .env("SNAPFREEZE_PATHS", serde_json::Value::from(paths).to_string());
        call.env.extend(self.env.iter().cloned());
        let mut running = Running::start(call).map_err(|e| Error::Helper(format!("could not be started: {e}")))?;
        let by = boot_now().plus(self.ready_ms);
        let ready = loop {
            match running.line(by).map_err(|e| Error::Helper(e.to_string()))? {
                Some(line) if line == "READY" || line.starts_with("READY ") => break line,
                Some(_) => {} // a greeting
                None => {
                    let why = said(running, boot_now());
                    return Err(Error::Helper(format!("did not say READY within {} ms{why}", self.ready_ms)));
                }
            }
        };
        let ready = pairs(ready.trim_start_matches("READY"));
        let ms = ready.get("ms").and_then(|v| v.parse().ok()).unwrap_or(0);
        let wants_verdict = ready.get("verdict").is_some_and(|v| v == "yes");
        if ms > request.hold_ms {
            return Err(Error::refused(
                Code::RefusedTooSlow,
                format!("the snapshot helper expects to take {ms} ms, the hold is {} ms", request.hold_ms),
                "use a longer hold",
            ));
        }
        setdir::create(&set).map_err(|e| Error::io("make", &set, e))?;
        let mut plan = Plan::new(request.id, set, wanted);
        plan.estimate.ms = ms;
        plan.parts = plan
            .wanted
            .iter()
            .map(|w| Part {
                method: Method::Command,
                path: w.path.clone(),
                dest: PathBuf::new(),
                is_dir: w.path.is_dir(),
                holds_others: false,
                fence: Vec::new(),
                files: 0,
                bytes: 0,
            })
            .collect();
        plan.notes.push(format!("{} is ready", self.program.path().display()));
        *plan.helper.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Helper { running, wants_verdict });
        Ok(plan)
    }

    fn take(&self, plan: &Plan, moment: &Moment<'_>) -> Result<Taken, Error> {
        let begun = boot_now();
        let mut slot = plan.helper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Helper { mut running, wants_verdict } = slot.take().ok_or_else(|| Error::Helper("was used already".into()))?;
        moment.check()?;
        let tags = serde_json::to_string(moment.tags).unwrap_or_default();
        running.say(&format!("GO {tags}")).map_err(|e| Error::Helper(format!("did not take GO: {e}")))?;
        let mut taken = Taken::default();
        loop {
            moment.check()?; // dropping `running` kills and reaps it
            let slice = boot_now().plus(SLICE_MS).min(moment.by);
            match running.line(slice).map_err(|e| Error::Helper(e.to_string()))? {
                Some(line) if line == "DONE" => {
                    *slot = Some(Helper { running, wants_verdict });
                    break;
                }
                Some(line) => {
                    let snapshot = pairs(&line);
                    if !snapshot.is_empty() {
                        taken.produced.push(snapshot);
                        taken.files += 1;
                        (moment.say)(super::Progress { step: "take", files: taken.files, ..Default::default() });
                    }
                }
                None if boot_now() >= slice => {}
                None => {
                    finished(running, moment.by, Some(moment.cancel))?;
                    break;
                }
            }
        }
        if taken.produced.is_empty() {
            return Err(Error::Helper("named no snapshot".into()));
        }
        moment.check()?;
        taken.took_ms = boot_now().since(begun);
        Ok(taken)
    }

    fn verdict(&self, plan: &Plan, tags: &BTreeMap<String, String>) -> Result<(), Error> {
        let mut slot = plan.helper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(Helper { running, wants_verdict }) = slot.as_mut() else { return Ok(()) };
        let told = running.say(&format!("VERDICT {}", serde_json::to_string(tags).unwrap_or_default()));
        running.feed(Vec::new()); // nothing more will be said
        match told {
            Err(e) if *wants_verdict => Err(Error::Helper(format!("did not take VERDICT: {e}"))),
            _ => Ok(()),
        }
    }

    fn finish(&self, plan: &Plan, _checksums: bool, _say: Say<'_>) -> Result<Finished, Error> {
        let helper = plan.helper.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let mut done = Finished { notes: vec!["the data lies where the helper's snapshots are".into()], ..Finished::default() };
        let Some(Helper { running, wants_verdict }) = helper else { return Ok(done) };
        let out = running.finish(boot_now().plus(self.finish_ms), None).map_err(|e| Error::Helper(e.to_string()))?;
        for line in out.out().lines() {
            if let Some(why) = line.strip_prefix("FAILED") {
                return Err(Error::Helper(format!("says that a snapshot failed:{why}")));
            }
            done.notes.extend(line.strip_prefix("NOTE ").map(|n| format!("helper: {n}")));
        }
        match ended(&out) {
            Err(e) if wants_verdict => done.notes.push(format!("{e}; the tags of its snapshots may still say pending")),
            other => other?,
        }
        Ok(done)
    }

    fn abort(&self, plan: &Plan) -> Result<(), Error> {
        drop(plan.helper.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        setdir::remove(&plan.set).map_err(|e| Error::io("remove", &plan.set, e))
    }
}

fn finished(running: Running, by: BootMs, cancel: Option<&Cancel>) -> Result<(), Error> {
    ended(&running.finish(by, cancel).map_err(|e| Error::Helper(e.to_string()))?)
}

fn ended(out: &Output) -> Result<(), Error> {
    match out.ended {
        Ended::Exited(0) => Ok(()),
        Ended::Cancelled => Err(Error::Cancelled),
        Ended::TimedOut => Err(Error::Helper("did not end in time and was killed".into())),
        Ended::Exited(c) => Err(Error::Helper(format!("failed with exit {c}{}", last_line(&out.err())))),
        Ended::Signaled(s) => Err(Error::Helper(format!("was killed by signal {s}"))),
    }
}

/// What it last wrote to standard error, for people.
fn said(running: Running, by: BootMs) -> String {
    running.finish(by, None).map(|o| last_line(&o.err())).unwrap_or_default()
}
fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|l| !l.trim().is_empty());
    line.map(|l| format!(": {}", l.chars().take(200).collect::<String>())).unwrap_or_default()
}

/// `a=1 b=2`, or a JSON object; anything else is talk and gives nothing.
fn pairs(line: &str) -> BTreeMap<String, String> {
    if let Ok(serde_json::Value::Object(map)) = serde_json::from_str(line) {
        let text = |v: serde_json::Value| v.as_str().map_or_else(|| v.to_string(), Into::into);
        return map.into_iter().map(|(k, v)| (k, text(v))).collect();
    }
    let words: Option<Vec<_>> = line.split_whitespace().map(|w| w.split_once('=')).collect();
    words.unwrap_or_default().into_iter().map(|(k, v)| (k.into(), v.into())).collect()
}
