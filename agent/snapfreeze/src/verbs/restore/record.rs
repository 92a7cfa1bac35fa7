//! What a run has done, durable: `<state_dir>/restores/<run>.json`, written before and after each step. One run at a time, held
//! by a lock; a run that was killed is found again and goes on at the step that was begun last.

use doors::clock::wall_now;
use protocol::wire::Problem;
use protocol::{Code, SCHEMA, WallMs};
use recovery::Plan;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use storage::catalogue::setdir;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub schema: u32,
    /// Eight letters and digits.
    pub run: String,
    pub begun_at: WallMs,
    pub ended_at: Option<WallMs>,
    pub plan: Plan,
    /// In the plan's order; the last one may be begun and not done.
    pub steps: Vec<Done>,
    #[serde(default)]
    pub abandoned: bool,
    /// The newest journal before the first start of ours. A start rolls back what a crash left open, and says so in a journal of
    /// its own; a database that was not there then has not been rolled back, and must not be told that it was.
    #[serde(default)]
    pub last_journal: Option<String>,
    /// The registry's words for the instance while it must stay down.
    #[serde(default)]
    pub down: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub begun_at: WallMs,
    pub done_at: Option<WallMs>,
    /// What the engine or the copy said.
    pub said: String,
}

impl Record {
    pub fn new(run: String, plan: Plan) -> Self {
        Self {
            schema: SCHEMA,
            run,
            begun_at: wall_now(),
            ended_at: None,
            plan,
            steps: Vec::new(),
            abandoned: false,
            last_journal: None,
            down: None,
        }
    }
    /// How many steps are done.
    pub fn done(&self) -> usize {
        self.steps.iter().filter(|s| s.done_at.is_some()).count()
    }
    pub fn begin(&mut self) {
        self.steps.retain(|s| s.done_at.is_some());
        self.steps.push(Done { begun_at: wall_now(), done_at: None, said: String::new() });
    }
    pub fn end(&mut self, said: String) {
        if let Some(s) = self.steps.last_mut() {
            (s.done_at, s.said) = (Some(wall_now()), said);
        }
        if self.done() == self.plan.steps.len() {
            self.ended_at = Some(wall_now());
        }
    }
}

pub struct Records {
    dir: PathBuf,
    _lock: File,
}

impl Records {
    pub fn open(state: &Path) -> Result<Self, Problem> {
        let dir = state.join("restores");
        let problem = |what: &str, e: std::io::Error| Problem::new(Code::RestoreImpossible, format!("{what} {}: {e}", dir.display()));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| problem("could not make", e))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"));
        let lock = lock.map_err(|e| problem("could not lock", e))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Problem::new(Code::RestoreUnfinished, "another restore is running on this host").next("wait for it, or end its process")
        })?;
        Ok(Self { dir, _lock: lock })
    }

    /// Durable when it returns.
    pub fn write(&self, record: &Record) -> Result<(), Problem> {
        let fail = |e: String| Problem::new(Code::RestoreFailed, format!("the record of the restore could not be written: {e}"));
        let text = serde_json::to_vec_pretty(record).map_err(|e| fail(e.to_string()))?;
        setdir::write_durably(&self.dir, &format!("{}.json", record.run), &text).map_err(|e| fail(e.to_string()))
    }

    pub fn unfinished(&self) -> Result<Option<Record>, Problem> {
        unfinished(&self.dir)
    }
}

/// The newest that has begun and not ended. A record that cannot be read is one that nobody may pass over.
pub fn unfinished(dir: &Path) -> Result<Option<Record>, Problem> {
    let bad = |path: &Path, why: String| {
        Problem::new(Code::RestoreUnfinished, format!("{} cannot be read: {why}", path.display()))
            .next("look at it, and move it away once you know what it did")
    };
    let mut found: Vec<Record> = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(bad(dir, e.to_string())),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "json") {
            let text = std::fs::read(&path).map_err(|e| bad(&path, e.to_string()))?;
            found.push(serde_json::from_slice(&text).map_err(|e| bad(&path, e.to_string()))?);
        }
    }
    Ok(found.into_iter().filter(|r| r.ended_at.is_none() && !r.abandoned).max_by_key(|r| r.begun_at))
}

/// Names a run, and the directories in which it keeps files aside.
pub fn new_run() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()
}
