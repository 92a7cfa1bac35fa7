//! One file per group of verbs; generic over the coordinator's ports.

pub mod catalogue;
pub mod help;
pub mod keep;
pub mod report;
pub mod restore;
pub mod tidy;
