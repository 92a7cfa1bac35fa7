//! What a backup needs before its freeze: everything that can fail.

use crate::caller::Caller;
use crate::cli;
use crate::config::{self, Config, HelperCovers};
use crate::layout::{self, HostLayout};
use crate::out::Out;
use doors::clock::wall_now;
use doors::exec::Program;
use protocol::outcome::InstanceMarks;
use protocol::tags::SetTags;
use protocol::wire::{Problem, VolumeFacts};
use protocol::{BackupId, Code};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use storage::catalogue::host::{self, HostFile};
use storage::catalogue::manifest::{self, Manifest};
use storage::cover::{self, Contains, Split};
use storage::snapshot::local::{Local, Prefer};
use storage::snapshot::{Plan, Request, Snapshotter, command};
use storage::sync::SyncSet;

const LAYOUT: Duration = Duration::from_secs(60);
const HELPER_READY_MS: u64 = 60_000;
const HELPER_FINISH_MS: u64 = 600_000;

/// What is ready before the freeze.
pub struct Ready {
    pub id: BackupId,
    pub snapshotter: Arc<dyn Snapshotter>,
    pub plan: Arc<Plan>,
    pub tags: SetTags,
    pub volumes: Vec<VolumeFacts>,
    /// Only for a helper: it sees disks, not our page cache.
    pub sync: Option<SyncSet>,
}

/// Everything that can fail, before anything is frozen.
pub async fn prepare(config: &Config, args: &cli::Backup, id: BackupId, caller: &Caller<'_>, out: Out) -> Result<Ready, Problem> {
    let rules =
        config.window.rules(args.hold).map_err(|e| Problem::new(Code::RefusedHold, e.to_string()).next("ask for a shorter hold"))?;
    let words = helper(config, args)?;
    let to = target(config, args, words.is_some())?;
    if to.join(id.to_string()).symlink_metadata().is_ok() {
        return Err(
            Problem::new(Code::RefusedUsedId, format!("{} has a set with this id already", to.display())).next("use a new backup id")
        );
    }
    let host = caller.client().get::<HostLayout>("/v1/layout", LAYOUT).await?.only(&args.instances);
    let wanted = layout::wanted(&host.instances);
    let seen = layout::read(config, &wanted)?;
    let volumes = layout::volumes(&seen);
    let chosen: Vec<PathBuf> = [&args.paths, &config.backup.paths].into_iter().find(|p| !p.is_empty()).cloned().unwrap_or_default();
    let sources: Vec<_> =
        if chosen.is_empty() { wanted.clone() } else { chosen.iter().map(|p| storage::Wanted::new("external", p)).collect() };
    let trees = Contains::Trees(sources.iter().map(|s| s.path.clone()).collect());
    let is_helper = words.is_some();
    let snapshotter = snapshotter(config, args, words, &volumes)?;
    let mut cover = cover::check(&seen, &trees)?;
    if is_helper && let Some(disks) = disks(config.backup.helper_covers, &seen) {
        cover = cover::check(&seen, &disks)?;
    }
    let request = Request { id, sources, to, hold_ms: rules.hold.ms(), frozen_mounts: vec![] };
    let (s, plan) = blocking(move || {
        let plan = snapshotter.prepare(&request);
        (snapshotter, plan)
    })
    .await?;
    let plan = plan.map_err(|e| e.problem())?;
    let mut tags = tags(id, config, args, &host);
    if is_helper {
        // What a set of all volumes has; a helper that takes others says so in the tags that it writes.
        tags.set_size = u32::try_from(volumes.len()).unwrap_or(u32::MAX).max(1);
    }
    if is_helper {
        let bad = super::restore::image::leave(id, &host).await;
        bad.iter().for_each(|b| out.note(format!("{b}: a restore will need a person")));
    }
    let ready = Ready { id, snapshotter: s, plan: Arc::new(plan), tags, volumes, sync: None };
    match write_before(&ready, &host, is_helper.then_some(&cover.sync)) {
        Ok(sync) => Ok(Ready { sync, ..ready }),
        Err(p) => {
            let _ = ready.snapshotter.abort(&ready.plan); // the first problem is the one to tell
            Err(p)
        }
    }
}

