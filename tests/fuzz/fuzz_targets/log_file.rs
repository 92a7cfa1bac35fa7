//! The LogFile of `ExternalFreeze` and `ExternalThaw`, and the journal mark that is made of it.

#![no_main]

use engine::iris::mark::{self, Sources};
use engine::iris::parse::logfile;
use libfuzzer_sys::fuzz_target;

const SWITCHED: &str = "Backup.General.ExternalFreeze: Start a journal restore for this backup with journal file: ";

fuzz_target!(|data: &[u8]| {
    let text = fuzz::text(data);
    let pieces = fuzz::pieces(&text);
    let log = logfile::parse(&pieces[0]);
    let said = |what: &str| log.lines.iter().any(|l| l.ends_with(what));
    assert!(log.lines.iter().all(|l| text.contains(l.as_str()) && !l.contains('\n')));
    assert!(!log.suspended || said("ExternalFreeze: System suspended"));
    assert!(!log.resumed || said("ExternalThaw: System resumed"));
    assert!(!log.already_resumed || said("ExternalThaw: Already resumed"));
    if let Some(file) = &log.switched {
        assert!(log.lines.iter().any(|l| l.contains(SWITCHED) && l.contains(file.as_str())), "{file:?}");
    }
    if let Some((offset, file)) = &log.marker {
        assert!(!file.is_empty() && text.contains(file.as_str()) && text.contains("Journal marker set at"), "{offset} {file:?}");
    }
    // More text never takes anything back.
    for more in &pieces[1..] {
        let whole = logfile::parse(&format!("{}{more}", pieces[0]));
        let after = logfile::parse(more);
        assert_eq!(whole.suspended, log.suspended || after.suspended);
        assert_eq!(whole.resumed, log.resumed || after.resumed);
        assert_eq!(whole.already_resumed, log.already_resumed || after.already_resumed);
        assert_eq!(whole.switched, after.switched.or(log.switched.clone()));
        assert!(whole.lines.starts_with(&log.lines) && whole.warnings.starts_with(&log.warnings));
    }
    // The mark names a file that somebody named, an offset only in that file, and says where the sources disagree.
    let at = |i: usize| pieces.get(i).map(|p| p.trim());
    let sources = Sources { switch: true, log: Some(&log), current: at(1), offset: None, required: at(2) };
    let (m, warnings) = mark::mark(&sources);
    assert!(log.switched.is_none() || m.switched == log.switched);
    assert!(m.switched.as_deref().is_none_or(|s| log.switched.as_deref() == Some(s) || at(1) == Some(s)));
    assert!(m.offset.is_none() || log.marker.as_ref().map(|(o, f)| (Some(*o), Some(f))) == Some((m.offset, m.switched.as_ref())));
    assert!(at(1).is_none_or(|c| log.switched.is_none() || log.switched.as_deref() == Some(c) || !warnings.is_empty()));
    assert!(m.required.is_none() || m.required.as_deref() == at(2));
    let (m, _) = mark::mark(&Sources { switch: false, ..sources });
    assert_eq!(m.switched, None);
});
