//! Databases at run time and `Journal.Restore`, as the instance carries them out.

use super::{Conn, Server, lock, today};
use crate::instance::databases;
use crate::instance::journal_restore::RestoreArgs;
use crate::proto::{DbOp, Reply};
use crate::store::journal::Reason;
use jiff::Zoned;
use serde_json::{Value, json};
use std::path::Path;

fn reply(result: Result<Value, String>) -> Reply {
    result.map_or_else(Reply::Failed, Reply::Done)
}

impl Server {
    pub fn database(&self, pid: u32, op: DbOp) -> Reply {
        let mut core = lock(&self.core);
        let null = |()| Value::Null;
        let line = |category: &str, text: String| self.console.log(&Zoned::now(), pid, 0, category, &text);
        let answer = reply(match op {
            DbOp::Create { dir } => core.create_database(&dir).map(null),
            DbOp::Mounted { dir } => Ok(json!(core.sfn_of(&dir).map(|sfn| core.dbs[usize::from(sfn)].mounted))),
            DbOp::Mount { dir } => core.mount(&dir).map(null).inspect(|_| line("Database.MountedRW", format!("Mounted database {dir}"))),
            // INVENTED text.
            DbOp::Dismount { dir } => {
                core.dismount(&dir).map(null).inspect(|_| line("Database.Dismounted", format!("Dismounted database {dir}")))
            }
            DbOp::Configure { name, dir } => core.configure(&name, &dir).map(null),
            DbOp::Unconfigure { name } => core.unconfigure(&name).map(null),
            DbOp::Namespace { name, database } => core.set_namespace(&name, database.as_deref()).map(null),
            DbOp::Integrity { file, dirs } => {
                let checked: Result<Vec<_>, String> =
                    dirs.into_iter().map(|dir| core.check_integrity(&dir).map(|errors| (dir, errors))).collect();
                checked.and_then(|all| {
                    databases::report(Path::new(&file), &all).map_err(|e| format!("{file}: {e}"))?;
                    match all.iter().find(|(_, errors)| !errors.is_empty()) {
                        None => Ok(Value::Null),
                        Some((dir, errors)) => Err(format!("{} errors in {dir}: {}", errors.len(), errors[0])),
                    }
                })
            }
        });
        drop(core);
        // A whole cycle may have been the one that a freeze waits for.
        self.changed.notify_all();
        answer
    }

    pub fn journal_check(&self, args: &RestoreArgs) -> Reply {
        reply(lock(&self.core).check_journals(args).map(|dirs| json!(dirs)))
    }

    pub fn journal_restore(&self, conn: &mut Conn, args: &RestoreArgs) -> Reply {
        let mut core = lock(&self.core);
        let current = core.journal.path().to_path_buf();
        let selected = core.restore_files(args).is_ok_and(|files| files.iter().any(|f| f.path == current));
        if selected
            && args.switch_on_current
            && let Ok(file) = core.switch_journal(Reason::User, &today())
        {
            self.journal_log(&Zoned::now(), &file);
            self.console.journal_switched(&Zoned::now(), conn.pid, &file);
        }
        let done = core.journal_restore(args);
        drop(core);
        self.changed.notify_all();
        let event = json!({
            "ok": done.is_ok(),
            "records": done.as_ref().map_or(0, |d| d.records),
            "rolled_back": done.as_ref().map_or(0, |d| d.rolled_back),
            "databases": done.as_ref().map(|d| d.databases.clone()).unwrap_or_default(),
        });
        self.history.event("journal_restore", conn.pid, event);
        if let Ok(d) = &done {
            let at = Zoned::now().strftime("%Y%m%d %H:%M:%S");
            let mut text = format!("\n[Journal restore completed at {at}]\n\nThe following databases have been updated:\n\n");
            for (n, dir) in d.databases.iter().enumerate() {
                text += &format!("{}. {dir}\n", n + 1);
            }
            let _gone = conn.send(&Reply::Out(text));
        }
        reply(done.map(|d| json!(d)))
    }
}
