//! `prune` and `reap`: both list ids, sizes and reasons, and change something only with `--yes`.

use crate::cli::{Prune, Reap};
use crate::out::{Out, table, worst};
use crate::policy;
use crate::say::when;
use coordinator::ops::{Done, run_prune, run_reap};
use coordinator::ports::{Disks, Shelf};
use coordinator::retain::Fate;
use indicatif::{ProgressBar, ProgressStyle};
use protocol::WallMs;
use protocol::code::exit;
use protocol::wire::Problem;
use serde_json::json;

pub async fn prune(world: &(impl Shelf + Disks), args: &Prune, now: WallMs, out: Out) -> Result<u8, Problem> {
    let policy = policy::read(&args.policy, policy::Wishes::default())?;
    let plan = run_prune(world, &policy, now, false, |_| ()).await?.planned;
    let mut t = table(["", "ID", "HOST/INSTANCE", "WHEN", "SIZE", "REASON"]);
    for f in &plan {
        out.object("fate", f);
        let word = if f.delete { "delete" } else { "keep" };
        t.add_row([word, &f.id.to_string(), &f.family, &when(f.at), &format!("{} GiB", f.size_gib), &f.reason]);
    }
    if plan.is_empty() {
        out.say(format!("no sets of policy {}", policy.name));
    } else {
        out.say(t.to_string());
    }
    let doomed: Vec<&Fate> = plan.iter().filter(|f| f.delete).collect();
    let snapshots: usize = doomed.iter().map(|f| f.snapshots.len()).sum();
    if !args.yes {
        summary("prune", doomed.len(), 0, &[], out);
        out.say(format!("{} to delete ({snapshots} snapshots); nothing was deleted (use --yes)", sets(doomed.len())));
        return Ok(exit::DONE);
    }
    let bar = bar(out, doomed.len());
    let done = run_prune(world, &policy, now, true, |f| {
        out.object("deleting", &json!({ "id": f.id, "snapshots": f.snapshots }));
        if let Some(bar) = &bar {
            bar.set_message(f.id.to_string());
            bar.inc(1);
        }
    })
    .await?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let planned = done.planned.iter().filter(|f| f.delete).count();
    Ok(ended("prune", &done, planned, "deleted", out))
}

pub async fn reap(world: &(impl Shelf + Disks), args: &Reap, now: WallMs, out: Out) -> Result<u8, Problem> {
    let policy = args.policy.as_deref().map_or_else(policy::defaults, |p| policy::read(p, policy::Wishes::default()))?;
    let done = run_reap(world, &policy, now, args.yes).await?;
    let mut t = table(["ID", "WHEN", "SIZE", "SNAPSHOTS", "WHY"]);
    for r in &done.planned {
        out.object("reap", r);
        t.add_row([&r.id.to_string(), &when(r.at), &format!("{} GiB", r.size_gib), &r.snapshots.join(" "), &r.why]);
    }
    if done.planned.is_empty() {
        summary("reap", 0, 0, &[], out);
        out.say("every set has a verdict, and none claims more than is there");
        return Ok(exit::DONE);
    }
    out.say(t.to_string());
    if !args.yes {
        summary("reap", done.planned.len(), 0, &[], out);
        out.say(format!("{} to mark broken; nothing was changed (use --yes)", sets(done.planned.len())));
        return Ok(exit::DONE);
    }
    Ok(ended("reap", &done, done.planned.len(), "marked broken", out))
}

fn ended<T>(kind: &str, done: &Done<T>, planned: usize, word: &str, out: Out) -> u8 {
    let good = planned.saturating_sub(done.failed.len());
    summary(kind, planned, good, &done.failed, out);
    out.say(format!("{} {word}", sets(good)));
    worst(done.failed.iter().map(|p| out.problem(p)))
}

/// The last line of `--json`.
fn summary(verb: &str, planned: usize, done: usize, failed: &[Problem], out: Out) {
    out.object("summary", &json!({ "verb": verb, "planned": planned, "done": done, "failed": failed.len() }));
}

fn sets(n: usize) -> String {
    if n == 1 { "1 set".into() } else { format!("{n} sets") }
}

fn bar(out: Out, len: usize) -> Option<ProgressBar> {
    out.shows_progress().then(|| {
        let bar = ProgressBar::new(len as u64);
        if let Ok(style) = ProgressStyle::with_template("prune [{bar:30}] {pos}/{len} {msg} {eta}") {
            bar.set_style(style);
        }
        bar
    })
}
