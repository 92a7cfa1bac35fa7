//! A file system that spans disks which are not snapshotted in one call is refused by name, before any freeze.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use std::path::{Path, PathBuf};
use std::process::Command;
use suite::host::{Host, Setup};

/// btrfs over two loop devices.
struct TwoDisks {
    loops: Vec<String>,
    mount: PathBuf,
    _dir: tempfile::TempDir,
}

impl TwoDisks {
    fn make() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut this = Self { loops: vec![], mount: dir.path().join("mnt"), _dir: dir };
        std::fs::create_dir(&this.mount).unwrap();
        for n in 0..2 {
            let image = this._dir.path().join(format!("disk{n}"));
            std::fs::File::create(&image).unwrap().set_len(160 << 20).unwrap();
            let out = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().ok().filter(|o| o.status.success())?;
            this.loops.push(String::from_utf8_lossy(&out.stdout).trim().to_owned());
        }
        ok(Command::new("mkfs.btrfs").args(["-q", "-f", "-d", "raid0", "-m", "raid1"]).args(&this.loops))?;
        ok(Command::new("mount").arg(&this.loops[0]).arg(&this.mount))?;
        Some(this)
    }
}

fn ok(c: &mut Command) -> Option<()> {
    c.output().ok().filter(|o| o.status.success()).map(|_| ())
}

impl Drop for TwoDisks {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        for l in &self.loops {
            let _ = Command::new("losetup").args(["-d", l]).output();
        }
    }
}

fn backup(data: &Path, covers: &str) -> (Host, suite::host::Ended) {
    let setup = Setup {
        sim: vec!["--data".into(), data.display().to_string()],
        more: format!("[backup]\nhelper_covers = \"{covers}\"\n"),
        workload: false,
        ..Setup::default()
    };
    let h = Host::iris(setup);
    let to = h.disk.path().join("sets");
    std::fs::create_dir(&to).unwrap();
    let helper = "echo READY; read go; echo snapshot=s1 volume=v1; echo DONE";
    let to = to.display().to_string();
    let e = h.call(&["backup", "--to", &to, "--snapshotter", "command", "--command", "/bin/sh", "-c", helper]);
    (h, e)
}

#[test]
fn a_file_system_over_two_disks_is_refused_unless_one_call_takes_both() {
    let Some(disks) = TwoDisks::make() else {
        return println!("SKIP a_file_system_over_two_disks_is_refused_unless_one_call_takes_both: no right to make loop devices");
    };
    let (h, e) = backup(&disks.mount.join("each"), "each-disk");
    assert_eq!(e.code, Some(4), "{e:?}");
    assert!(e.err.contains("Freeze.Refused.SplitFilesystem") && e.err.contains("mnt"), "{e:?}");
    assert!(h.engine.history().is_empty(), "nothing was frozen: {:?}", h.engine.history());
    drop(h);
    let (h, e) = backup(&disks.mount.join("all"), "all-disks");
    assert_eq!(e.code, Some(0), "{e:?}");
    drop(h);
}
