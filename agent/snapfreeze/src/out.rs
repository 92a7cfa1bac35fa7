//! What a verb says: a sentence or a table for a person, one JSON object per line with `--json`, and its exit code.

use protocol::SCHEMA;
use protocol::wire::{MARKER, MARKER_MAX, Problem};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// How to speak. Nothing here ever panics on a closed pipe: a window may be open.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    pub json: bool,
}

impl Out {
    /// A line for a person on stdout; silent with `--json`.
    pub fn say(self, line: impl AsRef<str>) {
        if !self.json {
            let _ = writeln!(std::io::stdout(), "{}", line.as_ref());
        }
    }

    /// A line about the way there, on stderr.
    pub fn note(self, line: impl AsRef<str>) {
        if !self.json {
            let _ = writeln!(std::io::stderr(), "{}", line.as_ref());
        }
    }

    /// One JSON object with `schema` and `type`; silent without `--json`.
    pub fn object(self, kind: &str, value: &impl Serialize) {
        if self.json {
            let _ = writeln!(std::io::stdout(), "{}", typed(kind, value));
        }
    }

    /// The problem, and what to do next. Gives its exit code.
    pub fn problem(self, p: &Problem) -> u8 {
        if self.json {
            self.object("problem", p);
        } else {
            let _ = writeln!(std::io::stderr(), "{}: {}", p.code, p.detail);
            if !p.next.is_empty() {
                let _ = writeln!(std::io::stderr(), "  next: {}", p.next);
            }
            let _ = writeln!(std::io::stderr(), "  more: snapfreeze explain {}", p.code);
        }
        p.code.exit()
    }

    /// The last stdout line over SSM and Run Command: `SNAPFREEZE {json}` under 1 KiB.
    pub fn marker(self, value: &Value) {
        if self.json {
            let mut v = value.clone();
            let mut line = format!("{MARKER}{v}");
            if line.len() >= MARKER_MAX
                && let Some(o) = v.as_object_mut()
            {
                o.retain(|k, _| ["schema", "type", "id", "code", "state", "verdict", "remaining_ms", "window_ms"].contains(&k.as_str()));
                o.insert("truncated".into(), json!(true));
                line = format!("{MARKER}{v}");
            }
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }

    /// A progress bar only where somebody sees it.
    pub fn shows_progress(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }
}

pub fn typed(kind: &str, value: &impl Serialize) -> Value {
    let mut v = serde_json::to_value(value).unwrap_or_else(|e| json!({ "error": e.to_string() }));
    match v.as_object_mut() {
        Some(o) => {
            o.insert("schema".into(), json!(SCHEMA));
            o.insert("type".into(), json!(kind));
            v
        }
        None => json!({ "schema": SCHEMA, "type": kind, "value": v }),
    }
}
