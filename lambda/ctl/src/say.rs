//! Times and sizes for people.

use crate::out::usage;
use protocol::WallMs;
use protocol::wire::Problem;

/// A moment, UTC.
pub fn when(t: WallMs) -> String {
    jiff::Timestamp::from_millisecond(t.0).map_or_else(|_| t.0.to_string(), |t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// How long ago, in one unit: `26 h`, `9 days`.
pub fn age(ms: u64) -> String {
    match ms / 1000 {
        s if s < 120 => format!("{s} s"),
        s if s < 7_200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

pub fn since(from: WallMs, now: WallMs) -> u64 {
    u64::try_from(now.0.saturating_sub(from.0)).unwrap_or(0)
}

/// A day, or a moment.
pub fn parse_day(s: &str) -> Result<WallMs, Problem> {
    let moment = if s.len() == 10 { format!("{s}T00:00:00Z") } else { s.to_owned() };
    moment
        .parse::<jiff::Timestamp>()
        .map(|t| WallMs(t.as_millisecond()))
        .map_err(|_| usage(format!("{s:?} is no day: use a form such as 2027-01-31")))
}

/// `30d` ago, or a day.
pub fn parse_since(s: &str, now: WallMs) -> Result<WallMs, Problem> {
    match coordinator::span::parse(s) {
        Some(ms) => Ok(WallMs(now.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)))),
        None => parse_day(s).map_err(|_| usage(format!("{s:?} is neither a span such as 30d nor a day such as 2027-01-31"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_spans_and_as_days() {
        let now = WallMs(1_764_028_800_000);
        assert_eq!(parse_since("1d", now).unwrap(), WallMs(now.0 - 86_400_000));
        assert_eq!(parse_since("2025-11-25", now).unwrap(), now);
        assert!(parse_since("soon", now).is_err() && parse_day("25.11.2025").is_err());
        assert_eq!((when(now).as_str(), age(7_300_000).as_str()), ("2025-11-25 00:00:00Z", "2 h"));
    }
}
