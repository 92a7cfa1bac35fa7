//! The thaw ladder of GT.M, and the proof.
//!
//! First `mupip freeze -off REGIONS`; then the same with `-override`, needed for a freeze that another process made without
//! `-online`; then each region by its own call, because one region that cannot be opened ends a call for all.

use super::Token;
use super::ask::Seen;
use super::call::{Caller, Tool, one_line};
use super::freeze::{JOURNALING_ON, timeline};
use super::output::{evidence, renamed, was_autoreleased};
use crate::{Held, Rung, ThawAnswer};
use doors::clock::boot_now;
use doors::exec::Ended;
use protocol::proof::{Disturbed, Known, Proof};
use protocol::wire::Frozen;

/// `%GTM-W-OFRZNOTHELD`.
const NOT_HELD: i32 = 120;

/// What all rungs together showed.
#[derive(Default)]
struct Evidence {
    said: String,
    /// A call that released regions ended with 0.
    ended_well: bool,
    /// A call was ended by us, or mupip could not be run.
    unclear: bool,
    autoreleased: bool,
}

impl Caller {
    pub fn thaw(&self, held: Option<&Held>, rung_ms: u64, say: &dyn Fn(&Rung)) -> ThawAnswer {
        let began = boot_now();
        let by = |ms: u64| boot_now().plus(ms);
        let before = self.ask(by(rung_ms), None);
        let asked = boot_now();
        let token = held.map(|h| serde_json::from_value::<Token>(h.token.clone()));
        let token = token.and_then(Result::ok);
        let mut seen = before.clone();
        let mut rungs = Vec::new();
        let mut shown = Evidence::default();
        for (call, rung) in Self::ladder() {
            if state(&seen) == Frozen::No {
                break;
            }
            let regions = self.to_thaw(&seen, token.as_ref());
            let calls: Vec<String> = if call == Regions::Each { regions } else { vec![regions.join(",")] };
            for list in calls {
                let mut args: Vec<&str> = rung.to_vec();
                args.push(&list);
                let from = boot_now();
                let mut text = self.rung(&args, rung_ms, &mut shown);
                seen = self.ask(by(rung_ms), None);
                if let Some(stuck) = self.stuck(&seen) {
                    text = format!("{text}; {stuck}");
                }
                let rung = Rung {
                    ran: self.typed(Tool::Mupip, &args),
                    took_ms: boot_now().since(from),
                    said: text,
                    thawed: state(&seen) == Frozen::No,
                };
                say(&rung);
                rungs.push(rung);
            }
        }
        let thawed = boot_now();
        let proof = Proof {
            frozen_before: frozen_before(&before, token.as_ref()),
            released: released(&before, token.as_ref(), &shown),
            alone: self.alone(&before, token.as_ref(), &shown, rung_ms),
            same_instance: same_instance(&before, token.as_ref()),
            log_clean: log_clean(&before, &seen),
            last_resort: rungs.len() > 1,
        };
        ThawAnswer {
            frozen: state(&seen),
            proof,
            rungs,
            evidence: evidence(&shown.said, 16),
            parts: timeline(began, &[("ask", asked), ("mupip freeze -off", thawed)]),
        }
    }

