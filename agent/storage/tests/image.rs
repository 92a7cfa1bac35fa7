//! Volumes of a set on real loop devices: ext4 and XFS, one mounted below the other, with the originals mounted beside them.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use protocol::tags::SetTags;
use protocol::{BackupId, Verdict, WallMs};
use std::path::{Path, PathBuf};
use std::process::Command;
use storage::catalogue::host::HostFile;
use storage::catalogue::store::{self, State};
use storage::image::{self, Source};
use storage::layout::{Device, DeviceKind, Layout, Mount, Volume};

fn ok(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn t(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Two file systems, `/t/data` and `/t/data/jrn` of a host that was, each with its host file, and a copy of each as a snapshot has it.
struct Bed {
    dir: tempfile::TempDir,
    id: BackupId,
    loops: Vec<String>,
    mounts: Vec<PathBuf>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        let images = self.dir.path().join("images");
        let _ = image::down(&images, &self.id.to_string());
        for m in self.mounts.iter().rev() {
            let _ = ok("umount", &["-l", t(m)]);
        }
        for l in &self.loops {
            let _ = ok("losetup", &["-d", l]);
        }
    }
}

fn host(id: BackupId, points: &[&Path]) -> HostFile {
    let mut layout = Layout { schema: 1, ..Layout::default() };
    for (n, point) in points.iter().enumerate() {
        let disk = format!("nvme{n}n1");
        layout.mounts.push(Mount {
            point: point.to_path_buf(),
            root: "/".into(),
            fs_type: "xfs".into(),
            source: format!("/dev/{disk}"),
            options: String::new(),
            uuid: None,
            roles: vec!["database".into()],
            on: vec![disk.clone()],
            disks: vec![disk.clone()],
        });
        let device = Device {
            name: disk.clone(),
            dev: "259:0".into(),
            kind: DeviceKind::Disk,
            label: String::new(),
            size_bytes: 0,
            model: String::new(),
            serial: String::new(),
            volume: Some(Volume::Ebs { id: format!("vol-0000000{n}") }),
            on: vec![],
        };
        layout.devices.insert(disk, device);
    }
    HostFile::new(id, WallMs(1), "0", layout, serde_json::json!([]))
}

impl Bed {
    fn make(test: &str) -> Option<Self> {
        let made = Self::try_make();
        if made.is_none() {
            println!("SKIP {test}: no right to make loop devices");
        }
        made
    }

    fn try_make() -> Option<Self> {
        let id: BackupId = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().expect("an id");
        let mut bed = Self { dir: tempfile::tempdir().expect("a directory"), id, loops: vec![], mounts: vec![] };
        let data = bed.dir.path().join("data");
        std::fs::create_dir(&data).expect("a directory");
        for (name, mkfs, at) in [("a", "mkfs.ext4", data.clone()), ("b", "mkfs.xfs", data.join("jrn"))] {
            let file = bed.dir.path().join(name);
            std::fs::File::create(&file).expect("a file").set_len(320 << 20).expect("a size");
            ok(mkfs, &["-q", t(&file)])?;
            std::fs::create_dir_all(&at).expect("a directory");
            ok("mount", &["-o", "loop", t(&file), t(&at)])?;
            bed.mounts.push(at);
        }
        std::fs::write(data.join("IRIS.DAT"), "the database").expect("a file");
        std::fs::write(data.join("jrn/20261127.001"), "the journal").expect("a file");
        assert_eq!(image::leave(&host(id, &[&data, &data.join("jrn")])), Vec::<String>::new());
        for name in ["a", "b"] {
            let at = if name == "a" { data.clone() } else { data.join("jrn") };
            ok("sync", &["-f", t(&at)])?;
            // As a disk snapshot is: the log is not empty, the file system was never unmounted.
            let copy = bed.dir.path().join(format!("{name}.snap"));
            ok("cp", &["--sparse=always", t(&bed.dir.path().join(name)), t(&copy)])?;
            bed.loops.push(ok("losetup", &["--show", "-f", t(&copy)])?);
        }
        Some(bed)
    }

    fn tags(&self) -> SetTags {
        SetTags { verdict: Verdict::Held, set_size: 2, ..SetTags::new(self.id) }
    }

    fn up(&self, which: &[usize]) -> Result<image::Up, image::Error> {
        let sources: Vec<Source> = which.iter().map(|n| Source::Device(self.loops[*n].clone().into())).collect();
        image::up(&self.images(), Path::new("/dev/disk"), &sources, &self.tags(), WallMs(2))
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn nothing_is_left(&self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!table.contains(t(&self.images())), "nothing is left mounted");
        assert!(!self.images().join(self.id.to_string()).exists());
    }
}

#[test]
fn volumes_of_a_set_are_a_set_of_the_catalogue_beside_their_originals() {
    let Some(bed) = Bed::make("volumes_of_a_set_are_a_set_of_the_catalogue_beside_their_originals") else { return };
    let data = bed.dir.path().join("data");
    for again in [false, true] {
        // In any order, and again where a crash may have left it.
        let up = bed.up(if again { &[0, 1] } else { &[1, 0] }).expect("up");
        assert_eq!(up.mounts.keys().collect::<Vec<_>>(), [&data, &data.join("jrn")]);
        let copy = up.set.join("data").join(data.strip_prefix("/").unwrap());
        assert_eq!(std::fs::read_to_string(copy.join("IRIS.DAT")).unwrap(), "the database");
        assert_eq!(std::fs::read_to_string(copy.join("jrn/20261127.001")).unwrap(), "the journal");
        assert!(std::fs::write(copy.join("IRIS.DAT"), "x").is_err(), "read-only");
        let e = store::find(&[bed.images()], &bed.id.to_string()).expect("an entry");
        let State::Set { manifest, tags } = &e.state else { panic!("{:?}", e.state) };
        assert_eq!(tags.verdict, Verdict::Held);
        let list = storage::catalogue::files::list(&e.dir, manifest).expect("a list");
        let jrn: Vec<_> = list.iter().filter(|r| r.path.ends_with("20261127.001")).collect();
        assert!(jrn.len() == 1 && jrn[0].size == 11, "{jrn:?}");
    }
    image::down(&bed.images(), &bed.id.to_string()).expect("down");
    bed.nothing_is_left();
    assert_eq!(std::fs::read_to_string(data.join("IRIS.DAT")).unwrap(), "the database", "the original is there");
}

#[test]
fn a_part_of_a_set_or_what_is_none_is_refused_and_nothing_stays_mounted() {
    let Some(mut bed) = Bed::make("a_part_of_a_set_or_what_is_none_is_refused_and_nothing_stays_mounted") else { return };
    let e = bed.up(&[0]).expect_err("half a set");
    assert!(matches!(&e, image::Error::Partial(p) if p.contains("jrn")), "{e}");
    bed.nothing_is_left();
    let e = bed.up(&[0, 0]).expect_err("the same twice");
    assert!(e.to_string().contains("were both"), "{e}");
    bed.nothing_is_left();
    // A volume of nowhere, one that is encrypted, and one that is empty.
    let file = bed.dir.path().join("c");
    std::fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
    let device = ok("losetup", &["--show", "-f", t(&file)]).expect("a device");
    bed.loops.push(device.clone());
    let e = bed.up(&[2]).expect_err("an empty one");
    assert!(matches!(&e, image::Error::Partial(p) if p.contains("host file")), "{e}");
    let up = bed.up(&[0, 1, 2]).expect("with one that is not needed");
    assert!(up.notes.iter().any(|n| n.contains("holds nothing")), "{:?}", up.notes);
    image::down(&bed.images(), &bed.id.to_string()).expect("down");
    std::fs::write(&device, [&b"LUKS\xba\xbe\x00\x01"[..], &[0; 4088]].concat()).unwrap();
    let e = bed.up(&[0, 1, 2]).expect_err("it is encrypted");
    assert!(e.to_string().contains("crypto_LUKS"), "{e}");
    bed.nothing_is_left();
}
