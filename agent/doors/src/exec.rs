//! The process door: programs by absolute path, arguments as a list and never a shell line, cleared environment,
//! capped output, own process group, killed *and reaped* at the deadline.

use crate::clock::boot_now;
use protocol::BootMs;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Stdio};

/// Where a program named without a slash is looked for. Never the caller's own PATH.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// More than any engine prints; what lies beyond is dropped and `truncated` says so.
pub const MAX_OUTPUT: usize = 256 * 1024;
/// How long a killed process may take to be reaped before we go on without it (it hangs in the kernel).
pub const REAP_MS: u64 = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no program {0:?}: not found as an executable file in {PATH}")]
    NotFound(String),
    #[error("{0} is not an executable file")]
    NotExecutable(PathBuf),
    #[error("could not start {program}")]
    Start { program: PathBuf, source: std::io::Error },
    #[error("could not talk to {program}")]
    Io { program: PathBuf, source: std::io::Error },
}

/// An executable file by absolute path. One that exists was there when it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(PathBuf);

impl Program {
    /// An absolute path is taken as it is (symlinks stay: multi-call programs look at their name); a bare name is looked up in [`PATH`].
    pub fn find(name: &str) -> Result<Self, Error> {
        let candidates: Vec<PathBuf> = if name.starts_with('/') {
            vec![name.into()]
        } else if name.contains('/') || name.is_empty() {
            return Err(Error::NotFound(name.into()));
        } else {
            PATH.split(':').map(|d| Path::new(d).join(name)).collect()
        };
        let absolute = name.starts_with('/');
        for path in candidates {
            match std::fs::metadata(&path) {
                Ok(m) if m.is_file() && m.permissions().mode() & 0o111 != 0 => {
                    return Ok(Self(path));
                }
                Ok(_) if absolute => return Err(Error::NotExecutable(path)),
                _ => {}
            }
        }
        Err(Error::NotFound(name.into()))
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Ends a running call from another thread. Cloned handles share one switch; once thrown it stays thrown.
#[derive(Clone, Debug)]
pub struct Cancel(std::sync::Arc<OwnedFd>);

impl Cancel {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(std::sync::Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }
    pub fn throw(&self) {
        // An eventfd that is full already has been thrown.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
    pub fn thrown(&self) -> bool {
        let mut fds = [PollFd::new(&*self.0, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(n) if n > 0)
    }
}

/// One program call, complete.
#[derive(Clone, Debug)]
pub struct Call {
    pub program: Program,
    pub args: Vec<OsString>,
    /// Beside `PATH` and `LANG=C.UTF-8`, which are always set.
    pub env: Vec<(OsString, OsString)>,
    pub cwd: Option<PathBuf>,
    pub stdin: Vec<u8>,
    /// Its output goes to files in memory that outlive us, not to pipes: it never loses a reader. No `line`s then.
    pub in_memory: bool,
}

impl Call {
    pub fn new<I, S>(program: &Program, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Self {
            program: program.clone(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: None,
            stdin: Vec::new(),
            in_memory: false,
        }
    }
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }
    /// Runs to the end, to the deadline, or until cancelled. Blocks this thread.
    pub fn run(self, by: BootMs, cancel: Option<&Cancel>) -> Result<Output, Error> {
        let stdin = self.stdin.clone();
        let mut running = Running::start(self)?;
        running.feed(stdin);
        running.finish(by, cancel)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Exited(i32),
    Signaled(i32),
    TimedOut,
    Cancelled,
}

#[derive(Clone, Debug)]
pub struct Output {
    pub ended: Ended,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub truncated: bool,
    pub took_ms: u64,
    /// False only when a killed process could not be reaped within [`REAP_MS`]: it may still act.
    pub reaped: bool,
}

impl Output {
    pub fn code(&self) -> Option<i32> {
        match self.ended {
            Ended::Exited(c) => Some(c),
            Ended::Signaled(_) | Ended::TimedOut | Ended::Cancelled => None,
        }
    }
    pub fn out(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }
    pub fn err(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }
}

/// A started program to talk with (READY/GO helpers). Dropping it kills and reaps.
pub struct Running {
    program: PathBuf,
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    stdin: Option<ChildStdin>,
    to_feed: Vec<u8>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    out: Vec<u8>,
    err: Vec<u8>,
    lines_taken: usize,
    truncated: bool,
    started: BootMs,
    reaped: bool,
    memory: Option<(File, File)>,
}

/// A file in memory for a child's output.
fn memory_file() -> std::io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC)?))
}

impl Running {
    pub fn start(call: Call) -> Result<Self, Error> {
        let program = call.program.0.clone();
        let fail = |source| Error::Start { program: program.clone(), source };
        #[expect(clippy::disallowed_methods, reason = "this is the process door")]
        let mut command = std::process::Command::new(&call.program.0);
        command.args(&call.args).env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").envs(call.env.iter().map(|(k, v)| (k, v)));
        command.current_dir(call.cwd.as_deref().unwrap_or(Path::new("/"))).process_group(0);
        let memory = call.in_memory.then(|| Ok((memory_file()?, memory_file()?))).transpose().map_err(fail)?;
        let (out_to, err_to) = match &memory {
            Some((o, e)) => (o.try_clone().map_err(fail)?.into(), e.try_clone().map_err(fail)?.into()),
            None => (Stdio::piped(), Stdio::piped()),
        };
        command.stdin(Stdio::piped()).stdout(out_to).stderr(err_to);
        let mut child = command.spawn().map_err(fail)?;
        let pid = Pid::from_child(&child);
        let opened = pidfd_open(pid, PidfdFlags::empty());
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pidfd = match opened {
            Ok(fd) => fd,
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(fail(e.into()));
            }
        };
        let this = Self {
            program,
            child,
            pid,
            pidfd,
            stdin,
            to_feed: Vec::new(),
            stdout,
            stderr,
            out: Vec::new(),
            err: Vec::new(),
            lines_taken: 0,
            truncated: false,
            started: boot_now(),
            reaped: false,
            memory,
        };
        for fd in [this.stdin.as_ref().map(AsFd::as_fd), this.stdout.as_ref().map(AsFd::as_fd), this.stderr.as_ref().map(AsFd::as_fd)]
            .into_iter()
            .flatten()
        {
            let flags = rustix::fs::fcntl_getfl(fd).map_err(|e| this.io(e.into()))?;
            rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK).map_err(|e| this.io(e.into()))?;
        }
        Ok(this)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn io(&self, source: std::io::Error) -> Error {
        Error::Io { program: self.program.clone(), source }
    }

