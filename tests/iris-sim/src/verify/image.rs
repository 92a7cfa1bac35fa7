//! Judges the files of one instance.

use super::files::Found;
use super::report::{DatabaseReport, Report};
use crate::instance::accounts::{Account, GLOBAL, SEQ};
use crate::store::block::Block;
use crate::store::database::{LABEL, Label, offset};
use crate::store::journal;
use crate::store::wij::WijState;
use std::collections::BTreeMap;
use std::path::Path;

/// Decoded blocks of a database, and what its label says.
struct Loaded {
    label: Label,
    blocks: BTreeMap<u32, Result<Block, String>>,
}

/// A node and the block that it lies in.
type Nodes = BTreeMap<(u16, String), (u32, String)>;

pub fn judge(found: Found) -> Report {
    let mut report = Report { guid: found.guid.clone(), lock: found.lock.is_some(), ..Report::default() };
    report.last_event = found.console.as_deref().map(last_event).unwrap_or_default();
    report.journals = found.journals.iter().map(|f| f.path.display().to_string()).collect();
    let mut loaded = BTreeMap::new();
    for (path, label) in &found.databases {
        match label {
            Some(label) => {
                let blocks = read_blocks(path, label, &mut report);
                loaded.insert(label.sfn, Loaded { label: label.clone(), blocks });
                report.databases.push(DatabaseReport {
                    name: label.name.clone(),
                    path: path.display().to_string(),
                    blocks: label.blocks,
                    cycle: label.cycle,
                });
            }
            None => report.problems.push(format!("{}: the label is damaged", path.display())),
        }
    }
    wij(&found, &mut loaded, &mut report);
    cycles(&loaded, &mut report);
    let mut nodes = nodes(&loaded, &mut report);
    links(&nodes, &loaded, "", &mut report);
    recover(&found, &loaded, &mut nodes, &mut report);
    report.clean = report.problems.is_empty();
    report.frozen_image = report.pending_blocks == 0 && report.last_event.ends_with("Backup.General.ExternalFreeze: System suspended");
    report
}

fn read_blocks(path: &Path, label: &Label, report: &mut Report) -> BTreeMap<u32, Result<Block, String>> {
    let size = label.block_size as usize;
    let bytes = std::fs::read(path).unwrap_or_default();
    let want = LABEL + size * label.blocks as usize;
    if bytes.len() != want {
        report.problems.push(format!("{}: {} bytes, the label says {want}", path.display(), bytes.len()));
    }
    (1..=label.blocks)
        .map(|number| {
            let at = offset(number, size) as usize;
            let decoded = match bytes.get(at..at + size) {
                Some(slice) => Block::decode(slice, number).map_err(|e| e.to_string()),
                None => Err("beyond the end of the file".to_string()),
            };
            (number, decoded)
        })
        .collect()
}

/// Applies a pending WIJ in memory; a complete one must be of the databases' cycle.
fn wij(found: &Found, loaded: &mut BTreeMap<u16, Loaded>, report: &mut Report) {
    report.cycle = loaded.values().map(|l| l.label.cycle).max().unwrap_or(0);
    let Some(wij) = &found.wij else {
        report.wij = "none".into();
        return;
    };
    let header = &wij.header;
    if header.state == WijState::Complete {
        report.wij = "complete".into();
        if header.cycle != report.cycle {
            report.problems.push(format!("the WIJ is of write daemon cycle {}, the databases of cycle {}", header.cycle, report.cycle));
        }
        return;
    }
    report.wij = "pending".into();
    report.pending_blocks = header.blocks;
    let before = header.cycle.saturating_sub(1);
    for db in loaded.values() {
        if db.label.cycle != header.cycle && db.label.cycle != before {
            report.problems.push(format!(
                "{}: the pending WIJ is of write daemon cycle {}, the label of cycle {}",
                db.label.name, header.cycle, db.label.cycle
            ));
        }
    }
    match wij.entries() {
        Ok(entries) => {
            for entry in entries {
                if let Some(db) = loaded.get_mut(&entry.sfn) {
                    let block = Block::decode(&entry.bytes, entry.number).map_err(|e| e.to_string());
                    db.blocks.insert(entry.number, block);
                }
            }
            for db in loaded.values_mut() {
                db.label.cycle = header.cycle;
                db.label.lsn = header.lsn;
                (db.label.image, db.label.open) = (header.image.clone(), header.open.clone());
            }
            report.cycle = header.cycle;
        }
        Err(e) => report.problems.push(format!("pending WIJ: {e}")),
    }
}

/// Every block whole, none of a later cycle than its label; all labels alike.
fn cycles(loaded: &BTreeMap<u16, Loaded>, report: &mut Report) {
    for db in loaded.values() {
        let name = &db.label.name;
        if db.label.cycle != report.cycle {
            report
                .problems
                .push(format!("{name}: label of write daemon cycle {}, another database's of cycle {}", db.label.cycle, report.cycle));
        }
        for (number, block) in &db.blocks {
            match block {
                Err(why) => report.problems.push(format!("{name}: block {number}: {why}")),
                Ok(block) if block.cycle > db.label.cycle => report
                    .problems
                    .push(format!("{name}: block {number} was written in cycle {}, the label is of cycle {}", block.cycle, db.label.cycle)),
                Ok(_) => {}
            }
        }
    }
}

