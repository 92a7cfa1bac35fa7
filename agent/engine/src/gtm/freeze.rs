//! One freeze call: look that no region is frozen, freeze all in one call, look at what it left.

use super::ask::{Region, Seen};
use super::call::{Caller, one_line};
use super::output::{Renamed, evidence, renamed};
use super::{Token, TokenRegion};
use crate::{Error, FreezeAnswer, FreezeOrder, Held};
use doors::clock::boot_now;
use doors::exec::{self, Cancel, Ended};
use protocol::outcome::Part;
use protocol::{BootMs, JournalMark};

/// `sgmnt_data.jnl_state` of a region that is being journaled.
pub(super) const JOURNALING_ON: u32 = 2;

impl Caller {
    /// `Failed` when nothing was sent or mupip itself said no; `Unknown` whenever a region may be frozen or become so.
    pub fn freeze(&self, order: &FreezeOrder, cancel: &Cancel) -> FreezeAnswer {
        let began = boot_now();
        let not_sent = |why: &str| FreezeAnswer::Failed(format!("no freeze was sent: {why}"));
        let late = || cancel.thrown() || boot_now() >= order.by;
        if late() {
            return not_sent("too late or cancelled");
        }
        let before = match self.ask(order.by, Some(cancel)) {
            Ok(seen) => seen,
            Err(why) => return not_sent(&why),
        };
        // `freeze -on` of several regions freezes those that are free although another is frozen, and only then answers 10.
        let frozen = before.frozen_names();
        if !frozen.is_empty() {
            return FreezeAnswer::NotOurs(format!("no freeze was sent: region {} was frozen already", frozen.join(", ")));
        }
        let files: Vec<&str> = before.regions.iter().map(|r| r.file.as_str()).collect();
        if let Some(why) = refusal(&before).or_else(|| self.wrong_user(&files)) {
            return not_sent(&why);
        }
        let asked = boot_now();
        if late() {
            return not_sent("too late or cancelled");
        }
        let names: Vec<&str> = before.regions.iter().map(|r| r.name.as_str()).collect();
        let list = names.join(",");
        let args = ["freeze", "-on", "-online", "-noautorelease", &list];
        let out = match self.freeze_on(&args, order.by, cancel) {
            Ok(out) => out,
            Err(Error::Exec(exec::Error::Io { program, source })) => {
                return FreezeAnswer::Unknown(format!("{}: {source}", program.display()));
            }
            Err(e) => return not_sent(&e.to_string()),
        };
        let frozen_at = boot_now();
        match out.ended {
            Ended::Exited(0) => {}
            Ended::Exited(code) => {
                return FreezeAnswer::Failed(format!("mupip answered {code}: {}", one_line(&out)));
            }
            Ended::Signaled(_) | Ended::TimedOut | Ended::Cancelled => {
                return FreezeAnswer::Unknown(format!(
                    "mupip freeze was ended ({:?}) after {} ms: {}",
                    out.ended,
                    out.took_ms,
                    one_line(&out)
                ));
            }
        }
        let said = format!("{}\n{}", out.err(), out.out());
        let after = match self.ask(order.by, Some(cancel)) {
            Ok(seen) => seen,
            Err(why) => {
                return FreezeAnswer::Unknown(format!("frozen, but it cannot be asked: {why}"));
            }
        };
        let parts = timeline(began, &[("ask", asked), ("mupip freeze", frozen_at), ("ask again", boot_now())]);
        match held(&names, &after, &said, parts) {
            Ok(held) => FreezeAnswer::Frozen(held),
            Err(why) => FreezeAnswer::Unknown(why),
        }
    }
}

/// Consecutive parts, each from the end of the one before.
pub(super) fn timeline(began: BootMs, ends: &[(&str, BootMs)]) -> Vec<Part> {
    let mut from = began;
    let mut parts = Vec::new();
    for (name, end) in ends {
        parts.push(Part { name: (*name).to_owned(), at_ms: from.since(began), took_ms: end.since(from) });
        from = *end;
    }
    parts
}

/// Why nothing is sent although no region is frozen.
fn refusal(seen: &Seen) -> Option<String> {
    if let Some(t) = seen.trouble.first() {
        return Some(format!("region {}: {}", t.name, t.text));
    }
    if seen.regions.is_empty() {
        return Some("the global directory has none of the configured regions".into());
    }
    seen.regions.iter().find(|r| r.corrupt).map(|r| format!("region {} is marked corrupt or needs recovery", r.name))
}

/// Marks, token and warnings from the state right after the freeze. `Err`: it is not wholly frozen.
fn held(names: &[&str], after: &Seen, said: &str, parts: Vec<Part>) -> Result<Held, String> {
    let switched = renamed(said);
    let mut held = Held {
        marks: Vec::new(),
        token: serde_json::Value::Null,
        warnings: Vec::new(),
        evidence: evidence(said, 4 * names.len() + 1),
        // The first part is the question; then `mupip` is started.
        sent_after_ms: parts.first().map_or(0, |p| p.took_ms),
        parts,
    };
    let mut token = Token { regions: Vec::new() };
    for name in names {
        let Some(region) = after.region(name).filter(|r| r.frozen) else {
            return Err(format!("region {name} is not frozen although mupip said so"));
        };
        let closed = switched.iter().find(|s| s.live == region.journal);
        warn(region, closed, &mut held.warnings);
        held.marks.push(JournalMark {
            region: region.name.clone(),
            switched: closed.map(|c| c.closed.clone()),
            required: None,
            offset: Some(match closed {
                Some(_) => region.switched_tn.unwrap_or(region.tn),
                None => region.tn,
            }),
        });
        token.regions.push(TokenRegion {
            name: region.name.clone(),
            file: region.file.clone(),
            shmid: region.shmid,
            journal: match closed {
                Some(c) => c.live.clone(),
                None => String::new(),
            },
            inode: region.journal_inode,
        });
    }
    held.token = serde_json::to_value(token).map_err(|e| e.to_string())?;
    Ok(held)
}

fn warn(region: &Region, closed: Option<&Renamed>, warnings: &mut Vec<String>) {
    if region.journal_state != JOURNALING_ON || closed.is_none() {
        warnings.push(format!(
            "region {}: journaling is not on, so its window cannot be proved and nothing can be rolled forward",
            region.name
        ));
    }
}
