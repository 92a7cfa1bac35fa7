//! Volumes of a set, on their way to a host: which are made, as what, and where they are attached. The plan is pure; `bring` carries
//! it out by ports whose calls may all be repeated, so that a run that was killed goes on when it is begun again.
//!
//! Nothing is ever taken from a host here: what was attached before stays.

use crate::ports::{Berth, Clock, NewVolume, Orders, Snapshot, State, VolumeState, Volumes};
use crate::sets::{Set, SetState};
use crate::{Cloud, Target};
use protocol::tags::SetTags;
use protocol::wire::Problem;
use protocol::{BackupId, BrokenReason, Code, Verdict, WallMs};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Of a set of several hosts: this one's volumes.
    pub host: Option<String>,
    /// A set that is broken or pending; what is torn, the engine's check must find.
    pub even_if_not_held: bool,
    /// EBS, `VolumeInitializationRate`: MiB/s at which blocks are loaded from the store.
    pub rate: Option<u32>,
    /// Another word makes other volumes of the same set for the same host.
    pub again: String,
}

/// What is done. The same set, host and wish give the same plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub id: BackupId,
    /// Names what is made, so that a repetition finds it.
    pub run: String,
    pub target: Target,
    pub held: bool,
    pub volumes: Vec<Planned>,
    /// As the host's agent is told: the tags of the set, one word.
    pub set: String,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    pub new: NewVolume,
    /// Where it is attached: `/dev/sdf`, `lun:3`.
    pub device: String,
}

pub fn plan(cloud: Cloud, set: &Set, target: &Target, berth: &Berth, wish: &Wish) -> Result<Plan, Problem> {
    let impossible = |why: String, next: &str| Problem::new(Code::RestoreImpossible, why).next(next);
    let mut notes = Vec::new();
    match &set.state {
        SetState::Held => {}
        SetState::Completing => {
            let why = format!("the set is being completed ({} %)", set.progress());
            return Err(impossible(why, "wait until `snapfreezectl show` says held"));
        }
        SetState::Pending | SetState::Broken(_) if !wish.even_if_not_held => {
            let why = if let SetState::Broken(why) = &set.state { format!("broken: {why}") } else { "pending, without a verdict".into() };
            return Err(impossible(
                format!("the set is {why}"),
                "take a held one (`snapfreezectl list --state held`), or say --even-if-not-held",
            ));
        }
        SetState::Pending | SetState::Broken(_) => notes.push(format!("the set is {}: nobody vouches for its moment", set.state.word())),
    }
    let (host, members) = of_host(set, wish)?;
    if let Some((s, _)) = members.iter().find(|(s, _)| s.state != State::Completed) {
        return Err(impossible(format!("snapshot {} is not complete", s.snapshot), "wait for it; one that ended in error never will be"));
    }
    let run = run(set.id, target, &host, &wish.again);
    let mut taken: BTreeSet<String> = berth.taken.iter().cloned().collect();
    let mut volumes = Vec::new();
    for (snapshot, tags) in &members {
        let new = NewVolume {
            run: run.clone(),
            snapshot: snapshot.snapshot.clone(),
            kind: Kind::read(tags),
            size_gib: snapshot.size_gib,
            place: berth.place.clone(),
            rate: wish.rate,
            of: format!("{} of {host}, {}", if tags.mount.is_empty() { &tags.device } else { &tags.mount }, set.id),
        };
        let device = free(cloud, &taken)
            .ok_or_else(|| impossible("the host has no place for another volume".into(), "detach what it does not need"))?;
        taken.insert(device.clone());
        volumes.push(Planned { new, device });
    }
    let (_, tags) = members.first().ok_or_else(|| impossible("the set has no snapshots".into(), "snapfreezectl show"))?;
    // What is not whole is not held, whatever the tags of its parts still say.
    let verdict = match (&set.state, &tags.verdict) {
        (SetState::Held, v) => v.clone(),
        (SetState::Broken(why), Verdict::Held) => Verdict::Broken(BrokenReason::SnapshotFailed(why.clone())),
        (_, Verdict::Held) => Verdict::Pending,
        (_, other) => other.clone(),
    };
    let told = protocol::tags::to_tags(&SetTags {
        verdict,
        roles: Vec::new(),
        device: String::new(),
        mount: String::new(),
        volume: String::new(),
        ..tags.clone()
    });
    let text = serde_json::to_string(&told).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    Ok(Plan {
        id: set.id,
        run,
        target: target.clone(),
        held: matches!(set.state, SetState::Held),
        volumes,
        set: protocol::answer::to_word(&text),
        notes,
    })
}

