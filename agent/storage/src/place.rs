//! Putting files of a set where they belong: keep aside what is there, copy, compare, rename into place. Nothing is deleted and
//! nothing is overwritten; each call may be repeated from its beginning.

use crate::catalogue::setdir::sync_dir;
use crate::snapshot::{Progress, Say};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A copy that is not finished has this behind its name.
const UNFINISHED: &str = ".snapfreeze-copy";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{0} is there already: it is not overwritten")]
    InTheWay(PathBuf),
    #[error("{path} is not what the set's list says: {why}")]
    Differs { path: PathBuf, why: String },
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}

/// What a file must be. `sha256` in hex; without it the size alone counts.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    pub size: u64,
    pub sha256: Option<&'a str>,
}

/// Renames each file into the directory `to`, which is made. One that lies there already was moved by an earlier try.
pub fn keep_aside(files: &[PathBuf], to: &Path) -> Result<usize, Error> {
    if !to.is_dir() {
        std::fs::create_dir(to).map_err(io_error("make", to))?;
        std::fs::set_permissions(to, PermissionsExt::from_mode(0o700)).map_err(io_error("protect", to))?;
    }
    let mut moved = 0;
    for file in files {
        let there = to.join(file.file_name().unwrap_or_default());
        match (is_there(file), is_there(&there)) {
            (true, true) => return Err(Error::InTheWay(there)),
            (true, false) => {
                std::fs::rename(file, &there).map_err(io_error("move", file))?;
                moved += 1;
            }
            (false, _) => {}
        }
    }
    for dir in [to, to.parent().unwrap_or(to)] {
        sync_dir(dir).map_err(io_error("write to disk", dir))?;
    }
    Ok(moved)
}

/// Copies `from` to `to` with owner and mode, on disk and compared when it returns. `to` appears whole or not at all.
pub fn copy(from: &Path, to: &Path, expect: Expect<'_>, say: Say<'_>) -> Result<(), Error> {
    if is_there(to) {
        // An earlier try, if it is what we would write.
        return same(to, expect, say).map_err(|_| Error::InTheWay(to.to_owned()));
    }
    let dir = to.parent().unwrap_or(Path::new("/"));
    make_like(dir, from.parent().unwrap_or(Path::new("/")))?;
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(UNFINISHED);
    let unfinished = dir.join(name);
    let source = File::open(from).map_err(io_error("read", from))?;
    let meta = source.metadata().map_err(io_error("read", from))?;
    if meta.len() != expect.size {
        return Err(Error::Differs { path: from.to_owned(), why: format!("{} bytes, not {}", meta.len(), expect.size) });
    }
    let made = (|| {
        let target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        // A clone where the file system can make one: no second place on the disk, and no time.
        if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
            io::copy(&mut &source, &mut &target)?;
        }
        std::os::unix::fs::fchown(&target, Some(meta.uid()), Some(meta.gid()))?;
        target.set_permissions(meta.permissions())?;
        target.sync_all()
    })();
    if let Err(e) = made {
        let _ = std::fs::remove_file(&unfinished); // ours, and half
        return Err(Error::Io { doing: "copy to", path: to.to_owned(), source: e });
    }
    same(&unfinished, expect, say).inspect_err(|_| {
        let _ = std::fs::remove_file(&unfinished);
    })?;
    if is_there(to) {
        return Err(Error::InTheWay(to.to_owned()));
    }
    std::fs::rename(&unfinished, to).map_err(io_error("move into place", to))?;
    sync_dir(dir).map_err(io_error("write to disk", dir))
}

/// Reads a file back and compares it.
fn same(path: &Path, expect: Expect<'_>, say: Say<'_>) -> Result<(), Error> {
    let mut file = File::open(path).map_err(io_error("read", path))?;
    let (mut hash, mut block, mut bytes) = (Sha256::new(), vec![0u8; 1 << 20], 0u64);
    let differs = |why: String| Err(Error::Differs { path: path.to_owned(), why });
    loop {
        let n = file.read(&mut block).map_err(io_error("read", path))?;
        if n == 0 {
            break;
        }
        bytes += n as u64;
        if expect.sha256.is_some() {
            hash.update(&block[..n]);
        }
        say(Progress { step: "copy", files: 0, files_of: 1, bytes, bytes_of: expect.size });
    }
    if bytes != expect.size {
        return differs(format!("{bytes} bytes, not {}", expect.size));
    }
    let found: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    match expect.sha256 {
        Some(want) if want != found => differs("other content than when the set was made".into()),
        _ => Ok(()),
    }
}