    const fn ladder() -> [(Regions, &'static [&'static str]); 3] {
        [
            (Regions::All, &["freeze", "-off"]),
            (Regions::All, &["freeze", "-off", "-override"]),
            (Regions::Each, &["freeze", "-off", "-override"]),
        ]
    }

    fn rung(&self, args: &[&str], rung_ms: u64, shown: &mut Evidence) -> String {
        let out = match self.freeze_off(args, boot_now().plus(rung_ms)) {
            Ok(Some(out)) => out,
            Ok(None) => {
                shown.unclear = true;
                return format!("still running after {rung_ms} ms");
            }
            Err(e) => {
                shown.unclear = true;
                return e.to_string();
            }
        };
        let text = format!("{}\n{}", out.err(), out.out());
        shown.autoreleased |= was_autoreleased(&text) || out.code() == Some(NOT_HELD);
        shown.ended_well |= out.code() == Some(0);
        shown.unclear |= !matches!(out.ended, Ended::Exited(_));
        shown.said.push_str(&text);
        shown.said.push('\n');
        format!("{:?}: {}", out.ended, one_line(&out))
    }

    /// A freeze latch whose holder is gone; behind a prefix its pid says nothing to us.
    fn stuck(&self, seen: &Result<Seen, String>) -> Option<String> {
        let regions = seen.as_ref().ok()?.regions.iter();
        let gone = |pid: u32| self.config.exec_prefix.is_empty() && !std::path::Path::new(&format!("/proc/{pid}")).exists();
        let (name, pid) = regions.filter_map(|r| Some((&r.name, r.latch?))).find(|(_, pid)| gone(*pid))?;
        Some(format!(
            "region {name}: the freeze latch is held by process {pid}, a mupip freeze that was killed; GT.M cannot thaw. Stop every \
             process of this database (kill -9 when they hang), then run `{}`",
            self.typed(Tool::Mupip, &["journal", "-recover", "-backward", "*"])
        ))
    }

    /// Regions that are frozen or cannot be asked; without any answer those of the freeze, or all.
    fn to_thaw(&self, seen: &Result<Seen, String>, token: Option<&Token>) -> Vec<String> {
        let names: Vec<String> = match (seen, token) {
            (Ok(s), _) if !s.regions.is_empty() || !s.trouble.is_empty() => {
                let frozen = s.frozen_names().into_iter();
                let all = frozen.chain(s.trouble.iter().map(|t| t.name.as_str()));
                all.map(str::to_owned).collect()
            }
            (_, Some(t)) => t.regions.iter().map(|r| r.name.clone()).collect(),
            _ => self.config.regions.clone(),
        };
        if names.is_empty() { vec!["*".into()] } else { names }
    }

    /// The journal that this thaw closed is the one that our freeze opened, in every region.
    fn alone(&self, before: &Result<Seen, String>, token: Option<&Token>, shown: &Evidence, rung_ms: u64) -> Result<(), Disturbed> {
        let unreadable = |why: String| Err(Disturbed::Unreadable(why));
        let Some(token) = token else {
            return unreadable("no freeze of ours is known".into());
        };
        let seen = match before {
            Ok(seen) => seen,
            Err(why) => return unreadable(why.clone()),
        };
        let closed = renamed(&shown.said);
        for ours in &token.regions {
            if ours.journal.is_empty() || ours.inode == 0 {
                return unreadable(format!("region {} has no journaling, so its window cannot be proved", ours.name));
            }
            let Some(now) = seen.region(&ours.name) else {
                return unreadable(format!("region {} could not be asked before the thaw", ours.name));
            };
            let other = |inode: u64| {
                Err(Disturbed::Other(format!(
                    "region {}: the journal was switched inside the window (inode {inode}, was {} at the freeze): \
                     another thaw and freeze, or a journal switch",
                    ours.name, ours.inode
                )))
            };
            // 0: all processes have gone and left the journal closed; then the closed file decides.
            if now.journal_inode != 0 && now.journal_inode != ours.inode {
                return other(now.journal_inode);
            }
            if now.frozen && now.online.is_some_and(|bits| bits != 1) {
                return Err(Disturbed::Other(format!(
                    "region {}: frozen in another way than by our freeze (freeze_online = {})",
                    ours.name,
                    now.online.unwrap_or(0)
                )));
            }
            if let Some(c) = closed.iter().find(|c| c.live == ours.journal) {
                match self.inode(&c.closed, boot_now().plus(rung_ms)) {
                    Ok(inode) if inode == ours.inode => {}
                    Ok(inode) => return other(inode),
                    Err(why) => return unreadable(why),
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Regions {
    All,
    Each,
}

fn state(seen: &Result<Seen, String>) -> Frozen {
    match seen {
        Ok(s) => s.frozen(),
        Err(why) => Frozen::Unknown(why.clone()),
    }
}

/// Every region of our freeze was frozen; one that was not is a "no".
fn frozen_before(before: &Result<Seen, String>, token: Option<&Token>) -> Known {
    let (Ok(seen), Some(token)) = (before, token) else {
        return Known::from(&state(before));
    };
    token.regions.iter().fold(Known::Yes, |known, ours| {
        known.and(match seen.region(&ours.name) {
            Some(r) if r.frozen => Known::Yes,
            Some(_) => Known::No,
            None => Known::Unknown,
        })
    })
}

/// A `FILERENAME` for every region that was frozen, a call that ended with 0, and no word of an autorelease.
/// "Region X is now UNFROZEN" proves nothing: GT.M says it of regions that were not frozen, too.
fn released(before: &Result<Seen, String>, token: Option<&Token>, shown: &Evidence) -> Known {
    if shown.autoreleased || state(before) == Frozen::No {
        return Known::No;
    }
    if shown.unclear || !shown.ended_well {
        return Known::Unknown;
    }
    let closed = renamed(&shown.said);
    let journals: Vec<&str> = match (token, before) {
        (Some(t), _) => t.regions.iter().map(|r| r.journal.as_str()).collect(),
        (None, Ok(seen)) => {
            let frozen = seen.regions.iter().filter(|r| r.frozen);
            frozen.map(|r| r.journal.as_str()).collect()
        }
        (None, Err(_)) => return Known::Unknown,
    };
    if journals.iter().any(|j| j.is_empty()) {
        Known::Unknown
    } else if journals.iter().all(|j| closed.iter().any(|c| c.live == *j)) {
        Known::Yes
    } else {
        Known::No
    }
}

fn same_instance(before: &Result<Seen, String>, token: Option<&Token>) -> Result<(), String> {
    let Some(token) = token else {
        return Err("no freeze of ours is known".into());
    };
    let seen = before.as_ref().map_err(Clone::clone)?;
    for ours in &token.regions {
        let Some(now) = seen.region(&ours.name) else {
            return Err(format!("region {} is not there any more", ours.name));
        };
        if now.shmid != ours.shmid || now.file != ours.file {
            return Err(format!("region {}: the database was closed and opened again, or recovered, inside the window", ours.name));
        }
    }
    Ok(())
}

/// GT.M tells syslog, not us; but a journal that was turned off or a header marked corrupt is in its state.
fn log_clean(before: &Result<Seen, String>, after: &Result<Seen, String>) -> Result<(), String> {
    for seen in [before, after].into_iter().flatten() {
        for r in &seen.regions {
            if r.corrupt {
                return Err(format!("region {} is marked corrupt or needs recovery", r.name));
            }
            // 1: enabled, but the engine turned it off (no space, an I/O error). 0: never journaled.
            if r.journal_state != JOURNALING_ON && r.journal_state != 0 {
                return Err(format!("journaling of region {} has been turned off", r.name));
            }
        }
    }
    Ok(())
}
