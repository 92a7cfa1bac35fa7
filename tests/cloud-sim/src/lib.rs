//! A double of EC2 and SSM for tests (that of Azure is [`arm`]): one HTTP server on a loopback port that answers as AWS documents it, holds volumes
//! of real bytes, really runs SSM documents, and injects what no emulator injects. README.md says what it models.
//!
//! It is written after AWS's documents and API model and shares no line with the adapters that it tests.
//!
//! ```no_run
//! use cloud_sim::{CloudSim, Config, Fault, Host, Instance, Match, Rule, Volume};
//! let sim = CloudSim::start(Config::quick("state".into()))?;
//! sim.add_instance(Instance::new("i-1").tag("snapfreeze", "yes").volume(Volume::new("vol-1", "/dev/sdf").dir("bytes/data")));
//! sim.add_host(Host::new("i-1").env("SNAPFREEZE_CONFIG", "agent.toml").path("/usr/bin/snapfreeze", "target/debug/snapfreeze"));
//! let lost = sim.fault(Rule::new(Match::action("CreateSnapshots"), Fault::LostReply));
//! // … AWS_ENDPOINT_URL = sim.endpoint() …
//! assert_eq!(sim.hits(lost), 1);
//! # Ok::<(), std::io::Error>(())
//! ```
#![allow(clippy::disallowed_methods, reason = "the double is outside the agent's doors")]

pub mod arm;
mod buckets;
mod clock;
mod config;
mod control;
mod copy;
mod ec2;
mod faults;
mod handle;
mod imds;
mod plug;
mod proxy;
mod record;
mod server;
mod serving;
mod shell;
mod sim;
mod ssm;
mod wire;
mod world;

pub use clock::boot_us;
pub use config::{Config, Ec2Config, SsmConfig};
pub use faults::{Fault, Match, Moment, Rule, RuleState};
pub use handle::CloudSim;
pub use record::{Call, Window};
pub use ssm::commands::InvocationView;
pub use world::{Host, Instance, Snapshot, Volume};
