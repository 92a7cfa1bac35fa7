//! What must hold after every kill, by the engine's history alone.

use crate::case::{Case, Facts, Pre, open_since, thaw_by};
use serde_json::Value;
use suite::host::{Happened, Host, Seen, What};

/// Contract §8: first thaw issued after the caller, and the agent or the watchdog, died: ≤ thaw_by + 1 s.
const LATE_MS: u64 = 1_000;
/// `wd_suspend_limit` of the hosts, and what the model may be late by.
const LIMIT_MS: u64 = 5_000;
/// Between the point before a thaw call and the engine's own note of it there is a process start, a login and a
/// question: on a loaded machine that is no promise of ours, but it has an end.
const HEARD_MS: u64 = 4_000;

/// What a case showed.
#[derive(Debug, Default)]
pub struct Shown {
    pub frozen: bool,
    pub unbroken: bool,
    /// First thaw issued, relative to `thaw_by`.
    pub issued_ms: Option<i64>,
    pub by_limit: bool,
    /// Agent and watchdog dead and nobody restarts: the engine's limit, or the caller, is all there is.
    pub both_dead: bool,
    pub heard_late: bool,
    /// A freeze that outlived its agent landed after the next agent had confirmed "not frozen" (and told so).
    pub landed_late: bool,
    pub codes: Vec<Option<i32>>,
}

/// `Err` says which promise was broken.
pub fn judge(case: &Case, host: &Host, f: &Facts) -> Result<Shown, String> {
    let mut shown = Shown { codes: f.callers.iter().map(|c| c.1.code).collect(), ..Shown::default() };
    let tell = |what: String| format!("{case}: {what}\n  history {}\n  callers {:?}\n  points {}", lines(f, host), f.callers, points(f));
    if open_since(&f.history).is_some() {
        return Err(tell("left frozen".into()));
    }
    let by = thaw_by(&f.points, host.setup.hold_ms);
    let mut rest = f.history.as_slice();
    while let Some(n) = rest.iter().position(|h| h.what == What::Frozen) {
        let by = by.ok_or_else(|| tell("frozen without an entry".into()))?;
        let frozen = rest[n].at_ms;
        let after = &rest[n + 1..];
        let end = after.iter().find(|h| matches!(h.what, What::Thawed | What::LimitThawed)).ok_or_else(|| tell("left frozen".into()))?;
        let issued =
            after.iter().find(|h| matches!(h.what, What::ThawCalled | What::Thawed | What::LimitThawed)).map_or(end.at_ms, |h| h.at_ms);
        shown.frozen = true;
        shown.issued_ms.get_or_insert(issued as i64 - by as i64);
        shown.by_limit |= end.what == What::LimitThawed;
        let latest = latest(case, f, by, frozen);
        let sent = |p: &&Seen| {
            matches!(p.name.as_str(), "agent.thawer.before" | "watchdog.thaw.before") && p.at_ms + 1_000 >= frozen && p.at_ms <= latest
        };
        if issued > latest && issued <= latest + HEARD_MS && f.points.iter().any(|p| sent(&p)) {
            shown.heard_late = true;
        } else if issued > latest {
            return Err(tell(format!(
                "the first thaw was issued {} ms after thaw_by, {} ms too late",
                issued as i64 - by as i64,
                issued - latest
            )));
        }
        rest = after;
    }
    shown.unbroken = unbroken(host, f).map_err(tell)?;
    shown.landed_late = landed_late(f);
    shown.both_dead = f.restarts.is_empty() && f.died.contains(&"watchdog") && (f.died.contains(&"agent") || case.pre == Pre::AgentLost);
    for (verb, e) in &f.callers {
        true_exit(verb, e.code, e.at_ms, f, case).map_err(tell)?;
    }
    Ok(shown)
}

/// When the first thaw must have been issued.
fn latest(case: &Case, f: &Facts, by: u64, frozen: u64) -> u64 {
    let agent_dead = f.died.contains(&"agent") || case.pre == Pre::AgentLost;
    let both = agent_dead && f.died.contains(&"watchdog");
    // A killed freeze that landed after the first thaw is looked for every second.
    let landed_late = f.killed_ms.is_some_and(|k| frozen > k);
    let by = if landed_late { by.max(frozen + 1_000) } else { by };
    match (both, f.restarts.last()) {
        (false, _) => by + LATE_MS,
        (true, Some(restart)) => by.max(*restart) + LATE_MS,
        (true, None) => frozen + LIMIT_MS + LATE_MS,
    }
}

