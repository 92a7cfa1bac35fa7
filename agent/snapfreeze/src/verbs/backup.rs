//! `backup`: everything that can fail, then freeze – snapshot – thaw, then the verdict and the catalogue.

use super::freeze::{interrupted, journals, new_id, say_marks, say_window};
use super::progress::Bar;
use crate::caller::Caller;
use crate::cli;
use crate::config::{Config, HelperCovers};
use crate::layout::{self, HostLayout};
use crate::out::{Out, typed};
use crate::points::reach;
use doors::clock::{boot_now, wall_now};
use doors::exec::{Cancel, Program};
use protocol::code::exit;
use protocol::outcome::{InstanceMarks, SnapshotFate, Verdict, judge};
use protocol::tags::{SetTags, to_tags};
use protocol::wire::{FreezeReply, FreezeRequest, Problem};
use protocol::{BackupId, BrokenReason, Code, JournalMark, Window};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use storage::catalogue::host::{self, HostFile};
use storage::catalogue::manifest::{self, Manifest};
use storage::cover::{self, Contains, Split};
use storage::snapshot::local::{Local, Prefer};
use storage::snapshot::{Finished, Moment, Plan, Request, Snapshotter, Taken, command};
use storage::sync::SyncSet;

const LAYOUT: Duration = Duration::from_secs(60);
/// The thaw must have been asked this long before the host thaws by itself.
const SPARE_MS: u64 = 100;
const HELPER_READY_MS: u64 = 60_000;
const HELPER_FINISH_MS: u64 = 600_000;

/// What is ready before the freeze.
struct Ready {
    id: BackupId,
    snapshotter: Arc<dyn Snapshotter>,
    plan: Arc<Plan>,
    tags: SetTags,
    /// Only for a helper: it sees disks, not our page cache.
    sync: Option<SyncSet>,
}

pub async fn backup(config: &Config, args: &cli::Backup, out: Out) -> u8 {
    let caller = Caller::new(config);
    let ready = match prepare(config, args, &caller).await {
        Ok(r) => r,
        Err(p) => return say_problem(args.id, &p, out),
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
            Err(e) => out.problem(&e.problem()),
        };
    }
    let request = FreezeRequest {
        id: ready.id,
        instances: args.instances.clone(),
        hold_ms: args.hold,
        issued_at: None,
        not_after: None,
        by: "backup".into(),
    };
    let frozen = tokio::select! {
        a = caller.freeze(&request) => a,
        () = interrupted() => {
            let code = match caller.thaw(ready.id).await {
                Ok(_) => Problem::new(Code::Interrupted, Code::Interrupted.says()),
                Err(p) if p.code == Code::ThawUnknownId => Problem::new(Code::Interrupted, "interrupted; nothing was frozen"),
                Err(p) => p,
            };
            return give_up(&ready, &code, out);
        }
    };
    match frozen {
        Ok(reply) => in_the_window(&caller, ready, reply, out).await,
        Err(p) => give_up(&ready, &p, out),
    }
}

/// Refused or failed before a snapshot: nothing of the set stays.
fn give_up(ready: &Ready, p: &Problem, out: Out) -> u8 {
    if let Err(e) = ready.snapshotter.abort(&ready.plan) {
        out.note(format!("the unfinished set could not be removed: {e}"));
    }
    say_problem(Some(ready.id), p, out)
}

fn say_problem(id: Option<BackupId>, p: &Problem, out: Out) -> u8 {
    let code = out.problem(p);
    out.marker(&typed("problem", &json!({ "id": id, "code": p.code, "detail": p.detail })));
    code
}

