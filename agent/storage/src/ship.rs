//! Journals shipped to another place: each file's new bytes are appended to its copy, in pieces with a checksum each, and the
//! index says how far that is durable. A pass that is killed goes on where the index stands; nothing of a source is changed.
//!
//! ```text
//! DIR/<instance>/20261127.004    the copy, as long as the index says (longer: an unfinished append, cut off)
//! DIR/<instance>/shipped.json    sizes, pieces, and since when everything is there
//! ```

use crate::catalogue::setdir::{sync_dir, write_durably};
use protocol::WallMs;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use protocol::shipped::{INDEX, Index, Piece, Shipped};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}

/// What one pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pass {
    pub files: u64,
    pub bytes: u64,
    /// What a person must look at; the recovery point then stays where it was.
    pub problems: Vec<String>,
    pub complete_at: Option<WallMs>,
}

/// An index that is not there is an empty one.
pub fn read(dir: &Path) -> Result<Index, Error> {
    let path = dir.join(INDEX);
    let text = match std::fs::read(&path) {
        Ok(t) => t,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Index { schema: protocol::SCHEMA, ..Index::default() }),
        Err(e) => return Err(failed("read", &path)(e)),
    };
    serde_json::from_slice(&text).map_err(|e| Error::Damaged { path, why: e.to_string() })
}

fn write(dir: &Path, index: &Index) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(index).map_err(|e| Error::Damaged { path: dir.join(INDEX), why: e.to_string() })?;
    write_durably(dir, INDEX, &text).map_err(failed("write", &dir.join(INDEX)))
}

/// One pass over `sources`, which are in their order. `began` is a moment before their sizes were looked at. `reach` hears the
/// name of each point at which a pass may die.
pub fn pass(sources: &[PathBuf], dir: &Path, began: WallMs, reach: &dyn Fn(&str)) -> Result<Pass, Error> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("make", dir))?;
    let mut index = read(dir)?;
    let mut done = Pass::default();
    if let Some(from) = sources.first().and_then(|s| s.parent()) {
        let like = std::fs::metadata(from).map_err(failed("read", from))?;
        own(dir, &like).map_err(failed("protect", dir))?;
    }
    for source in sources {
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match one(source, dir, &name, &mut index, reach) {
            Ok(0) => {}
            Ok(bytes) => (done.files, done.bytes) = (done.files + 1, done.bytes + bytes),
            Err(why) => done.problems.push(why),
        }
    }
    drop_plain(dir, &mut index)?;
    if done.problems.is_empty() {
        index.complete_at = Some(began);
    }
    write(dir, &index)?;
    done.complete_at = index.complete_at;
    Ok(done)
}

/// Owner and mode of the source, closed to others: whoever reads it there may read it here, and it goes back as it was.
fn own(path: &Path, like: &std::fs::Metadata) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(like.uid()), Some(like.gid()))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(like.mode() & 0o7770))
}

/// Appends what is new of one file, and says it in the index before it counts. Bytes that were shipped.
fn one(source: &Path, dir: &Path, name: &str, index: &mut Index, reach: &dyn Fn(&str)) -> Result<u64, String> {
    let say = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |e: io::Error| format!("could not {doing} {}: {e}", path.display())
    };
    let to = dir.join(name);
    let mut from = File::open(source).map_err(say("read", source))?;
    let meta = from.metadata().map_err(say("read", source))?;
    let size = meta.len();
    let mut known = index.files.get(name).cloned().unwrap_or_default();
    if size < known.size {
        return Err(format!("{} has {size} bytes, {} were shipped: it is not the same file any more", source.display(), known.size));
    }
    let mut out =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&to).map_err(say("write", &to))?;
    let there = out.metadata().map_err(say("read", &to))?.len();
    if there < known.size {
        known = Shipped::default(); // the copy lost what the index says: all of it once more
    }
    out.set_len(known.size).map_err(say("cut", &to))?;
    if size == known.size {
        return Ok(0);
    }
    from.seek(SeekFrom::Start(known.size)).map_err(say("read", source))?;
    out.seek(SeekFrom::End(0)).map_err(say("write", &to))?;
    let (mut hash, mut block, mut left) = (Sha256::new(), vec![0u8; 1 << 20], size - known.size);
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        let n = from.read(&mut block[..want]).map_err(say("read", source))?;
        if n == 0 {
            return Err(format!("{} became shorter while it was read", source.display()));
        }
        hash.update(&block[..n]);
        out.write_all(&block[..n]).map_err(say("write", &to))?;
        left -= n as u64;
    }
    reach("journals.ship.written");
    own(&to, &meta).map_err(say("protect", &to))?;
    out.sync_all().and_then(|()| sync_dir(dir)).map_err(say("write to disk", &to))?;
    let piece = size - known.size;
    known.pieces.push(Piece { size: piece, sha256: hex(&hash.finalize()) });
    known.size = size;
    index.files.insert(name.to_owned(), known);
    reach("journals.ship.synced");
    write(dir, index).map_err(|e| e.to_string())?;
    reach("journals.ship.indexed");
    Ok(piece)
}

