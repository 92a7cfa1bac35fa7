//! What the vendor's programs say to the server: one JSON line per request, lines of output, one last line.

use crate::config::Config;
use crate::instance::accounts::Group;
use crate::instance::journal_restore::RestoreArgs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Arguments of `Backup.General.ExternalFreeze`, by their vendor names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FreezeArgs {
    pub log_file: LogTarget,
    pub text: String,
    pub switch_journal: bool,
    pub timeout_s: u64,
    pub username: String,
    pub password: String,
    pub wd_suspend_limit_s: u64,
    /// Called by `iris freeze`.
    pub native: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ThawArgs {
    pub log_file: LogTarget,
    pub username: String,
    pub password: String,
    /// On the command line the credentials stand for a login.
    pub check_credentials: bool,
    pub native: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub enum LogTarget {
    #[default]
    Nowhere,
    Terminal,
    File(PathBuf),
}

/// Of `SYS.Database`, `Config.Databases`, `Config.Namespaces`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum DbOp {
    Create { dir: String },
    Mount { dir: String },
    Dismount { dir: String },
    Mounted { dir: String },
    Configure { name: String, dir: String },
    Unconfigure { name: String },
    Namespace { name: String, database: Option<String> },
    Integrity { file: String, dirs: Vec<String> },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Op {
    Login {
        emergency: bool,
        credentials: Option<(String, String)>,
    },
    Freeze(FreezeArgs),
    Thaw(ThawArgs),
    IsSuspended,
    SetHistory {
        log_file: LogTarget,
        description: String,
    },
    /// `irisstat`, with `-W` if `resume`.
    Stat {
        resume: bool,
    },
    Journal,
    SwitchJournal,
    Database(DbOp),
    JournalCheck(RestoreArgs),
    JournalRestore(RestoreArgs),
    /// ^STURECOV option 8.
    SkipJournal,
    Get {
        sfn: u16,
        key: String,
    },
    Set {
        sfn: u16,
        key: String,
        value: Option<String>,
    },
    Begin,
    Commit,
    Rollback,
    /// A workload's update group; answers how long it was stalled.
    Group(Group),
    Info,
    State,
    Ctl(BTreeMap<String, String>),
    Stop,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub pid: u32,
    pub op: Op,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Text for the caller's terminal; more follows.
    Out(String),
    Done(Value),
    /// The text as the vendor words it.
    Failed(String),
    /// The process ends: text, exit code.
    Exit(String, i32),
}

/// One connection = one IRIS process.
pub struct Client {
    reader: BufReader<UnixStream>,
    pid: u32,
}

impl Client {
    pub fn connect(cfg: &Config) -> io::Result<Client> {
        let stream = with_short_path(&cfg.socket_path(), UnixStream::connect)?;
        Ok(Client { reader: BufReader::new(stream), pid: std::process::id() })
    }

    /// For workers that are threads of one process and processes of one instance.
    pub fn with_pid(mut self, pid: u32) -> Client {
        self.pid = pid;
        self
    }

    /// Sends a request; hands output to `out` as it comes.
    pub fn call_with(&mut self, op: Op, out: &mut dyn FnMut(&str)) -> io::Result<Reply> {
        let mut line = serde_json::to_vec(&Request { pid: self.pid, op })?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line)?;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match serde_json::from_str(&line)? {
                Reply::Out(text) => out(&text),
                last => return Ok(last),
            }
        }
    }

    pub fn call(&mut self, op: Op) -> io::Result<Reply> {
        self.call_with(op, &mut |_| {})
    }
}

pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    with_short_path(path, UnixListener::bind)
}

/// A socket address holds 107 bytes; a longer path goes by way of its open directory.
fn with_short_path<T>(path: &Path, use_it: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() < 100 {
        return use_it(path.to_path_buf());
    }
    let dir = std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    use_it(PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}
