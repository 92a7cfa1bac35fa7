//! How the instance's programs are run: as the right OS user, in the right container, logged in.
//! The order on a command line is `setpriv … -- PREFIX… PROGRAM ARGS…`.

use super::Product;
use super::config::IrisConfig;
use crate::Error;
use doors::clock::boot_now;
use doors::exec::{Call, Cancel, Output, Program};
use protocol::BootMs;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `getent` asks name services that may be slow; it runs once, when the instance is opened.
const GETENT_MS: u64 = 10_000;
/// Two short lines.
const MAX_CREDENTIALS: u64 = 4096;

/// User and password from a file of two lines. Shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// The file must belong to root (or to us) and be closed to everybody else.
    pub fn load(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let meta = std::fs::metadata(path).map_err(|e| format!("{shown}: {e}"))?;
        let ours = rustix::process::geteuid().as_raw();
        if meta.uid() != 0 && meta.uid() != ours {
            return Err(format!("{shown} must belong to root: chown root {shown}"));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(format!("{shown} can be read by others: chmod 600 {shown}"));
        }
        if meta.len() > MAX_CREDENTIALS {
            return Err(format!("{shown} is longer than two lines"));
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("{shown}: {e}"))?;
        Self::parse(&text).ok_or_else(|| format!("{shown} must hold two lines, user and password, without control characters"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (user, password) = (lines.next()?, lines.next()?);
        let rest_is_empty = lines.all(|l| l.trim().is_empty());
        let fits = |s: &str| !s.is_empty() && super::quote::check(s).is_ok();
        (fits(user) && fits(password) && rest_is_empty).then(|| Self { user: user.into(), password: password.into() })
    }

    /// What is typed at `Username:` and `Password:`.
    fn typed(&self) -> String {
        format!("{}\n{}\n", self.user, self.password)
    }
}

/// Runs the instance's programs.
#[derive(Clone, Debug)]
pub struct Runner {
    name: String,
    /// Outermost program with its arguments, up to and without the instance's own.
    outer: Vec<OsString>,
    outer_program: Option<Program>,
    prefix_len: usize,
    iris: String,
    pub login: Option<Credentials>,
    /// Passwords that no printed line may show.
    secrets: Vec<Credentials>,
}

impl Runner {
    pub fn open(config: &IrisConfig, product: Product) -> Result<Self, Error> {
        let invalid = |why: String| Error::Config { instance: config.name.to_string(), why };
        let mut outer: Vec<OsString> = Vec::new();
        if let Some(user) = &config.run_as {
            outer.extend(switch_user(user).map_err(invalid)?);
        }
        let before_prefix = outer.len();
        let iris;
        if let Some((first, rest)) = config.exec_prefix.split_first() {
            outer.push(Program::find(first)?.path().into());
            outer.extend(rest.iter().map(OsString::from));
            iris = config.program.clone().unwrap_or_else(|| product.program().into());
        } else {
            let found = match &config.program {
                Some(p) => Program::find(p)?,
                None => find_program(product)?,
            };
            iris = found.path().to_string_lossy().into_owned();
        }
        let outer_program = outer.first().map(|p| Program::find(&p.to_string_lossy())).transpose()?;
        let login = config.credentials_file.as_deref().map(Credentials::load).transpose().map_err(invalid)?;
        let prefix_len = outer.len() - before_prefix;
        let secrets = login.iter().cloned().collect();
        Ok(Self { name: config.name.to_string(), outer, outer_program, prefix_len, iris, login, secrets })
    }

    /// Keeps the password of another login out of what is shown as well.
    pub fn hide(&mut self, login: Option<&Credentials>) {
        self.secrets.extend(login.cloned());
    }

    /// Files must be read through the prefix.
    pub const fn in_container(&self) -> bool {
        self.prefix_len > 0
    }

    fn call(&self, program: &str, args: &[&str]) -> Result<Call, Error> {
        let mut words: Vec<OsString> = self.outer.iter().skip(1).cloned().collect();
        let program = match &self.outer_program {
            Some(outermost) => {
                words.push(program.into());
                outermost.clone()
            }
            None => Program::find(program)?,
        };
        words.extend(args.iter().map(OsString::from));
        Ok(Call::new(&program, words))
    }

    /// `iris ARGS…` (Caché: `ccontrol ARGS…`), no login.
    pub fn iris(&self, args: &[&str], by: BootMs) -> Result<Output, Error> {
        Ok(self.call(&self.iris, args)?.run(by, None)?)
    }

    /// A terminal session in `%SYS` that executes `script` line by line, logged in when credentials are set.
    pub fn session(&self, script: &str, by: BootMs, cancel: Option<&Cancel>) -> Result<Output, Error> {
        let typed = self.login.as_ref().map(Credentials::typed).unwrap_or_default();
        let call = self.call(&self.iris, &["session", &self.name, "-U%SYS"])?;
        Ok(call.stdin(format!("{typed}{script}")).run(by, cancel)?)
    }

    /// `iris session NAME -B`, the administrator's emergency login ("System Administration Guide"): no credentials are typed.
    pub fn admin_session(&self, script: &str, by: BootMs) -> Result<Output, Error> {
        let call = self.call(&self.iris, &["session", &self.name, "-B", "-U%SYS"])?;
        Ok(call.stdin(script.to_owned()).run(by, None)?)
    }

    /// The command-line form: `iris session NAME -U%SYS "##Class(Backup.General).METHOD(ARGS)"`. Its exit code is the
    /// method's answer. ("Arguments may only be string/number literals", System Administration Guide.)
    pub fn class_method(&self, call: &str, by: BootMs) -> Result<Output, Error> {
        let word = format!("##Class(Backup.General).{call}");
        let typed = self.login.as_ref().map(Credentials::typed).unwrap_or_default();
        let call = self.call(&self.iris, &["session", &self.name, "-U%SYS", &word])?;
        Ok(call.stdin(typed).run(by, None)?)
    }

    /// A program of the site's own (`freeze_with`, `thaw_with`), as the same user, in the same container.
    pub fn other(&self, words: &[String], by: BootMs, cancel: Option<&Cancel>) -> Result<Output, Error> {
        let (program, args) =
            words.split_first().ok_or_else(|| Error::Unreadable { what: "the configured command".into(), why: "it is empty".into() })?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ok(self.call(program, &args)?.run(by, cancel)?)
    }

    /// As a person would type it, without secrets.
    pub fn shown(&self, args: &[&str]) -> String {
        let mut words: Vec<String> = self.outer.iter().map(|w| w.to_string_lossy().into_owned()).collect();
        words.push(self.iris.clone());
        words.extend(args.iter().map(|a| if a.contains(['(', ' ', '"']) { format!("'{a}'") } else { (*a).into() }));
        words.join(" ")
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line of what a call printed, with no secret in it, for people.
    pub fn said(&self, output: &Output) -> String {
        let both = format!("{}\n{}", output.out(), output.err());
        let line = both.lines().map(str::trim).rfind(|l| !l.is_empty() && !is_prompt(l)).unwrap_or_default();
        let mut line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
        // A session that does not ask for a login takes what was typed for it as commands, and shows them.
        for secret in self.secrets.iter().map(|c| &c.password) {
            for form in [secret.clone(), secret.replace('"', "\"\""), secret.to_uppercase()] {
                line = line.replace(&form, "…");
            }
        }
        let ended = match output.ended {
            doors::exec::Ended::Exited(c) => format!("exit {c}"),
            doors::exec::Ended::Signaled(s) => format!("killed by signal {s}"),
            doors::exec::Ended::TimedOut => format!("no answer in {} ms", output.took_ms),
            doors::exec::Ended::Cancelled => "cancelled".into(),
        };
        if line.is_empty() { ended } else { format!("{ended}: {line}") }
    }
}

fn is_prompt(line: &str) -> bool {
    line.ends_with('>') && !line.contains(' ')
}

/// The vendor's links in `PATH`, then its registry directory (Installation Guide: "always created").
fn find_program(product: Product) -> Result<Program, Error> {
    let name = product.program();
    let registry = format!("{}/{name}", product.registry());
    Ok(Program::find(name).or_else(|first| Program::find(&registry).map_err(|_| first))?)
}

/// `setpriv` words that become `user`; none when we are that user already.
fn switch_user(user: &str) -> Result<Vec<OsString>, String> {
    let (uid, gid) = ids_of(user)?;
    let ours = rustix::process::geteuid();
    if uid == ours.as_raw() {
        return Ok(Vec::new());
    }
    if !ours.is_root() {
        return Err(format!("run_as = {user:?} needs root"));
    }
    let setpriv = Program::find("/usr/bin/setpriv").map_err(|e| e.to_string())?;
    let words = [format!("--reuid={uid}"), format!("--regid={gid}"), "--init-groups".into(), "--".into()];
    Ok(std::iter::once(setpriv.path().into()).chain(words.into_iter().map(Into::into)).collect())
}

/// User and group number by the host's name services.
pub fn ids_of(user: &str) -> Result<(u32, u32), String> {
    let unknown = || format!("run_as = {user:?}: this host knows no such user");
    let getent = Program::find("getent").map_err(|e| e.to_string())?;
    let output = Call::new(&getent, ["passwd", "--", user]).run(boot_now().plus(GETENT_MS), None).map_err(|e| e.to_string())?;
    let line = output.out().lines().next().unwrap_or_default().to_owned();
    let fields: Vec<&str> = line.split(':').collect();
    match (output.code(), fields.as_slice()) {
        (Some(0), [name, _, uid, gid, ..]) if *name == user || uid == &user => {
            Ok((uid.parse().map_err(|_| unknown())?, gid.parse().map_err(|_| unknown())?))
        }
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_two_lines_and_never_shown() {
        let c = Credentials::parse("backup\nse cret\n\n").unwrap();
        assert_eq!((c.user.as_str(), c.password.as_str()), ("backup", "se cret"));
        assert!(!format!("{c:?}").contains("cret"));
        for bad in ["", "user", "user\n", "u\np\nmore", "u\n\np", "u\tx\np"] {
            assert!(Credentials::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn credentials_that_others_can_read_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cred");
        std::fs::write(&file, "u\np\n").unwrap();
        for (mode, fits) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Credentials::load(&file).is_ok(), fits, "{mode:o}");
        }
        assert!(Credentials::load(&dir.path().join("none")).is_err());
    }

    #[test]
    fn an_unknown_user_is_named() {
        assert_eq!(ids_of("root"), Ok((0, 0)));
        assert!(ids_of("no-such-user-here").unwrap_err().contains("no-such-user-here"));
        assert!(ids_of("--help").is_err());
    }
}
