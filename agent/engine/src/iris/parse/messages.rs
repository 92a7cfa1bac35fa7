//! `messages.log` (Caché: `cconsole.log`): `MM/DD/YY-HH:MM:SS:mmm (pid) severity [category] text`, with continuation
//! lines that have no prefix. Older versions write `MM/DD-HH:MM:SS:mmm ( pid) text`.

/// One entry with its continuation lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As written.
    pub stamp: String,
    pub pid: u32,
    /// 0 information, 1 warning, 2 severe, 3 fatal; `None` in the old form.
    pub severity: Option<u8>,
    pub category: String,
    /// Lines joined by `\n`.
    pub text: String,
}

impl Entry {
    /// First line as in the file, for evidence.
    pub fn shown(&self) -> String {
        let first = self.text.lines().next().unwrap_or_default();
        let severity = self.severity.map_or_else(String::new, |s| format!("{s} "));
        let category = if self.category.is_empty() { String::new() } else { format!("[{}] ", self.category) };
        format!("{} ({}) {severity}{category}{first}", self.stamp, self.pid)
    }
}

/// Lines before the first prefix belong to no entry and are left out.
pub fn parse(text: &str) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for line in text.lines() {
        let line = line.trim_end_matches('\r');
        if let Some(e) = entry(line) {
            all.push(e);
        } else if let Some(last) = all.last_mut() {
            last.text.push('\n');
            last.text.push_str(line);
        }
    }
    for e in &mut all {
        e.text.truncate(e.text.trim_end().len());
    }
    all
}

fn entry(line: &str) -> Option<Entry> {
    let (stamp, rest) = line.split_once(' ')?;
    if !is_stamp(stamp) {
        return None;
    }
    let (pid, rest) = rest.strip_prefix('(')?.split_once(')')?;
    let pid = pid.trim().parse().ok()?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let (severity, rest) = match rest.split_once(' ') {
        Some((s, r)) if s.len() == 1 && matches!(s.as_bytes()[0], b'0'..=b'3') => (s.parse().ok(), r),
        _ => (None, rest),
    };
    let (category, text) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((c, t)) if severity.is_some() => (c, t.strip_prefix(' ').unwrap_or(t)),
        _ => ("", rest),
    };
    Some(Entry { stamp: stamp.into(), pid, severity, category: category.into(), text: text.into() })
}

/// `08/11/21-05:49:43:233` or `08/10-11:19:50:459`.
fn is_stamp(s: &str) -> bool {
    let Some((date, time)) = s.split_once('-') else {
        return false;
    };
    let digits = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
    let date: Vec<&str> = date.split('/').collect();
    let time: Vec<&str> = time.split(':').collect();
    (2..=3).contains(&date.len())
        && date.iter().all(|p| digits(p, 2))
        && time.len() == 4
        && time[..3].iter().all(|p| digits(p, 2))
        && digits(time[3], 3)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_real_freeze_and_thaw() {
        let Some(text) = fixture("messages-2021.1.log") else {
            return;
        };
        let all = parse(&text);
        assert_eq!(all.len(), 8);
        assert_eq!(all[3].text, "INTERSYSTEMS IRIS JOURNALING SYSTEM MESSAGE\nJournaling switched to: /iris/journal1/20210811.003");
        assert_eq!((all[1].severity, all[1].pid, all[6].pid), (Some(1), 18374, 18380));
        assert_eq!(all[7].shown(), "08/11/21-05:49:55:411 (18380) 0 [Utility.Event] Backup.General.ExternalThaw: System resumed");
    }

    #[test]
    fn entries_over_many_lines_and_the_old_form() {
        let Some(text) = fixture("messages-startup-2023.1.log") else {
            return;
        };
        let all = parse(&text);
        let start = all.iter().find(|e| e.text.contains("Startup of InterSystems IRIS")).unwrap();
        assert!(start.text.ends_with("System Initialized.") && start.category == "Generic.Event");
        let old = parse("08/10-11:19:50:459 ( 1836) Too many errors restoring to C:\\MyIRIS\n[x] y");
        assert_eq!((old[0].pid, old[0].severity, old[0].text.as_str()), (1836, None, "Too many errors restoring to C:\\MyIRIS\n[x] y"));
        let Some(text) = fixture("messages-restored-2021.1.log") else {
            return;
        };
        assert!(parse(&text)[0].text.starts_with("Backup.General.ExternalFreeze: System suspended\n\n*** Recovery started"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
        #[test]
        fn nothing_after_the_first_prefix_is_lost(lines in prop::collection::vec("[a-zA-Z0-9 :/()\\[\\]-]{0,30}", 0..8)) {
            let text = format!("08/11/21-05:49:43:233 (1) 0 [A.B] start\n{}", lines.join("\n"));
            let joined: String = parse(&text).iter().map(|e| e.text.clone()).collect::<Vec<_>>().join("\n");
            for l in &lines {
                prop_assert!(joined.contains(l.trim_end()) || is_stamp(l.split(' ').next().unwrap()));
            }
        }
    }
}
