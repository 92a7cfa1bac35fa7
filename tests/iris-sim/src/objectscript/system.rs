//! `$SYSTEM`: status, process, directories, mirror, health.

use super::Stop;
use super::interpreter::{Eval, Interpreter};
use super::syntax::Arg;
use super::value::{Value, status_text};
use crate::proto::Op;

impl Interpreter {
    pub fn system(&mut self, path: &[String], args: &[Arg]) -> Eval<Value> {
        let names: Vec<String> = path.iter().map(|p| p.to_lowercase()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let values = self.values(args)?;
        let first = values.first().cloned().flatten();
        let slash = |p: &std::path::Path| Value::from(format!("{}/", p.display()));
        Ok(match names.as_slice() {
            ["status", "iserror"] => (!first.unwrap_or_default().truth()).into(),
            ["status", "isok"] => first.unwrap_or_default().truth().into(),
            ["status", "ok"] => true.into(),
            ["status", "geterrortext" | "getoneerrortext"] => error_text(&first.unwrap_or_default().text()).into(),
            ["status", "geterrorcodes"] => {
                let text = first.unwrap_or_default().text();
                status_text(&text).map(|_| "7201").unwrap_or_default().into()
            }
            ["status", "displayerror"] => {
                let text = error_text(&first.unwrap_or_default().text());
                self.out(&format!("\n{text}"));
                true.into()
            }
            ["process", "terminate"] => {
                let code = values.get(1).cloned().flatten().map_or(0.0, |v| v.number());
                return Err(Stop::Halt(code as i32));
            }
            ["process", "currentdirectory"] => slash(&std::env::current_dir().unwrap_or_default()),
            ["process", "username"] => "%System".into(),
            ["process", "namespace"] | ["sys", "namespace"] => self.namespace.as_str().into(),
            ["util", "managerdirectory"] => slash(&self.cfg.mgr()),
            ["util", "installdirectory" | "datadirectory"] => slash(&self.cfg.dir),
            ["util", "binarydirectory"] => slash(&self.cfg.root.join("bin")),
            ["util", "getenviron"] => std::env::var(first.unwrap_or_default().text()).unwrap_or_default().into(),
            ["version", "getversion"] => super::functions::special(self, "zversion")?,
            ["version", "getmajor"] => self.cfg.version.split('.').next().unwrap_or_default().into(),
            ["version", "getproduct"] => self.cfg.product.trim_start_matches("InterSystems ").into(),
            ["monitor", "state"] => {
                let info = self.done(Op::Info)?;
                let state = match info["health"].as_str() {
                    Some("hung") => -1.0,
                    Some("warn") => 1.0,
                    Some("alert") => 2.0,
                    _ => 0.0,
                };
                state.into()
            }
            ["mirror", method] => self.mirror(method),
            _ => {
                return Err(Stop::Error(format!("<CLASS DOES NOT EXIST> *%SYSTEM.{}", path.join("."))));
            }
        })
    }

    fn mirror(&self, method: &str) -> Value {
        let kind = self.cfg.mirror_type.as_deref();
        let status = self.cfg.mirror_status.as_deref().unwrap_or_default();
        match method {
            "ismember" => f64::from(match kind {
                None => 0u8,
                Some("Failover") => 1,
                Some(_) => 2,
            })
            .into(),
            "isprimary" => (status == "Primary").into(),
            "isbackup" => (status == "Backup").into(),
            "isasyncmember" => kind.is_some_and(|k| k != "Failover").into(),
            "mirrorname" => self.cfg.mirror_name.clone().unwrap_or_default().into(),
            "getstatus" if kind.is_none() => "NOTINIT".into(),
            "getstatus" => status.to_uppercase().into(),
            "getmembertype" => kind.unwrap_or("Not Member").into(),
            _ => Value::default(),
        }
    }
}

/// `ERROR #7201: text`. The vendor's numbers 7200-7399 for these texts are not public; 7201 stands for all.
fn error_text(status: &str) -> String {
    status_text(status).map(|text| format!("ERROR #7201: {text}")).unwrap_or_default()
}

pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
