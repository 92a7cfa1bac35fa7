//! From the bucket into a directory, which is then what `snapfreeze journals ship` would have made: `restore run --journals DIR`.

use super::push::{hex, is};
use super::store::{Store, piece};
use super::{failed, plain, seal};
use crate::cli::JournalsPull;
use crate::out::{Out, usage};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::code::exit;
use protocol::shipped::{INDEX, Index, Shipped};
use protocol::wire::Problem;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

pub async fn pull(a: &JournalsPull, out: Out) -> Result<u8, Problem> {
    let store = Store::open(&a.from)?;
    let identities = seal::identities(a.identity.as_deref())?;
    let all = store.instances().await?;
    let wanted: Vec<&String> = all.iter().filter(|i| a.instance.as_ref().is_none_or(|w| w == *i)).collect();
    if wanted.is_empty() {
        return Err(usage(format!("nothing of {} is below {}", a.instance.as_deref().unwrap_or("any instance"), a.from)));
    }
    for instance in wanted {
        let name = plain(instance)?;
        let Some(remote) = store.index(name).await? else { continue };
        if !remote.encrypted_to.is_empty() && identities.is_empty() {
            return Err(usage(format!("the journals of {name} are encrypted")).next("name the identity's file: --identity FILE"));
        }
        let dir = a.into.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| failed(format!("{}: {e}", dir.display())))?;
        let total: u64 = remote.index.files.values().map(|f| f.size).sum();
        let bar = out.shows_progress().then(|| {
            let style =
                ProgressStyle::with_template("pull {bar:30} {bytes}/{total_bytes} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style)
        });
        let sealed = !remote.encrypted_to.is_empty();
        for (file, what) in &remote.index.files {
            // One that an earlier try brought whole.
            if !is(&dir.join(file), what) {
                one(&store, name, file, what, &dir, sealed.then_some(&identities)).await?;
            }
            if let Some(bar) = &bar {
                bar.inc(what.size);
            }
        }
        write_index(&dir, &remote.index)?;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        out.object(
            "pulled",
            &json!({ "instance": name, "files": remote.index.files.len(), "bytes": total, "complete_at": remote.index.complete_at }),
        );
        out.say(format!(
            "{name}: {} journals, {total} bytes in {}; use them with --journals {}",
            remote.index.files.len(),
            dir.display(),
            a.into.display()
        ));
    }
    Ok(exit::DONE)
}

/// Appears whole, or not at all.
async fn one(
    store: &Store,
    instance: &str,
    name: &str,
    what: &Shipped,
    dir: &Path,
    with: Option<&Vec<age::x25519::Identity>>,
) -> Result<(), Problem> {
    let tmp = dir.join(format!(".{name}.new"));
    let bad = |e: std::io::Error| failed(format!("{}: {e}", tmp.display()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp).map_err(bad)?;
    for (n, p) in what.pieces.iter().enumerate() {
        let key = piece(name, n);
        let bytes = store.get(instance, &key).await?.ok_or_else(|| {
            failed(format!("{instance}/{key} is missing")).next("restore up to the journal before it (--until), or from another copy")
        })?;
        let plain = match with {
            Some(identities) => seal::open(&bytes, identities)?,
            None => bytes,
        };
        if hex(&plain) != p.sha256 || plain.len() as u64 != p.size {
            let next = "restore up to the journal before it (--until), or from another copy";
            return Err(failed(format!("{instance}/{key} is not what was pushed")).next(next));
        }
        file.write_all(&plain).map_err(bad)?;
    }
    file.sync_all().map_err(bad)?;
    std::fs::rename(&tmp, dir.join(name)).map_err(bad)
}

fn write_index(dir: &Path, index: &Index) -> Result<(), Problem> {
    let text = serde_json::to_vec_pretty(index).map_err(|e| failed(e.to_string()))?;
    let tmp = dir.join(format!(".{INDEX}.new"));
    let written = File::create(&tmp)
        .and_then(|mut f| f.write_all(&text).and_then(|()| f.sync_all()))
        .and_then(|()| std::fs::rename(&tmp, dir.join(INDEX)));
    written.map_err(|e| failed(format!("{}: {e}", dir.display())))
}
