//! What a test or the command line may set. The defaults are Azure's documented numbers; `quick` makes nobody wait.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArmConfig {
    /// `127.0.0.1:0`: the OS chooses the port. Anything but loopback is refused.
    pub listen: String,
    /// A second port with TLS and a self-signed certificate for `localhost`.
    pub tls: bool,
    /// Snapshots' bytes and the scripts of Run Command lie below it.
    pub state: PathBuf,
    pub tenant: String,
    /// `Retry-After` of every operation that is not done, in seconds. Real: 1 and more; with 0 some clients wait their own default.
    pub retry_after_s: u64,
    /// Resources in a page of a list.
    pub page_size: usize,
    /// A bearer that this double did not give out is somebody who may do everything.
    pub any_token: bool,
    pub token_lifetime_s: u64,
    /// Token buckets of subscription and principal: 200 writes (10/s), 200 deletes (10/s), 250 reads (25/s).
    pub buckets: bool,
    pub snapshots: SnapshotsConfig,
    pub run: RunConfig,
    pub points: PointsConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotsConfig {
    /// From the PUT's 202 until the bytes are copied: the point in time lies anywhere before the operation's success.
    pub copy_after_ms: u64,
    /// From the end of the copy until the operation has succeeded.
    pub finish_after_ms: u64,
    /// PremiumV2 and Ultra: from success until completionPercent is 100.
    pub hydrate_ms: u64,
    /// PATCH and DELETE.
    pub change_ms: u64,
    /// 7 incremental snapshots of a disk in 5 minutes, 500 of a disk, 3 pending of PremiumV2 and Ultra.
    pub limits: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// From the 202 until the script starts, unless the host has its own.
    pub action_deliver_ms: u64,
    pub managed_deliver_ms: u64,
    /// From the script's end until it is told, unless the host has its own.
    pub reply_ms: u64,
    /// The action's own limit.
    pub action_timeout_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PointsConfig {
    /// From the acceptance until the bytes are copied (or the pre-script is called), and from there to the end.
    pub copy_after_ms: u64,
    pub finish_after_ms: u64,
    /// 3 in an hour for a VM.
    pub limits: bool,
}

impl Default for ArmConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".into(),
            tls: false,
            state: PathBuf::from("cloud-sim-arm"),
            tenant: "72f988bf-0000-4000-8000-2d7cd011db47".into(),
            retry_after_s: 1,
            page_size: 100,
            any_token: true,
            token_lifetime_s: 86_400,
            buckets: true,
            snapshots: SnapshotsConfig::default(),
            run: RunConfig::default(),
            points: PointsConfig::default(),
        }
    }
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self { copy_after_ms: 700, finish_after_ms: 1_500, hydrate_ms: 60_000, change_ms: 700, limits: true }
    }
}

impl Default for RunConfig {
    /// "Min ~20 s" for an action.
    fn default() -> Self {
        Self { action_deliver_ms: 12_000, managed_deliver_ms: 4_000, reply_ms: 6_000, action_timeout_ms: 90 * 60_000 }
    }
}

impl Default for PointsConfig {
    fn default() -> Self {
        Self { copy_after_ms: 2_000, finish_after_ms: 3_000, limits: true }
    }
}

impl ArmConfig {
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self { state: state.into(), ..Self::default() }
    }

    /// Short delays, no throttling, no limits of number; `Retry-After: 0`.
    pub fn quick(state: impl Into<PathBuf>) -> Self {
        Self {
            retry_after_s: 0,
            buckets: false,
            snapshots: SnapshotsConfig { copy_after_ms: 20, finish_after_ms: 20, hydrate_ms: 100, change_ms: 10, limits: false },
            run: RunConfig { action_deliver_ms: 20, managed_deliver_ms: 20, reply_ms: 10, ..RunConfig::default() },
            points: PointsConfig { copy_after_ms: 20, finish_after_ms: 20, limits: false },
            ..Self::new(state)
        }
    }
}
