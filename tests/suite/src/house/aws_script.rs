//! Runs an SSM document's script as an SSM agent would, with stand-ins for the programs that it calls: what arguments arrive,
//! what is its exit code, what a value could break.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// How the values get into the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An agent that knows `interpolationType: ENV_VAR`: `$SSM_name`.
    Environment,
    /// An older one: every `{{name}}` of the text is replaced.
    Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    /// Each call of a stand-in: its name, then its arguments.
    pub calls: Vec<Vec<String>>,
    pub stderr: String,
}

/// Arguments end with a byte that no argument holds.
const STAND_IN: &str = "#!/bin/sh\n{ printf '%s\\037' \"${0##*/}\" \"$@\"; printf '\\n'; } >>\"$CALLS\"\n";

/// `exit`: what `/usr/bin/snapfreeze` answers. `dir` is empty and belongs to this run.
pub fn run(script: &[String], values: &[(&str, &str)], by: By, dir: &Path, exit: u8) -> Ran {
    let calls = dir.join("calls");
    for name in ["snapfreeze", "aws", "curl", "dpkg", "rpm"] {
        // A download is four bytes; its digest is known.
        let makes = match name {
            "curl" => "while [ \"$1\" != -o ]; do shift; done; printf test >\"$2\"\n".to_owned(),
            "aws" => "printf test >\"$5\"\n".to_owned(),
            "snapfreeze" => format!("exit {exit}\n"),
            _ => String::new(),
        };
        let path = dir.join(name);
        fs::write(&path, format!("{STAND_IN}{makes}")).expect("a stand-in");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it runs");
    }
    let mut text = script.join("\n").replace("/usr/bin/snapfreeze", &dir.join("snapfreeze").display().to_string());
    let mut c = Command::new("/bin/sh");
    c.env_clear().env("PATH", format!("{}:/usr/bin:/bin", dir.display())).env("CALLS", &calls).env("TMPDIR", dir).current_dir(dir);
    for (name, value) in values {
        match by {
            By::Environment => drop(c.env(format!("SSM_{name}"), value)),
            By::Text => text = text.replace(&format!("{{{{{name}}}}}"), value),
        }
    }
    let file = dir.join("_script.sh");
    fs::write(&file, text).expect("the script");
    let out = c.arg(&file).output().expect("sh runs");
    let said = fs::read_to_string(&calls).unwrap_or_default();
    let call = |l: &str| l.split('\u{1f}').filter(|a| !a.is_empty()).map(str::to_owned).collect();
    Ran {
        code: out.status.code().unwrap_or(-1),
        calls: said.lines().map(call).collect(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Lines that hold `{{` and are not the one fallback that AWS documents: an unset variable takes the substituted text, in quotes.
pub fn stray_braces(script: &[String], names: &[&str]) -> Vec<String> {
    let fallback = |l: &str| {
        names.iter().any(|n| {
            let tests = [format!("\"$SSM_{n}\""), format!("\"${{SSM_{n}+set}}\"")];
            tests.iter().any(|t| l == format!("if [ -z {t} ]; then export SSM_{n}=\"{{{{{n}}}}}\"; fi"))
        })
    };
    script.iter().filter(|l| l.contains("{{") && !fallback(l)).cloned().collect()
}

/// The characters with which a value could leave its quotes in that fallback.
pub const BREAKS: [char; 5] = ['"', '$', '`', '\\', '\n'];

/// Values that a parameter lets pass although they hold a character of `BREAKS`: each character is tried at the beginning, in
/// the middle and at the end of every value that is right.
pub fn breakers(parameter: &Value, right: &[&str]) -> Vec<String> {
    let pattern = parameter["allowedPattern"].as_str().unwrap_or("");
    let pattern = regex_lite::Regex::new(pattern).expect("a pattern");
    let mut bad = Vec::new();
    for value in right {
        for at in [0, value.len() / 2, value.len()] {
            for c in BREAKS {
                let mut v = (*value).to_owned();
                v.insert(at, c);
                bad.extend(pattern.is_match(&v).then_some(v));
            }
        }
    }
    bad
}
