//! What a start writes into messages.log, after the samples of facts 4.3 and 4.4.

use crate::clock;
use crate::config::{Config, Flavor};
use crate::instance::recovery::Recovery;
use crate::messages::Console;
use jiff::Zoned;
use std::path::Path;

/// Texts of facts 4.4.
pub fn single_user(cfg: &Config) -> [String; 2] {
    let (program, mgr) = (cfg.root.join("bin/irisdb"), cfg.mgr());
    [
        "No journaling info from prior system. Startup aborted, entering single user mode.".into(),
        format!("Enter IRIS with {} -s{} -B and D ^STURECOV for help recovering from the errors.", program.display(), mgr.display()),
    ]
}

pub fn log(cfg: &Config, console: &Console, did: &Recovery, had_wij: bool, journal: &Path) {
    let pid = std::process::id();
    let now = Zoned::now();
    let mgr = cfg.mgr().display().to_string();
    let wij = cfg.wij_path().display().to_string();
    let (product, lock) = match cfg.flavor {
        Flavor::Iris => ("InterSystems IRIS", "iris.key"),
        Flavor::Cache => ("Cache", "cache.key"),
    };
    if had_wij {
        let blocks = did.pending_blocks;
        let started = clock::stamp_ctime(&now);
        console.raw(&format!(
            "\n*** Recovery started at {started}\n     Current default directory: {mgr}\n     \
             Log file directory: {mgr}/\n     WIJ file spec: {wij}\n\
             Recovering local ({wij}) image journal file...\nStarting WIJ recovery for '{wij}'.\n  \
             {blocks} blocks pending in this WIJ.\nWIJ pass # is 0.\nStarting fast WIJ compare\n\
             Finished comparing {blocks} blocks in 0 seconds\nExiting with status 3 (Success)\n"
        ));
    }
    let line = |severity, category: &str, text: &str| console.log(&now, pid, severity, category, text);
    line(0, "Generic.Event", &format!("{product} license file ({lock}) must be validated with License Server."));
    let megabytes = cfg.buffers * cfg.block_size as usize / 1_048_576;
    line(
        0,
        "Generic.Event",
        &format!("Allocated {}MB shared memory: {megabytes}MB global buffers, 128MB routine buffers", megabytes + 302),
    );
    line(0, "WriteDaemon.UsingWIJFile", &format!("Using WIJ file: {wij}"));
    if did.new_wij {
        line(0, "Generic.Event", "No journaling info from prior system");
        line(0, "WriteDaemon.CreatingNewWIJ", "Creating a new WIJ file");
        line(0, "WriteDaemon.CreatedNewWIJ", "New WIJ file created");
    }
    line(
        0,
        "Generic.Event",
        &format!(
            "\nStartup of {product} [IRIS for UNIX (model) {version}]\n        in ../bin/\n        with mgr: {mgr}\n        \
         with wij: {wij}\n        from: {mgr}/\n  System Initialized.",
            version = cfg.version,
        ),
    );
    line(0, "WriteDaemon.Started", "Write daemon started.");
    for text in &did.unmounted {
        // INVENTED text.
        line(2, "Database.MountFailed", &format!("Failed to mount database {text}"));
    }
    for (sfn, db) in cfg.databases.iter().enumerate() {
        if db.removed || did.unmounted.iter().any(|t| t.starts_with(&db.dir_slash())) {
            continue;
        }
        line(0, "Database.MountedRW", &format!("Mounted database {}/ (SFN {sfn}) read-write.", db.dir.display()));
    }
    recovered(did, &line);
    console.journal_switched(&now, pid, journal);
    line(0, "Utility.Event", "Enabling logons");
}

/// INVENTED texts: journal recovery and rollback.
fn recovered(did: &Recovery, line: &dyn Fn(u8, &str, &str)) {
    if let (Some(first), Some(last)) = (&did.first_journal, &did.last_journal) {
        line(
            0,
            "Utility.Event",
            &format!(
                "Journal recovery from {first} to {last}: {} records, {} transactions committed, {} rolled back",
                did.replayed, did.committed, did.rolled_back
            ),
        );
    }
    if !did.missing_journals.is_empty() {
        let list: Vec<String> = did.missing_journals.iter().map(u64::to_string).collect();
        line(2, "Utility.Event", &format!("Journal recovery: journal file(s) number {} not found", list.join(", ")));
    }
}
