use super::*;
use crate::ports::MadeVolume;
use std::sync::Mutex;

fn set(verdict: Verdict, state: State) -> Set {
    let id: BackupId = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap();
    let one = |n: u32, host: &str, volume: &str| {
        let tags = SetTags {
            verdict: verdict.clone(),
            host: host.into(),
            set_size: 3,
            mount: format!("/m{n}"),
            volume: volume.into(),
            ..SetTags::new(id)
        };
        let snapshot = format!("snap-{n}");
        let tags_on = protocol::tags::to_tags(&tags);
        Snapshot { snapshot, volume: format!("vol-{n}"), started: WallMs(1), state, progress: 100, size_gib: 8, tags: tags_on }
    };
    let all = vec![
        one(1, "db1", "vol-1 gp3 100GiB 4000iops 250MiB/s"),
        one(2, "db1", "vol-2 io2 8GiB 9000iops"),
        one(3, "db2", "/subscriptions/x PremiumV2_LRS 128GiB 3000iops 125MB/s caching=None zone=2"),
    ];
    crate::sets::read(all).sets.remove(0)
}

fn target() -> Target {
    Target { id: "i-9".into(), name: String::new() }
}

fn berth(taken: &[&str]) -> Berth {
    Berth { place: "z1".into(), taken: taken.iter().map(ToString::to_string).collect() }
}

fn wish() -> Wish {
    Wish { host: Some("db1".into()), ..Wish::default() }
}

#[test]
fn volumes_are_made_as_they_were_and_attached_where_nothing_is() {
    let held = set(Verdict::Held, State::Completed);
    let p = plan(Cloud::Ebs, &held, &target(), &berth(&["/dev/xvda", "/dev/sdf", "xvdg"]), &wish()).unwrap();
    let devices: Vec<&str> = p.volumes.iter().map(|v| v.device.as_str()).collect();
    assert_eq!(devices, ["/dev/sdh", "/dev/sdi"], "sdf and xvdf are one device");
    let kind = |n: usize| p.volumes[n].new.kind.clone();
    assert_eq!(kind(0), Kind { name: "gp3".into(), iops: Some(4000), throughput: Some(250), caching: String::new() });
    assert_eq!(kind(1), Kind { name: "io2".into(), iops: Some(9000), throughput: None, caching: String::new() });
    let azure =
        plan(Cloud::Azure, &held, &target(), &berth(&["lun:0", "os"]), &Wish { host: Some("db2".into()), ..Wish::default() }).unwrap();
    assert_eq!((azure.volumes[0].device.as_str(), azure.volumes[0].new.kind.caching.as_str()), ("lun:1", "None"));
    assert_eq!(azure.volumes[0].new.kind.throughput, Some(125));
    // What the host is told is the set, and no volume of it.
    let told: std::collections::BTreeMap<String, String> = serde_json::from_str(&protocol::answer::from_word(&p.set).unwrap()).unwrap();
    let told = protocol::tags::from_tags(&told).unwrap();
    assert_eq!((told.backup_id, told.verdict, told.mount.as_str()), (held.id, Verdict::Held, ""));
    // The same again is the same run; another word, host or set is another.
    let run = |wish: &Wish, id: &str| {
        let t = Target { id: id.into(), name: String::new() };
        plan(Cloud::Ebs, &held, &t, &berth(&[]), wish).unwrap().run
    };
    assert_eq!(run(&wish(), "i-9"), run(&wish(), "I-9"));
    assert_ne!(run(&wish(), "i-9"), run(&Wish { again: "2".into(), ..wish() }, "i-9"));
    assert_ne!(run(&wish(), "i-9"), run(&wish(), "i-8"));
    let full: Vec<String> = (0..64).map(|n| format!("lun:{n}")).collect();
    let full = Berth { place: "z".into(), taken: full };
    assert_eq!(plan(Cloud::Azure, &held, &target(), &full, &wish()).unwrap_err().code, Code::RestoreImpossible);
}

