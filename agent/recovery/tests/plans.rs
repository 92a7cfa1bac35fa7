//! What every plan keeps to, and what each lack is told by.

use protocol::{BackupId, JournalMark, Verdict};
use recovery::facts::KeptDatabase;
use recovery::{Action, Database, Found, JournalFile, Kept, KeptFile, Missing, Plan, Room, Scope, Until, WijUse, Wish, plan};
use std::path::{Path, PathBuf};

fn file(was: &str) -> KeptFile {
    KeptFile { copy: format!("/set/data{was}").into(), was: was.into(), size: 1000, sha256: Some("00".repeat(32)) }
}

fn kept() -> Kept {
    let db = |name: &str, dir: &str| KeptDatabase {
        name: name.into(),
        dir: dir.into(),
        namespaces: if name == "IRISSYS" { vec!["%SYS".into()] } else { vec![name.into()] },
        files: vec![file(&format!("{dir}/IRIS.DAT"))],
    };
    Kept {
        id: BackupId::from_uuid(uuid::Uuid::from_u128(7)),
        verdict: Verdict::Held,
        engine: "iris".into(),
        engine_version: "IRIS for UNIX (x86-64) 2024.1 (Build 263U)".into(),
        instance: "IRIS".parse().unwrap(),
        guid: "G".into(),
        mirror: String::new(),
        frozen_at: None,
        marks: vec![JournalMark {
            switched: Some("/j1/20261127.003".into()),
            required: Some("/j1/20261127.002".into()),
            ..JournalMark::default()
        }],
        databases: vec![db("IRISSYS", "/iris/mgr"), db("T1", "/data/t1"), db("T2", "/data/t2")],
        wij: vec![file("/wij/IRIS.WIJ")],
        journals: vec![file("/j1/20261127.002"), file("/j1/20261127.003")],
        others: vec![],
        has_keys: false,
    }
}

fn journal(name: &str) -> JournalFile {
    JournalFile { path: format!("/j1/{name}").into(), size: 5000 }
}

fn found() -> Found {
    let db = |name: &str, dir: &str| Database {
        name: name.into(),
        dir: dir.into(),
        namespaces: if name == "IRISSYS" { vec!["%SYS".into()] } else { vec![name.into()] },
        journaled: Some(true),
    };
    Found {
        running: false,
        status: "down, last used Fri Nov 27 10:00:00 2026".into(),
        installed: true,
        version: "2024.1.0.263.0".into(),
        guid: String::new(),
        mirror: String::new(),
        databases: vec![db("IRISSYS", "/iris/mgr"), db("T1", "/data/t1"), db("T2", "/data/t2")],
        system_database: "/iris/mgr".into(),
        wij: "/wij/IRIS.WIJ".into(),
        journal_dirs: vec!["/j1".into(), "/j2".into()],
        journals: ["20261127.001z", "20261127.002z", "20261127.003", "20261127.004", "20261127.005"].map(journal).into(),
        shipped: vec![],
        present: ["/iris/mgr/IRIS.DAT", "/data/t1/IRIS.DAT", "/data/t2/IRIS.DAT", "/data/t2/iris.lck", "/wij/IRIS.WIJ"]
            .map(PathBuf::from)
            .into(),
        room: vec![Room { path: "/".into(), device: 1, free: 1 << 30 }],
    }
}

fn wish(scope: Scope, until: Until) -> Wish {
    Wish { run: "r1".into(), scope, until, into: Default::default(), everything: false, online: false, even_if_not_held: false }
}

fn t1() -> Scope {
    Scope::Databases(vec!["/data/t1".into()])
}

fn words(p: &Plan) -> Vec<&'static str> {
    p.steps.iter().map(|s| s.action.word()).collect()
}

fn lacks(r: Result<Plan, Vec<Missing>>) -> String {
    let all = r.expect_err("a plan that cannot succeed");
    assert!(all.iter().all(|m| !m.next.is_empty()), "each with its next step: {all:?}");
    all.into_iter().map(|m| m.what + "\n").collect()
}

