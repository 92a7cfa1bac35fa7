//! Which tests skipped themselves: they print `SKIP name: reason` or `SKIPPED: reason`, and the runner's JUnit report
//! keeps what every test printed.

use std::collections::BTreeSet;

/// `(test, reason)`, in the report's order, each once.
pub fn in_report(junit: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut test = String::new();
    for line in junit.lines() {
        if let Some(name) = line.split_once("<testcase ").and_then(|(_, rest)| attribute(rest, "name")) {
            test = name;
        }
        let printed = line.rsplit_once("<system-out>").or_else(|| line.rsplit_once("<system-err>")).map_or(line, |(_, text)| text);
        let Some(reason) = reason(printed) else { continue };
        let one = (test.clone(), plain(reason));
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// Tests that are switched off in a source, with the reason that stands there.
pub fn ignored(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (_, rest) in source.match_indices(concat!("#[ign", "ore = \"")).map(|(at, m)| source.split_at(at + m.len())) {
        let reason = rest.split('"').next().unwrap_or_default();
        let name = rest.split_once("fn ").and_then(|(_, f)| f.split('(').next()).unwrap_or_default();
        found.push((name.to_owned(), reason.to_owned()));
    }
    found
}

/// What follows the word and, where it is there, the test's name.
fn reason(line: &str) -> Option<&str> {
    let line = line.trim();
    let word_end = line.find([' ', ':'])?;
    if !["SKIP", "SKIPPED", "skipped"].contains(&&line[..word_end]) {
        return None;
    }
    let rest = line[word_end..].trim_start();
    let reason = rest.strip_prefix(':').map(str::trim).or_else(|| rest.split_once(": ").map(|(_, r)| r));
    reason.map(|r| r.split("</system-").next().unwrap_or(r).trim()).filter(|r| !r.is_empty())
}

fn attribute(tag: &str, key: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{key}=\""))?;
    rest.split_once('"').map(|(v, _)| plain(v))
}

fn plain(s: &str) -> String {
    s.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

/// The names that skipped must be those of the list, no more and no fewer.
pub fn compare(found: &[(String, String)], list: &str) -> Result<(), String> {
    let listed: BTreeSet<&str> = list
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split_once(": ").map_or(l, |(n, _)| n))
        .collect();
    let seen: BTreeSet<&str> = found.iter().map(|(n, _)| n.as_str()).collect();
    let more: Vec<_> = seen.difference(&listed).collect();
    let fewer: Vec<_> = listed.difference(&seen).collect();
    match (more.is_empty(), fewer.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err(format!("skipped, but not in the list: {more:?}")),
        (true, false) => Err(format!("in the list, but not skipped: {fewer:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<testsuite name="storage::snapshots" tests="3">
        <testcase name="reflink::a &quot;b&quot;" classname="storage">
            <system-out>running 1 test
SKIP a_b: no Xfs on a loop device: not root
test result: ok.</system-out>
        </testcase>
        <testcase name="plain" classname="engine">
            <system-err>SKIPPED: not root</system-err>
        </testcase>
        <testcase name="ran" classname="engine"><system-out>skipping nothing: really
skipped 3 files</system-out></testcase>"#;

    #[test]
    fn the_report_names_who_skipped_and_why() {
        let found = in_report(REPORT);
        let want = [("reflink::a \"b\"", "no Xfs on a loop device: not root"), ("plain", "not root")];
        assert_eq!(found, want.map(|(n, r)| (n.to_owned(), r.to_owned())));
    }

    #[test]
    fn a_test_that_is_switched_off_is_found_with_its_reason() {
        let source = concat!("#[test]\n#[ign", "ore = \"prints figures\"]\nfn figures() {}\n#[test]\nfn other() {}\n");
        assert_eq!(ignored(source), [("figures".to_owned(), "prints figures".to_owned())]);
    }

    #[test]
    fn a_list_that_is_too_short_or_too_long_fails() {
        let found = in_report(REPORT);
        assert!(compare(&found, "# none\n").is_err());
        assert!(compare(&found, "plain: not root\nreflink::a \"b\"\n").is_ok());
        assert!(compare(&found, "plain\nreflink::a \"b\"\nran\n").unwrap_err().contains("ran"));
    }
}
