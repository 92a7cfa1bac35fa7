//! A double of Azure Resource Manager, as far as VMs, disks, snapshots, restore points and Run Command go: an HTTP server on a
//! loopback port that answers as Azure documents it, copies real bytes between the acceptance of a snapshot and its success,
//! really runs scripts, knows roles as lists of actions, and injects what goes wrong.
//!
//! It is written after Azure's documents, specifications and the guest's handler, and shares no line with what it tests.
//!
//! ```no_run
//! use cloud_sim::arm::{ArmConfig, ArmDisk, ArmFault, ArmHost, ArmMatch, ArmRule, ArmSim, Vm};
//! let sim = ArmSim::start(ArmConfig::quick("state"))?;
//! let vm = Vm::new("00000000-0000-0000-0000-000000000001", "rg1", "vm1").data_disk(0, ArmDisk::new("data0").dir("bytes/data"));
//! sim.add_host(ArmHost::new(&vm.id()).path("/usr/bin/snapfreeze", "target/debug/snapfreeze"));
//! sim.add_vm(vm);
//! let lost = sim.fault(ArmRule::new(ArmMatch::op("snapshots.put").contains("data0"), ArmFault::LostReply));
//! // … SNAPFREEZE_ARM_ENDPOINT = sim.endpoint(), sim.identity_env() …
//! assert_eq!(sim.hits(lost), 1);
//! # Ok::<(), std::io::Error>(())
//! ```

mod attach;
mod config;
mod control;
mod fault;
mod handle;
mod id;
mod identity;
mod imds;
mod login;
mod lro;
mod page;
mod points;
mod route;
mod run;
mod scripts;
mod serve;
mod sim;
mod snapshots;
mod tags;
mod throttle;
mod tls;
mod vms;
mod wire;
mod world;

pub use config::{ArmConfig, PointsConfig, RunConfig, SnapshotsConfig};
pub use fault::{ArmFault, ArmMatch};
pub use handle::{ArmRule, ArmRuleState, ArmSim};
pub use identity::{ArmPrincipal, of_vm};
pub use points::{Collection as ArmCollection, Point as ArmPoint, PointDisk as ArmPointDisk};
pub use run::ArmRun;
pub use snapshots::ArmSnapshot;
pub use wire::ArmCall;
pub use world::{ArmDisk, ArmHost, Attached, PrePost, Vm};
