//! The `[[instance]]` tables of the configuration, checked when they are parsed.

pub use crate::command::CommandConfig;
pub use crate::gtm::GtmConfig;
pub use crate::iris::config::IrisConfig;
use protocol::InstanceName;
use serde::{Deserialize, Serialize};

/// One `[[instance]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "engine", rename_all = "lowercase")]
pub enum InstanceConfig {
    Iris(IrisConfig),
    Cache(IrisConfig),
    Gtm(GtmConfig),
    Command(CommandConfig),
}

impl InstanceConfig {
    pub fn name(&self) -> &InstanceName {
        match self {
            Self::Iris(c) | Self::Cache(c) => &c.name,
            Self::Gtm(c) => &c.name,
            Self::Command(c) => &c.name,
        }
    }
}
