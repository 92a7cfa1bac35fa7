//! The saga of one backup, cloud-neutral: Inspect → Freeze → Snapshot → Thaw → Settle.
//!
//! [`saga::Saga`] is the whole of it: a value that can be stored, `next(now)` names the step, `apply(outcome, now)` takes the
//! answer. It does no I/O and reads no clock, so the same code runs whole inside one Lambda invocation, one step per Step
//! Functions task, and from a terminal. [`drive`] carries out steps through the ports of [`ports`].
//!
//! Read `saga` first, then `drive`. What is asked for is an [`order::Order`] made from a [`policy::Policy`]; what may be
//! refused before anything is frozen is in `admit`; what is written on the snapshots in `marks`.
//! Around it: `act` cuts it into the actions of a Lambda; `ops` makes orders from a policy and carries out `prune`, `reap` and
//! `watch`; `sets` reads a catalogue back from tags, `retain` says what may go, `watch` who has been silent for too long;
//! `restore` brings a set's volumes to a host.

pub mod act;
pub mod admit;
pub mod cloud;
pub mod drive;
pub mod fake;
pub mod marks;
pub mod ops;
pub mod order;
pub mod policy;
pub mod ports;
pub mod restore;
pub mod retain;
pub mod saga;
pub mod sets;
pub mod slot;
pub mod span;
pub mod watch;

pub use act::Action;
pub use cloud::Cloud;
pub use order::{Order, Target};
pub use policy::Policy;
pub use saga::{Outcome, Phase, Saga, Step};
