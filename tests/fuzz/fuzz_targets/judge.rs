//! Foreign lines between those of our own freeze and thaw. The input's pieces are put between our lines, in order.

#![no_main]

use engine::iris::judge::{Findings, OurThaw, Ours, judge};
use engine::iris::parse::messages;
use libfuzzer_sys::fuzz_target;
use protocol::Known;

const FREEZE: &str = "Backup.General.ExternalFreeze: ";
const THAW: &str = "Backup.General.ExternalThaw: ";
const OURS: [&str; 6] = [
    "08/11/21-05:49:43:233 (10) 0 [Utility.Event] Backup.General.ExternalFreeze: Suspending system\n",
    "08/11/21-05:49:43:233 (10) 1 [Utility.Event] Backup.General.ExternalFreeze: Warning, /d/ is not being journalled\n",
    "08/11/21-05:49:43:342 (10) 0 [Utility.Event] Backup.General.ExternalFreeze: Start a journal restore for this backup with journal file: /j/3\n",
    "08/11/21-05:49:44:347 (10) 0 [Utility.Event] Backup.General.ExternalFreeze: System suspended\n",
    "08/11/21-05:49:54:410 (20) 0 [Utility.Event] Backup.General.ExternalThaw: Resuming system\n",
    "08/11/21-05:49:55:411 (20) 0 [Utility.Event] Backup.General.ExternalThaw: System resumed\n",
];
/// In lower case; what of it no harmless line may have.
const LOUD: [&str; 16] = [
    "external",
    "sharded",
    "irisstat",
    "cstat",
    "wdsuspend",
    "system",
    "write daemon",
    "vss",
    "^dback",
    "^backup",
    "backup pass",
    "wrtdmn",
    "written directly",
    "journal file has failed",
    "rollover",
    "wij",
];

fuzz_target!(|data: &[u8]| {
    let text = fuzz::text(data);
    let pieces = fuzz::pieces(&text);
    let mut log = String::new();
    for (i, line) in OURS.iter().enumerate() {
        log.push_str(line);
        // The last line ends the window.
        if i + 1 < OURS.len() {
            log.push_str(pieces.get(i).map_or("", String::as_str));
        }
    }
    let foreign: Vec<&str> = pieces.iter().take(OURS.len() - 1).flat_map(|p| p.lines()).collect();
    let freezes = |l: &&str| l.contains("ExternalFreeze") || l.contains("ExternalThaw");
    let entries = messages::parse(&log);
    for (ours, by_number) in
        [(Ours { freeze_pid: Some(10), thaw: OurThaw::By(20) }, true), (Ours { freeze_pid: None, thaw: OurThaw::Somebody }, false)]
    {
        let found = judge(&entries, ours);
        // Our own process may say more; by its number it is ours.
        if foreign.iter().filter(|l| !as_ours(l)).any(|l| freezes(&l)) {
            assert!(!good(&found), "{by_number}: {log}");
        }
        if foreign.iter().all(|l| !LOUD.iter().any(|w| l.to_lowercase().contains(w))) {
            assert!(good(&found), "{found:?} {log}");
        }
        assert!(found.evidence.iter().all(|e| !e.contains('\n')));
    }
    // Who did not thaw gets no good proof of any log.
    assert!(!good(&judge(&entries, Ours { freeze_pid: Some(10), thaw: OurThaw::Nobody })));
    // Neither does a log without the first line of our freeze or the last one of our thaw.
    if !foreign.iter().any(|l| as_ours(l)) {
        let by = Ours { freeze_pid: Some(10), thaw: OurThaw::By(20) };
        assert!(!good(&judge(&entries[1..], by)));
        assert!(!good(&judge(&entries[..entries.len() - 1], by)));
    }
    let any = messages::parse(&text);
    let _ = judge(&any, Ours { freeze_pid: Some(10), thaw: OurThaw::By(20) });
    let _ = judge(&any, Ours { freeze_pid: None, thaw: OurThaw::Somebody });
});

fn good(f: &Findings) -> bool {
    f.alone.is_ok() && f.log_clean.is_ok() && f.released == Known::Yes
}

/// By its number our own process's. Without trailing space, which an entry that ends there loses.
fn as_ours(line: &str) -> bool {
    let begins = |e: &messages::Entry, with: &str| e.text.starts_with(with.trim_end());
    messages::parse(line).iter().any(|e| (e.pid == 10 && begins(e, FREEZE)) || (e.pid == 20 && begins(e, THAW)))
}
