//! One order: the script, which is always the same, and its values.

use crate::client::models;
use protocol::BackupId;

/// Carried out by bash on the host.
pub(super) const SCRIPT: &str = include_str!("order.sh");

/// Of one value: the tags of a set, as one word, are the longest.
const MAX: usize = 4_000;

pub(super) struct Order {
    pub verb: &'static str,
    /// The machine ends the script after so long.
    pub within_s: i32,
    values: Vec<(&'static str, String)>,
}

impl Order {
    pub fn new(verb: &'static str, id: BackupId, within_s: i32) -> Self {
        Self { verb, within_s, values: vec![("SF_VERB", verb.into()), ("SF_ID", id.to_string())] }
    }

    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.values.push((name, value));
        self
    }

    /// The name of a value that must not be sent. Named parameters become variables of a managed command, and need no quotes; the
    /// action pastes them above its script, unquoted (azure-cli#10400), and there they stand between quotes that none of these ends.
    pub fn odd(&self) -> Option<&'static str> {
        let plain = |v: &str| !v.is_empty() && v.len() <= MAX && v.bytes().all(|b| b.is_ascii_alphanumeric() || b" _.:/@-".contains(&b));
        self.values.iter().find(|(_, v)| !plain(v)).map(|(n, _)| *n)
    }

    pub fn parameters(&self) -> Vec<models::RunCommandInputParameter> {
        self.values.iter().map(|(n, v)| models::RunCommandInputParameter::new((*n).to_owned(), v.clone())).collect()
    }

    /// For the action: values as assignments. Only of values that are not [`Order::odd`].
    pub fn lines(&self) -> Vec<String> {
        let values = self.values.iter().map(|(n, v)| format!("export {n}='{v}'"));
        values.chain(SCRIPT.lines().map(str::to_owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_could_be_more_than_a_value_is_not_sent() {
        let of = |v: &str| Order::new("freeze", "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap(), 1).with("SF_BY", v.into()).odd();
        assert_eq!(of("nightly 0b5c-1"), None);
        for bad in ["", "a'b", "a;b", "$(x)", "`x`", "a\nb", "a\"b", "ü", "a|b", "a\\b", "*", &"x".repeat(4_001)] {
            assert_eq!(of(bad), Some("SF_BY"), "{bad:?}");
        }
    }
}
