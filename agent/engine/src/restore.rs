//! What a restore asks of an engine: what is there, and one step of a plan at a time. Files that the engine does not touch
//! are moved and copied by the runner; everything here may be repeated from its beginning.

use crate::{Error, InstanceConfig, gtm, iris};
use recovery::{Action, Found};

/// Hears what a long step is doing, a line at a time.
pub type Say<'a> = &'a dyn Fn(&str);

/// The restoring side of one instance. `iris` and `gtm` implement it; a model instance and a real GT.M are their tests.
pub trait Restorer: Send + Sync {
    /// Everything but `present` and `room`, which are questions to the file system. Changes nothing.
    fn found(&self) -> Result<Found, Error>;
    /// Carries one step out, and sees that it is done. What it says is for the record.
    fn act(&self, action: &Action, say: Say<'_>) -> Result<String, Failed>;
}

/// A step that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failed {
    pub why: String,
    /// What the person does next; empty: repeat the run, it goes on from this step.
    pub next: String,
    /// The first recovery did not end well: nothing of the restore has been changed yet.
    pub recovery: bool,
    /// The run cannot go on: `next` says how to begin anew.
    pub anew: bool,
}

impl Failed {
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), next: String::new(), recovery: false, anew: false }
    }
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), ..self }
    }
    pub fn anew(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), anew: true, ..self }
    }
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Self::new(e.to_string())
    }
}

/// `None`: this engine's sets are restored by hand.
pub fn restorer(config: &InstanceConfig) -> Result<Option<Box<dyn Restorer>>, Error> {
    Ok(match config {
        InstanceConfig::Iris(c) => Some(Box::new(iris::Iris::open(c, iris::Product::Iris)?)),
        InstanceConfig::Cache(c) => Some(Box::new(iris::Iris::open(c, iris::Product::Cache)?)),
        InstanceConfig::Gtm(c) => Some(Box::new(gtm::Gtm::new(c.clone())?)),
        InstanceConfig::Command(_) => None,
    })
}
