//! A copy of this machine that can be spoilt: an overlay over `/` whose changes lie in memory, with process ids and mounts
//! of its own and no service manager. It ends, with all that was started in it, when its keyboard (a pipe) is closed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const MAKE: &str = "set -e; mkdir -p $1; mount -t tmpfs -o size=1g,mode=755 room $1; cd $1; mkdir up work root
mount -t overlay -o lowerdir=/,upperdir=up,workdir=work overlay root
mount -t proc proc root/proc; mount --bind /dev root/dev
for d in run tmp; do mount -t tmpfs -o mode=755 $d root/$d; done
echo ready; read -r end || :";

pub struct Room {
    holder: Child,
    dir: tempfile::TempDir,
}

/// How a program ended, and all it printed, in order.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub said: String,
}

impl Ran {
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.said);
        self.said
    }
}

impl Room {
    /// `Err`: why there can be none here.
    pub fn open() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("not root".into());
        }
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", MAKE, "sh"])
            .arg(dir.path().join("room"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("unshare: {e}"))?;
        let mut line = String::new();
        let out = holder.stdout.take().expect("piped");
        if BufReader::new(out).read_line(&mut line).is_ok() && line.trim() == "ready" {
            return Ok(Self { holder, dir });
        }
        let _ = holder.wait();
        Err("no overlay over / can be mounted here".into())
    }

    /// Where a file of the room is seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        let root = self.dir.path().join("room/root");
        PathBuf::from(format!("/proc/{}/root{}/{}", self.holder.id(), root.display(), inside.trim_start_matches('/')))
    }

    pub fn has(&self, inside: &str) -> bool {
        self.path(inside).symlink_metadata().is_ok()
    }

    pub fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap_or_else(|e| panic!("{inside}: {e}"))
    }

    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file of the room");
    }

    pub fn copy(&self, outside: &Path, inside: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::copy(outside, path).unwrap_or_else(|e| panic!("{}: {e}", outside.display()));
    }

    fn command(&self, script: &str) -> Command {
        let id = self.holder.id();
        let mut c = Command::new("nsenter");
        c.args([format!("--mount=/proc/{id}/ns/mnt"), format!("--pid=/proc/{id}/ns/pid_for_children")])
            .arg("chroot")
            .arg(self.dir.path().join("room/root"))
            .args(["/bin/sh", "-c", script])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        c
    }

    /// A line of shell, to its end.
    pub fn run(&self, script: &str) -> Ran {
        let out = self.command(&format!("exec 2>&1\n{script}")).output().expect("nsenter starts");
        Ran { code: out.status.code(), said: String::from_utf8_lossy(&out.stdout).into_owned() }
    }

    /// A program that stays; it ends with the room.
    pub fn start(&self, script: &str) {
        let started = self.command(&format!("{{ {script}; }} </dev/null >>/tmp/started.log 2>&1 &")).status().expect("nsenter starts");
        assert!(started.success(), "{script}");
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
