//! The journal: one preallocated file per backup id, so that the undo is durable before the do and the result
//! needs no new block. The only module that writes it.
//!
//! ```text
//! <state_dir>/journal/<id>.entry    0      intent   written, fsynced, then renamed into place before the freeze
//!                                   8 KiB  result   after the thaw is confirmed, fsynced before it is told
//!                                   36 KiB done     when the watchdog is ended and no guard is left
//! ```
//! Each slot is one line `crc32 length json`, padded with spaces. An empty slot is spaces.

use crate::points::reach;
use lifecycle::{Found, Order, Past};
use protocol::outcome::{BrokenReason, Window, WindowState};
use protocol::{BackupId, BootId, BootMs, Code, InstanceName, WallMs, WindowRules};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const INTENT: (u64, usize) = (0, 8 << 10);
const RESULT: (u64, usize) = (8 << 10, 28 << 10);
const DONE: (u64, usize) = (36 << 10, 4 << 10);
const SIZE: usize = 40 << 10;
/// Tombstones and results are kept this long.
pub const KEEP_DAYS: u64 = 30;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not {what} {path}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the entry for {0} is too large for its slot")]
    TooLarge(BackupId),
    #[error("another agent holds {0}: two agents on one host are refused")]
    Locked(PathBuf),
}

/// What was meant before the freeze. `thaw_by` and `freeze_by` mean something under `boot_id` only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub schema: u32,
    pub id: BackupId,
    pub rules: WindowRules,
    pub instances: Vec<InstanceName>,
    pub by: String,
    pub thaw_by: BootMs,
    pub freeze_by: BootMs,
    pub boot_id: BootId,
    pub at: WallMs,
    /// Only to keep a late freeze with this id out.
    #[serde(default)]
    pub tombstone: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `None`: never frozen.
    pub window: Option<Window>,
    pub fault: Option<Code>,
    pub guard: Option<BootMs>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub intent: Intent,
    pub outcome: Option<Outcome>,
    pub done: bool,
}

/// What lies in the journal when the agent starts.
pub struct Contents {
    pub entries: Vec<Entry>,
    /// Kept aside under these names; somebody must look.
    pub damaged: Vec<PathBuf>,
}

pub struct Journal {
    dir: PathBuf,
    _lock: File,
}

impl Journal {
    /// Makes the directory (0700) and takes the lock that keeps a second agent out.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(io("make", dir))?;
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(io("protect", dir))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(io("open", &path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Locked(path.clone()))?;
        Ok(Self { dir: dir.into(), _lock: lock })
    }

    fn path(&self, id: BackupId) -> PathBuf {
        self.dir.join(format!("{id}.entry"))
    }

