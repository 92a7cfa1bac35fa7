//! After the window: tags per volume, and the verdict with one call, last.

use super::{Tags, fail, say};
use coordinator::ports::{CloudVolume, Disks, Made, State};
use protocol::code::exit;
use protocol::tags::{PREFIX, SetTags, from_tags, name, to_tags};
use protocol::wire::{Problem, VolumeFacts};
use protocol::{BrokenReason, Code, Verdict};

/// The set that was made.
pub struct Taken<'a, D> {
    pub(super) disks: &'a D,
    pub(super) made: Vec<Made>,
    /// As they were in the call.
    pub(super) tags: Tags,
    pub(super) attached: Vec<CloudVolume>,
    pub(super) on_host: Vec<VolumeFacts>,
}

impl<D: Disks> Taken<'_, D> {
    /// `verdict`: the agent's; `None`: it was never heard.
    pub(super) async fn settle(self, verdict: Option<Tags>) -> u8 {
        let ids: Vec<String> = self.made.iter().map(|m| m.snapshot.clone()).collect();
        for m in &self.made {
            if let Err(p) = self.disks.tag(std::slice::from_ref(&m.snapshot), &self.of_volume(m)).await {
                say(&format!("NOTE {}: what a restore must know of {} could not be tagged: {}", m.snapshot, m.volume, one_line(&p)));
            }
        }
        let heard = verdict.is_some();
        let mut verdict = verdict.unwrap_or_else(|| self.broken(BrokenReason::VerdictLost));
        let failed = self.came_to_nothing().await;
        if let Some(why) = failed.clone() {
            say(&format!("FAILED {why}"));
            verdict.extend(self.broken(BrokenReason::SnapshotFailed(why)));
        }
        match self.disks.tag(&ids, &verdict).await {
            Ok(()) if failed.is_some() => exit::SNAPSHOT_FAILED,
            Ok(()) if heard => exit::DONE,
            Ok(()) => fail(&Problem::new(Code::Internal, "the agent told no verdict: the set is marked broken")),
            Err(p) => {
                say(&format!("NOTE the verdict could not be written, the set stays pending: {}", one_line(&p)));
                fail(&Problem::new(Code::Internal, format!("the verdict could not be written: {}", p.detail)))
            }
        }
    }

    /// A snapshot that is known to have failed. That it cannot be asked proves nothing: the catalogue looks again.
    async fn came_to_nothing(&self) -> Option<String> {
        let id = from_tags(&self.tags).ok()?.backup_id;
        let all = self.disks.find(id).await.ok()?;
        let bad = all.iter().find(|s| s.state == State::Failed && self.made.iter().any(|m| m.snapshot == s.snapshot))?;
        Some(format!("{} of {} ended in error", bad.snapshot, bad.volume))
    }

    fn of_volume(&self, m: &Made) -> Tags {
        let in_cloud = self.attached.iter().find(|v| v.volume == m.volume);
        let on_host = in_cloud.and_then(|c| self.on_host.iter().find(|v| v.volume == c.key));
        let Ok(mut t) = from_tags(&self.tags) else { return Tags::new() };
        t.extra.clear();
        t.device = [on_host.map(|v| v.device.as_str()), in_cloud.map(|v| v.device.as_str())]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" as ");
        t.mount = on_host.map(|v| v.mounts.join(",")).unwrap_or_default();
        t.roles = on_host.map(|v| v.roles.clone()).unwrap_or_default();
        t.volume = in_cloud.map(|v| format!("{} {}", v.volume, v.kind)).unwrap_or_default();
        only(&t, &[name::DEVICE, name::MOUNT, name::ROLES, name::VOLUME])
    }

    fn broken(&self, why: BrokenReason) -> Tags {
        let Ok(mut t) = from_tags(&self.tags) else { return Tags::new() };
        t.verdict = Verdict::Broken(why);
        let mut tags = only(&t, &[name::VERDICT, name::REASON]);
        tags.insert(name::NAME.into(), t.display_name());
        tags
    }
}

/// Of these names alone, in parts where they are long.
fn only(t: &SetTags, names: &[&str]) -> Tags {
    to_tags(t)
        .into_iter()
        .filter(|(k, _)| names.iter().any(|n| k.strip_prefix(&tag(n)).is_some_and(|r| r.is_empty() || r.starts_with('.'))))
        .collect()
}

pub(super) fn tag(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn one_line(p: &Problem) -> String {
    p.detail.replace('\n', " ")
}
