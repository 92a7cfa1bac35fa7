//! Journal files `YYYYMMDD.NNN`: a header, then framed records; a cut-off tail is no error.
//!
//! The first record of a file stands at offset 262272, as in the vendor's 2021.1 sample (`Journal marker set
//! at offset 262272`); the space before it is a hole.

use super::{Position, StoreError, frame, unframe};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where records begin, unless configured otherwise (facts 4.1).
pub const FIRST_RECORD: u64 = 262_272;

/// Why a file was begun; the texts are invented except where the field has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Startup,
    User,
    Backup,
    SizeLimit,
}

impl Reason {
    pub fn text(self) -> &'static str {
        match self {
            Reason::Startup => "by system startup",
            Reason::User => "by user",
            Reason::Backup => "by backup",
            Reason::SizeLimit => "file size limit reached",
        }
    }

    pub fn code(self) -> u32 {
        match self {
            Reason::Startup => 5,
            Reason::User => 1,
            Reason::Backup => 3,
            Reason::SizeLimit => 2,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHeader {
    pub guid: String,
    pub count: u64,
    pub first: u64,
    pub created: String,
    pub reason: Reason,
    pub previous: String,
    /// Where the previous file's records end; 0: not known, after a crash.
    #[serde(default)]
    pub previous_end: u64,
    /// Directory of each database by its SFN when the file was begun: a record's database is known by its directory.
    #[serde(default)]
    pub databases: Vec<String>,
}

/// One change of one node: `None` is "not there".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    pub sfn: u16,
    pub key: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Changes that reach the buffers together; `txn` 0 is outside any transaction.
    Update {
        lsn: u64,
        txn: u64,
        sets: Vec<Set>,
    },
    Commit {
        txn: u64,
    },
    /// The changes that undo transaction `txn`.
    Rollback {
        lsn: u64,
        txn: u64,
        sets: Vec<Set>,
    },
    Marker {
        id: i64,
        text: String,
    },
    /// A database that came later than the file.
    Database {
        sfn: u16,
        dir: String,
    },
}

/// Where an instance's journals go.
#[derive(Debug, Clone)]
pub struct Settings {
    pub guid: String,
    pub primary: PathBuf,
    pub alternate: PathBuf,
    pub prefix: String,
    /// A file of this size is followed by the next.
    pub max: u64,
    /// Where records begin.
    pub first: u64,
    /// Closed files get the name of compressed ones.
    pub compress: bool,
    /// Directory of each database by its SFN.
    pub databases: Vec<String>,
}

/// The file being written, and where the next one goes.
pub struct Journal {
    pub settings: Settings,
    pub use_alternate: bool,
    path: PathBuf,
    file: File,
    count: u64,
    flushed: u64,
    pending: Vec<u8>,
}

impl Journal {
    /// Opens the writer on file number `count`.
    pub fn begin(settings: Settings, count: u64, reason: Reason, today: &str) -> Result<Journal, StoreError> {
        let header = settings.header(count, reason, today, String::new(), 0);
        let (path, file) = create(&settings.primary, &settings.prefix, today, &header)?;
        let flushed = settings.first;
        Ok(Journal { settings, use_alternate: false, path, file, count, flushed, pending: Vec::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Where the next record will stand.
    pub fn position(&self) -> Position {
        Position { count: self.count, offset: self.flushed + self.pending.len() as u64, file: self.path.display().to_string() }
    }

    /// Puts a record into the journal buffer.
    pub fn append(&mut self, record: &Record) -> Position {
        let at = self.position();
        self.pending.extend_from_slice(&frame(record));
        at
    }

    pub fn over_limit(&self) -> bool {
        self.flushed + self.pending.len() as u64 >= self.settings.max
    }

    /// Writes the journal buffer to the file.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if !self.pending.is_empty() {
            self.file.write_all_at(&self.pending, self.flushed).map_err(StoreError::io("write journal", &self.path))?;
            self.flushed += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(())
    }

    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        self.file.sync_data().map_err(StoreError::io("sync journal", &self.path))
    }

    /// Closes this file and begins the next.
    pub fn switch(&mut self, reason: Reason, today: &str) -> Result<(), StoreError> {
        self.flush()?;
        let settings = &self.settings;
        let header = settings.header(self.count + 1, reason, today, self.path.display().to_string(), self.flushed);
        let (first, second) = match self.use_alternate {
            false => (&settings.primary, &settings.alternate),
            true => (&settings.alternate, &settings.primary),
        };
        let made = create(first, &settings.prefix, today, &header);
        // As the vendor: a directory that fails is replaced by the other.
        let (path, file) = made.or_else(|e| create(second, &settings.prefix, today, &header).map_err(|_| e))?;
        let closed = std::mem::replace(&mut self.path, path);
        self.file = file;
        if settings.compress {
            // Whoever has the plain name finds the file under both (facts 3.1).
            let name = format!("{}z", closed.display());
            std::fs::rename(&closed, name).map_err(StoreError::io("rename journal", &closed))?;
        }
        self.count += 1;
        self.flushed = settings.first;
        Ok(())
    }
}

impl Settings {
    fn header(&self, count: u64, reason: Reason, today: &str, previous: String, previous_end: u64) -> JournalHeader {
        let (guid, created, databases) = (self.guid.clone(), today.to_string(), self.databases.clone());
        JournalHeader { guid, count, first: self.first, created, reason, previous, previous_end, databases }
    }
}

/// The vendor's numbers have three digits; a model that freezes all day may need a fourth.
const LAST_NUMBER: u32 = 9999;

/// The numbers of `today` that a directory holds, compressed files included.
fn numbers<'a>(dir: &Path, prefix: &'a str, today: &'a str) -> impl Iterator<Item = u32> + 'a {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name().into_string().ok()?;
        let number = name.strip_prefix(prefix)?.strip_prefix(today)?.strip_prefix('.')?;
        number.trim_end_matches('z').parse().ok()
    })
}

