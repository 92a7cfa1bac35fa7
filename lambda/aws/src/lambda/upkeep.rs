//! `reap`, `prune` and `watch`: what is done around backups.

use super::{Call, Failure};
use common::report;
use coordinator::Policy;
use coordinator::ops::{Done, run_prune, run_reap, run_watch};
use coordinator::ports::Clock;
use protocol::wire::Problem;
use serde::Serialize;
use serde_json::{Value, json};

impl Call<'_> {
    pub async fn reap(&self, policy: &Policy, dry_run: bool) -> Result<Value, Failure> {
        let done = run_reap(&self.ebs, policy, self.clock.now(), !dry_run).await?;
        for r in &done.planned {
            (self.log)(&json!({ "message": "reap", "backup_id": r.id, "policy": policy.name, "why": r.why, "dry_run": dry_run }));
        }
        reply(&done, dry_run)
    }

    pub async fn prune(&self, policy: &Policy, dry_run: bool) -> Result<Value, Failure> {
        let told = |f: &coordinator::retain::Fate| {
            (self.log)(&json!({ "message": "prune", "backup_id": f.id, "policy": policy.name, "why": f.reason }));
        };
        let done = run_prune(&self.ebs, policy, self.clock.now(), !dry_run, told).await?;
        reply(&done, dry_run)
    }

    pub async fn watch(&self, policy: &Policy) -> Result<Value, Failure> {
        let now = self.clock.now();
        let w = run_watch(&self.ebs, policy, now).await?;
        (self.log)(&report::watched(now, &policy.name, &w).emf());
        let mut reply = json!(w);
        reply["silent"] = json!(w.silent());
        Ok(reply)
    }
}

/// What could not be carried out is an error: a schedule's reply is read by nobody.
fn reply<T: Serialize>(done: &Done<T>, dry_run: bool) -> Result<Value, Failure> {
    if let Some(p) = done.failed.first() {
        let more = done.failed.len() - 1;
        let detail = if more == 0 { p.detail.clone() } else { format!("{}; and {more} more", p.detail) };
        return Err(Problem { detail, ..p.clone() }.into());
    }
    Ok(json!({ "planned": done.planned, "dry_run": dry_run }))
}
