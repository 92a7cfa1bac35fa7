//! A restore's steps on GT.M and YottaDB: `mupip rundown`, `journal -recover -forward`, `integ`, `set -journal`.

use super::Gtm;
use super::call::{Tool, one_line};
use crate::Error;
use crate::restore::{Failed, Restorer, Say, Sentinel, moment};
use doors::clock::boot_now;
use doors::exec::Output;
use protocol::WallMs;
use recovery::{Action, Found};
use std::path::{Path, PathBuf};

const SHORT_MS: u64 = 60_000;
/// The end is the engine's, this is only no endless wait.
const LONG_MS: u64 = 48 * 3_600_000;

impl Restorer for Gtm {
    /// The engine is asked nothing: a database that is to be restored may be damaged or gone.
    fn found(&self) -> Result<Found, Error> {
        Ok(Found { installed: true, ..Found::default() })
    }

    fn act(&self, action: &Action, say: Say<'_>) -> Result<String, Failed> {
        match action {
            Action::Rundown { file } => {
                let out = self.mupip(&["rundown", "-file", &text(file)?, "-override"], SHORT_MS)?;
                done(&out, None)
            }
            Action::RollForward { journals, redirect } => self.roll_forward(journals, redirect, say),
            Action::CheckIntegrity { dirs } => {
                let mut said = Vec::new();
                for file in dirs {
                    say(&format!("checking {}", file.display()));
                    let out = self.mupip(&["integ", "-file", &text(file)?], LONG_MS)?;
                    said.push(done(&out, Some("No errors detected by integ"))?);
                }
                Ok(said.join("; "))
            }
            Action::JournalingOn { file, journal } => {
                // GT.M puts the old journal aside by itself, with its generation's suffix.
                let journal = format!("-journal=enable,on,before,file=\"{}\"", text(journal)?);
                let out = self.mupip(&["set", &journal, "-file", &text(file)?], SHORT_MS)?;
                done(&out, None)
            }
            Action::Stop
            | Action::StartForAdministrator
            | Action::StartWithoutWij
            | Action::SkipJournalAtStart
            | Action::Force
            | Action::StartForUsers
            | Action::Dismount { .. }
            | Action::Mount { .. }
            | Action::KeepAside { .. }
            | Action::Copy { .. }
            | Action::AddDatabase { .. }
            | Action::AddNamespace { .. }
            | Action::DeleteDatabase { .. }
            | Action::RemovePlace { .. }
            | Action::RestoreJournals { .. } => Err(Failed::new(format!("{} is no step of this engine", action.word()))),
        }
    }

    fn write_sentinel(&self, sentinel: &Sentinel, now: WallMs) -> Result<(), Failed> {
        let name = global(sentinel)?;
        let code = format!("set ^{name}={} write ^{name}", now.0);
        let out = self.caller.run(Tool::Mumps, &["-run", "%XCMD", &code], boot_now().plus(SHORT_MS), None).map_err(Failed::from)?;
        match out.out().trim() == now.0.to_string() {
            true => Ok(()),
            false => Err(Failed::new(format!("the sentinel could not be written: {}", one_line(&out)))),
        }
    }

    /// By a global directory of its own, with the copy as its only database.
    fn read_sentinel(&self, sentinel: &Sentinel, copy: &Path, place: &Path) -> Result<Option<WallMs>, Failed> {
        let name = global(sentinel)?;
        let mut caller = self.caller.clone();
        caller.config.global_directory = place.join("drill.gld");
        let by = boot_now().plus(SHORT_MS);
        let words = format!("change -segment DEFAULT -file=\"{}\"\nexit\n", text(copy)?);
        let made = caller.run_with(Tool::Mumps, &["-run", "GDE"], &words, by).map_err(Failed::from)?;
        if !caller.config.global_directory.exists() {
            return Err(Failed::new(format!("no global directory could be made: {}", one_line(&made))));
        }
        let code = format!("write \"<\",$get(^{name}),\">\"");
        let out = caller.run(Tool::Mumps, &["-run", "%XCMD", &code], by, None).map_err(Failed::from)?;
        let said = out.out();
        let value = said.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        moment(value.ok_or_else(|| Failed::new(format!("the sentinel could not be read: {}", one_line(&out))))?.0)
    }
}

/// GT.M's names have no dots.
fn global(sentinel: &Sentinel) -> Result<&str, Failed> {
    let name = sentinel.global.name();
    if name.contains('.') { Err(Failed::new(format!("^{name} is no name of GT.M: leave out the dots"))) } else { Ok(name) }
}

impl Gtm {
    fn roll_forward(&self, journals: &[PathBuf], redirect: &[(PathBuf, PathBuf)], say: Say<'_>) -> Result<String, Failed> {
        let files = journals.iter().map(|j| text(j)).collect::<Result<Vec<_>, _>>()?.join(",");
        let mut words = vec!["journal".to_owned(), "-recover".into(), "-forward".into()];
        if !redirect.is_empty() {
            let pairs = redirect.iter().map(|(a, b)| Ok(format!("{}={}", text(a)?, text(b)?))).collect::<Result<Vec<_>, Failed>>()?;
            words.push(format!("-redirect={}", pairs.join(",")));
        }
        words.push(files);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        say("rolling forward");
        let out = self.mupip(&words, LONG_MS)?;
        // The files have changed, and GT.M rolls a file forward only once.
        let anew = "`snapfreeze restore abandon`, then run it again: what is there is kept aside, and copied from the set anew";
        done(&out, Some("Recover successful")).map_err(|f| f.anew(anew))?;
        let (lost, broken) = (extracts(&out, "Lost"), extracts(&out, "Broken"));
        if !lost.is_empty() {
            return Err(Failed::new(format!("GT.M left committed transactions out: {lost}")).anew(format!("look at that file; {anew}")));
        }
        // Of a crash: what had not been committed when it came.
        Ok(if broken.is_empty() { "recovered".into() } else { format!("recovered; not committed, and left out: {broken}") })
    }

    fn mupip(&self, args: &[&str], ms: u64) -> Result<Output, Failed> {
        self.caller.run(Tool::Mupip, args, boot_now().plus(ms), None).map_err(Failed::from)
    }
}

fn text(path: &Path) -> Result<String, Failed> {
    let t = path.to_str().filter(|t| !t.contains([',', '"', '=', '(', ')', ' ']));
    t.map(str::to_owned).ok_or_else(|| Failed::new(format!("{} has characters that mupip cannot be given", path.display())))
}

/// The files into which a recovery wrote the transactions that it left out.
fn extracts(out: &Output, kind: &str) -> String {
    let said = format!("{}\n{}", out.out(), out.err());
    let is = format!("{kind} transactions extract file").to_lowercase();
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| l.to_lowercase().contains(&is)).collect();
    lines.join("; ")
}

/// Exit code 0, and, where the engine says so, its own word.
fn done(out: &Output, word: Option<&str>) -> Result<String, Failed> {
    let said = format!("{}\n{}", out.out(), out.err());
    if out.code() == Some(0) && word.is_none_or(|w| said.contains(w)) {
        return Ok(one_line(out));
    }
    Err(Failed::new(one_line(out)))
}
