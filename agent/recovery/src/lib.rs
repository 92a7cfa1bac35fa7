//! The restore planner, pure: what is kept, what is there and what is wanted -> ordered, explained steps, or what is missing.
//!
//! Read [`wish`] (what can be asked), [`facts`] (what the planner is told), [`step`] (what it answers), then [`iris`], the
//! vendor's procedures ("Data Integrity Guide", External Backup and Restore), and [`gtm`]. [`drill`] is a restore beside everything.
//!
//! Invariants of every plan, held by `tests/plans.rs`:
//! * nothing is overwritten: a file is kept aside before another takes its place, and no step deletes;
//! * from the first start on nobody but the administrator gets in, until the last step lets users connect;
//! * every copy comes before every journal, and a mount before the journals of that database;
//! * the journals begin with `restore_from`, and none between it and the last is missing by its name;
//! * a step may be repeated from its beginning, so that a run can go on from where it was; GT.M's roll-forward may not, and
//!   then says that the run is to be begun anew.

pub mod drill;
pub mod facts;
pub mod gtm;
pub mod iris;
pub mod journals;
pub mod step;
pub mod wish;

pub use drill::{Drill, Lacks};
pub use facts::{Database, Found, Kept, KeptFile, Room};
pub use journals::JournalFile;
pub use step::{Action, Cost, Missing, Plan, Step, Undo};
pub use wish::{Scope, Until, WijUse, Wish};

/// Plans by the engine that made the set. `Err`: everything that is missing, not only the first.
pub fn plan(kept: &Kept, found: &Found, wish: &Wish) -> Result<Plan, Vec<Missing>> {
    match kept.engine.as_str() {
        "iris" | "cache" => iris::plan(kept, found, wish),
        "gtm" => gtm::plan(kept, found, wish),
        other => Err(vec![Missing::new(
            format!("a set of engine {other:?} cannot be restored by this program"),
            "its files lie in the set below data/: restore them by the engine's own manual",
        )]),
    }
}
