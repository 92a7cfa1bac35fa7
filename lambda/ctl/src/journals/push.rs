//! One pass: what the directory has more than the bucket. A pass that is killed goes on where the bucket's index stands.

use super::store::{Store, piece};
use super::{Remote, failed, known, plain, seal};
use crate::cli::JournalsPush;
use crate::out::{Out, usage};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::code::exit;
use protocol::shipped::{INDEX, Index, Shipped};
use protocol::wire::Problem;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

pub async fn push(a: &JournalsPush, out: Out) -> Result<u8, Problem> {
    let store = Store::open(&a.to)?;
    let keys = seal::recipients(&a.encrypt_to)?;
    let mut some = false;
    let entries = std::fs::read_dir(&a.from).map_err(|e| usage(format!("{}: {e}", a.from.display())))?;
    let mut dirs: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.join(INDEX).is_file()).collect();
    dirs.sort();
    for dir in dirs {
        let instance = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if a.instance.as_ref().is_some_and(|i| *i != instance) {
            continue;
        }
        some = true;
        let instance = plain(&instance)?;
        let done = one(&store, &dir, instance, a, &keys, out).await?;
        out.object("pushed", &json!({ "instance": instance, "pieces": done.0, "bytes": done.1, "complete_at": done.2.complete_at }));
        out.say(format!("{instance}: {} pieces, {} bytes pushed to {}", done.0, done.1, a.to));
    }
    if some {
        Ok(exit::DONE)
    } else {
        Err(usage(format!("{} holds no shipped journals", a.from.display())).next("ship them there first: snapfreeze journals ship"))
    }
}

async fn one(
    store: &Store,
    dir: &Path,
    instance: &str,
    a: &JournalsPush,
    keys: &[age::x25519::Recipient],
    out: Out,
) -> Result<(u64, u64, Index), Problem> {
    let own: Index = read(dir)?;
    known(&own)?;
    let mut remote = store.index(instance).await?.unwrap_or_else(|| Remote { encrypted_to: a.encrypt_to.clone(), ..Remote::default() });
    if remote.encrypted_to != a.encrypt_to {
        return Err(usage("the bucket has pieces that are encrypted to other keys, or to none")
            .next("keep to the same --encrypt-to, or push below another prefix"));
    }
    remote.index.schema = own.schema;
    let todo: u64 = own.files.iter().map(|(n, f)| f.size - remote.index.files.get(n).map_or(0, |r| r.size.min(f.size))).sum();
    let bar = out.shows_progress().then(|| {
        let style =
            ProgressStyle::with_template("push {bar:30} {bytes}/{total_bytes} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(todo).with_style(style)
    });
    let (mut pieces, mut bytes) = (0, 0);
    for (name, file) in &own.files {
        let name = plain(name)?;
        let there = remote.index.files.get(name).cloned().unwrap_or_default();
        if !file.pieces.starts_with(&there.pieces) {
            return Err(failed(format!("{name} in the bucket is another journal than {name} in {}", dir.display()))
                .next("push below another prefix; keep the old one as long as sets need it"));
        }
        for (n, p) in file.pieces.iter().enumerate().skip(there.pieces.len()) {
            let at: u64 = file.pieces[..n].iter().map(|p| p.size).sum();
            let plain = slice(&dir.join(name), at, p.size)?;
            if hex(&plain) != p.sha256 {
                return Err(failed(format!("{name} in {} is not what was shipped", dir.display()))
                    .next("snapfreeze journals list --verify; ship again"));
            }
            store.put(instance, &piece(name, n), seal::close(&plain, keys)?).await?;
            (pieces, bytes) = (pieces + 1, bytes + p.size);
            if let Some(bar) = &bar {
                bar.inc(p.size);
            }
        }
        remote.index.files.insert(name.to_owned(), file.clone());
    }
    remote.index.complete_at = own.complete_at;
    let text = serde_json::to_vec_pretty(&remote).map_err(|e| failed(e.to_string()))?;
    store.put(instance, INDEX, text).await?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok((pieces, bytes, own))
}

pub fn read(dir: &Path) -> Result<Index, Problem> {
    let path = dir.join(INDEX);
    let text = std::fs::read(&path).map_err(|e| failed(format!("{}: {e}", path.display())))?;
    serde_json::from_slice(&text).map_err(|e| failed(format!("{} is damaged: {e}", path.display())))
}

fn slice(path: &Path, at: u64, size: u64) -> Result<Vec<u8>, Problem> {
    let bad = |e: std::io::Error| failed(format!("{}: {e}", path.display()));
    let mut file = File::open(path).map_err(bad)?;
    file.seek(SeekFrom::Start(at)).map_err(bad)?;
    let mut out = Vec::new();
    file.take(size).read_to_end(&mut out).map_err(bad)?;
    Ok(out)
}

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Is a file what these pieces say?
pub fn is(path: &Path, file: &Shipped) -> bool {
    let mut at = 0;
    std::fs::metadata(path).is_ok_and(|m| m.len() == file.size)
        && file.pieces.iter().all(|p| {
            let same = slice(path, at, p.size).is_ok_and(|b| hex(&b) == p.sha256);
            at += p.size;
            same
        })
}