/// The rules of lib.rs.
fn keeps_to_the_rules(p: &Plan, found: &Found) {
    let at = |w: &str| p.steps.iter().position(|s| s.action.word() == w);
    let all_at = |w: &str| p.steps.iter().enumerate().filter(|(_, s)| s.action.word() == w).map(|(i, _)| i).collect::<Vec<_>>();
    let mut aside: Vec<&PathBuf> = Vec::new();
    for (i, s) in p.steps.iter().enumerate() {
        assert!(!s.why.is_empty() && !s.check.is_empty(), "{s:?}");
        match &s.action {
            Action::KeepAside { files, to } => {
                assert!(files.iter().all(|f| f.parent() == to.parent()), "a rename on one file system");
                aside.extend(files);
            }
            Action::Copy { files } => {
                for (_, to) in files {
                    assert!(!found.is_present(to) || aside.contains(&to), "{} is overwritten", to.display());
                    let live = found.journals.iter().any(|j| j.path == *to);
                    assert!(!live || aside.contains(&to), "a journal is overwritten");
                }
                assert!(all_at("restore-journals").iter().chain(&all_at("roll-forward")).all(|j| *j > i), "journals come after copies");
                assert!(s.cost.bytes > 0);
            }
            _ => {}
        }
    }
    if !p.wish.online && p.engine == "iris" {
        assert_eq!(p.steps.last().map(|s| s.action.word()), Some("start-for-users"), "users may connect at the end, and not before");
        assert_eq!(all_at("start-for-users").len(), 1);
        let up = at("start-for-administrator").expect("a start for the administrator");
        assert!(up < p.steps.len() - 2);
        assert!(!found.running || at("stop").is_some_and(|s| s < up));
    }
    let namespaces = all_at("add-namespace");
    assert!(namespaces.iter().all(|n| at("restore-journals").is_none_or(|j| j < *n) && at("check-integrity").is_some_and(|c| c < *n)));
}

#[test]
fn a_single_database_is_replaced_after_the_others_have_recovered() {
    let p = plan(&kept(), &found(), &wish(t1(), Until::End)).unwrap();
    keeps_to_the_rules(&p, &found());
    let order = [
        "start-for-administrator",
        "dismount",
        "keep-aside",
        "copy",
        "mount",
        "restore-journals",
        "check-integrity",
        "stop",
        "start-for-users",
    ];
    assert_eq!(words(&p), order);
    let Action::RestoreJournals { first, last, locations, select } = &p.steps[5].action else { panic!("{p:?}") };
    assert_eq!((first.as_str(), last), ("20261127.002", &None), "required goes before switched");
    assert_eq!((locations, select), (&vec!["/j1".into(), "/j2".into()], &vec![("/data/t1".into(), "/data/t1".into())]));
    assert!(p.if_recovery_fails.contains("overwrite nothing") && p.if_recovery_fails.contains("diagnose"));
}

#[test]
fn a_running_instance_is_stopped_first_or_left_up_where_nobody_sees_the_database() {
    let up = Found { running: true, ..found() };
    let p = plan(&kept(), &up, &wish(t1(), Until::End)).unwrap();
    keeps_to_the_rules(&p, &up);
    assert_eq!(words(&p)[0], "stop");
    assert!(p.steps[0].dangerous);
    let online = Wish { online: true, ..wish(t1(), Until::End) };
    assert!(lacks(plan(&kept(), &up, &online)).contains("users could write"));
    assert!(lacks(plan(&kept(), &found(), &online)).contains("is down"));
}

