//! What is on a device: `blkid -p` (low-level probing, by the bytes and never by a cache), partitions by sysfs, logical volumes
//! by LVM's own programs.

use super::Error;
use doors::clock::boot_now;
use doors::exec::{Call, Program};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A program that only looks.
pub(super) const LOOK_MS: u64 = 60_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Is {
    FileSystem(String),
    /// A physical volume of LVM.
    Lvm,
    /// Look at its partitions.
    Partitions,
    Nothing,
    /// What this program does not open.
    Other(String),
}

pub(super) fn run(program: &str, args: &[&str], ms: u64) -> Result<doors::exec::Output, Error> {
    let fail = |said: String| Error::Program { what: format!("{program} {}", args.join(" ")), said };
    let program = Program::find(program).map_err(|e| fail(e.to_string()))?;
    Call::new(&program, args).run(boot_now().plus(ms), None).map_err(|e| fail(e.to_string()))
}

/// Ends with 0, or says why not.
pub(super) fn must(program: &str, args: &[&str], ms: u64) -> Result<String, Error> {
    let out = run(program, args, ms)?;
    match out.code() {
        Some(0) => Ok(out.out().into_owned()),
        _ => {
            let said = format!("{} {}", out.err().trim(), out.out().trim());
            Err(Error::Program { what: format!("{program} {}", args.join(" ")), said: said.trim().replace('\n', "; ") })
        }
    }
}

pub(super) fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::Volume(format!("{} is not UTF-8", path.display())))
}

pub(super) fn probe(device: &Path) -> Result<Is, Error> {
    // 2: nothing was recognised (blkid(8)).
    let out = run("blkid", &["-p", "-o", "export", text(device)?], LOOK_MS)?;
    match out.code() {
        Some(0) => Ok(is(&out.out())),
        Some(2) => Ok(Is::Nothing),
        _ => Err(Error::Program { what: format!("blkid {}", device.display()), said: out.err().trim().replace('\n', "; ") }),
    }
}

fn is(export: &str) -> Is {
    let all: BTreeMap<&str, &str> = export.lines().filter_map(|l| l.split_once('=')).collect();
    match (all.get("TYPE").copied(), all.get("USAGE").copied()) {
        (Some("LVM2_member"), _) => Is::Lvm,
        (Some(t), Some("filesystem") | None) => Is::FileSystem(t.into()),
        (Some(t), Some(_)) => Is::Other(t.into()),
        (None, _) if all.contains_key("PTTYPE") => Is::Partitions,
        (None, _) => Is::Nothing,
    }
}

/// `/sys/class/block/nvme2n1/nvme2n1p1` has a file `partition`.
pub(super) fn partitions(device: &Path) -> Vec<PathBuf> {
    let name = device.file_name().unwrap_or_default();
    let dir = Path::new("/sys/class/block").join(name);
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut all: Vec<PathBuf> =
        entries.filter(|p| p.join("partition").exists()).filter_map(|p| Some(Path::new("/dev").join(p.file_name()?))).collect();
    all.sort();
    all
}

/// Runs a program to its end within so many milliseconds: what it printed, or why not. [`must`], and in a test a stand-in.
pub(super) type Must<'a> = &'a dyn Fn(&str, &[&str], u64) -> Result<String, Error>;

/// Names the copies of physical volumes anew (their originals may be on this host), and activates their logical volumes.
/// vgimportclone(8): all of a volume group in one call. Only the copies are written to.
pub(super) fn import(group: &str, members: &[PathBuf], must: Must<'_>) -> Result<Vec<PathBuf>, Error> {
    let members = members.iter().map(|m| text(m)).collect::<Result<Vec<_>, _>>()?;
    must("vgimportclone", &[&["--basevgname", group][..], &members].concat(), LOOK_MS)?;
    must("vgchange", &["-a", "y", group], LOOK_MS)?;
    let listed = must("lvs", &["--noheadings", "-o", "lv_path", group], LOOK_MS)?;
    Ok(listed.lines().map(|l| l.trim().into()).filter(|p: &PathBuf| p.is_absolute()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By vgimportclone(8), vgchange(8) and lvs(8): no machine of the tests has a device mapper.
    #[test]
    fn a_volume_group_is_imported_in_one_call_and_its_volumes_are_those_that_lvs_names() {
        let calls = std::cell::RefCell::new(Vec::new());
        let stand_in = |program: &str, args: &[&str], _: u64| {
            calls.borrow_mut().push(format!("{program} {}", args.join(" ")));
            Ok(if program == "lvs" { "  /dev/sf1/data\n  /dev/sf1/jrn\n  \n".to_owned() } else { String::new() })
        };
        let members = [PathBuf::from("/dev/nvme1n1"), PathBuf::from("/dev/nvme2n1")];
        let volumes = import("sf1", &members, &stand_in).unwrap();
        assert_eq!(volumes, [PathBuf::from("/dev/sf1/data"), PathBuf::from("/dev/sf1/jrn")]);
        let wanted = ["vgimportclone --basevgname sf1 /dev/nvme1n1 /dev/nvme2n1", "vgchange -a y sf1", "lvs --noheadings -o lv_path sf1"];
        assert_eq!(*calls.borrow(), wanted);
        let fails = |program: &str, _: &[&str], _: u64| match program {
            "vgimportclone" => Err(Error::Program { what: program.into(), said: "no".into() }),
            other => panic!("{other} after a failure"),
        };
        assert!(import("sf1", &members, &fails).is_err());
    }

    #[test]
    fn what_blkid_says_is_understood() {
        assert_eq!(is("DEVNAME=/dev/loop1\nUUID=x\nBLOCK_SIZE=512\nTYPE=xfs\nUSAGE=filesystem\n"), Is::FileSystem("xfs".into()));
        assert_eq!(is("TYPE=LVM2_member\nUSAGE=raid\n"), Is::Lvm);
        assert_eq!(is("TYPE=crypto_LUKS\nUSAGE=crypto\n"), Is::Other("crypto_LUKS".into()));
        assert_eq!(is("PTUUID=1\nPTTYPE=gpt\n"), Is::Partitions);
        assert_eq!(is("DEVNAME=/dev/loop1\n"), Is::Nothing);
    }
}
