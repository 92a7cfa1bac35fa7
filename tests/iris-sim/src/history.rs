//! The oracle: one JSON line per event, on another file system, read by tests only.

use crate::clock;
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Appends events; without a file it drops them.
#[derive(Default)]
pub struct History {
    file: Option<File>,
    instance: String,
}

impl History {
    /// A history that is asked for and cannot be written is an error: a test without its oracle proves nothing.
    pub fn open(path: Option<&Path>, instance: &str) -> std::io::Result<History> {
        let append = |path| OpenOptions::new().create(true).append(true).open(path);
        Ok(History { file: path.map(append).transpose()?, instance: instance.to_string() })
    }

    /// Appends `{"t_ms":..,"event":..,"instance":..,"pid":..}` and the extra fields; a line is one write.
    pub fn event(&self, event: &str, pid: u32, extra: Value) {
        let Some(mut file) = self.file.as_ref() else {
            return;
        };
        let mut line = Map::new();
        line.insert("t_ms".into(), json!(clock::boot_ms()));
        line.insert("event".into(), json!(event));
        line.insert("instance".into(), json!(self.instance));
        line.insert("pid".into(), json!(pid));
        if let Value::Object(more) = extra {
            line.extend(more);
        }
        let text = format!("{}\n", Value::Object(line));
        // A lost line of the oracle must not change what the model does.
        let _ = file.write_all(text.as_bytes());
    }
}