#[test]
fn what_is_not_held_is_refused_unless_told_and_what_is_not_complete_always() {
    let of = |s: &Set, even| plan(Cloud::Ebs, s, &target(), &berth(&[]), &Wish { even_if_not_held: even, ..wish() });
    let broken = set(Verdict::Broken(protocol::BrokenReason::SnapshotFailed("x".into())), State::Completed);
    for s in [broken, set(Verdict::Pending, State::Completed)] {
        let e = of(&s, false).unwrap_err();
        assert!(e.code == Code::RestoreImpossible && e.next.contains("--even-if-not-held"), "{e:?}");
        let p = of(&s, true).unwrap();
        assert!(!p.held && p.notes[0].contains("nobody vouches"), "{:?}", p.notes);
    }
    // A snapshot is gone, and the others still say held: the host is told otherwise, so that no restore of it ends with 0.
    let mut partial = set(Verdict::Held, State::Completed);
    let left: Vec<Snapshot> = partial.snapshots.drain(1..).map(|(s, _)| s).collect();
    let partial = crate::sets::read(left).sets.remove(0);
    assert!(of(&partial, false).is_err());
    let told = |p: &Plan| {
        let map = serde_json::from_str(&protocol::answer::from_word(&p.set).unwrap()).unwrap();
        protocol::tags::from_tags(&map).unwrap().verdict
    };
    assert!(matches!(told(&of(&partial, true).unwrap()), Verdict::Broken(_)));
    assert_eq!(told(&of(&set(Verdict::Held, State::Completed), true).unwrap()), Verdict::Held, "the control");
    for even in [false, true] {
        let e = of(&set(Verdict::Held, State::Pending), even).unwrap_err();
        assert!(e.detail.contains("being completed"), "{e:?}");
        let e = of(&set(Verdict::Held, State::Failed), even).unwrap_err();
        assert_eq!(e.code, Code::RestoreImpossible, "{e:?}");
    }
    let held = set(Verdict::Held, State::Completed);
    let e = plan(Cloud::Ebs, &held, &target(), &berth(&[]), &Wish::default()).unwrap_err();
    assert!(e.code == Code::UsageInvalid && e.next.contains("db1, db2"), "{e:?}");
}

type There = (String, Option<String>, u32, u32);

/// Volumes that take two looks to be made, and two to be attached. `fail_at`: the answer of that call is lost, after it was done.
#[derive(Default)]
struct Fake {
    calls: Mutex<u32>,
    fail_at: u32,
    /// Snapshot, device, looks since it was made, looks since it was attached.
    there: Mutex<Vec<There>>,
    made: Mutex<u32>,
    attached: Mutex<u32>,
}

impl Fake {
    fn lost(&self) -> Result<(), Problem> {
        let mut n = self.calls.lock().unwrap();
        *n += 1;
        if *n == self.fail_at { Err(Problem::new(Code::CloudRefused, "lost")) } else { Ok(()) }
    }
}

impl Volumes for Fake {
    async fn berth(&self, _: &Target) -> Result<Berth, Problem> {
        Ok(berth(&[]))
    }
    async fn made(&self, _: &Plan) -> Result<Vec<MadeVolume>, Problem> {
        self.lost()?;
        let mut there = self.there.lock().unwrap();
        let of = |(snapshot, device, looks, since): &mut There| {
            *looks += 1;
            *since += u32::from(device.is_some());
            let state = match (&device, *looks, *since) {
                (Some(_), _, 0..2) => VolumeState::Attaching,
                (Some(_), ..) => VolumeState::Attached,
                (None, 0..2, _) => VolumeState::Making,
                (None, ..) => VolumeState::Ready,
            };
            MadeVolume { volume: format!("v-{snapshot}"), snapshot: snapshot.clone(), state, device: device.clone() }
        };
        Ok(there.iter_mut().map(of).collect())
    }
    async fn make(&self, _: &Target, p: &Planned) -> Result<String, Problem> {
        let mut there = self.there.lock().unwrap();
        if !there.iter().any(|t| t.0 == p.new.snapshot) {
            there.push((p.new.snapshot.clone(), None, 0, 0));
            *self.made.lock().unwrap() += 1;
        }
        self.lost().map(|()| format!("v-{}", p.new.snapshot))
    }
    async fn attach(&self, _: &Target, volumes: &[(Planned, String)]) -> Result<(), Problem> {
        let mut there = self.there.lock().unwrap();
        for (p, _) in volumes {
            let t = there.iter_mut().find(|t| t.0 == p.new.snapshot).expect("made before");
            if t.1.is_none() {
                t.1 = Some(p.device.clone());
                *self.attached.lock().unwrap() += 1;
            }
        }
        self.lost()
    }
    fn key(&self, p: &Planned, _: &str) -> String {
        p.device.clone()
    }
}

