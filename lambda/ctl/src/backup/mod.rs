//! `backup`: the saga, whole, from a terminal. `run` drives one, `store` keeps it on disk, `stop` hears Ctrl-C.

mod plan;
mod progress;
mod run;
mod stop;
mod store;

use crate::cli::{Backup, Common};
use crate::cloud::{Cloud, Kind, May, machine};
use crate::on;
use crate::out::{Out, usage, worst};
use crate::policy::{self, Wishes};
use coordinator::ops::{Run, orders};
use coordinator::ports::{Clock, Disks, Fleet, Hosts};
use coordinator::saga::{Freeze, Thaw};
use coordinator::{Order, Policy, Saga, Target};
use futures_util::future::join_all;
use progress::{Progress, hosts, names};
use protocol::code::exit;
use protocol::wire::Problem;
use protocol::{Verdict, Window};
use run::{Driver, End};
use serde_json::json;
use std::collections::BTreeSet;
use stop::Stop;
use store::{Place, Store, Stored};

pub async fn backup(kind: Kind, common: &Common, args: &Backup, out: Out) -> Result<u8, Problem> {
    if args.dry_run {
        return on!(kind, common, May::Read, |cloud| {
            let orders = ordered(&cloud, common, args).await?;
            Ok(plan::show(&cloud, orders, out).await)
        });
    }
    let store = Store::open(store::default_dir()?)?;
    let Some(id) = args.resume else {
        return on!(kind, common, May::Change, |cloud| start(&cloud, common, args, &store, out).await);
    };
    let lock = store.lock(id)?;
    let stored = store.read(id)?;
    // Where it belongs, so that nothing else need be said.
    let place = stored.place.clone();
    let common = Common {
        region: common.region.clone().or(place.region),
        profile: common.profile.clone().or(place.profile),
        subscription: common.subscription.clone().or(place.subscription),
        resource_group: common.resource_group.clone().or(place.resource_group),
        ..common.clone()
    };
    let code = on!(place.cloud, &common, May::Change, |cloud| resume(&cloud, &common, args, &store, stored, out).await);
    drop(lock);
    code
}

async fn start<H: Hosts, D: Disks + Fleet>(
    cloud: &Cloud<H, D>,
    common: &Common,
    args: &Backup,
    store: &Store,
    out: Out,
) -> Result<u8, Problem> {
    for id in store.abandoned() {
        out.note(format!("backup {id} was begun and never ended; run: snapfreezectl backup --resume {id}"));
    }
    let orders = ordered(cloud, common, args).await?;
    let locks: Vec<std::fs::File> = orders.iter().map(|o| store.lock(o.id)).collect::<Result<_, _>>()?;
    let (stop, progress) = (Stop::listen(out)?, Progress::new(out));
    let driver = driver(cloud, common, args, store, &stop, &progress);
    let ends = join_all(orders.into_iter().map(|o| driver.run(Saga::new(o)))).await;
    drop(locks);
    Ok(worst(ends.iter().map(|e| tell(e, out))))
}

async fn resume<H: Hosts, D: Disks>(
    cloud: &Cloud<H, D>,
    common: &Common,
    args: &Backup,
    store: &Store,
    stored: Stored,
    out: Out,
) -> Result<u8, Problem> {
    let (stop, progress) = (Stop::listen(out)?, Progress::new(out));
    let end = driver(cloud, common, args, store, &stop, &progress).resume(stored.saga).await;
    Ok(tell(&end, out))
}

fn driver<'a, H, D>(
    cloud: &'a Cloud<H, D>,
    common: &Common,
    args: &Backup,
    store: &'a Store,
    stop: &'a Stop,
    progress: &'a Progress,
) -> Driver<'a, H, D, common::WallClock> {
    let place = Place {
        cloud: cloud.kind,
        region: common.region.clone(),
        profile: common.profile.clone(),
        subscription: common.subscription.clone(),
        resource_group: common.resource_group.clone(),
    };
    Driver { hosts: &cloud.hosts, disks: &cloud.disks, clock: &cloud.clock, store, stop, progress, place, no_wait: args.no_wait }
}

