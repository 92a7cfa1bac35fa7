//! From a step to a script: parameters put in as the SSM agent does, the host's paths rewritten, the interpreter chosen.

use super::documents::{Content, Step};
use super::send::Parameters;
use crate::shell::rewrite;
use crate::world::Host;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Seconds; the agent's default when nothing is said.
const TIMEOUT_S: u64 = 3_600;

#[derive(Debug, PartialEq)]
pub struct Script {
    pub text: String,
    /// `SSM_name` of parameters with `interpolationType: ENV_VAR`.
    pub env: BTreeMap<String, String>,
    pub workdir: Option<PathBuf>,
    pub timeout_s: u64,
}

pub fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|t| t.trim().parse().ok())).filter(|s| *s > 0)
}

pub fn prepare(content: &Content, step: &Step, parameters: &Parameters, host: &Host) -> Script {
    let by_env = |name: &str| {
        let parameter = content.parameters.get(name);
        !host.old_agent && parameter.is_some_and(|p| p.interpolation_type.as_deref() == Some("ENV_VAR"))
    };
    // An agent that knows ENV_VAR leaves `{{x}}` of such a parameter alone: the value never gets into the text.
    let pasted: Parameters = parameters.iter().filter(|(n, _)| !by_env(n)).map(|(n, v)| (n.clone(), v.clone())).collect();
    let env = parameters.iter().filter(|(n, _)| by_env(n)).map(|(n, v)| (format!("SSM_{n}"), v.join(","))).collect();

    let mut lines = Vec::new();
    match step.inputs.get("runCommand") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).for_each(|l| lines.extend(paste(l, &pasted))),
        Some(Value::String(one)) => lines.extend(paste(one, &pasted)),
        _ => {}
    }
    let text = rewrite(&lines.join("\n"), &host.paths);
    let input = |key: &str| match step.inputs.get(key) {
        Some(Value::String(s)) => Some(Value::String(paste(s, &pasted).join(""))),
        other => other.cloned(),
    };
    let workdir = input("workingDirectory").and_then(|w| w.as_str().map(PathBuf::from)).filter(|w| !w.as_os_str().is_empty());
    let timeout_s = input("timeoutSeconds").and_then(|t| seconds(&t)).unwrap_or(TIMEOUT_S);
    Script { text, env, workdir, timeout_s }
}

/// `{{ name }}` with any spaces. A line that is only that becomes all values of a list, else they are pasted.
fn paste(line: &str, parameters: &Parameters) -> Vec<String> {
    let inner = line.trim().strip_prefix("{{").and_then(|l| l.strip_suffix("}}")).map(str::trim);
    if let Some(values) = inner.and_then(|name| parameters.get(name)) {
        return values.clone();
    }
    let (mut out, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        match after.split_once("}}").and_then(|(name, tail)| parameters.get(name.trim()).map(|v| (v, tail))) {
            Some((values, tail)) => {
                out.push_str(&if values.len() == 1 { values[0].clone() } else { Value::from(values.clone()).to_string() });
                rest = tail;
            }
            None => {
                out.push_str("{{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    vec![out]
}

#[cfg(test)]
mod tests {
    use super::super::documents::parse;
    use super::*;

    const DOCUMENT: &str = r#"
schemaVersion: '2.2'
parameters:
  id: {type: String, allowedPattern: '^[a-z;$() ]+$', interpolationType: ENV_VAR}
  word: {type: String, default: None}
  lines: {type: StringList, default: [a, b]}
mainSteps:
- action: aws:runShellScript
  name: one
  inputs:
    timeoutSeconds: '7'
    runCommand:
    - 'if [ -z "${SSM_id+x}" ]; then export SSM_id="{{id}}"; fi'
    - '{{ lines }}'
    - /usr/bin/tool {{ word }} /usr/bin/tools /opt/usr/bin/tool
"#;

    fn prepared(host: Host) -> Script {
        let content = parse(DOCUMENT, "YAML").unwrap();
        let one = |v: &str| vec![v.to_owned()];
        let parameters = [("id", one("x; rm")), ("word", one("None")), ("lines", vec!["a".into(), "b".into()])];
        let parameters = parameters.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        prepare(&content, &content.main_steps[0], &parameters, &host.path("/usr/bin/tool", "target/tool"))
    }

    #[test]
    fn env_var_parameters_never_get_into_the_text_and_paths_are_rewritten_whole() {
        let script = prepared(Host::new("i-1"));
        let lines: Vec<&str> = script.text.lines().collect();
        assert_eq!(lines[0], r#"if [ -z "${SSM_id+x}" ]; then export SSM_id="{{id}}"; fi"#);
        assert_eq!(lines[1..3], ["a", "b"]);
        assert_eq!(lines[3], "target/tool None /usr/bin/tools /opt/usr/bin/tool");
        assert_eq!(script.env.into_iter().collect::<Vec<_>>(), [("SSM_id".to_owned(), "x; rm".to_owned())]);
        assert_eq!(script.timeout_s, 7);
    }

    #[test]
    fn an_old_agent_pastes_everything() {
        let mut host = Host::new("i-1");
        host.old_agent = true;
        let script = prepared(host);
        assert!(script.text.contains(r#"export SSM_id="x; rm""#) && script.env.is_empty(), "{script:?}");
    }

    #[test]
    fn the_first_line_chooses_the_interpreter() {
        use crate::shell::interpreter;
        assert_eq!(interpreter("echo", "/bin/sh"), ["/bin/sh"]);
        assert_eq!(interpreter("#!/bin/bash -e\necho", "/bin/sh"), ["/bin/bash", "-e"]);
    }
}
