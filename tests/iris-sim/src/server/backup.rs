//! `Backup.General` as the instance carries it out: texts, delays, faults and history around the core's
//! suspension.
//!
//! * A freeze whose client dies before the suspension is given up, unless `freeze_after_client_died`.
//! * On an error the system is not frozen (class documentation of ExternalFreeze).
//! * The write daemon resumes at the beginning of a thaw; the thaw's delay comes after it.

use super::{Conn, Server, lock, today};
use crate::clock;
use crate::instance::suspension::{BACKUP_MARKER, Suspension};
use crate::messages::{self, FreezeLog};
use crate::proto::{FreezeArgs, LogTarget, Reply, ThawArgs};
use crate::store::journal::Reason;
use jiff::Zoned;
use serde_json::json;
use std::fs::OpenOptions;

/// System default of ExternalFreezeTimeOut (class documentation).
const DEFAULT_TIMEOUT_S: u64 = 600;
/// Longer values are silently cut to this (InterSystems Japan, ExternalBackup.md; facts 1.1).
const TIMEOUT_CAP_S: u64 = 1200;

enum Ended {
    /// The client died and the freeze with it.
    Abandoned,
    Failed(String),
}

impl Server {
    /// ExternalFreeze. `None`: nobody is left to answer.
    pub fn freeze(&self, conn: &mut Conn, args: &FreezeArgs) -> Option<Reply> {
        self.history.event(
            "freeze_called",
            conn.pid,
            json!({
                "native": args.native, "timeout_s": args.timeout_s, "limit_s": args.wd_suspend_limit_s,
            }),
        );
        let result = self.freeze_logged(conn, args);
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Ended::Abandoned) => "abandoned",
            Err(Ended::Failed(_)) => "failed",
        };
        self.history.event("freeze_done", conn.pid, json!({"outcome": outcome}));
        if self.flag("freeze_reply_lost") {
            while !conn.is_gone() {
                self.wait_change(50.0);
            }
            return None;
        }
        match result {
            Ok(required) => Some(Reply::Done(json!({
                "required": required,
                "exit": lock(&self.faults).number("freeze_exit"),
            }))),
            Err(Ended::Failed(text)) => Some(Reply::Failed(text)),
            Err(Ended::Abandoned) => None,
        }
    }

    fn freeze_logged(&self, conn: &mut Conn, args: &FreezeArgs) -> Result<String, Ended> {
        let terminal = self.flag("terminal_log");
        let Ok(mut stream) = conn.stream.try_clone() else {
            return Err(Ended::Abandoned);
        };
        let mut out = move |text: &str| send_out(&mut stream, text);
        let full = lock(&self.faults).text("disk_full") == Some("1");
        let mut log = open_log(&args.log_file, terminal, full, &mut out).map_err(Ended::Failed)?;
        let result = self.freeze_steps(conn, args, &mut log);
        if let Err(Ended::Failed(text)) = &result {
            let line = format!("Backup.General.ExternalFreeze: {}{text}", messages::FAILED_PREFIX);
            self.say(&mut log, conn.pid, 2, &line);
        }
        result
    }

    fn freeze_steps(&self, conn: &Conn, args: &FreezeArgs, log: &mut FreezeLog) -> Result<String, Ended> {
        let pid = conn.pid;
        {
            let core = lock(&self.core);
            let busy = core.suspension.is_some() || core.wd.suspend_after.is_some();
            if core.switches || busy || self.flag("switch10") {
                let text = "Backup.General.ExternalFreeze cannot run with switch 10 or 13 already set";
                return Err(Ended::Failed(text.into()));
            }
        }
        self.say(log, pid, 0, "Backup.General.ExternalFreeze: Suspending system");
        let unjournalled: Vec<_> = self.cfg.databases.iter().filter(|db| !db.journalled).collect();
        for db in &unjournalled {
            let dir = db.dir.display();
            let text = format!("Backup.General.ExternalFreeze: Warning, {dir}/ is not being journalled");
            self.say(log, pid, 1, &text);
        }
        if !unjournalled.is_empty() {
            let text = format!(
                "Backup.General.ExternalFreeze: Warning, {} databases are not journalled, \
                 data will be lost in them if system crashes while suspended",
                unjournalled.len()
            );
            self.say(log, pid, 1, &text);
        }
        if let Some(text) = lock(&self.faults).text("freeze_fail") {
            return Err(Ended::Failed(text.to_string()));
        }
        if args.switch_journal {
            self.switch_for_freeze(pid, args, log).map_err(Ended::Failed)?;
        }
        while self.flag("freeze_hang") && !conn.is_gone() {
            self.wait_change(20.0);
        }
        self.wait_watching(conn, self.fault_ms("freeze_delay_ms"));
        if conn.is_gone() {
            if !self.flag("freeze_after_client_died") {
                return Err(Ended::Abandoned);
            }
            std::thread::sleep(std::time::Duration::from_secs_f64(self.fault_ms("freeze_late_ms") / 1000.0));
        }
        let required = self.suspend(pid, args)?;
        self.say(log, pid, 0, "Backup.General.ExternalFreeze: System suspended");
        Ok(required)
    }

    fn switch_for_freeze(&self, pid: u32, args: &FreezeArgs, log: &mut FreezeLog) -> Result<(), String> {
        let failed = |status: &str| format!("Failed to switch journal file. Status = {status}");
        if lock(&self.faults).text("disk_full") == Some("journal") {
            return Err(failed("No space left on device"));
        }
        let (file, offset) = {
            let mut core = lock(&self.core);
            core.journal.use_alternate = self.flag("use_alternate");
            let file = core.switch_journal(Reason::Backup, &today()).map_err(|e| failed(&e.to_string()))?;
            let offset = core.add_marker(BACKUP_MARKER, &args.text).map_err(|_| "Failed to place journal marker".to_string())?;
            (file, offset)
        };
        let name = file.display();
        let now = Zoned::now();
        self.journal_log(&now, &file);
        self.console.journal_switched(&now, pid, &file);
        log.raw(&format!("\nJournal file switched to:\n{name}\n"));
        let text = format!("Backup.General.ExternalFreeze: Start a journal restore for this backup with journal file: {name}");
        self.say(log, pid, 0, &text);
        log.raw(&format!("\nJournal marker set at\noffset {offset} of {name}\n"));
        Ok(())
    }

    /// Lets the write daemon finish a whole cycle and stop. Returns RequiredFile.
    fn suspend(&self, pid: u32, args: &FreezeArgs) -> Result<String, Ended> {
        let mut core = lock(&self.core);
        let required = core.required_file().display().to_string();
        core.wd.request_suspend();
        self.changed.notify_all();
        while !core.wd.suspended {
            core = self.changed.wait(core).unwrap_or_else(std::sync::PoisonError::into_inner);
            if core.wd.suspend_after.is_none() && !core.wd.suspended {
                return Err(Ended::Failed("Request to suspend write daemon cleared".into()));
            }
        }
        let now = clock::boot_ms();
        let timeout_s = if args.timeout_s == 0 { DEFAULT_TIMEOUT_S } else { args.timeout_s }.min(TIMEOUT_CAP_S);
        let limit_s = args.wd_suspend_limit_s;
        core.suspension = Some(Suspension {
            since_ms: now,
            pid,
            username: args.username.clone(),
            password: args.password.clone(),
            block_at_ms: now + self.scaled(timeout_s as f64 * 1000.0),
            timeout_s,
            blocked: false,
            resume_at_ms: (limit_s > 0).then(|| now + self.scaled(limit_s as f64 * 1000.0)),
            limit_s,
        });
        self.history.event(
            "suspended",
            pid,
            json!({
                "journal": core.journal.path(), "required": required, "cycle": core.wd.cycle,
            }),
        );
        Ok(required)
    }

    /// ExternalThaw.
    pub fn thaw(&self, conn: &mut Conn, args: &ThawArgs) -> Option<Reply> {
        self.history.event("thaw_called", conn.pid, json!({"native": args.native}));
        while self.flag("thaw_hang") && !conn.is_gone() {
            self.wait_change(20.0);
        }
        let result = self.thaw_logged(conn, args);
        let outcome = *result.as_ref().unwrap_or(&"failed");
        self.history.event("thaw_done", conn.pid, json!({"outcome": outcome}));
        Some(match result {
            Ok(outcome) => Reply::Done(json!({
                "outcome": outcome,
                "exit": lock(&self.faults).number("thaw_exit"),
            })),
            Err(text) => Reply::Failed(text),
        })
    }

    fn thaw_logged(&self, conn: &mut Conn, args: &ThawArgs) -> Result<&'static str, String> {
        let terminal = self.flag("terminal_log");
        let mut stream = conn.stream.try_clone().map_err(|e| e.to_string())?;
        let mut out = move |text: &str| send_out(&mut stream, text);
        // A thaw goes on without its log file.
        let full = lock(&self.faults).text("disk_full") == Some("1");
        let opened = open_log(&args.log_file, terminal, full, &mut out);
        let mut log = opened.unwrap_or(FreezeLog::Nowhere);
        let pid = conn.pid;
        let refused = self.thaw_refused(args);
        if let Some(text) = refused {
            let line = format!("Backup.General.ExternalThaw: {}{text}", messages::FAILED_PREFIX);
            self.say(&mut log, pid, 2, &line);
            return Err(text);
        }
        if !self.resume(pid, "ExternalThaw", Some(&mut log)) {
            self.say(&mut log, pid, 0, "Backup.General.ExternalThaw: Already resumed");
            self.history.event("already_resumed", pid, json!({}));
            return Ok("already_resumed");
        }
        self.wait_watching(conn, self.fault_ms("thaw_delay_ms"));
        self.say(&mut log, pid, 0, "Backup.General.ExternalThaw: System resumed");
        Ok("resumed")
    }

    fn thaw_refused(&self, args: &ThawArgs) -> Option<String> {
        if self.flag(if args.native { "native_thaw_fail" } else { "thaw_fail" }) {
            return Some("Failed to resume write daemon".into());
        }
        let core = lock(&self.core);
        let frozen_by = core.suspension.as_ref()?;
        let same = frozen_by.username == args.username && frozen_by.password == args.password;
        (args.check_credentials && !frozen_by.username.is_empty() && !same).then(|| messages::WRONG_CREDENTIALS.to_string())
    }

    /// `irisstat -W`: the function of ExternalThaw without a session.
    pub fn resume_by_irisstat(&self, pid: u32) -> bool {
        if self.flag("irisstat_w_fail") {
            return false;
        }
        let was = self.resume(pid, "irisstat -W", None);
        self.console.log(&Zoned::now(), pid, 1, "Utility.Event", messages::IRISSTAT_W);
        was
    }

    /// Resumes the write daemon; says whether it was suspended. The line goes out before it moves.
    fn resume(&self, pid: u32, by: &str, log: Option<&mut FreezeLog>) -> bool {
        let mut core = lock(&self.core);
        if core.suspension.is_none() {
            core.wd.suspend_after = None;
            self.changed.notify_all();
            return false;
        }
        if let Some(log) = log {
            self.say(log, pid, 0, "Backup.General.ExternalThaw: Resuming system");
        }
        self.history.event("resumed", pid, json!({"by": by}));
        core.resume();
        self.changed.notify_all();
        true
    }

    /// ExternalSetHistory: "always returns OK".
    pub fn set_history(&self, pid: u32, description: &str) {
        let core = lock(&self.core);
        self.history.event("set_history", pid, json!({"description": description, "cycle": core.wd.cycle}));
    }

    /// One text to the freeze's log and to messages.log.
    fn say(&self, log: &mut FreezeLog, pid: u32, severity: u8, text: &str) {
        let now = Zoned::now();
        self.console.log(&now, pid, severity, "Utility.Event", text);
        log.line(&now, text);
    }

    /// `journal.log` in the manager's directory: the journal history. Its form is invented.
    pub fn journal_log(&self, now: &Zoned, file: &std::path::Path) {
        let path = self.cfg.mgr().join("journal.log");
        if let Ok(mut log) = OpenOptions::new().create(true).append(true).open(path) {
            use std::io::Write;
            let _ = writeln!(log, "{},{}", now.strftime("%Y%m%d %H:%M:%S"), file.display());
        }
    }

    fn wait_watching(&self, conn: &Conn, ms: f64) {
        let until = clock::boot_ms() + ms;
        loop {
            let left = until - clock::boot_ms();
            if left <= 0.0 || conn.is_gone() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_secs_f64(left.min(10.0) / 1000.0));
        }
    }
}

fn send_out(stream: &mut std::os::unix::net::UnixStream, text: &str) {
    use std::io::Write;
    let mut line = serde_json::to_vec(&Reply::Out(text.to_string())).unwrap_or_default();
    line.push(b'\n');
    // The terminal may be gone; the freeze is told by the next wait.
    let _ = stream.write_all(&line);
}

fn open_log<'a>(target: &LogTarget, terminal: bool, full: bool, out: &'a mut dyn FnMut(&str)) -> Result<FreezeLog<'a>, String> {
    match target {
        LogTarget::Terminal => Ok(FreezeLog::Terminal(out)),
        LogTarget::Nowhere if terminal => Ok(FreezeLog::Terminal(out)),
        LogTarget::Nowhere => Ok(FreezeLog::Nowhere),
        LogTarget::File(path) => {
            let failed = || format!("Failed to open logfile {} for output", path.display());
            if full {
                return Err(failed());
            }
            OpenOptions::new().create(true).append(true).open(path).map(FreezeLog::File).map_err(|_| failed())
        }
    }
}
