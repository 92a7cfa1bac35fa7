//! `iris-sim verify`: from files alone, is this the image of one moment?
//!
//! Clean means: every block is whole; no block is of a later write daemon cycle than its database's label;
//! all labels and the WIJ are of the same cycle (after the WIJ's own recovery, if it is pending); partners
//! of an update group are of the same moment; and what journals there are bring open transactions back so
//! that balances sum to zero.

pub mod files;
pub mod image;
pub mod report;

use crate::cli::out;
use report::Report;
use std::path::PathBuf;

/// Judges every instance found under these directories.
pub fn check(dirs: &[PathBuf]) -> Vec<Report> {
    let found = files::find(dirs);
    found.into_iter().map(image::judge).collect()
}

/// Exit 0 clean, 1 torn, 2 no image there.
pub fn main(dirs: &[PathBuf], json: bool) -> i32 {
    if let Some(missing) = dirs.iter().find(|d| !d.is_dir()) {
        eprintln!("not a directory: {}", missing.display());
        return 2;
    }
    let reports = check(dirs);
    if reports.is_empty() {
        eprintln!("no database found");
        return 2;
    }
    if json {
        let value = if reports.len() == 1 { serde_json::to_string(&reports[0]) } else { serde_json::to_string(&reports) };
        out(&format!("{}\n", value.unwrap_or_default()));
    } else {
        for report in &reports {
            out(&report.text());
        }
    }
    i32::from(reports.iter().any(|r| !r.clean))
}