#[test]
fn into_another_directory_database_and_namespace_come_back_and_the_namespace_last() {
    let mut up = Found { running: true, ..found() };
    up.databases.retain(|d| d.name != "T1");
    up.present.retain(|p| !p.starts_with("/data/t1"));
    let into = [(PathBuf::from("/data/t1"), PathBuf::from("/data/t1rest"))].into();
    let p = plan(&kept(), &up, &Wish { online: true, into, ..wish(t1(), Until::End) }).unwrap();
    keeps_to_the_rules(&p, &up);
    assert_eq!(words(&p), ["copy", "add-database", "mount", "restore-journals", "check-integrity", "add-namespace"]);
    let Action::RestoreJournals { select, .. } = &p.steps[3].action else { panic!("{p:?}") };
    assert_eq!(select, &vec![("/data/t1".into(), "/data/t1rest".into())]);
    assert!(matches!(&p.steps[5].action, Action::AddNamespace { name, database } if name == "T1" && database == "T1"));
}

#[test]
fn beside_the_old_database_the_copy_gets_a_name_of_its_own_and_no_namespace() {
    let into = [(PathBuf::from("/data/t1"), PathBuf::from("/data/t1rest"))].into();
    let p = plan(&kept(), &found(), &Wish { into, ..wish(t1(), Until::Backup) }).unwrap();
    keeps_to_the_rules(&p, &found());
    assert!(p.steps.iter().any(|s| matches!(&s.action, Action::AddDatabase { name, .. } if name == "T1-RESTORED")));
    assert!(!words(&p).contains(&"add-namespace"), "T1 is shown already");
}

#[test]
fn a_whole_system_with_its_wij_rolls_forward_by_itself() {
    let s = Scope::System(WijUse::OfBackup);
    let p = plan(&kept(), &found(), &wish(s.clone(), Until::End)).unwrap();
    keeps_to_the_rules(&p, &found());
    assert!(!words(&p).contains(&"restore-journals"));
    let touches = |p: &Plan, path: &str| {
        p.steps.iter().any(|s| matches!(&s.action, Action::KeepAside { files, .. } if files.contains(&PathBuf::from(path))))
    };
    assert!(touches(&p, "/wij/IRIS.WIJ") && !touches(&p, "/j1/20261127.004"), "live journals stay: to now");
    // To the backup's moment the live ones go aside and the set's come in.
    let p = plan(&kept(), &found(), &wish(s.clone(), Until::Backup)).unwrap();
    keeps_to_the_rules(&p, &found());
    assert!(touches(&p, "/j1/20261127.003") && touches(&p, "/j1/20261127.005") && !touches(&p, "/j1/20261127.002z"));
    let copies = |p: &Plan, to: &str| {
        p.steps.iter().any(|s| matches!(&s.action, Action::Copy { files } if files.iter().any(|f| f.1 == Path::new(to))))
    };
    assert!(copies(&p, "/j1/20261127.003") && !copies(&p, "/j1/20261127.002"));
    let lost = Found { journals: ["20261127.003", "20261127.004"].map(journal).into(), ..found() };
    let p = plan(&kept(), &lost, &wish(s.clone(), Until::Backup)).unwrap();
    assert!(copies(&p, "/j1/20261127.002"), "needed for the rollback, and lost: from the set");
    // To the end of one file.
    let p = plan(&kept(), &found(), &wish(s.clone(), Until::File("20261127.004".into()))).unwrap();
    assert!(touches(&p, "/j1/20261127.005") && !touches(&p, "/j1/20261127.004"));
    let none = Kept { wij: vec![], ..kept() };
    assert!(lacks(plan(&none, &found(), &wish(s, Until::End))).contains("no WIJ"));
}

