//! A value: a string that may stand for a number, or an object.

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    /// Index into the interpreter's objects.
    Object(usize),
}

impl Default for Value {
    fn default() -> Self {
        Value::Text(String::new())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Text(canonical(number))
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Value {
        Value::Text(if yes { "1" } else { "0" }.into())
    }
}

impl Value {
    pub fn text(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Object(index) => format!("{}@%Library.RegisteredObject", index + 1),
        }
    }

    pub fn number(&self) -> f64 {
        match self {
            Value::Text(text) => numeric(text),
            Value::Object(index) => (index + 1) as f64,
        }
    }

    pub fn truth(&self) -> bool {
        self.number() != 0.0
    }
}

/// The number that a string begins with; 0 if none.
pub fn numeric(text: &str) -> f64 {
    let mut sign = 1.0;
    let mut rest = text;
    loop {
        match rest.as_bytes().first() {
            Some(b'-') => sign = -sign,
            Some(b'+') => {}
            _ => break,
        }
        rest = &rest[1..];
    }
    let mut end = 0;
    let mut dot = false;
    for byte in rest.bytes() {
        match byte {
            b'0'..=b'9' => {}
            b'.' if !dot => dot = true,
            _ => break,
        }
        end += 1;
    }
    let digits = &rest[..end];
    if digits.is_empty() || digits == "." { 0.0 } else { sign * format!("0{digits}").parse().unwrap_or(0.0) }
}

/// Canonical form: no zero before the point, none at the end, no `-0`.
pub fn canonical(number: f64) -> String {
    if number == number.trunc() && number.abs() < 1e15 {
        return format!("{}", number as i64);
    }
    let text = format!("{number:.9}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text.strip_prefix("0.") {
        Some(rest) => format!(".{rest}"),
        None => text.strip_prefix("-0.").map_or_else(|| text.to_string(), |rest| format!("-.{rest}")),
    }
}

/// A %Status that is an error. The vendor's is a list; this one keeps number and text.
pub fn error_status(text: &str) -> Value {
    Value::Text(format!("0 \u{2}\u{1}{text}"))
}

/// The text within an error status.
pub fn status_text(status: &str) -> Option<&str> {
    status.strip_prefix("0 \u{2}\u{1}")
}
