//! Real GT.M databases for tests: several regions, journals in a directory of their own, a workload that never stops
//! and keeps its record on another file system, copies, `mupip integ`, roll-forward. Everything lies under one directory
//! of the caller's; processes and IPC are gone when the value is dropped.

mod copy;
mod workload;

pub use copy::{Copied, Torn, copy_file_plain};
pub use workload::{Pace, Workload};

use doors::clock::boot_now;
use doors::exec::{Call, Output, Program};
use std::path::{Path, PathBuf};

/// No call of the fixture takes longer on a loaded machine; integ and recover of some MiB are the slowest.
const CALL_MS: u64 = 60_000;

/// Where GT.M is, or `None` with a line that says which test is skipped and why.
pub fn installed_or_skip(test: &str) -> Option<PathBuf> {
    let dist = engine::gtm::find_dist();
    if dist.is_none() {
        println!("SKIP {test}: no GT.M or YottaDB on this machine (apt-get install fis-gtm)");
    }
    dist
}

/// Sizes of a database. `Default`: 16 MiB per region so that files need not grow, GT.M's own number of buffers.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Blocks of 4 KiB at creation.
    pub blocks: u32,
    pub buffers: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { blocks: 4_000, buffers: 1_024 }
    }
}

/// One region: its global, its file, its journal.
#[derive(Clone, Debug)]
pub struct Region {
    pub name: String,
    /// Without `^`.
    pub global: String,
    pub file: PathBuf,
    pub journal: PathBuf,
}

/// A real database. Layout: `db/` global directory and files, `jnl/` journals, `m/` routines.
#[derive(Debug)]
pub struct GtmDb {
    pub dir: PathBuf,
    pub dist: PathBuf,
    pub regions: Vec<Region>,
}

impl GtmDb {
    /// `regions`: upper-case names; `DEFAULT` always exists and comes first.
    pub fn create(dir: &Path, regions: &[&str]) -> Result<Self, String> {
        Self::create_with(dir, regions, Sizes::default())
    }

    pub fn create_with(dir: &Path, regions: &[&str], sizes: Sizes) -> Result<Self, String> {
        let dist = engine::gtm::find_dist().ok_or("no GT.M installed")?;
        for sub in ["db", "jnl", "m"] {
            std::fs::create_dir_all(dir.join(sub)).map_err(|e| e.to_string())?;
        }
        std::fs::write(dir.join("m/wl.m"), include_str!("wl.m")).map_err(|e| e.to_string())?;
        let mut names = vec!["DEFAULT"];
        names.extend(regions.iter().filter(|r| **r != "DEFAULT"));
        let regions = names
            .iter()
            .map(|name| {
                let low = name.to_lowercase();
                Region {
                    name: (*name).to_owned(),
                    global: low.clone(),
                    file: dir.join(format!("db/{low}.dat")),
                    journal: dir.join(format!("jnl/{low}.mjl")),
                }
            })
            .collect();
        let db = Self { dir: dir.to_owned(), dist, regions };
        db.gde(&db.gld(), |r| r.file.clone(), sizes)?;
        db.must(db.mupip(&["create"]))?;
        db.must(db.mupip(&["set", "-journal=enable,on,before", "-region", "*"]))?;
        Ok(db)
    }

    pub fn gld(&self) -> PathBuf {
        self.dir.join("db/t.gld")
    }

    /// The `[[instance]]` table for it.
    pub fn config(&self, name: &str) -> engine::gtm::GtmConfig {
        let table = serde_json::json!({"name": name, "global_directory": self.gld(), "gtm_dist": self.dist});
        serde_json::from_value(table).expect("a valid configuration")
    }

    /// The same as TOML text.
    pub fn config_toml(&self, name: &str) -> String {
        format!(
            "[[instance]]\nengine = \"gtm\"\nname = \"{name}\"\nglobal_directory = \"{}\"\ngtm_dist = \"{}\"\n",
            self.gld().display(),
            self.dist.display()
        )
    }

    fn gde(&self, gld: &Path, file: impl Fn(&Region) -> PathBuf, sizes: Sizes) -> Result<(), String> {
        let mut script = String::new();
        for r in &self.regions {
            let (name, file) = (&r.name, file(r));
            let verb = if name == "DEFAULT" { "change" } else { "add" };
            script += &format!(
                "{verb} -segment {name} -file=\"{}\" -allocation={} -global_buffer_count={} -block_size=4096\n",
                file.display(),
                sizes.blocks,
                sizes.buffers
            );
            script += &format!(
                "{verb} -region {name} -dynamic_segment={name} -record_size=2000 -journal=(before,file=\"{}\")\n",
                r.journal.display()
            );
            if name != "DEFAULT" {
                script += &format!("add -name {} -region={name}\n", r.global);
            }
        }
        script += "exit\n";
        let call = self.call("mumps", &["-run", "GDE"], gld)?.stdin(script);
        let out = self.must(run(call))?;
        // GDE ends with 0 whatever happened.
        let said = format!("{}{}", out.err(), out.out());
        if said.contains("Verification OK") { Ok(()) } else { Err(said) }
    }

    fn call(&self, tool: &str, args: &[&str], gld: &Path) -> Result<Call, String> {
        let path = self.dist.join(tool);
        let program = Program::find(&path.to_string_lossy()).map_err(|e| e.to_string())?;
        let routines = format!("{} {}/libgtmutil.so", self.dir.join("m").display(), self.dist.display());
        let mut call = Call::new(&program, args)
            .env("gtm_dist", &self.dist)
            .env("gtmgbldir", gld)
            .env("gtmroutines", routines)
            .env("gtm_tmp", &self.dir);
        call.cwd = Some(self.dir.clone());
        Ok(call)
    }

    /// Any `mupip` call, as another tool would make it.
    pub fn mupip(&self, args: &[&str]) -> Result<Output, String> {
        run(self.call("mupip", args, &self.gld())?)
    }

    /// `%XCMD`: runs M code.
    pub fn m(&self, code: &str) -> Result<Output, String> {
        run(self.call("mumps", &["-run", "%XCMD", code], &self.gld())?)
    }

    /// Exit code 0, or everything that it said.
    pub fn must(&self, out: Result<Output, String>) -> Result<Output, String> {
        let out = out?;
        if out.code() == Some(0) { Ok(out) } else { Err(format!("{:?}: {}{}", out.ended, out.err(), out.out())) }
    }

    /// The raw flag of every region, by GT.M's own tool and not by our engine's code.
    pub fn frozen_flags(&self) -> Vec<bool> {
        let code = r#"set r="" for  set r=$view("GVNEXT",r) quit:r=""  write $$^%PEEKBYNAME("sgmnt_data.freeze",r),!"#;
        let out = self.must(self.m(code)).expect("GT.M answers");
        out.out().lines().map(|l| l != "0").collect()
    }
}

impl Drop for GtmDb {
    /// A test database is left thawed, closed and without shared memory.
    fn drop(&mut self) {
        let _ = self.mupip(&["freeze", "-off", "-override", "*"]);
        let clean = self.mupip(&["rundown", "-region", "*"]);
        if clean.is_ok_and(|o| o.code() == Some(0)) {
            return;
        }
        for r in &self.regions {
            let _ = self.mupip(&["rundown", "-file", &r.file.to_string_lossy(), "-override"]);
        }
    }
}

fn run(call: Call) -> Result<Output, String> {
    call.run(boot_now().plus(CALL_MS), None).map_err(|e| e.to_string())
}
