//! `iris-sim install`: a root with links, a registry, and a new instance.

use super::PERSONALITIES;
use crate::config::{Config, DbConfig, Flavor};
use crate::instance::recovery;
use crate::registry::{Entry, Registry};
use crate::store::StoreError;
use crate::store::journal::FIRST_RECORD;
use clap::{Args, ValueEnum};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FlavorArg {
    Iris,
    Cache,
}

#[derive(Debug, Args)]
pub struct Install {
    /// Directory of the registry, the links and the sockets
    #[arg(long)]
    pub root: PathBuf,
    #[arg(long, default_value = "IRIS")]
    pub name: String,
    #[arg(long, value_enum, default_value = "iris")]
    pub flavor: FlavorArg,
    #[arg(long = "version", default_value = "2024.1.0.263.0")]
    pub product_version: String,
    #[arg(long)]
    pub product: Option<String>,
    /// The oracle: events are appended here
    #[arg(long)]
    pub history: Option<PathBuf>,
    /// Default record file of `workload`
    #[arg(long)]
    pub record: Option<PathBuf>,
    /// Global buffers, in blocks
    #[arg(long, default_value_t = 8192)]
    pub buffers: usize,
    #[arg(long)]
    pub mirror_type: Option<String>,
    #[arg(long)]
    pub mirror_status: Option<String>,
    #[arg(long)]
    pub mirror_name: Option<String>,
    /// Data, journals and WIJ each in a directory of their own beside the instance's
    #[arg(long)]
    pub split: bool,
    #[arg(long)]
    pub data: Option<PathBuf>,
    #[arg(long)]
    pub journal: Option<PathBuf>,
    #[arg(long)]
    pub altjournal: Option<PathBuf>,
    #[arg(long)]
    pub wij: Option<PathBuf>,
    #[arg(long, default_value = "")]
    pub journal_prefix: String,
    /// Data databases T1, T2, ... for the workload
    #[arg(long, default_value_t = 2)]
    pub databases: u32,
    /// Blocks of each data database
    #[arg(long, default_value_t = 2048)]
    pub blocks: u32,
    #[arg(long, default_value_t = 8192)]
    pub block_size: u32,
    /// Journal file size limit in MB
    #[arg(long, default_value_t = 64)]
    pub journal_mb: u64,
    /// ExternalFreeze without arguments 10 and 11, as old versions have it
    #[arg(long)]
    pub old_freeze: bool,
    #[arg(long, default_value_t = 1.0)]
    pub time_scale: f64,
    /// Rest of the write daemon between two cycles
    #[arg(long, default_value_t = 1)]
    pub wd_cycle_ms: u64,
    /// Pause after each of its writes
    #[arg(long, default_value_t = 0)]
    pub wd_block_us: u64,
    #[arg(long)]
    pub fsync: bool,
    /// Closed journals get the name of a compressed one, with a trailing z
    #[arg(long)]
    pub compress: bool,
    /// The rollback that a start journals leaves out databases that are not mounted; else it has them all (no source says)
    #[arg(long)]
    pub partial_rollback: bool,
    /// The server ends by itself after so many seconds
    #[arg(long, default_value_t = 3600)]
    pub max_life: u64,
    #[arg(long, default_value_t = 14)]
    pub qlist_fields: usize,
    #[arg(long, default_value_t = 8)]
    pub list_indent: usize,
    #[arg(long)]
    pub superserver: Option<u16>,
}

#[derive(Debug, Args)]
pub struct Adopt {
    /// The root to register it in; made if it is not there
    #[arg(long)]
    pub root: PathBuf,
    /// The image's instance directory: the one with `sim.json`
    #[arg(long)]
    pub image: PathBuf,
    /// Its name there; by default its old one
    #[arg(long)]
    pub name: Option<String>,
    /// A directory outside the image's that has moved too, as OLD=NEW
    #[arg(long, value_name = "OLD=NEW")]
    pub moved: Vec<String>,
    #[arg(long)]
    pub history: Option<PathBuf>,
}

/// Gives the image's configuration the paths where its files lie now.
pub fn adopt(args: &Adopt) -> Result<Config, StoreError> {
    let image = absolute(&args.image);
    let mut cfg = Config::load(&image)?;
    let mut moves = vec![(cfg.dir.clone(), image.clone())];
    moves.extend(args.moved.iter().filter_map(|m| m.split_once('=')).map(|(a, b)| (a.into(), absolute(Path::new(b)))));
    let moved = |path: &mut PathBuf| {
        for (old, new) in &moves {
            if let Ok(rest) = path.strip_prefix(old) {
                *path = new.join(rest);
                return;
            }
        }
    };
    for db in &mut cfg.databases {
        moved(&mut db.dir);
    }
    for path in [&mut cfg.journal, &mut cfg.alternate, &mut cfg.wij_dir] {
        moved(path);
    }
    cfg.dir = image;
    cfg.root = absolute(&args.root);
    cfg.history = args.history.as_deref().map(absolute);
    if let Some(name) = &args.name {
        cfg.name = name.to_uppercase();
    }
    write_files(&cfg)?;
    register(&cfg)?;
    Ok(cfg)
}

