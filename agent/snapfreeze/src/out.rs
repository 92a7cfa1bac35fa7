//! What a verb says: a sentence or a table for a person, one JSON object per line with `--json`, and its exit code.

use protocol::answer::{digest_of, pack};
use protocol::wire::{MARKER, MARKER_MAX, Problem};
use protocol::{BackupId, SCHEMA};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// How to speak. Nothing here ever panics on a closed pipe: a window may be open.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    pub json: bool,
    /// Whole answers as Azure's Run Command has room for them.
    pub packed: bool,
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
        // A channel that keeps little of an output keeps the answer at its end.
        if self.json && !self.packed {
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

    /// The whole answer on a line of its own, and as the end `SNAPFREEZE {small}` with the digest of that line.
    pub fn answer(self, kind: &str, whole: &impl Serialize, small: &Value) {
        if self.json {
            let line = fitting(typed(kind, whole));
            let line = if self.packed { pack(&line) } else { line };
            let _ = writeln!(std::io::stdout(), "{line}");
            let mut small = typed(kind, small);
            small["body"] = json!(digest_of(&line));
            let _ = writeln!(std::io::stdout(), "{}", marker(small));
        }
    }

    /// A problem as the end: said as by [`Self::problem`], and with `--json` as an answer.
    pub fn fail(self, id: Option<BackupId>, p: &Problem) -> u8 {
        if self.json {
            self.answer("problem", p, &json!({ "id": id, "code": p.code, "detail": p.detail }));
            return p.code.exit();
        }
        self.problem(p)
    }

    /// A progress bar only where somebody sees it.
    pub fn shows_progress(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }
}

/// SSM keeps the first 24,000 characters of an output; the marker must be among them, with what else was printed.
const BODY_MAX: usize = 20_000;

/// What explains an answer gives way when it is too long, in this order; what it says stays.
fn fitting(mut v: Value) -> String {
    let mut line = v.to_string();
    for key in ["evidence", "parts", "warnings", "notes"] {
        if line.len() > BODY_MAX {
            empty(&mut v, key);
            v["shortened"] = json!(true);
            line = v.to_string();
        }
    }
    line
}

fn empty(v: &mut Value, key: &str) {
    match v {
        Value::Object(o) => {
            if let Some(Value::Array(a)) = o.get_mut(key) {
                a.clear();
            }
            o.values_mut().for_each(|v| empty(v, key));
        }
        Value::Array(a) => a.iter_mut().for_each(|v| empty(v, key)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The last stdout line over SSM and Run Command, under 1 KiB.
fn marker(mut v: Value) -> String {
    const KEPT: [&str; 10] = ["schema", "type", "id", "code", "detail", "phase", "verdict", "remaining_ms", "window_ms", "body"];
    let line = format!("{MARKER}{v}");
    if line.len() < MARKER_MAX {
        return line;
    }
    if let Some(o) = v.as_object_mut() {
        o.retain(|k, _| KEPT.contains(&k.as_str()));
        for key in ["detail", "verdict"] {
            // JSON writes a character as six bytes at most.
            match o.get_mut(key) {
                Some(Value::String(s)) => *s = s.chars().take(80).collect(),
                Some(other) => *other = json!(other.get("verdict").cloned().unwrap_or_default()),
                None => {}
            }
        }
        o.insert("truncated".into(), json!(true));
    }
    format!("{MARKER}{v}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Code;

    #[test]
    fn a_marker_stays_below_1_kib_and_says_which_answer_it_ends() {
        let id = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e";
        for detail in ["\u{1}".repeat(5_000), "ü".repeat(5_000), "short".into()] {
            let v = json!({ "schema": 1, "type": "problem", "id": id, "code": Code::Internal, "detail": detail,
                "body": "9".repeat(64),
                "journals": vec!["/very/long".repeat(30); 40],
                "verdict": { "verdict": "broken", "reason": { "detail": "x".repeat(900) } } });
            let line = marker(v);
            assert!(line.len() < MARKER_MAX, "{}", line.len());
            let a: Value = serde_json::from_str(line.strip_prefix(MARKER).unwrap()).unwrap();
            assert_eq!((&a["id"], &a["type"], &a["code"]), (&json!(id), &json!("problem"), &json!("Internal")));
            assert_eq!(a["body"].as_str().map(str::len), Some(64));
        }
    }

    #[test]
    fn a_long_answer_loses_what_explains_it_and_keeps_what_it_says() {
        let v =
            json!({ "type": "window", "state": "unbroken", "marks": [{ "switched": "/jrn/1" }], "evidence": vec!["e".repeat(900); 40] });
        assert!(v.to_string().len() > BODY_MAX, "the control");
        let short: Value = serde_json::from_str(&fitting(v)).unwrap();
        assert_eq!((&short["evidence"], &short["shortened"]), (&json!([]), &json!(true)));
        assert_eq!(short["marks"][0]["switched"], "/jrn/1");
    }
}
