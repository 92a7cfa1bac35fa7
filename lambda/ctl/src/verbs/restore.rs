//! `restore`: a set's volumes made, attached and mounted on a host, and what that host's own `snapfreeze restore` says and does.

use super::catalogue::{find, newest_held};
use crate::cli::Restore;
use crate::out::{Out, table};
use coordinator::Target;
use coordinator::ops::catalogue;
use coordinator::ports::{Clock, Orders, Shelf, Volumes};
use coordinator::restore::{HostStep, HostWish, Plan, Wish, bring, order, plan};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::code::exit;
use protocol::wire::{ImageReply, Problem, RestoreReply};
use protocol::{Code, WallMs};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// Logs are replayed at a mount, and every file is listed.
const MOUNT_MS: i64 = 45 * 60_000;
const PLAN_MS: i64 = 15 * 60_000;
/// The longest that SSM lets a script run.
const RUN_MS: i64 = 48 * 3_600_000;

/// What the clouds differ in, and what is asked of them.
pub struct World<'a, H, D, C> {
    pub cloud: coordinator::Cloud,
    pub hosts: &'a H,
    pub disks: &'a D,
    pub clock: &'a C,
}

pub async fn restore<H: Orders, D: Shelf + Volumes, C: Clock>(
    w: World<'_, H, D, C>,
    onto: String,
    a: &Restore,
    out: Out,
) -> Result<u8, Problem> {
    let all = catalogue(w.disks).await?;
    let set = if a.id == "latest" { newest_held(&all, a.host.as_deref())? } else { find(&all, &a.id)? };
    let target = Target { id: onto, name: String::new() };
    let berth = w.disks.berth(&target).await?;
    let wish =
        Wish { host: a.host.clone(), even_if_not_held: a.even_if_not_held, rate: a.rate, again: a.again.clone().unwrap_or_default() };
    let p = plan(w.cloud, set, &target, &berth, &wish)?;
    show(&p, out);
    if !a.yes {
        out.say("nothing was made; carry it out with --yes");
        return Ok(exit::DONE);
    }
    let said = |v: &coordinator::restore::Planned, text: &str| {
        out.note(format!("{}: {text}", v.new.of));
        out.object("volume", &serde_json::json!({ "snapshot": v.new.snapshot, "device": v.device, "text": text }));
    };
    let volumes = bring(&p, w.disks, w.clock, &said).await?;
    let host = Host { w: &w, plan: &p, out };
    let mounted: ImageReply = host.ask(HostStep::Mount { volumes, set: p.set.clone() }, MOUNT_MS, "the host mounts them").await?;
    out.object("image", &mounted);
    for (point, device) in &mounted.mounts {
        out.say(format!("{point} is {device}, read-only below {}", mounted.dir.join("data").display()));
    }
    mounted.notes.iter().for_each(|n| out.note(n));
    let wish =
        HostWish { until: a.until.clone(), without_wij: a.without_wij, everything: !a.own_host, even_if_not_held: a.even_if_not_held };
    let planned: RestoreReply = host.ask(HostStep::Plan(wish.clone()), PLAN_MS, "the host plans").await?;
    say_reply(&planned, out);
    if !a.run {
        let flags =
            format!("{}{}", if a.own_host { "" } else { " --everything" }, if a.even_if_not_held { " --even-if-not-held" } else { "" });
        out.say(format!("nothing was restored yet; on the host: snapfreeze restore run {}{flags}, or the same here with --run", p.id));
        return Ok(exit::DONE);
    }
    let done: RestoreReply = host.ask(HostStep::Run(wish), RUN_MS, "the host restores").await?;
    say_reply(&done, out);
    let image: Value = host.ask(HostStep::Unmount, MOUNT_MS, "the host unmounts the volumes").await?;
    out.object("unmounted", &image);
    out.say(format!("RESTORED: {} of {}; users may connect now", done.instance, p.id));
    out.say(format!("the volumes of restore {} are not needed any more: detach and delete them", p.run));
    Ok(exit::DONE)
}

struct Host<'a, H, D, C> {
    w: &'a World<'a, H, D, C>,
    plan: &'a Plan,
    out: Out,
}

impl<H: Orders, D, C: Clock> Host<'_, H, D, C> {
    async fn ask<T: DeserializeOwned>(&self, step: HostStep, ms: i64, doing: &str) -> Result<T, Problem> {
        let bar = self.out.shows_progress().then(|| {
            let bar = ProgressBar::new_spinner()
                .with_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(doing.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if bar.is_none() {
            self.out.note(doing);
        }
        let by = WallMs(self.w.clock.now().0 + ms);
        let answer = order(self.w.hosts, &self.plan.target, self.plan.id, step, by).await;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        serde_json::from_value(answer?).map_err(|e| Problem::new(Code::AgentUnreachable, format!("the host answered something else: {e}")))
    }
}

fn show(p: &Plan, out: Out) {
    out.object("restore-plan", p);
    let mut t = table(["SNAPSHOT", "KIND", "SIZE", "OF", "ATTACHED AS"]);
    for v in &p.volumes {
        let k = &v.new.kind;
        let kind = [
            k.name.clone(),
            k.iops.map(|n| format!("{n}iops")).unwrap_or_default(),
            k.throughput.map(|n| format!("{n}MB/s")).unwrap_or_default(),
        ];
        let kind: Vec<String> = kind.into_iter().filter(|s| !s.is_empty()).collect();
        t.add_row([v.new.snapshot.clone(), kind.join(" "), format!("{} GiB", v.new.size_gib), v.new.of.clone(), v.device.clone()]);
    }
    out.say(format!("restore {}: {} volumes of {} for {}", p.run, p.volumes.len(), p.id, p.target.id));
    out.say(t.to_string());
    p.notes.iter().for_each(|n| out.note(n));
}

fn say_reply(r: &RestoreReply, out: Out) {
    out.object("restore", r);
    out.say(format!("{} of {}: {} steps{}", r.instance, r.id, r.steps.len(), if r.done { ", done" } else { "" }));
    for (n, s) in r.steps.iter().enumerate() {
        out.say(format!("{:>3}. {s}", n + 1));
    }
    r.notes.iter().for_each(|n| out.note(n));
    r.aside.iter().for_each(|d| out.say(format!("     kept aside: {}", d.display())));
}
