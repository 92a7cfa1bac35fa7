//! `messages.log`.

#![no_main]

use engine::iris::parse::messages::{self, Entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = fuzz::text(data);
    let all = messages::parse(&text);
    // Every line with a prefix begins an entry; all others after the first belong to the one before them.
    let begins: Vec<bool> = text.lines().map(|l| !messages::parse(l).is_empty()).collect();
    assert_eq!(all.len(), begins.iter().filter(|b| **b).count());
    let kept: usize = all.iter().map(|e| e.text.lines().count().max(1)).sum();
    let first = begins.iter().position(|b| *b).unwrap_or(begins.len());
    assert!(kept <= begins.len() - first);
    let said: String = all.iter().map(|e| e.text.as_str()).collect::<Vec<_>>().join("\n");
    for (line, begins) in text.lines().zip(&begins).skip(first) {
        assert!(*begins || said.contains(line.trim_end()), "{line:?} is lost");
    }
    for e in &all {
        assert!(e.shown().starts_with(&e.stamp) && !e.shown().contains('\n'), "{e:?}");
        assert!(e.severity.is_none_or(|s| s <= 3) && (e.severity.is_some() || e.category.is_empty()), "{e:?}");
    }
    // Written as the engine writes it, it is read back.
    let written: String = all.iter().map(write).collect();
    assert_eq!(messages::parse(&written), all);
});

fn write(e: &Entry) -> String {
    match e.severity {
        Some(s) => format!("{} ({}) {s} [{}] {}\n", e.stamp, e.pid, e.category, e.text),
        None => format!("{} ( {}) {}\n", e.stamp, e.pid, e.text),
    }
}
