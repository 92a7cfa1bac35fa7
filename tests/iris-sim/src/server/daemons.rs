//! The threads of an instance: write daemon, and the timekeeper of limits, one-time faults and the end.

use super::{Server, lock, today};
use crate::clock;
use crate::instance::write_daemon::{Phase, Step};
use crate::messages;
use jiff::Zoned;
use serde_json::json;
use std::time::Duration;

/// The timekeeper looks at least so often; limits are met within this.
const TICK_MS: f64 = 5.0;
/// The write daemon looks for dirty buffers so often; a freeze wakes it.
const IDLE_WD_MS: f64 = 10.0;
/// While no limit runs, so often is enough.
const IDLE_TICK_MS: f64 = 100.0;

pub fn write_daemon(server: &'static Server) {
    let block_pause = Duration::from_micros(server.cfg.wd_block_us);
    let cycle_pause = server.cfg.wd_cycle_ms as f64;
    let mut rested_until = 0.0;
    loop {
        let mut core = lock(&server.core);
        core.wd.ignores_suspension = server.flag("wd_ignore");
        let urgent = core.wd.suspend_after.is_some() || core.buffers.dirty * 2 > core.buffers.capacity;
        let idle = core.wd.phase == Phase::Idle;
        let rests = idle && !urgent && clock::boot_ms() < rested_until;
        if rests || !core.wd_has_work() {
            let wait = if rests { rested_until - clock::boot_ms() } else { IDLE_WD_MS };
            let wait = Duration::from_secs_f64(wait.clamp(0.1, IDLE_WD_MS) / 1000.0);
            let _unused = server.changed.wait_timeout(core, wait);
            continue;
        }
        let step = core.wd_step();
        drop(core);
        match step {
            Ok(Step::CycleDone) => {
                rested_until = clock::boot_ms() + cycle_pause;
                server.changed.notify_all();
            }
            Ok(Step::Wrote) if !urgent && !block_pause.is_zero() => std::thread::sleep(block_pause),
            Ok(Step::Wrote | Step::Rest) => {}
            Err(e) => {
                let text = format!("write daemon encountered serious error - System Frozen ({e})");
                server.console.log(&Zoned::now(), std::process::id(), 3, "WriteDaemon.Error", &text);
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

pub fn timekeeper(server: &'static Server) {
    let end_of_life = clock::boot_ms() + server.cfg.max_life_s as f64 * 1000.0;
    let pid = std::process::id();
    let mut looked_for_root = 0.0;
    loop {
        let busy = tick(server, pid);
        let now = clock::boot_ms();
        if now >= looked_for_root {
            looked_for_root = now + 500.0;
            let ours = std::fs::read_to_string(server.cfg.lock_path()).is_ok_and(|t| t.trim() == pid.to_string());
            if now > end_of_life || !ours {
                std::process::exit(0);
            }
        }
        std::thread::sleep(Duration::from_secs_f64(if busy { TICK_MS } else { IDLE_TICK_MS } / 1000.0));
    }
}

/// Meets limits and one-time faults. Says whether a limit is running.
fn tick(server: &Server, pid: u32) -> bool {
    let now = clock::boot_ms();
    if lock(&server.faults).take("rotate_log") {
        server.console.rotate(&Zoned::now());
    }
    let panic = server.flag("wd_panic");
    let mut core = lock(&server.core);
    if core.roll_journal(&today()).unwrap_or(false) {
        server.console.journal_switched(&Zoned::now(), pid, core.journal.path());
    }
    if let Err(e) = core.journal.flush() {
        // The text is the vendor's (facts 4.4); the records stay in the buffer for the next attempt.
        let text = format!("Write to journal file has failed: {e}");
        server.console.log(&Zoned::now(), pid, 3, "Journal.Error", &text);
    }
    if panic && let Ok(Some((sfn, number))) = core.wd_panic() {
        lock(&server.faults).take("wd_panic");
        let text = format!("WRTDMN Panic: SFN {sfn} Block {number} written directly to database");
        let wall = Zoned::now();
        server.console.log(&wall, pid, 2, "WriteDaemon.Panic", "Insufficient global buffers - WRTDMN in panic mode");
        server.console.log(&wall, pid, 2, "WriteDaemon.Panic", &text);
        server.history.event("wd_panic", pid, json!({"sfn": sfn, "block": number}));
    }
    let Some(suspension) = core.suspension.as_mut() else {
        return panic;
    };
    if suspension.resume_at_ms.is_some_and(|at| now >= at) {
        let limit = suspension.limit_s.to_string();
        core.resume();
        server.history.event("limit_resumed", pid, json!({"limit_s": limit}));
        drop(core);
        let text = messages::LIMIT_RESUMED.replace("%1", &limit);
        server.console.log(&Zoned::now(), pid, 2, "Utility.Event", &text);
        server.changed.notify_all();
    } else if !suspension.blocked && now >= suspension.block_at_ms {
        suspension.blocked = true;
        let text = messages::TIMEOUT_BLOCKED.replace("%1", &suspension.timeout_s.to_string());
        server.history.event("timeout_blocked", pid, json!({"timeout_s": suspension.timeout_s}));
        drop(core);
        server.console.log(&Zoned::now(), pid, 2, "Utility.Event", &text);
        server.changed.notify_all();
    }
    true
}
