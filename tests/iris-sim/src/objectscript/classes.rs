//! The classes and `$SYSTEM` members that answer questions about the instance.

use super::interpreter::{Eval, Interpreter};
use super::syntax::Arg;
use super::value::{Value, error_status};
use super::{Stop, backup_general};
use crate::proto::{DbOp, Op};
use crate::store::journal;
use serde_json::Value as Json;
use std::path::Path;

/// What a variable may refer to.
#[derive(Debug, Clone)]
pub enum Object {
    JournalFile { name: String },
    Method { name: String, spec: String },
    Database { dir: String },
    Restore(Box<crate::instance::journal_restore::RestoreArgs>),
    List(Vec<String>),
    Query { text: String, rows: Vec<Vec<(String, String)>>, at: usize },
    Exception(String),
}

const STATES: [&str; 5] = ["Normal", "Disabled", "Suspended", "Frozen", "Paused"];

impl Interpreter {
    fn object(&mut self, object: Object) -> Value {
        self.objects.push(object);
        Value::Object(self.objects.len() - 1)
    }

    pub fn class_method(&mut self, class: &str, method: &str, args: &[Arg]) -> Eval<Value> {
        let in_sys = self.namespace == "%SYS";
        match class {
            "Backup.General" if in_sys => self.backup_general(method, args),
            "%SYS.Journal.System" => self.journal_system(method, args),
            "%SYS.Journal.File" => self.journal_file(method, args),
            "SYS.Database" if in_sys => self.sys_database(method, args),
            "%Dictionary.CompiledMethod" | "%Dictionary.MethodDefinition" => self.dictionary(method, args),
            "%Dictionary.CompiledClass" | "%Dictionary.ClassDefinition" => {
                let name = self.text_arg(args, 0)?;
                Ok((method == "%ExistsId" && name == "Backup.General").into())
            }
            "%ResultSet" | "%Library.ResultSet" | "%SQL.Statement" if method == "%New" => {
                let text = self.text_arg(args, 0)?;
                Ok(self.object(Object::Query { text, rows: Vec::new(), at: 0 }))
            }
            "%SQL.Statement" if method == "%ExecDirect" => {
                let text = self.text_arg(args, 1)?;
                let rows = self.query_rows(&text)?;
                Ok(self.object(Object::Query { text, rows, at: 0 }))
            }
            "Config.Databases" | "Config.Namespaces" if in_sys => match self.change_configuration(class, method, args)? {
                Some(done) => Ok(done),
                None => self.config_databases(method, args),
            },
            "Journal.Restore" if in_sys && method == "%New" => Ok(self.object(Interpreter::new_restore())),
            "%SYSTEM.Status" => self.system(&["Status".into(), method.into()], args),
            "%SYSTEM.Util" => self.system(&["Util".into(), method.into()], args),
            "%SYSTEM.Mirror" => self.system(&["Mirror".into(), method.into()], args),
            "%SYSTEM.Process" => self.system(&["Process".into(), method.into()], args),
            "%SYSTEM.Monitor" => self.system(&["Monitor".into(), method.into()], args),
            "%SYSTEM.Version" => self.system(&["Version".into(), method.into()], args),
            "%SYS.System" if method == "InstanceGUID" => Ok(self.cfg.guid.as_str().into()),
            "%SYSTEM.INetInfo" if method == "LocalHostName" => Ok(super::system::host_name().into()),
            _ => Err(Stop::Error(format!("<CLASS DOES NOT EXIST> *{class}"))),
        }
    }

    pub fn text_arg(&mut self, args: &[Arg], index: usize) -> Eval<String> {
        let values = self.values(args)?;
        Ok(values.get(index).cloned().flatten().map(|v| v.text()).unwrap_or_default())
    }