    /// Reads everything. A file that cannot be read is renamed to `….damaged`; one that was never finished
    /// (`….new`: nothing was frozen then) is removed.
    pub fn read(&self) -> Result<Contents, Error> {
        let mut contents = Contents { entries: Vec::new(), damaged: Vec::new() };
        for f in std::fs::read_dir(&self.dir).map_err(io("list", &self.dir))? {
            let path = f.map_err(io("list", &self.dir))?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("new") => std::fs::remove_file(&path).map_err(io("remove", &path))?,
                Some("entry") => match std::fs::read(&path).ok().and_then(|b| parse(&b)) {
                    Some(e) if path == self.path(e.intent.id) => contents.entries.push(e),
                    _ => {
                        let aside = path.with_extension("damaged");
                        std::fs::rename(&path, &aside).map_err(io("keep aside", &path))?;
                        contents.damaged.push(aside);
                    }
                },
                _ => {}
            }
        }
        contents.entries.sort_by_key(|e| (e.intent.at, e.intent.id));
        Ok(contents)
    }

    /// Durable when it returns: file and directory are fsynced, and the result's blocks exist.
    pub fn begin(&self, intent: &Intent) -> Result<(), Error> {
        let bytes = entry_file(intent).ok_or(Error::TooLarge(intent.id))?;
        let (path, new) = (self.path(intent.id), self.path(intent.id).with_extension("new"));
        let mut f = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new).map_err(io("make", &new))?;
        f.write_all(&bytes).and_then(|()| f.sync_all()).map_err(io("write", &new))?;
        reach("agent.entry.written");
        std::fs::rename(&new, &path).map_err(io("name", &path))?;
        reach("agent.entry.named");
        self.sync_dir()
    }

    /// In place: no new block, no new name.
    pub fn finish(&self, id: BackupId, outcome: &Outcome) -> Result<(), Error> {
        self.write_slot(id, result_slot(outcome))
    }

    /// No watchdog and no guard is left for it.
    pub fn done(&self, id: BackupId) -> Result<(), Error> {
        self.write_slot(id, done_slot())
    }

    pub fn tombstone(&self, intent: &Intent) -> Result<(), Error> {
        self.begin(intent)?;
        self.finish(intent.id, &Outcome { window: None, fault: None, guard: None })?;
        self.done(intent.id)
    }

    pub fn get(&self, id: BackupId) -> Option<Entry> {
        parse(&std::fs::read(self.path(id)).ok()?)
    }

    /// Removes what is done and older than [`KEEP_DAYS`]; gives the ids.
    pub fn forget_old(&self, now: WallMs) -> Result<Vec<BackupId>, Error> {
        let mut gone = Vec::new();
        for e in self.read()?.entries {
            if e.done && now.0.saturating_sub(e.intent.at.0) > (KEEP_DAYS * 86_400_000) as i64 {
                let path = self.path(e.intent.id);
                std::fs::remove_file(&path).map_err(io("remove", &path))?;
                gone.push(e.intent.id);
            }
        }
        Ok(gone)
    }

    fn write_slot(&self, id: BackupId, slot: Option<(u64, Vec<u8>)>) -> Result<(), Error> {
        let (at, bytes) = slot.ok_or(Error::TooLarge(id))?;
        let path = self.path(id);
        let f = OpenOptions::new().write(true).open(&path).map_err(io("open", &path))?;
        f.write_all_at(&bytes, at).and_then(|()| f.sync_data()).map_err(io("write", &path))
    }

    fn sync_dir(&self) -> Result<(), Error> {
        File::open(&self.dir).and_then(|d| d.sync_all()).map_err(io("fsync", &self.dir))
    }
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { what, path, source }
}

/// The whole file as it is before the freeze. `None`: it does not fit.
pub fn entry_file(intent: &Intent) -> Option<Vec<u8>> {
    let (_, mut bytes) = slot(INTENT, intent)?;
    bytes.resize(SIZE, b' ');
    Some(bytes)
}

/// Where the result goes, and its bytes. Evidence is for people and is left out until the result fits.
pub fn result_slot(outcome: &Outcome) -> Option<(u64, Vec<u8>)> {
    let mut slim = outcome.clone();
    loop {
        if let Some(fits) = slot(RESULT, &slim) {
            return Some(fits);
        }
        match slim.window.as_mut() {
            Some(w) if !w.evidence.is_empty() => w.evidence.truncate(w.evidence.len() / 2),
            Some(w) if !w.parts.is_empty() => w.parts.clear(),
            _ => return None,
        }
    }
}

pub fn done_slot() -> Option<(u64, Vec<u8>)> {
    slot(DONE, &true)
}

fn slot<T: Serialize>((at, room): (u64, usize), value: &T) -> Option<(u64, Vec<u8>)> {
    let json = serde_json::to_vec(value).ok()?;
    let mut line = format!("{:08x} {} ", crc32fast::hash(&json), json.len()).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    if line.len() > room {
        return None;
    }
    line.resize(room, b' ');
    Some((at, line))
}

