//! The local catalogue on plain directories; no root needed.

#[path = "support/job.rs"]
mod job;

use job::{backup, id, quiet, request};
use protocol::tags::{self, SetTags};
use protocol::{BrokenReason, Code, SCHEMA, Verdict, WallMs};
use std::fs;
use std::path::{Path, PathBuf};
use storage::Wanted;
use storage::catalogue::host::HostFile;
use storage::catalogue::retain::Policy;
use storage::catalogue::{Manifest, State, files, host, manifest, store};
use storage::layout::{Roots, read};
use storage::snapshot::fake::Fake;
use storage::snapshot::local::Local;
use storage::snapshot::{Plan, Snapshotter};

struct House {
    _dir: tempfile::TempDir,
    db: PathBuf,
    to: PathBuf,
}

fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let (db, to) = (dir.path().join("db"), dir.path().join("to"));
    fs::create_dir_all(db.join("sub")).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(db.join("IRIS.DAT"), vec![7u8; 50_000]).unwrap();
    fs::write(db.join("sub/journal"), b"journal").unwrap();
    std::os::unix::fs::symlink("IRIS.DAT", db.join("link")).unwrap();
    House { _dir: dir, db, to }
}

/// A set without data, as a backup of long ago left it.
fn old(to: &Path, n: u32, at: WallMs, verdict: Verdict) -> PathBuf {
    let plan = Fake::default().prepare(&request(n, &[], to)).unwrap();
    let mut t = SetTags::new(id(n));
    (t.frozen_at, t.verdict) = (Some(at), verdict);
    manifest::write(&plan.set, &Manifest::new(at, &t, &plan)).unwrap();
    plan.set
}
fn words(to: &Path) -> Vec<(String, &'static str)> {
    store::list(&[to.to_owned()]).unwrap().into_iter().map(|e| (e.name, e.state.word())).collect()
}

