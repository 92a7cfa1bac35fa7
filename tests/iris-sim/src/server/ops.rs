//! Every request but freeze and thaw.

use super::{Conn, Server, lock, today};
use crate::clock;
use crate::instance::UpdateError;
use crate::proto::{Op, Reply};
use crate::store::journal::Reason;
use jiff::Zoned;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// What a process sees while the instance starts (facts 1.4), and its exit code.
pub const STARTING: (&str, i32) = ("Sign-on inhibited: Startup or Installation in progress", 239);
/// The answer to a login without the credentials that it needs.
pub const ASK_CREDENTIALS: &str = "credentials";
/// INVENTED: login refused.
const REFUSED: (&str, i32) = ("Access Denied", 1);

/// What a process does that is in: in an emergency start only the administrator's.
fn touches_data(op: &Op) -> bool {
    match op {
        Op::Get { .. } | Op::Set { .. } | Op::Begin | Op::Commit | Op::Rollback | Op::Group(_) => true,
        Op::Database(_) | Op::JournalCheck(_) | Op::JournalRestore(_) | Op::SwitchJournal | Op::SetHistory { .. } => true,
        Op::Login { .. } | Op::Freeze(_) | Op::Thaw(_) | Op::IsSuspended | Op::Stat { .. } => false,
        Op::Journal | Op::SkipJournal | Op::Info | Op::State | Op::Ctl(_) | Op::Stop => false,
    }
}

impl Server {
    /// Answers a request. `None`: the client is gone, or shall never hear.
    pub fn handle(&'static self, conn: &mut Conn, op: Op) -> Option<Reply> {
        let done = |value: Value| Some(Reply::Done(value));
        if let Some(away) = self.away(&op) {
            return Some(away);
        }
        if let Op::Login { emergency, .. } = &op {
            conn.administrator = *emergency;
        }
        if self.emergency && !conn.administrator && touches_data(&op) {
            return Some(Reply::Failed(REFUSED.0.into()));
        }
        match op {
            Op::Login { emergency, credentials } => self.login(conn, emergency, credentials),
            Op::Freeze(args) => self.freeze(conn, &args),
            Op::Thaw(args) => self.thaw(conn, &args),
            Op::IsSuspended => {
                let suspended = lock(&self.core).is_suspended();
                done(json!({"suspended": suspended, "exit": lock(&self.faults).number("issuspended_exit")}))
            }
            Op::SetHistory { description, .. } => {
                self.set_history(conn.pid, &description);
                done(Value::Null)
            }
            Op::Stat { resume } => {
                let resumed = resume && self.resume_by_irisstat(conn.pid);
                let mut state = self.state();
                state["resumed"] = json!(resumed);
                done(state)
            }
            Op::Journal => done(self.journal()),
            Op::SwitchJournal => {
                let switched = lock(&self.core).switch_journal(Reason::User, &today());
                match switched {
                    Ok(file) => {
                        let now = Zoned::now();
                        self.journal_log(&now, &file);
                        self.console.journal_switched(&now, conn.pid, &file);
                        done(json!(file))
                    }
                    Err(e) => Some(Reply::Failed(e.to_string())),
                }
            }
            Op::Get { sfn, key } => match lock(&self.core).get(sfn, &key) {
                Ok(value) => done(json!(value)),
                Err(e) => Some(Reply::Failed(e.to_string())),
            },
            Op::Set { sfn, key, value } => {
                let txn = conn.txn;
                self.updated(self.update_waiting(conn, |core| core.update(txn, vec![(sfn, key.clone(), value.clone())])))
            }
            Op::Begin => {
                if conn.txn == 0 {
                    conn.txn = lock(&self.core).begin(conn.pid);
                }
                done(json!(conn.txn))
            }
            Op::Commit => {
                let txn = std::mem::take(&mut conn.txn);
                match lock(&self.core).commit(txn) {
                    Ok(()) => done(Value::Null),
                    Err(e) => Some(Reply::Failed(e.to_string())),
                }
            }
            Op::Rollback => {
                let txn = std::mem::take(&mut conn.txn);
                self.updated(Some(lock(&self.core).rollback(txn).map(|()| 0.0)))
            }
            Op::Group(group) => {
                let txn = conn.txn;
                self.updated(self.update_waiting(conn, |core| core.apply_group(txn, &group)))
            }
            Op::Database(op) => Some(self.database(conn.pid, op)),
            Op::JournalCheck(args) => Some(self.journal_check(&args)),
            Op::JournalRestore(args) => Some(self.journal_restore(conn, &args)),
            Op::SkipJournal => Some(Reply::Failed("the system is up".into())),
            Op::Info => done(self.info()),
            Op::State => done(self.state()),
            Op::Ctl(values) => {
                let applied = lock(&self.faults).apply(values);
                self.changed.notify_all();
                match applied {
                    Ok(()) => done(json!(lock(&self.faults).all())),
                    Err(text) => Some(Reply::Failed(text)),
                }
            }
            Op::Stop => {
                self.stopping.store(true, Ordering::Relaxed);
                self.changed.notify_all();
                Some(self.stop(conn.pid))
            }
        }
    }

