//! Files of the instance: read here, or through the prefix when it lives in a container. And a log that is followed by
//! inode and offset through its rotation ("messages.log" is renamed at `MaxConsoleLogSize`, Monitoring Guide).

use super::run::Runner;
use protocol::BootMs;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A window lasts 20 minutes at most; more log than this in it is not read (and the window not called unbroken).
const MAX_LOG: u64 = 64 * 1024 * 1024;

/// A place in a log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub path: PathBuf,
    pub inode: u64,
    pub offset: u64,
}

impl Position {
    /// The end of a log on this host; of one that is not there yet, its beginning.
    pub fn end_of(path: &Path) -> Self {
        let (inode, offset) = std::fs::metadata(path).map_or((0, 0), |m| (m.ino(), m.len()));
        Self { path: path.into(), inode, offset }
    }
}

/// A whole small file.
pub fn read(runner: &Runner, path: &Path, by: BootMs) -> Result<String, String> {
    if runner.in_container() {
        return through(runner, &["cat", "--", &path.to_string_lossy()], by);
    }
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    read_from(&mut file, 0)
}

/// Inode and size of each path, `None` for one that cannot be looked at. One call for all, also in a container.
pub fn stat(runner: &Runner, paths: &[&Path], by: BootMs) -> Vec<Option<(u64, u64)>> {
    if !runner.in_container() {
        return paths.iter().map(|p| std::fs::metadata(p).ok().map(|m| (m.ino(), m.len()))).collect();
    }
    let shown: Vec<String> = paths.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let mut words = vec!["stat", "-L", "-c", "%i %s %n", "--"];
    words.extend(shown.iter().map(String::as_str));
    // Exit 1 when one of them is missing; the others are printed all the same.
    let printed = run(runner, &words, by).map(|(_, out)| out).unwrap_or_default();
    let line = |path: &String| {
        printed.lines().find_map(|l| {
            let (inode, rest) = l.split_once(' ')?;
            let (size, name) = rest.split_once(' ')?;
            (name == path).then(|| Some((inode.parse().ok()?, size.parse().ok()?)))?
        })
    };
    shown.iter().map(line).collect()
}

/// Everything written to the log after `from`, through rotations.
pub fn since(runner: &Runner, from: &Position, by: BootMs) -> Result<String, String> {
    // A rotation while we read: once more from the start. Twice within this loop does not happen to a 5 MB log.
    for _ in 0..3 {
        let text = if runner.in_container() { since_inside(runner, from, by)? } else { since_here(from)? };
        if let Some(text) = text {
            return Ok(text);
        }
    }
    Err(format!("{} is rotated faster than it can be read", from.path.display()))
}

/// `None`: rotated meanwhile.
fn since_here(from: &Position) -> Result<Option<String>, String> {
    let say = |e: std::io::Error| format!("{}: {e}", from.path.display());
    let mut current = File::open(&from.path).map_err(say)?;
    let inode = current.metadata().map_err(say)?.ino();
    if inode == from.inode {
        let text = read_from(&mut current, from.offset)?;
        return Ok(Some(text));
    }
    let dir = from.path.parent().unwrap_or(Path::new("/"));
    let mut text = String::new();
    for old in rotated(dir, &from.path, from.inode)? {
        let mut file = File::open(&old).map_err(|e| format!("{}: {e}", old.display()))?;
        let inode_now = file.metadata().map_err(say)?.ino();
        text += &read_from(&mut file, if inode_now == from.inode { from.offset } else { 0 })?;
    }
    text += &read_from(&mut current, 0)?;
    let still = std::fs::metadata(&from.path).is_ok_and(|m| m.ino() == inode);
    Ok(still.then_some(text))
}

/// The file that had our inode, then those that were written to after it, oldest first; without the current log.
fn rotated(dir: &Path, current: &Path, inode: u64) -> Result<Vec<PathBuf>, String> {
    let say = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(say)? {
        let entry = entry.map_err(say)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let meta = entry.metadata().map_err(say)?;
        let is_console = name.starts_with("messages.log") || name.starts_with("cconsole.log");
        if meta.is_file() && entry.path() != current && (meta.ino() == inode || is_console) {
            all.push((meta.modified().map_err(say)?, meta.ino(), entry.path()));
        }
    }
    all.sort();
    let start = all.iter().position(|(_, i, _)| *i == inode).ok_or("the log was rotated away: no file with its inode is left")?;
    Ok(all[start..].iter().map(|(_, _, p)| p.clone()).collect())
}

