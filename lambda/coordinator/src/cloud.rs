//! The numbers in which clouds differ. Everything else about them is behind the ports.

use crate::policy::HeldBy;
pub use protocol::tags::limits::Cloud;

/// One cloud's limits, as its documents give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Volumes that one snapshot call can leave out; `None`: there is a call for each volume.
    pub exclude_max: Option<usize>,
    /// No snapshot of a volume sooner than this after its last one.
    pub per_volume_ms: u64,
    /// Snapshot calls that the cloud refills in an hour, for everybody who shares them.
    pub calls_per_hour: u32,
    /// One call snapshots all volumes of a host, at one moment; otherwise each volume needs its own.
    pub one_call: bool,
    /// Who holds the window where a policy does not say it.
    pub held_by: HeldBy,
    /// The hold where a policy does not say it and the coordinator holds: two hops of the cloud's orders lie in it.
    pub hold_ms: u64,
}

/// EC2 API reference, `InstanceSpecification.ExcludeDataVolumeIds`: at most 40. EC2 error codes,
/// `SnapshotCreationPerVolumeRateExceeded`: wait at least 15 s. EC2 User Guide, "Request throttling for the Amazon EC2 API":
/// CreateSnapshots has a bucket of 100, refilled with 5 a second.
const EBS: Rules = Rules {
    exclude_max: Some(40),
    per_volume_ms: 15_000,
    calls_per_hour: 18_000,
    one_call: true,
    held_by: HeldBy::Coordinator,
    hold_ms: 60_000,
};

/// "Understand how Azure Resource Manager throttles requests": a subscription's writes have a bucket of 200, refilled with 10 a second.
/// A quarter of it: each snapshot brings two tag writes and its share of the Run Commands.
/// A Run Command takes seconds to half a minute each way, so the host holds the window.
/// How many snapshots of a disk are possible (7 in five minutes, 500 in all) is counted by the adapter: `CloudVolume::pending`.
const AZURE: Rules =
    Rules { exclude_max: None, per_volume_ms: 0, calls_per_hour: 9_000, one_call: false, held_by: HeldBy::Host, hold_ms: 180_000 };

pub const fn rules(cloud: Cloud) -> Rules {
    match cloud {
        Cloud::Ebs => EBS,
        Cloud::Azure => AZURE,
    }
}
