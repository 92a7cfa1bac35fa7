//! Everything that can fail, before anything is frozen.

use super::Shared;
use crate::instances::{self, Set};
use crate::verbs::restore::waiting;
use doors::clock::{boot_now, wall_now};
use lifecycle::Order;
use protocol::wire::{FreezeRequest, Problem};
use protocol::{Code, WallMs};

/// An engine's own facts; outside the window, so there is time.
const DISCOVER_MS: u64 = 20_000;
/// Rule 6: a host clock this far before `issued_at` is not to be trusted with `not_after`.
const CLOCK_BEHIND_MS: i64 = 5_000;
/// Rule 6: no order is valid for longer.
const LONGEST_MS: i64 = 600_000;
const MAX_BY: usize = 128;

/// The order, its instances, and warnings. Blocks while the engines are asked.
pub fn admit(shared: &Shared, request: &FreezeRequest) -> Result<(Order, Set, Vec<String>), Problem> {
    on_time(request.issued_at, request.not_after, wall_now())?;
    if request.by.len() > MAX_BY || request.by.chars().any(char::is_control) {
        return Err(Problem::new(Code::UsageInvalid, format!("`by` is at most {MAX_BY} printable characters")));
    }
    let rules = shared
        .config
        .window
        .rules(request.hold_ms)
        .map_err(|e| Problem::new(Code::RefusedHold, e.to_string()).next("ask for a shorter hold"))?;
    let all = shared.set.clone()?;
    let set = instances::choose(&all, &request.instances)?;
    let by = boot_now().plus(DISCOVER_MS);
    let mut warnings = Vec::new();
    // A set of a half restored instance could be held, and would be worth nothing.
    match waiting(&shared.config.dirs.state) {
        Ok(Some((name, text))) if set.iter().any(|i| i.name == name) => {
            return Err(Problem::new(Code::RestoreUnfinished, text).next("finish it first: `snapfreeze restore resume`, or `abandon`"));
        }
        Ok(_) => {}
        Err(p) => warnings.push(p.detail),
    }
    let found: Vec<_> = std::thread::scope(|s| {
        let asks: Vec<_> = set.iter().map(|i| s.spawn(move || i.engine.discover(by))).collect();
        asks.into_iter().map(|a| a.join()).collect()
    });
    for (i, facts) in set.iter().zip(found) {
        let named = |mut p: Problem| {
            p.detail = format!("{}: {}", i.name, p.detail);
            p
        };
        let facts = facts
            .map_err(|_| Problem::new(Code::Internal, "the question to the engine panicked"))?
            .map_err(|e| named(Problem::new(Code::RefusedInstance, crate::chain(&e)).next("run `snapfreeze check`")))?;
        warnings.extend(engine::admit::admit(&facts, &rules, &i.config).map_err(named)?);
    }
    // The engines were asked; that took time.
    on_time(request.issued_at, request.not_after, wall_now())?;
    Ok((Order { id: request.id, rules }, set, warnings))
}

/// An order for an id that is known, or while another is open: the machine answers it, and no engine is asked.
/// Without instances, so that it can never be carried out.
pub fn repeated(shared: &Shared, request: &FreezeRequest) -> Result<(Order, Set, Vec<String>), Problem> {
    let rules = shared.config.window.rules(None).map_err(|e| Problem::new(Code::RefusedHold, e.to_string()))?;
    Ok((Order { id: request.id, rules }, Set::new(), Vec::new()))
}

/// Rule 6 of the window rules.
fn on_time(issued_at: Option<WallMs>, not_after: Option<WallMs>, now: WallMs) -> Result<(), Problem> {
    let (issued, until) = match (issued_at, not_after) {
        (None, None) => return Ok(()),
        (Some(i), Some(n)) => (i.0, n.0),
        (Some(i), None) => (i.0, i.0.saturating_add(60_000)),
        (None, Some(_)) => return Err(Problem::new(Code::UsageInvalid, "not_after needs issued_at")),
    };
    let valid_ms = until.saturating_sub(issued);
    if !(0..=LONGEST_MS).contains(&valid_ms) {
        return Err(Problem::new(
            Code::RefusedClock,
            format!("not_after is {valid_ms} ms after issued_at; at most {LONGEST_MS} ms are accepted"),
        ));
    }
    if now.0 < issued.saturating_sub(CLOCK_BEHIND_MS) {
        let behind = issued - now.0;
        return Err(Problem::new(Code::RefusedClock, format!("this host's clock is {behind} ms behind the sender's"))
            .next("synchronise the clocks (chrony, timesyncd)"));
    }
    if now.0 > until {
        return Err(Problem::new(Code::RefusedLate, format!("the order was valid until {} ms ago", now.0 - until)).next("send a new order"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_orders_and_wrong_clocks_are_refused() {
        let t = |issued: i64, until: i64, now: i64| on_time(Some(WallMs(issued)), Some(WallMs(until)), WallMs(now)).map_err(|p| p.code);
        let base = 1_800_000_000_000;
        assert_eq!(t(base, base + 60_000, base + 59_000), Ok(()));
        assert_eq!(t(base, base + 60_000, base + 60_001), Err(Code::RefusedLate));
        assert_eq!(t(base, base + 60_000, base - 5_000), Ok(()));
        assert_eq!(t(base, base + 60_000, base - 5_001), Err(Code::RefusedClock));
        assert_eq!(t(base, base + 600_001, base), Err(Code::RefusedClock));
        assert_eq!(t(base, base - 1, base), Err(Code::RefusedClock));
        assert_eq!(t(i64::MIN, i64::MAX, base), Err(Code::RefusedClock));
        assert_eq!(on_time(Some(WallMs(base)), None, WallMs(base + 60_001)).map_err(|p| p.code), Err(Code::RefusedLate));
        assert_eq!(on_time(None, None, WallMs(base)), Ok(()));
    }
}
