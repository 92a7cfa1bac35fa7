//! Named points before and after every effect. A test build (feature `points`) reports each to a controller and
//! waits for its word, so that the controller can kill any process exactly there. Otherwise nothing.

/// `name` such as `agent.freeze.before`.
#[cfg(not(feature = "points"))]
#[inline]
pub fn reach(_name: &str) {}

/// With `SNAPFREEZE_POINTS` naming the controller's Unix socket: sends `pid name`, goes on when a line comes back
/// or the controller is gone.
#[cfg(feature = "points")]
pub fn reach(name: &str) {
    use std::io::{BufRead, BufReader, Write};
    let Some(path) = std::env::var_os("SNAPFREEZE_POINTS") else { return };
    let Ok(mut s) = std::os::unix::net::UnixStream::connect(path) else { return };
    if writeln!(s, "{} {name}", std::process::id()).is_ok() {
        let _ = BufReader::new(s).read_line(&mut String::new());
    }
}
