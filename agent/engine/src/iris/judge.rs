//! Reads what the engine logged between our freeze and our thaw, and decides whether anything else happened there.
//! Pure. An entry is ours by its process number; whose it is cannot be told by its text alone.

use super::parse::logfile::{self, LogFile};
use super::parse::messages::Entry;
use protocol::{Disturbed, Known};

/// Who wrote our own lines. `freeze_pid` `None`: it cannot be known (a wrapper), so there must be only one freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ours {
    pub freeze_pid: Option<u32>,
    pub thaw: OurThaw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OurThaw {
    By(u32),
    /// A wrapper, or a call without a script: there must be only one thaw.
    Somebody,
    /// We did not thaw: every thaw is another tool's.
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    pub alone: Result<(), Disturbed>,
    pub log_clean: Result<(), String>,
    /// Whether our thaw released something, by its line in messages.log.
    pub released: Known,
    /// Our own lines, for people.
    pub evidence: Vec<String>,
}

const FREEZE: &str = "Backup.General.ExternalFreeze: ";
const THAW: &str = "Backup.General.ExternalThaw: ";

/// What else tells of a freeze, a thaw or a backup. "Suspending write daemon" is an online backup's last pass;
/// the words of `irisstat -W` and of the engine's own limit are in no public source, so these are what they must hold.
const FOREIGN: [&str; 15] = [
    "ExternalFreeze",
    "ExternalThaw",
    "ShardedCluster",
    "irisstat",
    "cstat",
    "WDSuspendLimit",
    "Suspending system",
    "Resuming system",
    "System suspended",
    "System resumed",
    "Suspending write daemon",
    "VSS Writer: On",
    "^DBACK",
    "^BACKUP",
    "Backup pass",
];

/// Texts after which the image may be damaged (Monitoring Guide, serious messages of the log monitor).
const PANIC: [&str; 8] = [
    "WRTDMN in panic mode",
    "WRTDMN Panic",
    "written directly to database",
    "write daemon encountered serious error",
    "System Frozen",
    "Write to journal file has failed",
    "automatic rollover has failed",
    "WIJ expansion failure",
];

/// `entries`: everything in messages.log from just before our freeze until now.
pub fn judge(entries: &[Entry], ours: Ours) -> Findings {
    let freeze_pid = ours.freeze_pid.or_else(|| single_freeze(entries).map(|f| f.pid));
    let Some(start) = freeze_pid.and_then(|pid| entries.iter().position(|e| e.pid == pid && e.text.starts_with(FREEZE))) else {
        return Findings::unreadable("our own freeze is not in the log");
    };
    let inside = &entries[start..];
    let thaw_pid = match ours.thaw {
        OurThaw::By(pid) => Some(pid),
        OurThaw::Somebody => only_thaw(inside),
        OurThaw::Nobody => None,
    };
    // Our thaw's last line ends the window; without one everything up to now is inside.
    let end = inside.iter().rposition(|e| Some(e.pid) == thaw_pid && e.text.starts_with(THAW)).map_or(inside.len(), |i| i + 1);
    let inside = &inside[..end];
    let mine: Vec<&Entry> = inside.iter().filter(|e| is_ours(e, freeze_pid, thaw_pid)).collect();
    Findings {
        alone: alone(inside, &mine, freeze_pid, thaw_pid),
        log_clean: clean(inside),
        released: released(&mine, thaw_pid),
        evidence: mine.iter().filter(|e| !e.text.contains("Warning, ")).map(|e| e.shown()).collect(),
    }
}

impl Findings {
    pub fn unreadable(why: &str) -> Self {
        Self { alone: Err(Disturbed::Unreadable(why.into())), log_clean: Err(why.into()), released: Known::Unknown, evidence: Vec::new() }
    }
}

fn is_ours(e: &Entry, freeze_pid: Option<u32>, thaw_pid: Option<u32>) -> bool {
    (Some(e.pid) == freeze_pid && e.text.starts_with(FREEZE)) || (Some(e.pid) == thaw_pid && e.text.starts_with(THAW))
}