#[test]
fn a_whole_system_without_a_wij_moves_it_aside_and_applies_every_journal_by_hand() {
    let p = plan(&kept(), &found(), &wish(Scope::System(WijUse::Without), Until::End)).unwrap();
    keeps_to_the_rules(&p, &found());
    let tail: Vec<_> = words(&p).into_iter().skip_while(|w| *w != "start-without-wij").collect();
    let want = [
        "start-without-wij",
        "skip-journal-at-start",
        "force",
        "start-for-administrator",
        "restore-journals",
        "check-integrity",
        "stop",
        "start-for-users",
    ];
    assert_eq!(tail, want);
    assert!(p.steps.iter().any(|s| s.dangerous && s.action == Action::SkipJournalAtStart));
    let copied =
        |p: &Plan| p.steps.iter().any(|s| matches!(&s.action, Action::Copy { files } if files.iter().any(|f| f.1.ends_with("IRIS.WIJ"))));
    assert!(!copied(&p), "the backup's WIJ is not used");
    let p = plan(&kept(), &found(), &wish(Scope::System(WijUse::Without), Until::Backup)).unwrap();
    let Some(Action::RestoreJournals { last, locations, .. }) = p.steps.iter().map(|s| &s.action).find(|a| a.word() == "restore-journals")
    else {
        panic!("{p:?}")
    };
    assert_eq!((last.as_deref(), locations), (Some("20261127.003"), &vec!["/set/data/j1".into()]));
}

#[test]
fn a_plan_that_cannot_succeed_says_all_that_is_missing_by_name() {
    let gone = Found { journals: ["20261127.001z", "20261127.005"].map(journal).into(), ..found() };
    let text = lacks(plan(&kept(), &gone, &wish(t1(), Until::End)));
    assert!(text.contains("20261127.004"), "{text}");
    assert!(!text.contains("20261127.002") && !text.contains("20261127.003"), "the set has those: {text}");
    let bare = Kept { journals: vec![], ..kept() };
    let text = lacks(plan(&bare, &gone, &wish(t1(), Until::End)));
    assert!(text.contains("20261127.002"), "{text}");
    let cases: [(&str, Kept, Found, Wish); 9] = [
        ("not held", Kept { verdict: Verdict::Pending, ..kept() }, found(), wish(t1(), Until::End)),
        ("not installed", kept(), Found { installed: false, ..found() }, wish(t1(), Until::End)),
        ("version 2024.1, this instance is 2023.3", kept(), Found { version: "2023.3.0.254".into(), ..found() }, wish(t1(), Until::End)),
        ("mirror M1", Kept { mirror: "M1".into(), ..kept() }, found(), wish(t1(), Until::End)),
        ("GUID differs", kept(), Found { guid: "H".into(), ..found() }, wish(Scope::System(WijUse::OfBackup), Until::End)),
        ("no database /nowhere", kept(), found(), wish(Scope::Databases(vec!["/nowhere".into()]), Until::End)),
        ("manager's own", kept(), found(), wish(Scope::Databases(vec!["/iris/mgr".into()]), Until::End)),
        (
            "999 bytes free, the copies need 1000",
            kept(),
            Found { room: vec![Room { path: "/data".into(), device: 2, free: 999 }], ..found() },
            wish(t1(), Until::End),
        ),
        ("20261127.009", kept(), found(), wish(t1(), Until::File("20261127.009".into()))),
    ];
    for (says, k, f, w) in cases {
        let text = lacks(plan(&k, &f, &w));
        assert!(text.contains(says), "{says}: {text}");
    }
    let torn = Wish { even_if_not_held: true, ..wish(t1(), Until::End) };
    let p = plan(&Kept { verdict: Verdict::Pending, ..kept() }, &found(), &torn).unwrap();
    assert!(!p.held && p.warnings.iter().any(|w| w.contains("torn")));
}

