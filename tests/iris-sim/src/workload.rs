//! Transactions that never stop: the reason why an unfrozen copy is torn, and the witness of what was
//! committed.
//!
//! Each transaction moves an amount between two accounts in two databases in two update groups: the first
//! takes it out, the second puts it in and sets `^SEQ(worker)`. Between them balances do not sum to zero.
//! A commit counts once its line is fsynced in the record, which neither instance nor `verify` reads.

use crate::clock;
use crate::config::Config;
use crate::instance::accounts::{GLOBAL, Group, SEQ};
use crate::proto::{Client, Op, Reply};
use crate::torn::Rng;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Accounts per database.
const ACCOUNTS: u64 = 4000;
/// A pause before another attempt to reach an instance that is away.
const RECONNECT: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    pub root: PathBuf,
    pub name: String,
    /// Committed transactions, one fsynced line each; on another file system
    #[arg(long)]
    pub record: Option<PathBuf>,
    /// 0: until a signal comes
    #[arg(long, default_value_t = 0.0)]
    pub seconds: f64,
    /// Transactions per second, all workers together
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    /// Workers; one more keeps transactions open
    #[arg(long, default_value_t = 4)]
    pub threads: u32,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Processes that only read
    #[arg(long, default_value_t = 0)]
    pub readers: u32,
    /// How long the keeper's transactions stay open; 0: no keeper
    #[arg(long, default_value_t = 1000)]
    pub hold_ms: u64,
}

#[derive(Debug, Default)]
struct Totals {
    commits: u64,
    rolled_back: u64,
    reconnects: u64,
    longest_stall_ms: f64,
    longest_stall_at_ms: f64,
    writes: u64,
    reads: u64,
    longest_read_ms: f64,
}

struct Shared {
    cfg: Config,
    stop: Arc<AtomicBool>,
    totals: Mutex<Totals>,
    until: f64,
    pause: Duration,
    hold: Duration,
    record: Option<PathBuf>,
    places: Vec<u16>,
}

pub fn main(cfg: &Config, args: &Args) -> i32 {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        if let Err(e) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            eprintln!("cannot catch signals: {e}");
            return 1;
        }
    }
    let started = clock::boot_ms();
    let until = if args.seconds > 0.0 { started + args.seconds * 1000.0 } else { f64::INFINITY };
    let mut places: Vec<u16> = cfg.databases.iter().enumerate().skip(3).map(|(sfn, _)| sfn as u16).collect();
    if places.len() < 2 {
        places.push(2);
    }
    let per_worker = f64::from(args.threads.max(1)) / args.rate.max(0.001);
    let shared = Shared {
        cfg: cfg.clone(),
        stop,
        totals: Mutex::default(),
        until,
        pause: Duration::from_secs_f64(per_worker),
        hold: Duration::from_millis(args.hold_ms),
        record: args.record.clone().or_else(|| cfg.record.clone()),
        places,
    };
    std::thread::scope(|scope| {
        for worker in 0..args.threads {
            let shared = &shared;
            scope.spawn(move || run_worker(shared, worker, args.seed, false));
        }
        for reader in 0..args.readers {
            let shared = &shared;
            scope.spawn(move || run_reader(shared, args.seed.wrapping_add(u64::from(reader) << 32)));
        }
        if args.hold_ms > 0 {
            scope.spawn(|| run_worker(&shared, args.threads, args.seed, true));
        }
    });
    let totals = shared.totals.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{}",
        json!({
            "commits": totals.commits,
            "rolled_back": totals.rolled_back,
            "writes": totals.writes,
            "reads": totals.reads,
            "longest_read_ms": totals.longest_read_ms,
            "reconnects": totals.reconnects,
            "seconds": (clock::boot_ms() - started) / 1000.0,
            "longest_stall_ms": totals.longest_stall_ms,
            "longest_stall_at_ms": totals.longest_stall_at_ms,
        })
    );
    0
}

impl Shared {
    fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || clock::boot_ms() >= self.until
    }

    fn totals(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.totals.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn run_worker(shared: &Shared, worker: u32, seed: u64, keeper: bool) {
    let mut rng = Rng::new(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(worker) + 1));
    let mut record = shared
        .record
        .as_ref()
        .and_then(|path| OpenOptions::new().create(true).append(true).open(path).map_err(|e| eprintln!("{}: {e}", path.display())).ok());
    while !shared.over() {
        let Ok(client) = Client::connect(&shared.cfg) else {
            std::thread::sleep(RECONNECT);
            continue;
        };
        let mut client = client.with_pid(std::process::id() + worker);
        if transactions(shared, &mut client, worker, &mut rng, record.as_mut(), keeper).is_none() {
            shared.totals(|t| t.reconnects += 1);
            std::thread::sleep(RECONNECT);
        }
    }
}