/// `Ok(None)`: empty. `Err`: damaged.
fn take<T: for<'a> Deserialize<'a>>(bytes: &[u8], (at, room): (u64, usize)) -> Result<Option<T>, ()> {
    let slot = bytes.get(at as usize..at as usize + room).ok_or(())?;
    if slot.iter().all(|b| *b == b' ') {
        return Ok(None);
    }
    let mut words = slot.splitn(3, |b| *b == b' ');
    let mut word = || words.next().and_then(|w| std::str::from_utf8(w).ok());
    let (crc, len) = (word().ok_or(())?, word().ok_or(())?);
    let (json, rest) = words.next().and_then(|rest| rest.split_at_checked(len.parse().ok()?)).ok_or(())?;
    // As it was written, to the last bit.
    let whole = crc == format!("{:08x}", crc32fast::hash(json)) && len == json.len().to_string();
    if !whole || !rest.strip_prefix(b"\n").is_some_and(|pad| pad.iter().all(|b| *b == b' ')) {
        return Err(());
    }
    serde_json::from_slice(json).map(Some).map_err(|_| ())
}

/// `None`: damaged. A torn result slot counts as no result (it is then thawed and broken); a torn intent is damage.
pub fn parse(bytes: &[u8]) -> Option<Entry> {
    let intent: Intent = take(bytes, INTENT).ok().flatten()?;
    let outcome = take(bytes, RESULT).ok().flatten();
    let done = take::<bool>(bytes, DONE).ok().flatten().unwrap_or(false);
    Some(Entry { intent, outcome, done })
}

impl Contents {
    /// Thawed and recorded, but the agent died before it ended the watchdog and closed the entry.
    pub fn undone(&self) -> Vec<BackupId> {
        let over = |e: &&Entry| !e.done && e.outcome.as_ref().is_some_and(|o| o.guard.is_none());
        self.entries.iter().filter(over).map(|e| e.intent.id).collect()
    }

    /// What the machine starts with. `fallback` stands in when a damaged file hides an order.
    pub fn found(&self, boot: &BootId, now: BootMs, fallback: Order) -> (Found, BTreeMap<BackupId, Past>, Option<Entry>) {
        let mut past = BTreeMap::new();
        let mut open: Option<&Entry> = None;
        let mut guard: Option<(&Entry, BootMs)> = None;
        for e in &self.entries {
            match &e.outcome {
                None => {
                    if let Some(older) = open.replace(e) {
                        past.insert(older.intent.id, verdict_lost());
                    }
                }
                Some(o) => {
                    past.insert(
                        e.intent.id,
                        o.window.as_ref().map_or(Past::Tombstone, |w| Past::Ended { window: w.state.clone(), fault: o.fault }),
                    );
                    if !e.done
                        && let Some(until) = o.guard
                    {
                        guard = Some((e, if e.intent.boot_id == *boot { until } else { now }));
                    }
                }
            }
        }
        let order = |e: &Entry| Order { id: e.intent.id, rules: e.intent.rules };
        let (found, entry) = match (open, guard) {
            _ if !self.damaged.is_empty() => (Found::Unreadable { order: open.map_or(fallback, order) }, open.cloned()),
            (Some(e), _) => {
                let freeze_by = (e.intent.boot_id == *boot).then_some(e.intent.freeze_by);
                (Found::Open { order: order(e), freeze_by }, Some(e.clone()))
            }
            (None, Some((e, until))) => (Found::Guard { order: order(e), until }, Some(e.clone())),
            (None, None) => (Found::Nothing, None),
        };
        (found, past, entry)
    }
}

