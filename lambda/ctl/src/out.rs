//! What a verb says: a sentence or a table for a person, one JSON object per line with `--json`, and its exit code. The same
//! look as the agent's.

use comfy_table::{Table, presets};
pub use common::worst;
use protocol::wire::Problem;
use protocol::{Code, SCHEMA};
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
            self.note(format!("{}: {}", p.code, p.detail));
            if !p.next.is_empty() {
                self.note(format!("  next: {}", p.next));
            }
            self.note(format!("  more: snapfreezectl explain {}", p.code));
        }
        p.code.exit()
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

pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut t = Table::new();
    t.load_preset(presets::NOTHING).set_header(header);
    t
}

pub fn usage(detail: impl Into<String>) -> Problem {
    Problem::new(Code::UsageInvalid, detail)
}
