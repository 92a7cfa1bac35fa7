//! How each engine is set up, how another tool reaches its database, and what the truth is.

use super::rules::Rig;
use engine::Engine;
use engine::command::Command;
use engine::fake::{Fake, Faulty};
use engine::gtm::Gtm;
use std::path::Path;
use suite::gtm::{GtmDb, Pace, Sizes, Workload, installed_or_skip};

struct FakeRig {
    database: Fake,
    engine: Box<dyn Engine>,
}

impl Rig for FakeRig {
    fn engine(&self) -> &dyn Engine {
        &*self.engine
    }
    fn other_freeze(&self) {
        self.database.set_frozen(true);
    }
    fn other_thaw(&self) {
        self.database.set_frozen(false);
    }
    fn truth(&self) -> bool {
        self.database.frozen()
    }
}

pub fn fake() -> Option<Box<dyn Rig>> {
    let database = Fake::new();
    Some(Box::new(FakeRig { engine: Box::new(database.clone()), database }))
}

pub fn faulty() -> Option<Box<dyn Rig>> {
    let database = Fake::new();
    Some(Box::new(FakeRig { engine: Box::new(Faulty::new(database.clone())), database }))
}

/// A "database" of two files: one exists while it is frozen, one grows with every switch. Its tool needs some time.
const TOOL: &str = r#"cd "$2" || exit 9
case $1 in
freeze) sleep 0.02; [ -e frozen ] && exit 3; echo >> switches; : > frozen; sleep 0.02;;
thaw) [ -e frozen ] || exit 0; echo >> switches; rm frozen;;
frozen) if [ -e frozen ]; then exit 0; else exit 1; fi;;
epoch) wc -l < switches;;
mark) echo switched=$2/log.$(wc -l < switches); echo offset=7;;
esac
"#;

struct CommandRig {
    dir: tempfile::TempDir,
    engine: Command,
}

impl CommandRig {
    fn tool(&self, verb: &str) {
        let sh = doors::exec::Program::find("/bin/sh").unwrap();
        let script = self.dir.path().join("tool");
        let args = [script.as_os_str(), verb.as_ref(), self.dir.path().as_os_str()];
        let call = doors::exec::Call::new(&sh, args);
        call.run(doors::clock::boot_now().plus(10_000), None).unwrap();
    }
}

impl Rig for CommandRig {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }
    fn other_freeze(&self) {
        self.tool("freeze");
    }
    fn other_thaw(&self) {
        self.tool("thaw");
    }
    fn truth(&self) -> bool {
        Path::new(&self.dir.path().join("frozen")).exists()
    }
}

pub fn command() -> Option<Box<dyn Rig>> {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("tool");
    std::fs::write(&script, TOOL).unwrap();
    std::fs::write(dir.path().join("switches"), "").unwrap();
    let verb = |v: &str| serde_json::json!(["/bin/sh", script, v, dir.path()]);
    let config = serde_json::from_value(serde_json::json!({
        "name": "c", "freeze": verb("freeze"), "thaw": verb("thaw"), "is_frozen": verb("frozen"),
        "epoch": verb("epoch"), "journal_mark": verb("mark"), "layout": {"data": [dir.path()]},
    }));
    let engine = Command::new(config.unwrap()).unwrap();
    Some(Box::new(CommandRig { dir, engine }))
}

/// Two regions and a writer that never stops. Dropped in this order: engine, writer, database, directory.
struct GtmRig {
    engine: Gtm,
    _work: Workload,
    db: GtmDb,
    _dir: tempfile::TempDir,
}

impl Rig for GtmRig {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }
    fn other_freeze(&self) {
        let args = ["freeze", "-on", "-online", "-noautorelease", "*"];
        self.db.must(self.db.mupip(&args)).unwrap();
    }
    fn other_thaw(&self) {
        self.db.must(self.db.mupip(&["freeze", "-off", "*"])).unwrap();
    }
    fn truth(&self) -> bool {
        self.db.frozen_flags().contains(&true)
    }
}

pub fn gtm(test: &str) -> Option<Box<dyn Rig>> {
    installed_or_skip(test)?;
    let dir = tempfile::tempdir().unwrap();
    let sizes = Sizes { blocks: 2_000, buffers: 512 };
    let db = GtmDb::create_with(&dir.path().join("t"), &["ACC"], sizes).unwrap();
    let pace = Pace { pause_ms: 3, value: 100 };
    let work = db.start_workload(&dir.path().join("record"), pace).unwrap();
    let engine = Gtm::new(db.config("t")).unwrap();
    Some(Box::new(GtmRig { engine, _work: work, db, _dir: dir }))
}
