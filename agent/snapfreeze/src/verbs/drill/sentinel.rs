//! `sentinel`: writes the present moment into a global of each instance that has one, so that a restored database can say how
//! new it is. By a timer, and by `backup` before each freeze.

use crate::cli;
use crate::config::Config;
use crate::out::Out;
use doors::clock::wall_now;
use engine::restore::Failed;
use protocol::code::exit;
use protocol::wire::Problem;
use protocol::{Code, InstanceName};
use serde_json::json;

pub fn sentinel(config: &Config, args: &cli::SentinelArgs, out: Out) -> u8 {
    let wanted = wanted(config, &args.instances);
    if wanted.is_empty() {
        let p = Problem::new(Code::UsageInvalid, "no sentinel is configured");
        return out.problem(&p.next("add [drill.sentinel.INSTANCE] with database and global"));
    }
    let mut bad = Vec::new();
    for name in wanted {
        match write(config, &name) {
            Ok(at) => {
                out.object("sentinel", &json!({ "instance": name, "at": at }));
                out.say(format!("{name}: {}", crate::when(at)));
            }
            Err(f) => bad.push(format!("{name}: {} {}", f.why, f.next)),
        }
    }
    match bad.is_empty() {
        true => exit::DONE,
        false => out.problem(
            &Problem::new(Code::Internal, bad.join("; ").trim().to_owned())
                .next("drills of what is backed up from now on would fail: mend it"),
        ),
    }
}

/// What a backup is to hold; one that cannot be written is said, and the backup goes on.
pub fn before_backup(config: &Config, only: &[InstanceName]) -> Vec<String> {
    let one = |name: InstanceName| {
        write(config, &name).err().map(|f| format!("{name}: no sentinel was written, a drill of this backup may fail: {}", f.why))
    };
    wanted(config, only).into_iter().filter_map(one).collect()
}

fn wanted(config: &Config, only: &[InstanceName]) -> Vec<InstanceName> {
    config.drill.sentinel.keys().filter(|n| only.is_empty() || only.contains(n)).cloned().collect()
}

fn write(config: &Config, name: &InstanceName) -> Result<protocol::WallMs, Failed> {
    let restorer = crate::verbs::restore::restorer(config, name).map_err(|p| Failed::new(p.detail).next(p.next))?;
    let at = wall_now();
    match config.drill.sentinel.get(name) {
        Some(s) => restorer.write_sentinel(s, at).map(|()| at),
        None => Err(Failed::new("no sentinel is configured")),
    }
}
