//! The double of ARM, held to what Azure's own clients make of it and to the published descriptions of its API.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

mod az;
mod prism;
mod same;
mod sdk;
mod stage;
