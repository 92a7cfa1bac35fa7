//! Tags as ARM takes them: 50 of a resource, names to 512 and values to 256 characters, none of `<>%&\?/` in a name.

use super::id;
use super::sim::Sim;
use super::wire::{Ask, Fail, json_reply};
use crate::wire::Reply;
use crate::world::Tags;
use serde_json::{Value, json};

/// The `tags` of a body. Absent or null: none are given.
pub fn read(body: &Value) -> Result<Option<Tags>, Fail> {
    let map = match body.get("tags") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(Fail::bad("InvalidRequestContent", "The request content was invalid: 'tags' is an object of texts.")),
    };
    if map.len() > 50 {
        return Err(Fail::bad("InvalidTagCount", format!("{} tags; the maximum number of tags allowed on a resource is 50.", map.len())));
    }
    let mut tags = Tags::new();
    for (name, value) in map {
        let Some(value) = value.as_str() else {
            return Err(Fail::bad("InvalidRequestContent", format!("The value of the tag '{name}' is not a text.")));
        };
        if name.is_empty() || name.chars().any(|c| "<>%&\\?/".contains(c) || c.is_control()) {
            return Err(Fail::bad(
                "InvalidTagNameCharacters",
                format!("The tag name '{name}' has reserved characters '<,>,%,&,\\,?,/' or none."),
            ));
        }
        if name.chars().count() > 512 {
            return Err(Fail::bad("InvalidTagNameLength", "Tag names have at most 512 characters."));
        }
        if value.chars().count() > 256 {
            return Err(Fail::bad("InvalidTagValueLength", format!("The value of the tag '{name}' has more than 256 characters.")));
        }
        if tags.keys().any(|k| k.eq_ignore_ascii_case(name)) {
            return Err(Fail::bad(
                "InvalidTags",
                format!("The tag name '{name}' occurs twice; names are compared without regard to case."),
            ));
        }
        tags.insert(name.clone(), value.into());
    }
    Ok(Some(tags))
}

/// `tags/default`: PUT replaces all, PATCH does its `operation`: Merge, Replace, Delete. No operation to poll.
pub fn resource(sim: &Sim, ask: &Ask) -> Result<Reply, Fail> {
    let given = read(ask.body.get("properties").unwrap_or(&Value::Null))?.unwrap_or_default();
    let mut world = sim.world();
    let (key, world) = (id::key(&ask.id()), &mut *world);
    let found = match ask.target().kind.as_str() {
        "virtualmachines" => world.vms.get_mut(&key).map(|v| &mut v.tags),
        "disks" => world.disks.get_mut(&key).map(|d| &mut d.tags),
        "snapshots" => world.snapshots.get_mut(&key).map(|s| &mut s.tags),
        _ => world.collections.get_mut(&key).map(|c| &mut c.tags),
    };
    let tags = found.ok_or_else(|| Fail::not_found(&ask.id()))?;
    let mut new = tags.clone();
    match (ask.op, ask.text("/operation").map(str::to_ascii_lowercase).as_deref()) {
        ("tags.get", _) => {}
        ("tags.put", _) | ("tags.patch", Some("replace")) => new = given,
        ("tags.patch", Some("merge")) => new.extend(given),
        ("tags.patch", Some("delete")) => new.retain(|k, v| given.get(k) != Some(v)),
        _ => return Err(Fail::bad("InvalidRequestContent", "'operation' is Merge, Replace or Delete.")),
    }
    read(&json!({ "tags": new }))?;
    tags.clone_from(&new);
    let body = json!({
        "id": format!("{}/providers/Microsoft.Resources/tags/default", ask.id()), "name": "default", "type": "Microsoft.Resources/tags",
        "properties": { "tags": new },
    });
    Ok(json_reply(200, &body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(name: &str, value: &str) -> Option<String> {
        read(&json!({ "tags": { name: value } })).err().map(|f| f.code)
    }

    #[test]
    fn names_and_values_at_their_limits_pass_and_beyond_do_not() {
        let long = |n: usize| "x".repeat(n);
        assert_eq!(code(&long(512), &long(256)), None);
        assert_eq!(code("snapfreeze:journal", "/mgr/journal/20261126.001"), None, "a value may have a slash");
        assert_eq!(code(&long(513), "v").as_deref(), Some("InvalidTagNameLength"));
        assert_eq!(code("k", &long(257)).as_deref(), Some("InvalidTagValueLength"));
        assert_eq!(code("a/b", "v").as_deref(), Some("InvalidTagNameCharacters"));
        let many = |n: usize| json!({ "tags": (0..n).map(|i| (format!("k{i}"), json!("v"))).collect::<serde_json::Map<_, _>>() });
        assert_eq!(read(&many(50)).unwrap().unwrap().len(), 50);
        assert!(
            read(&many(51)).is_err() && read(&json!({ "tags": { "A": "1", "a": "2" } })).is_err() && read(&json!({ "tags": 1 })).is_err()
        );
        assert_eq!(read(&json!({})).unwrap(), None);
    }
}