type Member = (Snapshot, SetTags);

/// The snapshots of one host of the set.
fn of_host<'a>(set: &'a Set, wish: &Wish) -> Result<(String, Vec<&'a Member>), Problem> {
    let known = set.hosts.join(", ");
    let host = match (&wish.host, set.hosts.as_slice()) {
        (Some(h), all) if all.contains(h) => h.clone(),
        (Some(h), _) => return Err(Problem::new(Code::UsageInvalid, format!("the set has no host {h}")).next(format!("it has {known}"))),
        (None, [one]) => one.clone(),
        (None, _) => return Err(Problem::new(Code::UsageInvalid, "the set has several hosts").next(format!("--host: one of {known}"))),
    };
    let members = set.snapshots.iter().filter(|(_, t)| t.host == host).collect();
    Ok((host, members))
}

/// Eight letters and digits.
fn run(id: BackupId, target: &Target, host: &str, again: &str) -> String {
    let text = format!("{id}\n{}\n{host}\n{again}", target.id.to_lowercase());
    Sha256::digest(text.as_bytes()).iter().take(4).map(|b| format!("{b:02x}")).collect()
}

/// The next name that nothing has: EC2 User Guide, "Device names for volumes on Amazon EC2 instances"; LUNs of Azure.
fn free(cloud: Cloud, taken: &BTreeSet<String>) -> Option<String> {
    let ends = |name: &str| taken.iter().any(|t| t.trim_start_matches("/dev/").trim_start_matches("xvd").trim_start_matches("sd") == name);
    match cloud {
        Cloud::Ebs => {
            let one = ('f'..='z').map(|c| (c.to_string(), format!("/dev/sd{c}")));
            let two = ('b'..='c').flat_map(|a| ('a'..='z').map(move |b| (format!("{a}{b}"), format!("/dev/xvd{a}{b}"))));
            one.chain(two).find(|(end, _)| !ends(end)).map(|(_, name)| name)
        }
        Cloud::Azure => (0..64).map(|n| format!("lun:{n}")).find(|n| !taken.contains(n)),
    }
}

/// `snapfreeze:volume`, after the volume's name: `gp3 100GiB 3000iops 125MiB/s`, `Premium_LRS 128GiB caching=ReadOnly zone=1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// Empty: the cloud's default.
    pub name: String,
    pub iops: Option<u32>,
    /// MiB/s; Azure: MB/s.
    pub throughput: Option<u32>,
    pub caching: String,
}

impl Kind {
    fn read(tags: &SetTags) -> Self {
        let mut kind = Self::default();
        for word in tags.volume.split_whitespace().skip(1) {
            let number = |end: &str| word.strip_suffix(end).and_then(|n| n.parse().ok());
            if let Some(n) = number("iops") {
                kind.iops = Some(n);
            } else if let Some(n) = number("MiB/s").or_else(|| number("MB/s")) {
                kind.throughput = Some(n);
            } else if let Some(c) = word.strip_prefix("caching=") {
                kind.caching = c.into();
            } else if kind.name.is_empty() && !word.contains('=') && number("GiB").is_none() {
                kind.name = word.into();
            }
        }
        kind
    }
}

/// Hears of each step.
pub type Say<'a> = &'a (dyn Fn(&Planned, &str) + Sync);

const LOOK_AGAIN_MS: i64 = 1_000;
/// A volume is there within seconds, and attached within a minute; what takes this long does not come.
const WITHIN_MS: i64 = 15 * 60_000;