    /// Everything for its standard input, which is closed after it.
    pub fn feed(&mut self, bytes: Vec<u8>) {
        self.to_feed = bytes;
        self.push();
        if self.to_feed.is_empty() {
            self.stdin = None;
        }
    }

    /// Sends `line` and a newline; its standard input stays open.
    pub fn say(&mut self, line: &str) -> Result<(), Error> {
        let program = self.program.clone();
        let Some(stdin) = self.stdin.as_mut() else {
            return Err(Error::Io { program, source: ErrorKind::BrokenPipe.into() });
        };
        stdin.write_all(format!("{line}\n").as_bytes()).map_err(|source| Error::Io { program, source })
    }

    /// The next line of its standard output; `None` when it ended or the deadline came first.
    pub fn line(&mut self, by: BootMs) -> Result<Option<String>, Error> {
        loop {
            if let Some(n) = self.out[self.lines_taken..].iter().position(|b| *b == b'\n') {
                let line = String::from_utf8_lossy(&self.out[self.lines_taken..self.lines_taken + n]).into_owned();
                self.lines_taken += n + 1;
                return Ok(Some(line));
            }
            if self.stdout.is_none() || !self.wait(by, None)?.still_time {
                return Ok(None);
            }
        }
    }

    /// Waits for its end; at the deadline or when cancelled its whole process group is killed and reaped.
    pub fn finish(mut self, by: BootMs, cancel: Option<&Cancel>) -> Result<Output, Error> {
        let ended = loop {
            let woke = self.wait(by, cancel)?;
            if woke.exited {
                break None;
            }
            if woke.cancelled {
                break Some(Ended::Cancelled);
            }
            if !woke.still_time {
                break Some(Ended::TimedOut);
            }
        };
        if ended.is_some() {
            self.kill_and_reap();
        }
        let status = if self.reaped { None } else { self.child.try_wait().map_err(|e| self.io(e))? };
        if status.is_some() {
            self.reaped = true;
        }
        self.pull();
        if let Some((out, err)) = &mut self.memory {
            for (from, into) in [(out, &mut self.out), (err, &mut self.err)] {
                // The child's writes moved the common position.
                from.rewind().map_err(|source| Error::Io { program: self.program.clone(), source })?;
                drain(from, into, &mut self.truncated);
            }
        }
        let ended = ended.unwrap_or_else(|| match status {
            Some(s) => s.code().map_or_else(|| Ended::Signaled(s.signal().unwrap_or(0)), Ended::Exited),
            None => Ended::TimedOut,
        });
        Ok(Output {
            ended,
            stdout: std::mem::take(&mut self.out),
            stderr: std::mem::take(&mut self.err),
            truncated: self.truncated,
            took_ms: boot_now().since(self.started),
            reaped: self.reaped,
        })
    }

