//! `skips JUNIT LIST`: prints which tests skipped themselves or are switched off, and why. On CI they must be those of the list.

use std::process::ExitCode;
use suite::house::{rules, skips};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [junit, list] = args.as_slice() else {
        eprintln!("usage: skips JUNIT LIST");
        return ExitCode::from(2);
    };
    let read = |p: &str| std::fs::read_to_string(p).map_err(|e| eprintln!("skips: {p}: {e}"));
    let (Ok(report), Ok(text)) = (read(junit), read(list)) else { return ExitCode::from(2) };
    let mut found = skips::in_report(&report);
    found.extend(rules::sources(&["agent/", "tests/"]).iter().flat_map(|(_, source)| skips::ignored(source)));
    for (test, reason) in &found {
        println!("SKIPPED {test}: {reason}");
    }
    println!("skipped: {}", found.len());
    if std::env::var_os("CI").is_none_or(|v| v != "true") {
        return ExitCode::SUCCESS;
    }
    match skips::compare(&found, &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("skips: {why}\nskips: make them run, or change {list}");
            ExitCode::FAILURE
        }
    }
}
