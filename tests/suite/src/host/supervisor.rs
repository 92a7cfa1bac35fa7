//! Plays systemd's `Restart=always`: a process that ends is started again at once, unless told otherwise.

use doors::clock::boot_now;
use rustix::process::Signal;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

#[derive(Debug, Default)]
struct State {
    /// It shall run; `false` lets an end be an end.
    wanted: bool,
    restart: bool,
    pid: Option<u32>,
    /// Boot ms of every start.
    starts: Vec<u64>,
    /// Exit codes, `None` for a signal.
    ends: Vec<Option<i32>>,
    over: bool,
    env: Vec<(String, String)>,
}

pub struct Supervisor {
    state: Arc<(Mutex<State>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

struct What {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
}

impl Supervisor {
    pub fn new(program: PathBuf, args: &[&str], env: Vec<(String, String)>, log: &Path) -> Self {
        let what = What { program, args: args.iter().map(ToString::to_string).collect(), env, log: log.into() };
        let state = Arc::new((Mutex::new(State { restart: true, ..State::default() }), Condvar::new()));
        let shared = state.clone();
        let thread = std::thread::spawn(move || run(&what, &shared));
        Self { state, thread: Some(thread) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let t = f(&mut self.state.0.lock().expect("no panic while supervising"));
        self.state.1.notify_all();
        t
    }

    /// For the next start.
    pub fn set_env(&self, env: &[(String, String)]) {
        self.with(|s| s.env = env.to_vec());
    }

    /// Whether an end is followed by a start.
    pub fn set_restart(&self, yes: bool) {
        self.with(|s| s.restart = yes);
    }

    /// Starts it if it does not run.
    pub fn start(&self) {
        self.with(|s| s.wanted = true);
    }

    pub fn pid(&self) -> Option<u32> {
        self.with(|s| s.pid)
    }

    pub fn starts(&self) -> Vec<u64> {
        self.with(|s| s.starts.clone())
    }

    /// Exit codes so far.
    pub fn ends(&self) -> Vec<Option<i32>> {
        self.with(|s| s.ends.clone())
    }

    /// SIGTERM, as a service manager stops it; true when it ended within `ms`.
    pub fn stop(&self, ms: u64) -> bool {
        let pid = self.with(|s| {
            s.wanted = false;
            s.pid
        });
        if let Some(pid) = pid {
            super::signal(pid, Signal::TERM);
        }
        let by = boot_now().plus(ms);
        while self.pid().is_some() {
            if boot_now() >= by {
                return false;
            }
            super::sleep_ms(5);
        }
        true
    }

    /// SIGKILL without a restart.
    pub fn end(&mut self) {
        let pid = self.with(|s| {
            s.over = true;
            s.wanted = false;
            s.pid
        });
        if let Some(pid) = pid {
            super::signal(pid, Signal::KILL);
        }
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(what: &What, shared: &(Mutex<State>, Condvar)) {
    loop {
        let env = {
            let mut s = shared.0.lock().expect("no panic while supervising");
            while !s.wanted && !s.over {
                s = shared.1.wait(s).expect("no panic while supervising");
            }
            if s.over {
                return;
            }
            s.env.clone()
        };
        let Ok(mut child) = start(what, &env) else { return };
        {
            let mut s = shared.0.lock().expect("no panic while supervising");
            s.pid = Some(child.id());
            s.starts.push(boot_now().0);
            if s.over {
                let _ = child.kill();
            }
        }
        let status = child.wait();
        let mut s = shared.0.lock().expect("no panic while supervising");
        s.pid = None;
        s.ends.push(status.ok().and_then(|x| x.code()));
        s.wanted &= s.restart;
        shared.1.notify_all();
    }
}

fn start(what: &What, env: &[(String, String)]) -> std::io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&what.log)?;
    Command::new(&what.program)
        .args(&what.args)
        .envs(what.env.iter().map(|(k, v)| (k, v)))
        .envs(env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}
