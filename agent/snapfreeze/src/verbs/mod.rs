//! The verbs of the command line. Each returns its exit code.

pub mod backup;
pub mod catalogue;
pub mod check;
pub mod diagnose;
pub mod drill;
pub mod facts;
pub mod freeze;
mod guard;
pub mod help;
pub mod hook;
pub mod journals;
pub mod metrics;
mod others;
mod pages;
mod prepare;
mod progress;
pub mod restore;
pub mod status;
pub mod thaw;
