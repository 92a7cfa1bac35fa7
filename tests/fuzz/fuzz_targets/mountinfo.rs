//! `/proc/PID/mountinfo`, and which mount a path lies on. After a line of `====`: paths to look for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use storage::layout::mountinfo::{self, MountLine};

fuzz_target!(|data: &[u8]| {
    // Above this only the time grows.
    if data.len() > 8192 {
        return;
    }
    let cut = data.windows(6).position(|w| w == b"\n====\n");
    let (table, paths) = cut.map_or((data, &[][..]), |at| (&data[..at], &data[at + 6..]));
    let all = mountinfo::parse(table);
    assert!(all.len() <= table.split(|b| *b == b'\n').count());
    // Written as the kernel writes it, it is read back.
    let written: Vec<u8> = all.iter().flat_map(write).collect();
    assert_eq!(mountinfo::parse(&written), all);
    let asked = paths.split(|b| *b == b'\n').map(|p| Path::new(std::ffi::OsStr::from_bytes(p)));
    for path in asked.chain(all.iter().map(|m| m.point.as_path())).filter(|p| p.is_absolute()).take(64) {
        let Some(m) = mountinfo::mount_of(&all, path) else {
            assert!(!all.iter().any(|m| m.point == Path::new("/") && m.parent == m.id), "{path:?} lies nowhere");
            continue;
        };
        assert!(path.starts_with(&m.point), "{path:?} does not lie on {m:?}");
        // No mount that lies on it is nearer.
        let nearer = |o: &MountLine| o.parent == m.id && o.id != m.id && o.point.starts_with(&m.point) && path.starts_with(&o.point);
        assert!(unique(&all) <= all.len() && (unique(&all) < all.len() || !all.iter().any(nearer)), "{path:?}");
        for b in mountinfo::below(&all, path).iter().take(8) {
            assert!(b.point != path && b.point.starts_with(path));
            assert_eq!(mountinfo::mount_of(&all, &b.point).map(|t| t.id), Some(b.id));
        }
    }
});

fn unique(all: &[MountLine]) -> usize {
    all.iter().map(|m| m.id).collect::<std::collections::BTreeSet<_>>().len()
}

fn write(m: &MountLine) -> Vec<u8> {
    let mut out = format!("{} {} {} ", m.id, m.parent, m.dev).into_bytes();
    out.extend(escape(m.root.as_os_str().as_bytes()));
    out.push(b' ');
    out.extend(escape(m.point.as_os_str().as_bytes()));
    out.extend(format!(" {} shared:1 - {} ", m.options, m.fs_type).into_bytes());
    out.extend(escape(m.source.as_bytes()));
    out.push(b'\n');
    out
}

/// The four that the kernel escapes, and a dash that stands alone.
fn escape(bytes: &[u8]) -> Vec<u8> {
    let special = |b: u8| matches!(b, b' ' | b'\t' | b'\n' | b'\\') || bytes == b"-";
    bytes.iter().flat_map(|b| if special(*b) { format!("\\{b:03o}").into_bytes() } else { vec![*b] }).collect()
}
