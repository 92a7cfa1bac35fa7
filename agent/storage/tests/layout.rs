//! Layout and cover on recorded trees, and on this very machine.

mod support;

use protocol::Code;
use std::path::{Path, PathBuf};
use storage::Wanted;
use storage::cover::{Contains, Split, check};
use storage::layout::mountinfo::{mount_of, parse};
use storage::layout::{DeviceKind, Layout, Roots, Volume, read};
use support::tree;

fn layout(name: &str, wanted: &[(&str, &str)]) -> Layout {
    let dir = tree(name);
    let wanted: Vec<_> = wanted.iter().map(|(r, p)| Wanted::new(*r, *p)).collect();
    read(&Roots::recorded(dir.path()), &wanted).unwrap()
}
fn disks(l: &Layout, place: usize) -> Vec<&str> {
    l.mount(&l.places[place]).unwrap().disks.iter().map(String::as_str).collect()
}
fn one_call(names: &[&str]) -> Contains {
    Contains::Disks { groups: vec![names.iter().map(|n| (*n).into()).collect()], split: Split::Refuse }
}
fn each_alone(names: &[&str], split: Split) -> Contains {
    Contains::Disks { groups: names.iter().map(|n| vec![(*n).into()]).collect(), split }
}

#[test]
fn lvm_nvme_partitions_and_bind_mounts_lead_to_ebs_volumes() {
    let l = layout("aws", &[("database", "/data/db"), ("journal", "/jrn"), ("data", "/opt/iris/mgr"), ("keys", "/keys")]);
    assert_eq!(disks(&l, 0), ["nvme1n1", "nvme2n1"]);
    assert_eq!(disks(&l, 1), ["nvme3n1"]);
    assert_eq!(disks(&l, 2), ["nvme1n1", "nvme2n1"], "a bind mount of the same file system");
    assert_eq!(disks(&l, 3), ["nvme5n1"], "behind dm-crypt");
    assert_eq!((l.devices["dm-0"].kind, l.devices["dm-0"].label.as_str()), (DeviceKind::Lvm, "vg_iris-lv_data"));
    assert_eq!(l.devices["dm-1"].kind, DeviceKind::Crypt);
    assert_eq!(l.devices["nvme3n1p1"].on, ["nvme3n1"]);
    assert_eq!(l.devices["nvme1n1"].volume, Some(Volume::Ebs { id: "vol-0123456789abcdef1".into() }));
    assert_eq!(l.devices["nvme1n1"].size_bytes, 209_715_200 * 512);
    assert_eq!(l.mounts[0].uuid.as_deref(), Some("6f1c2d3e-0001-4000-8000-0000000000d0"));
    let ids: Vec<_> = l.volumes().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["vol-0123456789abcdef1", "vol-0123456789abcdef2", "vol-0123456789abcdef3", "vol-0123456789abcdef5"]);
    let json = serde_json::to_string(&l).unwrap();
    assert_eq!(serde_json::from_str::<Layout>(&json).unwrap(), l);
}

#[test]
fn symlinks_and_spaces_are_followed_to_the_real_mount() {
    let l = layout(
        "aws",
        &[("install", "/usr/irissys"), ("data", "/usr/irissys/mgr"), ("journal", "/usr/journal"), ("external", "/mnt/with space")],
    );
    assert_eq!(l.places[0].real, Path::new("/opt/iris"));
    assert_eq!(disks(&l, 0), ["nvme0n1"]);
    assert_eq!(l.places[1].mount.as_deref(), Some(Path::new("/opt/iris/mgr")));
    assert_eq!(l.places[2].real, Path::new("/jrn"));
    assert_eq!(disks(&l, 3), ["nvme5n1"]);
}

