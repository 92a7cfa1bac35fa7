//! The controller of the named points: every process of a test build reports each point here and waits for a word.

use doors::clock::boot_now;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

/// A process stood at a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub at_ms: u64,
    pub pid: u32,
    pub name: String,
}

/// What to tell the process that waits at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Go,
    /// It waits until [`Points::let_go`].
    Hold,
}

type Hook = Box<dyn FnMut(&Seen) -> Reply + Send>;

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    hook: Option<Hook>,
    held: Vec<UnixStream>,
}

pub struct Points {
    path: PathBuf,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Points {
    pub fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket for the points");
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let shared = state.clone();
        // Ends when its socket file is removed and one more connection comes, or with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &shared);
            }
        });
        Self { path: path.into(), state }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets what was seen; `hook` is asked at every point from now on. While it runs, nobody passes a point.
    pub fn begin(&self, hook: impl FnMut(&Seen) -> Reply + Send + 'static) {
        let mut s = self.state.0.lock().expect("no hook panics");
        s.seen.clear();
        s.hook = Some(Box::new(hook));
    }

    pub fn clear(&self) {
        self.begin(|_| Reply::Go);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.0.lock().expect("no hook panics").seen.clone()
    }

    pub fn has(&self, name: &str) -> bool {
        self.seen().iter().any(|s| s.name == name)
    }

    /// Waits until a process stood at this point.
    pub fn wait(&self, name: &str, ms: u64) -> Option<Seen> {
        let by = boot_now().plus(ms);
        let mut s = self.state.0.lock().expect("no hook panics");
        loop {
            if let Some(f) = s.seen.iter().find(|x| x.name == name) {
                return Some(f.clone());
            }
            let left = by.since(boot_now());
            if left == 0 {
                return None;
            }
            s = self.state.1.wait_timeout(s, std::time::Duration::from_millis(left)).expect("no hook panics").0;
        }
    }

    /// Everybody who is held goes on, and nobody is held any more.
    pub fn let_go(&self) {
        let held = {
            let mut s = self.state.0.lock().expect("no hook panics");
            s.hook = None;
            std::mem::take(&mut s.held)
        };
        for mut h in held {
            let _ = h.write_all(b"go\n");
        }
    }
}

fn answer(stream: UnixStream, shared: &(Mutex<State>, Condvar)) {
    let Ok(reading) = stream.try_clone() else { return };
    let mut line = String::new();
    if BufReader::new(reading).read_line(&mut line).is_err() {
        return;
    }
    let Some((pid, name)) = line.trim_end().split_once(' ') else { return };
    let seen = Seen { at_ms: boot_now().0, pid: pid.parse().unwrap_or(0), name: name.into() };
    let mut s = shared.0.lock().expect("no hook panics");
    s.seen.push(seen.clone());
    let reply = s.hook.as_mut().map_or(Reply::Go, |h| h(&seen));
    let mut stream = stream;
    match reply {
        Reply::Go => drop(stream.write_all(b"go\n")),
        Reply::Hold => s.held.push(stream),
    }
    shared.1.notify_all();
}
