//! Databases and namespaces: class reference of SYS.Database, Config.Databases, Config.Namespaces.

use super::{ASK_MS, Failed, LONG_MS, Say, call, dir_literal, literal, status};
use crate::iris::Iris;
use std::path::{Path, PathBuf};

impl Iris {
    pub(super) fn dismount(&self, dir: &Path) -> Result<String, Failed> {
        if self.mounted(dir)? == Some(false) {
            return Ok("it is not mounted".into());
        }
        let at = dir_literal(dir)?;
        let reply = self.script(ASK_MS, |s| call(s, &format!("##class(SYS.Database).DismountDatabase({at})")))?;
        match self.mounted(dir)? {
            Some(true) => Err(Failed::new(format!("{} stays mounted: {}", dir.display(), reply.get("TEXT")))),
            Some(false) | None => Ok("dismounted".into()),
        }
    }

    pub(super) fn mount(&self, dir: &Path) -> Result<String, Failed> {
        if self.mounted(dir)? == Some(true) {
            return Ok("it is mounted".into());
        }
        let at = dir_literal(dir)?;
        let reply = self.script(ASK_MS, |s| call(s, &format!("##class(SYS.Database).MountDatabase({at})")))?;
        status(&reply, &format!("mount {}", dir.display()))?;
        match self.mounted(dir)? {
            Some(true) => Ok("mounted".into()),
            Some(false) | None => Err(Failed::new(format!("{} is not mounted: {}", dir.display(), reply.get("TEXT")))),
        }
    }

    /// `None`: the engine knows no database there.
    fn mounted(&self, dir: &Path) -> Result<Option<bool>, Failed> {
        let at = dir_literal(dir)?;
        let reply = self.script(ASK_MS, |s| {
            s.line("set sfo=\"\"");
            s.line(&format!("set sfo=##class(SYS.Database).%OpenId({at})"));
            s.line("set sfm=\"\"");
            s.line("set:$isobject(sfo) sfm=sfo.Mounted");
            s.say("MOUNTED", "sfm");
        })?;
        Ok(match reply.get("MOUNTED") {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        })
    }

    pub(super) fn add_database(&self, name: &str, dir: &Path) -> Result<String, Failed> {
        let at = dir_literal(dir)?;
        let there = self.configure("Config.Databases", name, &[("Directory", at)])?;
        Ok(if there { "it is configured".into() } else { format!("configured as {name}") })
    }

    pub(super) fn add_namespace(&self, name: &str, database: &str) -> Result<String, Failed> {
        let d = literal(database)?;
        let there = self.configure("Config.Namespaces", name, &[("Globals", d.clone()), ("Routines", d)])?;
        Ok(if there { "it is configured".into() } else { format!("namespace {name} shows {database}") })
    }

    /// `Create(name, .properties)` unless `Exists(name)`; whether it was there. The values are literals.
    fn configure(&self, class: &str, name: &str, properties: &[(&str, String)]) -> Result<bool, Failed> {
        let n = literal(name)?;
        let reply = self.script(ASK_MS, |s| {
            s.ask("THERE", &format!("##class({class}).Exists({n})"));
            for (property, value) in properties {
                s.line(&format!("set sfp(\"{property}\")={value}"));
            }
            s.line("set sfs=1");
            s.line(&format!("set:sfv'=1 sfs=##class({class}).Create({n},.sfp)"));
            s.say("SC", "$select(sfs:1,1:0)");
            s.say("TEXT", "$select(sfs:\"\",1:$SYSTEM.Status.GetErrorText(sfs))");
        })?;
        status(&reply, &format!("configure {name}"))?;
        Ok(reply.get("THERE") == "1")
    }

    /// The file stays.
    pub(super) fn delete_database(&self, name: &str) -> Result<String, Failed> {
        let n = literal(name)?;
        let reply = self.script(ASK_MS, |s| {
            s.ask("THERE", &format!("##class(Config.Databases).Exists({n})"));
            s.line("set sfs=1");
            s.line(&format!("set:sfv=1 sfs=##class(Config.Databases).Delete({n})"));
            s.say("SC", "$select(sfs:1,1:0)");
            s.say("TEXT", "$select(sfs:\"\",1:$SYSTEM.Status.GetErrorText(sfs))");
        })?;
        status(&reply, &format!("delete {name} from the configuration"))?;
        Ok(if reply.get("THERE") == "1" { "deleted from the configuration".into() } else { "it is not configured".into() })
    }

    /// `SilentIntegrityCheck(file, dirlist)`: its report goes to a file of ours, its answer is the status.
    pub(super) fn check_integrity(&self, dirs: &[PathBuf], say: Say<'_>) -> Result<String, Failed> {
        let mut said = Vec::new();
        for dir in dirs {
            say(&format!("checking {}", dir.display()));
            let at = dir_literal(dir)?;
            let report = self.config.log_dir.join(format!("integrity-{}.log", said.len()));
            let file = literal(&report.to_string_lossy())?;
            let reply = self.script(LONG_MS, |s| {
                call(s, &format!("##class(SYS.Database).SilentIntegrityCheck({file},$listbuild({at}))"));
            })?;
            status(&reply, &format!("integrity of {}", dir.display())).map_err(|f| {
                f.next(format!("see {}; what was there before lies aside, and the set is unchanged: restore another one", report.display()))
            })?;
            said.push(format!("{}: no errors", dir.display()));
        }
        Ok(said.join("; "))
    }
}
