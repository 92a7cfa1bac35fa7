//! A volume that is attached appears on its host as a block device: ext4 on a loop device with the volume's bytes, and udev's link
//! to it in the host's `disk` directory. Needs root; unplugged when the double ends.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Beside the bytes: the file system's own.
const SPARE: u64 = 48 << 20;

/// A plugged volume. Dropped: the device goes when nobody has it mounted any more.
#[derive(Debug)]
pub struct Plugged {
    device: String,
    link: PathBuf,
}

impl Drop for Plugged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.link);
        let _ = run("losetup", &["-d", &self.device]);
    }
}

/// `link`: in the host's `disk` directory. `file`: a new image.
pub fn plug(bytes: &Path, file: &Path, link: &Path) -> io::Result<Plugged> {
    let size = size_of(bytes)? + SPARE;
    std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
    std::fs::File::create(file)?.set_len(size)?;
    run("mkfs.ext4", &["-q", "-F", "-d", text(bytes)?, text(file)?])?;
    let device = run("losetup", &["--show", "-f", text(file)?])?;
    std::fs::create_dir_all(link.parent().unwrap_or(Path::new("/")))?;
    let _ = std::fs::remove_file(link);
    symlink(&device, link)?;
    Ok(Plugged { device, link: link.to_owned() })
}

fn size_of(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for e in std::fs::read_dir(dir)? {
        let e = e?;
        let m = e.path().symlink_metadata()?;
        sum += if m.is_dir() { size_of(&e.path())? + 4096 } else { m.len().next_multiple_of(4096) };
    }
    Ok(sum)
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::other("no UTF-8"))
}

#[allow(clippy::disallowed_methods, reason = "the double is outside the agent's doors")]
fn run(program: &str, args: &[&str]) -> io::Result<String> {
    let out = Command::new(program).args(args).output()?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        false => Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&out.stderr)))),
    }
}
