//! What a test or the command line may set. The defaults are AWS's documented numbers and no latency.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `127.0.0.1:0`: the OS chooses the port. Anything but loopback is refused.
    pub listen: String,
    /// Snapshots' bytes and the scripts of commands lie below it.
    pub state: PathBuf,
    /// `http://127.0.0.1:PORT` of moto: EC2, documents and everything that is neither SSM commands nor Lambda go there.
    pub upstream: Option<String>,
    /// `http://127.0.0.1:PORT` of ministack: `/2015-03-31/functions/…` goes there.
    pub lambda: Option<String>,
    pub region: String,
    pub account: String,
    pub ec2: Ec2Config,
    pub ssm: SsmConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ec2Config {
    /// Before and after the copy of the bytes, inside CreateSnapshot and CreateSnapshots.
    pub before_copy_ms: u64,
    pub after_copy_ms: u64,
    /// `pending` → `completed`, from the call's start.
    pub complete_after_ms: u64,
    /// A new snapshot is seen by DescribeSnapshots only then (EC2 is eventually consistent).
    pub visible_after_ms: u64,
    /// "Wait at least 15 seconds between concurrent volume snapshots"; 0 switches it off.
    pub per_volume_rate_ms: u64,
    /// 5 pending snapshots per volume, 1 for st1 and sc1.
    pub pending_limits: bool,
    /// The token buckets of the API.
    pub buckets: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SsmConfig {
    /// From SendCommand's reply until the host runs it; a host may have its own.
    pub deliver_ms: u64,
    /// From the script's end until the result is seen.
    pub reply_ms: u64,
    /// GetCommandInvocation answers InvocationDoesNotExist until then.
    pub visible_after_ms: u64,
    /// Instead of TimeoutSeconds + the document's timeoutSeconds: nobody waits 30 s in a test.
    pub delivery_timeout_ms: Option<u64>,
    /// Instead of the steps' timeoutSeconds.
    pub execution_timeout_ms: Option<u64>,
    /// Commands that a host runs at once (the agent's `Mds.CommandWorkersLimit`); the next ones queue.
    pub workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".into(),
            state: PathBuf::from("cloud-sim"),
            upstream: None,
            lambda: None,
            region: "us-east-1".into(),
            account: "123456789012".into(),
            ec2: Ec2Config::default(),
            ssm: SsmConfig::default(),
        }
    }
}

impl Default for Ec2Config {
    fn default() -> Self {
        Self {
            before_copy_ms: 0,
            after_copy_ms: 0,
            complete_after_ms: 300,
            visible_after_ms: 0,
            per_volume_rate_ms: 15_000,
            pending_limits: true,
            buckets: true,
        }
    }
}

impl Default for SsmConfig {
    fn default() -> Self {
        Self { deliver_ms: 0, reply_ms: 0, visible_after_ms: 200, delivery_timeout_ms: None, execution_timeout_ms: None, workers: 5 }
    }
}

impl Config {
    pub fn new(state: PathBuf) -> Self {
        Self { state, ..Self::default() }
    }

    /// No throttling, no spacing of snapshots, nothing that makes a test wait.
    pub fn quick(state: PathBuf) -> Self {
        let mut config = Self::new(state);
        config.ec2 = Ec2Config { per_volume_rate_ms: 0, pending_limits: false, buckets: false, complete_after_ms: 50, ..config.ec2 };
        config.ssm.visible_after_ms = 20;
        config.ssm.delivery_timeout_ms = Some(1_000);
        config
    }
}
