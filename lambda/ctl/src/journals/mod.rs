//! `journals push`, `pull`, `list`: journals that a host shipped to a directory, saved in a bucket (S3) or a container (Blob), and
//! brought back from there. A piece is an object that never changes; the index is written last, and says what is there.
//!
//! ```text
//! URL/<instance>/20261127.004/00000000    the pieces of a journal, in their order
//! URL/<instance>/shipped.json             the same index as beside the directory's copies, and how pieces are encrypted
//! ```

mod pull;
mod push;
mod seal;
mod store;

use crate::cli::{Journals, JournalsOf};
use crate::out::{Out, table};
use crate::say::{age, since, when};
use protocol::code::exit;
use protocol::shipped::Index;
use protocol::wire::Problem;
use protocol::{Code, SCHEMA, WallMs};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::Store;

/// The index in the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remote {
    #[serde(flatten)]
    index: Index,
    /// Public keys (age) to which the pieces are encrypted; empty: they are as readable as the journals.
    #[serde(default)]
    encrypted_to: Vec<String>,
}

pub async fn journals(args: &Journals, now: WallMs, out: Out) -> Result<u8, Problem> {
    match &args.of {
        JournalsOf::Push(a) => push::push(a, out).await,
        JournalsOf::Pull(a) => pull::pull(a, out).await,
        JournalsOf::List { at, max_age } => list(at, max_age.as_deref(), now, out).await,
    }
}

/// The recovery point of each instance. Ends with 3 when one is older than it may be.
async fn list(at: &str, max_age: Option<&str>, now: WallMs, out: Out) -> Result<u8, Problem> {
    let max = max_age
        .map(|m| coordinator::span::parse(m).ok_or_else(|| crate::out::usage(format!("{m:?} is no span: use a form such as 15m"))))
        .transpose()?;
    let store = Store::open(at)?;
    let mut t = table(["INSTANCE", "JOURNALS", "FROM", "TO", "BYTES", "ENCRYPTED", "RECOVERY POINT"]);
    let mut late = Vec::new();
    for instance in store.instances().await? {
        let Some(r) = store.index(&instance).await? else { continue };
        let bytes: u64 = r.index.files.values().map(|f| f.size).sum();
        let end = |n: Option<&String>| n.cloned().unwrap_or_default();
        let (first, last) = (end(r.index.files.keys().next()), end(r.index.files.keys().next_back()));
        let old = r.index.complete_at.map(|at| since(at, now));
        if max.is_some_and(|max| old.is_none_or(|old| old > max)) {
            late.push(instance.clone());
        }
        out.object(
            "journals",
            &json!({ "instance": instance, "files": r.index.files.len(), "first": first, "last": last, "bytes": bytes,
            "complete_at": r.index.complete_at, "encrypted_to": r.encrypted_to }),
        );
        let point = r.index.complete_at.map(|at| format!("{} ({} ago)", when(at), age(since(at, now)))).unwrap_or_default();
        let sealed = if r.encrypted_to.is_empty() { "no" } else { "yes" };
        t.add_row([instance, r.index.files.len().to_string(), first, last, bytes.to_string(), sealed.into(), point]);
    }
    out.say(t.to_string());
    if late.is_empty() {
        return Ok(exit::DONE);
    }
    out.note(format!("the recovery point is older than {}: {}", max_age.unwrap_or_default(), late.join(", ")));
    Ok(exit::BROKEN)
}

fn failed(what: impl Into<String>) -> Problem {
    Problem::new(Code::ShipFailed, what.into())
}

/// What a newer program wrote is not guessed at.
fn known(index: &Index) -> Result<(), Problem> {
    match index.schema > SCHEMA {
        true => {
            Err(failed(format!("the index is of schema {}, newer than this program", index.schema))
                .next("use the snapfreezectl that wrote it"))
        }
        false => Ok(()),
    }
}

/// A journal's name is one word of a path, wherever an index comes from.
fn plain(name: &str) -> Result<&str, Problem> {
    let good = !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good { Ok(name) } else { Err(failed(format!("{name:?} is no name of a journal or an instance"))) }
}
