//! What drills of a set have shown: `TO/<id>/drills/<run>.json`, signed (Ed25519) with this host's own key, so that nobody's
//! script and no copy from another set can say that a backup was restored.

use super::{Error, setdir};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use protocol::{BackupId, InstanceName, SCHEMA, WallMs};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Below the set's directory.
pub const DIR: &str = "drills";
const KEY: &str = "drill.key";
/// Its public half, for other hosts' `[drill] trust`.
pub const PUBLIC: &str = "drill.pub";

/// What one drill has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    pub schema: u32,
    pub run: String,
    pub id: BackupId,
    /// SHA-256 of the set's list of files: the content that this was shown of.
    pub list_sha256: String,
    pub instance: InstanceName,
    pub engine: String,
    pub host: String,
    pub agent_version: String,
    pub begun_at: WallMs,
    pub ended_at: WallMs,
    pub passed: bool,
    /// Why it failed; empty when it passed.
    pub why: String,
    /// The last journal that was applied.
    pub last_journal: Option<String>,
    /// The moment that the restored database holds.
    pub sentinel: Option<WallMs>,
    /// What the engine said at each step.
    pub said: Vec<String>,
}

impl Drill {
    /// Without a result yet.
    pub fn new(run: String, id: BackupId, instance: InstanceName, engine: String, agent_version: &str, now: WallMs) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            schema: SCHEMA,
            run,
            id,
            list_sha256: String::new(),
            instance,
            engine,
            host,
            agent_version: agent_version.into(),
            begun_at: now,
            ended_at: now,
            passed: false,
            why: String::new(),
            last_journal: None,
            sentinel: None,
            said: Vec::new(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    drill: Drill,
    /// Hex.
    key: String,
    signature: String,
}

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub drill: Drill,
    /// By a key that is trusted here, and of this set.
    pub genuine: bool,
}

/// The key of this host, made when it is not there.
pub struct Key(SigningKey);

impl Key {
    pub fn open(state: &Path) -> Result<Self, Error> {
        let path = state.join(KEY);
        let read = |path: &Path| -> io::Result<SigningKey> {
            let mut bytes = [0u8; 32];
            std::fs::File::open(path)?.read_exact(&mut bytes)?;
            Ok(SigningKey::from_bytes(&bytes))
        };
        let key = match read(&path) {
            Ok(k) => k,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0u8; 32];
                std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).map_err(|e| Error::io("make", &path, e))?;
                setdir::write_durably(state, KEY, &bytes).map_err(|e| Error::io("write", &path, e))?;
                SigningKey::from_bytes(&bytes)
            }
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        let this = Self(key);
        let public = state.join(PUBLIC);
        if std::fs::read_to_string(&public).map(|t| t.trim().to_owned()).ok() != Some(this.public()) {
            std::fs::write(&public, format!("{}\n", this.public())).map_err(|e| Error::io("write", &public, e))?;
        }
        Ok(this)
    }

    /// Hex.
    pub fn public(&self) -> String {
        hex(self.0.verifying_key().as_bytes())
    }
}

/// The keys that are trusted: this host's, and those that are named.
pub fn trusted(state: &Path, more: &[String]) -> Vec<String> {
    let own = std::fs::read_to_string(state.join(PUBLIC)).map(|t| t.trim().to_owned());
    own.into_iter().chain(more.iter().cloned()).collect()
}

/// Durable when it returns.
pub fn write(set: &Path, drill: &Drill, key: &Key) -> Result<PathBuf, Error> {
    let dir = set.join(DIR);
    let fail = |e: io::Error| Error::io("write", &dir, e);
    if !dir.is_dir() {
        std::fs::create_dir(&dir).map_err(fail)?;
        setdir::sync_dir(set).map_err(fail)?;
    }
    let bytes = serde_json::to_vec(drill).map_err(|e| fail(e.into()))?;
    let signed = Signed { drill: drill.clone(), key: key.public(), signature: hex(&key.0.sign(&bytes).to_bytes()) };
    let text = serde_json::to_vec_pretty(&signed).map_err(|e| fail(e.into()))?;
    let name = format!("{}.json", drill.run);
    setdir::write_durably(&dir, &name, &text).map_err(fail)?;
    Ok(dir.join(name))
}

/// All of a set, oldest first. A file that is none of ours is passed over; one that was changed is there, and not genuine.
pub fn read(set: &Path, id: BackupId, list_sha256: &str, trusted: &[String]) -> Vec<Seen> {
    load(set, |s| trusted.contains(&s.key) && s.drill.id == id && s.drill.list_sha256 == list_sha256)
}

fn load(dir: &Path, fits: impl Fn(&Signed) -> bool) -> Vec<Seen> {
    let entries = std::fs::read_dir(dir.join(DIR)).into_iter().flatten().flatten();
    let mut all: Vec<Seen> = entries
        .filter_map(|e| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::open(e.path(), flags, Mode::empty()).ok()?;
            let mut text = Vec::new();
            std::fs::File::from(file).take(1 << 20).read_to_end(&mut text).ok()?;
            let signed: Signed = serde_json::from_slice(&text).ok()?;
            let genuine = fits(&signed) && is_signed(&signed);
            Some(Seen { drill: signed.drill, genuine })
        })
        .collect();
    all.sort_by_key(|s| s.drill.ended_at);
    all
}

