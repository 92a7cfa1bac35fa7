//! The IRIS adapter against `iris-sim`, a working model of an instance. Every return path of a freeze, every rung of the
//! ladder, every way in which a window breaks; each with a look at the model itself, which the adapter cannot see.

#[path = "../contract/rules.rs"]
mod contract;
mod support;

/// The instance, or a test that is over (said by `sim_program`).
macro_rules! sim {
    ($($option:expr),*) => {
        match crate::support::Sim::start(&[$($option),*]) {
            Some(sim) => sim,
            None => return,
        }
    };
}

mod broken;
mod facts;
mod freezing;
mod ladder;
mod question;
mod ways_in;
mod window;
