//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)), and which mount a path lies on.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLine {
    pub id: u32,
    pub parent: u32,
    /// `major:minor` of the file system; major 0 is anonymous (btrfs, tmpfs, overlay, network).
    pub dev: String,
    /// The directory of that file system which is mounted: `/` but for bind mounts and btrfs subvolumes.
    pub root: PathBuf,
    pub point: PathBuf,
    pub fs_type: String,
    pub source: String,
    /// Of the mount and of the file system, joined by commas.
    pub options: String,
}

/// Every line that has the documented shape; what has another is skipped, as the manual asks of parsers.
pub fn parse(text: &[u8]) -> Vec<MountLine> {
    text.split(|b| *b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<MountLine> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = fields.iter().position(|f| *f == b"-")?;
    let word = |i: usize| fields.get(i).map(|f| String::from_utf8_lossy(f).into_owned());
    let path = |i: usize| fields.get(i).map(|f| PathBuf::from(unescape(f)));
    if dash < 6 {
        return None;
    }
    let source = fields.get(dash + 2).map(|f| unescape(f).to_string_lossy().into_owned())?;
    let options = format!("{},{}", word(5)?, word(dash + 3).unwrap_or_default());
    Some(MountLine {
        id: word(0)?.parse().ok()?,
        parent: word(1)?.parse().ok()?,
        dev: word(2)?,
        root: path(3)?,
        point: path(4)?,
        fs_type: word(dash + 1)?,
        source,
        options: options.trim_end_matches(',').to_owned(),
    })
}

/// Space, tab, newline and backslash are written as `\040`, `\011`, `\012`, `\134`.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&b, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|d| b == b'\\' && d.iter().all(|d| (b'0'..=b'7').contains(d)));
        let code = octal.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        out.push(code.unwrap_or(b));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(out)
}

/// The mount that a path without symlinks lies on, found as the kernel does: from the root downwards, at each step the
/// nearest mount on the way. So a later mount hides the earlier ones below it.
pub fn mount_of<'a>(mounts: &'a [MountLine], path: &Path) -> Option<&'a MountLine> {
    let is_child = |m: &MountLine| m.parent != m.id && mounts.iter().any(|p| p.id == m.parent);
    let mut at = mounts.iter().rev().find(|m| m.point == Path::new("/") && !is_child(m))?;
    for _ in 0..mounts.len() {
        let next = mounts
            .iter()
            .filter(|m| m.parent == at.id && m.id != at.id && path.starts_with(&m.point) && m.point.starts_with(&at.point))
            .min_by_key(|m| m.point.as_os_str().as_bytes().len());
        match next {
            Some(m) => at = m,
            None => break,
        }
    }
    Some(at)
}

/// The mounts strictly below `dir` that can be reached.
pub fn below<'a>(mounts: &'a [MountLine], dir: &Path) -> Vec<&'a MountLine> {
    let mut found: Vec<_> = mounts
        .iter()
        .filter(|m| m.point != dir && m.point.starts_with(dir))
        .filter(|m| mount_of(mounts, &m.point).is_some_and(|top| top.id == m.id))
        .collect();
    found.sort_by(|a, b| a.point.cmp(&b.point));
    found
}