fn alone(inside: &[Entry], mine: &[&Entry], freeze_pid: Option<u32>, thaw_pid: Option<u32>) -> Result<(), Disturbed> {
    let other = |e: &Entry| Disturbed::Other(e.shown());
    for e in inside {
        if !is_ours(e, freeze_pid, thaw_pid) && (is_foreign(&e.text) || is_foreign(&e.category)) {
            return Err(other(e));
        }
        // Of our own entries only the first line is ours: a line in a form that we do not know is read as belonging to
        // the entry before it.
        if let Some(line) = e.text.lines().skip(1).find(|l| is_foreign(l)) {
            return Err(Disturbed::Other(line.into()));
        }
    }
    // Our freeze once, our thaw once, in this order: the same process may not have done it twice.
    let steps: Vec<&&Entry> = mine.iter().filter(|e| step(e).is_some()).collect();
    let mut last = None;
    for e in steps {
        let now = step(e);
        if now <= last {
            return Err(other(e));
        }
        last = now;
    }
    let seen = |s: u8| mine.iter().any(|e| step(e) == Some(s));
    let resumed = mine.iter().any(|e| first_line(e).ends_with("System resumed"));
    let wanted = [
        (1, true, "freeze's \"Suspending system\""),
        (2, true, "freeze's \"System suspended\""),
        // "Already resumed" may come without it.
        (3, resumed, "thaw's \"Resuming system\""),
        (4, true, "thaw's \"System resumed\""),
    ];
    match wanted.iter().find(|(s, needed, _)| *needed && !seen(*s)) {
        Some((_, _, text)) => Err(Disturbed::Unreadable(format!("our {text} is not in the log"))),
        None => Ok(()),
    }
}

fn is_foreign(text: &str) -> bool {
    FOREIGN.iter().any(|f| text.contains(f))
}

/// Without lines that follow it and have no prefix.
fn first_line(e: &Entry) -> &str {
    e.text.lines().next().unwrap_or_default().trim_end()
}

/// The four lines of a window, in their order.
fn step(e: &Entry) -> Option<u8> {
    match first_line(e).split_once(": ").map(|(_, t)| t.trim()) {
        Some("Suspending system") => Some(1),
        Some("System suspended") => Some(2),
        Some("Resuming system") => Some(3),
        Some("System resumed" | "Already resumed") => Some(4),
        _ => None,
    }
}

fn clean(inside: &[Entry]) -> Result<(), String> {
    match inside.iter().find(|e| PANIC.iter().any(|p| e.text.contains(p))) {
        Some(e) => Err(e.shown()),
        None => Ok(()),
    }
}

/// "'System resumed' … confirms that the system was frozen up to that point, because otherwise it logs
/// 'Backup.General.ExternalThaw: Already resumed'" (class reference, Backup.ShardedCluster).
fn released(mine: &[&Entry], thaw_pid: Option<u32>) -> Known {
    let said = |text: &str| mine.iter().any(|e| Some(e.pid) == thaw_pid && first_line(e).ends_with(text));
    match (said("Already resumed"), said("System resumed")) {
        (true, _) => Known::No,
        (false, true) => Known::Yes,
        (false, false) => Known::Unknown,
    }
}

/// The process of the only thaw in the log.
fn only_thaw(inside: &[Entry]) -> Option<u32> {
    only(inside.iter().filter(|e| e.text.starts_with(THAW)).map(|e| e.pid))
}

fn only(mut pids: impl Iterator<Item = u32>) -> Option<u32> {
    let first = pids.next()?;
    pids.all(|p| p == first).then_some(first)
}

/// One freeze, by messages.log alone: for `freeze_with`, whose process nobody tells us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedFreeze {
    pub pid: u32,
    pub log: LogFile,
    pub shown: Vec<String>,
}

/// `None` when the log holds no freeze or those of several processes.
pub fn single_freeze(entries: &[Entry]) -> Option<LoggedFreeze> {
    let of_freeze = || entries.iter().filter(|e| e.text.starts_with(FREEZE));
    let pid = only(of_freeze().map(|e| e.pid))?;
    // The same texts as in a LogFile, behind another prefix.
    let as_log: String = of_freeze().map(|e| format!("01/01/1970 00:00:00: {}\n", e.text.lines().next().unwrap_or_default())).collect();
    let mut log = logfile::parse(&as_log);
    log.lines.clear();
    let shown = of_freeze().filter(|e| !e.text.contains("Warning, ")).map(Entry::shown).collect();
    Some(LoggedFreeze { pid, log, shown })
}

