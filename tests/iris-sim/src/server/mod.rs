//! A running instance: the core behind a lock, the write daemon and the timekeeper as threads, one thread
//! per connection. It ends by itself when its root directory is gone or its life is over.

pub mod backup;
pub mod daemons;
pub mod faults;
pub mod ops;
pub mod restore;
pub mod single_user;
pub mod startup;

use crate::clock;
use crate::config::Config;
use crate::history::History;
use crate::instance::{Core, Stall, UpdateError, recovery};
use crate::messages::Console;
use crate::proto::{self, Op, Reply, Request};
use crate::store::StoreError;
use faults::Faults;
use jiff::Zoned;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Updates that had to wait, for `iris-sim state`.
#[derive(Debug, Default, Clone)]
pub struct Stalls {
    pub waiting: usize,
    pub count: u64,
    pub longest_ms: f64,
}

pub struct Server {
    pub cfg: Config,
    pub console: Console,
    pub history: History,
    pub started: Zoned,
    pub core: Mutex<Core>,
    /// Notified on every change that someone may wait for.
    pub changed: Condvar,
    pub faults: Mutex<Faults>,
    pub stalls: Mutex<Stalls>,
    pub stopping: AtomicBool,
    /// Nobody but the administrator (`-B`) gets anything.
    pub emergency: bool,
}

/// A connected client: one IRIS process.
pub struct Conn {
    pub stream: UnixStream,
    pub pid: u32,
    pub txn: u64,
    /// Logged in with `-B`.
    pub administrator: bool,
}

impl Conn {
    pub fn send(&mut self, reply: &Reply) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// The process behind the connection has ended.
    pub fn is_gone(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        let mut byte = [0u8; 1];
        match recv(&self.stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, read)) => read == 0,
            Err(e) => e != rustix::io::Errno::AGAIN && e != rustix::io::Errno::INTR,
        }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn today() -> String {
    Zoned::now().strftime("%Y%m%d").to_string()
}

impl Server {
    /// Real time of a model delay.
    pub fn scaled(&self, ms: f64) -> f64 {
        let scale = lock(&self.faults).number("time_scale").unwrap_or(self.cfg.time_scale);
        ms * scale
    }

    pub fn fault_ms(&self, key: &str) -> f64 {
        let ms = lock(&self.faults).number(key).unwrap_or(0.0);
        self.scaled(ms)
    }

    pub fn flag(&self, key: &str) -> bool {
        lock(&self.faults).flag(key)
    }

    /// Waits for the instance to change, at most `ms`.
    pub fn wait_change(&self, ms: f64) {
        let core = lock(&self.core);
        let timeout = Duration::from_secs_f64((ms / 1000.0).max(0.0));
        let _unused = self.changed.wait_timeout(core, timeout);
    }

    /// Runs an update, waiting as a real process does while updates are stalled.
    /// `None`: the client ended meanwhile.
    pub fn update_waiting(
        &self,
        conn: &Conn,
        mut update: impl FnMut(&mut Core) -> Result<(), UpdateError>,
    ) -> Option<Result<f64, UpdateError>> {
        let mut since: Option<f64> = None;
        loop {
            let mut core = lock(&self.core);
            match update(&mut core) {
                Err(UpdateError::Stalled(why)) => {
                    if since.is_none() {
                        since = Some(clock::boot_ms());
                        self.stall_begins(conn.pid, why);
                    }
                    let _unused = self.changed.wait_timeout(core, Duration::from_millis(20));
                    if conn.is_gone() || self.stopping.load(Ordering::Relaxed) {
                        self.stall_ends(conn.pid, since);
                        return None;
                    }
                }
                done => {
                    drop(core);
                    let waited = self.stall_ends(conn.pid, since);
                    return Some(done.map(|()| waited));
                }
            }
        }
    }

    fn stall_begins(&self, pid: u32, why: Stall) {
        let mut stalls = lock(&self.stalls);
        stalls.waiting += 1;
        stalls.count += 1;
        if stalls.waiting == 1 {
            self.history.event("updates_stalled", pid, json!({"why": format!("{why:?}")}));
        }
    }

