//! The two databases of the demonstration: real GT.M, and the IRIS model.

use super::{Host, program};
use crate::gtm::{GtmDb, Pace, Workload};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub enum Db {
    Gtm(Box<GtmDb>),
    Iris { root: PathBuf },
}

pub enum Load {
    Gtm(Workload),
    Iris(Child),
}

impl Load {
    /// Its longest stalled write in ms.
    pub fn stop(self) -> Result<f64, String> {
        match self {
            Self::Gtm(w) => {
                let ms = w.take_longest_stall_ms();
                w.stop();
                Ok(ms as f64)
            }
            Self::Iris(c) => {
                if let Some(pid) = rustix::process::Pid::from_raw(c.id() as i32) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
                let out = c.wait_with_output().map_err(|e| e.to_string())?;
                let last: serde_json::Value = serde_json::from_slice(&out.stdout).map_err(|e| format!("the workload's summary: {e}"))?;
                last["longest_stall_ms"].as_f64().ok_or("no longest_stall_ms".into())
            }
        }
    }
}

impl Db {
    pub fn gtm(dir: &Path) -> Result<Option<Self>, String> {
        if engine::gtm::find_dist().is_none() {
            return Ok(None);
        }
        let db = GtmDb::create(&dir.join("gtm/db"), &["ACC", "HIST"])?;
        Ok(Some(Self::Gtm(Box::new(db))))
    }

    pub fn iris(dir: &Path) -> Result<Option<Self>, String> {
        let root = dir.join("iris/root");
        let history = dir.join("iris/history.jsonl");
        std::fs::create_dir_all(dir.join("iris")).map_err(|e| e.to_string())?;
        let sim = program("iris-sim")?;
        run(Command::new(sim).args(["install", "--name", "IRIS", "--max-life", "900", "--root"]).arg(&root).arg("--history").arg(history))?;
        run(Command::new(root.join("bin/iris")).args(["start", "IRIS", "quietly"]))?;
        Ok(Some(Self::Iris { root }))
    }

    /// Delays and faults of the model.
    pub fn ctl(&self, settings: &[&str]) -> Result<(), String> {
        let Self::Iris { root } = self else { return Ok(()) };
        run(Command::new(program("iris-sim")?).args(["ctl", "--root"]).arg(root).arg("IRIS").args(settings)).map(|_| ())
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Gtm(_) => "gtm",
            Self::Iris { .. } => "iris",
        }
    }

    pub fn title(&self) -> &'static str {
        match self {
            Self::Gtm(_) => "GT.M, a real database with two regions",
            Self::Iris { .. } => "IRIS, a working model (iris-sim) with the delays of a real instance",
        }
    }

    pub fn config(&self) -> String {
        match self {
            Self::Gtm(db) => db.config_toml("GTM"),
            Self::Iris { root } => {
                format!("[[instance]]\nengine = \"iris\"\nname = \"IRIS\"\nprogram = \"{}\"\n", root.join("bin/iris").display())
            }
        }
    }

    /// A workload that never stops.
    pub fn load(&self, host: &Host) -> Result<Load, String> {
        let record = host.dir.join("record");
        match self {
            Self::Gtm(db) => db.start_workload(&record, Pace { pause_ms: 2, ..Pace::default() }).map(Load::Gtm),
            Self::Iris { root } => Command::new(program("iris-sim")?)
                .args(["workload", "IRIS", "--root"])
                .arg(root)
                .arg("--record")
                .arg(record)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map(Load::Iris)
                .map_err(|e| e.to_string()),
        }
    }

    /// By the engine itself, not by the agent.
    pub fn frozen(&self) -> Result<bool, String> {
        match self {
            Self::Gtm(db) => Ok(db.frozen_flags().contains(&true)),
            Self::Iris { root } => {
                let text = run(Command::new(program("iris-sim")?).args(["state", "--root"]).arg(root).arg("IRIS"))?;
                let state: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                Ok(state["wd_suspended"] == true)
            }
        }
    }

    pub fn other_thaw(&self) -> Result<String, String> {
        match self {
            Self::Gtm(db) => db.mupip(&["freeze", "-off", "*"]).map(|_| "mupip freeze -off \"*\"".into()),
            Self::Iris { root } => {
                let call = "##Class(Backup.General).ExternalThaw()";
                let mut c = Command::new(root.join("bin/iris"));
                let _ = c.args(["session", "IRIS", "-U%SYS", call]).output().map_err(|e| e.to_string())?; // exit 5 is success
                Ok(format!("iris session IRIS -U%SYS '{call}'"))
            }
        }
    }

    /// Is the image clean; the command that says so; what it said.
    pub fn check_image(&self, image: &Path) -> Result<(bool, String, String), String> {
        match self {
            Self::Gtm(db) => {
                let (mut good, mut commands, mut said) = (true, vec![], vec![]);
                for r in &db.regions {
                    let inside = image.join("db").join(r.file.strip_prefix(&db.dir).unwrap_or(&r.file));
                    let file = if inside.exists() { inside } else { image.join(r.file.file_name().unwrap_or_default()) };
                    let out = db.mupip(&["integ", "-file", &file.to_string_lossy()])?;
                    let text = format!("{}{}", out.err(), out.out());
                    let clean = out.code() == Some(0) && text.contains("No errors detected by integ");
                    good &= clean;
                    let tells = |l: &&str| {
                        l.contains("No errors") || l.contains("suspect") || (l.contains("%GTM-") && !l.contains("DBSHMNAMEDIFF"))
                    };
                    let shown = text.lines().find(tells).unwrap_or("no answer").trim().to_owned();
                    said.push(format!("{}: {shown}", r.name));
                    commands.push(format!("gtm_dist={0} {0}/mupip integ -file {1}", db.dist.display(), file.display()));
                }
                Ok((good, commands.join("; "), said.join(" · ")))
            }
            Self::Iris { .. } => {
                let sim = program("iris-sim")?;
                let found = [image.join("root/iris"), image.to_owned()].into_iter().find(|p| p.is_dir()).ok_or("no image")?;
                let out = Command::new(&sim).arg("verify").arg(&found).output().map_err(|e| e.to_string())?;
                let text = String::from_utf8_lossy(&out.stdout).into_owned();
                let first = text.lines().next().unwrap_or_default().to_owned();
                Ok((out.status.success(), format!("{} verify {}", sim.display(), found.display()), first))
            }
        }
    }

    /// File by file, while the database is written: what `cp` would do.
    pub fn copy_unfrozen(&self, to: &Path) -> Result<(), String> {
        match self {
            Self::Gtm(db) => db.copy_slowly(to, 300).map(|_| ()),
            Self::Iris { root } => {
                std::fs::create_dir_all(to).map_err(|e| e.to_string())?;
                run(Command::new("/bin/cp").args(["-r", "--reflink=never"]).arg(root.join("iris/.")).arg(to)).map(|_| ())
            }
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Self::Iris { root } = self {
            let _ = Command::new(root.join("bin/iris")).args(["stop", "IRIS", "quietly"]).output();
        }
    }
}

fn run(c: &mut Command) -> Result<String, String> {
    let out = c.stdin(Stdio::null()).output().map_err(|e| format!("{c:?}: {e}"))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(format!("{c:?}: {}", String::from_utf8_lossy(&out.stderr)))
    }
}