#[test]
fn journals_that_are_lost_come_back_before_the_start_from_the_set_and_from_where_they_were_shipped() {
    let shipped = |n: &str, size| KeptFile { copy: format!("/far/IRIS/{n}").into(), was: n.into(), size, sha256: None };
    let lost = Found {
        journals: vec![journal("20261127.005")],
        shipped: vec![
            shipped("20261127.001", 5),
            shipped("20261127.003", 5000),
            shipped("20261127.004", 5000),
            shipped("20261127.005", 10),
        ],
        ..found()
    };
    for scope in [t1(), Scope::System(WijUse::OfBackup), Scope::System(WijUse::Without)] {
        let p = plan(&kept(), &lost, &wish(scope.clone(), Until::End)).unwrap();
        keeps_to_the_rules(&p, &lost);
        let up = words(&p).iter().position(|w| w.starts_with("start-")).unwrap();
        let back: Vec<String> = p.steps[..up]
            .iter()
            .filter_map(|s| if let Action::Copy { files } = &s.action { Some(files) } else { None })
            .flatten()
            .filter(|(_, to)| to.starts_with("/j1"))
            .map(|(f, to)| format!("{} {}", f.copy.display(), to.display()))
            .collect();
        let want = [
            "/set/data/j1/20261127.002 /j1/20261127.002",
            "/far/IRIS/20261127.003 /j1/20261127.003",
            "/far/IRIS/20261127.004 /j1/20261127.004",
        ];
        assert_eq!(back, want, "{scope:?}: the longer of two, none that is there, none before the first");
    }
    // To the backup's moment for one database; the others still roll forward to now.
    let p = plan(&kept(), &lost, &wish(t1(), Until::Backup)).unwrap();
    let back = |to: &str| p.steps.iter().any(|s| matches!(&s.action, Action::Copy { files } if files.iter().any(|f| f.1 == Path::new(to))));
    assert!(back("/j1/20261127.004"), "{:?}", words(&p));
    // One that nobody has is named.
    let gap = Found { shipped: vec![shipped("20261127.003", 5000)], ..lost };
    assert!(lacks(plan(&kept(), &gap, &wish(t1(), Until::End))).contains("20261127.004"));
}

#[test]
fn volumes_of_a_database_go_together() {
    let mut k = kept();
    k.databases[1].files.push(file("/data/t1/IRIS-0001.VOL"));
    let p = plan(&k, &found(), &wish(t1(), Until::End)).unwrap();
    assert!(p.steps.iter().any(|s| matches!(&s.action, Action::Copy { files } if files.len() == 2)));
    k.databases[1].files.push(file("/more/t1/IRIS-0002.VOL"));
    assert!(plan(&k, &found(), &wish(t1(), Until::End)).is_ok());
    let into = [(PathBuf::from("/data/t1"), PathBuf::from("/data/t1rest"))].into();
    assert!(lacks(plan(&k, &found(), &Wish { into, ..wish(t1(), Until::End) })).contains("outside its directory"));
}

#[test]
fn a_gtm_region_is_copied_run_down_rolled_forward_and_checked() {
    let k = Kept {
        engine: "gtm".into(),
        databases: vec![KeptDatabase {
            name: "DEFAULT".into(),
            dir: "/d/t1.dat".into(),
            namespaces: vec![],
            files: vec![file("/d/t1.dat")],
        }],
        ..kept()
    };
    let f = Found {
        installed: true,
        journals: vec![JournalFile { path: "/j/t1.mjl".into(), size: 1 }],
        present: vec!["/d/t1.dat".into()],
        ..Found::default()
    };
    let all = Scope::System(WijUse::Without);
    let p = plan(&k, &f, &wish(all.clone(), Until::End)).unwrap();
    keeps_to_the_rules(&p, &f);
    assert_eq!(words(&p), ["keep-aside", "copy", "rundown", "roll-forward", "check-integrity", "journaling-on"]);
    let p = plan(&k, &f, &wish(all.clone(), Until::Backup)).unwrap();
    assert!(!words(&p).contains(&"roll-forward"));
    let into: std::collections::BTreeMap<_, _> = [(PathBuf::from("/d/t1.dat"), PathBuf::from("/d/t1rest.dat"))].into();
    let busy = Found { running: true, ..f.clone() };
    assert!(lacks(plan(&k, &busy, &wish(all.clone(), Until::End))).contains("open"));
    let p = plan(&k, &busy, &Wish { into, ..wish(all.clone(), Until::End) }).unwrap();
    assert!(matches!(&p.steps[2].action, Action::RollForward { redirect, .. } if redirect[0].1 == Path::new("/d/t1rest.dat")));
    let none = Found { journals: vec![], ..f.clone() };
    assert!(lacks(plan(&k, &none, &wish(all.clone(), Until::End))).contains("journal of /d/t1.dat is missing"));
    // Seen on a real GT.M: a transaction of two regions is left out where only one of them is rolled forward.
    let mut two = k;
    two.databases.push(KeptDatabase { dir: "/d/t2.dat".into(), files: vec![file("/d/t2.dat")], ..two.databases[0].clone() });
    let f = Found { journals: ["/j/t1.mjl", "/j/t2.mjl"].map(|p| JournalFile { path: p.into(), size: 1 }).into(), ..f };
    let p = plan(&two, &f, &wish(all, Until::End)).unwrap();
    keeps_to_the_rules(&p, &f);
    let forward: Vec<_> =
        p.steps.iter().filter(|s| matches!(&s.action, Action::RollForward { journals, .. } if journals.len() == 2)).collect();
    assert_eq!((forward.len(), words(&p).iter().filter(|w| **w == "roll-forward").count()), (1, 1), "all regions in one call");
    let one = Scope::Databases(vec!["/d/t1.dat".into()]);
    assert!(lacks(plan(&two, &f, &wish(one.clone(), Until::End))).contains("span regions"));
    assert!(plan(&two, &f, &wish(one, Until::Backup)).is_ok());
}

