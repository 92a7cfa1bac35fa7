//! What a snapshot of a block device sees: the backing file of a loop device, copied in the window and mounted again.

use super::{answer, calm, frozen_times, host, reconfigure};
use protocol::Code;
use protocol::wire::FreezeReply;
use std::path::Path;
use suite::cloud::fleet::clean;
use suite::host::disk::{Disk, MIB};
use suite::host::{Host, Reply, Setup, new_id};

/// A second database, behind commands, whose files lie in `layout`.
fn second(h: &Host, layout: &str) -> String {
    let flag = h.run.path().join("second");
    let sh = |what: &str| format!("[\"/bin/sh\", \"-c\", \"{what} {}\"]", flag.display());
    format!(
        "[[instance]]\nengine = \"command\"\nname = \"SECOND\"\ncontinuity = \"trust\"\n{layout}\nfreeze = {}\nthaw = {}\nis_frozen = {}\n",
        sh("touch"),
        sh("rm -f"),
        sh("test -e")
    )
}

/// Writes `file` just before the freeze, as an engine does, and never asks for it to be on the disk.
fn writes_before_the_freeze(h: &Host, file: &Path, bytes: u64) {
    let file = file.to_owned();
    h.points.begin(move |seen| {
        if seen.name == "caller.freeze.before" {
            let _ = std::fs::write(&file, content(bytes)); // who needs it reads it
        }
        Reply::Go
    });
}

fn content(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8 + 1).collect()
}

/// Freezes with these options, copies the device, thaws: is the newest file whole in the copy, and the database clean?
fn window(h: &Host, disk: &Disk, file: &str, options: &[&str]) -> (bool, bool, FreezeReply) {
    let id = new_id();
    writes_before_the_freeze(h, &disk.mount.join(file), 8 * MIB);
    let e = h.call(&[&["freeze", "--json", "--id", &id], options].concat());
    assert_eq!(e.code, Some(0), "{e:#?}");
    let copy = disk.copy();
    assert_eq!(h.call(&["thaw", "--id", &id]).code, Some(0), "the window is unbroken");
    let copy = copy.mounted().expect("the copy is mounted");
    let whole = std::fs::read(copy.mount.join(file)).is_ok_and(|found| found == content(8 * MIB));
    let database = copy.mount.join(h.disk.path().file_name().unwrap()).join("iris");
    (whole, clean(&database), answer(&e, Some(&id)).whole("freeze").unwrap())
}

#[test]
fn a_block_snapshot_has_what_was_written_just_before_the_freeze() {
    let name = "a_block_snapshot_has_what_was_written_just_before_the_freeze";
    let Some(disk) = Disk::make(name, None) else { return };
    let on_it = tempfile::tempdir_in(&disk.mount).unwrap();
    let h = Host::iris_on(on_it, Setup { workload: true, hold_ms: 60_000, ..calm() });
    for n in 0..3 {
        let (whole, is_clean, reply) = window(&h, &disk, &format!("new{n}"), &[]);
        assert!(whole && is_clean, "round {n}: whole {whole}, clean {is_clean}");
        assert!(reply.sync_ms.is_some() && reply.remaining_ms + reply.sync_ms.unwrap() <= 60_000, "{reply:?}");
    }
    // The control: the same without the sync is seen to lack it, unless the kernel happened to write it meanwhile.
    let mut lost = 0;
    for n in 0..5 {
        let (whole, _, reply) = window(&h, &disk, &format!("control{n}"), &["--no-sync"]);
        assert_eq!(reply.sync_ms, None, "and it is not claimed");
        lost += u32::from(!whole);
    }
    assert!(lost > 0, "without the sync every copy had it: the test sees nothing");
    println!("without the sync {lost} of 5 copies lacked it");
    frozen_times(&h, 8);
    drop(h);
}

#[test]
fn an_instance_whose_places_are_not_known_has_every_disk_of_the_host_written() {
    let name = "an_instance_whose_places_are_not_known_has_every_disk_of_the_host_written";
    let Some(disk) = Disk::make(name, None) else { return };
    let h = Host::iris(Setup { hold_ms: 60_000, ..calm() });
    let text = h.config_text();
    for (layout, options) in [("", &[][..]), ("layout = { data = [\"/not/seen/from/here\"] }", &[]), ("", &["--instance", "SECOND"])] {
        reconfigure(&h, &format!("{text}\n{}", second(&h, layout)));
        let id = new_id();
        writes_before_the_freeze(&h, &disk.mount.join(&id), 8 * MIB);
        let e = h.call(&[&["freeze", "--json", "--id", &id], options].concat());
        assert_eq!(e.code, Some(0), "{e:#?}");
        let copy = disk.copy();
        assert_eq!(h.call(&["thaw", "--id", &id]).code, Some(0));
        let copy = copy.mounted().expect("the copy is mounted");
        assert!(std::fs::read(copy.mount.join(&id)).is_ok_and(|found| found == content(8 * MIB)), "{layout} {options:?}");
    }
    frozen_times(&h, 2);
}

#[test]
fn a_disk_that_does_not_take_it_is_no_freeze_and_is_thawed() {
    let name = "a_disk_that_does_not_take_it_is_no_freeze_and_is_thawed";
    let h = host("");
    let text = std::fs::read_to_string(h.config_path()).unwrap();
    // Each has a disk of its own, because one that failed takes nothing more. Without the sync nobody notices: the control.
    let cases = [
        (&["freeze", "--json", "--hold", "60s", "--id"][..], 6),
        (&["hook", "dlm", "pre", "--json", "--execution-id"], 201),
        (&["freeze", "--no-sync", "--json", "--hold", "60s", "--id"], 0),
    ];
    for (n, (verb, code)) in cases.into_iter().enumerate() {
        let Some(disk) = Disk::make(name, Some(24 * MIB)) else { return };
        let layout = format!("layout = {{ data = [\"{}\"] }}", disk.mount.display());
        reconfigure(&h, &format!("{text}\n{}", second(&h, &layout)));
        let id = new_id();
        writes_before_the_freeze(&h, &disk.mount.join("new"), 60 * MIB);
        let e = h.call(&[verb, &[id.as_str()]].concat());
        let a = answer(&e, Some(&id));
        assert_eq!(e.code, Some(code), "{e:#?}");
        if code == 0 {
            assert!(h.engine.frozen());
        } else {
            assert_eq!(a.code, Some(Code::FreezeFailed), "{e:#?}");
            assert!(a.detail().contains(&format!("failed [(\"{}\"", disk.mount.display())), "the mount is named: {e:#?}");
            frozen_times(&h, n + 1);
        }
        assert_eq!(h.call(&["thaw", "--id", &id]).code, Some(0), "its window was unbroken");
    }
    frozen_times(&h, 3);
}
