//! With which journal a restore of this freeze starts.

use super::parse::logfile::LogFile;
use super::{Iris, ask, script};
use crate::Error;
use protocol::{BootMs, JournalMark};

/// How many journals back from the newest the switched one is looked for after a lost reply.
const LOOK_BACK: usize = 20;

/// What the two sources say: the call's LogFile and the script that ran it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources<'a> {
    pub switch: bool,
    pub log: Option<&'a LogFile>,
    pub current: Option<&'a str>,
    pub offset: Option<u64>,
    pub required: Option<&'a str>,
}

/// The mark, with a warning for each point on which the sources do not agree. The LogFile goes before the script: its
/// line is the vendor's own for machines, and written at the switch itself.
pub fn mark(s: &Sources) -> (JournalMark, Vec<String>) {
    let mut warnings = Vec::new();
    let text = |o: Option<&str>| o.filter(|t| !t.is_empty()).map(str::to_owned);
    let mut required = text(s.required);
    if !s.switch {
        let mark = JournalMark { switched: None, required: required.or_else(|| text(s.current)), offset: s.offset, ..Default::default() };
        return (mark, warnings);
    }
    let logged = s.log.and_then(|l| l.switched.clone());
    if let (Some(l), Some(c)) = (&logged, s.current)
        && l != c
    {
        warnings.push(format!("the freeze's log names journal {l}, the engine now writes {c}; the log's is used"));
    }
    let switched = logged.or_else(|| text(s.current));
    let marker = s.log.and_then(|l| l.marker.clone());
    let offset = match (&marker, &switched) {
        (Some((offset, file)), Some(sw)) if file == sw => Some(*offset),
        (Some((_, file)), Some(sw)) => {
            warnings.push(format!("the journal marker was set in {file}, not in the switched file {sw}"));
            None
        }
        (_, None) | (None, _) => None,
    };
    if let (Some(r), Some(sw)) = (&required, &switched)
        && file_name(r) > file_name(sw)
        && directory(r) == directory(sw)
    {
        warnings.push(format!("the engine requires {r}, which is newer than the switched file {sw}; the switched file is used"));
        required = None;
    }
    (JournalMark { switched, required, offset, ..Default::default() }, warnings)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(d, _)| d)
}

/// A journal was switched to by a backup. The English text is not in any public source; the Japanese portal shows
/// 「バックアップにより」.
pub fn by_backup(reason: &str) -> bool {
    reason.to_lowercase().contains("backup") || reason.contains("バックアップ")
}

impl Iris {
    /// The switched journal of a freeze whose answer was lost, by the journal's own reason: the newest file that a
    /// backup switched to. For a person who looks into it: such a window is never unbroken.
    pub fn mark_after_lost_reply(&self, by: BootMs) -> Result<Option<JournalMark>, Error> {
        let no = |why: String| Error::NoAnswer { program: self.runner.shown(&["session"]), why };
        let nonce = script::nonce().map_err(|e| no(e.to_string()))?;
        let mut s = script::Script::new(&nonce);
        s.ask("FILE0", ask::CURRENT_FILE);
        s.ask("REASON0", "##class(%SYS.Journal.File).GetReason(sfv)");
        s.line("set sfq=##class(%ResultSet).%New(\"%SYS.Journal.File:ByTimeReverseOrder\")");
        s.line("set sfx=sfq.Execute()");
        s.line(&format!(
            "for sfi=1:1:{LOOK_BACK} quit:'sfq.Next()  write !,\"FILE\",sfi,\"=\",sfq.Get(\"Name\"),!,\"REASON\",sfi,\"=\",sfq.Get(\"Reason\"),!"
        ));
        let output = self.runner.session(&s.end("5"), by, None)?;
        let reply = script::Reply::parse(&output.out(), &nonce).filter(|r| r.complete).ok_or_else(|| no(self.runner.said(&output)))?;
        let found = (0..=LOOK_BACK).find_map(|i| {
            let file = reply.some(&format!("FILE{i}"))?;
            by_backup(reply.get(&format!("REASON{i}"))).then_some(file)
        });
        Ok(found.map(|file| JournalMark { switched: Some(file), ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(switched: &str, offset: u64, file: &str) -> LogFile {
        LogFile { switched: Some(switched.into()), marker: Some((offset, file.into())), ..Default::default() }
    }

    #[test]
    fn both_sources_agree() {
        let l = log("/j/20240425.003", 197_596, "/j/20240425.003");
        let s = Sources {
            switch: true,
            log: Some(&l),
            current: Some("/j/20240425.003"),
            offset: Some(200_000),
            required: Some("/j/20240425.002"),
        };
        let (m, w) = mark(&s);
        assert!(w.is_empty());
        assert_eq!((m.switched.as_deref(), m.offset, m.restore_from()), (Some("/j/20240425.003"), Some(197_596), Some("/j/20240425.002")));
    }

    #[test]
    fn where_they_do_not_the_log_wins_and_says_so() {
        let l = log("/j/20240425.003", 1, "/j/20240425.004");
        let s = Sources { switch: true, log: Some(&l), current: Some("/j/20240425.004"), offset: None, required: Some("/j/20240425.005") };
        let (m, w) = mark(&s);
        assert_eq!((m.switched.as_deref(), m.offset, m.required, w.len()), (Some("/j/20240425.003"), None, None, 3));
    }

    #[test]
    fn without_a_switch_the_mark_is_the_current_file_and_offset() {
        let s = Sources { switch: false, log: None, current: Some("/j/20240425.003"), offset: Some(77), required: None };
        let (m, _) = mark(&s);
        assert_eq!((m.switched, m.required.as_deref(), m.offset), (None, Some("/j/20240425.003"), Some(77)));
    }

    #[test]
    fn without_a_log_file_the_engines_answer_is_used() {
        let s = Sources { switch: true, current: Some("/j/1"), ..Default::default() };
        assert_eq!(mark(&s).0.switched.as_deref(), Some("/j/1"));
    }

    #[test]
    fn reasons() {
        assert!(by_backup("by Backup") && by_backup("バックアップにより") && !by_backup("by user") && !by_backup(""));
    }
}
