//! Policies: read from a file, or made up for a single instance.

use coordinator::Policy;
use protocol::Code;
use protocol::wire::Problem;
use serde_json::{Value, json};
use std::path::Path;

/// The file holds a policy, or the schedule's input with one under `policy`. `hold` overrides.
pub fn read(path: &Path, hold: Option<&str>) -> Result<Policy, Problem> {
    let bad = |why: String| {
        Problem::new(Code::ConfigInvalid, format!("{}: {why}", path.display())).next("correct the file; docs/ctl.md has an example")
    };
    let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    let v: Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let policy = v.get("policy").cloned().unwrap_or(v);
    checked(policy, hold).map_err(bad)
}

/// For `backup --instance` without a policy.
pub fn manual(ids: &[String], hold: Option<&str>) -> Result<Policy, Problem> {
    checked(json!({ "name": "manual", "select": { "ids": ids } }), hold).map_err(|why| Problem::new(Code::UsageInvalid, why))
}

/// For verbs that need the defaults of a policy and no hosts.
pub fn defaults() -> Result<Policy, Problem> {
    checked(json!({ "name": "any", "select": { "ids": ["none"] } }), None).map_err(|why| Problem::new(Code::Internal, why))
}

fn checked(mut policy: Value, hold: Option<&str>) -> Result<Policy, String> {
    if let (Some(hold), Some(o)) = (hold, policy.as_object_mut()) {
        o.insert("hold".into(), json!(hold));
    }
    serde_json::from_value(policy).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_from_the_command_line_is_checked_like_one_from_the_file() {
        let hold = |h| manual(&["i-1".into()], Some(h)).map(|p| p.hold.ms());
        assert_eq!(hold("90s").unwrap(), 90_000);
        assert!(hold("1180s").unwrap_err().detail.contains("1179s"));
        assert_eq!(manual(&["i-1".into()], None).unwrap().hold.ms(), 60_000);
        assert!(defaults().is_ok());
    }

    #[test]
    fn the_schedules_input_is_a_policy_file_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.json");
        for text in [r#"{"name":"n","select":{"ids":["i-1"]}}"#, r#"{"action":"list","policy":{"name":"n","select":{"ids":["i-1"]}}}"#] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file, None).unwrap().name, "n");
        }
        std::fs::write(&file, r#"{"name":"n"}"#).unwrap();
        let p = read(&file, None).unwrap_err();
        assert!(p.code == Code::ConfigInvalid && p.detail.contains("p.json") && p.detail.contains("names no host"), "{p:?}");
    }
}
