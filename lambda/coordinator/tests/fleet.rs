//! Ten thousand hosts on the simulated clock, with EC2's token bucket of 100 calls and 5 a second, of which other traffic takes
//! half: with start slots no snapshot call is throttled inside a window, and the run takes what the bucket takes.

use coordinator::act::Action;
use coordinator::drive::World;
use coordinator::fake::{Bucket, Host, Sim};
use coordinator::ops::{Run, orders};
use coordinator::ports::Clock;
use coordinator::saga::Saga;
use coordinator::{Order, Policy};
use protocol::WallMs;
use serde_json::json;
use std::cell::RefCell;

const START: WallMs = WallMs(1_764_000_000_000);
const HOSTS: usize = 10_000;
/// EC2 User Guide, "Request throttling for the Amazon EC2 API".
const SIZE: u64 = 100;
const PER_S: u64 = 5;

struct Outcome {
    hosts: usize,
    held: usize,
    throttled_inside: usize,
    throttled: usize,
    calls: usize,
    /// From the first to the last snapshot call.
    took_ms: i64,
    /// All sagas as text at once: what a coordinator that drives the whole fleet keeps.
    bytes: usize,
}

fn run(hosts: usize, slots: bool) -> Outcome {
    let sim = Sim::new(START);
    for n in 0..hosts {
        let mut h = Host::new(&format!("i-{n:05}"));
        h.tags.insert("snapfreeze".into(), "nightly".into());
        // Ways of 0.2 to 2.6 s, the same in every run.
        h.there_ms = 200 + (n as u64 * 7_919) % 2_400;
        h.back_ms = 200 + (n as u64 * 104_729) % 1_000;
        sim.add(h);
    }
    sim.limit(Bucket::full(SIZE, PER_S * 1_000, PER_S * 500, START));
    let policy: Policy = serde_json::from_value(json!({ "name": "nightly", "select": { "tags": { "snapfreeze": "nightly" } },
        "hold": "60s", "rate_percent": 50 }))
    .unwrap();
    let how = Run { execution: "run-1", nonce: "one", started: START, cloud: coordinator::Cloud::Ebs };
    let mut all: Vec<Order> = sim.run(orders(&sim, &policy, &how)).unwrap();
    assert_eq!(all.len(), hosts);
    if !slots {
        all.iter_mut().for_each(|o| o.slot = START);
    }
    let bytes: RefCell<usize> = RefCell::new(0);
    let held: RefCell<usize> = RefCell::new(0);
    let one = |order: Order| {
        let (sim, bytes, held) = (sim.clone(), &bytes, &held);
        async move {
            let mut saga = Saga::new(order);
            let world = World { hosts: &sim, disks: &sim, clock: &sim, told: &|_, _| {} };
            world.act(Action::Admit, &mut saga, None).await;
            *bytes.borrow_mut() += serde_json::to_string(&saga).unwrap().len();
            world.act(Action::Backup, &mut saga, None).await;
            *held.borrow_mut() += usize::from(saga.result().is_ok());
        }
    };
    sim.run_all(all.into_iter().map(|o| Box::pin(one(o)) as std::pin::Pin<Box<dyn Future<Output = ()>>>).collect());
    let calls = sim.calls();
    let at = || calls.iter().map(|c| c.at.0);
    assert!(sim.now() > START);
    Outcome {
        hosts,
        held: held.take(),
        throttled_inside: calls.iter().filter(|c| c.throttled && c.frozen).count(),
        throttled: calls.iter().filter(|c| c.throttled).count(),
        calls: calls.len(),
        took_ms: at().max().unwrap() - at().min().unwrap(),
        bytes: bytes.take(),
    }
}

/// `VmHWM` of this process, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn with_slots_no_call_of_ten_thousand_is_throttled_inside_a_window() {
    let o = run(HOSTS, true);
    let mib = |b: usize| b / (1 << 20);
    assert_eq!((o.calls, o.throttled, o.throttled_inside, o.held), (o.hosts, 0, 0, o.hosts));
    // Half of 5 a second: 10,000 calls need 4,000 s.
    let limit = o.hosts as f64 / (PER_S as f64 / 2.0);
    let ratio = o.took_ms as f64 / 1000.0 / limit;
    println!(
        "{} hosts: {} s, {ratio:.4} of the bucket's own limit, sagas {} MiB, peak with the whole simulated fleet {} MiB",
        o.hosts,
        o.took_ms / 1000,
        mib(o.bytes),
        mib(peak())
    );
    assert!((0.99..1.02).contains(&ratio), "{ratio}");
    assert!(mib(o.bytes) < 64 && mib(peak()) <= 256, "{} {}", mib(o.bytes), mib(peak()));
}

#[test]
fn the_control_without_slots_calls_are_throttled_inside_windows() {
    let o = run(1_000, false);
    println!("without slots: {} of {} calls throttled, {} inside a window, {} held", o.throttled, o.calls, o.throttled_inside, o.held);
    assert!(o.throttled_inside > 500 && o.held < 500);
}
