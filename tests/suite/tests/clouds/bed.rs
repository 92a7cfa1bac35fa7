//! One host in a cloud, and what may go wrong there, by names that mean the same on each.

use cloud_sim::arm::{ArmFault, ArmMatch, ArmRule};
use cloud_sim::{Fault, Match, Rule};
use serde_json::json;
use std::process::{Command, Output};
use suite::cloud::azure::AzureFleet;
use suite::cloud::fleet::{Fleet, TAG};
use suite::cloud::programs::{ctl, program, said};
use suite::host::{Host, What, sleep_ms};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    FactsReplyLost,
    AgentOffline,
    HostStopped,
    /// The order arrives; nobody hears what became of it.
    FreezeReplyLost,
    FreezeRequestLost,
    FreezeOutputCut,
    SnapshotDenied,
    SnapshotThrottled,
    SnapshotReplyLost,
    /// The cloud takes longer than the host holds.
    SnapshotTooLate,
    ThawReplyLost,
    /// Somebody thaws the database inside the window.
    AnotherOneThaws,
}

pub enum Bed {
    Aws(Box<Fleet>),
    Azure(Box<AzureFleet>),
}

impl Bed {
    fn host(&self) -> &Host {
        match self {
            Self::Aws(f) => &f.members[0].host,
            Self::Azure(f) => &f.members[0].host,
        }
    }

    pub fn cause(&self, trouble: Trouble) {
        match self {
            Self::Aws(f) => aws(f, trouble),
            Self::Azure(f) => azure(f, trouble),
        }
    }

    pub fn clear(&self) {
        match self {
            Self::Aws(f) => {
                f.sim.clear_faults();
                f.sim.set_online(&f.members[0].id, true);
            }
            Self::Azure(f) => {
                f.sim.clear_faults();
                f.sim.set_online(&f.members[0].id, true);
            }
        }
    }

    fn ctl(&self, args: &[&str]) -> Command {
        match self {
            Self::Aws(f) => ctl(&f.sim.endpoint(), &f.sim.config().region, f.dir.path(), args),
            Self::Azure(f) => f.program(&program("snapfreezectl"), &[&["--cloud", "azure"], args].concat()),
        }
    }

    fn policy(&self) -> String {
        let dir = match self {
            Self::Aws(f) => f.dir.path(),
            Self::Azure(f) => f.dir.path(),
        };
        let p = json!({ "name": "p", "select": { "tags": { TAG.0: TAG.1 } }, "hold": "8s", "snapshot": "1s", "held_by": "coordinator", "exclude_boot": true,
            "keep": { "pending": "1ms" } });
        let path = dir.join("policy.json");
        std::fs::write(&path, p.to_string()).expect("the policy is written");
        path.display().to_string()
    }

    /// `snapfreezectl --json backup`, and beside it what the trouble's other person does.
    pub fn backup(&self) -> Output {
        self.ctl(&["--json", "backup", "--no-wait", "--policy", &self.policy()]).output().expect("snapfreezectl runs")
    }

    /// The host is quiet, the cloud has done what it was asked, and `reap` has run.
    pub fn settle(&self) {
        let host = self.host();
        let quiet = (0..300).any(|_| {
            sleep_ms(100);
            let cloud = match self {
                Self::Aws(f) => {
                    f.sim.invocations().iter().all(|i| !["Pending", "InProgress", "Delayed"].contains(&i.status_details.as_str()))
                }
                Self::Azure(f) => {
                    f.sim.runs().iter().all(|r| !["Pending", "Running"].contains(&r.state.as_str()))
                        && f.sim.snapshots().iter().all(|s| s.state != "Updating" && s.copy_to_us > 0)
                }
            };
            cloud && host.phase() == "idle" && !host.engine.frozen()
        });
        assert!(quiet, "never quiet");
        let reap = self.ctl(&["reap", "--yes", "--policy", &self.policy()]).output().expect("it runs");
        assert!(reap.status.success(), "{}", said(&reap));
    }

    pub fn verdicts(&self) -> Vec<String> {
        let of = |t: &std::collections::BTreeMap<String, String>| t.get("snapfreeze:verdict").cloned().unwrap_or_default();
        match self {
            Self::Aws(f) => f.sim.snapshots().iter().map(|s| of(&s.tags)).collect(),
            Self::Azure(f) => f.sim.snapshots().iter().map(|s| of(&s.tags)).collect(),
        }
    }

    pub fn freezes(&self) -> usize {
        self.host().engine.history().iter().filter(|h| h.what == What::Frozen).count()
    }

    pub fn any_frozen(&self) -> bool {
        self.host().engine.frozen()
    }

