//! One agent with one database, in a directory that stays: for the demonstration and the figures, which run the
//! release binary.
#![allow(clippy::disallowed_methods, reason = "a stage stands outside the agent's doors")]

mod db;

pub use db::{Db, Load};

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub struct Host {
    pub dir: PathBuf,
    pub run: PathBuf,
    pub db: Db,
    agent: Mutex<Option<Child>>,
}

pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
}

impl Ran {
    pub fn indented(&self) -> String {
        self.out.lines().map(|l| format!("   {l}\n")).collect()
    }
}

pub fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Built beside this program.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let path = exe.parent().ok_or("no directory")?.join(name);
    if path.is_file() { Ok(path) } else { Err(format!("{} is not there: cargo build --release -p {name}", path.display())) }
}

impl Host {
    pub fn start(dir: &Path, db: Db) -> Result<Self, String> {
        let run = dir.join("run");
        for d in [dir, &run, &dir.join("backups")] {
            std::fs::create_dir_all(d).map_err(|e| e.to_string())?;
        }
        let text = format!(
            "[agent]\nstate_dir = \"{0}/state\"\nrun_dir = \"{1}\"\n\n[window]\nwd_suspend_limit = \"60s\"\n\n[margins]\nguard = \"2s\"\n\n[backup]\nhelper_covers = \"paths\"\n\n{2}",
            dir.display(),
            run.display(),
            db.config()
        );
        std::fs::write(dir.join("agent.toml"), text).map_err(|e| e.to_string())?;
        let host = Self { dir: dir.into(), run, db, agent: Mutex::new(None) };
        host.start_agent()?;
        Ok(host)
    }

    /// How a person starts a verb on this host.
    pub fn words(&self) -> String {
        let exe = program("snapfreeze").map(|p| p.display().to_string()).unwrap_or_default();
        format!("{exe} --config {}", self.dir.join("agent.toml").display())
    }

    pub fn backups(&self) -> String {
        self.dir.join("backups").display().to_string()
    }

    fn command(&self, args: &[&str]) -> Result<Command, String> {
        let mut c = Command::new(program("snapfreeze")?);
        c.arg("--config").arg(self.dir.join("agent.toml")).args(args).stdin(Stdio::null());
        Ok(c)
    }

    pub fn start_agent(&self) -> Result<(), String> {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("agent.log")).map_err(|e| e.to_string())?;
        let child = self.command(&["agent"])?.stdout(Stdio::null()).stderr(log).spawn().map_err(|e| e.to_string())?;
        *self.agent.lock().map_err(|e| e.to_string())? = Some(child);
        let by = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(self.run.join("agent.sock")).is_err() {
            if Instant::now() > by {
                return Err(format!("the agent does not answer; see {}", self.dir.join("agent.log").display()));
            }
            sleep_ms(20);
        }
        Ok(())
    }

    pub fn agent_pid(&self) -> Result<u32, String> {
        let agent = self.agent.lock().map_err(|e| e.to_string())?;
        agent.as_ref().map(Child::id).ok_or("no agent runs".into())
    }

    /// A request to the agent, as JSON.
    pub fn api(&self, method: &str, path: &str, body: &str) -> Result<serde_json::Value, String> {
        let mut s = std::os::unix::net::UnixStream::connect(self.run.join("agent.sock")).map_err(|e| e.to_string())?;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: stage\r\nconnection: close\r\ncontent-type: application/json\r\n");
        let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        std::io::Write::write_all(&mut s, whole.as_bytes()).map_err(|e| e.to_string())?;
        let mut text = String::new();
        s.read_to_string(&mut text).map_err(|e| e.to_string())?;
        let (_, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
        serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))
    }

    pub fn kill_agent(&self) -> Result<(), String> {
        if let Some(mut a) = self.agent.lock().map_err(|e| e.to_string())?.take() {
            a.kill().map_err(|e| e.to_string())?;
            let _ = a.wait();
        }
        Ok(())
    }

    /// Runs a verb to its end, at most a minute; both outputs together.
    pub fn snapfreeze(&self, args: &[&str]) -> Result<Ran, String> {
        let errors = self.dir.join("stderr.txt");
        let log = std::fs::File::create(&errors).map_err(|e| e.to_string())?;
        let mut child = self.command(args)?.stdout(Stdio::piped()).stderr(log).spawn().map_err(|e| e.to_string())?;
        let mut pipe = child.stdout.take().ok_or("no output")?;
        let reader = std::thread::spawn(move || {
            let mut s = String::new();
            let _ = pipe.read_to_string(&mut s);
            s
        });
        let by = Instant::now() + Duration::from_secs(60);
        let status = loop {
            if let Some(s) = child.try_wait().map_err(|e| e.to_string())? {
                break s;
            }
            if Instant::now() > by {
                let _ = child.kill();
                return Err(format!("{args:?} did not end within a minute"));
            }
            sleep_ms(5);
        };
        let mut out = reader.join().unwrap_or_default();
        if !status.success() {
            out.push_str(&std::fs::read_to_string(errors).unwrap_or_default());
        }
        Ok(Ran { code: status.code(), out })
    }

    /// Its id, and what it said.
    pub fn freeze(&self, hold: &str) -> Result<(String, Ran), String> {
        let ran = self.snapfreeze(&["freeze", "--hold", hold])?;
        let id = ran.out.split_whitespace().nth(1).unwrap_or_default().to_owned();
        if ran.code != Some(0) {
            return Err(format!("the freeze failed: {}", ran.out));
        }
        print!("{}", ran.indented());
        Ok((id, ran))
    }

    /// A backup whose snapshot takes longer than anybody lets it.
    pub fn slow_backup(&self, hold: &str) -> Result<Child, String> {
        let script = "echo READY; read go; sleep 30; echo snapshot=none; echo DONE";
        let to = self.backups();
        let args = ["backup", "--to", &to, "--hold", hold, "--snapshotter", "command", "--command", "/bin/sh", "-c", script];
        self.command(&args)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|e| e.to_string())
    }

    pub fn until_frozen(&self) -> Result<Instant, String> {
        self.until(true, Instant::now() + Duration::from_secs(20))
    }

    /// Milliseconds from `begun` to the thaw, by the engine's own state.
    pub fn until_thawed(&self, begun: Instant) -> Result<u64, String> {
        let at = self.until(false, Instant::now() + Duration::from_secs(60))?;
        Ok(at.duration_since(begun).as_millis() as u64)
    }

    fn until(&self, frozen: bool, by: Instant) -> Result<Instant, String> {
        while self.db.frozen()? != frozen {
            if Instant::now() > by {
                return Err(format!("frozen did not become {frozen}"));
            }
            sleep_ms(10);
        }
        Ok(Instant::now())
    }

    /// Where the newest held set keeps the database's files.
    pub fn newest_set(&self) -> Result<PathBuf, String> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(self.backups()).map_err(|e| e.to_string())?.flatten().map(|f| f.path()).collect();
        all.sort();
        let set = all.pop().ok_or("no set")?;
        let data = set.join("data");
        Ok(data.join(self.dir.strip_prefix("/").unwrap_or(&self.dir)))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let agent = self.agent.get_mut().ok().and_then(Option::take);
        if let Some(mut a) = agent {
            // SIGTERM thaws first.
            if let Some(pid) = rustix::process::Pid::from_raw(a.id() as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let by = Instant::now() + Duration::from_secs(10);
            while matches!(a.try_wait(), Ok(None)) && Instant::now() < by {
                sleep_ms(20);
            }
            let _ = a.kill();
            let _ = a.wait();
        }
    }
}