    fn journal_system(&mut self, method: &str, args: &[Arg]) -> Eval<Value> {
        let slash = |p: &std::path::Path| Value::from(format!("{}/", p.display()));
        match method {
            "GetPrimaryDirectory" => return Ok(slash(&self.cfg.journal)),
            "GetAlternateDirectory" => return Ok(slash(&self.cfg.alternate)),
            "GetJournalFilePrefix" => return Ok(self.cfg.journal_prefix.as_str().into()),
            "RollToNextFile" => {
                let file = self.done(Op::SwitchJournal)?;
                self.give(args, 1, file.as_str().unwrap_or_default().into())?;
                return Ok(true.into());
            }
            _ => {}
        }
        let journal = self.done(Op::Journal)?;
        let text = |json: &Json| Value::from(json.as_str().unwrap_or_default());
        let number = |json: &Json| Value::from(json.as_f64().unwrap_or_default());
        Ok(match method {
            "GetCurrentFileName" | "GetLastFileName" => text(&journal["current"]),
            "GetCurrentFileOffset" | "Sync" => number(&journal["offset"]),
            "GetCurrentFileCount" => number(&journal["count"]),
            "GetState" => number(&journal["state"]),
            "GetStateString" => STATES[journal["state"].as_u64().unwrap_or(0) as usize % 5].into(),
            "GetCurrentFile" => {
                let name = journal["current"].as_str().unwrap_or_default().to_string();
                self.object(Object::JournalFile { name })
            }
            "GetImageJournalInfo" => {
                let (image, open) = (&journal["image"], &journal["image_open"]);
                for (index, value) in
                    [&image["file"], &image["offset"], &image["count"], &open["offset"], &open["count"]].into_iter().enumerate()
                {
                    let value = if value.is_string() { text(value) } else { number(value) };
                    self.give(args, index, value)?;
                }
                true.into()
            }
            _ => {
                return Err(Stop::Error(format!("<METHOD DOES NOT EXIST> *{method},%SYS.Journal.System")));
            }
        })
    }

    fn journal_file(&mut self, method: &str, args: &[Arg]) -> Eval<Value> {
        let file = self.text_arg(args, 0)?;
        // A compressed file keeps its plain name for whoever asks.
        let probe = |name: String| journal::probe(Path::new(&name)).filter(|f| f.header.guid == self.cfg.guid);
        let found = probe(file.clone()).or_else(|| probe(format!("{file}z")));
        Ok(match method {
            "GetReason" => found.map(|f| f.header.reason.text().into()).unwrap_or_default(),
            "TranslateReason" => reason_text(file.parse().unwrap_or(0)).into(),
            "%OpenId" => match found {
                Some(_) => self.object(Object::JournalFile { name: file }),
                None => Value::default(),
            },
            "%ExistsId" | "Exists" => found.is_some().into(),
            "RequiredForRecovery" | "RequiredForRollback" => {
                let journal = self.done(Op::Journal)?;
                let name = journal["image_open"]["file"].as_str().filter(|_| method == "RequiredForRecovery");
                let name = name.or(journal["required"].as_str()).unwrap_or_default();
                self.give(args, 0, name.into())?;
                self.give(args, 1, 1.0.into())?;
                true.into()
            }
            _ => {
                return Err(Stop::Error(format!("<METHOD DOES NOT EXIST> *{method},%SYS.Journal.File")));
            }
        })
    }

    fn sys_database(&mut self, method: &str, args: &[Arg]) -> Eval<Value> {
        if let Some(done) = self.change_database(method, args)? {
            return Ok(done);
        }
        let dir = self.text_arg(args, 0)?;
        if let Ok(cfg) = crate::config::Config::load(&self.cfg.dir) {
            self.cfg = cfg;
        }
        let found = self.cfg.database(&dir).map(|(_, db)| db.dir_slash());
        Ok(match (method, found) {
            ("%OpenId", Some(dir)) => self.object(Object::Database { dir }),
            ("%ExistsId", found) => found.is_some().into(),
            _ => Value::default(),
        })
    }

