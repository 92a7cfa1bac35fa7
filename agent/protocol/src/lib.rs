//! What agent, command line and coordinator say to each other: data, no I/O, no clock.
//!
//! Read `window` for the rules of a window, `outcome` for what is said about one afterwards,
//! `code` for every refusal and failure with its exit code, `wire` for the agent API, `answer` for what comes back over SSM.

pub mod answer;
pub mod code;
pub mod ids;
pub mod mark;
pub mod outcome;
pub mod proof;
pub mod retain;
pub mod shipped;
pub mod tags;
pub mod time;
pub mod window;
pub mod wire;

pub use code::Code;
pub use ids::{BackupId, InstanceName};
pub use mark::JournalMark;
pub use outcome::{BrokenReason, Verdict, Window, WindowState};
pub use proof::{Disturbed, Known, Proof};
pub use time::{BootId, BootMs, WallMs};
pub use window::{HoldMs, OnOverrun, WindowRules};

/// Version of every stored or sent shape of this crate: tags, API bodies, manifests, journal entries.
pub const SCHEMA: u32 = 1;
