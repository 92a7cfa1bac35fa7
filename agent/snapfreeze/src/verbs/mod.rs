//! The verbs of the command line. Each returns its exit code.

pub mod backup;
pub mod catalogue;
pub mod check;
pub mod diagnose;
pub mod freeze;
pub mod help;
pub mod metrics;
mod others;
mod progress;
pub mod status;
pub mod thaw;