#[test]
fn a_plan_survives_being_written_down() {
    for scope in [t1(), Scope::System(WijUse::OfBackup), Scope::System(WijUse::Without)] {
        for until in [Until::Backup, Until::End, Until::File("20261127.004".into())] {
            let p = plan(&kept(), &found(), &wish(scope.clone(), until)).unwrap();
            keeps_to_the_rules(&p, &found());
            let back: Plan = serde_json::from_str(&serde_json::to_string(&p).unwrap()).unwrap();
            assert_eq!(back, p);
        }
    }
}

/// A drill stays in its place, uses nothing of the live instance, and takes of each journal the longer copy.
#[test]
fn a_drill_lies_in_its_place_alone_and_takes_the_longer_journal() {
    use recovery::drill;
    let place = Path::new("/drills/drill-r1");
    let longer = KeptFile { copy: "/far/IRIS/20261127.003".into(), was: "20261127.003".into(), size: 4000, sha256: None };
    let next = KeptFile { copy: "/far/IRIS/20261127.004".into(), was: "20261127.004".into(), ..longer.clone() };
    let here = Found { shipped: vec![longer, next], databases: vec![], ..found() };
    let d = drill::plan(&kept(), &here, "r1", place).unwrap();
    let mut copied = Vec::new();
    for s in &d.steps {
        match &s.action {
            Action::Copy { files } => {
                assert!(files.iter().all(|(_, to)| to.starts_with(place)), "{s:?}");
                copied.extend(files.iter().map(|(f, _)| f.copy.display().to_string()));
            }
            Action::AddDatabase { dir, .. } | Action::Mount { dir } => assert!(dir.starts_with(place)),
            Action::RestoreJournals { locations, select, last, .. } => {
                assert_eq!(locations, &[place.join("journals")]);
                assert!(select.len() == 3 && select.iter().all(|(_, to)| to.starts_with(place)));
                assert_eq!(last.as_deref(), Some("20261127.004"));
            }
            Action::StartForAdministrator | Action::CheckIntegrity { .. } => {}
            other => panic!("no step of a drill: {other:?}"),
        }
    }
    assert!(copied.contains(&"/set/data/j1/20261127.002".into()) && copied.contains(&"/far/IRIS/20261127.003".into()), "{copied:?}");
    assert!(!copied.contains(&"/set/data/j1/20261127.003".into()), "the shorter one: {copied:?}");
    assert_eq!(d.tidy.last(), Some(&Action::RemovePlace { dir: place.into() }));
    assert!(d.tidy.contains(&Action::Stop));
    // What an earlier one left in the configuration goes first.
    let left = Database { name: "SFDRILL2".into(), dir: "/drills/gone".into(), ..Database::default() };
    let d = drill::plan(&kept(), &Found { databases: vec![left], ..here }, "r1", place).unwrap();
    let words: Vec<&str> = d.steps.iter().map(|s| s.action.word()).collect();
    let at = |w: &str| words.iter().position(|x| *x == w);
    assert!(at("delete-database") < at("add-database") && at("delete-database").is_some(), "{words:?}");
}