/// Everything that can fail, before anything is frozen.
async fn prepare(config: &Config, args: &cli::Backup, caller: &Caller<'_>) -> Result<Ready, Problem> {
    let id = args.id.unwrap_or_else(new_id);
    let rules =
        config.window.rules(args.hold).map_err(|e| Problem::new(Code::RefusedHold, e.to_string()).next("ask for a shorter hold"))?;
    if !args.to.is_dir() {
        return Err(Problem::new(Code::UsageInvalid, format!("{} is no directory", args.to.display()))
            .next("make it first, owned by root, mode 0700"));
    }
    let mut host: HostLayout = caller.client().get("/v1/layout", LAYOUT).await?;
    if !args.instances.is_empty() {
        host.instances.retain(|i| args.instances.contains(&i.instance));
    }
    let wanted = layout::wanted(&host.instances);
    let seen = storage::layout::read(&storage::layout::Roots::host(), &wanted).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    let chosen: Vec<PathBuf> = [&args.paths, &config.backup.paths].into_iter().find(|p| !p.is_empty()).cloned().unwrap_or_default();
    let sources: Vec<_> =
        if chosen.is_empty() { wanted.clone() } else { chosen.iter().map(|p| storage::Wanted::new("external", p)).collect() };
    let trees = Contains::Trees(sources.iter().map(|s| s.path.clone()).collect());
    let (snapshotter, is_helper) = snapshotter(config, args)?;
    let mut cover = cover::check(&seen, &trees)?;
    if is_helper && let Some(disks) = disks(config.backup.helper_covers, &seen) {
        cover = cover::check(&seen, &disks)?;
    }
    let request = Request { id, sources, to: args.to.clone(), hold_ms: rules.hold.ms(), frozen_mounts: vec![] };
    let (s, plan) = blocking(move || {
        let plan = snapshotter.prepare(&request);
        (snapshotter, plan)
    })
    .await?;
    let plan = plan.map_err(|e| e.problem())?;
    let tags = tags(id, config, &host);
    let ready = Ready { id, snapshotter: s, plan: Arc::new(plan), tags, sync: None };
    match write_before(&ready, &host, is_helper.then_some(&cover.sync)) {
        Ok(sync) => Ok(Ready { sync, ..ready }),
        Err(p) => {
            let _ = ready.snapshotter.abort(&ready.plan); // the first problem is the one to tell
            Err(p)
        }
    }
}

/// Host file and pending manifest, durable before the freeze.
fn write_before(ready: &Ready, host_layout: &HostLayout, sync: Option<&Vec<PathBuf>>) -> Result<Option<SyncSet>, Problem> {
    let instances = serde_json::to_value(&host_layout.instances).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    let file = HostFile::new(ready.id, wall_now(), env!("CARGO_PKG_VERSION"), host_layout.layout.clone(), instances);
    host::write(&ready.plan.set, &file).map_err(|e| e.problem())?;
    manifest::write(&ready.plan.set, &Manifest::new(wall_now(), &ready.tags, &ready.plan)).map_err(|e| e.problem())?;
    sync.map(|mounts| SyncSet::open(mounts)).transpose().map_err(|e| Problem::new(Code::RefusedNotCovered, e.to_string()))
}

fn snapshotter(config: &Config, args: &cli::Backup) -> Result<(Arc<dyn Snapshotter>, bool), Problem> {
    let usage = |why: String| Problem::new(Code::UsageInvalid, why).next("see `snapfreeze backup --help`");
    let kind = args.snapshotter.as_deref().or(config.backup.snapshotter.as_deref());
    let words = if args.command.is_empty() { &config.backup.command } else { &args.command };
    let prefer = match kind {
        None if !args.command.is_empty() => None,
        Some("command") => None,
        None | Some("auto") => Some(Prefer::Auto),
        Some("btrfs") => Some(Prefer::Btrfs),
        Some("reflink") => Some(Prefer::Reflink),
        Some("copy") => Some(Prefer::Copy),
        Some(other) => return Err(usage(format!("no snapshotter {other:?}: use auto, btrfs, reflink, copy or command"))),
    };
    let Some(prefer) = prefer else {
        let (program, rest) = words.split_first().ok_or_else(|| usage("the command snapshotter needs --command PROGRAM ARG…".into()))?;
        let program = Program::find(program).map_err(|e| usage(e.to_string()))?;
        let helper = command::Command {
            program,
            args: rest.iter().map(Into::into).collect(),
            env: vec![],
            ready_ms: HELPER_READY_MS,
            finish_ms: HELPER_FINISH_MS,
        };
        return Ok((Arc::new(helper), true));
    };
    Ok((Arc::new(Local { prefer }), false))
}

/// The disks that a helper takes, in groups of one moment each.
fn disks(covers: HelperCovers, seen: &storage::layout::Layout) -> Option<Contains> {
    let mut all: Vec<String> = seen.mounts.iter().flat_map(|m| m.disks.clone()).collect();
    all.sort();
    all.dedup();
    let groups = match covers {
        HelperCovers::Paths => return None,
        HelperCovers::AllDisks => vec![all],
        HelperCovers::EachDisk => all.into_iter().map(|d| vec![d]).collect(),
    };
    Some(Contains::Disks { groups, split: Split::Refuse })
}

