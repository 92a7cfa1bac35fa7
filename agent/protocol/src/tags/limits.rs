//! What a cloud takes as tags. Checked at Admit, so that a tag is never the reason for a failed snapshot call.

use super::VALUE_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    /// Amazon EC2 User Guide, "Tag restrictions": 50 tags, names of 128 and values of 256 characters, no name that begins with `aws:`.
    #[default]
    Ebs,
    /// Azure Resource Manager, "Tag usage and limitations": 50 tags, names of 512 and values of 256 characters, no `<>%&\?/` in names.
    Azure,
}

pub const TAGS_MAX: usize = 50;
const AZURE_FORBIDDEN: &str = "<>%&\\?/";

/// Every broken rule at once: a person corrects them in one go.
pub fn check(tags: &BTreeMap<String, String>, cloud: Cloud) -> Result<(), Vec<Broken>> {
    let mut broken = Vec::new();
    if tags.len() > TAGS_MAX {
        broken.push(Broken::TooMany(tags.len()));
    }
    for (name, value) in tags {
        let longest = match cloud {
            Cloud::Ebs => 128,
            Cloud::Azure => 512,
        };
        if name.is_empty() || name.chars().count() > longest {
            broken.push(Broken::NameLength(name.clone(), longest));
        }
        if value.chars().count() > VALUE_MAX {
            broken.push(Broken::ValueLength(name.clone()));
        }
        match cloud {
            Cloud::Ebs if name.to_ascii_lowercase().starts_with("aws:") => {
                broken.push(Broken::Reserved(name.clone()));
            }
            Cloud::Azure => {
                if let Some(c) = name.chars().find(|c| AZURE_FORBIDDEN.contains(*c)) {
                    broken.push(Broken::Forbidden(name.clone(), c));
                }
            }
            Cloud::Ebs => {}
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("{0} tags, but a snapshot can have {TAGS_MAX}: leave out some of [tags] extra")]
    TooMany(usize),
    #[error("tag name {0:?} must have 1 to {1} characters")]
    NameLength(String, usize),
    #[error("the value of tag {0:?} is longer than {VALUE_MAX} characters")]
    ValueLength(String),
    #[error("tag name {0:?} begins with aws:, which is Amazon's own")]
    Reserved(String),
    #[error("tag name {0:?} contains {1:?}: Azure forbids < > % & \\ ? / in names")]
    Forbidden(String, char),
}
