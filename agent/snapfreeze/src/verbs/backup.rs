//! `backup`: everything that can fail (`prepare.rs`), then freeze – snapshot – thaw, then the verdict and the catalogue.

use super::freeze::{interrupted, journals, new_id, say_marks, say_window, taken_back};
use super::prepare::{Ready, blocking, prepare};
use super::progress::Bar;
use crate::caller::Caller;
use crate::cli;
use crate::config::Config;
use crate::out::Out;
use crate::points::reach;
use doors::clock::boot_now;
use doors::exec::Cancel;
use protocol::code::exit;
use protocol::outcome::{InstanceMarks, SnapshotFate, Verdict, judge};
use protocol::tags::{self, SetTags, to_tags};
use protocol::wire::{BackupReply, FreezeReply, FreezeRequest, Problem};
use protocol::{BrokenReason, Code, JournalMark, SCHEMA, Window};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::catalogue::manifest;
use storage::snapshot::{Finished, Moment, Taken};

/// The thaw must have been asked this long before the host thaws by itself.
const SPARE_MS: u64 = 100;

pub async fn backup(config: &Config, args: &cli::Backup, out: Out) -> u8 {
    let caller = Caller::new(config).by(&args.by);
    let id = args.id.unwrap_or_else(new_id);
    let ready = match prepare(config, args, id, &caller, out).await {
        Ok(r) => r,
        Err(p) => return out.fail(Some(id), &p),
    };
    for n in &ready.plan.notes {
        out.note(n);
    }
    if args.dry_run {
        let e = &ready.plan.estimate;
        out.object("plan", &json!({ "id": ready.id, "estimate": e, "parts": ready.plan.parts, "notes": ready.plan.notes }));
        out.say(format!("would freeze for about {} ms and take {} files, {} bytes; nothing was frozen", e.ms, e.files, e.bytes));
        return match ready.snapshotter.abort(&ready.plan) {
            Ok(()) => exit::DONE,
            Err(e) => out.fail(Some(id), &e.problem()),
        };
    }
    sentinel(config, &args.instances, out).await;
    if let Some(set) = &ready.sync {
        super::pages::beforehand(set).await;
    }
    let request = FreezeRequest {
        id: ready.id,
        instances: args.instances.clone(),
        hold_ms: args.hold,
        issued_at: args.issued_at,
        not_after: args.not_after,
        by: args.by.clone(),
    };
    let frozen = tokio::select! {
        a = caller.freeze(&request) => a,
        () = interrupted() => return give_up(&ready, &taken_back(&caller, id, Code::Interrupted).await, out),
    };
    match frozen {
        // Somebody else's window under our id: it is not ours to use, nor to thaw.
        Ok(reply) if reply.by != args.by => {
            let p = Problem::new(Code::RefusedBusy, format!("{id} is held by {}", reply.by)).next("use a new backup id");
            give_up(&ready, &p, out)
        }
        Ok(reply) => in_the_window(&caller, ready, reply, out).await,
        Err(p) => give_up(&ready, &p, out),
    }
}

/// For drills. Nothing here stops a backup.
async fn sentinel(config: &Config, instances: &[protocol::InstanceName], out: Out) {
    if config.drill.sentinel.is_empty() {
        return;
    }
    let (config, instances) = (config.clone(), instances.to_vec());
    let done = tokio::task::spawn_blocking(move || super::drill::sentinel::before_backup(&config, &instances)).await;
    for note in done.unwrap_or_default() {
        out.note(note);
    }
}

/// Refused or failed before a snapshot: nothing of the set stays.
fn give_up(ready: &Ready, p: &Problem, out: Out) -> u8 {
    if let Err(e) = ready.snapshotter.abort(&ready.plan) {
        out.note(format!("the unfinished set could not be removed: {e}"));
    }
    out.fail(Some(ready.id), p)
}