#[cfg(test)]
mod tests {
    use super::super::parse::{fixture, messages};
    use super::*;
    use proptest::prelude::*;

    const FREEZE_LINES: &str = "08/11/21-05:49:43:233 (10) 0 [Utility.Event] Backup.General.ExternalFreeze: Suspending system\n\
        08/11/21-05:49:43:233 (10) 1 [Utility.Event] Backup.General.ExternalFreeze: Warning, /d/ is not being journalled\n\
        08/11/21-05:49:43:342 (10) 0 [Utility.Event] Backup.General.ExternalFreeze: Start a journal restore for this backup with journal file: /j/3\n\
        08/11/21-05:49:44:347 (10) 0 [Utility.Event] Backup.General.ExternalFreeze: System suspended\n";
    const THAW_LINES: &str = "08/11/21-05:49:54:410 (20) 0 [Utility.Event] Backup.General.ExternalThaw: Resuming system\n\
        08/11/21-05:49:55:411 (20) 0 [Utility.Event] Backup.General.ExternalThaw: System resumed\n";
    const BOTH: Ours = Ours { freeze_pid: Some(10), thaw: OurThaw::By(20) };

    fn of(text: &str, ours: Ours) -> Findings {
        judge(&messages::parse(text), ours)
    }
    fn between(lines: &str) -> Findings {
        of(&format!("{FREEZE_LINES}{lines}{THAW_LINES}"), BOTH)
    }

    #[test]
    fn the_real_log_is_an_undisturbed_window() {
        let Some(text) = fixture("messages-2021.1.log") else {
            return;
        };
        for ours in [Ours { freeze_pid: Some(18374), thaw: OurThaw::By(18380) }, Ours { freeze_pid: None, thaw: OurThaw::Somebody }] {
            let f = of(&text, ours);
            assert_eq!((f.alone, f.log_clean, f.released, f.evidence.len()), (Ok(()), Ok(()), Known::Yes, 5));
        }
        let f = of(&text, Ours { freeze_pid: Some(18374), thaw: OurThaw::By(99) });
        assert!(matches!(f.alone, Err(Disturbed::Other(_))), "somebody else thawed: {f:?}");
    }

    #[test]
    fn anything_else_that_freezes_thaws_or_backs_up_breaks_it() {
        assert_eq!(between("").alone, Ok(()));
        let foreign = [
            "08/11/21-05:49:50:000 (30) 0 [Utility.Event] Backup.General.ExternalThaw: Resuming system\n",
            "08/11/21-05:49:50:000 (30) 0 [Utility.Event] Backup.General.ExternalFreeze: Suspending system\n",
            "08/11/21-05:49:50:000 (30) 0 [Utility.Event] Backup.ShardedCluster.Resume: Resuming system\n",
            "08/11/21-05:49:50:000 (30) 1 [Utility.Event] irisstat -W: something\n",
            "08/11/21-05:49:50:000 (30) 0 [Generic.Event] InterSystems IRIS VSS Writer: OnFreeze\n",
            "08/11/21-05:49:50:000 (30) 0 [Backup.General.ExternalThaw] Resuming\n",
            "08/11/21-05:49:50:000 (30) 2 [Utility.Event] Backup.General.ExternalFreeze: ERROR: cannot run with switch 10 set\n",
            // Our own processes doing it again.
            "08/11/21-05:49:50:000 (20) 0 [Utility.Event] Backup.General.ExternalThaw: Resuming system\n",
            "08/11/21-05:49:50:000 (10) 0 [Utility.Event] Backup.General.ExternalFreeze: Suspending system\n",
        ];
        for line in foreign {
            assert!(matches!(between(line).alone, Err(Disturbed::Other(_))), "{line}");
        }
        let harmless =
            "08/11/21-05:49:50:000 (30) 0 [Generic.Event] INTERSYSTEMS IRIS JOURNALING SYSTEM MESSAGE\nJournaling switched to: /j/4\n";
        assert_eq!(between(harmless).alone, Ok(()));
    }

