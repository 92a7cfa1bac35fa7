//! `iris` (and `ccontrol`): the control command, and `irisstat`.

use super::{ask, lists, out, session};
use crate::clock;
use crate::config::Config;
use crate::proto::{Client, FreezeArgs, Op, Reply, ThawArgs};
use crate::registry::{Entry, Registry};
use jiff::Zoned;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long `iris start` waits for the server.
const START_MS: f64 = 60_000.0;

pub fn main(registry: &Registry, called: &str, args: &[&str]) -> i32 {
    let verb = args.first().copied().unwrap_or("").to_lowercase();
    let rest = args.get(1..).unwrap_or_default();
    match verb.as_str() {
        "list" => lists::list(registry, name_of(rest)),
        "qlist" => lists::qlist(registry, name_of(rest)),
        "all" => lists::all(registry, false),
        "qall" => lists::all(registry, true),
        "session" | "terminal" | "console" => session::main(registry, rest),
        "start" => with_instance(registry, rest, |entry, more| start(registry, entry, more)),
        "stop" | "stopnoshut" => with_instance(registry, rest, |entry, more| {
            let code = stop(entry);
            if code == 0 && more.contains(&"restart") { start(registry, entry, &[]) } else { code }
        }),
        "force" => with_instance(registry, rest, |entry, _| force(entry)),
        "freeze" => with_instance(registry, rest, native_freeze),
        "thaw" => with_instance(registry, rest, |entry, _| native_thaw(entry)),
        "stat" => with_instance(registry, rest, stat),
        "help" | "" => {
            out(&format!("usage: {called} list|qlist|all|qall|session|terminal|start|stop|force|freeze|thaw|stat\n"));
            i32::from(verb.is_empty())
        }
        _ => {
            out(&format!("{called}: unknown function '{verb}'\n"));
            1
        }
    }
}

fn name_of<'a>(rest: &[&'a str]) -> Option<&'a str> {
    rest.first().copied().filter(|a| *a != "quietly" && *a != "nodisplay")
}

fn with_instance(registry: &Registry, rest: &[&str], run: impl FnOnce(&Entry, &[&str]) -> i32) -> i32 {
    let Some(name) = rest.first() else {
        out("Instance name required\n");
        return 1;
    };
    match registry.find(name) {
        Some(entry) => run(entry, &rest[1..]),
        None => {
            out(&lists::not_found(name));
            1
        }
    }
}

fn load(entry: &Entry) -> Result<Config, i32> {
    Config::load(&entry.dir).map_err(|e| {
        out(&format!("{e}\n"));
        1
    })
}