#[test]
fn azure_luns_are_found_with_and_without_udevs_links() {
    let l = layout(
        "azure",
        &[("database", "/data"), ("journal", "/jrn"), ("external", "/mnt/tmp"), ("install", "/usr/irissys"), ("external", "/odd")],
    );
    assert_eq!(disks(&l, 0), ["sdc", "sdd"]);
    let volume = |d: &str| l.devices[d].volume.clone();
    assert_eq!(volume("sdc"), Some(Volume::AzureData { lun: 0 }), "by link");
    assert_eq!(volume("sdd"), Some(Volume::AzureData { lun: 7 }), "by controller and SCSI address");
    assert_eq!(volume("sde"), Some(Volume::AzureData { lun: 2 }));
    assert_eq!((volume("sda"), volume("sdb")), (Some(Volume::AzureOs), Some(Volume::AzureTemporary)));
    assert_eq!(volume("sdf"), None, "an unknown controller gives no LUN");
    assert_eq!((l.devices["md0"].kind, l.devices["md0"].label.as_str()), (DeviceKind::Raid, "raid0"));
    let l = layout("azure-nvme", &[("database", "/data"), ("journal", "/jrn"), ("install", "/usr/irissys")]);
    let keys: Vec<_> = l.volumes().into_iter().map(|(k, d)| format!("{k}={d}")).collect();
    assert_eq!(keys, ["lun:0=nvme0n2", "lun:4=nvme0n6", "os=nvme0n1"]);
}

#[test]
fn btrfs_with_its_anonymous_number_is_found_with_all_its_devices() {
    let l = layout("btrfs", &[("database", "/data/db"), ("journal", "/jrn")]);
    assert_eq!(disks(&l, 0), ["sdb", "sdc"]);
    assert_eq!(l.mounts[0].on, ["dm-3", "sdc"]);
    assert_eq!(l.mounts[0].uuid.as_deref(), Some("0f0f0f0f-1111-2222-3333-444444444444"));
    let cover = check(&l, &one_call(&["sdb", "sdc"])).unwrap();
    assert_eq!(cover.sync, [PathBuf::from("/data")], "one file system, one syncfs");
}

#[test]
fn a_containers_paths_are_seen_through_its_own_mounts() {
    let l = layout("container", &[("data", "/usr/irissys/mgr"), ("install", "/usr/irissys")]);
    assert_eq!(l.places[0].real, Path::new("/dur/iconfig/mgr"));
    assert_eq!(disks(&l, 0), ["nvme1n1"]);
    let set = one_call(&["vol-0fedcba9876543210"]);
    let e = check(&l, &set).unwrap_err();
    assert_eq!(e.code, Code::RefusedNotCovered);
    assert!(e.detail.contains("/usr/irissys (install): lies on overlay"), "{}", e.detail);
    assert!(check(&layout("container", &[("data", "/usr/irissys/mgr")]), &set).is_ok());
    let l = layout("container", &[("data", "/loop/a"), ("wij", "/no/such")]);
    assert!(l.places.iter().all(|p| p.mount.is_none() && p.why.is_some()), "{l:?}");
}

#[test]
fn the_check_flips_with_each_disk_that_is_left_out() {
    let l = layout("aws", &[("database", "/data/db"), ("journal", "/jrn")]);
    let all = ["vol-0123456789abcdef1", "vol-0123456789abcdef2", "vol-0123456789abcdef3"];
    let cover = check(&l, &one_call(&all)).unwrap();
    assert_eq!(cover.disks, ["nvme1n1", "nvme2n1", "nvme3n1"]);
    assert_eq!((cover.sync.len(), cover.freeze.len()), (2, 0));
    for (left_out, path) in [(0, "/data/db"), (1, "/data/db"), (2, "/jrn")] {
        let mut fewer = all.to_vec();
        fewer.remove(left_out);
        let e = check(&l, &one_call(&fewer)).unwrap_err();
        assert_eq!(e.code, Code::RefusedNotCovered);
        assert!(e.detail.contains(path) && e.detail.contains(all[left_out]), "{}", e.detail);
    }
    let more = [&all[..], &["vol-0ffffffffffffffff"]].concat();
    assert_eq!(check(&l, &one_call(&more)).unwrap().needless, ["vol-0ffffffffffffffff"]);
    assert!(check(&l, &one_call(&["nvme1n1", "259:3", "nvme3n1"])).is_ok(), "by kernel name and number too");
}

#[test]
fn what_no_snapshot_can_hold_is_refused_by_name() {
    let everything = ["nvme0n1", "nvme1n1", "nvme2n1", "nvme3n1", "nvme4n1", "nvme5n1"];
    for (path, why) in [
        ("/run", "memory"),
        ("/nfs", "another machine"),
        ("/scratch", "instance store"),
        ("/var/lib/docker/overlay2/abc/merged/iris", "container's own layer"),
        ("/gone", "No such file"),
    ] {
        let e = check(&layout("aws", &[("external", path)]), &one_call(&everything)).unwrap_err();
        assert_eq!(e.code, Code::RefusedNotCovered);
        assert!(e.detail.contains(path) && e.detail.contains(why), "{}", e.detail);
    }
    let e = check(&layout("azure", &[("data", "/mnt/tmp")]), &one_call(&["sdb"])).unwrap_err();
    assert!(e.detail.contains("temporary disk"), "{}", e.detail);
}