    #[test]
    fn a_line_in_an_unknown_form_is_seen_though_it_follows_one_of_ours() {
        let log = |line: &str| format!("{}{line}{THAW_LINES}", FREEZE_LINES.replace("journalled\n", &format!("journalled\n{line}")));
        let thaw = "2021-08-11 05:49:50.000 [30] Backup.General.ExternalThaw: Resuming system\n";
        assert!(matches!(of(&log(thaw), BOTH).alone, Err(Disturbed::Other(l)) if l == thaw.trim_end()));
        // Other text there takes nothing from what we said.
        let f = of(&log("\n*** note\n"), BOTH);
        assert_eq!((f.alone, f.released), (Ok(()), Known::Yes));
    }

    #[test]
    fn what_happens_before_the_freeze_or_after_the_thaw_is_not_our_window() {
        let before = "08/11/21-05:49:40:000 (30) 0 [Utility.Event] Backup.General.ExternalThaw: System resumed\n";
        let after = "08/11/21-05:50:40:000 (30) 0 [Utility.Event] Backup.General.ExternalFreeze: Suspending system\n";
        assert_eq!(of(&format!("{before}{FREEZE_LINES}{THAW_LINES}{after}"), BOTH).alone, Ok(()));
    }

    #[test]
    fn a_missing_line_of_our_own_is_no_evidence() {
        for text in ["", THAW_LINES, FREEZE_LINES] {
            assert!(matches!(of(text, BOTH).alone, Err(Disturbed::Unreadable(_))), "{text}");
        }
    }

    #[test]
    fn when_we_did_not_thaw_every_thaw_is_another_tools() {
        let ours = Ours { freeze_pid: Some(10), thaw: OurThaw::Nobody };
        let f = of(&format!("{FREEZE_LINES}{THAW_LINES}"), ours);
        assert!(matches!(f.alone, Err(Disturbed::Other(_))), "{f:?}");
        assert!(matches!(of(FREEZE_LINES, ours).alone, Err(Disturbed::Unreadable(_))));
    }

    #[test]
    fn already_resumed_released_nothing() {
        let f = of(&format!("{FREEZE_LINES}{}", THAW_LINES.replace("System resumed", "Already resumed")), BOTH);
        assert_eq!(f.released, Known::No);
    }

    #[test]
    fn a_write_daemon_in_panic_speaks_against_it() {
        let f = between("08/11/21-05:49:50:000 (5) 2 [WriteDaemon.Panic] WRTDMN Panic: SFN 3 Block 17 written directly to database\n");
        assert!(f.log_clean.unwrap_err().contains("SFN 3") && f.alone.is_ok());
    }

    proptest! {
        #[test]
        fn any_log_is_judged_without_panic(text in any::<String>(), f in any::<Option<u32>>(), t in any::<u32>()) {
            let _ = of(&text, Ours { freeze_pid: f, thaw: OurThaw::By(t) });
            let _ = of(&format!("{FREEZE_LINES}{text}\n{THAW_LINES}"), Ours { freeze_pid: f, thaw: OurThaw::By(t) });
        }

        /// Whatever order the eight lines of two tools come in, ours is called alone only when no line of the other
        /// lies between our first and our last.
        #[test]
        fn two_tools_interleaved(order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle()) {
            let line = |i: usize| {
                let (pid, text) = [
                    (10, "Backup.General.ExternalFreeze: Suspending system"),
                    (10, "Backup.General.ExternalFreeze: System suspended"),
                    (20, "Backup.General.ExternalThaw: Resuming system"),
                    (20, "Backup.General.ExternalThaw: System resumed"),
                    (11, "Backup.General.ExternalFreeze: Suspending system"),
                    (11, "Backup.General.ExternalFreeze: System suspended"),
                    (21, "Backup.General.ExternalThaw: Resuming system"),
                    (21, "Backup.General.ExternalThaw: System resumed"),
                ][i];
                format!("08/11/21-05:49:50:000 ({pid}) 0 [Utility.Event] {text}\n")
            };
            let text: String = order.iter().map(|i| line(*i)).collect();
            let at = |i: usize| order.iter().position(|o| *o == i).unwrap();
            let in_order = at(0) < at(1) && at(1) < at(2) && at(2) < at(3);
            let between = (4..8).any(|i| at(0) < at(i) && at(i) < at(3));
            prop_assert_eq!(of(&text, BOTH).alone.is_ok(), in_order && !between);
        }
    }
}
