//! `files.jsonl`: every file of a set, written after the thaw; and the check against it.

use super::{Error, FILES, Manifest, setdir};
use crate::snapshot::{self, Finished, Progress, Say, Wanted};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// Relative to the set; a byte that is no UTF-8 is `\xNN`, a backslash `\\`.
    pub path: String,
    pub kind: Kind,
    /// Of a file; 0 for others.
    #[serde(default)]
    pub size: u64,
    /// Hex; absent when the list was made without checksums.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of a symlink, written like `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Other,
}

/// Lists `roots` (relative to `set`) into `set/files.jsonl`, durably. Reads every byte when `checksums`.
pub(crate) fn write(set: &Path, roots: &[PathBuf], checksums: bool, files_of: u64, say: Say<'_>) -> Result<Finished, snapshot::Error> {
    let fail = |e: std::io::Error| snapshot::Error::io("write the file list of", set, e);
    let tmp = set.join(format!(".{FILES}.new"));
    let mut out = BufWriter::new(File::create(&tmp).map_err(fail)?);
    let mut whole = Sha256::new();
    let mut done = Finished { checksums, ..Finished::default() };
    for root in roots {
        walk(set, root, &mut |path, kind| {
            let record = record(set, path, kind, checksums)?;
            if kind == Kind::Symlink && leads_outside(set, path, roots) {
                done.notes.push(format!("{} is a symlink that leads out of the set", record.path));
            }
            if kind == Kind::File {
                (done.files, done.bytes) = (done.files + 1, done.bytes + record.size);
                if checksums || done.files.is_multiple_of(256) {
                    say(Progress { step: "finish", files: done.files, files_of, bytes: done.bytes, bytes_of: 0 });
                }
            }
            let mut line = serde_json::to_vec(&record)?;
            line.push(b'\n');
            whole.update(&line);
            out.write_all(&line)
        })
        .map_err(fail)?;
    }
    let file = out.into_inner().map_err(|e| fail(e.into_error()))?;
    file.sync_all().map_err(fail)?;
    std::fs::rename(&tmp, set.join(FILES)).and_then(|()| setdir::sync_dir(set)).map_err(fail)?;
    done.list_sha256 = hex(&whole.finalize());
    Ok(done)
}

/// What `verify` found. Empty lists: the set is what was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    pub files: u64,
    pub bytes: u64,
    /// False: sizes only, for the list has no checksums.
    pub checksums: bool,
    pub missing: Vec<String>,
    pub extra: Vec<String>,
    /// Path and what differs.
    pub changed: Vec<(String, String)>,
}

impl Report {
    pub fn good(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.changed.is_empty()
    }
}

impl Record {
    /// Relative to the set.
    pub fn path(&self) -> PathBuf {
        read_path(&self.path)
    }
}

/// The list of a set, if it is the one that the manifest names. Reads no file of the set.
pub fn list(set: &Path, manifest: &Manifest) -> Result<Vec<Record>, Error> {
    let path = set.join(FILES);
    let damaged = |why: String| Error::Damaged { path: path.clone(), why };
    let finished = manifest.finished.as_ref().ok_or_else(|| damaged("the set was never finished".into()))?;
    let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    if hex(&Sha256::digest(&text)) != finished.list_sha256 {
        return Err(damaged("it is not the list that the manifest names".into()));
    }
    BufReader::new(&text[..])
        .lines()
        .map(|l| l.map_err(|e| damaged(e.to_string())).and_then(|l| serde_json::from_str(&l).map_err(|e| damaged(e.to_string()))))
        .collect()
}

/// Compares a set with its list, byte by byte where the list has checksums. An absent or changed list is an error: then
/// nothing is known about the set.
pub fn verify(set: &Path, manifest: &Manifest, say: Say<'_>) -> Result<Report, Error> {
    let wanted = list(set, manifest)?;
    let finished = manifest.finished.clone().unwrap_or_default();
    let mut report = Report { checksums: finished.checksums, ..Report::default() };
    let mut listed = BTreeSet::new();
    for want in wanted {
        compare(set, &want, &mut report);
        listed.insert(want.path);
        say(Progress { step: "verify", files: report.files, files_of: finished.files, bytes: report.bytes, bytes_of: finished.bytes });
    }
    for root in roots(&manifest.wanted) {
        if set.join(&root).symlink_metadata().is_err() {
            continue; // its absence is among the missing
        }
        walk(set, &root, &mut |path, _| {
            let path = write_path(path);
            if !listed.contains(&path) {
                report.extra.push(path);
            }
            Ok(())
        })
        .map_err(|e| Error::io("read", set, e))?;
    }
    Ok(report)
}

