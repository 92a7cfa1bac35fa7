//! The four kernel calls that no safe wrapper offers: freezing and thawing a file system, and btrfs snapshots.
//! All unsafe code of this crate is [`call`]. A thaw through an open descriptor needs no program, which matters
//! when the file system that holds the programs is the frozen one.

use rustix::io::{Errno, Result};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// `linux/fs.h`: `FIFREEZE _IOWR('X', 119, int)`, `FITHAW _IOWR('X', 120, int)`.
const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);
/// `linux/btrfs.h`, magic 0x94.
const SNAP_DESTROY: Opcode = opcode::write::<VolArgs>(0x94, 15);
const SNAP_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(0x94, 23);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(0x94, 26);
const FS_INFO: Opcode = opcode::read::<FsInfo>(0x94, 31);
const SUBVOL_RDONLY: u64 = 1 << 1;

/// `struct btrfs_ioctl_vol_args`
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}
/// `struct btrfs_ioctl_vol_args_v2`
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}
/// `struct btrfs_ioctl_fs_info_args`, as far as we read it.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}
const _: () = assert!(size_of::<VolArgs>() == 4096 && size_of::<VolArgsV2>() == 4096 && size_of::<FsInfo>() == 1024);

/// Freezes a file system: waits for running writes, flushes, then lets new ones wait. EBUSY: frozen already, by someone else.
pub fn freeze(fd: &OwnedFd) -> Result<()> {
    call::<FIFREEZE, i32>(fd, &mut 0)
}

/// Thaws it. EINVAL: it was not frozen.
pub fn thaw(fd: &OwnedFd) -> Result<()> {
    call::<FITHAW, i32>(fd, &mut 0)
}

/// Makes `parent/name` a snapshot of the subvolume whose root `source` is. Dirty pages of it are written out first.
pub fn btrfs_snapshot(parent: impl AsFd, name: &OsStr, source: impl AsFd, read_only: bool) -> Result<()> {
    let mut args = VolArgsV2 {
        fd: source.as_fd().as_raw_fd().into(),
        transid: 0,
        flags: if read_only { SUBVOL_RDONLY } else { 0 },
        unused: [0; 4],
        name: [0; 4040],
    };
    put_name(&mut args.name, name)?;
    call::<SNAP_CREATE_V2, _>(parent, &mut args)
}

/// Removes the subvolume `parent/name` with all that is in it; its space comes back later.
pub fn btrfs_destroy(parent: impl AsFd, name: &OsStr) -> Result<()> {
    let mut args = VolArgs { fd: 0, name: [0; 4088] };
    put_name(&mut args.name, name)?;
    call::<SNAP_DESTROY, _>(parent, &mut args)
}

/// Makes the subvolume whose root `fd` is read-only or writable.
pub fn btrfs_set_read_only(fd: impl AsFd, read_only: bool) -> Result<()> {
    call::<SUBVOL_SETFLAGS, u64>(fd, &mut if read_only { SUBVOL_RDONLY } else { 0 })
}

/// The file system's id, the same for all of its subvolumes. ENOTTY: not btrfs.
pub fn btrfs_fsid(fd: impl AsFd) -> Result<[u8; 16]> {
    let mut info = FsInfo { max_id: 0, num_devices: 0, fsid: [0; 16], rest: [0; 992] };
    call::<FS_INFO, _>(fd, &mut info)?;
    Ok(info.fsid)
}

/// A single path component, with the zero byte that ends it.
fn put_name(into: &mut [u8], name: &OsStr) -> Result<()> {
    let bytes = name.as_bytes();
    let fits = !bytes.is_empty() && bytes.len() < into.len() && !bytes.contains(&b'/') && !bytes.contains(&0);
    if !fits {
        return Err(Errno::INVAL);
    }
    into[..bytes.len()].copy_from_slice(bytes);
    Ok(())
}

#[expect(unsafe_code, reason = "rustix has no safe function for these ioctls")]
fn call<const OPCODE: Opcode, T>(fd: impl AsFd, arg: &mut T) -> Result<()> {
    // SAFETY: private to this module; every caller pairs OPCODE with the structure that the kernel's header names for it
    // (the size is part of the opcode, and asserted above), it is fully initialised, and it outlives the call.
    unsafe { ioctl(fd, Updater::<OPCODE, T>::new(arg)) }
}