fn read_from(file: &mut File, offset: u64) -> Result<String, String> {
    let size = file.metadata().map_err(|e| e.to_string())?.len();
    if size < offset {
        return Err("the log is shorter than it was: it was cut or replaced".into());
    }
    if size - offset > MAX_LOG {
        return Err(format!("more than {MAX_LOG} bytes were logged"));
    }
    file.seek(SeekFrom::Start(offset)).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take(size - offset).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn since_inside(runner: &Runner, from: &Position, by: BootMs) -> Result<Option<String>, String> {
    let path = from.path.to_string_lossy().into_owned();
    let tail = |path: &str, offset: u64| through(runner, &["tail", "-c", &format!("+{}", offset + 1), "--", path], by);
    let look = || stat(runner, &[&from.path], by)[0].ok_or_else(|| format!("{path} cannot be looked at"));
    let (inode, size) = look()?;
    if inode == from.inode {
        if size < from.offset {
            return Err("the log is shorter than it was: it was cut or replaced".into());
        }
        return Ok(Some(tail(&path, from.offset)?));
    }
    let dir = from.path.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let find = ["find", &dir, "-maxdepth", "1", "-type", "f", "-inum", &from.inode.to_string()];
    let old = through(runner, &find, by)?;
    let old = old.lines().next().ok_or("the log was rotated away: no file with its inode is left")?;
    let newer = through(runner, &["find", &dir, "-maxdepth", "1", "-type", "f", "-name", "messages.log*", "-newer", old], by)?;
    if newer.lines().any(|l| l != path && l != old) {
        return Err("the log was rotated more than once".into());
    }
    let text = tail(old, from.offset)? + &tail(&path, 0)?;
    Ok((look()?.0 == inode).then_some(text))
}

/// Standard output of a command in the container that succeeded and was not cut.
fn through(runner: &Runner, words: &[&str], by: BootMs) -> Result<String, String> {
    let (code, out) = run(runner, words, by)?;
    if code == Some(0) { Ok(out) } else { Err(format!("{}: exit {code:?}", words.join(" "))) }
}

fn run(runner: &Runner, words: &[&str], by: BootMs) -> Result<(Option<i32>, String), String> {
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    let output = runner.other(&words, by, None).map_err(|e| e.to_string())?;
    if output.truncated {
        return Err(format!("{} printed more than can be read", words.join(" ")));
    }
    Ok((output.code(), output.out().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }
    fn here(path: &Path) -> Position {
        let m = std::fs::metadata(path).unwrap();
        Position { path: path.into(), inode: m.ino(), offset: m.len() }
    }

    #[test]
    fn a_log_is_followed_through_two_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("messages.log");
        append(&log, "before\n");
        let from = here(&log);
        append(&log, "one\n");
        assert_eq!(since_here(&from), Ok(Some("one\n".into())));
        let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::rename(&log, dir.path().join("messages.log.old_1")).unwrap();
        pause();
        append(&log, "two\n");
        assert_eq!(since_here(&from), Ok(Some("one\ntwo\n".into())));
        std::fs::rename(&log, dir.path().join("messages.log.old_2")).unwrap();
        pause();
        append(&log, "three\n");
        assert_eq!(since_here(&from), Ok(Some("one\ntwo\nthree\n".into())));
    }

    #[test]
    fn a_log_that_is_gone_or_cut_is_no_evidence() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("messages.log");
        append(&log, "a long line\n");
        let from = here(&log);
        std::fs::write(&log, "").unwrap();
        assert!(since_here(&from).unwrap_err().contains("shorter"));
        append(&dir.path().join("other"), "x");
        std::fs::rename(dir.path().join("other"), &log).unwrap();
        assert!(since_here(&from).unwrap_err().contains("rotated away"));
        std::fs::remove_file(&log).unwrap();
        assert!(since_here(&from).is_err());
    }
}
