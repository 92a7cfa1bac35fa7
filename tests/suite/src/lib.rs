//! Fixtures and rules that need more than one crate.

pub mod cloud;
pub mod gtm;
pub mod host;
pub mod house;
pub mod stage;
