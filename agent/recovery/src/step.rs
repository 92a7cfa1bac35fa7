//! What a plan is made of. A runner carries the steps out in their order; each may be repeated from its beginning.

use crate::facts::KeptFile;
use crate::wish::Wish;
use protocol::{BackupId, InstanceName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub id: BackupId,
    pub instance: InstanceName,
    pub engine: String,
    pub wish: Wish,
    /// The set is; false only where the wish takes another.
    pub held: bool,
    pub steps: Vec<Step>,
    /// What a person should know before, none of which stops the plan.
    pub warnings: Vec<String>,
    /// If recovery at the first start fails, nothing of ours has been changed yet, and this is the way on.
    pub if_recovery_fails: String,
}

impl Plan {
    pub fn cost(&self) -> Cost {
        self.steps.iter().fold(Cost::default(), |a, s| Cost { files: a.files + s.cost.files, bytes: a.bytes + s.cost.bytes })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub action: Action,
    pub why: String,
    /// How the runner, or a person, sees that it is done.
    pub check: String,
    pub undo: Undo,
    pub cost: Cost,
    /// A person confirms it, or has said `--yes`.
    pub dangerous: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "text")]
pub enum Undo {
    /// It changes nothing that would have to be undone.
    NotNeeded,
    By(String),
    Cannot(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    pub files: u64,
    pub bytes: u64,
}

/// What is done. Paths are those of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Action {
    /// The instance down, by its own command.
    Stop,
    /// Up, for the administrator alone. Recovery runs.
    StartForAdministrator,
    /// Without a WIJ the start is expected to end in single-user mode.
    StartWithoutWij,
    /// `^STURECOV` option 8.
    SkipJournalAtStart,
    /// Down from single-user mode.
    Force,
    /// Up, for everybody.
    StartForUsers,
    Dismount {
        dir: PathBuf,
    },
    Mount {
        dir: PathBuf,
    },
    /// Rename files into `to`, on the same file system.
    KeepAside {
        files: Vec<PathBuf>,
        to: PathBuf,
    },
    /// Copy, fsync, compare, rename into place.
    Copy {
        files: Vec<(KeptFile, PathBuf)>,
    },
    /// The database in the configuration: no namespace shows it yet.
    AddDatabase {
        name: String,
        dir: PathBuf,
    },
    AddNamespace {
        name: String,
        database: String,
    },
    /// Out of the configuration; its file stays. Only a drill's.
    DeleteDatabase {
        name: String,
    },
    /// A drill's own directory, with everything in it.
    RemovePlace {
        dir: PathBuf,
    },
    /// Journals from `first` to `last` (left out: the newest before the run's own start), found in `locations`. `select`: source -> target directory;
    /// empty: everything.
    RestoreJournals {
        first: String,
        last: Option<String>,
        locations: Vec<PathBuf>,
        select: Vec<(PathBuf, PathBuf)>,
    },
    CheckIntegrity {
        dirs: Vec<PathBuf>,
    },
    /// GT.M: frees a copied database of what its freeze left in its header.
    Rundown {
        file: PathBuf,
    },
    /// GT.M: `mupip journal -recover -forward`. The only step that cannot be repeated: the file is rolled forward once.
    RollForward {
        journals: Vec<PathBuf>,
        redirect: Vec<(PathBuf, PathBuf)>,
    },
    /// GT.M: journaling is off on a recovered file.
    JournalingOn {
        file: PathBuf,
        journal: PathBuf,
    },
}

/// What a plan lacks. All of it is told at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub what: String,
    pub next: String,
}

impl Missing {
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }
}

impl Action {
    /// The word in progress lines, records and test points.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::StartForAdministrator => "start-for-administrator",
            Self::StartWithoutWij => "start-without-wij",
            Self::SkipJournalAtStart => "skip-journal-at-start",
            Self::Force => "force",
            Self::StartForUsers => "start-for-users",
            Self::Dismount { .. } => "dismount",
            Self::Mount { .. } => "mount",
            Self::KeepAside { .. } => "keep-aside",
            Self::Copy { .. } => "copy",
            Self::AddDatabase { .. } => "add-database",
            Self::AddNamespace { .. } => "add-namespace",
            Self::DeleteDatabase { .. } => "delete-database",
            Self::RemovePlace { .. } => "remove-place",
            Self::RestoreJournals { .. } => "restore-journals",
            Self::CheckIntegrity { .. } => "check-integrity",
            Self::Rundown { .. } => "rundown",
            Self::RollForward { .. } => "roll-forward",
            Self::JournalingOn { .. } => "journaling-on",
        }
    }
}

/// A sentence for a person.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop => f.write_str("stop the instance"),
            Self::StartForAdministrator => f.write_str("start the instance for the administrator alone; it recovers"),
            Self::StartWithoutWij => f.write_str("start without a WIJ: it is expected to stop in single-user mode"),
            Self::SkipJournalAtStart => f.write_str("tell it not to restore journals by itself at the next start (^STURECOV 8)"),
            Self::Force => f.write_str("end the single-user instance"),
            Self::StartForUsers => f.write_str("start the instance; users may connect"),
            Self::Dismount { dir } => write!(f, "dismount {}", dir.display()),
            Self::Mount { dir } => write!(f, "mount {}", dir.display()),
            Self::KeepAside { files, to } => write!(f, "keep {} of {} aside", list(files), to.display()),
            Self::Copy { files } => match files.first() {
                Some((_, to)) => {
                    write!(f, "copy {} to {}", count(files.len(), "file"), to.parent().unwrap_or(to).display())
                }
                None => f.write_str("copy nothing"),
            },
            Self::AddDatabase { name, dir } => write!(f, "configure database {name} in {}", dir.display()),
            Self::AddNamespace { name, database } => write!(f, "show database {database} as namespace {name}"),
            Self::DeleteDatabase { name } => write!(f, "take database {name} out of the configuration"),
            Self::RemovePlace { dir } => write!(f, "remove {}", dir.display()),
            Self::RestoreJournals { first, last, select, .. } => {
                write!(f, "apply the journals from {first} to {}", last.as_deref().unwrap_or("the last"))?;
                for (from, to) in select.iter().filter(|(from, to)| from != to) {
                    write!(f, ", those of {} to {}", from.display(), to.display())?;
                }
                Ok(())
            }
            Self::CheckIntegrity { dirs } => write!(f, "check the integrity of {}", list(dirs)),
            Self::Rundown { file } => write!(f, "run down {}", file.display()),
            Self::RollForward { journals, .. } => write!(f, "roll forward by {}", list(journals)),
            Self::JournalingOn { file, .. } => write!(f, "turn journaling on for {}", file.display()),
        }
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().take(3).map(|p| p.display().to_string()).collect();
    let more = paths.len().saturating_sub(names.len());
    format!("{}{}", names.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
}
