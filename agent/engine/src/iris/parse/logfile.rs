//! The LogFile of `ExternalFreeze` and `ExternalThaw`: `MM/DD/YYYY HH:MM:SS: text`, with blocks that have no prefix.

/// What one call's LogFile says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFile {
    /// "Start a journal restore for this backup with journal file: …", the line meant for machines.
    pub switched: Option<String>,
    /// From the block `Journal marker set at` / `offset N of FILE`.
    pub marker: Option<(u64, String)>,
    pub suspended: bool,
    pub resumed: bool,
    pub already_resumed: bool,
    /// Texts of `Warning, …` lines.
    pub warnings: Vec<String>,
    /// Every line with a prefix, for evidence.
    pub lines: Vec<String>,
}

const START: &str = "Start a journal restore for this backup with journal file: ";

pub fn parse(text: &str) -> LogFile {
    let mut log = LogFile::default();
    let mut marker_follows = false;
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(said) = message(line) {
            log.lines.push(line.into());
            event(&mut log, said);
            marker_follows = false;
        } else if line == "Journal marker set at" {
            marker_follows = true;
        } else if marker_follows && let Some(m) = marker(line) {
            log.marker = Some(m);
            marker_follows = false;
        }
    }
    log
}

fn event(log: &mut LogFile, said: &str) {
    if let Some(file) = said.strip_prefix("Backup.General.ExternalFreeze: ").and_then(|s| s.strip_prefix(START)) {
        log.switched = Some(file.trim().to_owned());
    } else if let Some((_, w)) = said.split_once("Warning, ") {
        log.warnings.push(w.to_owned());
    } else if said.ends_with("ExternalFreeze: System suspended") {
        log.suspended = true;
    } else if said.ends_with("ExternalThaw: System resumed") {
        log.resumed = true;
    } else if said.ends_with("ExternalThaw: Already resumed") {
        log.already_resumed = true;
    }
}

/// What follows `08/11/2021 05:49:43: `.
fn message(line: &str) -> Option<&str> {
    let (prefix, said) = (line.get(..21)?, line.get(21..)?);
    let fits = prefix.bytes().zip("dd/dd/dddd dd:dd:dd: ".bytes()).all(|(b, want)| match want {
        b'd' => b.is_ascii_digit(),
        other => b == other,
    });
    fits.then_some(said)
}

/// `offset 262272 of /iris/journal1/20210811.003`
fn marker(line: &str) -> Option<(u64, String)> {
    let (offset, file) = line.trim().strip_prefix("offset ")?.split_once(" of ")?;
    Some((offset.parse().ok()?, file.trim().to_owned())).filter(|(_, f)| !f.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_real_log_of_a_freeze_and_its_thaw() {
        let Some(text) = fixture("freeze-thaw-2021.1.log") else {
            return;
        };
        let log = parse(&text);
        let file = "/iris/journal1/20210811.003";
        assert_eq!((log.switched.as_deref(), log.marker.clone()), (Some(file), Some((262_272, file.into()))));
        assert!(log.suspended && log.resumed && !log.already_resumed);
        assert_eq!(log.warnings.len(), 2);
        assert_eq!(log.lines.len(), 7);
    }

    #[test]
    fn the_log_of_an_online_backup_is_not_a_freeze() {
        let Some(text) = fixture("backup-2024.1.log") else {
            return;
        };
        let log = parse(&text);
        assert_eq!(log.marker, Some((197_596, "/usr/irissys/mgr/journal/20240425.003".into())));
        assert!(log.switched.is_none() && !log.suspended);
    }

    #[test]
    fn already_resumed_is_not_resumed() {
        let log = parse("08/11/2021 05:49:54: Backup.General.ExternalThaw: Already resumed\n");
        assert!(log.already_resumed && !log.resumed);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = parse(&text);
            let _ = parse(&format!("Journal marker set at\noffset {text}"));
        }
    }
}