#[test]
fn what_a_backup_lacks_fails_a_drill_and_what_this_host_lacks_refuses_it() {
    use recovery::drill;
    let place = Path::new("/drills/drill-r1");
    let of = |kept: &Kept, found: &Found| drill::plan(kept, found, "r1", place).expect_err("no drill");
    let gap = KeptFile { copy: "/far/IRIS/20261127.005".into(), was: "20261127.005".into(), size: 1, sha256: None };
    let l = of(&kept(), &Found { shipped: vec![gap], ..found() });
    assert!(l.here.is_empty() && l.backup[0].what.contains("20261127.004"), "{l:?}");
    let l = of(&Kept { marks: vec![], ..kept() }, &found());
    assert!(l.here.is_empty() && l.backup[0].what.contains("did not switch"), "{l:?}");
    for (found, kept, what) in [
        (Found { running: true, ..found() }, kept(), "is up"),
        (Found { installed: false, ..found() }, kept(), "not installed"),
        (Found { mirror: "M1".into(), ..found() }, kept(), "mirror"),
        (Found { version: "2023.1".into(), ..found() }, kept(), "2023.1"),
        (Found { room: vec![Room { path: "/drills".into(), device: 1, free: 4_999 }], ..found() }, kept(), "4999"),
        (found(), Kept { verdict: Verdict::Pending, ..kept() }, "not held"),
        (found(), Kept { engine: "command".into(), ..kept() }, "command"),
    ] {
        let l = of(&kept, &found);
        assert!(l.backup.is_empty() && l.here.len() == 1 && l.here[0].what.contains(what), "{what}: {l:?}");
    }
}

#[test]
fn on_an_empty_host_the_configuration_comes_first_and_nothing_that_is_there_counts() {
    let other = |was: &str| file(was);
    let kept = Kept { others: vec![other("/iris/iris.cpf"), other("/iris/mgr/journal.log")], ..kept() };
    let mut here = found();
    here.databases.truncate(1);
    here.present.push("/iris/iris.cpf".into());
    let w = Wish { everything: true, ..wish(Scope::System(WijUse::OfBackup), Until::End) };
    let p = plan(&kept, &here, &w).unwrap();
    let aside: Vec<String> = p
        .steps
        .iter()
        .filter_map(|s| if let Action::KeepAside { files, .. } = &s.action { Some(files.clone()) } else { None })
        .flatten()
        .map(|f| f.display().to_string())
        .collect();
    assert!(aside.contains(&"/j1/20261127.005".into()), "journals of what was installed: {aside:?}");
    assert!(aside.contains(&"/iris/iris.cpf".into()) && aside.contains(&"/iris/mgr/IRIS.DAT".into()), "{aside:?}");
    let copied: Vec<String> = p
        .steps
        .iter()
        .filter_map(|s| if let Action::Copy { files } = &s.action { Some(files.clone()) } else { None })
        .flatten()
        .map(|(_, to)| to.display().to_string())
        .collect();
    for must in ["/iris/iris.cpf", "/iris/mgr/journal.log", "/wij/IRIS.WIJ", "/j1/20261127.002", "/j1/20261127.003", "/data/t2/IRIS.DAT"] {
        assert!(copied.contains(&must.into()), "{must}: {copied:?}");
    }
    assert!(p.warnings.iter().all(|w| !w.contains("left as they are")), "{:?}", p.warnings);
    let word = words(&p);
    assert_eq!(&word[word.len() - 4..], ["start-for-administrator", "check-integrity", "stop", "start-for-users"]);
    // It is a whole system, or nothing.
    let e = lacks(plan(&kept, &here, &Wish { everything: true, ..wish(t1(), Until::End) }));
    assert!(e.contains("whole system"), "{e}");
}