/// One order per host, group or mirror; with `--instance` and a policy, only those that contain one of them.
async fn ordered<H, D: Fleet>(cloud: &Cloud<H, D>, common: &Common, args: &Backup) -> Result<Vec<Order>, Problem> {
    let wishes = Wishes { cloud: Some(cloud.kind.into()), hold: args.hold.as_deref(), held_by: args.held_by.map(Into::into) };
    let instances: Vec<String> = match cloud.kind {
        Kind::Aws => args.instances.clone(),
        Kind::Azure => args.instances.iter().map(|i| machine(common, i)).collect::<Result<_, _>>()?,
    };
    let policy: Policy = match &args.policy {
        Some(file) => policy::read(file, wishes)?,
        None => policy::manual(&instances, wishes)?,
    };
    let nonce = uuid::Uuid::new_v4().to_string();
    let execution = format!("snapfreezectl {nonce}");
    let run = Run { execution: &execution, nonce: &nonce, started: cloud.clock.now(), cloud: cloud.kind.into() };
    let mut orders = orders(&cloud.disks, &policy, &run).await?;
    if !instances.is_empty() {
        // Azure's ids are the same in any case; EC2's have only one.
        let same = |t: &Target, id: &str| t.id.eq_ignore_ascii_case(id);
        orders.retain(|o| o.targets.iter().any(|t| instances.iter().any(|i| same(t, i))));
        let there = |id: &&str| orders.iter().flat_map(|o| &o.targets).any(|t| same(t, id));
        let missing: Vec<&str> = instances.iter().map(String::as_str).filter(|i| !there(i)).collect();
        if !missing.is_empty() {
            let detail = format!("policy {} does not select {}, or there is no such instance there", policy.name, missing.join(", "));
            return Err(usage(detail).next("snapfreezectl backup --policy FILE --dry-run shows what it selects"));
        }
    }
    Ok(orders)
}

/// What became of one backup; its exit code.
fn tell(end: &End, out: Out) -> u8 {
    let saga = &end.saga;
    let result = end.result();
    let code = result.as_ref().map_or_else(|p| p.code.exit(), |()| exit::DONE);
    let (state, reason) = match &saga.verdict {
        None => ("none", None),
        Some(Verdict::Held) if saga.phase == coordinator::Phase::Complete => ("completing", None),
        Some(v @ (Verdict::Held | Verdict::Pending)) => (v.word(), None),
        Some(Verdict::Broken(why)) => ("broken", Some(why.to_string())),
    };
    let window_ms = windows(saga).map(|w| w.window_ms).max();
    let restore_from = journals(saga);
    let made = saga.made();
    out.object(
        "backup",
        &json!({
            "id": saga.order.id, "policy": saga.order.policy.name, "hosts": hosts(saga), "state": state, "reason": reason, "exit": code,
            "window_ms": window_ms, "restore_from": restore_from, "snapshots": made, "notes": saga.notes, "problem": result.as_ref().err(),
            "left_frozen": saga.left_frozen().map(|(t, _)| &t.id).collect::<Vec<_>>(),
        }),
    );
    let window = window_ms.map(|ms| format!("  window {ms} ms")).unwrap_or_default();
    let size = match made.len() {
        0 => String::new(),
        1 => "  1 snapshot".into(),
        n => format!("  {n} snapshots"),
    };
    out.say(format!("{}  {}  {}{window}{size}", state.to_uppercase(), saga.order.id, names(saga)));
    for j in &restore_from {
        out.say(format!("  restore from {j}"));
    }
    for n in &saga.notes {
        out.note(format!("  {n}"));
    }
    for (target, p) in saga.left_frozen() {
        out.note(format!("LEFT FROZEN: {}: {}; on it: sudo snapfreeze thaw", target.id, p.detail));
    }
    if state == "completing" {
        out.say(format!("  its copies are being made; snapfreezectl backup --resume {} waits for them", saga.order.id));
    }
    if let (Err(p), false) = (&result, out.json) {
        out.problem(p);
    }
    code
}

fn windows(saga: &Saga) -> impl Iterator<Item = &Window> {
    saga.members.iter().filter_map(|m| if let Thaw::Confirmed { window: Some(w) } = &m.thaw { Some(w.as_ref()) } else { None })
}

/// As the windows tell them, or the freeze replies.
fn journals(saga: &Saga) -> BTreeSet<String> {
    let replies =
        saga.members.iter().filter_map(|m| if let Freeze::Frozen { reply, .. } = &m.freeze { Some(&reply.instances) } else { None });
    let marks = windows(saga).map(|w| &w.marks).chain(replies).flatten();
    marks.flat_map(|i| &i.marks).filter_map(|m| m.restore_from().map(str::to_owned)).collect()
}
