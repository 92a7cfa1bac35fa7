//! The daemon: one loop owns the machine; three workers carry its effects out; the API sends it messages.

mod admission;
mod api;
mod lane;
mod run;
pub use run::Figures;
mod session;
mod workers;

use crate::config::Config;
use crate::instances::{self, Set};
use crate::journal::Journal;
use crate::points::reach;
use crate::{alarm_clock::AlarmClock, chain};
use doors::clock::{boot_id, boot_now, wall_now};
use lifecycle::{Machine, Order};
use protocol::wire::Problem;
use protocol::{BackupId, Code};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// What every part of the daemon may look at.
pub struct Shared {
    pub config: Config,
    /// Opened once; `Err` keeps why, so that a broken configuration refuses freezes but still answers.
    pub set: Result<Set, Problem>,
}

pub fn main(config: Config) -> Result<(), Problem> {
    let fail = |what: &str, e: &dyn std::error::Error| Problem::new(Code::Internal, format!("{what}: {}", chain(e)));
    prepare_run_dir(&config).map_err(|e| fail("the run directory could not be prepared", &e))?;
    let journal = Journal::open(&config.dirs.journal()).map_err(|e| fail("the journal could not be opened", &e))?;
    let boot = boot_id().map_err(|e| fail("the boot id could not be read", &e))?;
    let set = instances::open(&config);
    let shared = Arc::new(Shared { config, set });
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| fail("no runtime", &e))?;
    rt.block_on(async {
        // Thaw first: before anybody is let in.
        let contents = journal.read().map_err(|e| fail("the journal could not be read", &e))?;
        let rules = shared.config.window.rules(None).map_err(|e| fail("window rules", &e))?;
        let fallback = Order { id: BackupId::from_uuid(uuid::Uuid::now_v7()), rules };
        let (found, past, entry) = contents.found(&boot, boot_now(), fallback);
        let (machine, effects) = Machine::start(found, past, boot_now());
        reach("agent.start.before");
        let (tx, rx) = mpsc::unbounded_channel();
        let mut run = run::Run::new(machine, shared.clone(), journal, boot, tx.clone());
        run.resume(entry, &contents.damaged, fallback.id);
        run.carry_out(effects);
        run.close(contents.undone());
        run.forget_old(wall_now());
        reach("agent.start.after");
        let listener = listen(&shared.config).map_err(|e| fail("the socket could not be opened", &e))?;
        let clock = AlarmClock::new().map_err(|e| fail("no timer", &e))?;
        tokio::spawn(api::serve(listener, tx, shared.clone()));
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
        run.forever(rx, clock).await;
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
        Ok(())
    })
}

/// `/run/snapfreeze` 0750 root:snapfreeze, `log/` for the engines' LogFiles; refused when it is no tmpfs, unless it
/// is somebody's own directory of a test.
fn prepare_run_dir(config: &Config) -> std::io::Result<()> {
    let run = &config.dirs.run;
    std::fs::create_dir_all(run)?;
    std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o751))?;
    chown_group(run, &config.group);
    let log = run.join("log");
    std::fs::create_dir_all(&log)?;
    // The engine's own user appends to its LogFile there; sticky, so that nobody removes another's.
    std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o1733))?;
    Ok(())
}

/// A host without the group keeps root's; the socket then is root's alone.
fn chown_group(path: &Path, group: &str) {
    let Ok(groups) = std::fs::read_to_string("/etc/group") else { return };
    let gid = groups.lines().filter_map(|l| l.split_once(':')).find(|(n, _)| *n == group);
    if let Some(gid) = gid.and_then(|(_, rest)| rest.split(':').nth(1)?.parse::<u32>().ok()) {
        let _ = std::os::unix::fs::chown(path, None, Some(gid));
    }
}

/// The socket that systemd hands over, or our own: 0660, root and the group.
fn listen(config: &Config) -> std::io::Result<UnixListener> {
    if let Some(l) = listenfd::ListenFd::from_env().take_unix_listener(0)? {
        l.set_nonblocking(true)?;
        return UnixListener::from_std(l);
    }
    let path = config.dirs.socket();
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {} // the journal's lock says that no other agent listens there
    }
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o117));
    let listener = UnixListener::bind(&path);
    rustix::process::umask(before);
    let listener = listener?;
    chown_group(&path, &config.group);
    Ok(listener)
}
