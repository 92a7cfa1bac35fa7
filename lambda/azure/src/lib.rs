//! Azure: the coordinator's ports over managed-disk snapshots and Run Command.
//!
//! `id` names things (Azure's argument orders differ from call to call, so nothing here is a bare string), `credential` and `client`
//! make every call, `fail` says what an error proves, `lro` waits for what a call began; `disks` and `run` are the ports and hold no
//! policy. `job` is the program of a schedule, `azdisk` the helper of a host that holds its own window.

pub mod azdisk;
pub mod client;
pub mod credential;
pub mod disks;
pub mod fail;
pub mod id;
pub mod job;
pub mod lro;
pub mod run;

pub use client::{Arm, Settings};
pub use disks::ManagedDisks;
pub use run::{Mode, RunCommand};