/// Nothing slow, nothing that is not needed: snapshot, then thaw.
async fn in_the_window(caller: &Caller<'_>, mut ready: Ready, reply: FreezeReply, out: Out) -> u8 {
    let by = boot_now().plus(reply.remaining_ms.saturating_sub(SPARE_MS));
    put_marks(&mut ready.tags, &reply.instances);
    ready.tags.frozen_at = Some(reply.frozen_at);
    let ready = Arc::new(ready);
    reach("caller.snapshot.before");
    let enough = reply.remaining_ms.saturating_sub(SPARE_MS) >= ready.plan.estimate.ms;
    let (taken, was_interrupted) = if enough {
        take(&ready, by, out).await
    } else {
        let why = format!("{} ms of the hold are left, the snapshot needs about {} ms", reply.remaining_ms, ready.plan.estimate.ms);
        (Err(Problem::new(Code::SnapshotFailed, why).next("ask for a longer hold")), false)
    };
    reach("caller.snapshot.after");
    let thawed = caller.thaw(ready.id).await;
    // From here on writes go on; there is time.
    let window = match thawed {
        Ok(w) => w,
        Err(p) => return left(&ready, &p, out),
    };
    let mut end = End::new(ready, window, taken, was_interrupted);
    if end.taken.is_ok() {
        end.finish(out).await;
    }
    end.settle(out)
}

/// On its own thread; Ctrl-C cancels it and is remembered.
async fn take(ready: &Arc<Ready>, by: protocol::BootMs, out: Out) -> (Result<Taken, Problem>, bool) {
    let cancel = match Cancel::new() {
        Ok(c) => c,
        Err(e) => return (Err(Problem::new(Code::SnapshotFailed, e.to_string())), false),
    };
    let (r, c) = (ready.clone(), cancel.clone());
    let work = tokio::task::spawn_blocking(move || {
        if let Some(sync) = &r.sync {
            let report = sync.sync(by);
            if !report.good() {
                return Err(Problem::new(
                    Code::SnapshotFailed,
                    format!("syncfs: unfinished {:?}, failed {:?}", report.unfinished, report.failed),
                ));
            }
        }
        let bar = Bar::new(out, "snapshot");
        let tags = to_tags(&r.tags);
        r.snapshotter.take(&r.plan, &Moment { by, cancel: &c, say: &|p| bar.show(p), tags: &tags }).map_err(|e| e.problem())
    });
    tokio::pin!(work);
    let crashed = |_| Err(Problem::new(Code::SnapshotFailed, "the snapshot panicked"));
    tokio::select! {
        t = &mut work => (t.unwrap_or_else(crashed), false),
        () = interrupted() => {
            cancel.throw();
            (work.await.unwrap_or_else(crashed), true)
        }
    }
}

/// After the thaw: what the window was, and what became of the snapshots.
struct End {
    ready: Arc<Ready>,
    window: Window,
    taken: Result<Taken, Problem>,
    finished: Option<Result<Finished, Problem>>,
    was_interrupted: bool,
    notes: Vec<String>,
}

impl End {
    fn new(ready: Arc<Ready>, window: Window, taken: Result<Taken, Problem>, was_interrupted: bool) -> Self {
        Self { ready, window, taken, finished: None, was_interrupted, notes: Vec::new() }
    }

    fn snapshot_problem(&self) -> Option<&Problem> {
        self.taken.as_ref().err().or(self.finished.as_ref().and_then(|f| f.as_ref().err()))
    }

    /// By what is known so far.
    fn verdict(&self) -> Verdict {
        if self.was_interrupted {
            return Verdict::Broken(BrokenReason::Interrupted);
        }
        let fate = match self.snapshot_problem() {
            Some(p) => SnapshotFate::Failed(p.detail.clone()),
            None => SnapshotFate::AcceptedBeforeThaw,
        };
        judge(Some(&self.window.state), &fate)
    }

    fn tags(&self) -> SetTags {
        SetTags {
            frozen_at: self.window.frozen_at,
            thawed_at: self.window.thawed_at,
            window_ms: Some(self.window.window_ms),
            verdict: self.verdict(),
            ..self.ready.tags.clone()
        }
    }

    /// Tells a helper the verdict and waits for it; makes a local set durable.
    async fn finish(&mut self, out: Out) {
        let (r, tags) = (self.ready.clone(), verdict_tags(&self.tags()));
        let done = blocking(move || {
            let told = r.snapshotter.verdict(&r.plan, &tags);
            let bar = Bar::new(out, "checksums");
            (told, r.snapshotter.finish(&r.plan, true, &|p| bar.show(p)).map_err(|e| e.problem()))
        })
        .await;
        self.finished = Some(match done {
            Ok((told, finished)) => {
                self.notes.extend(told.err().map(|e| e.to_string()));
                self.notes.extend(finished.iter().flat_map(|f| f.notes.clone()));
                finished
            }
            Err(p) => Err(p),
        });
    }