/// This host's own records, of all sets; `genuine` by the key alone.
pub fn read_own(state: &Path, trusted: &[String]) -> Vec<Seen> {
    load(state, |s| trusted.contains(&s.key))
}

fn is_signed(s: &Signed) -> bool {
    let checked = || {
        let key = VerifyingKey::from_bytes(&unhex(&s.key)?.try_into().ok()?).ok()?;
        let signature = Signature::from_bytes(&unhex(&s.signature)?.try_into().ok()?);
        key.verify_strict(&serde_json::to_vec(&s.drill).ok()?, &signature).ok()
    };
    checked().is_some()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |n: usize| u8::from_str_radix(text.get(n..n + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

/// A note that a drill is under way, durable: what is to be tidied when it is killed.
pub fn begin(state: &Path, drill: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(drill).map_err(|e| Error::io("write", state, e.into()))?;
    setdir::write_durably(state, UNDER_WAY, &text).map_err(|e| Error::io("write", &state.join(UNDER_WAY), e))
}

/// The note of a drill that did not end.
pub fn under_way<T: for<'de> Deserialize<'de>>(state: &Path) -> Result<Option<T>, Error> {
    let path = state.join(UNDER_WAY);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| Error::Damaged { path, why: e.to_string() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path, e)),
    }
}

/// It is tidied.
pub fn end(state: &Path) -> Result<(), Error> {
    let path = state.join(UNDER_WAY);
    std::fs::remove_file(&path).and_then(|()| setdir::sync_dir(state)).map_err(|e| Error::io("remove", &path, e))
}

const UNDER_WAY: &str = "drill-under-way.json";

/// The drill's own directory: made by it, and removed only with this mark in it.
const MARK: &str = "made-by-a-snapfreeze-drill";

/// A new directory for one drill, with owner and group of `like`, for nobody else.
pub fn make_place(place: &Path, like: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    std::fs::DirBuilder::new().mode(0o700).create(place)?;
    std::fs::File::create_new(place.join(MARK))?.write_all(b"remove it with everything in it\n")?;
    let m = std::fs::metadata(like)?;
    std::os::unix::fs::chown(place, Some(m.uid()), Some(m.gid()))
}

/// One that is not there is removed already; one without the mark is none of ours.
pub fn remove_place(place: &Path) -> io::Result<()> {
    match place.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(m) if !m.is_dir() || (!place.join(MARK).is_file() && std::fs::read_dir(place)?.next().is_some()) => {
            return Err(io::Error::other("it was not made by a drill: it is left alone"));
        }
        Ok(_) => {}
    }
    // The mark goes last: what a crash leaves is still known as ours.
    for entry in std::fs::read_dir(place)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|n| n == MARK) {
            continue;
        }
        if path.symlink_metadata()?.is_dir() { std::fs::remove_dir_all(&path)? } else { std::fs::remove_file(&path)? }
    }
    let _ = std::fs::remove_file(place.join(MARK));
    std::fs::remove_dir(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_changed_moved_or_made_elsewhere_is_not_genuine() {
        let (state, other, set) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id: BackupId = "0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e".parse().unwrap();
        let key = Key::open(state.path()).unwrap();
        assert_eq!(Key::open(state.path()).unwrap().public(), key.public(), "made once");
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(state.path().join(KEY)).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let mut drill = Drill::new("r1".into(), id, "IRIS".parse().unwrap(), "iris".into(), "1", WallMs(5));
        drill.list_sha256 = "abc".into();
        let path = write(set.path(), &drill, &key).unwrap();
        let look = |list: &str, trusted: &[String]| read(set.path(), id, list, trusted);
        let own = trusted(state.path(), &[]);
        assert_eq!(look("abc", &own), [Seen { drill: drill.clone(), genuine: true }]);
        assert!(!look("other", &own)[0].genuine, "of another content");
        assert!(!look("abc", &trusted(other.path(), &[]))[0].genuine, "nobody is trusted");
        assert!(look("abc", &trusted(other.path(), &[key.public()]))[0].genuine);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"passed\": false", "\"passed\": true")).unwrap();
        let seen = look("abc", &own);
        assert!(seen[0].drill.passed && !seen[0].genuine, "somebody says that it passed");
        std::fs::write(&path, "{}").unwrap();
        assert!(look("abc", &own).is_empty());
    }

    #[test]
    fn only_a_drills_own_place_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("drill");
        remove_place(&place).unwrap();
        make_place(&place, dir.path()).unwrap();
        assert!(make_place(&place, dir.path()).is_err(), "never into one that is there");
        std::fs::create_dir(place.join("sub")).unwrap();
        std::fs::write(place.join("sub/file"), "x").unwrap();
        remove_place(&place).unwrap();
        assert!(!place.exists());
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("data"), "somebody's").unwrap();
        assert!(remove_place(&place).is_err());
        assert!(place.join("data").exists());
    }

    #[test]
    fn a_note_of_a_drill_under_way_is_there_until_it_is_tidied() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(under_way::<Vec<u32>>(state.path()).unwrap(), None);
        begin(state.path(), &vec![1, 2]).unwrap();
        assert_eq!(under_way::<Vec<u32>>(state.path()).unwrap(), Some(vec![1, 2]));
        end(state.path()).unwrap();
        assert_eq!(under_way::<Vec<u32>>(state.path()).unwrap(), None);
    }
}