/// Where the set is made. A helper's data lies elsewhere, so that its records need no directory of the operator's.
fn target(config: &Config, args: &cli::Backup, is_helper: bool) -> Result<PathBuf, Problem> {
    let own = config::sets_dir(&config.dirs.state);
    let to = match args.to.as_ref().or(config.backup.to.first()) {
        Some(to) => to.clone(),
        None if is_helper => own.clone(),
        None => {
            return Err(Problem::new(Code::UsageInvalid, "no directory for the set is known")
                .next("name it with --to DIR, or set [backup] to = [\"DIR\"]"));
        }
    };
    if to == own {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&to);
        made.map_err(|e| Problem::new(Code::RefusedNotArmed, format!("{}: {e}", to.display())))?;
    }
    if !to.is_dir() {
        return Err(
            Problem::new(Code::UsageInvalid, format!("{} is no directory", to.display())).next("make it first, owned by root, mode 0700")
        );
    }
    Ok(to)
}

/// Host file and pending manifest, durable before the freeze.
fn write_before(ready: &Ready, host_layout: &HostLayout, sync: Option<&Vec<PathBuf>>) -> Result<Option<SyncSet>, Problem> {
    let instances = serde_json::to_value(&host_layout.instances).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    let file = HostFile::new(ready.id, wall_now(), env!("CARGO_PKG_VERSION"), host_layout.layout.clone(), instances);
    host::write(&ready.plan.set, &file).map_err(|e| e.problem())?;
    manifest::write(&ready.plan.set, &Manifest::new(wall_now(), &ready.tags, &ready.plan)).map_err(|e| e.problem())?;
    sync.map(|mounts| SyncSet::open(mounts)).transpose().map_err(|e| Problem::new(Code::RefusedNotCovered, e.to_string()))
}

fn usage(why: String) -> Problem {
    Problem::new(Code::UsageInvalid, why).next("see `snapfreeze backup --help`")
}

/// Program and arguments of the `command` snapshotter, if that is the one.
fn helper(config: &Config, args: &cli::Backup) -> Result<Option<Vec<String>>, Problem> {
    let words = if args.command.is_empty() { &config.backup.command } else { &args.command };
    match args.snapshotter.as_deref().or(config.backup.snapshotter.as_deref()) {
        None if args.command.is_empty() => Ok(None),
        None | Some("command") if words.is_empty() => Err(usage("the command snapshotter needs --command PROGRAM ARG…".into())),
        None | Some("command") => Ok(Some(words.clone())),
        Some(_) => Ok(None),
    }
}

fn snapshotter(
    config: &Config,
    args: &cli::Backup,
    helper: Option<Vec<String>>,
    volumes: &[VolumeFacts],
) -> Result<Arc<dyn Snapshotter>, Problem> {
    if let Some((program, rest)) = helper.as_deref().and_then(<[String]>::split_first) {
        let volumes = serde_json::to_string(volumes).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
        return Ok(Arc::new(command::Command {
            program: Program::find(program).map_err(|e| usage(e.to_string()))?,
            args: rest.iter().map(Into::into).collect(),
            env: vec![("SNAPFREEZE_VOLUMES".into(), volumes.into())],
            ready_ms: HELPER_READY_MS,
            finish_ms: HELPER_FINISH_MS,
        }));
    }
    let prefer = match args.snapshotter.as_deref().or(config.backup.snapshotter.as_deref()) {
        None | Some("auto") => Prefer::Auto,
        Some("btrfs") => Prefer::Btrfs,
        Some("reflink") => Prefer::Reflink,
        Some("copy") => Prefer::Copy,
        Some(other) => return Err(usage(format!("no snapshotter {other:?}: use auto, btrfs, reflink, copy or command"))),
    };
    Ok(Arc::new(Local { prefer }))
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

fn tags(id: BackupId, config: &Config, args: &cli::Backup, host: &HostLayout) -> SetTags {
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
    t.host = layout::hostname();
    t.scope = "system".into();
    t.roles = host.instances.iter().flat_map(|i| &i.places).map(|p| format!("{:?}", p.role).to_lowercase()).collect();
    t.roles.sort();
    t.roles.dedup();
    t.agent_version = env!("CARGO_PKG_VERSION").into();
    t.by = args.by.clone();
    t.policy = args.policy.clone();
    t.extra = config.tags.clone();
    t
}

pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(f).await.map_err(|_| Problem::new(Code::Internal, "a worker panicked"))
}
