//! A writer that never stops, and its record: a commit counts when its line is fsynced in a file that neither the
//! database nor the agent reads.

use super::GtmDb;
use doors::clock::boot_now;
use doors::exec::Running;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// How hard the workload writes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two transactions.
    pub pause_ms: u32,
    /// Bytes of a value, at most 1500.
    pub value: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pause_ms: 1, value: 200 }
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// Number of the last commit in the record.
    last: AtomicU64,
    commits: AtomicU64,
    longest_gap_us: AtomicU64,
    last_commit_us: AtomicU64,
    stop: AtomicBool,
    trouble: Mutex<String>,
}

/// A running workload. Dropping it stops it.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    pid: u32,
    mupip: PathBuf,
    dist: PathBuf,
}

impl GtmDb {
    /// Starts the workload; it goes on from the last number in the database.
    pub fn start_workload(&self, record: &Path, pace: Pace) -> Result<Workload, String> {
        let mut line = format!("{} {}", pace.pause_ms, pace.value);
        for r in &self.regions {
            line += &format!(" {}", r.global);
        }
        let mut args = vec!["-run", "wl"];
        args.extend(line.split(' '));
        let call = self.call("mumps", &args, &self.gld())?;
        let mut file = File::options().create(true).append(true).open(record).map_err(|e| e.to_string())?;
        let mut running = Running::start(call).map_err(|e| e.to_string())?;
        let pid = running.id();
        let shared = Arc::new(Shared::default());
        let ours = shared.clone();
        let thread = std::thread::spawn(move || {
            while let Ok(Some(line)) = next(&mut running, &ours) {
                let mut words = line.split(' ');
                let (Some("commit"), Some(n), Some(us)) =
                    (words.next(), words.next().and_then(|w| w.parse::<u64>().ok()), words.next().and_then(|w| w.parse::<u64>().ok()))
                else {
                    ours.trouble.lock().expect("no panic").push_str(&line);
                    continue;
                };
                let before = ours.last_commit_us.swap(us, Ordering::SeqCst);
                if before != 0 {
                    ours.longest_gap_us.fetch_max(us.saturating_sub(before), Ordering::SeqCst);
                }
                if writeln!(file, "{n} {us}").and_then(|()| file.sync_data()).is_err() {
                    break;
                }
                ours.last.store(n, Ordering::SeqCst);
                ours.commits.fetch_add(1, Ordering::SeqCst);
            }
            // `running` is killed and reaped here.
        });
        let workload = Workload { shared, thread: Some(thread), pid, mupip: self.dist.join("mupip"), dist: self.dist.clone() };
        workload.wait_for(3, 20_000)?;
        Ok(workload)
    }
}

/// The next line, in steps short enough to notice a stop.
fn next(running: &mut Running, shared: &Shared) -> Result<Option<String>, doors::exec::Error> {
    loop {
        let line = running.line(boot_now().plus(100))?;
        if line.is_some() {
            return Ok(line);
        }
        if shared.stop.load(Ordering::SeqCst) {
            return Ok(None);
        }
    }
}

impl Workload {
    /// Number of the last commit that is in the record.
    pub fn last_recorded(&self) -> u64 {
        self.shared.last.load(Ordering::SeqCst)
    }

    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::SeqCst)
    }

    /// Longest time between two commits, by the workload's own clock, since the start or the last call of this.
    pub fn take_longest_stall_ms(&self) -> u64 {
        self.shared.longest_gap_us.swap(0, Ordering::SeqCst) / 1000
    }

    /// The gap that is open right now counts too: a stalled writer prints nothing.
    pub fn stalled_for_ms(&self) -> u64 {
        let last = self.shared.last_commit_us.load(Ordering::SeqCst) / 1000;
        u64::try_from(doors::clock::wall_now().0).unwrap_or(0).saturating_sub(last)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until `more` further commits are recorded.
    pub fn wait_for(&self, more: u64, ms: u64) -> Result<(), String> {
        let (goal, until) = (self.commits() + more, boot_now().plus(ms));
        while self.commits() < goal {
            if boot_now() >= until {
                let said = self.shared.trouble.lock().expect("no panic").clone();
                return Err(format!("no {more} further commits within {ms} ms: {said}"));
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Ok(())
    }

    /// Ends the writer in an orderly way (`mupip stop`) and returns the number of the last recorded commit.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.last_recorded()
    }

    fn end(&mut self) {
        if let (Some(thread), Ok(mupip)) = (self.thread.take(), doors::exec::Program::find(&self.mupip.to_string_lossy())) {
            let _ = doors::exec::Call::new(&mupip, ["stop", &self.pid.to_string()])
                .env("gtm_dist", &self.dist)
                .run(boot_now().plus(5_000), None);
            // A writer that waits for a thaw does not hear it: then its process is killed with the thread's end.
            let until = boot_now().plus(2_000);
            while !thread.is_finished() && boot_now() < until {
                if !Path::new(&format!("/proc/{}/maps", self.pid)).exists() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            self.shared.stop.store(true, Ordering::SeqCst);
            let _ = thread.join();
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.end();
    }
}
