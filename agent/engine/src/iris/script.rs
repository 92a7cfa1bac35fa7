//! Scripts on the standard input of a terminal session, and their answers.
//!
//! A terminal executes one line after the other; an error in a line prints its text and the next line runs, and the
//! exit code of a session that simply ends is 0 whatever happened. So a script sets a default before each question,
//! prints `KEY=value` lines between two sentinels that nobody can guess, and ends through
//! `$SYSTEM.Process.Terminate` with a code of its own. Only what lies between the sentinels is read.

use std::collections::BTreeMap;

/// A script that is being written.
#[derive(Clone, Debug)]
pub struct Script {
    nonce: String,
    text: String,
}

impl Script {
    /// The sentinel is joined by the engine, so that an echo of the script is not taken for its answer.
    pub fn new(nonce: &str) -> Self {
        let mut s = Self { nonce: nonce.into(), text: String::new() };
        s.line(&format!("write !,\"SNAPFREEZE-BEGIN\"_\"-{nonce}\",!"));
        // -U is ignored for a user with a startup namespace of his own (System Administration Guide).
        s.line("set $namespace=\"%SYS\"");
        s
    }
    /// One line of ObjectScript; the caller has quoted every value by [`super::quote::literal`].
    pub fn line(&mut self, line: &str) {
        debug_assert!(!line.contains('\n'));
        self.text.push_str(line);
        self.text.push('\n');
    }
    /// Prints the value of an expression that cannot fail. Line ends inside it become blanks.
    pub fn say(&mut self, key: &str, expression: &str) {
        self.line(&format!("write !,\"{key}=\",$translate({expression},$char(13,10),\"  \"),!"));
    }
    /// Asks something that may fail (another version, no right) and prints the answer, empty when it failed.
    pub fn ask(&mut self, key: &str, expression: &str) {
        self.line("set sfv=\"\"");
        self.line(&format!("set sfv={expression}"));
        self.say(key, "sfv");
    }
    /// The end sentinel and the exit code. `halt` is for an engine that cannot terminate itself.
    pub fn end(mut self, code: &str) -> String {
        let nonce = self.nonce.clone();
        self.line(&format!("write !,\"SNAPFREEZE-END\"_\"-{nonce}\",!"));
        self.line(&format!("do $SYSTEM.Process.Terminate($JOB,{code})"));
        self.line("halt");
        self.text
    }
}

/// What lies between the sentinels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    values: BTreeMap<String, String>,
    /// The end sentinel was seen.
    pub complete: bool,
}

impl Reply {
    /// `None`: the begin sentinel is missing, so no line of the script was executed before this output ended.
    pub fn parse(output: &str, nonce: &str) -> Option<Self> {
        let (begin, end) = (format!("SNAPFREEZE-BEGIN-{nonce}"), format!("SNAPFREEZE-END-{nonce}"));
        let mut lines = output.lines().map(|l| l.trim_end_matches('\r'));
        lines.find(|l| *l == begin)?;
        let mut reply = Self::default();
        for line in lines {
            if line == end {
                reply.complete = true;
                break;
            }
            if let Some((key, value)) = line.split_once('=')
                && !key.is_empty()
                && key.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            {
                // The first answer counts: nothing printed later can replace it.
                reply.values.entry(key.into()).or_insert_with(|| value.trim_end().into());
            }
        }
        Some(reply)
    }
    /// Empty when it was not answered.
    pub fn get(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }
    pub fn some(&self, key: &str) -> Option<String> {
        Some(self.get(key)).filter(|v| !v.is_empty()).map(str::to_owned)
    }
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key).parse().ok()
    }
    /// A time or a span that fits every clock it is added to; anything else is no answer.
    pub fn seconds(&self, key: &str) -> Option<f64> {
        self.get(key).parse().ok().filter(|f| (0.0..1e12).contains(f))
    }
}

/// Random, so that nothing that an instance prints by itself can look like our sentinel.
pub fn nonce() -> Result<String, std::io::Error> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_lies_between_the_sentinels_counts() {
        let out =
            "WDS=1\n%SYS>\nSNAPFREEZE-BEGIN-n1\r\n\n%SYS>\nWDS=0\r\n<SYNTAX>\nWDS=1\nlower=2\nSC=ok = yes\nSNAPFREEZE-END-n1\nREQ=/late\n";
        let r = Reply::parse(out, "n1").unwrap();
        assert_eq!((r.get("WDS"), r.get("SC"), r.get("REQ"), r.complete), ("0", "ok = yes", "", true));
        assert_eq!(Reply::parse(out, "n2"), None);
        assert!(!Reply::parse("SNAPFREEZE-BEGIN-n1\nA=1", "n1").unwrap().complete);
    }

    #[test]
    fn an_echo_of_the_script_is_not_its_answer() {
        let mut s = Script::new("n1");
        s.say("WDS", "1");
        let text = s.end("5");
        assert_eq!(Reply::parse(&text, "n1"), None);
        assert!(text.ends_with("do $SYSTEM.Process.Terminate($JOB,5)\nhalt\n"));
    }

    #[test]
    fn a_time_that_fits_no_clock_is_no_answer() {
        let r = Reply::parse("SNAPFREEZE-BEGIN-n\nA=12.5\nB=-1e300\nC=1e308\nD=inf\nE=\n", "n").unwrap();
        assert_eq!(["A", "B", "C", "D", "E"].map(|k| r.seconds(k)), [Some(12.5), None, None, None, None]);
    }

    proptest! {
        #[test]
        fn any_output_is_read_without_panic(out in any::<String>(), nonce in "[a-f0-9]{4}") {
            let _ = Reply::parse(&out, &nonce);
            let framed = format!("SNAPFREEZE-BEGIN-{nonce}\n{out}\n");
            prop_assert!(Reply::parse(&framed, &nonce).is_some());
        }
    }
}
