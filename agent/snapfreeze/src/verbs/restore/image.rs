//! `restore mount`, `restore unmount`: volumes made of a cloud set become a set of the catalogue on this host.

use crate::cli;
use crate::config::Config;
use crate::out::Out;
use doors::clock::wall_now;
use protocol::code::exit;
use protocol::tags::SetTags;
use protocol::wire::{ImageReply, Problem};
use protocol::{BackupId, Code, answer, tags};
use std::collections::BTreeMap;
use std::path::PathBuf;
use storage::image::{self, Source};

/// What each host with a restore from the cloud has; the images' directory is looked through by `restore` itself.
pub fn dirs(config: &Config) -> Option<PathBuf> {
    Some(image::dir(&config.dirs.state)).filter(|d| d.is_dir())
}

pub fn mount(config: &Config, args: &cli::MountArgs, out: Out) -> u8 {
    match up(config, args) {
        Ok(reply) => {
            let short = serde_json::json!({ "id": reply.id, "mounts": reply.mounts.len() });
            out.answer("image", &reply, &short);
            for (point, device) in &reply.mounts {
                out.say(format!("{} is {device}", reply.dir.join("data").join(point.trim_start_matches('/')).display()));
            }
            for n in &reply.notes {
                out.note(n);
            }
            out.say(format!("{} is a set of this host now; next: snapfreeze restore plan {}", reply.id, reply.id));
            exit::DONE
        }
        Err(p) => out.fail(Some(args.id), &p),
    }
}

fn up(config: &Config, args: &cli::MountArgs) -> Result<ImageReply, Problem> {
    // Not under a restore that reads from it.
    let _records = super::record::Records::open(&config.dirs.state)?;
    let tags = set_tags(args)?;
    let sources = args.volumes.iter().map(|v| Source::read(v)).collect::<Result<Vec<_>, _>>().map_err(usage)?;
    let up = image::up(&image::dir(&config.dirs.state), &config.restore.disks, &sources, &tags, wall_now()).map_err(|e| problem(&e))?;
    Ok(ImageReply {
        id: args.id,
        dir: up.set,
        mounts: up.mounts.iter().map(|(p, d)| (p.display().to_string(), d.display().to_string())).collect(),
        notes: up.notes,
    })
}

/// As the snapshots' own tags have it, sent along by whoever made the volumes.
fn set_tags(args: &cli::MountArgs) -> Result<SetTags, Problem> {
    let text = answer::from_word(&args.set).map_err(|e| usage(format!("--set: {e}")))?;
    let map: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|e| usage(format!("--set: {e}")))?;
    let tags = tags::from_tags(&map).map_err(|e| usage(format!("--set: {e}")))?;
    match tags.backup_id == args.id {
        true => Ok(tags),
        false => Err(usage(format!("--set is of {}, not of {}", tags.backup_id, args.id))),
    }
}

pub fn unmount(config: &Config, id: BackupId, out: Out) -> u8 {
    let _records = match super::record::Records::open(&config.dirs.state) {
        Ok(r) => r,
        Err(p) => return out.fail(Some(id), &p),
    };
    let images = image::dir(&config.dirs.state);
    if !images.join(id.to_string()).is_dir() {
        return out.fail(Some(id), &Problem::new(Code::CatalogueUnknown, format!("no volumes of {id} are mounted here")));
    }
    match image::down(&images, &id.to_string()) {
        Ok(()) => {
            out.answer("unmounted", &serde_json::json!({ "id": id }), &serde_json::json!({ "id": id }));
            out.say(format!("{id} is unmounted; its volumes can be detached"));
            exit::DONE
        }
        Err(e) => out.fail(Some(id), &problem(&e)),
    }
}

fn usage(why: impl Into<String>) -> Problem {
    Problem::new(Code::UsageInvalid, why.into()).next("`snapfreezectl restore` makes the volumes and writes this command")
}

fn problem(e: &image::Error) -> Problem {
    let next = match e {
        image::Error::Partial(_) => "attach and name every volume of the set; nothing is left mounted",
        image::Error::Volume(_) => "look at the volumes with lsblk; nothing is left mounted",
        image::Error::Program { .. } => "mend it, or mount by hand; nothing is left mounted",
        image::Error::Io { .. } | image::Error::Catalogue(_) => "look at the disk of the state directory",
    };
    Problem::new(Code::RestoreImpossible, crate::chain(e)).next(next)
}

/// For whoever restores a snapshot of these volumes later: the host file, into each file system. Never for longer than a person
/// would wait: one that hangs (a frozen file system) is left to itself.
pub async fn leave(id: BackupId, host: &crate::layout::HostLayout) -> Vec<String> {
    let Ok(instances) = serde_json::to_value(&host.instances) else { return Vec::new() };
    let file = storage::catalogue::host::HostFile::new(id, wall_now(), env!("CARGO_PKG_VERSION"), host.layout.clone(), instances);
    let work = tokio::task::spawn_blocking(move || image::leave(&file));
    match tokio::time::timeout(std::time::Duration::from_secs(5), work).await {
        Ok(Ok(bad)) => bad,
        Ok(Err(_)) | Err(_) => vec!["the host file could not be written in time".into()],
    }
}
