//! A database that is frozen and thawed by configured commands.

use protocol::InstanceName;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    pub name: InstanceName,
}