    fn stall_ends(&self, pid: u32, since: Option<f64>) -> f64 {
        let Some(since) = since else { return 0.0 };
        let waited = clock::boot_ms() - since;
        let mut stalls = lock(&self.stalls);
        stalls.waiting -= 1;
        stalls.longest_ms = stalls.longest_ms.max(waited);
        if stalls.waiting == 0 {
            self.history.event("updates_resumed", pid, json!({"waited_ms": waited}));
        }
        waited
    }
}

/// Runs the instance until it is stopped. In an emergency start nobody logs in but with `-B`.
pub fn run(cfg: Config, emergency: bool) -> Result<(), StoreError> {
    let _only_one = hold(&cfg)?;
    let console = Console { path: cfg.console_log(), flavor: cfg.flavor };
    let history_path = cfg.history.clone().unwrap_or_default();
    let history = History::open(cfg.history.as_deref(), &cfg.name).map_err(StoreError::io("open history", &history_path))?;
    let pid = std::process::id();
    let started = Zoned::now();
    for path in cfg.lock_paths().filter(|p| *p == cfg.lock_path() || p.with_file_name(cfg.flavor.dat()).exists()) {
        std::fs::write(&path, format!("{pid}\n")).map_err(StoreError::io("write lock file", &path))?;
    }
    let skip = single_user::mark(&cfg);
    if emergency && recovery::wij_is_lost(&cfg) && !skip.exists() {
        return single_user::run(&cfg, &console, &history);
    }
    let had_wij = cfg.wij_path().exists();
    let (core, did) = Core::start(cfg.clone(), &today())?;
    let _not_there = std::fs::remove_file(&skip);
    startup::log(&cfg, &console, &did, had_wij, core.journal.path());
    let socket = cfg.socket_path();
    let listener = proto::listen(&socket).map_err(StoreError::io("listen", &socket))?;
    history.event(
        "start",
        pid,
        json!({
            "pending_blocks": did.pending_blocks,
            "replayed": did.replayed,
            "rolled_back": did.rolled_back,
        }),
    );
    let mut faults = Faults::default();
    if emergency {
        let refused = [("login".to_string(), "refused".to_string())].into();
        faults.apply(refused).map_err(|e| StoreError::bad(&cfg.dir, e))?;
    }
    let server: &'static Server = Box::leak(Box::new(Server {
        console,
        history,
        started,
        core: Mutex::new(core),
        changed: Condvar::new(),
        faults: Mutex::new(faults),
        stalls: Mutex::default(),
        stopping: AtomicBool::new(false),
        emergency,
        cfg,
    }));
    server.journal_log(&server.started, lock(&server.core).journal.path());
    std::thread::spawn(move || daemons::write_daemon(server));
    std::thread::spawn(move || daemons::timekeeper(server));
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(server, stream));
    }
    Ok(())
}

/// Two servers on the same files would destroy them.
fn hold(cfg: &Config) -> Result<std::fs::File, StoreError> {
    let path = Config::sim_json(&cfg.dir);
    let file = std::fs::File::open(&path).map_err(StoreError::io("open configuration", &path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| StoreError::bad(&path, "another server runs this instance"))?;
    Ok(file)
}

/// One process's requests, until it ends; then its transaction rolls back.
fn serve(server: &'static Server, stream: UnixStream) {
    let Ok(read_half) = stream.try_clone() else {
        return;
    };
    let mut conn = Conn { stream, pid: 0, txn: 0, administrator: false };
    let mut reader = BufReader::new(read_half);
    let mut line = String::new();
    while matches!(reader.read_line(&mut line), Ok(n) if n > 0) {
        let reply = match serde_json::from_str::<Request>(&line) {
            Ok(Request { pid, op }) => {
                conn.pid = pid;
                let stop = matches!(op, Op::Stop);
                let reply = server.handle(&mut conn, op);
                if stop {
                    if let Some(reply) = &reply {
                        let _gone = conn.send(reply);
                    }
                    std::process::exit(0);
                }
                reply
            }
            Err(e) => Some(Reply::Failed(format!("bad request: {e}"))),
        };
        let sent = match reply {
            Some(reply) => conn.send(&reply),
            None => break,
        };
        if sent.is_err() {
            break;
        }
        line.clear();
    }
    server.process_ended(&conn);
}
