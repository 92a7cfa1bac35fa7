//! The watchdog: a process of its own that thaws when the agent does not. Everything it needs is handed over by a
//! pipe before its READY; after that it reads nothing from a disk and holds nobody's pipe.
//!
//! It fires at `thaw_by` + margin while the agent lives, at `thaw_by` once the agent is gone, and goes on until the
//! engine says "not frozen"; then it guards against a freeze that lands late. A watchdog whose record was replaced exits.

use crate::alarm_clock::AlarmClock;
use crate::instances::{self, Set};
use crate::points;
use doors::clock::{boot_id, boot_now, wall_now};
use doors::exec::{self, Call, Left, Program, Running};
use engine::InstanceConfig;
use lifecycle::ThawOutcome;
use protocol::{BackupId, BootId, BootMs, Known};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Process start, engine look-ups, READY: a host that needs longer is in no state to be frozen.
const READY_MS: u64 = 3_000;
/// From one thaw round or question to the next.
const AGAIN_MS: u64 = 1_000;
/// It lies in memory; a thaw that is refused for hours says the same each second.
const MAX_LOG: u64 = 1 << 20;
/// A question to an engine.
const ASK_MS: u64 = 5_000;

/// What is handed over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub id: BackupId,
    pub boot_id: BootId,
    pub agent_pid: u32,
    pub agent_start: u64,
    pub thaw_by: BootMs,
    pub margin_ms: u64,
    pub rung_ms: u64,
    /// Until when a freeze of ours may land late.
    pub guard_until: BootMs,
    pub instances: Vec<InstanceConfig>,
    pub run_dir: PathBuf,
}

/// `run_dir/watchdog.json`: which watchdog is the current one. On tmpfs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    boot_id: BootId,
    id: BackupId,
    pid: u32,
    start_time: u64,
}

fn record_path(run_dir: &Path) -> PathBuf {
    run_dir.join("watchdog.json")
}

fn read_record(run_dir: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(record_path(run_dir)).ok()?).ok()
}

/// Ends an older watchdog, starts ours and waits for its READY. In systemd's world it gets a scope of its own, so
/// that neither the agent's unit nor its out-of-memory kill takes it along.
pub fn arm(orders: &Orders) -> Result<Left, String> {
    end_recorded(&orders.run_dir, None);
    let exe = std::env::current_exe().map_err(|e| format!("our own program is not known: {e}"))?;
    points::reach("agent.watchdog.before");
    let by = boot_now().plus(READY_MS);
    let running = if Path::new("/run/systemd/system").is_dir() && std::env::var_os("INVOCATION_ID").is_some() {
        let run = Program::find("/usr/bin/systemd-run").map_err(|e| e.to_string())?;
        let with = |options| ready(Call::new(&run, scope_args(options, &orders.id, &exe)), orders, by);
        // A systemd-run that does not know an option ends at once, and nothing was started.
        with(SCOPE_OPTIONS).or_else(|newer| with(&[]).map_err(|e| format!("{e} (and before: {newer})")))?
    } else {
        // Also right when the file was replaced by an upgrade.
        let me = Program::find("/proc/self/exe").map_err(|e| e.to_string())?;
        ready(Call::new(&me, ["watchdog"]), orders, by)?
    };
    points::reach("agent.watchdog.ready");
    let pid = running.id();
    let start_time = exec::start_time_of(pid).ok_or("the watchdog ended at once")?;
    let left = running.leave().map_err(|e| crate::chain(&e))?;
    let record = Record { boot_id: orders.boot_id.clone(), id: orders.id, pid, start_time };
    if let Err(e) = write_record(&orders.run_dir, &record) {
        left.end(boot_now().plus(READY_MS));
        return Err(format!("the watchdog's record could not be written: {e}"));
    }
    Ok(left)
}

/// Starts it, hands over the orders and waits for READY. What did not get there is ended with the value.
fn ready(call: Call, orders: &Orders, by: BootMs) -> Result<Running, String> {
    let call = match std::env::var_os("SNAPFREEZE_POINTS") {
        Some(p) if cfg!(feature = "points") => call.env("SNAPFREEZE_POINTS", p),
        _ => call,
    };
    let mut running = Running::start(call).map_err(|e| crate::chain(&e))?;
    running.feed(serde_json::to_vec(orders).map_err(|e| e.to_string())?);
    match running.line(by) {
        Ok(Some(line)) if line == "READY" => Ok(running),
        Ok(Some(line)) => Err(format!("the watchdog said {line:?}")),
        Ok(None) => Err("the watchdog did not say READY in time".into()),
        Err(e) => Err(crate::chain(&e)),
    }
}

/// `--collect` came with systemd 236, OOMPolicy of scopes with 252 or 253; Amazon Linux 2 has 219, RHEL 8 has 239.
const SCOPE_OPTIONS: &[&str] = &["--collect", "--property=OOMPolicy=continue"];

fn scope_args(options: &[&str], id: &BackupId, exe: &Path) -> Vec<std::ffi::OsString> {
    let mut args: Vec<std::ffi::OsString> = ["--scope", "--quiet"].iter().chain(options).map(Into::into).collect();
    args.push(format!("--unit=snapfreeze-watchdog-{id}-{}", boot_now().0).into());
    args.extend(["--".into(), exe.into(), "watchdog".into()]);
    args
}

fn write_record(run_dir: &Path, record: &Record) -> std::io::Result<()> {
    let new = run_dir.join("watchdog.new");
    std::fs::write(&new, serde_json::to_vec(record)?)?;
    std::fs::rename(&new, record_path(run_dir))
}