#[test]
fn a_file_system_over_two_calls_is_split_unless_it_may_be_frozen() {
    let l = layout("azure", &[("database", "/data"), ("journal", "/jrn")]);
    let luns = ["lun:0", "lun:7", "lun:2"];
    let e = check(&l, &each_alone(&luns, Split::Refuse)).unwrap_err();
    assert_eq!(e.code, Code::RefusedSplitFilesystem);
    assert!(e.detail.contains("/data") && e.detail.contains("sdc, sdd") && !e.detail.contains("/jrn"), "{}", e.detail);
    assert!(check(&l, &one_call(&luns)).unwrap().freeze.is_empty(), "in one call it is not split");
    let may = |keep: &str| each_alone(&luns, Split::Freeze { keep_alive: vec![keep.into()] });
    assert_eq!(check(&l, &may("/run/snapfreeze")).unwrap().freeze, [PathBuf::from("/data")]);
    let e = check(&l, &may("/data/snapfreeze/state")).unwrap_err();
    assert!(e.detail.contains("must stay writable"), "{}", e.detail);
    let e = check(&l, &each_alone(&luns[..1], Split::Refuse)).unwrap_err();
    assert_eq!(e.code, Code::RefusedNotCovered, "a path that is not covered is said before a split");
}

#[test]
fn trees_of_a_local_set_cover_what_lies_in_them() {
    let l = layout("aws", &[("database", "/data/db"), ("data", "/opt/iris/mgr"), ("external", "/nfs")]);
    let trees = |t: &[&str]| Contains::Trees(t.iter().map(PathBuf::from).collect());
    assert!(check(&l, &trees(&["/data", "/opt/iris/mgr", "/nfs"])).is_ok());
    let e = check(&l, &trees(&["/data", "/nfs"])).unwrap_err();
    assert!(e.detail.contains("/opt/iris/mgr"), "{}", e.detail);
    let l = layout("aws", &[("journal", "/usr/journal")]);
    assert!(check(&l, &trees(&["/usr/journal"])).is_ok() && check(&l, &trees(&["/jrn"])).is_ok());
    assert!(check(&l, &trees(&["/usr"])).is_err(), "the symlink leads to /jrn");
}

#[test]
fn the_mount_on_top_wins() {
    let table = parse(
        b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
          2 1 8:2 / /a/b rw - xfs /dev/sda2 rw\n\
          3 1 8:3 / /a rw - xfs /dev/sda3 rw\n\
          4 3 8:4 / /a rw - xfs /dev/sda4 rw\n\
          5 4 8:5 / /a/c rw - xfs /dev/sda5 rw\n\
          garbage\n\
          6 1 8:6 / /short rw\n",
    );
    assert_eq!(table.len(), 5);
    for (path, dev) in [("/a/b/x", "8:4"), ("/a", "8:4"), ("/a/c/d", "8:5"), ("/ab", "8:1"), ("/", "8:1")] {
        assert_eq!(mount_of(&table, Path::new(path)).unwrap().dev, dev, "{path}");
    }
}

#[test]
fn this_machine_can_be_read() {
    let l = read(&Roots::host(), &[Wanted::new("install", "/usr"), Wanted::new("external", "/proc")]).unwrap();
    assert!(l.places.iter().all(|p| p.mount.is_some()), "{l:#?}");
    assert_eq!(l.mount(&l.places[1]).unwrap().fs_type, "proc");
    let own = read(&Roots::of_process(std::process::id()), &[Wanted::new("install", "/usr")]).unwrap();
    assert_eq!(own.places[0].mount, l.places[0].mount);
}

proptest::proptest! {
    #[test]
    fn any_mount_table_is_parsed_without_a_panic(text in "[0-9a-z:/ \\\\-]{0,200}\n?", path in "/[a-z/]{0,9}") {
        let table = parse(text.as_bytes());
        let _ = mount_of(&table, Path::new(&path));
    }

    #[test]
    fn a_longer_mount_point_is_never_taken_for_another_path(depth in 0usize..6) {
        let mut text = String::from("1 0 8:1 / / rw - ext4 /dev/x rw\n");
        let mut point = String::new();
        for n in 0..depth {
            point.push_str("/d");
            text.push_str(&format!("{} {} 8:{} / {point} rw - ext4 /dev/x rw\n", n + 2, n + 1, n + 2));
        }
        let table = parse(text.as_bytes());
        let m = mount_of(&table, Path::new(&format!("{point}/file"))).unwrap();
        proptest::prop_assert_eq!(m.id as usize, depth + 1);
    }
}

