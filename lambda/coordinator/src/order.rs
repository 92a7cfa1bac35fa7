//! One backup as it was ordered: its id is made once, here, before anything that may be retried.

use crate::{Cloud, Policy};
use protocol::{BackupId, WallMs};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A database host as the cloud names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// EC2 instance id, Azure VM resource id.
    pub id: String,
    /// For people; the cloud's `Name` tag.
    #[serde(default)]
    pub name: String,
}

/// One host, or a group that is frozen together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub schema: u32,
    pub id: BackupId,
    #[serde(default)]
    pub cloud: Cloud,
    /// Who drives this backup, made anew by every run that starts one: a host whose freeze was asked for by another owner is
    /// not ours, even under the same id. That is how a duplicated event cannot make a second set.
    pub owner: String,
    pub policy: Policy,
    pub targets: Vec<Target>,
    /// Not frozen before this moment: the start slot, see `slot`.
    pub slot: WallMs,
    pub made_at: WallMs,
}

/// `FreezeRequest::by` takes 128 characters.
pub const OWNER_MAX: usize = 128;

impl Order {
    /// `execution` names the run (execution name, schedule and time); the same run and targets give the same id.
    /// On EBS, unless [`Order::on`] says otherwise.
    pub fn new(policy: Policy, execution: &str, mut targets: Vec<Target>, nonce: &str, made_at: WallMs, slot: WallMs) -> Self {
        targets.sort();
        let id = derive_id(execution, &targets, made_at);
        let owner: String = format!("{} {nonce}", policy.name).chars().take(OWNER_MAX).collect();
        Self { schema: protocol::SCHEMA, id, cloud: Cloud::default(), owner, policy, targets, slot, made_at }
    }

    pub const fn on(mut self, cloud: Cloud) -> Self {
        self.cloud = cloud;
        self
    }
}

/// UUIDv7 whose random part is a hash of execution and targets, so that a repeated run has the same id when its start is the same.
pub fn derive_id(execution: &str, targets: &[Target], made_at: WallMs) -> BackupId {
    let mut hash = Sha256::new();
    hash.update(execution.as_bytes());
    for t in targets {
        hash.update([0]);
        hash.update(t.id.as_bytes());
    }
    let random: [u8; 10] = std::array::from_fn(|i| hash.clone().finalize()[i]);
    let ms = u64::try_from(made_at.0).unwrap_or(0);
    BackupId::from_uuid(uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(id: &str) -> Target {
        Target { id: id.into(), name: String::new() }
    }

    #[test]
    fn the_same_run_has_the_same_id_and_another_target_another() {
        let at = WallMs(1_764_000_000_123);
        let id = |e: &str, ts: &[Target]| derive_id(e, ts, at);
        assert_eq!(id("run-1", &[t("i-1")]), id("run-1", &[t("i-1")]));
        assert_ne!(id("run-1", &[t("i-1")]), id("run-1", &[t("i-2")]));
        assert_ne!(id("run-1", &[t("i-1")]), id("run-2", &[t("i-1")]));
        assert_ne!(id("run", &[t("i-1"), t("i-2")]), id("run", &[t("i-1i-2")]));
        assert_eq!(id("run-1", &[t("i-1")]).uuid().get_version_num(), 7);
    }
}
