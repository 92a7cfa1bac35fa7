//! `backup --dry-run`: everything up to the freeze, and what would then be done.

use super::progress::{Progress, hosts, names};
use crate::cloud::Cloud;
use crate::out::{Out, table, worst};
use crate::say::when;
use coordinator::admit::taken;
use coordinator::drive::{Until, World};
use coordinator::ports::{Disks, Hosts};
use coordinator::saga::Inspected;
use coordinator::{Order, Phase, Saga, marks};
use futures_util::future::join_all;
use protocol::code::exit;
use serde_json::{Value, json};

const INSPECT: Until = Until { phases: &[Phase::Inspect], stop_by: None };

pub async fn show<H: Hosts, D: Disks>(cloud: &Cloud<H, D>, orders: Vec<Order>, out: Out) -> u8 {
    let progress = Progress::new(out);
    let told = |saga: &Saga, step: &coordinator::Step| progress.step(saga, step);
    let world = World { hosts: &cloud.hosts, disks: &cloud.disks, clock: &cloud.clock, told: &told };
    let world = &world;
    let sagas = join_all(orders.into_iter().map(|order| async move {
        let mut saga = Saga::new(order);
        world.run(&mut saga, INSPECT).await;
        saga
    }))
    .await;
    sagas.iter().for_each(|s| progress.done(s));
    worst(sagas.iter().map(|s| one(s, out)))
}

fn one(saga: &Saga, out: Out) -> u8 {
    if let Some(p) = &saga.problem {
        out.object("plan", &json!({ "id": saga.order.id, "hosts": hosts(saga), "problem": p }));
        out.say(format!("REFUSED  {}", names(saga)));
        if !out.json {
            out.problem(p);
        }
        return p.code.exit();
    }
    let p = &saga.order.policy;
    let members: Vec<Value> = saga.members.iter().enumerate().map(|(i, m)| member(saga, i, m.plan.as_ref())).collect();
    let slot = saga.resume_at.unwrap_or(saga.order.slot);
    out.object(
        "plan",
        &json!({ "id": saga.order.id, "hosts": hosts(saga), "policy": p.name, "hold_ms": p.hold.ms(), "slot": slot, "members": members }),
    );
    out.say(format!("READY  {}  policy {}, hold {} ms, not before {}", names(saga), p.name, p.hold.ms(), when(slot)));
    let mut t = table(["", "HOST", "VOLUME", "DEVICE", "SIZE", "KIND", "MOUNTS", "ROLES"]);
    for (m, plan) in saga.members.iter().filter_map(|m| Some((m, m.plan.as_ref()?))) {
        let set: Vec<&str> = taken(&saga.order, plan).map(|v| v.volume.as_str()).collect();
        out.say(format!(
            "  {}: {} on {}, an order takes {} ms to the host and back",
            m.target.id,
            plan.facts.instances.iter().map(|i| i.instance.as_str()).collect::<Vec<_>>().join(", "),
            plan.facts.host,
            plan.hop_ms
        ));
        for v in &plan.look.volumes {
            let on_host = plan.facts.volumes.iter().find(|f| f.volume == v.key);
            t.add_row([
                if set.contains(&v.volume.as_str()) { "take" } else { "leave" },
                &m.target.id,
                &v.volume,
                &v.device,
                &format!("{} GiB", v.size_gib),
                &v.kind,
                &on_host.map(|h| h.mounts.join(",")).unwrap_or_default(),
                &on_host.map(|h| h.roles.join(",")).unwrap_or_default(),
            ]);
        }
    }
    out.say(t.to_string());
    out.say("  tags in the snapshot call, beside what the freeze tells:");
    for (k, v) in marks::at_freeze(saga, 0) {
        out.say(format!("    {k} = {v}"));
    }
    out.say("nothing was frozen, nothing was changed");
    exit::DONE
}

fn member(saga: &Saga, i: usize, plan: Option<&Inspected>) -> Value {
    let set: Vec<&str> = plan.map(|p| taken(&saga.order, p).map(|v| v.volume.as_str()).collect()).unwrap_or_default();
    json!({
        "host": saga.members[i].target, "hop_ms": plan.map(|p| p.hop_ms), "facts": plan.map(|p| &p.facts),
        "volumes": plan.map(|p| &p.look.volumes), "taken": set, "tags": marks::at_freeze(saga, i),
    })
}