pub fn run(args: &Install) -> Result<Config, StoreError> {
    let root = absolute(&args.root);
    let installed = Registry::load(&root).entries.len() as u16;
    let cfg = config(args, &root, installed);
    recovery::create(&cfg)?;
    write_files(&cfg)?;
    register(&cfg)?;
    Ok(cfg)
}

/// Links and registry entry.
fn register(cfg: &Config) -> Result<(), StoreError> {
    let root = &cfg.root;
    let bin = root.join("bin");
    std::fs::create_dir_all(&bin).map_err(StoreError::io("create", &bin))?;
    let exe = std::env::current_exe().map_err(StoreError::io("find program", &bin))?;
    for name in PERSONALITIES {
        let link = bin.join(name);
        let _ = std::fs::remove_file(&link);
        symlink(&exe, &link).map_err(StoreError::io("link", &link))?;
    }
    let mut registry = Registry::load(root);
    registry.entries.retain(|e| !e.name.eq_ignore_ascii_case(&cfg.name));
    let default = !registry.entries.iter().any(|e| e.default);
    registry.entries.push(Entry { name: cfg.name.clone(), dir: cfg.dir.clone(), default });
    registry.save()
}

fn config(args: &Install, root: &Path, nth: u16) -> Config {
    let flavor = match args.flavor {
        FlavorArg::Iris => Flavor::Iris,
        FlavorArg::Cache => Flavor::Cache,
    };
    let lower = args.name.to_lowercase();
    let dir = root.join(&lower);
    let place = |given: &Option<PathBuf>, sub: &str| match given {
        Some(path) => absolute(path),
        None if args.split => root.join(format!("{lower}-{sub}")),
        None => dir.join(sub),
    };
    let mgr = dir.join("mgr");
    let data = match (&args.data, args.split) {
        (None, false) => dir.join("data"),
        _ => place(&args.data, "data"),
    };
    let database =
        |name: &str, dir: PathBuf, blocks: u32, journalled: bool| DbConfig { name: name.into(), dir, blocks, journalled, removed: false };
    let mut databases = vec![
        database(flavor.system_db(), mgr.clone(), 64, true),
        database(flavor.local_db(), mgr.join(flavor.local_db().to_lowercase()), 16, false),
        database("USER", mgr.join("user"), 128, true),
    ];
    for n in 1..=args.databases {
        databases.push(database(&format!("T{n}"), data.join(format!("t{n}")), args.blocks, true));
    }
    let product = match flavor {
        Flavor::Iris => "InterSystems IRIS",
        Flavor::Cache => "Cache",
    };
    Config {
        guid: guid(),
        name: args.name.to_uppercase(),
        flavor,
        version: args.product_version.clone(),
        product: args.product.clone().unwrap_or_else(|| product.into()),
        root: root.to_path_buf(),
        journal: place(&args.journal, "journal1"),
        alternate: place(&args.altjournal, "journal2"),
        journal_prefix: args.journal_prefix.clone(),
        wij_dir: place(&args.wij, "wij"),
        databases,
        namespaces: Vec::new(),
        block_size: args.block_size,
        buffers: args.buffers,
        journal_first: FIRST_RECORD,
        journal_max: args.journal_mb * 1_048_576,
        superserver: args.superserver.unwrap_or(51_773 + nth),
        webserver: 52_773 + nth,
        mirror_type: args.mirror_type.clone(),
        mirror_status: args.mirror_status.clone(),
        mirror_name: args.mirror_name.clone(),
        history: args.history.as_deref().map(absolute),
        record: args.record.as_deref().map(absolute),
        old_freeze: args.old_freeze,
        time_scale: args.time_scale,
        wd_cycle_ms: args.wd_cycle_ms,
        wd_block_us: args.wd_block_us,
        fsync: args.fsync,
        compress: args.compress,
        partial_rollback: args.partial_rollback,
        max_life_s: args.max_life,
        qlist_fields: args.qlist_fields,
        list_indent: args.list_indent,
        dir,
    }
}

fn write_files(cfg: &Config) -> Result<(), StoreError> {
    cfg.save()?;
    let user = user_name();
    let wij = if cfg.wij_dir == cfg.mgr() { String::new() } else { format!("{}/", cfg.wij_dir.display()) };
    let files = [
        (cfg.dir.join(cfg.flavor.cpf()), cfg.cpf()),
        (cfg.mgr().join("startup.last"), format!("wijlast={wij}\n")),
        (cfg.dir.join("parameters.isc"), format!("security_settings.manager_user: {user}\nsecurity_settings.iris_user: {user}\n")),
        (cfg.mgr().join("iris.ids"), "\n".to_string()),
    ];
    for (path, text) in files {
        std::fs::write(&path, text).map_err(StoreError::io("write", &path))?;
    }
    Ok(())
}

fn user_name() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|l| l.split(':').nth(2) == Some(uid.as_str()));
    line.and_then(|l| l.split(':').next()).map_or(uid.clone(), str::to_string)
}

/// Two instances differ, so do their journals.
fn guid() -> String {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    uuid.trim().to_uppercase()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
