//! The GT.M engine on real databases: what only this engine has. The common contract is in `contract.rs`.

#[path = "gtm/bench.rs"]
mod bench;
#[path = "gtm/broken.rs"]
mod broken;
#[path = "gtm/hosts.rs"]
mod hosts;
#[path = "gtm/proof.rs"]
mod proof;

use doors::clock::boot_now;
use doors::exec::Cancel;
use engine::gtm::Gtm;
use engine::{Engine, FreezeAnswer, FreezeOrder, Held, ThawAnswer};
use protocol::{BootMs, HoldMs, OnOverrun, WindowRules};
use suite::gtm::{GtmDb, Pace, Sizes, Workload, installed_or_skip};

/// A database with two regions, its engine, and a directory that goes last.
pub struct Rig {
    pub engine: Gtm,
    pub db: GtmDb,
    pub dir: tempfile::TempDir,
}

impl Rig {
    pub fn new(test: &str) -> Option<Self> {
        Self::with(test, Sizes { blocks: 2_000, buffers: 256 })
    }
    pub fn with(test: &str, sizes: Sizes) -> Option<Self> {
        installed_or_skip(test)?;
        let dir = tempfile::tempdir().unwrap();
        let db = GtmDb::create_with(&dir.path().join("t"), &["ACC"], sizes).unwrap();
        let engine = Gtm::new(db.config("t")).unwrap();
        Some(Self { engine, db, dir })
    }
    pub fn work(&self, pause_ms: u32) -> Workload {
        self.db.start_workload(&self.dir.path().join("record"), Pace { pause_ms, value: 400 }).unwrap()
    }
    pub fn freeze(&self) -> Held {
        match self.engine.freeze(&order(soon()), &Cancel::new().unwrap()) {
            FreezeAnswer::Frozen(held) => held,
            other => panic!("{other:?}"),
        }
    }
    pub fn thaw(&self, held: Option<&Held>) -> ThawAnswer {
        self.engine.thaw(held, 10_000, &|_| {})
    }
    pub fn mupip(&self, args: &[&str]) {
        self.db.must(self.db.mupip(args)).unwrap();
    }
}

pub fn soon() -> BootMs {
    boot_now().plus(20_000)
}

pub fn order(by: BootMs) -> FreezeOrder {
    let rules = WindowRules::new(HoldMs::new(30_000).unwrap(), OnOverrun::FailBackup, None, None, Default::default());
    FreezeOrder { id: "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap(), rules: rules.unwrap(), by }
}
