//! The verbs of the command line. Each returns its exit code.

pub mod freeze;
pub mod metrics;
pub mod status;
pub mod thaw;
