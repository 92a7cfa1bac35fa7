//! The page cache: a snapshot of a disk sees what was written to it, and no more. Opened before the freeze, written right after.

use super::prepare::blocking;
use crate::caller::Caller;
use crate::layout::{self, HostLayout};
use doors::clock::boot_now;
use protocol::wire::{FreezeReply, FreezeRequest, Phase, Problem, StatusReply};
use protocol::{BackupId, Code, InstanceName};
use std::path::PathBuf;
use std::time::Duration;
use storage::layout::{Layout, Roots, mountinfo};
use storage::sync::SyncSet;

const QUICK: Duration = Duration::from_secs(5);
/// The agent gives its engines 20 s.
const LAYOUT: Duration = Duration::from_secs(30);
const OPEN: Duration = Duration::from_secs(10);
/// And never more than half of what is left of the hold: the snapshot comes after it.
const SYNC_MS: u64 = 30_000;
/// A hook of DLM has 8 s for all of it.
const BEFORE_MS: u64 = 3_000;

/// Freezes and writes the page cache of every file system of the instances. Frozen and on the disk, or a problem after which
/// nothing is frozen by us unless it is `Thaw.LeftFrozen`.
pub async fn freeze(caller: &Caller<'_>, request: &FreezeRequest) -> Result<FreezeReply, Problem> {
    let set = match open(caller, &request.instances).await {
        Ok(s) => s,
        Err(p) => return Err(not_begun(caller, request, p).await),
    };
    beforehand(&set).await;
    let reply = caller.freeze(request).await?;
    if reply.by != request.by {
        return Ok(reply); // somebody else's window: neither ours to use nor to thaw
    }
    write(caller, set, reply).await
}

/// What has piled up is written before the freeze, so that little is left for the window. Nothing depends on it.
pub async fn beforehand(set: &SyncSet) {
    let set = set.clone();
    let _ = blocking(move || set.sync(boot_now().plus(BEFORE_MS))).await;
}

/// Everything that can fail, before the freeze.
async fn open(caller: &Caller<'_>, names: &[InstanceName]) -> Result<SyncSet, Problem> {
    let host = caller.client().get::<HostLayout>("/v1/layout", LAYOUT).await.map_err(|p| match p.code {
        Code::Internal => unseen(&p.detail).next("run `snapfreeze check`"),
        _ => p,
    })?;
    let host = host.only(names);
    let work = blocking(move || {
        let wanted = layout::wanted(&host.instances);
        let seen = storage::layout::read(&Roots::host(), &wanted).map_err(|e| unseen(&crate::chain(&e)))?;
        let all_known = host.instances.iter().all(|i| !i.places.is_empty());
        let mut mounts = mounts(&seen);
        if !all_known || seen.places.iter().any(|p| p.mount.is_none()) {
            let table = std::fs::read(&Roots::host().mountinfo).map_err(|e| unseen(&e.to_string()))?;
            mounts.extend(disks(&table));
        }
        mounts.sort();
        mounts.dedup();
        SyncSet::open(&mounts)
            .map_err(|e| unseen(&e.to_string()).next("run it as root; `--no-sync` where the snapshot sees the page cache"))
    });
    tokio::time::timeout(OPEN, work).await.unwrap_or_else(|_| Err(unseen(&format!("not opened within {} s", OPEN.as_secs()))))?
}

fn unseen(why: &str) -> Problem {
    Problem::new(Code::RefusedNotCovered, format!("the file systems of the instances cannot be written to their disks: {why}"))
}

fn mounts(seen: &Layout) -> Vec<PathBuf> {
    seen.mounts.iter().map(|m| m.point.clone()).collect()
}

/// Every file system of this host's disks: for an instance whose places are not seen from here (a container, a command).
fn disks(mountinfo: &[u8]) -> Vec<PathBuf> {
    let mut all = mountinfo::parse(mountinfo);
    all.retain(|m| m.source.starts_with("/dev/") || m.fs_type == "zfs");
    all.sort_by(|a, b| (&a.dev, a.point.as_os_str().len()).cmp(&(&b.dev, b.point.as_os_str().len())));
    all.dedup_by(|a, b| a.dev == b.dev);
    all.into_iter().map(|m| m.point).collect()
}

/// A repeated order may find the window of its first one open: a refusal would leave it so.
async fn not_begun(caller: &Caller<'_>, request: &FreezeRequest, why: Problem) -> Problem {
    match caller.client().get::<StatusReply>("/v1/status", QUICK).await {
        Ok(s) if s.id == Some(request.id) && s.by == request.by && !matches!(s.phase, Phase::Idle | Phase::Ended | Phase::Tombstone) => {
            undone(caller, request.id, &why.detail).await
        }
        Ok(_) | Err(_) => why,
    }
}

async fn write(caller: &Caller<'_>, set: SyncSet, mut reply: FreezeReply) -> Result<FreezeReply, Problem> {
    let heard = boot_now();
    let by = heard.plus((reply.remaining_ms / 2).min(SYNC_MS));
    let why = match blocking(move || set.sync(by)).await {
        Ok(r) if r.good() => {
            reply.sync_ms = Some(r.took_ms);
            reply.remaining_ms = reply.remaining_ms.saturating_sub(boot_now().since(heard));
            return Ok(reply);
        }
        Ok(r) => format!("the page cache was not written within {} ms: unfinished {:?}, failed {:?}", r.took_ms, r.unfinished, r.failed),
        Err(p) => p.detail,
    };
    Err(undone(caller, reply.id, &why).await)
}

/// Thawed by its id. An agent that does not know a freeze that it confirmed has lost its records: nobody can say more.
async fn undone(caller: &Caller<'_>, id: BackupId, why: &str) -> Problem {
    match caller.thaw(id).await {
        Ok(_) => Problem::new(Code::FreezeFailed, format!("{why}; thawed again"))
            .next("a longer hold leaves more time; `snapfreeze freeze --no-sync` where the snapshot sees the page cache"),
        Err(p) => {
            let code = if p.code == Code::ThawUnknownId { Code::LeftFrozen } else { p.code };
            Problem::new(code, format!("{}; {why}", p.detail)).next("run `sudo snapfreeze thaw` now")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disk_of_the_host_is_found_once() {
        let table = "21 1 259:1 / / rw - ext4 /dev/root rw\n22 21 0:5 / /proc rw - proc proc rw\n23 21 0:40 / /run rw - tmpfs tmpfs rw\n\
            24 21 259:2 /d /srv/deep/bind rw - xfs /dev/nvme1n1 rw\n25 21 259:2 / /db rw - xfs /dev/nvme1n1 rw\n\
            26 21 0:50 / /nfs rw - nfs4 h:/x rw\n27 21 0:51 / /pool rw - zfs pool/a rw\n28 21 0:52 / /b rw - btrfs /dev/nvme2n1 rw\n";
        assert_eq!(disks(table.as_bytes()), ["/pool", "/b", "/", "/db"].map(PathBuf::from));
    }
}
