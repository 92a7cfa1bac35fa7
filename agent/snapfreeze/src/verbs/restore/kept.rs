//! A set of the catalogue as the planner wants it: its manifest, its list of files, its host file, the configuration in it.

use crate::layout::InstancePlaces;
use engine::Role;
use engine::iris::parse::cpf;
use protocol::wire::Problem;
use protocol::{Code, InstanceName};
use recovery::facts::KeptDatabase;
use recovery::{JournalFile, Kept, KeptFile};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use storage::catalogue::files::{self, Kind};
use storage::catalogue::store::{Entry, State};
use storage::catalogue::{DATA, host};

/// A multi-volume database names its further directories in it, a line each.
const VOLUME_LIST: &str = "iris.dbdir";

pub fn read(entry: &Entry, name: &InstanceName) -> Result<Kept, Problem> {
    let State::Set { manifest, tags } = &entry.state else {
        return Err(Problem::new(
            Code::CatalogueDamaged,
            format!("{} is {}: nothing can be restored from it", entry.name, entry.state.word()),
        ));
    };
    let damaged = |why: String| Problem::new(Code::CatalogueDamaged, why).next("choose another set: `snapfreeze list`");
    let list = files::list(&entry.dir, manifest).map_err(|e| e.problem())?;
    let host = host::read(&entry.dir).map_err(|e| e.problem())?;
    let all: Vec<InstancePlaces> = serde_json::from_value(host.instances).map_err(|e| damaged(format!("its host file: {e}")))?;
    let here = all.into_iter().find(|i| i.instance == *name).ok_or_else(|| damaged(format!("its host file knows no instance {name}")))?;
    let all: Vec<KeptFile> = list
        .iter()
        .filter(|r| r.kind == Kind::File)
        .filter_map(|r| {
            let path = r.path();
            let was = Path::new("/").join(path.strip_prefix(DATA).ok()?);
            Some(KeptFile { copy: entry.dir.join(&path), was, size: r.size, sha256: r.sha256.clone() })
        })
        .collect();
    let of = |role: Role| here.places.iter().filter(move |p| p.role == role).map(|p| p.path.clone());
    let facts = here.facts.as_ref();
    let engine = facts.map_or_else(|| tags.engine.clone(), |f| f.engine.clone());
    let databases = if engine == "gtm" { regions(&all, of(Role::Database)) } else { databases(entry, &all, &here) };
    let below =
        |dirs: Vec<PathBuf>| -> Vec<KeptFile> { all.iter().filter(|f| dirs.iter().any(|d| f.was.parent() == Some(d))).cloned().collect() };
    let wij: Vec<KeptFile> = below(of(Role::Wij).collect()).into_iter().filter(|f| named(&f.was, "wij")).collect();
    let journal_dirs: Vec<PathBuf> = of(Role::Journal).chain(of(Role::Altjournal)).collect();
    let is_journal =
        |f: &KeptFile| f.was.file_name().is_some_and(|n| recovery::journals::name(&n.to_string_lossy()).is_some()) || named(&f.was, "mjl");
    let journals: Vec<KeptFile> = below(journal_dirs).into_iter().filter(is_journal).collect();
    let others = others(&all, &here, [&journals, &wij].into_iter().flatten().chain(databases.iter().flat_map(|d| &d.files)));
    Ok(Kept {
        others,
        id: tags.backup_id,
        verdict: tags.verdict.clone(),
        engine_version: facts.map_or_else(|| tags.engine_version.clone(), |f| f.version.clone()),
        guid: facts.and_then(|f| f.guid.clone()).unwrap_or_default(),
        mirror: facts.and_then(|f| f.mirror.as_ref()).map(|m| m.name.clone()).unwrap_or_default(),
        engine,
        instance: name.clone(),
        marks: tags.instances.iter().find(|i| i.instance == *name).map(|i| i.marks.clone()).unwrap_or_default(),
        frozen_at: tags.frozen_at,
        databases,
        wij,
        journals,
        has_keys: of(Role::Keys).next().is_some(),
    })
}