/// The next free `NNN` of `today`, so that a switch never overwrites a file.
fn create(dir: &Path, prefix: &str, today: &str, header: &JournalHeader) -> Result<(PathBuf, File), StoreError> {
    let from = numbers(dir, prefix, today).max().unwrap_or(0) + 1;
    for number in from..=LAST_NUMBER {
        let path = dir.join(format!("{prefix}{today}.{number:03}"));
        match OpenOptions::new().create_new(true).read(true).write(true).open(&path) {
            Ok(file) => {
                file.write_all_at(&frame(header), 0).map_err(StoreError::io("write journal header", &path))?;
                file.set_len(header.first).map_err(StoreError::io("size journal", &path))?;
                return Ok((path, file));
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(StoreError::io("create journal", &path)(e)),
        }
    }
    Err(StoreError::bad(dir, "no free journal file name today"))
}

/// A journal file as found on disk.
#[derive(Debug, Clone)]
pub struct JournalFile {
    pub path: PathBuf,
    pub header: JournalHeader,
    pub size: u64,
}

/// A header with its list of directories.
const PROBED: u64 = 65_536;

/// Reads only the header.
pub fn probe(path: &Path) -> Option<JournalFile> {
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let mut bytes = vec![0u8; size.min(PROBED) as usize];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (header, _) = unframe::<JournalHeader>(&bytes)?;
    Some(JournalFile { path: path.to_path_buf(), header, size })
}

/// Journal files of the instance in these directories, oldest first.
pub fn list(dirs: &[&Path], guid: &str) -> Vec<JournalFile> {
    let mut out: Vec<JournalFile> = dirs
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .filter_map(|entry| probe(&entry.ok()?.path()))
        .filter(|f| f.header.guid == guid)
        .collect();
    out.sort_by_key(|f| f.header.count);
    out.dedup_by_key(|f| f.header.count);
    out
}

/// The records from `from` on, each with its offset. Ends quietly at the first incomplete record.
pub fn records(file: &JournalFile, from: u64) -> Result<Vec<(u64, Record)>, StoreError> {
    let bytes = std::fs::read(&file.path).map_err(StoreError::io("read journal", &file.path))?;
    let mut at = from.max(file.header.first) as usize;
    let mut out = Vec::new();
    while let Some((record, len)) = bytes.get(at..).and_then(unframe::<Record>) {
        out.push((at as u64, record));
        at += len;
    }
    Ok(out)
}

/// Where whole records go on behind `end`, at which one cannot be read; none behind an end that was cut off or not written yet.
pub fn records_after(file: &JournalFile, end: u64) -> Result<Option<u64>, StoreError> {
    let bytes = std::fs::read(&file.path).map_err(StoreError::io("read journal", &file.path))?;
    let from = end as usize + 1;
    let whole = (from..bytes.len()).find(|at| unframe::<Record>(&bytes[*at..]).is_some());
    Ok(whole.map(|at| at as u64))
}

/// What recovery must do to the image, in order.
#[derive(Debug, Default)]
pub struct Replay {
    /// Changes after the image position, then the undo of the transactions left open.
    pub sets: Vec<Set>,
    /// The undo alone, per transaction, for the journal.
    pub undo: Vec<(u64, Vec<Set>)>,
    pub records: usize,
    pub committed: usize,
    pub last_lsn: u64,
    pub last_txn: u64,
    pub first_file: Option<PathBuf>,
    pub last_file: Option<PathBuf>,
    /// Files that replay needs and that are not there.
    pub missing: Vec<u64>,
}

/// The names by which records of a file know their databases, kept up to date record by record.
pub struct Names(Vec<String>);

impl Names {
    pub fn of(file: &JournalFile) -> Names {
        Names(file.header.databases.clone())
    }

    pub fn note(&mut self, record: &Record) {
        if let Record::Database { sfn, dir } = record {
            self.0.resize(self.0.len().max(usize::from(*sfn) + 1), String::new());
            self.0[usize::from(*sfn)].clone_from(dir);
        }
    }

    /// The changes with the SFN that `place` has for each directory; without one they belong to nobody here.
    pub fn placed(&self, sets: Vec<Set>, place: &dyn Fn(&str) -> Option<u16>) -> Vec<Set> {
        if self.0.is_empty() {
            return sets;
        }
        let here = |s: Set| self.0.get(usize::from(s.sfn)).and_then(|dir| place(dir)).map(|sfn| Set { sfn, ..s });
        sets.into_iter().filter_map(here).collect()
    }

    pub fn dirs(&self) -> &[String] {
        &self.0
    }
}

/// Reads the journals from the oldest open transaction on; collects what lies after `image`. `place` knows where a directory's
/// changes belong.
pub fn replay(files: &[JournalFile], image: &Position, open: &Position, place: &dyn Fn(&str) -> Option<u16>) -> Result<Replay, StoreError> {
    let mut out = Replay::default();
    let mut running: std::collections::BTreeMap<u64, Vec<(u64, Set)>> = Default::default();
    let needed: Vec<&JournalFile> = files.iter().filter(|f| f.header.count >= open.count).collect();
    // Count 0 is an instance that has never run.
    let mut expect = open.count.max(1);
    for file in needed {
        while expect < file.header.count {
            out.missing.push(expect);
            expect += 1;
        }
        expect = file.header.count + 1;
        out.first_file.get_or_insert_with(|| file.path.clone());
        out.last_file = Some(file.path.clone());
        let from = if file.header.count == open.count { open.offset } else { 0 };
        let mut names = Names::of(file);
        for (offset, record) in records(file, 0)? {
            names.note(&record);
            if offset < from {
                continue;
            }
            out.records += 1;
            let apply = (file.header.count, offset) >= (image.count, image.offset);
            match record {
                Record::Update { lsn, txn, sets } => {
                    out.last_lsn = out.last_lsn.max(lsn);
                    out.last_txn = out.last_txn.max(txn);
                    let sets = names.placed(sets, place);
                    if txn != 0 {
                        running.entry(txn).or_default().extend(sets.iter().map(|s| (lsn, s.clone())));
                    }
                    if apply {
                        out.sets.extend(sets);
                    }
                }
                Record::Commit { txn } => {
                    running.remove(&txn);
                    out.last_txn = out.last_txn.max(txn);
                    out.committed += usize::from(apply);
                }
                Record::Rollback { lsn, txn, sets } => {
                    out.last_lsn = out.last_lsn.max(lsn);
                    running.remove(&txn);
                    if apply {
                        out.sets.extend(names.placed(sets, place));
                    }
                }
                Record::Marker { .. } | Record::Database { .. } => {}
            }
        }
    }
    if expect <= image.count {
        out.missing.extend(expect..=image.count);
    }
    for (txn, sets) in running.into_iter().rev() {
        let undo: Vec<Set> = undo(sets.into_iter().map(|(_, s)| s));
        out.sets.extend(undo.iter().cloned());
        out.undo.push((txn, undo));
    }
    Ok(out)
}

/// The changes that take `sets` back, last first.
pub fn undo(sets: impl DoubleEndedIterator<Item = Set>) -> Vec<Set> {
    sets.rev().map(|s| Set { old: s.new, new: s.old, ..s }).collect()
}
