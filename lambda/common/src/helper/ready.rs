//! Everything before the freeze, and the one call inside the window.

use super::Tags;
use super::settle::{Taken, tag};
use coordinator::Target;
use coordinator::cloud::{Cloud, rules};
use coordinator::ports::{Clock, CloudVolume, Disks, SnapshotAnswer, SnapshotCall};
use protocol::tags::limits::check;
use protocol::tags::{SetTags, name, to_tags};
use protocol::wire::{Problem, VolumeFacts};
use protocol::{BackupId, Code, HoldMs, WallMs};
use std::str::FromStr;

/// A look takes four calls; a few seconds at worst.
const LOOK_WITHIN_MS: i64 = 30_000;
/// Not in the contract's list: for IAM, which lets an instance write tags only where its own id stands.
pub const INSTANCE_ID: &str = "instance-id";

/// What is to be snapshotted, and by which cloud's rules.
#[derive(Clone, Debug)]
pub struct Place {
    pub cloud: Cloud,
    /// This host, as the cloud names it.
    pub host: Target,
    pub exclude_boot: bool,
    /// By either name, see `CloudVolume::named`.
    pub exclude_volumes: Vec<String>,
    /// What the snapshot call may take at most; milliseconds.
    pub snapshot_ms: u64,
    /// On every snapshot, beside what the agent says.
    pub tags: Tags,
}

/// What the agent says about the backup, in the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub id: BackupId,
    pub hold: HoldMs,
    /// Volumes that carry the databases. `None`: the agent is too old to say.
    pub volumes: Option<Vec<VolumeFacts>>,
}

impl Given {
    /// `get`: the environment.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let bad = |name: &str, why: String| {
            Problem::new(Code::UsageInvalid, format!("{name}: {why}")).next("run it by `snapfreeze backup --snapshotter command`")
        };
        let must = |name: &str| get(name).ok_or_else(|| bad(name, "is not set".into()));
        let id = BackupId::from_str(&must("SNAPFREEZE_ID")?).map_err(|e| bad("SNAPFREEZE_ID", e.to_string()))?;
        let hold = must("SNAPFREEZE_HOLD_MS")?.parse::<u64>().map_err(|e| bad("SNAPFREEZE_HOLD_MS", e.to_string()))?;
        let hold = HoldMs::new(hold).map_err(|e| bad("SNAPFREEZE_HOLD_MS", e.to_string()))?;
        let volumes = get("SNAPFREEZE_VOLUMES").map(|v| serde_json::from_str(&v)).transpose();
        Ok(Self { id, hold, volumes: volumes.map_err(|e| bad("SNAPFREEZE_VOLUMES", e.to_string()))? })
    }
}

/// The snapshot call can be sent, once.
pub struct Ready<'a, D, C> {
    pub(super) given: Given,
    /// What the agent should reckon with.
    pub(super) ms: u64,
    disks: &'a D,
    clock: &'a C,
    place: Place,
    /// All that are attached.
    attached: Vec<CloudVolume>,
}

impl<'a, D: Disks, C: Clock> Ready<'a, D, C> {
    /// Looks twice: the first look pays for credentials and TLS, the second is what a call takes.
    pub async fn new(disks: &'a D, clock: &'a C, place: Place, given: Given) -> Result<Self, Problem> {
        let mut ready = Self { ms: place.snapshot_ms, place, attached: Vec::new(), given, disks, clock };
        ready.look().await?;
        ready.admit()?;
        let before = clock.now();
        ready.look().await?;
        ready.admit()?;
        let took = u64::try_from(clock.now().0 - before.0).unwrap_or(0);
        ready.ms = ready.ms.max(took);
        // By the cloud's name; a volume that was detached meanwhile is none that could be excluded.
        let out = |v: &&CloudVolume| !v.boot && v.named(&ready.place.exclude_volumes);
        ready.place.exclude_volumes = ready.attached.iter().filter(out).map(|v| v.volume.clone()).collect();
        Ok(ready)
    }

    async fn look(&mut self) -> Result<(), Problem> {
        let by = WallMs(self.clock.now().0 + LOOK_WITHIN_MS);
        let trial = self.call(to_tags(&SetTags::new(self.given.id)), by);
        let look = self.disks.look(&self.place.host, &trial).await?;
        match look.problem {
            Some(p) => Err(p),
            None => {
                self.attached = look.volumes;
                Ok(())
            }
        }
    }

    fn taken(&self) -> impl Iterator<Item = &CloudVolume> {
        self.attached.iter().filter(|v| if v.boot { !self.place.exclude_boot } else { !v.named(&self.place.exclude_volumes) })
    }