struct Now(Mutex<i64>);
impl Clock for Now {
    fn now(&self) -> WallMs {
        WallMs(*self.0.lock().unwrap())
    }
    async fn sleep_until(&self, at: WallMs) {
        *self.0.lock().unwrap() = at.0;
    }
}

fn block<T>(f: impl Future<Output = T>) -> T {
    let mut f = std::pin::pin!(f);
    let waker = std::task::Waker::noop();
    loop {
        if let std::task::Poll::Ready(t) = f.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            return t;
        }
    }
}

#[test]
fn a_run_that_ends_after_any_call_goes_on_and_makes_nothing_twice() {
    let p = plan(Cloud::Ebs, &set(Verdict::Held, State::Completed), &target(), &berth(&[]), &wish()).unwrap();
    let clock = Now(Mutex::new(0));
    let calls = {
        let world = Fake::default();
        block(bring(&p, &world, &clock, &|_, _| {})).unwrap();
        *world.calls.lock().unwrap()
    };
    assert!(calls >= 6, "{calls}");
    for fail_at in 1..=calls {
        let world = Fake { fail_at, ..Fake::default() };
        assert!(block(bring(&p, &world, &clock, &|_, _| {})).is_err(), "call {fail_at}");
        let keys = block(bring(&p, &world, &clock, &|_, _| {})).unwrap();
        assert_eq!(keys, ["/dev/sdf", "/dev/sdg"], "call {fail_at}");
        assert_eq!((*world.made.lock().unwrap(), *world.attached.lock().unwrap()), (2, 2), "call {fail_at}");
    }
}

#[test]
fn a_volume_that_somebody_attached_elsewhere_stops_it() {
    struct Elsewhere;
    impl Volumes for Elsewhere {
        async fn berth(&self, _: &Target) -> Result<Berth, Problem> {
            Ok(berth(&[]))
        }
        async fn made(&self, p: &Plan) -> Result<Vec<MadeVolume>, Problem> {
            let one = |v: &Planned| MadeVolume {
                volume: "v".into(),
                snapshot: v.new.snapshot.clone(),
                state: VolumeState::Elsewhere("i-5".into()),
                device: None,
            };
            Ok(p.volumes.iter().map(one).collect())
        }
        async fn make(&self, _: &Target, _: &Planned) -> Result<String, Problem> {
            panic!("it is there")
        }
        async fn attach(&self, _: &Target, _: &[(Planned, String)]) -> Result<(), Problem> {
            panic!("not taken from another host")
        }
        fn key(&self, _: &Planned, _: &str) -> String {
            String::new()
        }
    }
    let p = plan(Cloud::Ebs, &set(Verdict::Held, State::Completed), &target(), &berth(&[]), &wish()).unwrap();
    let e = block(bring(&p, &Elsewhere, &Now(Mutex::new(0)), &|_, _| {})).unwrap_err();
    assert!(e.detail.contains("attached to i-5"), "{e:?}");
}

#[test]
fn values_that_cross_a_cloud_are_plain() {
    let wish = HostWish { until: "20261127.001".into(), without_wij: true, everything: true, even_if_not_held: false };
    let steps = [
        HostStep::Mount { volumes: vec!["lun:3".into(), "vol-1".into()], set: "aZ-_9".into() },
        HostStep::Plan(wish.clone()),
        HostStep::Run(wish),
        HostStep::Unmount,
    ];
    for s in steps {
        for (name, v) in s.values() {
            assert!(!v.is_empty() && v.bytes().all(|b| b.is_ascii_alphanumeric() || b" _.:-".contains(&b)), "{name}: {v}");
        }
    }
}