fn tags(id: BackupId, config: &Config, host: &HostLayout) -> SetTags {
    let mut t = SetTags::new(id);
    let join = |f: &dyn Fn(&engine::Facts) -> String| {
        let mut all: Vec<String> = host.instances.iter().filter_map(|i| i.facts.as_ref()).map(f).filter(|s| !s.is_empty()).collect();
        all.dedup();
        all.join(",")
    };
    t.engine = join(&|f| f.engine.clone());
    t.engine_version = join(&|f| f.version.clone());
    t.guid = join(&|f| f.guid.clone().unwrap_or_default());
    t.mirror = join(&|f| f.mirror.as_ref().map(|m| m.name.clone()).unwrap_or_default());
    t.member_role = join(&|f| f.mirror.as_ref().map(|m| m.status.clone()).unwrap_or_default());
    t.instances = host.instances.iter().map(|i| InstanceMarks { instance: i.instance.clone(), marks: vec![] }).collect();
    t.host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    t.scope = "system".into();
    t.roles = host.instances.iter().flat_map(|i| &i.places).map(|p| format!("{:?}", p.role).to_lowercase()).collect();
    t.roles.sort();
    t.roles.dedup();
    t.agent_version = env!("CARGO_PKG_VERSION").into();
    t.by = "backup".into();
    t.extra = config.tags.clone();
    t
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
    let finished = match &taken {
        Ok(_) => finish(&ready, out).await,
        Err(p) => Err(p.clone()),
    };
    settle(&ready, &window, taken, finished, was_interrupted, out)
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

async fn finish(ready: &Arc<Ready>, out: Out) -> Result<Finished, Problem> {
    let r = ready.clone();
    blocking(move || {
        let bar = Bar::new(out, "checksums");
        r.snapshotter.finish(&r.plan, true, &|p| bar.show(p)).map_err(|e| e.problem())
    })
    .await?
}

/// The verdict, durable in the catalogue before it is told.
fn settle(
    ready: &Ready,
    window: &Window,
    taken: Result<Taken, Problem>,
    finished: Result<Finished, Problem>,
    was_interrupted: bool,
    out: Out,
) -> u8 {
    let fate = match (&taken, &finished) {
        (Err(p), _) | (_, Err(p)) => SnapshotFate::Failed(p.detail.clone()),
        (Ok(_), Ok(_)) => SnapshotFate::AcceptedBeforeThaw,
    };
    let mut verdict = judge(Some(&window.state), &fate);
    if was_interrupted {
        verdict = Verdict::Broken(BrokenReason::Interrupted);
    }
    let snapshot_problem = taken.as_ref().err().or(finished.as_ref().err()).cloned();
    let stored = manifest::update(&ready.plan.set, |m, t| {
        let keep = (t.keep_until, t.keep_reason.clone());
        *t = SetTags {
            frozen_at: window.frozen_at,
            thawed_at: window.thawed_at,
            window_ms: Some(window.window_ms),
            verdict: verdict.clone(),
            ..ready.tags.clone()
        };
        (t.keep_until, t.keep_reason) = keep;
        m.window = Some(window.clone());
        m.taken = taken.ok();
        m.finished = finished.ok();
    });
    let code = say_window(window, out);
    say_marks(&ready.tags.instances, out);
    let reason = match &verdict {
        Verdict::Broken(r) => format!(": {r}"),
        Verdict::Pending | Verdict::Held => String::new(),
    };
    let marks = journals(&ready.tags.instances);
    let summary = json!({ "id": ready.id, "verdict": verdict, "window_ms": window.window_ms, "journals": marks });
    out.object(
        "backup",
        &json!({ "id": ready.id, "verdict": verdict, "window_ms": window.window_ms, "journals": marks, "set": ready.plan.set }),
    );
    let code = if was_interrupted {
        out.problem(&Problem::new(Code::Interrupted, Code::Interrupted.says()))
    } else if let Some(p) = snapshot_problem {
        out.problem(&Problem { code: Code::SnapshotFailed, ..p })
    } else if let Err(e) = stored {
        out.problem(&Problem::new(Code::SnapshotFailed, format!("the verdict could not be stored, the set stays pending: {e}")))
    } else {
        code
    };
    out.say(format!("{}  {}  {}{reason}", verdict.word().to_uppercase(), ready.id, ready.plan.set.display()));
    out.marker(&typed("backup", &summary));
    code
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
    say_problem(Some(ready.id), &p, out)
}

fn put_marks(tags: &mut SetTags, marks: &[InstanceMarks]) {
    for i in &mut tags.instances {
        let found: Option<&Vec<JournalMark>> = marks.iter().find(|m| m.instance == i.instance).map(|m| &m.marks);
        i.marks = found.cloned().unwrap_or_default();
    }
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(f).await.map_err(|_| Problem::new(Code::Internal, "a worker panicked"))
}