/// Every reply, marker and journal entry that says "unbroken" must be true. Whether there was one.
fn unbroken(host: &Host, f: &Facts) -> Result<bool, String> {
    let mut claims: Vec<String> = Vec::new();
    for (verb, e) in &f.callers {
        let said: Vec<Value> = e.out.lines().filter_map(|l| serde_json::from_str(l.trim_start_matches("SNAPFREEZE ")).ok()).collect();
        claims.extend(said.iter().filter(|v| is_unbroken(&v["state"])).map(|v| format!("{verb} said {v}")));
    }
    for (id, result) in host.journal_results() {
        let ours = result["window"]["frozen_at"].as_i64().is_some() && !f.earlier.contains(&id);
        if ours && is_unbroken(&result["window"]["state"]) {
            claims.push(format!("the journal says {result}"));
        }
    }
    if claims.is_empty() {
        return Ok(false);
    }
    let count = |w: What| f.history.iter().filter(|h| h.what == w).count();
    let asked = f.points.iter().find(|p| p.name == "agent.thaw.before").map(|p| p.at_ms);
    let thawed = f.history.iter().find(|h| h.what == What::Thawed).map(|h| h.at_ms);
    let caller_asked = f.points.iter().any(|p| p.name == "caller.thaw.before");
    let good = count(What::Frozen) == 1
        && count(What::Thawed) == 1
        && count(What::LimitThawed) == 0
        && caller_asked
        && matches!((asked, thawed), (Some(a), Some(t)) if t + 1 >= a);
    if good { Ok(true) } else { Err(format!("a false \"unbroken\": {claims:?}")) }
}

fn is_unbroken(state: &Value) -> bool {
    state["state"] == "unbroken"
}

/// The exit code of a caller that lived is one of the contract's, and true at the moment of its exit.
fn true_exit(verb: &str, code: Option<i32>, at: u64, f: &Facts, case: &Case) -> Result<(), String> {
    let Some(code) = code else {
        return if case.victims.caller { Ok(()) } else { Err(format!("{verb} died of a signal that nobody sent")) };
    };
    let until: Vec<Happened> = f.history.iter().filter(|h| h.at_ms <= at).cloned().collect();
    let frozen_now = open_since(&until).is_some();
    let was_frozen = until.iter().any(|h| h.what == What::Frozen);
    let wrong = |why: &str| Err(format!("{verb} ended with {code}, but {why}"));
    match (code, verb) {
        (0, "freeze") if !was_frozen => wrong("nothing was frozen"),
        (0, "rehearse" | "thaw") if frozen_now || !was_frozen => wrong("it was not frozen and thawed"),
        (0, _) => Ok(()),
        // What was confirmed was so; the guard thaws what lands afterwards within its second (`latest`).
        (3 | 6, _) if frozen_now && !landed_late(f) => wrong("it was still frozen"),
        (3, _) if !was_frozen => wrong("it was never frozen"),
        (3 | 6, _) => Ok(()),
        (8, _) if !frozen_now && confirmed(f, at) => wrong("it was not frozen, and that was confirmed"),
        (8, _) => Ok(()),
        (1 | 4 | 10, "freeze" | "rehearse") if was_frozen => wrong("a freeze had been sent"),
        (1 | 4 | 10, _) if frozen_now => wrong("it was still frozen"),
        (1 | 4 | 10, _) => Ok(()),
        (_, _) => wrong("that is none of the codes that can be"),
    }
}

/// The agent was killed while its freeze was in the engine, and the freeze landed after the next agent's first round.
fn landed_late(f: &Facts) -> bool {
    let Some(killed) = f.killed_ms.filter(|_| f.died.contains(&"agent")) else { return false };
    let confirmed = f.points.iter().find(|p| p.name == "agent.thaw.after" && p.at_ms >= killed).map(|p| p.at_ms);
    // A round takes a moment: it asked before it was over.
    let landed = f.history.iter().find(|h| h.what == What::Frozen && h.at_ms > killed).map(|h| h.at_ms);
    matches!((confirmed, landed), (Some(c), Some(l)) if l + 500 > c)
}

/// The agent had the engine's "not frozen" well before this time. 8 is "left frozen *or unknown*".
fn confirmed(f: &Facts, at: u64) -> bool {
    f.points.iter().any(|p| p.name == "agent.thaw.after" && p.at_ms + 300 < at)
}

fn lines(f: &Facts, host: &Host) -> String {
    let by = thaw_by(&f.points, host.setup.hold_ms).unwrap_or(f.began_ms);
    let rel = |t: u64| t as i64 - by as i64;
    let list: Vec<String> = f.history.iter().map(|h| format!("{:?} {:+}", h.what, rel(h.at_ms))).collect();
    let killed = f.killed_ms.map(|k| format!("killed {:?} {:+}", f.died, rel(k)));
    format!("(ms from thaw_by) {killed:?} {} restarts {:?}", list.join(", "), f.restarts.iter().map(|r| rel(*r)).collect::<Vec<_>>())
}

fn points(f: &Facts) -> String {
    let list: Vec<String> = f.points.iter().map(|p| format!("{}@{}", p.name, p.at_ms as i64 - f.began_ms as i64)).collect();
    list.join(" ")
}