/// Ends the recorded watchdog if it still is that process; with `only`, if it is for that id.
pub fn end_recorded(run_dir: &Path, only: Option<BackupId>) {
    let Some(r) = read_record(run_dir) else { return };
    if only.is_some_and(|id| id != r.id) {
        return;
    }
    if boot_id().is_ok_and(|b| b == r.boot_id)
        && let Some(fd) = exec::open_process(r.pid, r.start_time)
    {
        exec::end_other(&fd, boot_now().plus(ASK_MS));
    }
    let _ = std::fs::remove_file(record_path(run_dir));
}

/// The process `snapfreeze watchdog`.
pub fn main() -> Result<(), String> {
    points::reach("watchdog.start");
    let mut text = String::new();
    std::io::stdin().take(1 << 20).read_to_string(&mut text).map_err(|e| e.to_string())?;
    let orders: Orders = serde_json::from_str(&text).map_err(|e| format!("no orders on standard input: {e}"))?;
    if boot_id().map_err(|e| e.to_string())? != orders.boot_id {
        return Err("these orders are of another boot".into());
    }
    let set: Set =
        orders.instances.iter().map(|c| engine::open(c.clone()).map(Arc::new).map_err(|e| crate::chain(&e))).collect::<Result<_, _>>()?;
    let agent = exec::open_process(orders.agent_pid, orders.agent_start);
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    rt.block_on(watch(orders, set, agent))
}

async fn watch(orders: Orders, set: Set, agent: Option<OwnedFd>) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let clock = AlarmClock::new().map_err(|e| e.to_string())?;
    let agent = agent.map(crate::alarm_clock::watch).transpose().map_err(|e| e.to_string())?;
    println!("READY");
    let me = Me { orders, set, start_time: exec::start_time_of(std::process::id()).unwrap_or(0) };
    close_stdio().map_err(|e| e.to_string())?;
    points::reach("watchdog.ready");
    let work = async {
        // With the agent alive it may come up to the margin late.
        if let Some(agent) = &agent {
            tokio::select! {
                _ = agent.readable() => me.log("the agent is gone"),
                () = clock.until(me.orders.thaw_by.plus(me.orders.margin_ms)) => me.log("the agent is late"),
            }
        } else {
            me.log("the agent is gone");
        }
        clock.until(me.orders.thaw_by).await;
        points::reach("watchdog.fires");
        me.thaw_and_guard(&clock).await;
        points::reach("watchdog.ends");
    };
    tokio::select! {
        () = work => {}
        _ = term.recv() => {} // disarmed; a thaw round under way ends with its children before the runtime does
    }
    Ok(())
}

struct Me {
    orders: Orders,
    set: Set,
    start_time: u64,
}

impl Me {
    fn current(&self) -> bool {
        read_record(&self.orders.run_dir).is_none_or(|r| r.pid == std::process::id() && r.start_time == self.start_time)
    }

    async fn thaw_and_guard(&self, clock: &AlarmClock) {
        let mut confirmed = false;
        loop {
            if !self.current() {
                self.log("another watchdog has taken over");
                return;
            }
            let set = self.set.clone();
            let asked =
                tokio::task::spawn_blocking(move || instances::worst(&instances::ask(&set, ASK_MS))).await.unwrap_or(Known::Unknown);
            match asked {
                Known::No if boot_now() >= self.orders.guard_until => return,
                Known::No => {
                    if !confirmed {
                        self.log("not frozen; guarding");
                    }
                    confirmed = true;
                }
                Known::Yes | Known::Unknown => {
                    self.log("thawing");
                    points::reach("watchdog.thaw.before");
                    let (set, rung_ms) = (self.set.clone(), self.orders.rung_ms);
                    let thawed = tokio::task::spawn_blocking(move || {
                        let (outcome, answers) = instances::thaw(&set, &BTreeMap::new(), &mut BTreeMap::new(), rung_ms, &|_, _| {});
                        let rungs: Vec<_> = answers
                            .into_iter()
                            .flat_map(|(n, a)| a.rungs.into_iter().map(move |r| format!("{n}: {} -> {}", r.ran, r.said)))
                            .collect();
                        (matches!(outcome, ThawOutcome::NotFrozen(_)), rungs)
                    })
                    .await
                    .unwrap_or((false, vec!["the thaw panicked".into()]));
                    points::reach("watchdog.thaw.after");
                    for r in &thawed.1 {
                        self.log(r);
                    }
                    self.log(if thawed.0 { "writes resumed" } else { "STILL FROZEN" });
                    confirmed = thawed.0;
                }
            }
            clock.until(boot_now().plus(AGAIN_MS)).await;
        }
    }

    /// `run_dir/watchdog.log`, on tmpfs; the agent shows it in `status` and at its next start.
    fn log(&self, line: &str) {
        let path = self.orders.run_dir.join("watchdog.log");
        if std::fs::metadata(&path).is_ok_and(|m| m.len() > MAX_LOG) {
            return;
        }
        if let Ok(mut f) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
            let _ = writeln!(f, "{} watchdog {} pid {}: {line}", crate::when(wall_now()), self.orders.id, std::process::id());
        }
    }
}

/// No pipe of the agent or of a caller is kept: a reader that is gone or full must not stop a thaw.
fn close_stdio() -> std::io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_systemd_it_gets_a_scope_of_its_own() {
        let args = scope_args(SCOPE_OPTIONS, &BackupId::from_uuid(uuid::Uuid::nil()), Path::new("/usr/bin/snapfreeze"));
        let words: Vec<_> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(words[..3], ["--scope", "--quiet", "--collect"]);
        assert_eq!(words[words.len() - 3..], ["--", "/usr/bin/snapfreeze", "watchdog"]);
        assert_eq!(scope_args(&[], &BackupId::from_uuid(uuid::Uuid::nil()), Path::new("/x")).len(), args.len() - 2, "old systemd");
    }
}
