//! One case: a flow, a point of it, who is killed there, and whether the service manager restarts the agent.

use doors::clock::boot_now;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use suite::host::{Caller, Ended, Happened, Host, Reply, Seen, What, new_id, signal, sleep_ms, with_text};

/// What the caller does. Each freeze has the host's hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Freeze, ask, thaw in one process.
    Rehearse,
    /// `freeze`, a short snapshot, `thaw --id`: a script with a process for each.
    FreezeThaw,
    /// `freeze`, and nobody comes back.
    Abandoned,
}

/// What has happened before: the base of a second kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pre {
    None,
    /// The agent was killed when the caller had its reply; nobody restarts it.
    AgentLost,
    /// The same, and it was restarted at once.
    AgentRestarted,
}

/// Where [`Pre`] kills.
const PRE_POINT: &str = "caller.freeze.after#1";
/// A caller waits at most for the agent's return, a thaw budget, and a loaded machine.
const CALLER_MS: u64 = 60_000;
/// Prefix of the points that are taken from the engine's history.
const ENGINE: &str = "engine.";
/// No freeze is sent after `thaw_by`; a model that was told in time lands a moment later.
const AFTER_MS: u64 = 300;
/// The snapshot of [`Flow::FreezeThaw`].
const SNAPSHOT_MS: u64 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victims {
    pub agent: bool,
    pub caller: bool,
    pub watchdog: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub flow: Flow,
    pub pre: Pre,
    /// `name#n`: the n-th time that it is reached.
    pub point: String,
    pub victims: Victims,
    pub restart: bool,
}

/// What was seen from outside the agent.
#[derive(Debug)]
pub struct Facts {
    pub began_ms: u64,
    /// The kill happened; a point may not come again in a run that went otherwise, or a victim was not there.
    pub killed_ms: Option<u64>,
    /// Who really died at it.
    pub died: Vec<&'static str>,
    pub points: Vec<Seen>,
    pub history: Vec<Happened>,
    /// By verb.
    pub callers: Vec<(&'static str, Ended)>,
    pub restarts: Vec<u64>,
    /// Ids in the journal before it began.
    pub earlier: Vec<String>,
}

impl std::fmt::Display for Victims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [(self.agent, "agent"), (self.caller, "caller"), (self.watchdog, "watchdog")];
        let list: Vec<_> = names.iter().filter(|n| n.0).map(|n| n.1).collect();
        f.write_str(&list.join("+"))
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let restart = if !self.victims.agent && self.pre == Pre::None {
            ""
        } else if self.restart {
            ", restarted"
        } else {
            ", not restarted"
        };
        write!(f, "{:?} {:?} {}: {}{restart}", self.flow, self.pre, self.point, self.victims)
    }
}

/// Counts arrivals, so that a point is named by its n-th time.
#[derive(Default)]
pub struct Counter(BTreeMap<String, u32>);

impl Counter {
    pub fn key(&mut self, name: &str) -> String {
        let n = self.0.entry(name.into()).or_default();
        *n += 1;
        format!("{name}#{n}")
    }
}

/// Kills these processes of the host, all signals before the first wait. Who was there.
fn kill_all(mark: &str, victims: Victims) -> Vec<&'static str> {
    let mut dying = Vec::new();
    for p in with_text(mark) {
        let role = match p.args.get(1).map(String::as_str) {
            Some("agent") if victims.agent => "agent",
            Some("watchdog") if victims.watchdog => "watchdog",
            Some("rehearse" | "freeze" | "thaw") if victims.caller => "caller",
            _ => continue,
        };
        if suite::host::alive(p.pid) {
            signal(p.pid, rustix::process::Signal::KILL);
            dying.push((p.pid, role));
        }
    }
    for (pid, _) in &dying {
        suite::host::kill(*pid);
    }
    dying.into_iter().map(|d| d.1).collect()
}

impl Case {
    fn pre_victims(&self) -> Option<Victims> {
        match self.pre {
            Pre::None => None,
            Pre::AgentLost | Pre::AgentRestarted => Some(Victims { agent: true, caller: false, watchdog: false }),
        }
    }