    /// While the instance starts or is down, nobody gets in.
    fn away(&self, op: &Op) -> Option<Reply> {
        // Processes that are in already, the workload's, go on.
        let comes_in = matches!(op, Op::Login { .. } | Op::Freeze(_) | Op::Thaw(_) | Op::IsSuspended | Op::Stat { .. });
        if !comes_in {
            return None;
        }
        let faults = lock(&self.faults);
        match faults.text("state") {
            Some("starting" | "inhibited") => Some(Reply::Exit(STARTING.0.into(), STARTING.1)),
            Some("down") => Some(Reply::Exit(format!("Instance '{}' is not running", self.cfg.name), 1)),
            _ => None,
        }
    }

    /// Authentication. Hangs, as the vendor says, while updates are blocked by the freeze time-out.
    fn login(&self, conn: &Conn, emergency: bool, credentials: Option<(String, String)>) -> Option<Reply> {
        let delay = self.fault_ms("login_delay_ms");
        std::thread::sleep(std::time::Duration::from_secs_f64(delay / 1000.0));
        loop {
            let how = lock(&self.faults).text("login").unwrap_or("ok").to_string();
            if how == "refused" && !emergency {
                return Some(Reply::Exit(REFUSED.0.into(), REFUSED.1));
            }
            if how == "password" && !emergency {
                let Some(given) = &credentials else {
                    return Some(Reply::Failed(ASK_CREDENTIALS.into()));
                };
                let faults = lock(&self.faults);
                let user = faults.text("login_user").unwrap_or("_SYSTEM");
                let password = faults.text("login_password").unwrap_or("SYS");
                if given.0 != user || given.1 != password {
                    return Some(Reply::Failed(REFUSED.0.into()));
                }
            }
            let blocked = lock(&self.core).suspension.as_ref().is_some_and(|s| s.blocked);
            if how != "hang" && !blocked {
                break;
            }
            if conn.is_gone() {
                return None;
            }
            self.wait_change(20.0);
        }
        self.history.event("login", conn.pid, json!({}));
        Some(Reply::Done(json!({"echo": lock(&self.faults).text("session_echo").is_none_or(|v| v != "0")})))
    }

    fn updated(&self, result: Option<Result<f64, UpdateError>>) -> Option<Reply> {
        Some(match result? {
            Ok(waited_ms) => Reply::Done(json!(waited_ms)),
            Err(UpdateError::Locked) => Reply::Failed("<LOCKED>".into()),
            Err(e) => Reply::Failed(e.to_string()),
        })
    }

    /// What the lists need; answered without a login, however busy the instance is.
    fn info(&self) -> Value {
        let faults = lock(&self.faults);
        json!({
            "since": clock::stamp_ctime(&self.started),
            "state": faults.text("state").unwrap_or("ok"),
            "health": faults.text("health").unwrap_or("ok"),
        })
    }

    pub fn state(&self) -> Value {
        let core = lock(&self.core);
        let stalls = lock(&self.stalls).clone();
        let suspension = core.suspension.as_ref();
        json!({
            "name": self.cfg.name,
            "pid": std::process::id(),
            "wd_suspended": core.is_suspended(),
            "since_ms": suspension.map(|s| s.since_ms),
            "blocked": suspension.is_some_and(|s| s.blocked),
            "limit_s": suspension.map(|s| s.limit_s),
            "dirty": core.buffers.dirty,
            "buffers": core.buffers.capacity,
            "cycle": core.wd.cycle,
            "journal": core.journal.path(),
            "journal_offset": core.journal.position().offset,
            "required": core.required_file(),
            "open_transactions": core.txns.len(),
            "commits": core.commits,
            "stalls": stalls.count,
            "stalled_now": stalls.waiting,
            "longest_stall_ms": stalls.longest_ms,
            "faults": lock(&self.faults).all(),
        })
    }

    /// What `%SYS.Journal.System` answers. Nothing is looked for on disk: a freeze script asks it often.
    fn journal(&self) -> Value {
        let core = lock(&self.core);
        let here = core.journal.position();
        let (image, open) = core.wd.image.clone();
        json!({
            "current": core.journal.path(),
            "offset": here.offset,
            "count": here.count,
            "state": if self.flag("journal_frozen") { 3 } else { 0 },
            "image": image,
            "image_open": open,
            "required": core.required_file(),
        })
    }

    /// `iris stop`.
    fn stop(&self, pid: u32) -> Reply {
        let mut core = lock(&self.core);
        let stopped = core.stop();
        self.history.event("stop", pid, json!({}));
        self.console.log(&Zoned::now(), pid, 0, "Utility.Event", "Shutdown of instance complete");
        for path in core.cfg.lock_paths().chain([self.cfg.socket_path()]) {
            let _ = std::fs::remove_file(path);
        }
        match stopped {
            Ok(()) => Reply::Done(Value::Null),
            Err(e) => Reply::Failed(e.to_string()),
        }
    }

    /// A process has ended: its transaction rolls back.
    pub fn process_ended(&self, conn: &Conn) {
        if conn.txn != 0 && !self.stopping.load(Ordering::Relaxed) {
            let _full = lock(&self.core).rollback(conn.txn);
        }
    }
}
