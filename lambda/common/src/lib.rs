//! What every cloud's adapter needs around the pure coordinator, and no cloud in it.
//!
//! `clock` is the wall clock, `limiter` paces a process's calls, `answers` reads what a command on a host printed, `helper` is the
//! talk of a program that makes the snapshots of a host-held backup, `report` what a process logs.

pub mod answers;
pub mod clock;
mod exit;
pub mod helper;
pub mod limiter;
pub mod report;

pub use clock::WallClock;
pub use exit::worst;
pub use limiter::Limiter;