    /// Lets it live on beside us: nothing is killed when the handle goes, and our ends of its pipes are closed.
    pub fn leave(mut self) -> Result<Left, Error> {
        self.reaped = true; // keeps `drop` from killing it
        self.stdin = None;
        self.stdout = None;
        self.stderr = None;
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty()).map_err(|e| self.io(e.into()))?;
        Ok(Left { pid: self.pid, pidfd })
    }

    fn kill_and_reap(&mut self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        let until = boot_now().plus(REAP_MS);
        loop {
            match self.child.try_wait() {
                Ok(None) if boot_now() < until => {
                    let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
                    let _ = poll(&mut fds, Some(&ms(until.since(boot_now()).max(1))));
                }
                Ok(None) => return,
                Ok(Some(_)) | Err(_) => {
                    self.reaped = true;
                    return;
                }
            }
        }
    }

    fn wait(&mut self, by: BootMs, cancel: Option<&Cancel>) -> Result<Woke, Error> {
        let left = by.since(boot_now());
        if left == 0 {
            let exited = matches!(self.child.try_wait(), Ok(Some(_)));
            return Ok(Woke { exited, cancelled: false, still_time: false });
        }
        let (exited, cancelled);
        {
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            let cancel_at = cancel.map(|c| {
                fds.push(PollFd::new(&*c.0, PollFlags::IN));
                fds.len() - 1
            });
            if let Some(s) = &self.stdout {
                fds.push(PollFd::new(s, PollFlags::IN));
            }
            if let Some(s) = &self.stderr {
                fds.push(PollFd::new(s, PollFlags::IN));
            }
            if let (Some(s), false) = (&self.stdin, self.to_feed.is_empty()) {
                fds.push(PollFd::new(s, PollFlags::OUT));
            }
            match poll(&mut fds, Some(&ms(left))) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(self.io(e.into())),
            }
            exited = !fds[0].revents().is_empty();
            cancelled = cancel_at.is_some_and(|i| !fds[i].revents().is_empty());
        }
        self.push();
        self.pull();
        Ok(Woke { exited, cancelled, still_time: boot_now() < by })
    }

    fn push(&mut self) {
        if self.to_feed.is_empty() {
            return;
        }
        let Some(stdin) = self.stdin.as_mut() else {
            return;
        };
        match stdin.write(&self.to_feed) {
            Ok(n) => {
                self.to_feed.drain(..n);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => self.to_feed.clear(), // it does not want to hear more; its exit code tells the rest
        }
        if self.to_feed.is_empty() {
            self.stdin = None;
        }
    }

    fn pull(&mut self) {
        if self.stdout.as_mut().is_some_and(|s| drain(s, &mut self.out, &mut self.truncated)) {
            self.stdout = None;
        }
        if self.stderr.as_mut().is_some_and(|s| drain(s, &mut self.err, &mut self.truncated)) {
            self.stderr = None;
        }
    }
}

/// A child of ours that lives on by itself (the watchdog).
#[derive(Debug)]
pub struct Left {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Left {
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }
    /// Readable when it has ended.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }
    /// Asks it to end, kills it at `by` if it has not, and reaps it.
    pub fn end(&self, by: BootMs) {
        use rustix::process::pidfd_send_signal;
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        if !self.ended_by(by) {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            self.ended_by(boot_now().plus(REAP_MS));
        }
        self.reap();
    }
    /// Takes its exit status, so that no zombie stays behind.
    pub fn reap(&self) {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
    fn ended_by(&self, by: BootMs) -> bool {
        ended_by(&self.pidfd, by)
    }
}

/// Ends a process that is no child of ours: SIGTERM, at `by` SIGKILL. The caller has compared pid and start time.
pub fn end_other(pidfd: &OwnedFd, by: BootMs) -> bool {
    use rustix::process::pidfd_send_signal;
    let _ = pidfd_send_signal(pidfd, Signal::TERM);
    if ended_by(pidfd, by) {
        return true;
    }
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    ended_by(pidfd, boot_now().plus(REAP_MS))
}

/// True when the process of `pidfd` has ended by then.
pub fn ended_by(pidfd: &OwnedFd, by: BootMs) -> bool {
    loop {
        let left = by.since(boot_now());
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&ms(left))) {
            Ok(n) if n > 0 => return true,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return false,
        }
    }
}

