//! The double of ARM, asked by a plain HTTP client: what it answers, what it does, and every fault.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the doors")]

mod faults;
mod identity;
mod lists;
mod points;
mod program;
mod run;
mod snapshots;
mod stage;
