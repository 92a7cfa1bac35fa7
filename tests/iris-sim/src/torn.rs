//! Seeded interleavings in one process: a small instance whose transactions, write daemon steps and a
//! copier that copies one piece at a time take turns as a seed says. Real files, no threads, no clock.

use crate::config::{Config, DbConfig, Flavor};
use crate::instance::accounts::{GLOBAL, Group};
use crate::instance::{Core, UpdateError, recovery};
use crate::store::StoreError;
use crate::verify::{self, report::Report};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// xorshift64*: a seed gives the same run everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    /// The copier starts without asking.
    None,
    /// No freeze either, but nothing moves while the copier works: a snapshot of the disk.
    NoneButAtomic,
    /// The copier works between freeze and thaw.
    Whole,
    /// Negative control: the freeze forgets to suspend the write daemon.
    ForgetsToSuspend,
    /// Negative control: the thaw comes when the copier has done a fifth.
    ThawsTooEarly,
}

/// One run: install, warm up, copy, verify the copy.
pub fn run(seed: u64, freeze: Freeze, work: &Path) -> Result<Report, StoreError> {
    let source = work.join("source");
    let image = work.join("image");
    for dir in [&source, &image] {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
    }
    let cfg = config(&source);
    recovery::create(&cfg)?;
    let (core, _) = Core::start(cfg, "20240101")?;
    let mut play = Play { core, rng: Rng::new(seed), open: Vec::new() };
    for _ in 0..100 + play.rng.below(200) {
        play.turn()?;
    }
    if freeze != Freeze::None && freeze != Freeze::NoneButAtomic {
        play.core.wd.ignores_suspension = freeze == Freeze::ForgetsToSuspend;
        play.core.switch_journal(crate::store::journal::Reason::Backup, "20240101")?;
        play.core.add_marker(crate::instance::suspension::BACKUP_MARKER, "")?;
        play.core.wd.request_suspend();
        while !play.core.is_suspended() {
            play.turn()?;
        }
    }
    let mut copier = Copier::new(&source, &image)?;
    let early = copier.pieces() / 5;
    let mut copied = 0;
    loop {
        // The copier is as fast as the rest together.
        if freeze == Freeze::NoneButAtomic || play.rng.below(2) == 0 {
            if !copier.step()? {
                break;
            }
            copied += 1;
            if copied == early && freeze == Freeze::ThawsTooEarly {
                play.core.wd.resume();
            }
        } else {
            play.turn()?;
        }
    }
    let mut reports = verify::check(&[image]);
    reports.pop().ok_or_else(|| StoreError::bad(work, "the image holds no database"))
}

/// A crash at a moment that the seed decides: what recovery in memory promises of the files, then what a
/// start and a clean stop make of them.
pub fn crash(seed: u64, work: &Path) -> Result<(Report, Report), StoreError> {
    let promised = run(seed, Freeze::NoneButAtomic, work)?;
    let image = work.join("image");
    let (mut core, _) = Core::start(config(&image), "20240101")?;
    core.stop()?;
    let mut reports = verify::check(&[image]);
    let made = reports.pop().ok_or_else(|| StoreError::bad(work, "the image holds no database"))?;
    Ok((promised, made))
}

struct Play {
    core: Core,
    rng: Rng,
    /// Transactions that have taken and not yet given.
    open: Vec<(u64, Group)>,
}

impl Play {
    /// One write of the write daemon or one update group.
    fn turn(&mut self) -> Result<(), StoreError> {
        if self.rng.below(3) != 0 {
            return self.core.wd_step().map(|_| ());
        }
        if !self.open.is_empty() && (self.open.len() > 3 || self.rng.below(2) == 0) {
            let index = self.rng.below(self.open.len() as u64) as usize;
            let (txn, take) = self.open.swap_remove(index);
            let give = Group { from_delta: 0, to_delta: -take.from_delta, ..take };
            return match self.core.apply_group(txn, &give) {
                Ok(()) => self.core.commit(txn),
                Err(UpdateError::Store(e)) => Err(e),
                Err(_) => self.core.rollback(txn).or(Ok(())),
            };
        }
        let account = |rng: &mut Rng| format!("{GLOBAL}{})", rng.below(200));
        let swap = self.rng.below(2);
        let from = (3 + swap as u16, account(&mut self.rng));
        let to = (4 - swap as u16, account(&mut self.rng));
        let amount = 1 + self.rng.below(9) as i64;
        let take = Group { from, to, from_delta: -amount, to_delta: 0, also: Vec::new() };
        let txn = self.core.begin(0);
        match self.core.apply_group(txn, &take) {
            Ok(()) => self.open.push((txn, take)),
            Err(UpdateError::Store(e)) => return Err(e),
            // Stalled or locked: a real process would wait; here another turn comes.
            Err(_) => self.core.rollback(txn).or(Ok::<(), StoreError>(()))?,
        }
        Ok(())
    }
}

