//! `snapfreeze-job`: one run of a schedule, from the policy to the verdicts, in one process.
//!
//! A Container Apps job starts it, and it ends with the worst exit code of its backups; nothing starts it a second time
//! (`replicaRetryLimit: 0`), for a retry would freeze twice. As a Functions custom handler (`serve`) the same runs answer a POST.
//! SIGTERM thaws first. A run that is killed leaves its hosts to their watchdogs and its sets to `reap`.

mod backup;
mod serve;

pub use serve::serve;

use common::{report, worst};
use coordinator::Policy;
use coordinator::ops::{run_prune, run_reap, run_watch};
use coordinator::ports::{Clock, Disks, Fleet, Hosts, Shelf};
use protocol::Code;
use protocol::code::exit;
use protocol::wire::Problem;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::sync::watch;

#[derive(clap::Parser, Clone, Debug)]
#[command(
    name = "snapfreeze-job",
    version,
    about = "One run of a schedule: backups, retention, upkeep",
    after_help = "The policy is JSON: --policy FILE, or the environment's SNAPFREEZE_POLICY.\n\
                  AZURE_SUBSCRIPTION_ID and an identity are needed; see docs/azure.md.\n\
                  Exit codes: as snapfreezectl; of several hosts, the first that applies of 8 130 6 7 3 4 9 10 2 1 0.\n\n\
                  Examples:\n  snapfreeze-job backup --policy nightly.json\n  SNAPFREEZE_POLICY=\"$(cat nightly.json)\" snapfreeze-job watch\n  \
                  snapfreeze-job serve          as a Functions custom handler"
)]
pub struct Cli {
    /// Policy file
    #[arg(long, global = true, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Only this resource group's machines, and its snapshots
    #[arg(long, global = true, env = "SNAPFREEZE_RESOURCE_GROUP", value_name = "NAME")]
    pub resource_group: Option<String>,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(clap::Subcommand, Clone, Debug)]
pub enum Verb {
    /// Freeze, snapshot, thaw, verdict of every host that the policy selects
    Backup {
        /// Ends by itself after so long, thawed; shorter than the job's replicaTimeout
        #[arg(long, value_name = "SPAN", default_value = "55m", value_parser = span_ms)]
        stop_by: u64,
    },
    /// Delete what the policy does not keep
    Prune {
        /// Only say what would be deleted
        #[arg(long)]
        dry_run: bool,
    },
    /// Mark sets broken that no run will finish any more
    Reap {
        #[arg(long)]
        dry_run: bool,
    },
    /// Is a host silent? Ends with 3 when one is
    Watch,
    /// A Functions custom handler on 127.0.0.1:$FUNCTIONS_CUSTOMHANDLER_PORT
    Serve,
}

fn span_ms(s: &str) -> Result<u64, String> {
    coordinator::span::parse(s).ok_or_else(|| "a time such as 55m".into())
}

/// Takes one JSON line.
pub type Log<'a> = dyn Fn(&Value) + Sync + 'a;

/// What a run works on.
pub struct World<'a, H, D, C> {
    pub hosts: &'a H,
    pub disks: &'a D,
    pub clock: &'a C,
    pub log: &'a Log<'a>,
}

/// The policy of a file, or of the environment.
pub fn policy(file: Option<&Path>, text: Option<String>) -> Result<Policy, Problem> {
    let bad = |why: String| Problem::new(Code::ConfigInvalid, why).next("docs/azure.md has an example");
    let (from, text) = match (file, text) {
        (Some(f), _) => (f.display().to_string(), std::fs::read_to_string(f).map_err(|e| bad(format!("{}: {e}", f.display())))?),
        (None, Some(text)) => ("SNAPFREEZE_POLICY".into(), text),
        (None, None) => return Err(bad("there is no policy: neither --policy nor SNAPFREEZE_POLICY".into())),
    };
    let v: Value = serde_json::from_str(&text).map_err(|e| bad(format!("{from}: {e}")))?;
    Policy::read(v.get("policy").cloned().unwrap_or(v), coordinator::Cloud::Azure).map_err(|e| bad(format!("{from}: {e}")))
}

impl<H: Hosts, D: Disks + Fleet + Shelf, C: Clock> World<'_, H, D, C> {
    /// One run; its exit code. `stop`: becomes true when it should end.
    pub async fn run(&self, verb: &Verb, policy: &Policy, stop: watch::Receiver<bool>) -> u8 {
        let result = match verb {
            Verb::Backup { stop_by } => self.backup(policy, *stop_by, stop).await,
            Verb::Prune { dry_run } => self.prune(policy, *dry_run).await,
            Verb::Reap { dry_run } => self.reap(policy, *dry_run).await,
            Verb::Watch => self.watch(policy).await,
            Verb::Serve => Err(Problem::new(Code::UsageInvalid, "a handler cannot be started by a handler")),
        };
        let code = result.unwrap_or_else(|p| {
            self.problem(&p);
            p.code.exit()
        });
        (self.log)(&json!({ "message": "end", "at": self.clock.now().0, "Policy": policy.name, "exit": code, "good": code == exit::DONE }));
        code
    }

    fn problem(&self, p: &Problem) {
        (self.log)(&json!({ "message": "problem", "code": p.code.name(), "detail": p.detail, "next": p.next }));
    }

    async fn prune(&self, policy: &Policy, dry_run: bool) -> Result<u8, Problem> {
        let told = |f: &coordinator::retain::Fate| {
            (self.log)(&json!({ "message": "prune", "backup_id": f.id, "Policy": policy.name, "why": f.reason }));
        };
        let done = run_prune(self.disks, policy, self.clock.now(), !dry_run, told).await?;
        Ok(self.failures(&done.failed))
    }

    async fn reap(&self, policy: &Policy, dry_run: bool) -> Result<u8, Problem> {
        let done = run_reap(self.disks, policy, self.clock.now(), !dry_run).await?;
        for r in &done.planned {
            (self.log)(&json!({ "message": "reap", "backup_id": r.id, "Policy": policy.name, "why": r.why, "dry_run": dry_run }));
        }
        Ok(self.failures(&done.failed))
    }

    async fn watch(&self, policy: &Policy) -> Result<u8, Problem> {
        let now = self.clock.now();
        let w = run_watch(self.disks, policy, now).await?;
        (self.log)(&report::watched(now, &policy.name, &w).plain());
        Ok(if w.silent() > 0 { exit::BROKEN } else { exit::DONE })
    }

    fn failures(&self, failed: &[Problem]) -> u8 {
        failed.iter().for_each(|p| self.problem(p));
        worst(failed.iter().map(|p| p.code.exit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed_and_a_policy_is_asked_for() {
        Cli::command().debug_assert();
        let p = policy(None, None).unwrap_err();
        assert!(p.code == Code::ConfigInvalid && p.detail.contains("SNAPFREEZE_POLICY"), "{p:?}");
        assert_eq!(policy(None, Some(r#"{"name":"n","select":{"tags":{"a":"b"}}}"#.into())).unwrap().name, "n");
        for bad in ["", "{", r#"{"name":"n"}"#, r#"{"name":"n","select":{"tags":{"a":"b"}},"hold":"1180s"}"#] {
            assert_eq!(policy(None, Some(bad.into())).unwrap_err().code, Code::ConfigInvalid, "{bad}");
        }
    }
}
