//! `messages.log` and the LogFile of a freeze, to the letter of facts 4.1 and 4.2.
//!
//! Texts marked `INVENTED` are known from no public source (facts 4.6).

use crate::clock;
use crate::config::Flavor;
use jiff::Zoned;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// INVENTED: WDSuspendLimit has run out.
pub const LIMIT_RESUMED: &str = "Backup.General.ExternalFreeze: WDSuspendLimit of %1 seconds reached, write daemon resumed";
/// INVENTED: ExternalFreezeTimeOut has run out.
pub const TIMEOUT_BLOCKED: &str = "Backup.General.ExternalFreeze: ExternalFreezeTimeOut of %1 seconds reached, blocking updates";
/// INVENTED: `irisstat -W` was used.
pub const IRISSTAT_W: &str = "irisstat -W: write daemon resumed by user request";
/// INVENTED: first words of a failed freeze or thaw in the logs; the text after it is the vendor's (facts 1.8).
pub const FAILED_PREFIX: &str = "ERROR: ";
/// INVENTED: thaw with other credentials than the freeze's.
pub const WRONG_CREDENTIALS: &str = "Username or Password do not match those given to ExternalFreeze";

/// Where messages.log lies and how a line looks.
#[derive(Debug, Clone)]
pub struct Console {
    pub path: PathBuf,
    pub flavor: Flavor,
}

impl Console {
    /// Appends one entry; `text` may span lines.
    pub fn log(&self, now: &Zoned, pid: u32, severity: u8, category: &str, text: &str) {
        let category = match self.flavor {
            Flavor::Iris => format!("[{category}] "),
            Flavor::Cache => String::new(),
        };
        append(&self.path, &format!("{} ({pid}) {severity} {category}{text}\n", clock::stamp_messages(now)));
    }

    /// Appends lines without a prefix, as WIJ recovery does.
    pub fn raw(&self, text: &str) {
        append(&self.path, text);
    }

    pub fn journal_switched(&self, now: &Zoned, pid: u32, file: &Path) {
        let product = match self.flavor {
            Flavor::Iris => "INTERSYSTEMS IRIS",
            Flavor::Cache => "CACHE",
        };
        let text = format!("{product} JOURNALING SYSTEM MESSAGE\nJournaling switched to: {}", file.display());
        self.log(now, pid, 0, "Generic.Event", &text);
    }

    /// System Monitor's rotation at MaxConsoleLogSize: the old file keeps its bytes under another name.
    pub fn rotate(&self, now: &Zoned) {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let old = self.path.with_file_name(format!("{stem}.old_{}", now.strftime("%Y%m%d")));
        let _ = std::fs::rename(&self.path, old);
        append(&self.path, "");
    }
}

fn append(path: &Path, text: &str) {
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
        // The database goes on when its log cannot be written (full disk).
        let _ = file.write_all(text.as_bytes());
    }
}

/// The LogFile argument: nowhere, the caller's terminal (the literal `0`), or a file.
pub enum FreezeLog<'a> {
    Nowhere,
    Terminal(&'a mut dyn FnMut(&str)),
    File(std::fs::File),
}

impl FreezeLog<'_> {
    /// `MM/DD/YYYY HH:MM:SS: text`.
    pub fn line(&mut self, now: &Zoned, text: &str) {
        self.raw(&format!("{}: {text}\n", clock::stamp_freeze_log(now)));
    }

    /// A block without a stamp.
    pub fn raw(&mut self, text: &str) {
        match self {
            FreezeLog::Nowhere => {}
            FreezeLog::Terminal(out) => out(text),
            FreezeLog::File(file) => {
                // As messages.log: a full disk under the log does not undo the freeze.
                let _ = file.write_all(text.as_bytes());
            }
        }
    }
}