/// Copies the files of a tree, one after the other, one piece per step.
struct Copier {
    /// Source, target, offset, length.
    pieces: Vec<(PathBuf, PathBuf, u64)>,
    next: usize,
    open: Option<(PathBuf, File, File)>,
}

/// A block of the small instance.
const PIECE: usize = 512;

impl Copier {
    fn new(source: &Path, image: &Path) -> Result<Copier, StoreError> {
        let mut pieces = Vec::new();
        // Databases, then WIJ, then journals: in the order of their names.
        let mut dirs: Vec<_> =
            std::fs::read_dir(source).map_err(StoreError::io("list", source))?.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
        dirs.sort();
        for dir in dirs {
            let name = dir.file_name().unwrap_or_default().to_os_string();
            let mut files: Vec<_> = std::fs::read_dir(&dir).map_err(StoreError::io("list", &dir))?.flatten().map(|e| e.path()).collect();
            files.sort();
            for file in files {
                let target_dir = image.join(&name);
                std::fs::create_dir_all(&target_dir).map_err(StoreError::io("create", &target_dir))?;
                let target = target_dir.join(file.file_name().unwrap_or_default());
                // A journal grows while it is copied; its last piece takes what is there then.
                let length = std::fs::metadata(&file).map_or(0, |m| m.len());
                for at in (0..length.max(1)).step_by(PIECE) {
                    pieces.push((file.clone(), target.clone(), at));
                }
            }
        }
        Ok(Copier { pieces, next: 0, open: None })
    }

    fn pieces(&self) -> usize {
        self.pieces.len()
    }

    fn step(&mut self) -> Result<bool, StoreError> {
        let Some((source, target, at)) = self.pieces.get(self.next) else {
            return Ok(false);
        };
        self.next += 1;
        if self.open.as_ref().is_none_or(|(path, ..)| path != source) {
            let from = File::open(source).map_err(StoreError::io("open", source))?;
            let to = File::create(target).map_err(StoreError::io("create", target))?;
            self.open = Some((source.clone(), from, to));
        }
        let Some((_, from, to)) = &self.open else {
            return Ok(false);
        };
        let last = self.pieces.get(self.next).is_none_or(|(path, ..)| path != source);
        let mut bytes = vec![0u8; if last { 1 << 20 } else { PIECE }];
        let read = from.read_at(&mut bytes, *at).map_err(StoreError::io("read", source))?;
        to.write_all_at(&bytes[..read], *at).map_err(StoreError::io("write", target))?;
        Ok(true)
    }
}

/// Small enough for a thousand runs.
fn config(dir: &Path) -> Config {
    let database = |name: &str, sub: &str, blocks: u32, journalled: bool| DbConfig {
        name: name.into(),
        dir: dir.join(sub),
        blocks,
        journalled,
        removed: false,
    };
    Config {
        name: "SEED".into(),
        guid: "SEED".into(),
        flavor: Flavor::Iris,
        version: "2024.1.0.263.0".into(),
        product: "InterSystems IRIS".into(),
        root: dir.to_path_buf(),
        dir: dir.to_path_buf(),
        journal: dir.join("journal1"),
        alternate: dir.join("journal2"),
        journal_prefix: String::new(),
        wij_dir: dir.join("iwij"),
        databases: vec![
            database("IRISSYS", "db0", 2, true),
            database("IRISLOCALDATA", "db1", 2, false),
            database("USER", "db2", 4, true),
            database("T1", "db3", 48, true),
            database("T2", "db4", 48, true),
        ],
        namespaces: Vec::new(),
        partial_rollback: false,
        block_size: PIECE as u32,
        buffers: 90,
        journal_first: 4096,
        journal_max: 1 << 20,
        superserver: 0,
        webserver: 0,
        mirror_type: None,
        mirror_status: None,
        mirror_name: None,
        history: None,
        record: None,
        old_freeze: false,
        time_scale: 1.0,
        wd_cycle_ms: 0,
        wd_block_us: 0,
        fsync: false,
        compress: false,
        max_life_s: 0,
        qlist_fields: 14,
        list_indent: 8,
    }
}