/// A journal that was closed and compressed comes again under its `z` name; the plain copy is then one too many.
fn drop_plain(dir: &Path, index: &mut Index) -> Result<(), Error> {
    let both: Vec<String> =
        index.files.keys().filter_map(|n| n.strip_suffix('z')).filter(|p| index.files.contains_key(*p)).map(str::to_owned).collect();
    for plain in both {
        index.files.remove(&plain);
        write(dir, index)?;
        std::fs::remove_file(dir.join(&plain)).map_err(failed("remove", &dir.join(&plain)))?;
    }
    Ok(())
}

/// Reads every copy and compares it, piece by piece. What differs, by name; empty: all is well.
pub fn verify(dir: &Path, index: &Index) -> Vec<String> {
    index.files.iter().filter_map(|(name, s)| differs(&dir.join(name), s).map(|why| format!("{name}: {why}"))).collect()
}

fn differs(path: &Path, shipped: &Shipped) -> Option<String> {
    let mut file = match File::open(path) {
        Ok(f) => f,
        Err(e) => return Some(e.to_string()),
    };
    let mut at = 0;
    for piece in &shipped.pieces {
        let mut hash = Sha256::new();
        let read = io::copy(&mut Read::by_ref(&mut file).take(piece.size), &mut hash);
        match read {
            Ok(n) if n == piece.size && hex(&hash.finalize()) == piece.sha256 => at += n,
            Ok(_) => return Some(format!("other content than was shipped, from offset {at} on")),
            Err(e) => return Some(e.to_string()),
        }
    }
    (at != shipped.size).then(|| format!("{at} bytes are accounted for, {} were shipped", shipped.size))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(path: &Path, text: &str) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn now(n: i64) -> WallMs {
        WallMs(n)
    }

    #[test]
    fn new_bytes_are_appended_and_a_pass_that_died_goes_on_where_the_index_stands() {
        let dir = tempfile::tempdir().unwrap();
        let (a, to) = (dir.path().join("20261127.001"), dir.path().join("to/IRIS"));
        append(&a, "one");
        let first = pass(std::slice::from_ref(&a), &to, now(1), &|_| {}).unwrap();
        assert_eq!((first.files, first.bytes, first.complete_at), (1, 3, Some(now(1))));
        append(&a, "two");
        // Killed after the append, before the index: the copy is longer than the index says.
        append(&to.join("20261127.001"), "tw");
        let second = pass(std::slice::from_ref(&a), &to, now(2), &|_| {}).unwrap();
        assert_eq!((second.bytes, second.complete_at), (3, Some(now(2))));
        assert_eq!(std::fs::read(to.join("20261127.001")).unwrap(), b"onetwo");
        let index = read(&to).unwrap();
        assert_eq!((index.files["20261127.001"].pieces.len(), verify(&to, &index)), (2, Vec::<String>::new()));
        assert_eq!(pass(&[a], &to, now(3), &|_| {}).unwrap().bytes, 0, "nothing new");
    }

    #[test]
    fn what_is_not_the_same_file_any_more_is_told_and_the_recovery_point_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (a, to) = (dir.path().join("20261127.001"), dir.path().join("to"));
        append(&a, "longer");
        pass(std::slice::from_ref(&a), &to, now(1), &|_| {}).unwrap();
        std::fs::write(&a, "new").unwrap();
        let done = pass(std::slice::from_ref(&a), &to, now(2), &|_| {}).unwrap();
        assert!(done.problems[0].contains("not the same file"), "{done:?}");
        assert_eq!((done.complete_at, std::fs::read(to.join("20261127.001")).unwrap()), (Some(now(1)), b"longer".to_vec()));
        // A copy that was damaged is found; one that was cut is shipped again.
        std::fs::write(to.join("20261127.001"), "lonGer").unwrap();
        assert!(verify(&to, &read(&to).unwrap())[0].contains("offset 0"));
        std::fs::write(to.join("20261127.001"), "lon").unwrap();
        std::fs::write(&a, "longer").unwrap();
        pass(&[a], &to, now(3), &|_| {}).unwrap();
        assert!(verify(&to, &read(&to).unwrap()).is_empty());
    }

    #[test]
    fn a_compressed_journal_takes_the_place_of_its_plain_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, z, to) = (dir.path().join("20261127.001"), dir.path().join("20261127.001z"), dir.path().join("to"));
        append(&plain, "plain");
        pass(std::slice::from_ref(&plain), &to, now(1), &|_| {}).unwrap();
        std::fs::remove_file(&plain).unwrap();
        append(&z, "zzz");
        pass(&[z], &to, now(2), &|_| {}).unwrap();
        let names: Vec<String> = read(&to).unwrap().files.into_keys().collect();
        assert_eq!(names, ["20261127.001z"]);
        assert!(!to.join("20261127.001").exists());
    }
}