fn compare(set: &Path, want: &Record, report: &mut Report) {
    let path = read_path(&want.path);
    let have = kind_of(&set.join(&path)).and_then(|k| record(set, &path, k, want.sha256.is_some()));
    match have {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => report.missing.push(want.path.clone()),
        Err(e) => report.changed.push((want.path.clone(), format!("cannot be read: {e}"))),
        Ok(have) => {
            if have.kind == Kind::File {
                (report.files, report.bytes) = (report.files + 1, report.bytes + have.size);
            }
            let differs = if have.kind != want.kind {
                format!("is a {:?}, was a {:?}", have.kind, want.kind)
            } else if have.size != want.size {
                format!("has {} bytes, had {}", have.size, want.size)
            } else if have.sha256 != want.sha256 {
                "other content".into()
            } else if have.target != want.target {
                "points elsewhere".into()
            } else {
                return;
            };
            report.changed.push((want.path.clone(), differs));
        }
    }
}

/// Where the wanted paths lie in a set, none inside another.
pub(crate) fn roots(wanted: &[Wanted]) -> Vec<PathBuf> {
    snapshot::tops(wanted).iter().map(|p| snapshot::dest_of(p)).collect()
}

/// `at` and all below it, by name, directories before what is in them.
fn walk(set: &Path, at: &Path, each: &mut dyn FnMut(&Path, Kind) -> std::io::Result<()>) -> std::io::Result<()> {
    let kind = kind_of(&set.join(at))?;
    each(at, kind)?;
    if kind == Kind::Directory {
        let mut names = std::fs::read_dir(set.join(at))?.map(|e| e.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>()?;
        names.sort();
        for name in names {
            walk(set, &at.join(name), each)?;
        }
    }
    Ok(())
}

fn kind_of(path: &Path) -> std::io::Result<Kind> {
    let t = std::fs::symlink_metadata(path)?.file_type();
    Ok(match () {
        () if t.is_file() => Kind::File,
        () if t.is_dir() => Kind::Directory,
        () if t.is_symlink() => Kind::Symlink,
        () => Kind::Other,
    })
}

fn record(set: &Path, path: &Path, kind: Kind, checksums: bool) -> std::io::Result<Record> {
    let full = set.join(path);
    let mut out = Record { path: write_path(path), kind, size: 0, sha256: None, target: None };
    match kind {
        Kind::File => {
            out.size = full.symlink_metadata()?.len();
            out.sha256 = if checksums { Some(sha256(&full)?) } else { None };
        }
        Kind::Symlink => out.target = Some(write_path(&std::fs::read_link(&full)?)),
        Kind::Directory | Kind::Other => {}
    }
    Ok(out)
}

/// An absolute symlink, or one with `..`, whose place in the original tree lies in none of the roots.
fn leads_outside(set: &Path, path: &Path, roots: &[PathBuf]) -> bool {
    let Ok(target) = std::fs::read_link(set.join(path)) else {
        return false;
    };
    let start = path.parent().unwrap_or(path);
    let joined = match target.strip_prefix("/") {
        Ok(absolute) => Path::new(super::DATA).join(absolute),
        Err(_) => start.join(&target),
    };
    let mut plain = PathBuf::new();
    for part in joined.components() {
        match part {
            std::path::Component::ParentDir => _ = plain.pop(),
            other => plain.push(other),
        }
    }
    !roots.iter().any(|r| plain.starts_with(r))
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut block) = (File::open(path)?, Sha256::new(), vec![0u8; 1 << 20]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&block[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn write_path(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        out.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02x}")));
    }
    out
}

fn read_path(text: &str) -> PathBuf {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((b, tail)) = rest.split_first() {
        let code = tail.strip_prefix(b"x").and_then(|t| t.get(..2)).and_then(|h| std::str::from_utf8(h).ok());
        match (b, code.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'\\', Some(byte)) => (out.push(byte), rest = &tail[3..]).1,
            (b'\\', None) => (out.push(b'\\'), rest = tail.get(1..).unwrap_or_default()).1,
            (other, _) => (out.push(*other), rest = tail).1,
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn paths_of_any_bytes_come_back(bytes in proptest::collection::vec(1u8.., 0..40)) {
            let path = PathBuf::from(OsString::from_vec(bytes));
            proptest::prop_assert_eq!(read_path(&write_path(&path)), path);
        }
    }
}