/// Reads go on in a freeze; the longest is told.
fn run_reader(shared: &Shared, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut client = None;
    while !shared.over() {
        let Some(connected) = client.as_mut() else {
            client = Client::connect(&shared.cfg).ok();
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let sfn = shared.places[rng.below(shared.places.len() as u64) as usize];
        let key = format!("{GLOBAL}{})", rng.below(ACCOUNTS));
        let before = clock::boot_ms();
        if done(connected, Op::Get { sfn, key }).is_none() {
            client = None;
            continue;
        }
        let took = clock::boot_ms() - before;
        shared.totals(|t| {
            t.reads += 1;
            t.longest_read_ms = t.longest_read_ms.max(took);
        });
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `None`: the connection is lost.
fn transactions(
    shared: &Shared,
    client: &mut Client,
    worker: u32,
    rng: &mut Rng,
    mut record: Option<&mut File>,
    keeper: bool,
) -> Option<()> {
    let seq_key = format!("{SEQ}{worker})");
    let seq = done(client, Op::Get { sfn: 2, key: seq_key.clone() })?;
    let mut number: u64 = seq.as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut next = clock::boot_ms();
    while !shared.over() {
        number += 1;
        match one(shared, client, &seq_key, number, rng, keeper)? {
            true => {
                if let Some(file) = record.as_deref_mut() {
                    let line = json!({"worker": worker, "txn": number, "t_ms": clock::boot_ms()});
                    // One write per line: the workers share the file.
                    let written = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data());
                    if let Err(e) = written {
                        eprintln!("record: {e}");
                    }
                }
                shared.totals(|t| t.commits += 1);
            }
            false => {
                number -= 1;
                shared.totals(|t| t.rolled_back += 1);
            }
        }
        // A steady rate, without catching up on a stall.
        next = (next + shared.pause.as_secs_f64() * 1000.0).max(clock::boot_ms());
        while !keeper && !shared.over() && clock::boot_ms() < next {
            let left = (next - clock::boot_ms()).clamp(0.0, 20.0);
            std::thread::sleep(Duration::from_secs_f64(left / 1000.0));
        }
    }
    Some(())
}

/// One transaction: `Some(true)` committed, `Some(false)` rolled back.
fn one(shared: &Shared, client: &mut Client, seq_key: &str, number: u64, rng: &mut Rng, hold: bool) -> Option<bool> {
    let from_db = shared.places[rng.below(shared.places.len() as u64) as usize];
    let others: Vec<u16> = shared.places.iter().copied().filter(|p| *p != from_db).collect();
    let to_db = others[rng.below(others.len() as u64) as usize];
    let from = (from_db, format!("{GLOBAL}{})", rng.below(ACCOUNTS)));
    let to = (to_db, format!("{GLOBAL}{})", rng.below(ACCOUNTS)));
    let amount = 1 + rng.below(100) as i64;
    done(client, Op::Begin)?;
    let take = Group { from: from.clone(), to: to.clone(), from_delta: -amount, to_delta: 0, also: Vec::new() };
    if !write(shared, client, take)? {
        done(client, Op::Rollback)?;
        return Some(false);
    }
    let until = clock::boot_ms() + shared.hold.as_secs_f64() * 1000.0;
    while hold && clock::boot_ms() < until && !shared.over() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let give = Group { from, to, from_delta: 0, to_delta: amount, also: vec![(2, seq_key.to_string(), number.to_string())] };
    // Now and then a transaction changes its mind.
    if rng.below(50) == 0 || !write(shared, client, give)? {
        done(client, Op::Rollback)?;
        return Some(false);
    }
    done(client, Op::Commit)?;
    Some(true)
}

/// One update group, timed. `Some(false)`: another transaction has a lock.
fn write(shared: &Shared, client: &mut Client, group: Group) -> Option<bool> {
    let before = clock::boot_ms();
    let reply = client.call(Op::Group(group)).ok()?;
    let took = clock::boot_ms() - before;
    shared.totals(|t| {
        t.writes += 1;
        if took > t.longest_stall_ms {
            t.longest_stall_ms = took;
            t.longest_stall_at_ms = before;
        }
    });
    match reply {
        Reply::Done(_) => Some(true),
        Reply::Failed(text) if text == "<LOCKED>" => Some(false),
        _ => None,
    }
}

fn done(client: &mut Client, op: Op) -> Option<Value> {
    match client.call(op).ok()? {
        Reply::Done(value) => Some(value),
        _ => None,
    }
}
