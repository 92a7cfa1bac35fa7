//! The Query protocol's parameters: `Filter.1.Value.2=…`.

use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    pub fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn flag(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }

    /// `key.1`, `key.2`, … in order.
    pub fn list(&self, key: &str) -> Vec<String> {
        self.groups(key).iter().filter_map(|g| g.get("").map(str::to_owned)).collect()
    }

    /// What lies below `key.1`, `key.2`, …, each as parameters of their own; a plain value has the empty name.
    pub fn groups(&self, key: &str) -> Vec<Query> {
        let mut groups: BTreeMap<u32, Query> = BTreeMap::new();
        for (name, value) in &self.0 {
            let Some(rest) = name.strip_prefix(key).and_then(|r| r.strip_prefix('.')) else { continue };
            let (number, below) = rest.split_once('.').unwrap_or((rest, ""));
            if let Ok(number) = number.parse() {
                groups.entry(number).or_default().0.insert(below.to_owned(), value.clone());
            }
        }
        groups.into_values().collect()
    }

    pub fn to_json(&self) -> Value {
        self.0.iter().filter(|(k, _)| *k != "Action" && *k != "Version").map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_and_groups_nest() {
        let body = b"Action=X&Id.10=j&Id.2=b&Id.1=a&Filter.1.Name=tag%3Aa+b&Filter.1.Value.1=x&Filter.1.Value.2=y%26z";
        let q = Query::parse(body);
        assert_eq!(q.list("Id"), ["a", "b", "j"]);
        let filters = q.groups("Filter");
        assert_eq!(filters.len(), 1);
        assert_eq!((filters[0].get("Name"), filters[0].list("Value")), (Some("tag:a b"), vec!["x".to_owned(), "y&z".to_owned()]));
        assert_eq!(q.list("Absent").len(), 0);
    }
}
