//! `facts` says what a freeze would refuse, and freezes nothing.

use super::{answer, frozen_times, host, reconfigure, seen_as};
use protocol::Code;
use protocol::wire::{Facts, Frozen, Phase};
use suite::host::{Host, What, new_id};

fn facts(h: &Host, more: &[&str]) -> Facts {
    let e = h.call(&[&["facts", "--json"], more].concat());
    assert_eq!(e.code, Some(0), "{e:#?}");
    answer(&e, None).whole("facts").unwrap()
}

fn codes(f: &Facts) -> Vec<Code> {
    f.problems.iter().map(|p| p.code).collect()
}

#[test]
fn a_host_that_may_be_frozen_names_its_instances_volumes_and_limits() {
    let h = host("[tags]\nextra = { CostCenter = \"0042\" }\n");
    let f = facts(&h, &["--hold", "60000ms"]);
    assert_eq!(codes(&f), [], "{:#?}", f.problems);
    let i = &f.instances[0];
    assert_eq!((i.instance.as_str(), i.engine.as_str(), &i.frozen, i.scope.as_str()), ("IRIS", "iris", &Frozen::No, "system"));
    assert!(!i.engine_version.is_empty() && !f.host.is_empty() && f.now.0 > 1_700_000_000_000);
    assert_eq!(f.volumes.len(), 1, "{:?}", f.volumes);
    seen_as(&f.volumes[0].volume);
    for role in ["data", "database", "journal", "wij"] {
        assert!(f.volumes[0].roles.iter().any(|r| r == role), "{role}: {:?}", f.volumes);
    }
    assert_eq!(f.extra_tags["CostCenter"], "0042");
    // What is said of the largest hold is true of a freeze.
    let (fits, too_long) = (format!("{}ms", f.largest_hold_ms), format!("{}ms", f.largest_hold_ms + 1));
    assert_eq!(codes(&facts(&h, &["--hold", &fits])), []);
    assert_eq!(codes(&facts(&h, &["--hold", &too_long])), [Code::RefusedHold]);
    frozen_times(&h, 0);
    assert_eq!(h.call(&["freeze", "--hold", &too_long]).code, Some(4));
    assert_eq!(h.call(&["rehearse", "--hold", &fits]).code, Some(0));
}

#[test]
fn what_facts_name_is_what_a_freeze_refuses() {
    let h = host("");
    let mut seen = 0;
    for (fault, code) in
        [("state=starting", Code::RefusedInstance), ("login=refused", Code::RefusedInstance), ("journal_frozen=1", Code::RefusedJournaling)]
    {
        h.engine.sim().ctl(&[fault]);
        let f = facts(&h, &[]);
        assert!(codes(&f).contains(&code), "{fault}: {f:#?}");
        let refused = h.call(&["freeze"]);
        assert!(refused.code == Some(4) && refused.err.contains(code.name()), "{fault}: {refused:#?}");
        h.engine.sim().ctl(&[&format!("{}=", fault.split('=').next().unwrap())]);
        seen += 1;
    }
    assert_eq!(seen, 3);
    assert_eq!(codes(&facts(&h, &["--instance", "NOSUCH"])), [Code::RefusedInstance]);
    let used = new_id();
    h.call(&["thaw", "--id", &used]);
    assert_eq!(codes(&facts(&h, &["--id", &used])), [Code::RefusedUsedId]);
    assert!(!h.engine.history().iter().any(|x| x.what == What::FreezeCalled), "{:?}", h.engine.history());

    let (first, second) = (new_id(), new_id());
    assert_eq!(h.call(&["freeze", "--id", &first, "--hold", "30s"]).code, Some(0));
    let f = facts(&h, &["--id", &second]);
    assert_eq!((f.phase, &f.instances[0].frozen), (Phase::Frozen, &Frozen::Yes));
    assert!(codes(&f).contains(&Code::RefusedBusy), "{f:#?}");
    assert_eq!(codes(&facts(&h, &["--id", &first])), [], "a repeated order gets its first answer");
    assert!(h.engine.frozen(), "facts thaw nothing either");
    assert_eq!(h.call(&["thaw", "--id", &first]).code, Some(0));
    h.until("an idle agent", 10_000, || h.phase() == "idle");
    assert_eq!(h.engine.sim().other_tool("ExternalFreeze()"), Some(5));
    assert_eq!(codes(&facts(&h, &[])), [Code::RefusedAlreadyFrozen]);
    assert_eq!(h.engine.sim().other_tool("ExternalThaw()"), Some(5));
    frozen_times(&h, 2);
}

#[test]
fn a_path_on_no_volume_is_named() {
    let h = host("");
    assert_eq!(codes(&facts(&h, &[])), [], "the control");
    let memory = suite::host::tmpfs_dir();
    let program = "[\"/bin/true\"]";
    let instance = |place: &str| {
        format!(
            "[[instance]]\nengine = \"command\"\nname = \"C\"\nfreeze = {program}\nthaw = {program}\nis_frozen = [\"/bin/false\"]\n\
             continuity = \"trust\"\nlayout = {{ data = [\"{place}\"] }}\n[layout]\n\
             volumes = {{ \"{place}\" = \"vol-0aaaaaaaaaaaaaaa1\" }}\n"
        )
    };
    let place = memory.path().canonicalize().unwrap().display().to_string();
    let text = h.config_text();
    let head = &text[..text.find("[[instance]]").unwrap()];
    reconfigure(&h, &format!("{head}{}", instance(&place)));
    let f = facts(&h, &[]);
    if place.starts_with("/tmp") {
        return println!("SKIP a_path_on_no_volume_is_named: no tmpfs here");
    }
    assert_eq!(codes(&f), [Code::RefusedNotCovered], "memory stays memory, whatever is named: {f:#?}");
    assert!(f.problems[0].detail.contains(&place) && f.problems[0].detail.contains("memory"), "{:?}", f.problems);
    assert_eq!(f.volumes, []);
    // Named on a disk, it is covered; and a name holds for what lies below it only.
    let disk = h.disk.path().canonicalize().unwrap().display().to_string();
    reconfigure(&h, &format!("{head}{}", instance(&disk)));
    let f = facts(&h, &[]);
    assert_eq!((codes(&f), f.volumes.len()), (vec![], 1), "{f:#?}");
    frozen_times(&h, 0);
}