    /// The verdict, durable in the catalogue before it is told.
    fn settle(self, out: Out) -> u8 {
        let (ready, window, verdict) = (&self.ready, &self.window, self.verdict());
        let stored = manifest::update(&ready.plan.set, |m, t| {
            let keep = (t.keep_until, t.keep_reason.clone());
            *t = self.tags();
            (t.keep_until, t.keep_reason) = keep;
            m.window = Some(window.clone());
            m.taken = self.taken.as_ref().ok().cloned();
            m.finished = self.finished.as_ref().and_then(|f| f.as_ref().ok()).cloned();
        });
        let code = say_window(window, out);
        say_marks(&ready.tags.instances, out);
        for n in &self.notes {
            out.note(n);
        }
        let problem = if self.was_interrupted {
            Some(Problem::new(Code::Interrupted, Code::Interrupted.says()))
        } else if let Some(p) = self.snapshot_problem() {
            Some(Problem { code: Code::SnapshotFailed, ..p.clone() })
        } else {
            let why = |e| format!("the verdict could not be stored, the set stays pending: {e}");
            stored.err().map(|e| Problem::new(Code::SnapshotFailed, why(e)))
        };
        let code = problem.as_ref().map_or(code, |p| out.problem(p));
        let reason = match &verdict {
            Verdict::Broken(r) => format!(": {r}"),
            Verdict::Pending | Verdict::Held => String::new(),
        };
        out.say(format!("{}  {}  {}{reason}", verdict.word().to_uppercase(), ready.id, ready.plan.set.display()));
        let failed = problem.map(|p| p.code).or((code == exit::BROKEN).then_some(Code::WindowBroken));
        let reply = self.reply(verdict);
        let mut small = json!({ "id": reply.id, "verdict": reply.verdict, "window_ms": reply.window_ms, "journals": reply.journals });
        if let Some(c) = failed {
            small["code"] = json!(c);
        }
        out.answer("backup", &reply, &small);
        code
    }

    fn reply(&self, verdict: Verdict) -> BackupReply {
        let tags = &self.ready.tags;
        BackupReply {
            schema: SCHEMA,
            id: self.ready.id,
            verdict,
            window: self.window.clone(),
            window_ms: self.window.window_ms,
            journals: journals(&tags.instances).into_iter().map(Into::into).collect(),
            produced: self.taken.as_ref().map(|t| t.produced.clone()).unwrap_or_default(),
            volumes: self.ready.volumes.clone(),
            set: self.ready.plan.set.display().to_string(),
            by: tags.by.clone(),
            policy: tags.policy.clone(),
            notes: self.notes.clone(),
        }
    }
}

/// What changes at the verdict.
fn verdict_tags(t: &SetTags) -> BTreeMap<String, String> {
    use tags::name::{NAME, REASON, THAWED_AT, VERDICT, WINDOW_MS};
    let changed = [VERDICT, REASON, THAWED_AT, WINDOW_MS].map(|n| format!("{}{n}", tags::PREFIX));
    let is = |k: &str| k == NAME || changed.iter().any(|c| k == c || k.strip_prefix(c.as_str()).is_some_and(|rest| rest.starts_with('.')));
    to_tags(t).into_iter().filter(|(k, _)| is(k)).collect()
}

/// Not confirmed as thawed. What there is of the set is marked; a person must act now.
fn left(ready: &Ready, p: &Problem, out: Out) -> u8 {
    let _ = manifest::update(&ready.plan.set, |_, t| {
        *t = SetTags { verdict: Verdict::Broken(BrokenReason::VerdictLost), ..ready.tags.clone() };
    });
    let p = match p.code {
        Code::LeftFrozen => p.clone(),
        _ => Problem::new(Code::LeftFrozen, format!("the thaw is not confirmed: {}: {}", p.code, p.detail))
            .next("run `sudo snapfreeze thaw` now"),
    };
    out.fail(Some(ready.id), &p)
}

fn put_marks(tags: &mut SetTags, marks: &[InstanceMarks]) {
    for i in &mut tags.instances {
        let found: Option<&Vec<JournalMark>> = marks.iter().find(|m| m.instance == i.instance).map(|m| &m.marks);
        i.marks = found.cloned().unwrap_or_default();
    }
}
