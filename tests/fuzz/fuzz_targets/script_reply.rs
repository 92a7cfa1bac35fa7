//! What a script's answer says: only what lies between our sentinels.

#![no_main]

use engine::iris::script::{Reply, Script};
use libfuzzer_sys::fuzz_target;

const NONCE: &str = "5f0c";
const BEGIN: &str = "SNAPFREEZE-BEGIN-5f0c";
const END: &str = "SNAPFREEZE-END-5f0c";
const KEYS: [&str; 9] = ["PID", "UP", "MIR", "WDS", "CUR", "OFF", "REQ", "SC", "TOOK"];

fuzz_target!(|data: &[u8]| {
    let text = fuzz::text(data);
    let pieces = fuzz::pieces(&text);
    let at = |i: usize| pieces.get(i).map_or("", String::as_str);
    let (before, inside, after) = (at(0), at(1), at(2));
    let alone = Reply::parse(&text, NONCE);
    assert_eq!(alone.is_some(), text.lines().any(|l| l.trim_end_matches('\r') == BEGIN));
    // Our sentinels cannot be guessed.
    if text.contains(BEGIN) || text.contains(END) {
        return;
    }
    let framed = Reply::parse(&format!("{BEGIN}\n{inside}{END}\n"), NONCE).expect("it begins");
    let whole = Reply::parse(&format!("{before}{BEGIN}\r\n{inside}{END}\n{after}"), NONCE).expect("it begins");
    assert_eq!(whole, framed);
    assert!(whole.complete);
    for key in KEYS {
        let said = inside.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        assert_eq!(whole.get(key), said.unwrap_or("").trim_end());
        // Times are added to and subtracted from clocks.
        assert!(whole.seconds(key).is_none_or(|s| (0.0..1e12).contains(&s)), "{:?}", whole.get(key));
    }
    // Cut off at any line it is not complete, and says nothing that the whole does not say.
    let cut: String = inside.lines().take(inside.lines().count() / 2).map(|l| format!("{l}\n")).collect();
    let cut = Reply::parse(&format!("{before}{BEGIN}\n{cut}"), NONCE).expect("it begins");
    assert!(!cut.complete && KEYS.iter().all(|k| cut.some(k).is_none_or(|v| v == whole.get(k))));
    // A terminal that echoes the script answers nothing.
    let mut script = Script::new(NONCE);
    script.say("WDS", "1");
    assert_eq!(Reply::parse(&format!("{before}{}{after}", script.end("5")), NONCE), None);
});
