//! `GET /metrics` and `metrics --textfile`: Prometheus text.

use super::catalogue;
use crate::caller::Caller;
use crate::cli;
use crate::config::Config;
use crate::daemon::Figures;
use crate::out::Out;
use protocol::Code;
use protocol::code::exit;
use protocol::wire::Problem;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

pub fn text(f: &Figures) -> String {
    let mut t = String::new();
    let mut put = |name: &str, kind: &str, help: &str, rows: &[(&str, f64)]| {
        let _ = writeln!(t, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, v) in rows {
            let _ = writeln!(t, "{name}{labels} {v}");
        }
    };
    put("snapfreeze_frozen", "gauge", "1 while a database is frozen by us", &[("", f64::from(u8::from(f.frozen)))]);
    put("snapfreeze_left_frozen", "gauge", "1 while a thaw is not confirmed", &[("", f64::from(u8::from(f.left_frozen)))]);
    put(
        "snapfreeze_windows_total",
        "counter",
        "Windows since the agent started",
        &[("{state=\"unbroken\"}", f.unbroken as f64), ("{state=\"broken\"}", f.broken as f64)],
    );
    put("snapfreeze_refused_total", "counter", "Freezes refused before anything was frozen", &[("", f.refused as f64)]);
    put("snapfreeze_last_window_seconds", "gauge", "Length of the last window", &[("", f.last_window_ms as f64 / 1000.0)]);
    put("snapfreeze_last_freeze_seconds", "gauge", "Length of the last freeze call", &[("", f.last_freeze_ms as f64 / 1000.0)]);
    t
}

/// `metrics`: the agent's figures and the age of the last held set, to stdout or into a file by rename.
pub async fn metrics(config: &Config, args: &cli::Metrics, out: Out) -> u8 {
    let (up, mut t) = match Caller::new(config).client().text("/metrics", Duration::from_secs(5)).await {
        Ok(t) => (1, t),
        Err(_) => (0, String::new()),
    };
    let _ = writeln!(t, "# HELP snapfreeze_agent_up 1 when the agent answers\n# TYPE snapfreeze_agent_up gauge\nsnapfreeze_agent_up {up}");
    let dirs = if args.place.to.is_empty() { &config.backup.to } else { &args.place.to };
    if let Ok(Some(at)) = catalogue::newest_held(dirs) {
        let _ = writeln!(
            t,
            "# HELP snapfreeze_last_held_timestamp_seconds When the newest held set was frozen\n# TYPE snapfreeze_last_held_timestamp_seconds gauge\nsnapfreeze_last_held_timestamp_seconds {}",
            at.0 / 1000
        );
    }
    if let Some(at) = super::drill::seen::last_passed(config) {
        let _ = writeln!(
            t,
            "# HELP snapfreeze_last_drill_passed_timestamp_seconds When a backup last came back in a drill\n# TYPE snapfreeze_last_drill_passed_timestamp_seconds gauge\nsnapfreeze_last_drill_passed_timestamp_seconds {}",
            at.0 / 1000
        );
    }
    let Some(path) = &args.textfile else {
        let _ = std::io::stdout().write_all(t.as_bytes());
        return exit::DONE;
    };
    let new = path.with_extension("new");
    match std::fs::write(&new, t).and_then(|()| std::fs::rename(&new, path)) {
        Ok(()) => exit::DONE,
        Err(e) => out.problem(&Problem::new(Code::Internal, format!("{}: {e}", path.display()))),
    }
}