fn nodes(loaded: &BTreeMap<u16, Loaded>, report: &mut Report) -> Nodes {
    let mut out = Nodes::new();
    for (sfn, db) in loaded {
        for (number, block) in &db.blocks {
            let Ok(block) = block else { continue };
            for (key, value) in &block.nodes {
                if let Some((other, _)) = out.insert((*sfn, key.clone()), (*number, value.clone())) {
                    let name = &db.label.name;
                    report.problems.push(format!("{name}: {key} is in block {other} and in block {number}"));
                }
            }
        }
    }
    out
}

/// A partner is never of an older group than the account that names it.
fn links(nodes: &Nodes, loaded: &BTreeMap<u16, Loaded>, when: &str, report: &mut Report) {
    let name = |sfn: u16| loaded.get(&sfn).map_or("?", |l| l.label.name.as_str()).to_string();
    for ((sfn, key), (number, value)) in nodes.iter().filter(|((_, key), _)| key.starts_with(GLOBAL)) {
        let Some(account) = Account::decode(value) else {
            continue;
        };
        let Some(partner) = &account.partner else {
            continue;
        };
        if !loaded.contains_key(&partner.0) {
            continue;
        }
        let (at, group) = match nodes.get(partner) {
            Some((at, value)) => (*at, Account::decode(value).map_or(0, |a| a.group)),
            None => (0, 0),
        };
        if group < account.group {
            report.problems.push(format!(
                "{}: block {at} is older than {} block {number}{when}: {key} was changed with {} in update {}, which is missing there",
                name(partner.0),
                name(*sfn),
                partner.1,
                account.group
            ));
        }
    }
}

/// Journal recovery in memory, if the journals reach back far enough.
fn recover(found: &Found, loaded: &BTreeMap<u16, Loaded>, nodes: &mut Nodes, report: &mut Report) {
    let Some(label) = loaded.values().map(|l| &l.label).max_by_key(|l| l.cycle) else {
        return;
    };
    report.journal_first_needed = label.open.file.clone();
    if !found.journals.is_empty() && report.problems.is_empty() {
        let holds_image = found.journals.iter().find(|f| f.header.count == label.image.count).is_some_and(|f| f.size >= label.image.offset);
        let place = |dir: &str| loaded.iter().find(|(_, l)| l.label.directory == dir).map(|(sfn, _)| *sfn);
        match journal::replay(&found.journals, &label.image, &label.open, &place) {
            Ok(replay) if replay.missing.is_empty() && holds_image => {
                for set in replay.sets {
                    let place = (set.sfn, set.key);
                    let number = nodes.get(&place).map_or(0, |(number, _)| *number);
                    match set.new {
                        Some(value) => nodes.insert(place, (number, value)),
                        None => nodes.remove(&place),
                    };
                }
                report.recovered.journals_usable = true;
                report.recovered.records = replay.records;
                report.recovered.rolled_back = replay.undo.len();
                links(nodes, loaded, " after journal recovery", report);
            }
            Ok(replay) => report.problems.push(format!(
                "journals do not cover the image: it needs {} from offset {}{}",
                label.image.file,
                label.image.offset,
                if replay.missing.is_empty() { String::new() } else { format!(", missing number {:?}", replay.missing) }
            )),
            Err(e) => report.problems.push(e.to_string()),
        }
    }
    summarize(nodes, loaded, report);
}

fn summarize(nodes: &Nodes, loaded: &BTreeMap<u16, Loaded>, report: &mut Report) {
    let mut recovered = std::mem::take(&mut report.recovered);
    let mut digest = crc32fast::Hasher::new();
    for ((sfn, key), (_, value)) in nodes.iter() {
        digest.update(format!("{sfn}{key}={value}\n").as_bytes());
        if key.starts_with(GLOBAL) {
            recovered.accounts += 1;
            recovered.sum += Account::decode(value).map_or(0, |a| a.balance);
        } else if let Some(worker) = key.strip_prefix(SEQ) {
            recovered.seq.insert(worker.trim_end_matches(')').to_string(), value.parse().unwrap_or(0));
        } else {
            let db = loaded.get(sfn).map_or("?", |l| l.label.name.as_str());
            recovered.nodes.insert(format!("{db}:{key}"), value.clone());
        }
    }
    if recovered.journals_usable && recovered.sum != 0 {
        report.problems.push(format!("after journal recovery the balances sum to {}", recovered.sum));
    }
    recovered.digest = digest.finalize();
    report.recovered = recovered;
}

/// The last line of messages.log that has one of the vendor's prefixes.
fn last_event(path: &Path) -> String {
    let text = std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    text.lines().rev().find(|line| line.len() > 20 && line.as_bytes()[2] == b'/').unwrap_or_default().to_string()
}
