//! Recorded trees, and real disks in files.
#![allow(dead_code, reason = "each test binary uses its part")]

use doors::clock::boot_now;
use doors::exec::{Call, Ended, Program};
use std::path::{Path, PathBuf};

/// Builds `trees/NAME.tree` below a temporary directory: `path = text`, `path -> target`, `path/`, `path <<` … `>>`.
pub fn tree(name: &str) -> tempfile::TempDir {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(format!("{name}.tree"));
    let text = std::fs::read_to_string(file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let at = |p: &str| {
            let full = dir.path().join(p.trim_start_matches('/'));
            std::fs::create_dir_all(full.parent().unwrap()).unwrap();
            full
        };
        if line.is_empty() || line.starts_with('#') {
        } else if let Some(path) = line.strip_suffix(" <<") {
            let body: String = lines.by_ref().take_while(|l| *l != ">>").flat_map(|l| [l, "\n"]).collect();
            std::fs::write(at(path), body).unwrap();
        } else if let Some((path, target)) = line.split_once(" -> ") {
            std::os::unix::fs::symlink(target, at(path)).unwrap();
        } else if let Some((path, value)) = line.split_once(" = ") {
            std::fs::write(at(path), format!("{value}\n")).unwrap();
        } else {
            std::fs::create_dir_all(at(line.trim_end_matches('/'))).unwrap();
        }
    }
    dir
}

/// Runs a program to its end; its standard output when it exits with 0.
pub fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let found = Program::find(program).map_err(|e| e.to_string())?;
    let out = Call::new(&found, args).run(boot_now().plus(60_000), None).map_err(|e| e.to_string())?;
    match out.ended {
        Ended::Exited(0) => Ok(out.out().into_owned()),
        other => Err(format!("{program} {args:?}: {other:?} {}", out.err())),
    }
}

/// A file system in a file, mounted; unmounted and gone with the value.
pub struct Disk {
    pub at: PathBuf,
    device: String,
    _dir: tempfile::TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fs {
    Xfs,
    Btrfs,
    Ext4,
}

/// `None` with a line that names the test and the reason: not root, or the machine has no such file system.
pub fn disk(test: &str, kind: Fs, mib: u64) -> Option<Disk> {
    match make(kind, mib) {
        Ok(disk) => Some(disk),
        Err(why) => {
            println!("SKIP {test}: no {kind:?} on a loop device: {why}");
            None
        }
    }
}

fn make(kind: Fs, mib: u64) -> Result<Disk, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".into());
    }
    let dir = tempfile::Builder::new().prefix("snapfreeze-disk-").tempdir().map_err(|e| e.to_string())?;
    let image = dir.path().join("image");
    let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
    file.set_len(mib << 20).map_err(|e| e.to_string())?;
    let at = dir.path().join("mnt");
    std::fs::create_dir(&at).map_err(|e| e.to_string())?;
    let image = image.to_str().ok_or("path")?;
    match kind {
        Fs::Xfs => run("mkfs.xfs", &["-q", "-m", "reflink=1", image])?,
        Fs::Btrfs => run("mkfs.btrfs", &["-q", image])?,
        Fs::Ext4 => run("mkfs.ext4", &["-q", image])?,
    };
    let device = run("losetup", &["--find", "--show", image])?.trim().to_owned();
    let disk = Disk { at, device, _dir: dir };
    run("mount", &[&disk.device, disk.at.to_str().ok_or("path")?])?;
    Ok(disk)
}

impl Disk {
    /// Makes a directory (with parents) or, on btrfs with a name that begins with `@`, a subvolume.
    pub fn dir(&self, path: &str) -> PathBuf {
        let full = self.at.join(path);
        std::fs::create_dir_all(&full).unwrap();
        full
    }
    pub fn subvolume(&self, path: &str) -> PathBuf {
        let full = self.at.join(path);
        run("btrfs", &["-q", "subvolume", "create", full.to_str().unwrap()]).unwrap();
        full
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let at = self.at.to_str().unwrap_or_default();
        if let Err(e) = run("umount", &["-R", at]) {
            eprintln!("{e}");
            let _ = run("umount", &["-R", "-l", at]);
        }
        if let Err(e) = run("losetup", &["-d", &self.device]) {
            eprintln!("{e}");
        }
    }
}

/// Deterministic bytes that differ from block to block and from file to file.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}
