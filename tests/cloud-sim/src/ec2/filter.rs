//! Filters and pages of the describe calls.

use super::query::Query;
use crate::wire::Fail;
use crate::world::Tags;

/// `(name, values)`; within a filter any value, between filters all.
pub type Filters = Vec<(String, Vec<String>)>;

/// `known`: names beside `tag:KEY`, `tag-key` and `tag-value`.
pub fn read(query: &Query, known: &[&str]) -> Result<Filters, Fail> {
    let mut filters = Vec::new();
    for f in query.groups("Filter") {
        let name = f.get("Name").unwrap_or_default();
        if !name.starts_with("tag:") && !["tag-key", "tag-value"].contains(&name) && !known.contains(&name) {
            return Err(Fail::new("InvalidParameterValue", format!("The filter '{name}' is invalid")));
        }
        filters.push((name.to_owned(), f.list("Value")));
    }
    Ok(filters)
}

/// `field`: the values that a resource has under a name.
pub fn passes(filters: &Filters, tags: &Tags, field: impl Fn(&str) -> Vec<String>) -> bool {
    filters.iter().all(|(name, wanted)| {
        let has = match name.as_str() {
            "tag-key" => tags.keys().cloned().collect(),
            "tag-value" => tags.values().cloned().collect(),
            n => n.strip_prefix("tag:").map_or_else(|| field(n), |key| tags.get(key).cloned().into_iter().collect()),
        };
        has.iter().any(|h| wanted.iter().any(|w| like(w, h)))
    })
}

/// `*` any text, `?` any character, `\` quotes. Case matters.
fn like(pattern: &str, text: &str) -> bool {
    let mut regex = String::from("(?s)^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '\\' => regex.push_str(&regex::escape(&chars.next().unwrap_or('\\').to_string())),
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex.push('$');
    let plain = !pattern.contains(['*', '?', '\\']);
    if plain { pattern == text } else { regex::Regex::new(&regex).is_ok_and(|r| r.is_match(text)) }
}

/// This page of `all` and the next token. EC2's MaxResults is 5 to 1000, and not together with ids.
pub fn page<T>(query: &Query, ids: &[String], all: Vec<T>) -> Result<(Vec<T>, Option<String>), Fail> {
    let size = match query.get("MaxResults").map(str::parse::<usize>) {
        None => 1000,
        Some(Ok(n)) if (5..=1000).contains(&n) => n,
        Some(_) => return Err(Fail::new("InvalidParameterValue", "MaxResults must be between 5 and 1000")),
    };
    if query.get("MaxResults").is_some() && !ids.is_empty() {
        return Err(Fail::new("InvalidParameterCombination", "The parameter IDs cannot be used with the parameter MaxResults"));
    }
    let from = match query.get("NextToken") {
        None => 0,
        Some(token) => {
            let at = token.strip_prefix("page-").and_then(|t| t.parse::<usize>().ok());
            at.filter(|at| *at <= all.len()).ok_or(Fail::new("InvalidParameterValue", "The token is not valid"))?
        }
    };
    // Without MaxResults, all come at once.
    let size = if query.get("MaxResults").is_none() { usize::MAX } else { size };
    let next = from.saturating_add(size);
    let token = (next < all.len()).then(|| format!("page-{next}"));
    Ok((all.into_iter().skip(from).take(size).collect(), token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_whole_values_only() {
        assert!(like("a*c", "abbc") && like("a?c", "abc") && like("*", "") && like("x\\*", "x*"));
        assert!(!like("a*c", "abcd") && !like("a.c", "abc") && !like("A", "a") && !like("x\\*", "xy"));
    }
}