fn verdict_lost() -> Past {
    Past::Ended { window: WindowState::Broken(BrokenReason::VerdictLost), fault: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::window::{HoldMs, Margins, OnOverrun};

    fn intent(n: u128, boot: &str) -> Intent {
        let rules = WindowRules::new(HoldMs::new(30_000).unwrap(), OnOverrun::FailBackup, None, None, Margins::default()).unwrap();
        Intent {
            schema: 1,
            id: BackupId::from_uuid(uuid::Uuid::from_u128(n)),
            rules,
            instances: vec!["IRIS".parse().unwrap()],
            by: "test".into(),
            thaw_by: BootMs(1000),
            freeze_by: BootMs(900),
            boot_id: BootId(boot.into()),
            at: WallMs(n as i64),
            tombstone: false,
        }
    }

    fn found(j: &Journal) -> Found {
        let fallback = intent(99, "b");
        j.read().unwrap().found(&BootId("b".into()), BootMs(500), Order { id: fallback.id, rules: fallback.rules }).0
    }

    #[test]
    fn an_entry_without_a_result_is_found_open_and_one_with_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let j = Journal::open(dir.path()).unwrap();
        assert_eq!(found(&j), Found::Nothing);
        let i = intent(1, "b");
        j.begin(&i).unwrap();
        assert!(matches!(found(&j), Found::Open { freeze_by: Some(BootMs(900)), .. }));
        j.finish(i.id, &Outcome { window: None, fault: None, guard: Some(BootMs(700)) }).unwrap();
        assert!(matches!(found(&j), Found::Guard { until: BootMs(700), .. }));
        j.done(i.id).unwrap();
        assert_eq!(found(&j), Found::Nothing);
        assert_eq!(j.get(i.id).unwrap().intent, i);
    }

    #[test]
    fn after_a_reboot_stored_times_have_expired() {
        let dir = tempfile::tempdir().unwrap();
        let j = Journal::open(dir.path()).unwrap();
        j.begin(&intent(1, "another boot")).unwrap();
        assert!(matches!(found(&j), Found::Open { freeze_by: None, .. }));
    }

    #[test]
    fn a_torn_result_is_no_result_and_a_torn_intent_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let j = Journal::open(dir.path()).unwrap();
        let i = intent(1, "b");
        j.begin(&i).unwrap();
        j.finish(i.id, &Outcome { window: None, fault: None, guard: None }).unwrap();
        let path = j.path(i.id);
        let whole = std::fs::read(&path).unwrap();
        for cut in [RESULT.0 as usize, RESULT.0 as usize + 5, RESULT.0 as usize + 20] {
            let mut torn = whole.clone();
            torn[cut..].fill(0);
            std::fs::write(&path, &torn).unwrap();
            assert!(matches!(found(&j), Found::Open { .. }), "cut at {cut}");
        }
        for cut in [0, 3, 40] {
            let mut torn = whole.clone();
            torn[cut..].fill(0);
            std::fs::write(&path, &torn).unwrap();
            assert!(matches!(found(&j), Found::Unreadable { .. }), "cut at {cut}");
            std::fs::remove_file(path.with_extension("damaged")).unwrap();
        }
    }

    #[test]
    fn a_turned_bit_in_the_intent_is_damage_and_behind_it_loses_a_result_at_most() {
        let i = intent(1, "b");
        let mut bytes = entry_file(&i).unwrap();
        let (at, slot) = result_slot(&Outcome { window: None, fault: None, guard: None }).unwrap();
        bytes[at as usize..at as usize + slot.len()].copy_from_slice(&slot);
        for bit in (0..128).chain((128..4096).step_by(5)).chain((4096..2 * INTENT.1 * 8).step_by(257)) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = parse(&bytes);
            assert_eq!(read.is_some(), bit >= INTENT.1 * 8, "bit {bit}");
            assert!(read.is_none_or(|e| e.intent == i && e.outcome.is_none()), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_second_agent_is_kept_out_and_old_entries_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let j = Journal::open(dir.path()).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(Error::Locked(_))));
        j.tombstone(&intent(1, "b")).unwrap();
        j.begin(&intent(2, "b")).unwrap();
        assert!(j.forget_old(WallMs(1000)).unwrap().is_empty());
        let gone = j.forget_old(WallMs(31 * 86_400_000)).unwrap();
        assert_eq!(gone, [intent(1, "b").id], "an open entry is never forgotten");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(mut b in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), long: bool) {
            if long { b.resize(SIZE, b' '); }
            let _ = parse(&b);
        }
    }
}