    /// The coordinator's rules (`coordinator::admit`), for backups that have none.
    fn admit(&self) -> Result<(), Problem> {
        let set: Vec<&CloudVolume> = self.taken().collect();
        let refuse = |detail: String, next: &str| Err(Problem::new(Code::CloudRefused, detail).next(next));
        let uncovered = |detail: String, next: &str| Err(Problem::new(Code::RefusedNotCovered, detail).next(next));
        if set.is_empty() {
            return refuse("no volume is left to be snapshotted".into(), "exclude fewer volumes");
        }
        let rules = rules(self.place.cloud);
        let excluded = self.place.exclude_volumes.len();
        if let Some(max) = rules.exclude_max.filter(|max| excluded > *max) {
            return refuse(format!("{excluded} volumes to exclude, the call takes {max}"), "exclude fewer volumes");
        }
        if let Some(v) = set.iter().find(|v| v.pending >= v.pending_max) {
            let detail = format!("{} has {} snapshots that are still pending; {} may be", v.volume, v.pending, v.pending_max);
            return refuse(detail, "wait until they are complete");
        }
        let now = self.clock.now();
        let young = |v: &&&CloudVolume| v.last_snapshot.is_some_and(|at| now.0 - at.0 < i64::try_from(rules.per_volume_ms).unwrap_or(0));
        if let Some(v) = set.iter().find(young) {
            return refuse(format!("{} was snapshotted less than {} s ago", v.volume, rules.per_volume_ms / 1000), "wait a moment");
        }
        match &self.given.volumes {
            None if self.place.exclude_boot || !self.place.exclude_volumes.is_empty() => uncovered(
                "the agent does not say on which volumes the databases lie, so none can be left out".into(),
                "use an agent of this version, or exclude nothing",
            ),
            None => Ok(()),
            Some(all) if all.is_empty() => {
                uncovered("the agent cannot tell on which volumes the databases lie".into(), "snapfreeze check; docs/ebs-helper.md")
            }
            Some(all) => match all.iter().find(|f| !set.iter().any(|v| v.key == f.volume)) {
                None => Ok(()),
                Some(f) => uncovered(
                    format!("{} ({}, {}) carries the databases and is not in the set", f.volume, f.device, f.mounts.join(", ")),
                    "exclude it no longer, or move the data",
                ),
            },
        }
    }

    fn call(&self, tags: Tags, answer_by: WallMs) -> SnapshotCall {
        let mut tags = tags;
        tags.extend(self.place.tags.clone());
        let Place { exclude_boot, exclude_volumes, .. } = &self.place;
        SnapshotCall {
            id: self.given.id,
            exclude_boot: *exclude_boot,
            exclude_volumes: exclude_volumes.clone(),
            snapshotter: coordinator::policy::Snapshotter::Disks,
            tags,
            answer_by,
        }
    }

    /// The one call. It is given up when the hold must be over; whatever it made then is for `reap`.
    pub(super) async fn take(self, mut tags: Tags) -> Result<Taken<'a, D>, Problem> {
        let failed = |detail: String| Problem::new(Code::SnapshotFailed, detail);
        // Of the whole set on the host; each snapshot gets its own volume's after the window.
        tags.retain(|k, _| ![name::ROLES, name::DEVICE, name::MOUNT, name::VOLUME].iter().any(|n| is_part(k, n)));
        let size = self.taken().count();
        tags.insert(tag(name::SET_SIZE), size.to_string());
        let by = WallMs(self.clock.now().0.saturating_add(i64::try_from(self.given.hold.ms()).unwrap_or(i64::MAX)));
        let call = self.call(tags, by);
        check(&call.tags, self.place.cloud).map_err(|broken| {
            let why: Vec<String> = broken.iter().map(ToString::to_string).collect();
            failed(format!("the tags do not fit, no snapshot was made: {}", why.join("; ")))
        })?;
        match self.disks.snapshot(&self.place.host, &call).await {
            SnapshotAnswer::Accepted(made) if made.len() == size => Ok(Taken {
                disks: self.disks,
                made,
                tags: call.tags,
                attached: self.attached,
                on_host: self.given.volumes.unwrap_or_default(),
            }),
            SnapshotAnswer::Accepted(made) => Err(failed(format!("{} snapshots were made of {size} volumes", made.len()))),
            SnapshotAnswer::Failed(p) => Err(Problem { code: Code::SnapshotFailed, ..p }),
            SnapshotAnswer::Unknown(why) => Err(failed(why)),
        }
    }
}

/// `snapfreeze:roles`, `snapfreeze:roles.2`.
fn is_part(key: &str, name: &str) -> bool {
    let rest = key.strip_prefix(&tag(name));
    rest.is_some_and(|r| r.is_empty() || r.strip_prefix('.').is_some_and(|n| n.parse::<u32>().is_ok()))
}
