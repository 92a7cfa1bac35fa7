//! `GET /metrics` and `metrics --textfile`: Prometheus text.

use crate::daemon::Figures;
use std::fmt::Write;

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
