//! `explain`, completions and man pages.

use crate::cli::Cli;
use crate::out::{Out, usage};
use clap::CommandFactory;
use protocol::Code;
use protocol::code::exit;
use protocol::wire::Problem;
use serde_json::json;
use std::path::Path;

/// The pages of `docs/errors`, built in so that they are there when nothing else is.
macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        const PAGES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../../../docs/errors/", $name, ".md")))),*];
    };
}

pages!(
    "Thaw.LeftFrozen",
    "Interrupted",
    "Freeze.Failed",
    "Freeze.TimedOut",
    "Snapshot.Failed",
    "Window.Broken",
    "Freeze.Refused.Late",
    "Freeze.Refused.Clock",
    "Freeze.Refused.Busy",
    "Freeze.Refused.Guarding",
    "Freeze.Refused.AlreadyFrozen",
    "Freeze.Refused.UsedId",
    "Freeze.Refused.Hold",
    "Freeze.Refused.Instance",
    "Freeze.Refused.Role",
    "Freeze.Refused.Journaling",
    "Freeze.Refused.NotCovered",
    "Freeze.Refused.SplitFilesystem",
    "Freeze.Refused.Buffers",
    "Freeze.Refused.TooSlow",
    "Freeze.Refused.NotArmed",
    "Freeze.Refused.Stopping",
    "Thaw.UnknownId",
    "Thaw.NotYours",
    "Restore.Impossible",
    "Restore.Unfinished",
    "Cloud.Refused",
    "Agent.Unreachable",
    "Config.Invalid",
    "Usage.Invalid",
    "NotAllowed",
    "Catalogue.UnknownId",
    "Catalogue.Damaged",
    "Restore.Failed",
    "Drill.Failed",
    "Journals.ShipFailed",
    "Internal",
);

pub fn explain(code: Option<&str>, out: Out) -> u8 {
    let Some(word) = code else {
        for c in Code::ALL {
            out.object("code", &json!({ "name": c.name(), "exit": c.exit(), "says": c.says() }));
            out.say(format!("{:<30} {:>3}  {}", c.name(), c.exit(), c.says()));
        }
        return exit::DONE;
    };
    match word.parse::<Code>() {
        Ok(c) => {
            let page = PAGES.iter().find(|(n, _)| *n == c.name()).map_or(c.says(), |(_, p)| p);
            out.object("page", &json!({ "name": c.name(), "exit": c.exit(), "text": page }));
            out.say(page.trim_end());
            exit::DONE
        }
        Err(e) => out.problem(&usage(e.to_string()).next("snapfreezectl explain")),
    }
}

pub fn completions(shell: clap_complete::Shell) -> u8 {
    clap_complete::generate(shell, &mut Cli::command(), "snapfreezectl", &mut std::io::stdout());
    exit::DONE
}

pub fn man(dir: &Path, out: Out) -> u8 {
    match clap_mangen::generate_to(Cli::command(), dir) {
        Ok(()) => exit::DONE,
        Err(e) => out.problem(&Problem::new(Code::Internal, format!("{}: {e}", dir.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_page_and_every_page_its_code() {
        assert_eq!(PAGES.len(), Code::ALL.len());
        for c in Code::ALL {
            let (_, page) = PAGES.iter().find(|(n, _)| *n == c.name()).unwrap_or_else(|| panic!("no page for {c}"));
            assert!(page.starts_with(&format!("# {c}\n")), "the page of {c} begins with its name");
        }
    }
}