    /// All copies of the database's volumes lie inside a freeze.
    pub fn in_window(&self) -> bool {
        match self {
            Self::Aws(f) => {
                let history = f.members[0].host.engine.history();
                let at = |what: fn(&What) -> bool| history.iter().find(|h| what(&h.what)).map(|h| h.at_ms);
                let (from, to) = (at(|w| *w == What::Frozen), at(|w| *w == What::Thawed));
                let copies: Vec<_> = f.sim.snapshots().into_iter().filter(|s| s.volume == f.members[0].volume).collect();
                !copies.is_empty()
                    && copies
                        .iter()
                        .all(|s| from.is_some_and(|f| f <= s.copy_from_us / 1000) && to.is_some_and(|t| s.copy_to_us.div_ceil(1000) <= t))
            }
            Self::Azure(f) => f.sets().values().all(|set| f.in_window(&f.members[0], set)),
        }
    }
}

fn aws(f: &Fleet, trouble: Trouble) {
    let id = &f.members[0].id;
    let send = |document: &str| Match::action("SendCommand").document(document);
    // The snapshot call, not its rehearsal.
    let snapshot = || Match::action("CreateSnapshots").contains("snapfreeze:frozen-at");
    let rule = match trouble {
        Trouble::None => return,
        Trouble::AgentOffline => return f.sim.set_online(id, false),
        Trouble::HostStopped => return f.sim.set_state(id, "stopped"),
        Trouble::FactsReplyLost => Rule::new(send("snapfreeze-facts"), Fault::LostReply).always(),
        Trouble::FreezeReplyLost => Rule::new(send("snapfreeze-freeze"), Fault::LostReply),
        Trouble::FreezeRequestLost => Rule::new(send("snapfreeze-freeze"), Fault::LostRequest),
        Trouble::FreezeOutputCut => Rule::new(send("snapfreeze-freeze"), Fault::CutOutput { chars: 100 }),
        Trouble::SnapshotDenied => Rule::new(snapshot(), Fault::AccessDenied).always(),
        Trouble::SnapshotThrottled => Rule::new(snapshot(), Fault::Throttle).always(),
        Trouble::SnapshotReplyLost => Rule::new(snapshot(), Fault::LostReply),
        Trouble::SnapshotTooLate => Rule::new(snapshot(), Fault::Slow { ms: 11_000 }),
        Trouble::ThawReplyLost => Rule::new(send("snapfreeze-thaw"), Fault::LostReply).always(),
        Trouble::AnotherOneThaws => return thaw_inside(&f.members[0].host),
    };
    f.sim.fault(rule);
}

fn azure(f: &AzureFleet, trouble: Trouble) {
    let id = &f.members[0].id;
    let run = |verb: &str| ArmMatch::op("run.put").name_contains(&format!("snapfreeze-{verb}-"));
    let snapshot = || ArmMatch::op("snapshots.put");
    let denied = || ArmFault::Status { status: 403, code: "AuthorizationFailed".into(), retry_after_s: None };
    let rule = match trouble {
        Trouble::None => return,
        Trouble::AgentOffline => return f.sim.set_online(id, false),
        Trouble::HostStopped => return f.sim.set_power(id, "deallocated"),
        Trouble::FactsReplyLost => ArmRule::new(run("facts"), ArmFault::LostReply).always(),
        Trouble::FreezeReplyLost => ArmRule::new(run("freeze"), ArmFault::LostReply),
        Trouble::FreezeRequestLost => ArmRule::new(run("freeze"), ArmFault::LostRequest),
        Trouble::FreezeOutputCut => ArmRule::new(run("freeze"), ArmFault::CutOutput { bytes: 100 }),
        Trouble::SnapshotDenied => ArmRule::new(snapshot(), denied()).always(),
        Trouble::SnapshotThrottled => ArmRule::new(snapshot(), ArmFault::Throttle { retry_after_s: 5 }).always(),
        Trouble::SnapshotReplyLost => ArmRule::new(snapshot(), ArmFault::LostReply),
        Trouble::SnapshotTooLate => ArmRule::new(snapshot(), ArmFault::CopyAfter { ms: 11_000 }),
        Trouble::ThawReplyLost => ArmRule::new(run("thaw"), ArmFault::LostReply).always(),
        Trouble::AnotherOneThaws => return thaw_inside(&f.members[0].host),
    };
    f.sim.fault(rule);
}

/// Another tool's thaw, as soon as the engine is frozen.
fn thaw_inside(host: &Host) {
    let iris = host.engine.sim().bin("iris");
    let history = host.engine.sim().history.clone();
    std::thread::spawn(move || {
        for _ in 0..2_000 {
            if std::fs::read_to_string(&history).is_ok_and(|h| h.contains("\"suspended\"")) {
                let _ = Command::new(&iris).args(["thaw", "IRIS"]).output();
                return;
            }
            sleep_ms(10);
        }
    });
}
