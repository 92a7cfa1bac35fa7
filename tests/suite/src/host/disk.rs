//! A disk of a test host: ext4 on a loop device, whose bytes can be copied at any moment.

use std::path::PathBuf;
use std::process::Command;

pub const MIB: u64 = 1 << 20;

/// ext4 on a loop device; unmounted whatever happens.
pub struct Disk {
    pub image: PathBuf,
    pub mount: PathBuf,
    /// Outer mounts go last.
    tmpfs: Option<PathBuf>,
    dir: tempfile::TempDir,
}

impl Disk {
    /// `real`: bytes that its device can really keep; all of them when left out. `None`: no right to make one, and `test` says so.
    pub fn make(test: &str, real: Option<u64>) -> Option<Self> {
        let made = Self::try_make(real);
        if made.is_none() {
            println!("SKIP {test}: no right to make loop devices");
        }
        made
    }

    fn try_make(real: Option<u64>) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut this = Self { image: dir.path().join("disk"), mount: dir.path().join("mnt"), tmpfs: None, dir };
        std::fs::create_dir(&this.mount).expect("a directory");
        if let Some(bytes) = real {
            let small = this.dir.path().join("small");
            std::fs::create_dir(&small).expect("a directory");
            ok(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]).arg(&small))?;
            this.image = small.join("disk");
            this.tmpfs = Some(small);
        }
        std::fs::File::create(&this.image).expect("a file").set_len(256 * MIB).expect("a size");
        ok(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=1"]).arg(&this.image))?;
        this.mounted()
    }

    /// Of the device's bytes as they are now.
    pub fn copy(&self) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let copy = Self { image: dir.path().join("disk"), mount: dir.path().join("mnt"), tmpfs: None, dir };
        std::fs::create_dir(&copy.mount).expect("a directory");
        ok(Command::new("cp").args(["--reflink=auto", "--sparse=always"]).args([&self.image, &copy.image])).expect("a copy");
        copy
    }

    pub fn mounted(self) -> Option<Self> {
        ok(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.mount])).map(|()| self)
    }

    /// `fsfreeze`: whoever writes to it waits, for a minute at most: a test that hangs must not leave it frozen.
    pub fn freeze(&self) {
        let mount = self.mount.clone();
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_secs(60));
            let _ = ok(Command::new("fsfreeze").arg("-u").arg(&mount));
        });
        ok(Command::new("fsfreeze").arg("-f").arg(&self.mount)).expect("the file system is frozen");
    }

    /// What the page cache holds goes to the device now, as it does sooner or later.
    pub fn sync(&self) {
        ok(Command::new("sync").arg("-f").arg(&self.mount)).expect("a sync");
    }

    pub fn thaw(&self) {
        let _ = ok(Command::new("fsfreeze").arg("-u").arg(&self.mount));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        for m in [Some(&self.mount), self.tmpfs.as_ref()].into_iter().flatten() {
            let _ = Command::new("umount").arg("-l").arg(m).output();
        }
    }
}

fn ok(c: &mut Command) -> Option<()> {
    c.output().ok().filter(|o| o.status.success()).map(|_| ())
}
