//! A working model of the plug-in host by which Azure Backup runs pre and post scripts on Linux, written after the published code
//! of its extension (Azure/azure-linux-extensions, VMBackup: handle.py, PluginHost.py, ScriptRunner.py) and not after our needs.
//!
//! What it keeps of it: files are judged by the octal digits of their modes and by their owner; a script is started as `sh PATH
//! PARAMS…` with pipes that nobody reads, is asked for at its poll time only, is never started again, and is not ended when its
//! time is over; post follows each pre that was started; the file systems are frozen between; the pipes close when a phase ends.
#![allow(clippy::disallowed_methods, reason = "a model stands outside the agent's doors")]

mod files;

pub use files::{Refusal, Scripts};

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The extension's status codes.
pub mod code {
    pub const APP_CONSISTENT: u32 = 0;
    /// Success, and the point is file-system-consistent.
    pub const SUCCESS: u32 = 1;
    pub const PRE_FAILED: u32 = 300;
    pub const POST_FAILED: u32 = 301;
    pub const PRE_NOT_FOUND: u32 = 302;
    pub const POST_NOT_FOUND: u32 = 303;
    pub const HOST_CONFIG: u32 = 304;
    pub const PLUGIN_CONFIG: u32 = 305;
    pub const PRE_PERMISSION: u32 = 306;
    pub const POST_PERMISSION: u32 = 307;
    pub const PRE_TIMEOUT: u32 = 308;
    pub const POST_TIMEOUT: u32 = 309;
    pub const HOST_CONF_PERMISSION: u32 = 314;
    pub const HOST_CONF_OWNER: u32 = 315;
    pub const CONFIG_MISSING: u32 = 316;
    pub const CONFIG_PERMISSION: u32 = 317;
    pub const CONFIG_OWNER: u32 = 318;
}

/// One virtual machine's extension.
pub struct PluginHost {
    /// `/etc/azure`.
    pub etc: PathBuf,
    /// `directsnapshot.service` makes the snapshots: no script is run.
    pub direct: bool,
}

/// What a script did, as its caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `None`: by a signal.
    With(Option<i32>),
    /// Its time was over; it goes on.
    TimedOut,
}

/// How one backup ended.
pub struct Outcome {
    pub code: u32,
    pub snapshot: bool,
    pub pre: Option<Ended>,
    pub post: Option<Ended>,
    /// From the moment at which pre was over to the start of post.
    pub between: Duration,
    /// Scripts whose time was over. Their pipes are closed.
    pub orphans: Vec<Child>,
}

impl Outcome {
    pub fn app_consistent(&self) -> bool {
        self.code == code::APP_CONSISTENT
    }

    fn without_scripts(code: u32, snapshot: bool) -> Self {
        Self { code, snapshot, pre: None, post: None, between: Duration::ZERO, orphans: Vec::new() }
    }
}

impl PluginHost {
    pub fn new(etc: &Path) -> Self {
        Self { etc: etc.into(), direct: false }
    }

    /// One backup. `snapshot` is what happens while the file systems are frozen, or not frozen where `fsFreezeEnabled` is false
    /// (its argument); false: no snapshot was made.
    pub fn backup(&self, snapshot: impl FnOnce(bool) -> bool) -> Outcome {
        if self.direct || files::workload(&self.etc) {
            return Outcome::without_scripts(code::SUCCESS, snapshot(true));
        }
        let scripts = match files::read(&self.etc) {
            Ok(s) => s,
            // Before the configuration is known nothing stops the backup.
            Err(Refusal { code, scripts: None }) => return Outcome::without_scripts(code, snapshot(true)),
            Err(Refusal { code, scripts: Some(s) }) => {
                let goes_on = s.goes_on && s.fs_freeze;
                return Outcome::without_scripts(code, goes_on && snapshot(s.fs_freeze));
            }
        };
        self.with(&scripts, snapshot)
    }

    fn with(&self, s: &Scripts, snapshot: impl FnOnce(bool) -> bool) -> Outcome {
        let mut orphans = Vec::new();
        let pre = run(&s.pre, &s.pre_params, s, &mut orphans);
        let over = Instant::now();
        let good = pre == Ended::With(Some(0));
        let taken = (good || (s.goes_on && s.fs_freeze)) && snapshot(s.fs_freeze);
        let between = over.elapsed();
        // Whatever became of pre and of the snapshot.
        let post = run(&s.post, &s.post_params, s, &mut orphans);
        let code = match (pre, post) {
            (Ended::TimedOut, _) => code::PRE_TIMEOUT,
            (Ended::With(Some(0)), Ended::With(Some(0))) if taken => code::APP_CONSISTENT,
            (Ended::With(Some(0)), Ended::With(Some(0))) => code::SUCCESS,
            (Ended::With(Some(0)), Ended::TimedOut) => code::POST_TIMEOUT,
            (Ended::With(Some(0)), Ended::With(_)) => code::POST_FAILED,
            (Ended::With(_), _) if taken => code::SUCCESS,
            (Ended::With(_), _) => code::PRE_FAILED,
        };
        Outcome { code, snapshot: taken, pre: Some(pre), post: Some(post), between, orphans }
    }
}

/// One phase. A script that ended is noticed at the next poll.
fn run(script: &Path, params: &[String], s: &Scripts, orphans: &mut Vec<Child>) -> Ended {
    let begun = Instant::now();
    let child = Command::new("sh").arg(script).args(params).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return Ended::With(Some(127)) };
    loop {
        std::thread::sleep(s.poll);
        if let Ok(Some(status)) = child.try_wait() {
            return Ended::With(status.code());
        }
        if begun.elapsed() >= s.timeout {
            drop((child.stdout.take(), child.stderr.take()));
            orphans.push(child);
            return Ended::TimedOut;
        }
    }
}
