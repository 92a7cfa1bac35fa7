//! How long each call takes on this machine. Printed, not judged: figures are for `make bench`.

use crate::{Rig, soon};
use doors::clock::boot_now_us;
use engine::Engine;

fn line(name: &str, mut us: Vec<u64>) {
    us.sort_unstable();
    let at = |p: usize| us[(us.len() - 1) * p / 100] as f64 / 1000.0;
    println!("{name}: n={} p50={:.1} ms p90={:.1} ms max={:.1} ms", us.len(), at(50), at(90), at(100));
}

#[test]
fn times_of_every_call() {
    let Some(rig) = Rig::new("gtm: times") else { return };
    let _work = rig.work(2);
    let mut times: Vec<(&str, Vec<u64>)> = ["ask", "freeze", "ask frozen", "thaw", "dumpfhead", "mupip off (bare)", "mupip on (bare)"]
        .iter()
        .map(|n| (*n, Vec::new()))
        .collect();
    let mut time = |i: usize, f: &mut dyn FnMut()| {
        let from = boot_now_us();
        f();
        times[i].1.push(boot_now_us() - from);
    };
    for _ in 0..15 {
        let mut held = None;
        time(0, &mut || assert_eq!(rig.engine.is_frozen(soon()), protocol::wire::Frozen::No));
        time(1, &mut || held = Some(rig.freeze()));
        time(2, &mut || assert_eq!(rig.engine.is_frozen(soon()), protocol::wire::Frozen::Yes));
        time(3, &mut || assert_eq!(rig.thaw(held.as_ref()).proof, protocol::Proof::good()));
        time(4, &mut || rig.mupip(&["dumpfhead", "-region", "*"]));
        time(6, &mut || rig.mupip(&["freeze", "-on", "-online", "-noautorelease", "*"]));
        time(5, &mut || rig.mupip(&["freeze", "-off", "*"]));
    }
    for (name, us) in times {
        line(name, us);
    }
}
