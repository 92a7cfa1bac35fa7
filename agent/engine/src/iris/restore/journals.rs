//! `Journal.Restore`, the class behind ^JRNRESTO without its prompts (class reference). Two sessions: the first checks the
//! files and lists the directories that they hold; the second selects by exactly those names and runs.

use super::{Failed, LONG_MS, Say, call, dir_literal, journal_files, literal, status};
use crate::iris::Iris;
use crate::iris::script::Script;
use recovery::journals::plain;
use std::path::{Path, PathBuf};

/// Between two directories in one answer: no path holds it.
const TAB: char = '\t';

impl Iris {
    pub(super) fn restore_journals(
        &self,
        first: &str,
        last: Option<&str>,
        locations: &[PathBuf],
        select: &[(PathBuf, PathBuf)],
        say: Say<'_>,
    ) -> Result<String, Failed> {
        let files = journal_files(locations);
        let (from, to) = ends(&files, first, last)?;
        let open = opened(&from, &to, locations)?;
        say(&format!("checking the journals from {from} to {to}"));
        let reply = self.script(LONG_MS, |s| {
            open(s);
            call(s, "sfr.CheckJournalIntegrity(1)");
            s.line("set sfl=\"\",sfk=\"\"");
            s.line("for { set sfd=sfr.SourceDatabases.GetNext(.sfk) quit:sfk=\"\"  set sfl=sfl_sfd_$char(9) }");
            s.say("SOURCES", "sfl");
        })?;
        status(&reply, &format!("the journals from {from} to {to}")).map_err(|f| {
            f.next("put the right file in its place, or restore to a moment before it (--until FILE); nothing of the journals was applied")
        })?;
        let sources: Vec<String> = reply.get("SOURCES").split(TAB).filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let chosen = choose(select, &sources)?;
        if !select.is_empty() && chosen.is_empty() {
            return Ok(format!("no changes of these databases are in the journals from {from} to {to}"));
        }
        say(&format!("applying the journals from {from} to {to}"));
        let reply = self.script(LONG_MS, |s| {
            open(s);
            // Stops at the record that cannot be applied, and leaves every database of one moment (class reference).
            s.line("set sfr.AbortOnDatabaseError=1");
            for (source, target) in &chosen {
                s.line(&format!("set sfs=sfr.SelectUpdates({source})"));
                s.line(&format!("set sfs=sfr.RedirectDatabase({source},{target})"));
            }
            call(s, "sfr.Run()");
        })?;
        status(&reply, "journal restore")?;
        Ok(format!("journals from {from} to {to} applied; they hold {}", sources.join(", ")))
    }
}

/// Plain names as paths, where they were found.
fn ends(files: &[recovery::JournalFile], first: &str, last: Option<&str>) -> Result<(String, String), Failed> {
    let found = |name: &str| {
        let file = files.iter().find(|f| plain(&f.file()) == plain(name));
        file.map(|f| f.path.with_file_name(plain(name)).to_string_lossy().into_owned())
            .ok_or_else(|| Failed::new(format!("journal {name} is not there any more")).next("put it back, then run again"))
    };
    let newest = files.last().map(|f| plain(&f.file()).to_owned()).unwrap_or_default();
    Ok((found(first)?, found(last.unwrap_or(&newest))?))
}

/// The object with its files. `JournalLog=-1` overrides the instance's own log: the same way for files of a set.
fn opened(from: &str, to: &str, locations: &[PathBuf]) -> Result<impl Fn(&mut Script) + use<>, Failed> {
    let (from, to) = (literal(from)?, literal(to)?);
    let places = locations.iter().map(|l| dir_literal(l)).collect::<Result<Vec<_>, _>>()?;
    Ok(move |s: &mut Script| {
        s.line("set sfr=##class(Journal.Restore).%New()");
        s.line("set sfr.JournalLog=-1");
        s.line(&format!("set sfr.FirstFile={from}"));
        s.line(&format!("set sfr.LastFile={to}"));
        for p in &places {
            s.line(&format!("set sfs=sfr.UseJournalLocation({p})"));
        }
    })
}

/// "You must make sure the 'SourceDatabase' argument is in the canonical form": the form of the list, as literals.
fn choose(select: &[(PathBuf, PathBuf)], sources: &[String]) -> Result<Vec<(String, String)>, Failed> {
    let same = |listed: &str, dir: &Path| listed.trim_end_matches('/').eq_ignore_ascii_case(dir.to_string_lossy().trim_end_matches('/'));
    let mut out = Vec::new();
    for (source, target) in select {
        if let Some(listed) = sources.iter().find(|s| same(s, source)) {
            out.push((literal(listed)?, dir_literal(target)?));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use recovery::JournalFile;

    #[test]
    fn the_engine_gets_its_own_names_in_their_own_form() {
        let listed = vec!["/data/t1/".to_owned(), "/data/x\"y/".to_owned()];
        let pair = |a: &str, b: &str| (PathBuf::from(a), PathBuf::from(b));
        let chosen = choose(&[pair("/Data/T1", "/data/t1rest"), pair("/data/t2", "/data/t2"), pair("/data/x\"y", "/z")], &listed).unwrap();
        assert_eq!(chosen[0], ("\"/data/t1/\"".into(), "\"/data/t1rest/\"".into()));
        assert_eq!((chosen.len(), chosen[1].0.as_str()), (2, "\"/data/x\"\"y/\""));
        let files = ["20261127.001z", "20261127.002"].map(|n| JournalFile { path: format!("/j/{n}").into(), size: 1 });
        let ends_of = ends(&files, "20261127.001", None).unwrap();
        assert_eq!(ends_of, ("/j/20261127.001".into(), "/j/20261127.002".into()));
        assert!(ends(&files, "20261127.001", Some("20261127.003")).unwrap_err().why.contains("20261127.003"));
    }
}
