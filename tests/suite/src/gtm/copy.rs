//! Copies of the database files, their judgement by GT.M's own tool, and the roll-forward from the journals.

use super::{GtmDb, Sizes};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Small reads, so that a copy of a file that is written meanwhile is a copy of many moments.
const CHUNK: usize = 64 * 1024;

/// Database files in a directory of their own, with a global directory that names them.
#[derive(Debug)]
pub struct Copied<'a> {
    db: &'a GtmDb,
    pub dir: PathBuf,
}

/// What `mupip integ` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn(pub String);

/// Byte by byte: never a reflink, never `copy_file_range`. `spread_ms`: the whole copy takes at least that long.
pub fn copy_file_plain(from: &Path, to: &Path, spread_ms: u64) -> std::io::Result<()> {
    let chunks = (std::fs::metadata(from)?.len() / CHUNK as u64).max(1);
    let pause = std::time::Duration::from_micros(spread_ms * 1000 / chunks);
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut buf = vec![0u8; CHUNK];
    loop {
        let n = from.read(&mut buf)?;
        if n == 0 {
            return to.sync_all();
        }
        to.write_all(&buf[..n])?;
        if spread_ms > 0 {
            std::thread::sleep(pause);
        }
    }
}

impl GtmDb {
    /// Copies every region's file to `to`, one after the other.
    pub fn copy(&self, to: &Path) -> Result<Copied<'_>, String> {
        self.copy_slowly(to, 0)
    }

    /// As a large database would be copied: each file takes at least `spread_ms`.
    pub fn copy_slowly(&self, to: &Path, spread_ms: u64) -> Result<Copied<'_>, String> {
        std::fs::create_dir_all(to).map_err(|e| e.to_string())?;
        for r in &self.regions {
            copy_file_plain(&r.file, &file_in(to, &r.file), spread_ms).map_err(|e| e.to_string())?;
        }
        self.copied(to)
    }

    /// Takes a directory that something else (a snapshotter) has filled with the database files.
    pub fn copied(&self, dir: &Path) -> Result<Copied<'_>, String> {
        let gld = dir.join("copy.gld");
        if !gld.exists() {
            self.gde(&gld, |r| file_in(dir, &r.file), Sizes::default())?;
        }
        Ok(Copied { db: self, dir: dir.to_owned() })
    }
}

fn file_in(dir: &Path, file: &Path) -> PathBuf {
    dir.join(file.file_name().unwrap_or_default())
}

impl Copied<'_> {
    pub fn files(&self) -> Vec<PathBuf> {
        let all = self.db.regions.iter();
        all.map(|r| file_in(&self.dir, &r.file)).collect()
    }

    fn mupip(&self, args: &[&str]) -> Result<doors::exec::Output, String> {
        super::run(self.db.call("mupip", args, &self.dir.join("copy.gld"))?)
    }

    /// `mupip integ -file` on each; it sees files only. `Err`: torn, with what it said.
    pub fn verify(&self) -> Result<(), Torn> {
        for file in self.files() {
            let out = self.mupip(&["integ", "-file", &file.to_string_lossy()]).map_err(Torn)?;
            let said = format!("{}{}", out.err(), out.out());
            if out.code() != Some(0) || !said.contains("No errors detected by integ") {
                return Err(Torn(said));
            }
        }
        Ok(())
    }

    /// Makes the copy usable where it lies and rolls it forward from the database's journals to their end.
    pub fn recover_forward(&self) -> Result<String, String> {
        self.release()?;
        let mut journals = Vec::new();
        let mut redirects = Vec::new();
        for r in &self.db.regions {
            journals.push(r.journal.to_string_lossy().into_owned());
            redirects.push(format!("{}={}", r.file.display(), file_in(&self.dir, &r.file).display()));
        }
        let redirect = format!("-redirect={}", redirects.join(","));
        let args = ["journal", "-recover", "-forward", &redirect, &journals.join(",")];
        let out = self.db.must(self.mupip(&args))?;
        Ok(format!("{}{}", out.err(), out.out()))
    }

    /// Clears what the copy has from the running database: shared memory ids and the freeze.
    pub fn release(&self) -> Result<(), String> {
        for file in self.files() {
            let file = file.to_string_lossy();
            self.db.must(self.mupip(&["rundown", "-file", &file, "-override"]))?;
        }
        Ok(())
    }

    /// `%XCMD` on the copies: what it printed.
    pub fn m(&self, code: &str) -> Result<String, String> {
        let call = self.db.call("mumps", &["-run", "%XCMD", code], &self.dir.join("copy.gld"))?;
        Ok(self.db.must(super::run(call))?.out().into_owned())
    }

    /// The last number of the workload in every region's global, in the order of the regions.
    pub fn last_numbers(&self) -> Result<Vec<u64>, String> {
        let mut code = String::new();
        for r in &self.db.regions {
            code += &format!("write +$order(^{}(\"r\"),-1),! ", r.global);
        }
        self.m(&code)?.lines().map(|l| l.parse().map_err(|_| format!("no number: {l}"))).collect()
    }
}
