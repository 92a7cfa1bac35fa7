//! Operators, `$` functions and special variables.

use super::interpreter::{Eval, Interpreter};
use super::syntax::{Expr, Op};
use super::value::Value;
use super::{Stop, pattern};
use jiff::Zoned;

pub fn binary(op: Op, left: &Value, right: &Value) -> Eval<Value> {
    let (a, b) = (left.number(), right.number());
    Ok(match op {
        Op::Equals => (left.text() == right.text()).into(),
        Op::NotEquals => (left.text() != right.text()).into(),
        Op::Less => (a < b).into(),
        Op::NotLess => (a >= b).into(),
        Op::Greater => (a > b).into(),
        Op::NotGreater => (a <= b).into(),
        Op::And | Op::AndThen => (left.truth() && right.truth()).into(),
        Op::Or | Op::OrElse => (left.truth() || right.truth()).into(),
        Op::Add => (a + b).into(),
        Op::Subtract => (a - b).into(),
        Op::Multiply => (a * b).into(),
        Op::Divide | Op::IntegerDivide | Op::Modulo if b == 0.0 => {
            return Err(Stop::Error("<DIVIDE>".into()));
        }
        Op::Divide => (a / b).into(),
        Op::IntegerDivide => (a / b).trunc().into(),
        Op::Modulo => a.rem_euclid(b).into(),
        Op::Concat => format!("{}{}", left.text(), right.text()).into(),
        Op::Contains => left.text().contains(&right.text()).into(),
        Op::NotContains => (!left.text().contains(&right.text())).into(),
        Op::Follows => (left.text() > right.text()).into(),
        Op::Matches => pattern::matches(&left.text(), &right.text()).into(),
    })
}

pub fn special(run: &mut Interpreter, name: &str) -> Eval<Value> {
    let now = Zoned::now();
    Ok(match name {
        "h" | "horolog" => horolog(&now, now.offset().seconds()).into(),
        "zts" | "ztimestamp" => format!("{}.{:03}", horolog(&now, 0), now.millisecond()).into(),
        "zh" | "zhorolog" => {
            let ms = crate::clock::boot_ms();
            ((ms * 1000.0).round() / 1_000_000.0).into()
        }
        "j" | "job" => f64::from(std::process::id()).into(),
        "zv" | "zversion" => zversion(run).into(),
        "namespace" | "znspace" => run.namespace.as_str().into(),
        "username" | "roles" => "%All".into(),
        "io" | "principal" | "p" => "|TRM|:|0".into(),
        "x" => (run.column as f64).into(),
        "t" | "test" | "tlevel" | "tl" | "y" => "0".into(),
        "ze" | "zerror" => run.last_error.as_str().into(),
        "ec" | "ecode" | "device" => "".into(),
        _ => return Err(Stop::syntax()),
    })
}

fn zversion(run: &Interpreter) -> String {
    let product = match run.cfg.flavor {
        crate::config::Flavor::Iris => "IRIS",
        crate::config::Flavor::Cache => "Cache",
    };
    let parts: Vec<&str> = run.cfg.version.split('.').collect();
    let build = parts.get(3).map(|_| parts[3..].join(".")).unwrap_or_default();
    let short = parts.iter().take(2).copied().collect::<Vec<_>>().join(".");
    format!("{product} for UNIX (Ubuntu Server LTS for x86-64) {short} (Build {build}) Wed Jan 10 2024 14:12:45 EST")
}

/// Days since 1840-12-31, and seconds of the day.
fn horolog(now: &Zoned, offset_s: i32) -> String {
    let seconds = now.timestamp().as_second() + i64::from(offset_s);
    format!("{},{}", seconds.div_euclid(86_400) + 47_117, seconds.rem_euclid(86_400))
}

