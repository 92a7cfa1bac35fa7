//! `iris-sim`: a small working model of an InterSystems IRIS (or Caché) instance, the database under test.
//!
//! Reading order: [`store`] (what lies on disk), [`instance`] (buffers, write daemon, journal daemon, recovery,
//! freeze and thaw as one single-threaded core), [`server`] (the core behind a socket), [`cli`] (the
//! vendor's programs), [`objectscript`] (scripts on standard input), [`verify`] (clean or torn, from files
//! alone), [`torn`] (seeded interleavings of write daemon and copier in one process).
//!
//! Invariants:
//! * a database block reaches its file only from a write image journal (WIJ) that is complete on disk,
//!   except by the write daemon's panic, which is a fault;
//! * a journal record is on disk before the block that it explains;
//! * while the write daemon is suspended no database block, label or WIJ byte changes;
//! * every change of suspension is appended to the history, which only tests read.

#![allow(clippy::disallowed_methods, reason = "the model is outside the agent's doors")]

pub mod cli;
pub mod clock;
pub mod config;
mod configured;
pub mod history;
pub mod instance;
pub mod messages;
pub mod objectscript;
pub mod proto;
pub mod registry;
pub mod server;
pub mod store;
pub mod torn;
pub mod verify;
pub mod workload;