    /// Plays it to the end of the window, but repairs nothing.
    pub fn play(&self, host: &Host) -> Facts {
        let began_ms = boot_now().0;
        let earlier = host.journal_results().into_iter().map(|r| r.0).collect();
        host.agent.set_restart(if self.pre == Pre::AgentLost { false } else { self.restart });
        let mark = host.points.path().display().to_string();
        let killed = Arc::new(AtomicU64::new(0));
        let died: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let script_dead = Arc::new(AtomicBool::new(false));
        let (k, d, s) = (killed.clone(), died.clone(), script_dead.clone());
        let (case, mut counter, mut pre_done) = (self.clone(), Counter::default(), self.pre == Pre::None);
        host.points.begin(move |seen| {
            let key = counter.key(&seen.name);
            if !pre_done {
                if key == PRE_POINT {
                    kill_all(&mark, case.pre_victims().unwrap_or(case.victims));
                    pre_done = true;
                    counter = Counter::default();
                }
            } else if key == case.point && k.load(Ordering::SeqCst) == 0 {
                let who = kill_all(&mark, case.victims);
                s.fetch_or(case.victims.caller, Ordering::SeqCst);
                k.store(boot_now().0, Ordering::SeqCst);
                *d.lock().expect("no panic in a hook") = who;
            }
            Reply::Go
        });
        let (e, d) = (killed.clone(), died.clone());
        let over = AtomicBool::new(false);
        let callers = std::thread::scope(|t| {
            t.spawn(|| self.kill_in_the_engine(host, began_ms, &over, &e, &d, &script_dead));
            let callers = self.script(host, &script_dead);
            over.store(true, Ordering::SeqCst);
            callers
        });
        self.wait_for_the_end(host, began_ms, &killed);
        let at = killed.load(Ordering::SeqCst);
        let died = died.lock().expect("no panic in a hook").clone();
        Facts {
            began_ms,
            killed_ms: (at > 0).then_some(at),
            died,
            points: host.points.seen(),
            history: host.engine.history_since(began_ms),
            callers,
            // A start before the kill is none: it may lie in this case, when the one before it left no agent.
            restarts: host.agent.starts().into_iter().filter(|t| *t >= began_ms.max(at)).collect(),
            earlier,
        }
    }

    /// `engine.Frozen` and the like: nobody can be held inside the engine, so its history is read each millisecond.
    fn kill_in_the_engine(
        &self,
        host: &Host,
        began_ms: u64,
        over: &AtomicBool,
        killed: &AtomicU64,
        died: &Mutex<Vec<&'static str>>,
        dead: &AtomicBool,
    ) {
        let Some(what) = self.point.strip_prefix(ENGINE) else { return };
        let mark = host.points.path().display().to_string();
        let until = boot_now().plus(CALLER_MS);
        while !over.load(Ordering::SeqCst) && boot_now() < until {
            if host.engine.history_since(began_ms).iter().any(|h| format!("{:?}", h.what) == what) {
                dead.fetch_or(self.victims.caller, Ordering::SeqCst);
                *died.lock().expect("no panic") = kill_all(&mark, self.victims);
                return killed.store(boot_now().0, Ordering::SeqCst);
            }
            sleep_ms(1);
        }
    }

    fn script(&self, host: &Host, dead: &AtomicBool) -> Vec<(&'static str, Ended)> {
        let hold = format!("{}ms", host.setup.hold_ms);
        let mut ended = Vec::new();
        let end = |c: Caller| c.wait(CALLER_MS);
        if self.flow == Flow::Rehearse {
            ended.push(("rehearse", end(host.spawn(&["rehearse", "--hold", &hold, "--json"]))));
            return ended;
        }
        let id = new_id();
        let freeze = end(host.spawn(&["freeze", "--no-sync", "--id", &id, "--hold", &hold, "--json"]));
        let frozen = freeze.code == Some(0);
        ended.push(("freeze", freeze));
        if self.flow == Flow::FreezeThaw && frozen {
            sleep_ms(SNAPSHOT_MS);
            if !dead.load(Ordering::SeqCst) {
                ended.push(("thaw", end(host.spawn(&["thaw", "--id", &id, "--json"]))));
            }
        }
        ended
    }

    /// Until every freeze of the case has been thawed and none can come any more, or the last line of defence is late.
    fn wait_for_the_end(&self, host: &Host, began_ms: u64, killed: &AtomicU64) {
        let at_most = boot_now().0 + 40_000;
        loop {
            let now = boot_now().0;
            let quiet_from = thaw_by(&host.points.seen(), host.setup.hold_ms).unwrap_or(0);
            let open = open_since(&host.engine.history_since(began_ms)).is_some();
            // The engine's limit (5 s after the freeze) is the last; then it is over or lost.
            let lost = open && now > quiet_from + 8_000;
            // A point late in the run is still to come.
            let more = killed.load(Ordering::SeqCst) == 0 && now < at_most && busy(host);
            if lost || (!open && !more && now > quiet_from + AFTER_MS) {
                return;
            }
            sleep_ms(20);
        }
    }
}

/// The agent, or a watchdog without one, has not come to rest.
fn busy(host: &Host) -> bool {
    !host.watchdogs().is_empty() || (host.agent.pid().is_some() && (host.phase() != "idle" || disarming(&host.points.seen())))
}

/// The agent says "idle" while its lane may still close the entry.
fn disarming(points: &[Seen]) -> bool {
    let times = |name| points.iter().filter(|p| p.name == name).count();
    times("agent.disarm.before") > times("agent.disarm.after")
}

/// By the controller's clock: the agent took the order just before it made its entry.
pub fn thaw_by(points: &[Seen], hold_ms: u64) -> Option<u64> {
    points.iter().find(|p| p.name == "agent.entry.before").map(|p| p.at_ms + hold_ms)
}

/// Since when it is frozen at the end of this history.
pub fn open_since(history: &[Happened]) -> Option<u64> {
    history.iter().fold(None, |open, h| match h.what {
        What::Frozen => open.or(Some(h.at_ms)),
        What::Thawed | What::LimitThawed => None,
        What::FreezeCalled | What::ThawCalled => open,
    })
}