/// `EmergencyId=user,password` starts for the administrator only.
fn start(registry: &Registry, entry: &Entry, more: &[&str]) -> i32 {
    let cfg = match load(entry) {
        Ok(cfg) => cfg,
        Err(code) => return code,
    };
    if Client::connect(&cfg).is_ok() {
        out(&format!("Instance '{}' is already running\n", cfg.name));
        return 0;
    }
    let cfg = cfg.as_on_disk();
    if let Err(e) = cfg.save() {
        out(&format!("{e}\n"));
        return 1;
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(_) => return 1,
    };
    out(&format!("Starting {}\n", cfg.name));
    let log = cfg.mgr().join("sim-server.log");
    let stderr = std::fs::File::create(&log).map_or_else(|_| Stdio::null(), Stdio::from);
    let spawned = detached(&program)
        .args(["server", "--root"])
        .arg(&registry.root)
        .args(["--name", &cfg.name])
        .args(option(more, "EmergencyId").map(|_| "--emergency"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => {
            out(&format!("cannot start server: {e}\n"));
            return 1;
        }
    };
    let until = clock::boot_ms() + START_MS;
    while clock::boot_ms() < until {
        if Client::connect(&cfg).is_ok() {
            if ask(&cfg, Op::Info).is_some_and(|info| info["single_user"] == true) {
                // INVENTED: exit code of a start that ends in single-user mode.
                out(&format!("{}\n", crate::server::startup::single_user(&cfg).join("\n")));
                return 1;
            }
            return 0;
        }
        if let Ok(Some(_)) = child.try_wait() {
            out(&format!("Startup aborted: {}\n", std::fs::read_to_string(&log).unwrap_or_default().trim()));
            return 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    out("Startup timed out\n");
    1
}

/// The server must inherit no pipe of its starter's caller. Rust's own descriptors close on exec; a shell's
/// `exec 9>lock` does not, so a shell closes those first.
fn detached(program: &Path) -> Command {
    let inherited = std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count());
    if inherited <= 4 {
        return Command::new(program);
    }
    let mut command = Command::new("/bin/sh");
    let close = "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec \"$0\" \"$@\"";
    command.arg("-c").arg(close).arg(program);
    command
}

fn stop(entry: &Entry) -> i32 {
    let cfg = match load(entry) {
        Ok(cfg) => cfg,
        Err(code) => return code,
    };
    let pid = server_pid(&cfg);
    let Ok(mut client) = Client::connect(&cfg) else {
        out(&format!("Instance '{}' is not running\n", cfg.name));
        return 1;
    };
    out(&format!("Shutting down {}\n", cfg.name));
    let answer = client.call(Op::Stop);
    wait_for_end(pid);
    last_used(&cfg);
    match answer {
        Ok(Reply::Done(_)) => 0,
        Ok(Reply::Failed(text)) => {
            out(&format!("{text}\n"));
            1
        }
        _ => 1,
    }
}

/// As a crash: nothing is written, the lock files stay.
fn force(entry: &Entry) -> i32 {
    let cfg = match load(entry) {
        Ok(cfg) => cfg,
        Err(code) => return code,
    };
    let Some(pid) = server_pid(&cfg) else {
        out(&format!("Instance '{}' is not running\n", cfg.name));
        return 1;
    };
    let _gone = kill_process(pid, Signal::KILL);
    wait_for_end(Some(pid));
    last_used(&cfg);
    if let Ok(history) = crate::history::History::open(cfg.history.as_deref(), &cfg.name) {
        history.event("crash", std::process::id(), serde_json::json!({}));
    }
    0
}

fn server_pid(cfg: &Config) -> Option<Pid> {
    Pid::from_raw(std::fs::read_to_string(cfg.lock_path()).ok()?.trim().parse().ok()?)
}

fn wait_for_end(pid: Option<Pid>) {
    let Some(pid) = pid else { return };
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    for _ in 0..10_000 {
        // A zombie has ended too, if its other threads have: one of them may still hold the socket. Its parent may be slow to reap it.
        let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).map_or(0, Iterator::count);
        match std::fs::read_to_string(&stat) {
            Ok(text) if !text.contains(") Z") || threads > 1 => std::thread::sleep(Duration::from_millis(1)),
            _ => return,
        }
    }
}

fn last_used(cfg: &Config) {
    let _ = std::fs::write(cfg.mgr().join("sim.last"), clock::stamp_ctime(&Zoned::now()));
}

/// `timeout=300` and the like.
fn option<'a>(args: &[&'a str], name: &str) -> Option<&'a str> {
    args.iter().find_map(|a| a.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

fn native_freeze(entry: &Entry, more: &[&str]) -> i32 {
    let Ok(cfg) = load(entry) else { return 1 };
    let args = FreezeArgs {
        switch_journal: true,
        timeout_s: option(more, "timeout").and_then(|v| v.parse().ok()).unwrap_or(0),
        native: true,
        ..FreezeArgs::default()
    };
    native(&cfg, Op::Freeze(args), "native_freeze_fail")
}

fn native_thaw(entry: &Entry) -> i32 {
    let Ok(cfg) = load(entry) else { return 1 };
    native(&cfg, Op::Thaw(ThawArgs { native: true, ..ThawArgs::default() }), "")
}

/// CommandLineFreeze and CommandLineThaw: a session, then 0 or 1.
fn native(cfg: &Config, op: Op, fault: &str) -> i32 {
    let mut client = match session::login(cfg, false) {
        Ok((client, _)) => client,
        Err(code) => return if code == 239 { code } else { 1 },
    };
    let failing = !fault.is_empty() && ask(cfg, Op::State).is_some_and(|s| s["faults"][fault].as_str().is_some_and(|v| v != "0"));
    if failing {
        return 1;
    }
    match client.call_with(op, &mut |text| out(text)) {
        Ok(Reply::Done(_)) => 0,
        Ok(Reply::Failed(text)) => {
            out(&format!("{text}\n"));
            1
        }
        _ => 1,
    }
}

/// `iris stat INST [-W]`.
fn stat(entry: &Entry, more: &[&str]) -> i32 {
    let Ok(cfg) = load(entry) else { return 1 };
    let resume = more.contains(&"-W");
    let Some(state) = ask(&cfg, Op::Stat { resume }) else {
        out(&format!("Instance '{}' is not running\n", cfg.name));
        return 1;
    };
    if resume {
        return 0;
    }
    let now = Zoned::now();
    let suspended = state["wd_suspended"].as_bool().unwrap_or(false);
    let flags = if suspended { "WDSUSPD" } else { "" };
    out(&format!(
        "** Report of instance {} at {}\n\n   Version: {}\n   pid: {}\n   Write daemon: cycle {}, {} dirty of {} buffers\n   \
         System flags: {flags}\n",
        cfg.name,
        clock::stamp_freeze_log(&now),
        cfg.version,
        state["pid"],
        state["cycle"],
        state["dirty"],
        state["buffers"],
    ));
    0
}

/// `irisstat [-s MGR] [-W]`: the instance whose manager's directory is given, else the default one.
pub fn irisstat(registry: &Registry, args: &[&str]) -> i32 {
    let mut dir = None;
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if let Some(rest) = word.strip_prefix("-s") {
            dir = if rest.is_empty() { words.next().copied() } else { Some(rest) };
        }
    }
    let found = match dir {
        Some(dir) => registry.entries.iter().find(|e| Path::new(dir).starts_with(&e.dir)),
        None => {
            let named = args.iter().find_map(|a| registry.find(a));
            let here = std::env::current_dir().ok();
            let inside = registry.entries.iter().find(|e| here.as_ref().is_some_and(|h| h.starts_with(&e.dir)));
            named.or(inside).or_else(|| registry.entries.iter().find(|e| e.default))
        }
    };
    match found {
        Some(entry) => stat(entry, args),
        None => {
            out("irisstat: no instance\n");
            1
        }
    }
}
