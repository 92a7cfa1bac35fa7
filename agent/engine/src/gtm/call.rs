//! How `mumps` and `mupip` are called: environment, user, prefix. Everything goes through the process door.

use super::config::{GtmConfig, find_dist};
use super::process::Left;
use crate::Error;
use doors::clock::boot_now;
use doors::exec::{Call, Cancel, Output, Program};
use protocol::BootMs;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Absolute: the agent never looks for it elsewhere.
const SETPRIV: &str = "/usr/bin/setpriv";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Mumps,
    Mupip,
}

impl Tool {
    const fn name(self) -> &'static str {
        match self {
            Self::Mumps => "mumps",
            Self::Mupip => "mupip",
        }
    }
}

/// One configured global directory, ready to be called.
#[derive(Clone)]
pub(super) struct Caller {
    pub config: GtmConfig,
    pub dist: PathBuf,
    /// `setpriv … --`, or the configured prefix; may be empty.
    before: Vec<OsString>,
    pub left: Left,
}

impl Caller {
    pub fn new(config: GtmConfig) -> Result<Self, Error> {
        config.check()?;
        let dist = match &config.gtm_dist {
            Some(d) => d.clone(),
            None => find_dist().ok_or_else(|| config.bad("no GT.M or YottaDB found: set gtm_dist to the directory of mupip"))?,
        };
        let before = match &config.run_as {
            Some(user) => become_user(user).map_err(|why| config.bad(why))?,
            None => config.exec_prefix.iter().map(Into::into).collect(),
        };
        Ok(Self { config, dist, before, left: Left::default() })
    }

    fn env(&self) -> Vec<(String, OsString)> {
        let routines = self.config.gtmroutines.clone().map_or_else(
            || {
                // YottaDB calls the same library differently.
                let own = self.dist.join("libyottadbutil.so");
                let lib = if own.is_file() { own } else { self.dist.join("libgtmutil.so") };
                lib.into_os_string()
            },
            Into::into,
        );
        let mut env: Vec<(String, OsString)> = vec![
            ("gtm_dist".into(), self.dist.clone().into()),
            ("gtmgbldir".into(), self.config.global_directory.clone().into()),
            ("gtmroutines".into(), routines),
        ];
        env.extend(self.config.env.iter().map(|(k, v)| (k.clone(), v.clone().into())));
        env
    }

    /// The whole command line and what goes into its environment. Behind a prefix (a container) our signals reach
    /// nothing, so there `timeout` is the engine-side deadline, and the environment is handed over by `env`.
    pub fn line(&self, tool: Tool, args: &[&str], by: BootMs) -> (Vec<OsString>, Vec<(String, OsString)>) {
        let mut line = self.before.clone();
        let mut env = self.env();
        if !self.config.exec_prefix.is_empty() {
            line.push("env".into());
            for (k, v) in env.drain(..) {
                let mut pair = OsString::from(k);
                pair.push("=");
                pair.push(v);
                line.push(pair);
            }
            let left = by.since(boot_now()).max(1);
            line.extend(["timeout", "--foreground", "-s", "KILL"].map(Into::into));
            line.push(format!("{}.{:03}", left / 1000, left % 1000).into());
        }
        line.push(self.dist.join(tool.name()).into());
        line.extend(args.iter().map(Into::into));
        (line, env)
    }

    /// A call that may be killed at its deadline; `mupip freeze` may not (`process.rs`).
    pub fn run(&self, tool: Tool, args: &[&str], by: BootMs, cancel: Option<&Cancel>) -> Result<Output, Error> {
        let (line, env) = self.line(tool, args, by);
        Ok(door(&line, env)?.run(by, cancel)?)
    }

    /// The same, with words on its standard input.
    pub fn run_with(&self, tool: Tool, args: &[&str], words: &str, by: BootMs) -> Result<Output, Error> {
        let (line, env) = self.line(tool, args, by);
        Ok(door(&line, env)?.stdin(words).run(by, None)?)
    }

    /// A freeze gives the new journal to the owner of the database file, which only that owner and root can: for any other
    /// user GT.M fails half-way and may turn journaling off (seen: `JNLEXTEND`, `ENO1`). Nothing to say behind a prefix.
    pub fn wrong_user(&self, files: &[&str]) -> Option<String> {
        if !self.config.exec_prefix.is_empty() {
            return None;
        }
        let uid = match &self.config.run_as {
            Some(who) => uid_of(who.split(':').next().unwrap_or(who))?,
            None => rustix::process::geteuid().as_raw(),
        };
        let owner = |file: &str| std::fs::metadata(file).ok().map(|m| std::os::unix::fs::MetadataExt::uid(&m));
        let foreign = files.iter().find(|f| uid != 0 && owner(f).is_some_and(|o| o != uid))?;
        Some(format!("{foreign} does not belong to uid {uid}: set run_as to the owner of the database files"))
    }

