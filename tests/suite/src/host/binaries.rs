//! Where the programs under test are. `SNAPFREEZE_BIN` and `SNAPFREEZE_IRIS_SIM` name them; otherwise they lie in the
//! target directory of this test and are built there when they are missing or were built without their points.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The agent's program, built with the feature `points`.
pub fn snapfreeze() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let path = place("SNAPFREEZE_BIN", "snapfreeze");
        if !has_points(&path) {
            build();
        }
        assert!(has_points(&path), "{} stops at no points: build it with --features snapfreeze/points", path.display());
        path
    };
    FOUND.get_or_init(find).clone()
}

pub fn iris_sim() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let path = place("SNAPFREEZE_IRIS_SIM", "iris-sim");
        if !path.is_file() {
            build();
        }
        assert!(path.is_file(), "{} is not there: cargo build -p iris-sim", path.display());
        path
    };
    FOUND.get_or_init(find).clone()
}

fn place(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| target_debug().join(name), PathBuf::from)
}

/// `target/debug`: where the demo's own program lies, and one above `target/debug/deps`, where tests do.
fn target_debug() -> PathBuf {
    let exe = std::env::current_exe().expect("a program knows its own file");
    let dir = exe.parent().expect("it lies somewhere");
    let tests = dir.file_name().is_some_and(|n| n == "deps");
    if tests { dir.parent().expect("deps lies in target/debug") } else { dir }.to_path_buf()
}

fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = target_debug().parent().map(Path::to_path_buf).unwrap_or_default();
    let status = Command::new(cargo)
        .args(["build", "-q", "-p", "snapfreeze", "-p", "iris-sim", "--features", "snapfreeze/points"])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", target)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the programs under test could not be built");
}

/// Asks the program itself: a caller without an agent stands at its first point.
fn has_points(path: &Path) -> bool {
    let dir = super::tmpfs_dir();
    let points = super::Points::listen(&dir.path().join("points.sock"));
    let config = dir.path().join("agent.toml");
    let text = format!("[agent]\nstate_dir = \"{0}\"\nrun_dir = \"{0}\"\n", dir.path().display());
    let mut freeze = Command::new(path);
    freeze.args(["freeze", "--no-sync"]).env("SNAPFREEZE_CONFIG", &config).env("SNAPFREEZE_POINTS", points.path());
    let ran = std::fs::write(&config, text).and_then(|()| freeze.output());
    ran.is_ok() && points.has("caller.freeze.before")
}