/// A process by pid and start time (`/proc/PID/stat` field 22), so that a reused pid is not taken for it.
pub fn open_process(pid: u32, start_time: u64) -> Option<OwnedFd> {
    let fd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    (start_time_of(pid)? == start_time).then_some(fd)
}

/// Start time of a process in clock ticks since boot.
pub fn start_time_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill_and_reap();
        }
    }
}

struct Woke {
    exited: bool,
    cancelled: bool,
    still_time: bool,
}

/// Reads what is there now; true at its end. Grandchildren may keep a pipe open, so nobody waits for that end.
fn drain(from: &mut (impl Read + AsRawFd), into: &mut Vec<u8>, truncated: &mut bool) -> bool {
    let mut buf = [0u8; 8192];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return true,
            Ok(n) => {
                let room = MAX_OUTPUT.saturating_sub(into.len()).min(n);
                into.extend_from_slice(&buf[..room]);
                *truncated |= room < n;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

fn ms(ms: u64) -> Timespec {
    Timespec { tv_sec: (ms / 1000) as i64, tv_nsec: ((ms % 1000) * 1_000_000) as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Call {
        Call::new(&Program::find("/bin/sh").unwrap(), ["-c", script])
    }
    fn soon(ms: u64) -> BootMs {
        boot_now().plus(ms)
    }

    #[test]
    fn output_code_and_stdin_come_through() {
        let o = sh("cat; echo bad >&2; exit 7").stdin("hello").run(soon(5000), None).unwrap();
        assert_eq!((o.ended, o.out().as_ref(), o.err().as_ref(), o.reaped), (Ended::Exited(7), "hello", "bad\n", true));
    }

    #[test]
    fn a_large_stdin_does_not_deadlock_and_large_output_is_capped() {
        let o = sh("cat").stdin(vec![b'x'; 3 * MAX_OUTPUT]).run(soon(5000), None).unwrap();
        assert_eq!((o.ended, o.stdout.len(), o.truncated), (Ended::Exited(0), MAX_OUTPUT, true));
    }

    #[test]
    fn the_whole_group_is_killed_and_reaped_at_the_deadline() {
        let dir = std::env::temp_dir().join(format!("doors-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let late = dir.join("late");
        let o = sh(&format!("(sleep 1; touch {}) & wait", late.display())).run(soon(200), None).unwrap();
        assert_eq!((o.ended, o.reaped), (Ended::TimedOut, true));
        std::thread::sleep(std::time::Duration::from_millis(1200));
        assert!(!late.exists(), "the grandchild outlived its group's kill");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_cancel_ends_the_call_at_once() {
        let c = Cancel::new().unwrap();
        let t = std::thread::spawn({
            let c = c.clone();
            move || sh("sleep 10").run(soon(10_000), Some(&c)).unwrap()
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        c.throw();
        let o = t.join().unwrap();
        assert_eq!((o.ended, o.reaped), (Ended::Cancelled, true));
        assert!(o.took_ms < 3000 && c.thrown());
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipe_does_not_keep_us() {
        let o = sh("sleep 3 & echo done").run(soon(5000), None).unwrap();
        assert_eq!((o.ended, o.out().as_ref()), (Ended::Exited(0), "done\n"));
        assert!(o.took_ms < 2000);
    }

    #[test]
    fn nothing_of_our_environment_is_handed_on() {
        let o = Call::new(&Program::find("env").unwrap(), [""; 0]).env("A", "b").run(soon(5000), None).unwrap();
        let mut lines: Vec<_> = o.out().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["A=b", "LANG=C.UTF-8", &format!("PATH={PATH}")]);
    }

    #[test]
    fn output_in_memory_comes_through_too() {
        let o = sh("echo out; echo err >&2").in_memory().run(soon(5000), None).unwrap();
        assert_eq!((o.ended, o.out().as_ref(), o.err().as_ref()), (Ended::Exited(0), "out\n", "err\n"));
    }

    #[test]
    fn ready_and_go() {
        let mut r = Running::start(sh("echo READY; read x; echo got $x; exit 3")).unwrap();
        assert_eq!(r.line(soon(5000)).unwrap().as_deref(), Some("READY"));
        r.say("GO").unwrap();
        assert_eq!(r.line(soon(5000)).unwrap().as_deref(), Some("got GO"));
        assert_eq!(r.finish(soon(5000), None).unwrap().ended, Ended::Exited(3));
    }

    #[test]
    fn programs_are_named_by_path_or_found_in_our_own_path() {
        assert!(Program::find("sh").is_ok() && Program::find("/bin/sh").is_ok());
        assert!(Program::find("bin/sh").is_err() && Program::find("").is_err() && Program::find("/etc/passwd").is_err());
    }
}
