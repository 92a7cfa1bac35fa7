//! What `verify` found, for people and as JSON.

use serde::Serialize;
use std::collections::BTreeMap;

/// Problems listed in full; the rest is counted.
const SHOWN: usize = 10;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub guid: String,
    pub clean: bool,
    /// Last line of messages.log is a freeze's, and the WIJ has nothing pending.
    pub frozen_image: bool,
    pub databases: Vec<DatabaseReport>,
    /// `none`, `complete` or `pending`.
    pub wij: String,
    pub pending_blocks: u32,
    pub cycle: u64,
    pub journals: Vec<String>,
    pub journal_first_needed: String,
    /// A lock file is in the image: it was taken of a running instance.
    pub lock: bool,
    pub last_event: String,
    pub problems: Vec<String>,
    pub recovered: Recovered,
}

#[derive(Debug, Default, Serialize)]
pub struct DatabaseReport {
    pub name: String,
    pub path: String,
    pub blocks: u32,
    pub cycle: u64,
}

/// The state after WIJ recovery, roll-forward and rollback, all in memory.
#[derive(Debug, Default, Serialize)]
pub struct Recovered {
    pub journals_usable: bool,
    pub records: usize,
    pub rolled_back: usize,
    pub accounts: usize,
    pub sum: i64,
    /// Of every node and value: equal for equal contents.
    pub digest: u32,
    /// `^SEQ(worker)`: each worker's last committed transaction.
    pub seq: BTreeMap<String, u64>,
    /// Nodes other than the workload's, as `database:^global(subscripts)`.
    pub nodes: BTreeMap<String, String>,
}

impl Report {
    pub fn text(&self) -> String {
        let mut out = String::new();
        for db in &self.databases {
            out += &format!("  {:<14} {:>6} blocks  cycle {:<8} {}\n", db.name, db.blocks, db.cycle, db.path);
        }
        out += &format!("  WIJ {}, {} blocks pending\n", self.wij, self.pending_blocks);
        match (self.journals.first(), self.journals.last()) {
            (Some(first), Some(last)) => out += &format!("  journals {first} .. {last}\n"),
            _ => out += "  no journals\n",
        }
        out += &format!("  last event: {}\n", self.last_event);
        if self.recovered.journals_usable {
            out += &format!(
                "  after journal recovery: {} records, {} transactions rolled back, {} accounts sum to {}\n",
                self.recovered.records, self.recovered.rolled_back, self.recovered.accounts, self.recovered.sum
            );
        }
        for problem in self.problems.iter().take(SHOWN) {
            out += &format!("  TORN: {problem}\n");
        }
        if self.problems.len() > SHOWN {
            out += &format!("  ... and {} more\n", self.problems.len() - SHOWN);
        }
        let verdict = match (self.clean, self.frozen_image, self.pending_blocks) {
            (false, ..) => "torn: the files are not of one moment".to_string(),
            (true, true, _) => "clean: image of a frozen instance, nothing pending in the WIJ".to_string(),
            (true, false, 0) => "clean: nothing pending in the WIJ, not taken in a freeze".to_string(),
            (true, false, n) => {
                format!("clean after WIJ recovery of {n} blocks (crash-consistent, not frozen)")
            }
        };
        format!("{verdict}\n{out}")
    }
}