#[test]
fn a_volume_that_is_named_holds_for_one_file_system_and_never_for_memory() {
    let vol = |n: u8| Volume::from_key(&format!("vol-00000000000000a{n}")).unwrap();
    let wanted = [("database", "/data/db"), ("journal", "/jrn"), ("data", "/opt/iris/mgr"), ("install", "/opt/iris")];
    let silent = |mut l: Layout| {
        l.devices.values_mut().for_each(|d| d.volume = None);
        l
    };
    let named = |names: &[(&str, u8)]| {
        let mut l = silent(layout("aws", &wanted));
        l.name_volumes(&names.iter().map(|(p, n)| ((*p).into(), vec![vol(*n)])).collect());
        l
    };
    let plain = named(&[]);
    assert_eq!(plain, silent(layout("aws", &wanted)), "nothing named, nothing changed");
    let mut says = layout("aws", &wanted);
    says.name_volumes(&[("/".into(), vec![vol(9)]), ("/jrn".into(), vec![vol(9)])].into());
    assert_eq!(says, layout("aws", &wanted), "disks that say what they are, are not overruled");
    let l = named(&[("/data", 1), ("/data/db", 2), ("/jrn", 3)]);
    assert_eq!(disks(&l, 0), ["vol-00000000000000a2"], "the longest name counts");
    assert_eq!(disks(&l, 1), ["vol-00000000000000a3"]);
    assert_eq!(disks(&l, 2), disks(&plain, 2), "what is not named is seen as before");
    assert_eq!(l.mount(&l.places[0]).unwrap().roles, ["database"]);
    let keys: Vec<_> = l.volumes().into_iter().map(|(k, _)| k).collect();
    assert_eq!(keys, ["vol-00000000000000a2", "vol-00000000000000a3"]);
    assert!(check(&l, &one_call(&keys.iter().map(String::as_str).collect::<Vec<_>>())).is_err(), "the rest is on no volume");
    // `/` is another file system than what is mounted on it: its name says nothing about them.
    let l = named(&[("/", 4)]);
    for (n, place) in l.places.iter().enumerate() {
        let on_root = plain.places[n].mount.as_deref() == Some(Path::new("/"));
        assert_eq!(disks(&l, n) == ["vol-00000000000000a4"], on_root, "{place:?}");
    }
    assert!(plain.places.iter().any(|p| p.mount.as_deref() == Some(Path::new("/"))), "the control");
    for no in ["vol-", "vol-xyz", "vol0123456789", "lun:", "lun:x", "sda", ""] {
        assert_eq!(Volume::from_key(no), None, "{no}");
    }
    for key in ["vol-0123456789abcdef0", "lun:3", "os"] {
        assert_eq!(Volume::from_key(key).unwrap().key().as_deref(), Some(key));
    }
}

#[test]
fn a_name_makes_a_container_layer_a_volume_and_leaves_memory_and_other_machines_refused() {
    let mut seen = (0, 0);
    for fs_type in ["overlay", "fuse.sshfs", "zfs", "tmpfs", "nfs4", "cifs"] {
        let mut l = layout("aws", &[("data", "/jrn")]);
        (l.mounts[0].fs_type, l.mounts[0].disks, l.mounts[0].on) = (fs_type.into(), vec![], vec![]);
        let set = one_call(&["vol-00000000000000a1"]);
        assert_eq!(check(&l, &set).unwrap_err().code, Code::RefusedNotCovered, "{fs_type} without a name");
        l.name_volumes(&[("/jrn".into(), vec![Volume::from_key("vol-00000000000000a1").unwrap()])].into());
        match check(&l, &set) {
            Ok(_) => seen.0 += 1,
            Err(_) => seen.1 += 1,
        }
        assert_eq!(check(&l, &set).is_ok(), ["overlay", "fuse.sshfs", "zfs"].contains(&fs_type), "{fs_type} with a name");
    }
    assert_eq!(seen, (3, 3));
}