pub fn call(run: &mut Interpreter, name: &str, args: &[Expr]) -> Eval<Value> {
    match (name, args) {
        ("g" | "get", [Expr::Variable(place), rest @ ..]) => {
            return match (run.read_maybe(place)?, rest.first()) {
                (Some(value), _) => Ok(value),
                (None, Some(default)) => run.eval(default),
                (None, None) => Ok(Value::default()),
            };
        }
        ("d" | "data", [Expr::Variable(place)]) => {
            let has = run.read_maybe(place)?.is_some();
            let below = !place.global && run.has_below(place)?;
            return Ok(f64::from(u8::from(has) + 10 * u8::from(below)).into());
        }
        _ => {}
    }
    let mut values = Vec::with_capacity(args.len());
    for arg in args {
        values.push(run.eval(arg)?);
    }
    let text = |index: usize| values.get(index).map(Value::text);
    let number = |index: usize| values.get(index).map(Value::number);
    let first = text(0).ok_or_else(Stop::syntax)?;
    Ok(match name {
        "p" | "piece" => {
            let delimiter = text(1).ok_or_else(Stop::syntax)?;
            let from = number(2).unwrap_or(1.0) as usize;
            let to = number(3).map_or(from, |n| n as usize);
            piece(&first, &delimiter, from, to).into()
        }
        "l" | "length" => match text(1) {
            Some(delimiter) => (first.matches(delimiter.as_str()).count() as f64 + 1.0).into(),
            None => (first.chars().count() as f64).into(),
        },
        "e" | "extract" => {
            let from = number(1).unwrap_or(1.0).max(1.0) as usize;
            let to = number(2).map_or(from, |n| n.max(0.0) as usize);
            let count = (to + 1).saturating_sub(from);
            first.chars().skip(from - 1).take(count).collect::<String>().into()
        }
        "f" | "find" => {
            let found = first.find(&text(1).unwrap_or_default());
            found.map_or(0.0, |at| (at + text(1).unwrap_or_default().len() + 1) as f64).into()
        }
        "zcvt" | "zconvert" => match text(1).unwrap_or_default().to_lowercase().as_str() {
            "u" => first.to_uppercase().into(),
            "l" => first.to_lowercase().into(),
            _ => first.into(),
        },
        "tr" | "translate" => translate(&first, &text(1).unwrap_or_default(), &text(2).unwrap_or_default()).into(),
        "replace" => first.replace(&text(1).unwrap_or_default(), &text(2).unwrap_or_default()).into(),
        "zstrip" => strip(&first, &text(1).unwrap_or_default()).into(),
        "c" | "char" => char::from_u32(values[0].number() as u32).map(String::from).unwrap_or_default().into(),
        "a" | "ascii" => first.chars().next().map_or(-1.0, |c| f64::from(c as u32)).into(),
        "j" | "justify" => match number(2) {
            Some(decimals) => format!("{:>1$.2$}", values[0].number(), number(1).unwrap_or(0.0) as usize, decimals as usize).into(),
            None => format!("{first:>0$}", number(1).unwrap_or(0.0) as usize).into(),
        },
        "zdt" | "zdatetime" | "zd" | "zdate" => date_time(&first, name.starts_with("zdt") || name == "zdatetime", number(1)).into(),
        "lb" | "listbuild" => values.iter().map(|v| format!("{}{}", super::restore::LIST, v.text())).collect::<String>().into(),
        "isobject" => matches!(values[0], Value::Object(_)).into(),
        "zabs" => values[0].number().abs().into(),
        "classname" => match &values[0] {
            Value::Object(_) => "%Library.RegisteredObject".into(),
            Value::Text(_) => "".into(),
        },
        "zu" | "zutil" => zutil(run, &values)?,
        _ => return Err(Stop::syntax()),
    })
}

/// `$ZU(182,0)`: whether the write daemon is suspended (facts 1.3, internals).
fn zutil(run: &mut Interpreter, values: &[Value]) -> Eval<Value> {
    let numbers: Vec<i64> = values.iter().map(|v| v.number() as i64).collect();
    match numbers.as_slice() {
        [182, 0] => {
            let reply = run.done(crate::proto::Op::IsSuspended)?;
            Ok(reply["suspended"].as_bool().unwrap_or(false).into())
        }
        [5] => Ok(run.namespace.as_str().into()),
        _ => Err(Stop::Error("<FUNCTION>".into())),
    }
}

fn piece(text: &str, delimiter: &str, from: usize, to: usize) -> String {
    if delimiter.is_empty() || to < from {
        return String::new();
    }
    let parts: Vec<&str> = text.split(delimiter).collect();
    let from = from.max(1) - 1;
    parts.get(from..to.min(parts.len())).map(|p| p.join(delimiter)).unwrap_or_default()
}

fn translate(text: &str, from: &str, to: &str) -> String {
    let to: Vec<char> = to.chars().collect();
    text.chars()
        .filter_map(|c| match from.chars().position(|f| f == c) {
            Some(at) => to.get(at).copied(),
            None => Some(c),
        })
        .collect()
}

/// `$zstrip(text,"<>W")`: where, then which characters.
fn strip(text: &str, what: &str) -> String {
    let what = what.to_uppercase();
    let hit = |c: char| {
        (what.contains('W') && c.is_whitespace())
            || (what.contains('C') && c.is_control())
            || (what.contains('N') && c.is_ascii_digit())
            || (what.contains('P') && (c.is_ascii_punctuation() || c == ' '))
            || (what.contains('A') && c.is_alphabetic())
    };
    let mut out = text.to_string();
    if what.contains('*') {
        out.retain(|c| !hit(c));
    }
    if what.contains('<') {
        out = out.trim_start_matches(hit).to_string();
    }
    if what.contains('>') {
        out = out.trim_end_matches(hit).to_string();
    }
    out
}

/// Formats 1 (American) and 3 (ODBC).
fn date_time(horolog: &str, with_time: bool, format: Option<f64>) -> String {
    let mut parts = horolog.split(',');
    let days: i64 = parts.next().and_then(|d| d.parse().ok()).unwrap_or(0);
    let seconds: i64 = parts.next().and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0) as i64;
    let Ok(stamp) = jiff::Timestamp::from_second((days - 47_117) * 86_400 + seconds) else {
        return String::new();
    };
    let at = stamp.to_zoned(jiff::tz::TimeZone::UTC);
    let date = if format == Some(3.0) { "%Y-%m-%d" } else { "%m/%d/%Y" };
    at.strftime(if with_time { format!("{date} %H:%M:%S") } else { date.to_string() }.as_str()).to_string()
}