/// A directory that is missing gets owner and mode of the set's.
fn make_like(dir: &Path, like: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(up) = dir.parent() {
        make_like(up, like.parent().unwrap_or(like))?;
    }
    let meta = std::fs::metadata(like).map_err(io_error("read", like))?;
    std::fs::create_dir(dir).map_err(io_error("make", dir))?;
    std::os::unix::fs::chown(dir, Some(meta.uid()), Some(meta.gid())).map_err(io_error("give away", dir))?;
    std::fs::set_permissions(dir, meta.permissions()).map_err(io_error("protect", dir))
}

/// Free bytes for us, and the number by which file systems differ, of whatever will hold `path`.
pub fn room(path: &Path) -> io::Result<(u64, u64)> {
    let mut at = path;
    while !at.exists() {
        at = at.parent().unwrap_or(Path::new("/"));
    }
    let v = rustix::fs::statvfs(at)?;
    Ok((v.f_bavail.saturating_mul(v.f_frsize), std::fs::metadata(at)?.dev()))
}

/// Processes that have one of these files open, by their open descriptors.
pub fn open_by(files: &[PathBuf]) -> Vec<u32> {
    let holds = |pid: &Path| {
        let fds = std::fs::read_dir(pid.join("fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|l| files.contains(&l))
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|e| Some((e.file_name().to_str()?.parse::<u32>().ok()?, e.path())));
    pids.filter(|(_, p)| holds(p)).map(|(n, _)| n).collect()
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &[u8]) -> String {
        Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn nothing_is_overwritten_and_a_repetition_ends_alike() {
        let dir = tempfile::tempdir().unwrap();
        let at = |n: &str| dir.path().join(n);
        std::fs::write(at("old"), "old").unwrap();
        std::fs::write(at("set"), "new").unwrap();
        let sum = hex(b"new");
        let expect = Expect { size: 3, sha256: Some(&sum) };
        assert!(matches!(copy(&at("set"), &at("old"), expect, &|_| {}), Err(Error::InTheWay(_))));
        assert_eq!(std::fs::read(at("old")).unwrap(), b"old");
        for moved in [1, 0] {
            assert_eq!(keep_aside(&[at("old")], &at("aside")).unwrap(), moved);
            assert_eq!(std::fs::read(at("aside/old")).unwrap(), b"old");
        }
        for _ in 0..2 {
            copy(&at("set"), &at("old"), expect, &|_| {}).unwrap();
        }
        assert_eq!(std::fs::read(at("old")).unwrap(), b"new");
        assert!(matches!(keep_aside(&[at("old")], &at("aside")), Err(Error::InTheWay(_))), "the first one is the one to keep");
        copy(&at("set"), &at("a/b/c"), expect, &|_| {}).unwrap();
        assert_eq!(std::fs::read(at("a/b/c")).unwrap(), b"new");
    }

    #[test]
    fn a_copy_that_is_not_what_the_list_says_never_appears() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("set"), dir.path().join("to"));
        std::fs::write(&from, "nev").unwrap();
        let sum = hex(b"new");
        for expect in [Expect { size: 3, sha256: Some(&sum) }, Expect { size: 4, sha256: None }] {
            let e = copy(&from, &to, expect, &|_| {}).unwrap_err();
            assert!(matches!(e, Error::Differs { .. }), "{e}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
        assert!(room(&dir.path().join("none/at/all")).unwrap().0 > 0);
        let file = File::open(&from).unwrap();
        assert_eq!(open_by(std::slice::from_ref(&from)), [std::process::id()]);
        drop(file);
        assert!(open_by(&[from]).is_empty());
    }
}