    fn config_databases(&mut self, method: &str, args: &[Arg]) -> Eval<Value> {
        let name = self.text_arg(args, 0)?;
        let found = self.cfg.database(&name).map(|(_, db)| format!("{}/", db.dir.display()));
        Ok(match (method, found) {
            ("Exists", found) => found.is_some().into(),
            ("GetDirectory", Some(dir)) => dir.into(),
            ("Get", Some(dir)) => {
                if let Some(Arg::ByReference(place)) = args.get(1) {
                    let mut place = place.clone();
                    place.subscripts.push(super::syntax::Expr::Text("Directory".into()));
                    self.put(&place, dir.into())?;
                }
                true.into()
            }
            _ => error_status(&format!("Database {name} does not exist")),
        })
    }

    fn dictionary(&mut self, method: &str, args: &[Arg]) -> Eval<Value> {
        let id = self.text_arg(args, 0)?;
        let name = id.strip_prefix("Backup.General||").unwrap_or_default().to_string();
        let spec = backup_general::formal_spec(&self.cfg, &name);
        Ok(match (method, spec) {
            ("%ExistsId", spec) => spec.is_some().into(),
            ("%OpenId", Some(spec)) => self.object(Object::Method { name, spec }),
            _ => Value::default(),
        })
    }

    /// `Config.Databases:List`, a SELECT on it, or the journal file list.
    fn query_rows(&mut self, text: &str) -> Eval<Vec<Vec<(String, String)>>> {
        let lower = text.to_lowercase();
        if lower.contains("databases") || lower.contains("sys.database") {
            let row = |db: &crate::config::DbConfig| {
                let state = if db.journalled { "1" } else { "0" };
                vec![
                    ("Name".to_string(), db.name.clone()),
                    ("Directory".to_string(), format!("{}/", db.dir.display())),
                    ("GlobalJournalState".to_string(), state.to_string()),
                    ("Mounted".to_string(), "1".to_string()),
                    ("Server".to_string(), String::new()),
                ]
            };
            let mut rows: Vec<_> = self.cfg.databases.iter().filter(|db| !db.removed).map(row).collect();
            if let Some(columns) = selected(&lower) {
                for row in &mut rows {
                    let all = std::mem::take(row);
                    *row = columns.iter().filter_map(|c| all.iter().find(|(name, _)| name.to_lowercase() == *c).cloned()).collect();
                }
            }
            return Ok(rows);
        }
        if lower.contains("journal.file") {
            let files = journal::list(&[&self.cfg.journal, &self.cfg.alternate], &self.cfg.guid);
            let row = |f: &journal::JournalFile| {
                let name = f.path.display().to_string().trim_end_matches('z').to_string();
                let field = |name: &str, value: String| (name.to_string(), value);
                vec![
                    field("Name", name),
                    field("Size", f.size.to_string()),
                    field("CreationTime", f.header.created.clone()),
                    field("Reason", f.header.reason.text().to_string()),
                ]
            };
            return Ok(files.iter().rev().map(row).collect());
        }
        Err(Stop::Error("<CLASS DOES NOT EXIST>".into()))
    }

    pub fn set_property(&mut self, object: &Value, name: &str, value: Value) -> Eval<()> {
        match object {
            Value::Object(index) => self.set_restore(*index, name, &value),
            Value::Text(_) => Err(Stop::Error("<INVALID OREF>".into())),
        }
    }

