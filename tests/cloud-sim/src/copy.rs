//! Copies a volume's directory at the moment of a snapshot: a reflink where the file system can, else only the data of
//! sparse files. A file that vanishes meanwhile is left out, as it would be from a disk that lives on.
//!
//! The copy of a directory that changes is not atomic, unlike EBS: it is never kinder than EBS to an engine that writes.

use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub files: u64,
    pub bytes: u64,
}

/// Contents of `from` into the new directory `to`.
pub fn tree(from: &Path, to: &Path) -> io::Result<Copied> {
    let mut sum = Copied::default();
    fs::create_dir_all(to)?;
    directory(from, to, &mut sum)?;
    Ok(sum)
}

fn directory(from: &Path, to: &Path, sum: &mut Copied) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match one(&source, &target, sum) {
            Err(e) if e.kind() == ErrorKind::NotFound && source.symlink_metadata().is_err() => {}
            other => other.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", source.display())))?,
        }
    }
    like(from, to)
}

fn one(from: &Path, to: &Path, sum: &mut Copied) -> io::Result<()> {
    let meta = from.symlink_metadata()?;
    let kind = meta.file_type();
    if kind.is_dir() {
        fs::create_dir(to)?;
        directory(from, to, sum)
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else if kind.is_file() {
        let (source, target) = (File::open(from)?, OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?);
        if ioctl_ficlone(&target, &source).is_err() {
            sparse(&source, &target)?;
        }
        sum.files += 1;
        sum.bytes += source.metadata()?.len();
        like(from, to)
    } else {
        debug_assert!(kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device());
        Ok(()) // Sockets and pipes hold no bytes.
    }
}

/// Mode, owner (where we may) and times.
fn like(from: &Path, to: &Path) -> io::Result<()> {
    let meta = from.metadata()?;
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    if rustix::process::geteuid().is_root() {
        chown(to, Some(meta.uid()), Some(meta.gid()))?;
    }
    File::open(to)?.set_times(fs::FileTimes::new().set_modified(meta.modified()?))
}

fn sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let (mut at, mut buffer) = (0, vec![0; 1 << 20]);
    while at < length {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let hole = seek(from, SeekFrom::Hole(data))?;
        at = data;
        while at < hole {
            let want = buffer.len().min((hole - at) as usize);
            let got = from.read_at(&mut buffer[..want], at)?;
            if got == 0 {
                return Ok(()); // Shortened meanwhile.
            }
            to.write_all_at(&buffer[..got], at)?;
            at += got as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_modes_links_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/a"), b"hello").unwrap();
        fs::set_permissions(from.join("sub/a"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("sub/a", from.join("link")).unwrap();
        let big = File::create(from.join("big")).unwrap();
        big.set_len(64 << 20).unwrap();
        big.write_all_at(b"end", (64 << 20) - 3).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();

        let sum = tree(&from, &to).unwrap();
        assert_eq!(sum, Copied { files: 2, bytes: (64 << 20) + 5 });
        assert_eq!(fs::read(to.join("sub/a")).unwrap(), b"hello");
        assert_eq!(to.join("sub/a").metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("sub/a"));
        let copied = fs::read(to.join("big")).unwrap();
        assert!(copied.ends_with(b"end") && copied.len() == 64 << 20);
        assert!(to.join("big").metadata().unwrap().blocks() < 1024, "the hole stays a hole");
        assert!(tree(&dir.path().join("absent"), &dir.path().join("x")).is_err(), "the control");
    }
}
