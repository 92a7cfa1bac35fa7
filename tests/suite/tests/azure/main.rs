//! Azure end to end: `snapfreeze-job`, `snapfreezectl` and `snapfreeze-azdisk` as processes, real agents on `iris-sim`, and the double
//! of Azure Resource Manager. Judges are the engine's own history, the snapshots' bytes and the double's record.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the agent's doors")]

mod bad;
mod common;
mod hosted;
mod job;
mod kills;
mod limits;
mod others;
mod points;
mod rights;