/// Makes and attaches what is not yet so. The names by which the host's agent finds them, in the plan's order.
pub async fn bring(plan: &Plan, volumes: &impl Volumes, clock: &impl Clock, say: Say<'_>) -> Result<Vec<String>, Problem> {
    let by = WallMs(clock.now().0 + WITHIN_MS);
    let before = volumes.made(plan).await?;
    let mut all: Vec<(Planned, String)> = Vec::new();
    for p in &plan.volumes {
        // One that an earlier try attached keeps its place.
        let volume = match before.iter().find(|b| b.snapshot == p.new.snapshot) {
            Some(b) => {
                say(p, &format!("{} is there", b.volume));
                let device = b.device.clone().unwrap_or_else(|| p.device.clone());
                all.push((Planned { device, ..p.clone() }, b.volume.clone()));
                continue;
            }
            None => volumes.make(&plan.target, p).await?,
        };
        say(p, &format!("{volume} is being made"));
        all.push((p.clone(), volume));
    }
    loop {
        let states = volumes.made(plan).await?;
        let of = |volume: &str| states.iter().find(|s| s.volume == volume);
        if let Some(bad) =
            all.iter().filter_map(|(_, v)| of(v)).find(|s| matches!(s.state, VolumeState::Failed(_) | VolumeState::Elsewhere(_)))
        {
            let why = match &bad.state {
                VolumeState::Failed(why) => format!("{} could not be made: {why}", bad.volume),
                VolumeState::Elsewhere(host) => format!("{} is attached to {host}", bad.volume),
                VolumeState::Making | VolumeState::Ready | VolumeState::Attaching | VolumeState::Attached => String::new(),
            };
            return Err(Problem::new(Code::CloudRefused, why).next("remove it, then run the same again; --again WORD makes other volumes"));
        }
        if all.iter().all(|(_, v)| of(v).is_some_and(|s| s.state == VolumeState::Attached)) {
            all.iter().for_each(|(p, v)| say(p, &format!("{v} is attached")));
            return Ok(all.iter().map(|(p, v)| volumes.key(p, v)).collect());
        }
        let ready: Vec<(Planned, String)> =
            all.iter().filter(|(_, v)| of(v).is_some_and(|s| s.state == VolumeState::Ready)).cloned().collect();
        if !ready.is_empty() {
            volumes.attach(&plan.target, &ready).await?;
        }
        if clock.now() > by {
            return Err(
                Problem::new(Code::CloudRefused, "the volumes were not attached in time").next("look at them, then run the same again")
            );
        }
        clock.sleep_until(WallMs(clock.now().0 + LOOK_AGAIN_MS)).await;
    }
}

/// One step of the host's own restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOrder {
    pub id: BackupId,
    pub step: HostStep,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostStep {
    /// The volumes, by the agent's names, and the set's tags.
    Mount {
        volumes: Vec<String>,
        set: String,
    },
    /// Of the mounted set; what the host would do.
    Plan(HostWish),
    Run(HostWish),
    Unmount,
}

/// `snapfreeze restore`'s own arguments, as far as they cross a cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostWish {
    /// `end`, `backup`, or a journal's name.
    pub until: String,
    pub without_wij: bool,
    pub everything: bool,
    pub even_if_not_held: bool,
}

impl HostStep {
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Mount { .. } => "mount",
            Self::Plan(_) => "plan",
            Self::Run(_) => "run",
            Self::Unmount => "unmount",
        }
    }

    /// Name and value of everything else. No value has more than letters, digits and ` _.:-`.
    pub fn values(&self) -> Vec<(&'static str, String)> {
        let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
        match self {
            Self::Mount { volumes, set } => vec![("volumes", volumes.join(" ")), ("set", set.clone())],
            Self::Plan(w) | Self::Run(w) => vec![
                ("until", w.until.clone()),
                ("wij", if w.without_wij { "without" } else { "backup" }.into()),
                ("everything", yes(w.everything)),
                ("evenIfNotHeld", yes(w.even_if_not_held)),
            ],
            Self::Unmount => Vec::new(),
        }
    }
}

/// Orders the host; its answer, or its problem.
pub async fn order(hosts: &impl Orders, target: &Target, id: BackupId, step: HostStep, by: WallMs) -> Result<serde_json::Value, Problem> {
    hosts.restore(target, &RestoreOrder { id, step }, by).await
}

#[cfg(test)]
mod tests;
