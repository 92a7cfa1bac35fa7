//! Fixtures and rules that need more than one crate.

pub mod gtm;
