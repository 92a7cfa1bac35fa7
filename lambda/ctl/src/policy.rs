//! Policies: read from a file, or made up for a single instance.

use coordinator::policy::HeldBy;
use coordinator::{Cloud, Policy};
use protocol::Code;
use protocol::wire::Problem;
use serde_json::{Value, json};
use std::path::Path;

/// What a command line says about a policy beside its file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// For a backup: what the policy leaves open is this cloud's default.
    pub cloud: Option<Cloud>,
    pub hold: Option<&'a str>,
    pub held_by: Option<HeldBy>,
}

/// The file holds a policy, or the schedule's input with one under `policy`.
pub fn read(path: &Path, wishes: Wishes<'_>) -> Result<Policy, Problem> {
    let bad = |why: String| {
        Problem::new(Code::ConfigInvalid, format!("{}: {why}", path.display())).next("correct the file; docs/ctl.md has an example")
    };
    let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    let v: Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let policy = v.get("policy").cloned().unwrap_or(v);
    checked(policy, wishes).map_err(bad)
}

/// For `backup --instance` without a policy.
pub fn manual(ids: &[String], wishes: Wishes<'_>) -> Result<Policy, Problem> {
    checked(json!({ "name": "manual", "select": { "ids": ids } }), wishes).map_err(|why| Problem::new(Code::UsageInvalid, why))
}

/// For verbs that need the defaults of a policy and no hosts.
pub fn defaults() -> Result<Policy, Problem> {
    checked(json!({ "name": "any", "select": { "ids": ["none"] } }), Wishes::default()).map_err(|why| Problem::new(Code::Internal, why))
}

fn checked(mut policy: Value, wishes: Wishes<'_>) -> Result<Policy, String> {
    if let Some(o) = policy.as_object_mut() {
        o.extend(wishes.hold.map(|h| ("hold".into(), json!(h))));
        o.extend(wishes.held_by.map(|h| ("held_by".into(), json!(h))));
    }
    let read = match wishes.cloud {
        Some(cloud) => Policy::read(policy, cloud),
        None => serde_json::from_value(policy),
    };
    read.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_from_the_command_line_is_checked_like_one_from_the_file() {
        let hold = |h| manual(&["i-1".into()], Wishes { hold: Some(h), ..Wishes::default() }).map(|p| p.hold.ms());
        assert_eq!(hold("90s").unwrap(), 90_000);
        assert!(hold("1180s").unwrap_err().detail.contains("1179s"));
        let by = |cloud, held_by| manual(&["i-1".into()], Wishes { cloud: Some(cloud), held_by, hold: None }).unwrap();
        assert_eq!(by(Cloud::Ebs, None).hold.ms(), 60_000);
        assert_eq!(
            (by(Cloud::Azure, None).held_by, by(Cloud::Azure, Some(HeldBy::Coordinator)).held_by),
            (HeldBy::Host, HeldBy::Coordinator)
        );
        assert!(defaults().is_ok());
    }

    #[test]
    fn the_schedules_input_is_a_policy_file_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.json");
        for text in [r#"{"name":"n","select":{"ids":["i-1"]}}"#, r#"{"action":"list","policy":{"name":"n","select":{"ids":["i-1"]}}}"#] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file, Wishes::default()).unwrap().name, "n");
        }
        std::fs::write(&file, r#"{"name":"n"}"#).unwrap();
        let p = read(&file, Wishes::default()).unwrap_err();
        assert!(p.code == Code::ConfigInvalid && p.detail.contains("p.json") && p.detail.contains("names no host"), "{p:?}");
    }
}
