//! Tags: AWS's limits, TagSpecifications, CreateTags, DeleteTags.

use super::query::Query;
use crate::wire::Fail;
use crate::world::{Tags, World};

/// "Tag your Amazon EC2 resources": 50 per resource, key 127 (the EC2 API's text) and value 256 characters, no `aws:`.
const PER_RESOURCE: usize = 50;
const KEY: usize = 127;
const VALUE: usize = 256;
/// CreateTags: "up to 1000 resources".
const RESOURCES: usize = 1000;

pub fn check(tags: &Tags) -> Result<(), Fail> {
    for (key, value) in tags {
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(Fail::new("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use"));
        }
        if key.is_empty() || key.chars().count() > KEY {
            return Err(Fail::new("InvalidParameterValue", format!("Tag key exceeds the maximum length of {KEY} characters: {key}")));
        }
        if value.chars().count() > VALUE {
            return Err(Fail::new("InvalidParameterValue", format!("Tag value exceeds the maximum length of {VALUE} characters: {value}")));
        }
    }
    if tags.len() > PER_RESOURCE {
        return Err(Fail::new("TagLimitExceeded", format!("More than {PER_RESOURCE} tags specified")));
    }
    Ok(())
}

fn pairs(query: &Query) -> Tags {
    let pair = |t: &Query| (t.get("Key").unwrap_or_default().to_owned(), t.get("Value").unwrap_or_default().to_owned());
    query.groups("Tag").iter().map(pair).collect()
}

/// CreateTags as it came, before anything else is known.
pub fn check_request(query: &Query) -> Result<(), Fail> {
    check(&pairs(query))
}

/// Of snapshots.
pub fn specified(query: &Query) -> Result<Tags, Fail> {
    of_kind("snapshot", query)
}

/// Of what is made by the call.
pub fn of_kind(resource: &str, query: &Query) -> Result<Tags, Fail> {
    let mut tags = Tags::new();
    for specification in query.groups("TagSpecification") {
        match specification.get("ResourceType") {
            Some(r) if r == resource => tags.extend(pairs(&specification)),
            other => {
                let what = other.unwrap_or("(none)");
                return Err(Fail::new(
                    "InvalidParameterValue",
                    format!("'{what}' is not a valid taggable resource type for this operation"),
                ));
            }
        }
    }
    check(&tags)?;
    Ok(tags)
}

fn of<'a>(world: &'a mut World, id: &str) -> Result<&'a mut Tags, Fail> {
    let World { snapshots, instances, volumes, .. } = world;
    let (kind, tags) = match id.split('-').next() {
        Some("snap") => ("Snapshot", snapshots.get_mut(id).map(|s| &mut s.tags)),
        Some("i") => ("InstanceID", instances.get_mut(id).map(|s| &mut s.tags)),
        Some("vol") => ("Volume", volumes.get_mut(id).map(|s| &mut s.tags)),
        _ => ("ID", None),
    };
    tags.ok_or_else(|| Fail::new(&format!("Invalid{kind}.NotFound"), format!("The {kind} '{id}' does not exist")))
}

/// All or none.
pub fn create(world: &mut World, query: &Query) -> Result<(), Fail> {
    let (ids, new) = (query.list("ResourceId"), pairs(query));
    check(&new)?;
    if ids.is_empty() || ids.len() > RESOURCES || new.is_empty() {
        return Err(Fail::new("InvalidParameterValue", format!("1 to {RESOURCES} resources and at least one tag are needed")));
    }
    for id in &ids {
        let mut together = of(world, id)?.clone();
        together.extend(new.clone());
        check(&together)?;
    }
    for id in &ids {
        of(world, id)?.extend(new.clone());
    }
    Ok(())
}

/// A tag with a value goes only if it has that value; without tags, all go.
pub fn delete(world: &mut World, query: &Query) -> Result<(), Fail> {
    let (ids, which) = (query.list("ResourceId"), query.groups("Tag"));
    for id in &ids {
        of(world, id)?;
    }
    for id in &ids {
        let tags = of(world, id)?;
        let goes = |key: &str, value: &str| {
            let named = |t: &Query| t.get("Key") == Some(key) && t.get("Value").is_none_or(|v| v == value);
            which.is_empty() || which.iter().any(named)
        };
        tags.retain(|key, value| !goes(key, value));
    }
    Ok(())
}