    pub fn member(&mut self, value: &Value, name: &str, args: Option<&[Arg]>) -> Eval<Value> {
        let Value::Object(index) = value else {
            return Err(Stop::Error("<INVALID OREF>".into()));
        };
        let index = *index;
        let unknown = |kind: &str| Err(Stop::Error(format!("<{kind} DOES NOT EXIST> *{name}")));
        match self.objects[index].clone() {
            Object::JournalFile { name: file } => match name {
                "Name" => Ok(file.into()),
                "Reason" => self.journal_file("GetReason", &[Arg::Value(super::syntax::Expr::Text(file))]),
                _ => unknown("PROPERTY"),
            },
            Object::Method { name: method, spec } => match name {
                "FormalSpec" => Ok(spec.into()),
                "Name" => Ok(method.into()),
                _ => unknown("PROPERTY"),
            },
            Object::Restore(_) => self.restore_member(index, name, args.unwrap_or_default()),
            Object::List(list) => self.list_member(&list, name, args.unwrap_or_default()),
            Object::Database { dir } => {
                if name == "Mounted" {
                    let mounted = self.done(Op::Database(DbOp::Mounted { dir }))?;
                    return Ok(mounted.as_bool().unwrap_or(false).into());
                }
                let Some((sfn, db)) = self.cfg.database(&dir) else { return Ok(Value::default()) };
                match name {
                    "GlobalJournalState" => Ok((if db.journalled { 3.0 } else { 0.0 }).into()),
                    "Directory" => Ok(format!("{}/", db.dir.display()).into()),
                    "ReadOnly" => Ok(false.into()),
                    "MirrorDBName" | "MirrorSetName" => Ok(Value::default()),
                    "SFN" => Ok(f64::from(sfn).into()),
                    "Size" => Ok(f64::from(db.blocks * self.cfg.block_size / 1_048_576).into()),
                    "BlockSize" => Ok(f64::from(self.cfg.block_size).into()),
                    _ => unknown("PROPERTY"),
                }
            }
            Object::Exception(text) => match name {
                "Name" => Ok(text.split(' ').next().unwrap_or_default().into()),
                "DisplayString" => Ok(text.into()),
                "AsStatus" => Ok(error_status(&text)),
                _ => Ok(Value::default()),
            },
            Object::Query { .. } => self.query_member(index, name, args.unwrap_or_default()),
        }
    }

    fn query_member(&mut self, index: usize, name: &str, args: &[Arg]) -> Eval<Value> {
        let first = self.text_arg(args, 0)?;
        let Object::Query { text, rows, at } = self.objects[index].clone() else {
            return Ok(Value::default());
        };
        let column = |wanted: &str| {
            let row = rows.get(at.wrapping_sub(1))?;
            let by_name = row.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.clone());
            by_name.or_else(|| wanted.parse::<usize>().ok().and_then(|n| row.get(n.wrapping_sub(1)).map(|c| c.1.clone())))
        };
        Ok(match name {
            "Execute" | "%Execute" => {
                let rows = self.query_rows(&text)?;
                self.objects[index] = Object::Query { text, rows, at: 0 };
                // %SQL.Statement hands out a result, %ResultSet a status; here the object is both.
                if name == "Execute" { true.into() } else { Value::Object(index) }
            }
            "%Prepare" | "Prepare" | "%PrepareClassQuery" => {
                let query = if name == "%PrepareClassQuery" { format!("{first}:{}", self.text_arg(args, 1)?) } else { first };
                self.objects[index] = Object::Query { text: query, rows: Vec::new(), at: 0 };
                true.into()
            }
            "Next" | "%Next" => {
                self.objects[index] = Object::Query { text, at: at + 1, rows: rows.clone() };
                (at < rows.len()).into()
            }
            "Get" | "%Get" | "GetData" | "%GetData" | "Data" => column(&first).unwrap_or_default().into(),
            "Close" => true.into(),
            "%SQLCODE" | "QueryIsValid" => f64::from(u8::from(name == "QueryIsValid")).into(),
            property => match column(property) {
                Some(value) => value.into(),
                None => {
                    return Err(Stop::Error(format!("<PROPERTY DOES NOT EXIST> *{property}")));
                }
            },
        })
    }
}

/// The columns of `select a, b from ...`; none for `*` or a class query.
fn selected(lower: &str) -> Option<Vec<String>> {
    let list = lower.split_once("select ")?.1.split_once(" from")?.0;
    (!list.contains('*')).then(|| list.split(',').map(|c| c.trim().to_string()).collect())
}

fn reason_text(code: u32) -> &'static str {
    use crate::store::journal::Reason;
    [Reason::Startup, Reason::User, Reason::Backup, Reason::SizeLimit]
        .into_iter()
        .find(|r| r.code() == code)
        .map_or("unspecified", Reason::text)
}
