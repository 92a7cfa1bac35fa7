//! What the proof of a window rests on, and every way in which it must not hold.

use crate::{Rig, soon};
use engine::{Engine, Role};
use protocol::proof::{Disturbed, Known, Proof};
use protocol::wire::Frozen;

#[test]
fn a_mark_names_the_closed_journal_and_the_transaction_at_which_the_next_begins() {
    let Some(rig) = Rig::new("gtm: marks") else { return };
    let work = rig.work(1);
    let held = rig.freeze();
    let answer = rig.thaw(Some(&held));
    assert_eq!(answer.proof, Proof::good(), "{:?}", answer.evidence);
    work.stop();
    assert_eq!(held.marks.len(), 2);
    for mark in &held.marks {
        let closed = mark.switched.as_deref().unwrap();
        assert!(std::path::Path::new(closed).is_file());
        // The generation after it is the one that our thaw closed; its header says where it began.
        let live = &rig.db.regions.iter().find(|r| r.name == mark.region).unwrap().journal;
        let text = answer.evidence.join("\n");
        let line = text.lines().find(|l| l.contains(&format!("File {} is renamed", live.display()))).unwrap();
        let opened = line.rsplit(' ').next().unwrap();
        let out = rig.db.must(rig.db.mupip(&["journal", "-show=header", "-forward", opened])).unwrap();
        let said = format!("{}{}", out.err(), out.out());
        let begin = said.lines().find_map(|l| l.trim().strip_prefix("Begin Transaction")).unwrap();
        let begin: u64 = begin.split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(mark.offset, Some(begin), "{}", mark.region);
        assert!(said.contains(&format!("Prev journal file name {closed}")), "{said}");
    }
}

/// The negative control for `-noautorelease`: what a busy database does to a freeze that the engine may release.
#[test]
fn an_autorelease_is_never_proved() {
    let Some(rig) = Rig::new("gtm: autorelease") else { return };
    let held = rig.freeze();
    rig.thaw(Some(&held));
    rig.mupip(&["freeze", "-on", "-online", "-autorelease", "*"]);
    let answer = rig.thaw(Some(&held));
    assert_ne!(answer.proof, Proof::good(), "a freeze that may be released is not ours");
    // Until the engine has really let go.
    let work = rig.work(0);
    rig.mupip(&["freeze", "-on", "-online", "-autorelease", "*"]);
    let until = soon();
    while rig.db.frozen_flags().contains(&true) {
        assert!(doors::clock::boot_now() < until, "20 s of writing did not release it");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let answer = rig.thaw(Some(&held));
    assert_eq!((answer.frozen, answer.proof.frozen_before, answer.proof.released), (Frozen::No, Known::No, Known::No));
    // What mupip itself would have said.
    let out = rig.db.mupip(&["freeze", "-off", "*"]).unwrap();
    assert_eq!(out.code(), Some(120), "{}", out.err());
    assert!(out.err().contains("OFRZNOTHELD"));
    drop(work);
}

#[test]
fn a_busy_writer_does_not_end_our_freeze() {
    let Some(rig) = Rig::new("gtm: busy writer") else { return };
    let work = rig.work(0);
    let held = rig.freeze();
    work.take_longest_stall_ms();
    // Long enough for 256 buffers to fill, so that the writer waits.
    let until = soon();
    while work.stalled_for_ms() < 700 && doors::clock::boot_now() < until {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let asked = doors::clock::boot_now();
    assert_eq!(rig.engine.is_frozen(soon()), Frozen::Yes);
    let took = doors::clock::boot_now().since(asked);
    assert!(took < 2_000, "asking took {took} ms while the writer waits for the thaw");
    let answer = rig.thaw(Some(&held));
    assert_eq!(answer.proof, Proof::good(), "{:?}", answer.evidence);
    work.wait_for(20, 10_000).unwrap();
    println!("the writer stood still for {} ms", work.take_longest_stall_ms());
}

/// `%GTM-W-OFRZACTIVE`: only a freeze, a thaw or a full journal switches inside a window.
#[test]
fn the_engine_refuses_a_journal_switch_inside_a_window() {
    let Some(rig) = Rig::new("gtm: journal switch") else { return };
    let _work = rig.work(2);
    let held = rig.freeze();
    let out = rig.db.mupip(&["set", "-journal=enable,on,before", "-region", "ACC"]).unwrap();
    assert!(out.code() == Some(8) && out.err().contains("OFRZACTIVE"), "{}", out.err());
    assert_eq!(rig.thaw(Some(&held)).proof, Proof::good());
}

#[test]
fn a_region_without_journaling_is_said_before_and_never_proved() {
    let Some(rig) = Rig::new("gtm: no journaling") else { return };
    rig.mupip(&["set", "-journal=disable", "-region", "ACC"]);
    let facts = rig.engine.discover(soon()).unwrap();
    assert!(facts.checks.iter().any(|c| c.name == "journaling" && c.level == engine::Level::Fail));
    let held = rig.freeze();
    assert!(held.warnings.iter().any(|w| w.contains("ACC")), "{:?}", held.warnings);
    let answer = rig.thaw(Some(&held));
    assert_eq!(answer.frozen, Frozen::No);
    assert_ne!(answer.proof, Proof::good());
    assert!(matches!(answer.proof.alone, Err(Disturbed::Unreadable(_))));
}

#[test]
fn discover_and_layout_name_all_that_there_is() {
    let Some(rig) = Rig::new("gtm: discover") else { return };
    assert_eq!(rig.engine.discover(soon()).unwrap().buffers_last_ms, None, "nobody writes");
    let _work = rig.work(1);
    let facts = rig.engine.discover(soon()).unwrap();
    assert!(facts.version.starts_with("GT.M V"), "{}", facts.version);
    assert_eq!((facts.running, facts.has_suspend_limit, &facts.frozen), (true, false, &Frozen::No));
    assert_eq!(facts.journaling, Some(engine::Journaling::Normal));
    println!("buffers last {:?} ms", facts.buffers_last_ms);
    let places = rig.engine.layout(soon()).unwrap();
    let of = |role: Role| places.iter().filter(|p| p.role == role).map(|p| p.path.clone()).collect::<Vec<_>>();
    assert_eq!(of(Role::Cpf), [rig.db.gld()]);
    assert_eq!(of(Role::Database).len(), 2);
    assert_eq!(of(Role::Journal), [rig.db.dir.join("jnl")]);
}