/// Of the instance's own places, what is neither database, WIJ nor journal. Programs that are installed here stay as they are; a lock
/// is of a process that is not there any more.
fn others<'a>(all: &[KeptFile], here: &InstancePlaces, taken: impl Iterator<Item = &'a KeptFile>) -> Vec<KeptFile> {
    let taken: BTreeSet<&Path> = taken.map(|f| f.was.as_path()).collect();
    let lies = |f: &KeptFile, roles: &[Role]| here.places.iter().any(|p| roles.contains(&p.role) && f.was.starts_with(&p.path));
    let own = [Role::Cpf, Role::Keys, Role::Data, Role::Wij, Role::Journal, Role::Altjournal, Role::Database, Role::External];
    let wanted = |f: &&KeptFile| {
        !taken.contains(f.was.as_path())
            && !named(&f.was, "lck")
            && !f.was.components().any(|c| c.as_os_str() == storage::image::DIR)
            && (lies(f, &own) || (lies(f, &[Role::Install]) && f.was.symlink_metadata().is_err()))
    };
    all.iter().filter(wanted).cloned().collect()
}

/// `IRIS.DAT`, `CACHE.DAT`, `IRIS-0001.VOL`.
pub fn is_database_file(path: &Path) -> bool {
    named(path, "dat") || named(path, "vol")
}

fn named(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

/// GT.M: a place is a database file.
fn regions(all: &[KeptFile], places: impl Iterator<Item = PathBuf>) -> Vec<KeptDatabase> {
    places
        .map(|file| KeptDatabase {
            name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            files: all.iter().filter(|f| f.was == file).cloned().collect(),
            dir: file,
            namespaces: Vec::new(),
        })
        .collect()
}

/// The live journals of GT.M, beside where the set's lay.
pub fn live_gtm_journals(kept: &Kept) -> Vec<JournalFile> {
    let mut dirs: Vec<&Path> = kept.journals.iter().filter_map(|f| f.was.parent()).collect();
    dirs.dedup();
    let files = dirs.into_iter().filter_map(|d| std::fs::read_dir(d).ok()).flatten().flatten();
    files.filter(|e| named(&e.path(), "mjl")).filter_map(|e| Some(JournalFile { size: e.metadata().ok()?.len(), path: e.path() })).collect()
}

/// IRIS and Caché: a place is a directory; names and namespaces are in the set's own configuration file.
fn databases(entry: &Entry, all: &[KeptFile], here: &InstancePlaces) -> Vec<KeptDatabase> {
    let text = |path: &Path| std::fs::read_to_string(entry.dir.join(DATA).join(path.strip_prefix("/").unwrap_or(path))).unwrap_or_default();
    let cpf = here.places.iter().find(|p| p.role == Role::Cpf).map(|p| cpf::parse(&text(&p.path))).unwrap_or_default();
    let (names, namespaces) = (cpf.databases(), cpf.namespaces());
    let dirs: Vec<&PathBuf> = here.places.iter().filter(|p| p.role == Role::Database).map(|p| &p.path).collect();
    let mut out = Vec::new();
    for dir in dirs {
        let in_dir = |d: &Path| all.iter().filter(|f| f.was.parent() == Some(d) && is_database_file(&f.was)).cloned().collect::<Vec<_>>();
        let mut files = in_dir(dir);
        if !files.iter().any(|f| named(&f.was, "dat")) {
            continue; // a directory of further volumes: they come with their database
        }
        for more in text(&dir.join(VOLUME_LIST)).lines().map(str::trim).filter(|l| l.starts_with('/')) {
            let more = Path::new(more.trim_end_matches('/'));
            if more != dir {
                files.extend(in_dir(more));
            }
        }
        let same = |d: &Path| d.to_string_lossy().trim_end_matches('/') == dir.to_string_lossy();
        let name = names.iter().find(|n| same(&n.1)).map(|n| n.0.clone()).unwrap_or_default();
        let shown = namespaces.iter().filter(|n| !name.is_empty() && n.1.eq_ignore_ascii_case(&name)).map(|n| n.0.clone()).collect();
        out.push(KeptDatabase { name, dir: dir.clone(), namespaces: shown, files });
    }
    out
}
