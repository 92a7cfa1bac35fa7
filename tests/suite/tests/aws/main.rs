//! The coordinator's programs, the documents and the templates against hosts with real agents, in clouds that other people
//! wrote (moto, ministack) and in a double that injects what they do not.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

mod backup;
mod bad;
mod common;
mod deploy;
mod documents;
mod fleet50;
mod hosted;
mod kills;
mod machine;
mod moved;