#[test]
fn verify_names_every_missing_extra_and_changed_file() {
    let h = house();
    let (plan, _, m) = backup(&Local::default(), &request(1, &[&h.db], &h.to));
    let report = files::verify(&plan.set, &m, &quiet).unwrap();
    assert!(report.good() && report.checksums);
    assert_eq!((report.files, report.bytes), (2, 50_007));

    let copy = plan.in_set(&h.db);
    let mut data = fs::read(copy.join("IRIS.DAT")).unwrap();
    data[25_000] ^= 1;
    fs::write(copy.join("IRIS.DAT"), data).unwrap();
    fs::remove_file(copy.join("sub/journal")).unwrap();
    fs::write(copy.join("sub/new"), b"x").unwrap();
    fs::remove_file(copy.join("link")).unwrap();
    std::os::unix::fs::symlink("elsewhere", copy.join("link")).unwrap();
    let report = files::verify(&plan.set, &m, &quiet).unwrap();
    let ends = |list: &[String], name: &str| list.len() == 1 && list[0].ends_with(name);
    assert!(ends(&report.missing, "sub/journal") && ends(&report.extra, "sub/new"), "{report:?}");
    let changed: Vec<_> = report.changed.iter().map(|(p, why)| (p.rsplit('/').next().unwrap(), why.as_str())).collect();
    assert_eq!(changed, [("IRIS.DAT", "other content"), ("link", "points elsewhere")]);

    // A list that was tampered with, or is not there, is not a basis for "good".
    let list = plan.set.join("files.jsonl");
    let text = fs::read_to_string(&list).unwrap();
    fs::write(&list, text.lines().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(files::verify(&plan.set, &m, &quiet).unwrap_err().problem().code, Code::CatalogueDamaged);
    fs::remove_file(&list).unwrap();
    assert!(files::verify(&plan.set, &m, &quiet).is_err());
}

#[test]
fn without_checksums_only_sizes_are_compared_and_that_is_said() {
    let h = house();
    let s = Local::default();
    let plan = s.prepare(&request(1, &[&h.db], &h.to)).unwrap();
    manifest::write(&plan.set, &Manifest::new(WallMs(1), &SetTags::new(id(1)), &plan)).unwrap();
    let taken = job::take(&s, &plan).unwrap();
    let finished = s.finish(&plan, false, &quiet).unwrap();
    let m = manifest::update(&plan.set, |m, _| (m.taken, m.finished) = (Some(taken), Some(finished))).unwrap();
    fs::write(plan.in_set(&h.db).join("IRIS.DAT"), vec![8u8; 50_000]).unwrap();
    let report = files::verify(&plan.set, &m, &quiet).unwrap();
    assert!(report.good() && !report.checksums);
    fs::write(plan.in_set(&h.db).join("IRIS.DAT"), b"short").unwrap();
    assert!(!files::verify(&plan.set, &m, &quiet).unwrap().good());
}

#[test]
fn the_manifest_speaks_the_tags_names_and_is_pending_until_it_is_settled() {
    let h = house();
    let s = Local::default();
    let plan = s.prepare(&request(1, &[&h.db], &h.to)).unwrap();
    let mut t = SetTags::new(id(1));
    t.host = "db01".into();
    manifest::write(&plan.set, &Manifest::new(WallMs(5), &t, &plan)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&fs::read(plan.set.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(json["tags"]["snapfreeze:verdict"], "pending");
    assert_eq!(json["tags"]["snapfreeze:host"], "db01");
    assert_eq!(json["tags"]["snapfreeze:backup-id"], id(1).to_string());
    assert!(json["tags"]["Name"].as_str().unwrap().ends_with("PENDING"));
    assert_eq!(words(&h.to), [(id(1).to_string(), "pending")], "a crash leaves it so");
    manifest::update(&plan.set, |_, t| t.verdict = Verdict::Broken(BrokenReason::HoldExpired)).unwrap();
    let (m, t) = manifest::read(&plan.set).unwrap();
    assert_eq!(m.tags["snapfreeze:reason"], "hold-expired");
    assert_eq!(t.verdict, Verdict::Broken(BrokenReason::HoldExpired));
    assert!(!plan.set.join(".manifest.json.new").exists());
}

#[test]
fn the_host_file_is_written_before_and_read_back() {
    let h = house();
    let layout = read(&Roots::host(), &[Wanted::new("database", &h.db)]).unwrap();
    let instances = serde_json::json!([{ "name": "IRIS", "databases": ["/d"], "namespaces": { "USER": "/d" }, "keys": ["id1"] }]);
    let file = HostFile::new(id(1), WallMs(1), "0.1.0", layout, instances);
    host::write(&h.to, &file).unwrap();
    assert_eq!(host::read(&h.to).unwrap(), file);
    assert!(file.system.contains("Linux") && file.layout.places[0].owner.is_some());
}

#[test]
fn nothing_that_lies_there_is_hidden() {
    let h = house();
    old(&h.to, 1, WallMs(10), Verdict::Held);
    let damaged = old(&h.to, 2, WallMs(20), Verdict::Held);
    fs::write(damaged.join("manifest.json"), b"{\"schema\":1,\"type\":\"snapfreeze-set\"").unwrap();
    let newer = old(&h.to, 3, WallMs(30), Verdict::Held);
    fs::write(newer.join("manifest.json"), format!(r#"{{"schema":{},"type":"snapfreeze-set","new":1}}"#, SCHEMA + 1)).unwrap();
    let moved = old(&h.to, 4, WallMs(40), Verdict::Held);
    fs::rename(&moved, h.to.join(id(5).to_string())).unwrap();
    let partial = old(&h.to, 6, WallMs(50), Verdict::Held);
    fs::write(partial.join("PARTIAL"), b"").unwrap();
    fs::create_dir(h.to.join(id(7).to_string())).unwrap();
    fs::create_dir(h.to.join("somebody")).unwrap();
    fs::write(h.to.join("file"), b"x").unwrap();
    let tags = old(&h.to, 8, WallMs(60), Verdict::Held);
    let text = fs::read_to_string(tags.join("manifest.json")).unwrap();
    fs::write(tags.join("manifest.json"), text.replace("\"held\"", "\"hold\"")).unwrap();

    let mut got = words(&h.to);
    got.sort();
    let mut want = vec![
        (id(1).to_string(), "held"),
        (id(2).to_string(), "damaged"),
        (id(3).to_string(), "newer"),
        (id(5).to_string(), "damaged"),
        (id(6).to_string(), "partial"),
        (id(7).to_string(), "damaged"),
        (id(8).to_string(), "damaged"),
        ("somebody".into(), "foreign"),
        ("file".into(), "foreign"),
    ];
    want.sort();
    assert_eq!(got, want);
    assert!(manifest::update(&newer, |_, _| {}).is_err(), "a newer set is never written");
    // Only the broken-off removal is finished; the last held set and everything doubtful stay.
    let p = Policy { keep_last: 1, pending_grace_ms: 0, broken_ms: 0, max_age_ms: Some(1), ..Policy::default() };
    let mut gone = Vec::new();
    store::prune(std::slice::from_ref(&h.to), &p, WallMs(9_000_000_000_000), &mut |e, _, r| {
        r.unwrap();
        gone.push(e.name.clone());
    })
    .unwrap();
    assert_eq!(gone, [id(6).to_string()]);
}

#[test]
fn sets_are_found_by_id_by_its_beginning_and_by_latest() {
    let h = house();
    let dirs = [h.to.clone()];
    assert_eq!(store::find(&dirs, "latest").unwrap_err().problem().code, Code::CatalogueUnknown);
    old(&h.to, 1, WallMs(10), Verdict::Held);
    old(&h.to, 2, WallMs(20), Verdict::Held);
    old(&h.to, 3, WallMs(30), Verdict::Broken(BrokenReason::Interrupted));
    assert_eq!(store::find(&dirs, "latest").unwrap().name, id(2).to_string(), "the newest held one");
    assert_eq!(store::find(&dirs, &id(3).to_string()).unwrap().name, id(3).to_string());
    assert_eq!(store::find(&dirs, "0197c4a2").unwrap_err().problem().code, Code::UsageInvalid, "ambiguous");
    assert!(store::find(&dirs, "0197").is_err());
    assert!(store::list(&[h.to.join("gone")]).is_err(), "a target that is not there is not an empty catalogue");
}

#[test]
fn prune_shows_first_then_deletes_and_heeds_a_persons_wish() {
    let h = house();
    let day = |n: i64| WallMs(1_700_000_000_000 + n * 86_400_000);
    let sets: Vec<PathBuf> = (0..6).map(|n| old(&h.to, n, day(n.into()), Verdict::Held)).collect();
    let dirs = [h.to.clone()];
    store::keep(&sets[0], day(400), "audit").unwrap();
    let p = Policy { keep_last: 2, ..Policy::default() };
    let plan = store::prune_plan(&dirs, &p, day(6)).unwrap();
    let doomed: Vec<_> = plan.iter().filter(|(_, d)| d.delete).map(|(e, _)| e.dir.clone()).collect();
    assert_eq!(doomed, [sets[3].clone(), sets[2].clone(), sets[1].clone()]);
    assert!(plan.iter().all(|(_, d)| !d.reason.is_empty()));
    assert!(sets.iter().all(|s| s.exists()), "the plan deletes nothing");
    let mut n = 0;
    store::prune(&dirs, &p, day(6), &mut |_, _, r| {
        r.unwrap();
        n += 1;
    })
    .unwrap();
    assert_eq!((n, words(&h.to).len()), (3, 3));
    let m = store::unkeep(&sets[0]).unwrap();
    assert!(!m.tags.contains_key(&format!("{}{}", tags::PREFIX, tags::name::KEEP_UNTIL)));
    store::prune(&dirs, &p, day(6), &mut |_, _, r| r.unwrap()).unwrap();
    assert_eq!(words(&h.to), [(id(5).to_string(), "held"), (id(4).to_string(), "held")]);
}

#[test]
fn a_fake_goes_through_the_same_steps_and_fails_where_it_is_told() {
    use storage::snapshot::fake::Step;
    let h = house();
    let (plan, taken, m): (Plan, _, _) = backup(&Fake { take_ms: 20, fails_at: None }, &request(1, &[&h.db], &h.to));
    assert!(taken.took_ms >= 20 && m.finished.is_some() && matches!(words(&h.to)[..], [(_, "held")]));
    Fake::default().abort(&plan).unwrap();
    assert!(words(&h.to).is_empty());
    for (n, step) in [Step::Prepare, Step::Take, Step::Finish].into_iter().enumerate() {
        let s = Fake { take_ms: 0, fails_at: Some(step) };
        let failed = s.prepare(&request(n as u32, &[&h.db], &h.to)).and_then(|plan| {
            let r = job::take(&s, &plan).and_then(|_| s.finish(&plan, true, &quiet));
            s.abort(&plan).unwrap();
            r
        });
        assert!(failed.unwrap_err().to_string().contains(&format!("{step:?}")));
        assert!(words(&h.to).is_empty());
    }
    let _ = State::Foreign;
}
