//! The saga explored: every answer at every step of the pure machine (`pure`), and every fault at every call of the simulated
//! world, with the process killed at every point (`story`). Seeded bugs turn either red.

mod controls;
mod kit;
mod pure;
mod skew;
mod story;