    /// The command as a person would type it; the environment they need is part of it.
    pub fn typed(&self, tool: Tool, args: &[&str]) -> String {
        let mut words: Vec<String> = self.before.iter().map(|w| w.to_string_lossy().into_owned()).collect();
        words.push("env".into());
        words.push(format!("gtm_dist={}", self.dist.display()));
        words.push(format!("gtmgbldir={}", self.config.global_directory.display()));
        words.push(self.dist.join(tool.name()).display().to_string());
        words.extend(args.iter().map(|a| if a.contains('*') { format!("'{a}'") } else { (*a).to_owned() }));
        words.join(" ")
    }

    /// The inode of a file as the engine sees it.
    pub fn inode(&self, file: &str, by: BootMs) -> Result<u64, String> {
        if self.config.exec_prefix.is_empty() {
            use std::os::unix::fs::MetadataExt;
            return std::fs::metadata(Path::new(file)).map(|m| m.ino()).map_err(|e| format!("{file}: {e}"));
        }
        let mut line = self.before.clone();
        line.extend(["stat", "-c", "%i", "--", file].map(Into::into));
        let out = door(&line, Vec::new()).and_then(|c| c.run(by, None)).map_err(|e| e.to_string())?;
        out.out().trim().parse().map_err(|_| format!("{file}: stat answered {:?}", one_line(&out)))
    }
}

pub(super) fn door(line: &[OsString], env: Vec<(String, OsString)>) -> Result<Call, doors::exec::Error> {
    let (program, args) = line.split_first().ok_or_else(|| doors::exec::Error::NotFound(String::new()))?;
    let mut call = Call::new(&Program::find(&program.to_string_lossy())?, args);
    for (k, v) in env {
        call = call.env(&k, v);
    }
    Ok(call)
}

/// `user` or `user:group` as `setpriv` arguments; empty when we are that user already.
pub(crate) fn become_user(who: &str) -> Result<Vec<OsString>, String> {
    let (user, group) = match who.split_once(':') {
        Some((u, g)) => (u, Some(g.to_owned())),
        None => (who, None),
    };
    if user.is_empty() || user.starts_with('-') || group.as_deref().is_some_and(str::is_empty) {
        return Err(format!("run_as = {who:?} must be a user or user:group"));
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = find_user(&passwd, user);
    let uid = entry.map(|e| e.0).or_else(|| user.parse().ok());
    let me = rustix::process::geteuid().as_raw();
    if uid == Some(me) {
        return Ok(Vec::new());
    }
    if me != 0 {
        return Err(format!("run_as = {who:?} needs the agent to run as root (it runs as uid {me})"));
    }
    let group = group
        .or_else(|| entry.map(|e| e.1.to_string()))
        .ok_or_else(|| format!("run_as = {who:?}: no such user in /etc/passwd; for a directory user write user:group"))?;
    Ok([SETPRIV, "--reuid", user, "--regid", &group, "--init-groups", "--"].map(Into::into).to_vec())
}

fn uid_of(user: &str) -> Option<u32> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find_user(&passwd, user).map(|e| e.0).or_else(|| user.parse().ok())
}

/// Uid and primary gid.
fn find_user(passwd: &str, user: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let f: Vec<&str> = line.split(':').collect();
        match f.as_slice() {
            [name, _, uid, gid, ..] if *name == user || *uid == user => Some((uid.parse().ok()?, gid.parse().ok()?)),
            _ => None,
        }
    })
}

/// Everything a program said, in one line of at most 300 characters. GT.M's messages come on standard error.
pub(crate) fn one_line(out: &Output) -> String {
    let mut said = Vec::new();
    let (e, o) = (out.err(), out.out());
    for line in e.lines().chain(o.lines()) {
        let line = line.trim();
        if !line.is_empty() {
            said.push(line.to_owned());
        }
    }
    let mut text = said.join("; ");
    if let Some((cut, _)) = text.char_indices().nth(300) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_or_number() {
        let p = "root:x:0:0:root:/root:/bin/sh\ngtm:x:991:990::/:/bin/sh\nbroken\n";
        assert_eq!(find_user(p, "gtm"), Some((991, 990)));
        assert_eq!(find_user(p, "991"), Some((991, 990)));
        assert_eq!(find_user(p, "x"), None);
    }

    #[test]
    fn a_user_name_is_no_option() {
        assert!(become_user("--reset-env").is_err() && become_user("").is_err() && become_user("a:").is_err());
    }
}
