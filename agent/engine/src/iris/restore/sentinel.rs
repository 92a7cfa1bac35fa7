//! The sentinel of drills, by an extended global reference with an implied namespace (`^|"^^directory"|name`, "Using
//! Globals"): no namespace has to show the database.

use super::{ASK_MS, Failed, Script, Sentinel, WallMs, literal, nonce};
use crate::iris::Iris;
use crate::iris::script::Reply;
use crate::restore::moment;
use doors::clock::boot_now;
use std::path::Path;

impl Iris {
    /// By an ordinary session: the instance is in use, and the user needs the right to write into that database.
    pub(super) fn set_sentinel(&self, sentinel: &Sentinel, now: WallMs) -> Result<(), Failed> {
        let place = reference(&sentinel.database, sentinel)?;
        let nonce = nonce().map_err(|e| Failed::new(e.to_string()))?;
        let mut s = Script::new(&nonce);
        s.line(&format!("set {place}={}", now.0));
        s.ask("SENTINEL", &format!("$get({place})"));
        let output = self.runner.session(&s.end("5"), boot_now().plus(ASK_MS), None).map_err(Failed::from)?;
        let said = || self.runner.said(&output);
        let reply = Reply::parse(&output.out(), &nonce).ok_or_else(|| Failed::new(format!("no session answers: {}", said())))?;
        match reply.get("SENTINEL") == now.0.to_string() {
            true => Ok(()),
            false => Err(Failed::new(format!("the sentinel could not be written: {}", said()))
                .next(format!("may the user write into {}?", sentinel.database.display()))),
        }
    }

    /// In the instance of a drill, up for the administrator.
    pub(super) fn get_sentinel(&self, sentinel: &Sentinel, copy: &Path) -> Result<Option<WallMs>, Failed> {
        let place = reference(copy, sentinel)?;
        let reply = self.script(ASK_MS, |s| s.ask("SENTINEL", &format!("$get({place})")))?;
        moment(reply.get("SENTINEL"))
    }
}

fn reference(dir: &Path, sentinel: &Sentinel) -> Result<String, Failed> {
    let dir = dir.to_str().ok_or_else(|| Failed::new(format!("{} is not UTF-8", dir.display())))?;
    Ok(format!("^|{}|{}", literal(&format!("^^{}/", dir.trim_end_matches('/')))?, sentinel.global.name()))
}
