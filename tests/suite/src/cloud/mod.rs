//! A cloud for tests: hosts with real agents and databases, reached by real SSM documents, whose volumes are directories of
//! real bytes; and the programs of ours that work on it, as processes.
//!
//! What happened is told by the database's own history and by the bytes of the snapshots, never by the programs under test.

pub mod azure;
pub mod azure_tools;
pub mod fleet;
pub mod programs;
pub mod stacks;
pub mod tools;

pub use fleet::{Fleet, Member};
