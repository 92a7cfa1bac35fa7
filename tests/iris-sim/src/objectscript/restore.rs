//! `Journal.Restore`, `SYS.Database`, `Config.Databases` and `Config.Namespaces` as far as they change something (class
//! reference 2024.1).

use super::Stop;
use super::classes::Object;
use super::interpreter::{Eval, Interpreter};
use super::syntax::{Arg, Expr, Place};
use super::value::{Value, error_status};
use crate::config::Config;
use crate::instance::journal_restore::RestoreArgs;
use crate::proto::{DbOp, Op};

/// Between the elements of a list; a real one is binary.
pub const LIST: char = '\u{1}';

impl Interpreter {
    /// 1, or an error status with the engine's text.
    fn status(&mut self, op: Op) -> Eval<Value> {
        Ok(match self.ask(op)? {
            Ok(_) => true.into(),
            Err(text) => error_status(&text),
        })
    }

    fn db(&mut self, op: DbOp) -> Eval<Value> {
        let done = self.status(Op::Database(op));
        // What is configured has changed for this process too.
        if let Ok(cfg) = Config::load(&self.cfg.dir) {
            self.cfg = cfg;
        }
        done
    }

    pub fn change_database(&mut self, method: &str, args: &[Arg]) -> Eval<Option<Value>> {
        let first = self.text_arg(args, 0)?;
        Ok(Some(match method {
            "CreateDatabase" => self.db(DbOp::Create { dir: first })?,
            "DismountDatabase" => self.db(DbOp::Dismount { dir: first })?,
            "MountDatabase" => self.db(DbOp::Mount { dir: first })?,
            "SilentIntegrityCheck" => {
                let dirs = self.text_arg(args, 1)?;
                let dirs = dirs.split(LIST).filter(|d| !d.is_empty()).map(str::to_string).collect();
                self.status(Op::Database(DbOp::Integrity { file: first, dirs }))?
            }
            _ => return Ok(None),
        }))
    }

    pub fn change_configuration(&mut self, class: &str, method: &str, args: &[Arg]) -> Eval<Option<Value>> {
        let name = self.text_arg(args, 0)?;
        let property = |run: &mut Self, wanted: &str| -> Eval<String> {
            let Some(Arg::ByReference(place)) = args.get(1) else { return Ok(String::new()) };
            let place = Place { subscripts: vec![Expr::Text(wanted.into())], ..place.clone() };
            Ok(run.read_maybe(&place)?.map(|v| v.text()).unwrap_or_default())
        };
        Ok(Some(match (class, method) {
            ("Config.Databases", "Create") => {
                let dir = property(self, "Directory")?;
                self.db(DbOp::Configure { name, dir })?
            }
            ("Config.Databases", "Delete") => self.db(DbOp::Unconfigure { name })?,
            ("Config.Namespaces", "Create") => {
                let database = property(self, "Globals")?;
                self.db(DbOp::Namespace { name, database: Some(database) })?
            }
            ("Config.Namespaces", "Delete") => self.db(DbOp::Namespace { name, database: None })?,
            ("Config.Namespaces", "Exists") => {
                let fresh = Config::load(&self.cfg.dir).unwrap_or_else(|_| self.cfg.clone());
                fresh.namespace(&name).is_some().into()
            }
            _ => return Ok(None),
        }))
    }

    /// `%New` with the properties' initial expressions.
    pub fn new_restore() -> Object {
        Object::Restore(Box::new(RestoreArgs {
            abort_on_journal_error: true,
            switch_on_current: true,
            roll_back: true,
            ..RestoreArgs::default()
        }))
    }

    pub fn set_restore(&mut self, index: usize, name: &str, value: &Value) -> Eval<()> {
        let Object::Restore(args) = &mut self.objects[index] else {
            return Err(Stop::Error("<CANNOT SET THIS PROPERTY>".into()));
        };
        match name {
            "FirstFile" => args.first_file = value.text(),
            "LastFile" => args.last_file = value.text(),
            "JournalLog" => args.journal_log = value.text(),
            "AbortOnJournalError" => args.abort_on_journal_error = value.truth(),
            "AbortOnDatabaseError" => args.abort_on_database_error = value.truth(),
            "SwitchOnCurrentJournal" => args.switch_on_current = value.truth(),
            "RollBack" => args.roll_back = value.truth(),
            "DisableJournaling" | "Dismount" | "Filter" | "MarkerTrigger" | "StartPosition" => {}
            _ => return Err(Stop::Error(format!("<PROPERTY DOES NOT EXIST> *{name}"))),
        }
        Ok(())
    }

    pub fn restore_member(&mut self, index: usize, name: &str, given: &[Arg]) -> Eval<Value> {
        let (first, second) = (self.text_arg(given, 0)?, self.text_arg(given, 1)?);
        let Object::Restore(args) = &mut self.objects[index] else { return Ok(Value::default()) };
        match name {
            "UseJournalLocation" => args.locations.push(first),
            "SelectUpdates" => args.select.push(first),
            "RedirectDatabase" => _ = args.redirect.insert(first, second),
            "CheckJournalIntegrity" => {
                let args = args.as_ref().clone();
                return Ok(match self.ask(Op::JournalCheck(args))? {
                    Ok(dirs) => {
                        let dirs = dirs.as_array().into_iter().flatten().filter_map(|d| d.as_str().map(str::to_string)).collect();
                        self.sources.insert(index, dirs);
                        true.into()
                    }
                    Err(text) => error_status(&text),
                });
            }
            "SourceDatabases" => {
                let list = self.sources.get(&index).cloned().unwrap_or_default();
                self.objects.push(Object::List(list));
                return Ok(Value::Object(self.objects.len() - 1));
            }
            "Run" => {
                let args = args.as_ref().clone();
                return self.status(Op::JournalRestore(args));
            }
            _ => return Err(Stop::Error(format!("<METHOD DOES NOT EXIST> *{name},Journal.Restore"))),
        }
        Ok(true.into())
    }

    /// A list property: `GetNext(.key)`, `GetAt(n)`, `Count()`.
    pub fn list_member(&mut self, list: &[String], name: &str, args: &[Arg]) -> Eval<Value> {
        let n = self.text_arg(args, 0)?.parse::<usize>().unwrap_or(0);
        Ok(match name {
            "Count" => (list.len() as f64).into(),
            "GetAt" => list.get(n.wrapping_sub(1)).map(|s| s.as_str().into()).unwrap_or_default(),
            "GetNext" => match list.get(n) {
                Some(s) => {
                    self.give(args, 0, ((n + 1) as f64).into())?;
                    s.as_str().into()
                }
                None => {
                    self.give(args, 0, Value::default())?;
                    Value::default()
                }
            },
            _ => return Err(Stop::Error(format!("<METHOD DOES NOT EXIST> *{name}"))),
        })
    }
}
