//! The model against what was observed of the unmodified extension.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the agent's doors")]

use plugin_host::{Ended, PluginHost, code};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

struct Bed(tempfile::TempDir);

impl Bed {
    fn new(pre: &str, post: &str, more: &str) -> Self {
        let b = Self(tempfile::tempdir().unwrap());
        b.put("pre", 0o700, &format!("echo pre $# >>{0}\n{pre}\n", b.log().display()));
        b.put("post", 0o600, &format!("echo post >>{}\n{post}\n", b.log().display()));
        let (pre, post) = (b.at("pre"), b.at("post"));
        b.put(
            "VMSnapshotScriptPluginConfig.json",
            0o600,
            &format!(
                "{{\"preScriptLocation\": {pre:?}, \"postScriptLocation\": {post:?}, \"preScriptParams\": [\"\", \"\"], \
                 \"preScriptNoOfRetries\": 3, \"timeoutInSeconds\": 4, \"ScriptsExecutionPollTimeSeconds\": 1{more}}}"
            ),
        );
        b
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn put(&self, name: &str, mode: u32, text: &str) {
        std::fs::write(self.at(name), text).unwrap();
        std::fs::set_permissions(self.at(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    fn log(&self) -> PathBuf {
        self.at("log")
    }
    fn lines(&self) -> Vec<String> {
        lines(&self.log())
    }
    fn host(&self) -> PluginHost {
        PluginHost::new(self.0.path())
    }
}

fn lines(p: &Path) -> Vec<String> {
    std::fs::read_to_string(p).unwrap_or_default().lines().map(str::to_owned).collect()
}

const YES: fn(bool) -> bool = |_| true;

/// Owner root is what it asks for.
fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIP {test}: not root");
    }
    root
}

#[test]
fn scripts_run_once_with_two_empty_arguments_and_0_is_the_only_success() {
    if !root("scripts_run_once_with_two_empty_arguments_and_0_is_the_only_success") {
        return;
    }
    for (pre, post, more, expected, log, snapshot) in [
        ("", "", "", code::APP_CONSISTENT, ["pre 2", "post"], true),
        // The published Caché sample: 5, csession's "frozen", is handed on.
        ("exit 5", "", "", code::SUCCESS, ["pre 2", "post"], true),
        ("exit 5", "", ", \"continueBackupOnFailure\": false", code::PRE_FAILED, ["pre 2", "post"], false),
        ("exit 2", "", ", \"fsFreezeEnabled\": false", code::PRE_FAILED, ["pre 2", "post"], false),
        ("", "exit 5", "", code::POST_FAILED, ["pre 2", "post"], true),
        ("", "", ", \"fsFreezeEnabled\": false", code::APP_CONSISTENT, ["pre 2", "post"], true),
        ("kill -9 $$", "", "", code::SUCCESS, ["pre 2", "post"], true),
    ] {
        let b = Bed::new(pre, post, more);
        let o = b.host().backup(YES);
        assert_eq!((o.code, b.lines(), o.snapshot), (expected, log.map(str::to_owned).to_vec(), snapshot), "{pre} {post} {more}");
    }
    let b = Bed::new("", "", "");
    let o = b.host().backup(|_| false);
    assert!(!o.app_consistent() && b.lines() == ["pre 2", "post"], "post also when no snapshot was made");
}

#[test]
fn a_script_whose_time_is_over_goes_on_and_post_overtakes_it() {
    if !root("a_script_whose_time_is_over_goes_on_and_post_overtakes_it") {
        return;
    }
    let b = Bed::new("sleep 7; echo late >>$LOG", "", "");
    b.put("pre", 0o700, &format!("sleep 7\necho late >>{}\n", b.log().display()));
    let begun = Instant::now();
    let mut o = b.host().backup(YES);
    assert!(o.code == code::PRE_TIMEOUT && o.pre == Some(Ended::TimedOut) && o.snapshot && begun.elapsed() < Duration::from_secs(7));
    assert_eq!(b.lines(), ["post"]);
    assert_eq!(o.orphans.remove(0).wait().unwrap().code(), Some(0));
    assert_eq!(b.lines(), ["post", "late"]);
}

#[test]
fn what_nobody_reads_blocks_a_script_and_a_closed_pipe_ends_one() {
    if !root("what_nobody_reads_blocks_a_script_and_a_closed_pipe_ends_one") {
        return;
    }
    let b = Bed::new("head -c 60000 /dev/zero", "head -c 70000 /dev/zero", "");
    let mut o = b.host().backup(YES);
    assert_eq!((o.code, o.pre, o.post), (code::POST_TIMEOUT, Some(Ended::With(Some(0))), Some(Ended::TimedOut)));
    let status = o.orphans.remove(0).wait().unwrap();
    assert!(!status.success(), "its next write found no reader: {status}");
}

#[test]
fn a_script_of_no_time_costs_its_poll_time() {
    if !root("a_script_of_no_time_costs_its_poll_time") {
        return;
    }
    let b = Bed::new("", "", "");
    let begun = Instant::now();
    assert!(b.host().backup(YES).app_consistent());
    assert!((2..6).contains(&begun.elapsed().as_secs()), "1 to 2 s each");
    b.put("workload.conf", 0o600, "[workload]\nworkload_name = oracle\n");
    assert_eq!((b.host().backup(YES).code, b.lines().len()), (code::SUCCESS, 2), "no script is run");
    b.put("workload.conf", 0o600, "[workload]\nworkload_name =\n");
    let mut host = b.host();
    host.direct = true;
    assert_eq!((host.backup(YES).code, b.lines().len()), (code::SUCCESS, 2));
}

#[test]
fn files_are_judged_by_digits_and_owner_and_then_no_script_is_run() {
    if !root("files_are_judged_by_digits_and_owner_and_then_no_script_is_run") {
        return;
    }
    let config = "VMSnapshotScriptPluginConfig.json";
    let conf = "VMSnapshotPluginHost.conf";
    let conf_text = "[pre_post]\ntimeoutInSeconds: 1800\nnumberOfPlugins: 1\npluginName0: ScriptRunner\n";
    for (file, mode, expected) in [
        (config, 0o640, code::CONFIG_PERMISSION),
        (config, 0o644, code::CONFIG_PERMISSION),
        (config, 0o700, code::CONFIG_PERMISSION),
        (config, 0o400, code::APP_CONSISTENT),
        ("pre", 0o4700, code::APP_CONSISTENT),
        ("pre", 0o750, code::PRE_PERMISSION),
        ("post", 0o701, code::POST_PERMISSION),
        (conf, 0o644, code::APP_CONSISTENT),
        (conf, 0o660, code::HOST_CONF_PERMISSION),
    ] {
        let b = Bed::new("", "", "");
        b.put(conf, 0o600, conf_text);
        std::fs::set_permissions(b.at(file), PermissionsExt::from_mode(mode)).unwrap();
        let o = b.host().backup(YES);
        assert_eq!((o.code, o.snapshot, b.lines().is_empty()), (expected, true, expected != 0), "{file} {mode:o}");
    }
    for (file, expected) in [(config, code::CONFIG_OWNER), (conf, code::HOST_CONF_OWNER)] {
        let b = Bed::new("", "", "");
        b.put(conf, 0o600, conf_text);
        std::os::unix::fs::chown(b.at(file), Some(1000), None).unwrap();
        assert_eq!(b.host().backup(YES).code, expected);
    }
    for (more, expected, snapshot) in [
        (", \"timeoutInSeconds\": \"30\", \"continueBackupOnFailure\": false", code::HOST_CONFIG, true),
        (", \"preScriptLocation\": \"\", \"continueBackupOnFailure\": false", code::PLUGIN_CONFIG, true),
        (", \"preScriptLocation\": \"/nowhere\"", code::PRE_NOT_FOUND, true),
        (", \"postScriptLocation\": \"/nowhere\", \"continueBackupOnFailure\": false", code::POST_NOT_FOUND, false),
        (", \"postScriptLocation\": \"/nowhere\", \"fsFreezeEnabled\": false", code::POST_NOT_FOUND, false),
    ] {
        let b = Bed::new("", "", more);
        let o = b.host().backup(YES);
        assert_eq!((o.code, o.snapshot, b.lines().is_empty()), (expected, snapshot, true), "{more}");
    }
}
