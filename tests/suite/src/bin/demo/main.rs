//! `make demo`: the main job on real GT.M and on the IRIS model, both under a workload. Five results each, every one
//! checked here and with the command that checks it again. `--instance NAME`: a rehearsal on your own IRIS.
#![allow(clippy::disallowed_methods, reason = "a demonstration stands outside the agent's doors")]

mod rehearsal;

use std::path::PathBuf;
use std::process::ExitCode;
use suite::stage::{self as host, Db, Host};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => whole(),
        ["--instance", name] => rehearsal::run(name),
        _ => Err("usage: demo [--instance NAME]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("demo: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Beside the binary, so that the commands that are printed still find their files afterwards.
fn place() -> Result<PathBuf, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let target = exe.ancestors().nth(2).ok_or("no target directory")?;
    Ok(target.join("demo"))
}

fn whole() -> Result<(), String> {
    let dir = place()?;
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(format!("{}: {e}", dir.display())),
        _ => {}
    }
    let mut results = 0;
    for make in [Db::gtm as fn(&std::path::Path) -> Result<Option<Db>, String>, Db::iris] {
        let Some(db) = make(&dir)? else { continue };
        // As long as a real freeze and thaw take (seen on IRIS 2021.1).
        db.ctl(&["freeze_delay_ms=1000", "thaw_delay_ms=1000"])?;
        let host = Host::start(&dir.join(db.name()), db)?;
        println!("\n== {} ==", host.db.title());
        for (n, step) in [held, torn, late, other_tool, killed].into_iter().enumerate() {
            step(&host, n + 1)?;
            results += 1;
        }
    }
    println!("\n{results} results, all as they must be. Files: {}", dir.display());
    if results < 10 {
        println!("GT.M is not installed (apt-get install fis-gtm): its five results are missing");
    }
    Ok(())
}

fn head(n: usize, text: &str) {
    println!("\n{n}. {text}");
}

fn must(yes: bool, what: &str, seen: &str) -> Result<(), String> {
    if yes { Ok(()) } else { Err(format!("{what}; seen:\n{seen}")) }
}

fn held(host: &Host, n: usize) -> Result<(), String> {
    head(n, "A backup, held");
    let load = host.db.load(host)?;
    host::sleep_ms(700);
    let ran = host.snapfreeze(&["backup", "--to", &host.backups(), "--hold", "5s"])?;
    host::sleep_ms(300);
    let stall = load.stop()?;
    print!("{}", ran.indented());
    must(ran.code == Some(0) && ran.out.contains("HELD"), "the backup must be held", &ran.out)?;
    println!("   longest stalled write of the workload: {stall:.0} ms");
    let set = host.newest_set()?;
    let (good, command, said) = host.db.check_image(&set)?;
    println!("   the engine's own tool on the image: {said}");
    println!("   check again: {command}");
    println!("                {} verify latest --to {}", host.words(), host.backups());
    must(good, "the image must be clean", &said)
}

fn torn(host: &Host, n: usize) -> Result<(), String> {
    head(n, "The same image without a freeze, torn");
    // Looked at after the workload has ended: GT.M's tool on a copy would touch the live database's semaphores.
    let mut tries = 0;
    let found = loop {
        tries += 1;
        let load = host.db.load(host)?;
        host::sleep_ms(500);
        let to = host.dir.join(format!("unfrozen-{tries}"));
        host.db.copy_unfrozen(&to)?;
        load.stop()?;
        let (good, command, said) = host.db.check_image(&to)?;
        if !good || tries == 20 {
            break (good, command, said);
        }
    };
    let (good, command, said) = found;
    println!("   copy number {tries}: {said}");
    println!("   check again: {command}");
    must(!good, "a copy of a busy database must be torn", &said)
}

fn late(host: &Host, n: usize) -> Result<(), String> {
    head(n, "A thaw that came too late: broken, exit 3");
    let (id, _) = host.freeze("2s")?;
    host::sleep_ms(2_800);
    let ran = host.snapfreeze(&["thaw", "--id", &id])?;
    print!("{}", ran.indented());
    println!("   exit {}", ran.code.unwrap_or(-1));
    println!("   check again: {} thaw --id {id}; echo $?", host.words());
    must(ran.code == Some(3) && ran.out.contains("hold ran out"), "it must be broken by the hold", &ran.out)?;
    must(!host.db.frozen()?, "it must not be frozen", "frozen")
}

fn killed(host: &Host, n: usize) -> Result<(), String> {
    head(n, "Agent and caller killed with kill -9 while it is frozen");
    let mut caller = host.slow_backup("3s")?;
    let begun = host.until_frozen()?;
    host.kill_agent()?;
    caller.kill().map_err(|e| e.to_string())?;
    let _ = caller.wait();
    let thawed = host.until_thawed(begun)?;
    println!("   frozen, both killed; thawed by the watchdog {:.1} s after the freeze (hold 3 s)", thawed as f64 / 1000.0);
    host.start_agent()?;
    let status = host.snapfreeze(&["status"])?;
    print!("{}", status.indented());
    println!("   check again: {} status; cat {}", host.words(), host.run.join("watchdog.log").display());
    must(thawed <= 4_000, "it must be thawed within the hold and a second", &format!("{thawed} ms"))?;
    must(status.out.contains("lost inside the window"), "the next agent must say so", &status.out)
}

fn other_tool(host: &Host, n: usize) -> Result<(), String> {
    head(n, "Another tool thaws inside our window: noticed, exit 3");
    let (id, _) = host.freeze("20s")?;
    println!("   another tool: {}", host.db.other_thaw()?);
    let ran = host.snapfreeze(&["thaw", "--id", &id])?;
    print!("{}", ran.indented());
    println!("   exit {}", ran.code.unwrap_or(-1));
    println!("   check again: {} thaw --id {id}; echo $?", host.words());
    must(ran.code == Some(3) && ran.out.contains("BROKEN"), "it must be noticed", &ran.out)
}
