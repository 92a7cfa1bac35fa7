//! `Backup.General` for both call forms: literal arguments of a command line, and ObjectScript.

use super::Stop;
use super::interpreter::{Eval, Interpreter};
use super::syntax::Arg;
use super::value::{Value, error_status, numeric};
use crate::config::Config;
use crate::proto::{FreezeArgs, LogTarget, Op, ThawArgs};
use std::path::{Path, PathBuf};

pub const FREEZE_SPEC: &str = "LogFile:%String=\"\",Text:%String=\"\",SwitchJournalFile:%Boolean=1,TimeOut:%Integer=10,\
    Hibernate:%Integer=0,Verbose:%Boolean=0,ExternalFreezeTimeOut:%Integer=0,Username:%String=\"\",Password:%String=\"\"";
pub const FREEZE_SPEC_NEW: &str = ",WDSuspendLimit:%Integer=0,*RequiredFile:%String";

/// Whether the class has the method, and its FormalSpec.
pub fn formal_spec(cfg: &Config, method: &str) -> Option<String> {
    let newer = if cfg.old_freeze { "" } else { FREEZE_SPEC_NEW };
    Some(match method {
        "ExternalFreeze" => format!("{FREEZE_SPEC}{newer}"),
        "ExternalThaw" => "LogFile:%String=\"\",Username:%String=\"\",Password:%String=\"\"".into(),
        "ExternalSetHistory" => "LogFile:%String=\"\",Description:%String=\"\"".into(),
        "IsWDSuspended" => String::new(),
        "IsWDSuspendedExt" if !cfg.old_freeze => String::new(),
        "CommandLineFreeze" | "CommandLineThaw" if !cfg.old_freeze => "doHalt:%Boolean=1".into(),
        _ => return None,
    })
}

/// The process's working directory is that of the caller.
pub fn log_target(argument: &str) -> LogTarget {
    match argument {
        "" => LogTarget::Nowhere,
        "0" => LogTarget::Terminal,
        path => {
            let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
            LogTarget::File(here.join(Path::new(path)))
        }
    }
}

/// By position; `None` is omitted. An old version takes nine.
pub fn freeze_args(cfg: &Config, values: &[Option<String>]) -> Result<FreezeArgs, String> {
    if values.len() > if cfg.old_freeze { 9 } else { 11 } {
        return Err("<PARAMETER>".into());
    }
    let text = |index: usize| values.get(index).cloned().flatten().unwrap_or_default();
    let seconds = |index: usize| numeric(&text(index)).max(0.0) as u64;
    Ok(FreezeArgs {
        log_file: log_target(&text(0)),
        text: text(1),
        switch_journal: values.get(2).cloned().flatten().is_none_or(|v| numeric(&v) != 0.0),
        timeout_s: seconds(6),
        username: text(7),
        password: text(8),
        wd_suspend_limit_s: seconds(9),
        native: false,
    })
}

pub fn thaw_args(values: &[Option<String>], check_credentials: bool) -> Result<ThawArgs, String> {
    if values.len() > 3 {
        return Err("<PARAMETER>".into());
    }
    let text = |index: usize| values.get(index).cloned().flatten().unwrap_or_default();
    Ok(ThawArgs { log_file: log_target(&text(0)), username: text(1), password: text(2), check_credentials, native: false })
}

impl Interpreter {
    pub fn backup_general(&mut self, method: &str, args: &[Arg]) -> Eval<Value> {
        let given = self.values(args)?;
        let values: Vec<Option<String>> = given.iter().map(|v| v.as_ref().map(Value::text)).collect();
        let missing = || Err(Stop::Error(format!("<METHOD DOES NOT EXIST> *{method},Backup.General")));
        if formal_spec(&self.cfg, method).is_none() {
            return missing();
        }
        let status = |reply: Result<serde_json::Value, String>| match reply {
            Ok(value) if value["exit"].as_f64().is_some_and(|forced| forced != 5.0) => {
                (error_status("System failed to quiesce"), serde_json::Value::Null)
            }
            Ok(value) => (Value::from(true), value),
            Err(text) => (error_status(&text), serde_json::Value::Null),
        };
        match method {
            "ExternalFreeze" => {
                let freeze = freeze_args(&self.cfg, &values).map_err(Stop::Error)?;
                let (status, reply) = status(self.ask(Op::Freeze(freeze))?);
                if let Some(required) = reply["required"].as_str() {
                    self.give(args, 10, required.into())?;
                }
                Ok(status)
            }
            "ExternalThaw" => {
                let thaw = thaw_args(&values, false).map_err(Stop::Error)?;
                Ok(status(self.ask(Op::Thaw(thaw))?).0)
            }
            "ExternalSetHistory" => {
                let description = values.get(1).cloned().flatten().unwrap_or_default();
                let log = values.first().cloned().flatten().unwrap_or_default();
                self.ask(Op::SetHistory { log_file: log_target(&log), description })?.ok();
                Ok(true.into())
            }
            "IsWDSuspended" => {
                let reply = self.done(Op::IsSuspended)?;
                Ok(reply["suspended"].as_bool().unwrap_or(false).into())
            }
            "IsWDSuspendedExt" => {
                let reply = self.done(Op::IsSuspended)?;
                Err(Stop::Halt(if reply["suspended"].as_bool().unwrap_or(false) { 5 } else { 3 }))
            }
            "CommandLineFreeze" => {
                let freeze = FreezeArgs { switch_journal: true, native: true, ..FreezeArgs::default() };
                Err(Stop::Halt(i32::from(self.ask(Op::Freeze(freeze))?.is_err())))
            }
            "CommandLineThaw" => {
                let thaw = ThawArgs { native: true, ..ThawArgs::default() };
                Err(Stop::Halt(i32::from(self.ask(Op::Thaw(thaw))?.is_err())))
            }
            _ => missing(),
        }
    }
}
