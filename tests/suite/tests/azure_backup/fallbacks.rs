//! Every way in which Azure leaves the scripts out and says nothing: `check` says it, and agrees with the plug-in host.

use super::bed::{Bed, CONFIG, HOST_CONF, root};
use plugin_host::code;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use suite::host::What;

type Spoil = Box<dyn Fn(&Bed)>;

fn mode(name: &'static str, mode: u32) -> Spoil {
    Box::new(move |b| std::fs::set_permissions(b.etc.join(name), PermissionsExt::from_mode(mode)).unwrap())
}
fn owner(name: &'static str) -> Spoil {
    Box::new(move |b| std::os::unix::fs::chown(b.etc.join(name), Some(1000), None).unwrap())
}
fn set(key: &'static str, v: Value) -> Spoil {
    Box::new(move |b| b.set(key, v.clone()))
}
fn write(name: &'static str, text: &'static str) -> Spoil {
    Box::new(move |b| b.put(name, 0o600, text))
}
fn gone(name: &'static str) -> Spoil {
    Box::new(move |b| std::fs::remove_file(b.etc.join(name)).unwrap())
}

#[test]
fn check_fails_exactly_where_the_plug_in_host_leaves_the_scripts_out() {
    if !root("check_fails_exactly_where_the_plug_in_host_leaves_the_scripts_out") {
        return;
    }
    const PRE: &str = "snapfreeze-pre.sh";
    const POST: &str = "snapfreeze-post.sh";
    let cases: Vec<(Spoil, u32)> = vec![
        (mode(CONFIG, 0o640), code::CONFIG_PERMISSION),
        (mode(CONFIG, 0o644), code::CONFIG_PERMISSION),
        (mode(CONFIG, 0o700), code::CONFIG_PERMISSION),
        (owner(CONFIG), code::CONFIG_OWNER),
        (mode(HOST_CONF, 0o666), code::HOST_CONF_PERMISSION),
        (owner(HOST_CONF), code::HOST_CONF_OWNER),
        (write(HOST_CONF, "[pre_post]\ntimeoutInSeconds: 1800\nnumberOfPlugins: 0\npluginName0: ScriptRunner\n"), code::HOST_CONFIG),
        (write(HOST_CONF, "[pre_post]\ntimeoutInSeconds: soon\nnumberOfPlugins: 1\npluginName0: ScriptRunner\n"), code::HOST_CONFIG),
        (write(CONFIG, "{"), code::PLUGIN_CONFIG),
        (set("timeoutInSeconds", json!("30")), code::HOST_CONFIG),
        (set("preScriptLocation", Value::Null), code::PLUGIN_CONFIG),
        (set("postScriptLocation", json!("")), code::PLUGIN_CONFIG),
        (gone(PRE), code::PRE_NOT_FOUND),
        (gone(POST), code::POST_NOT_FOUND),
        (mode(PRE, 0o750), code::PRE_PERMISSION),
        (mode(POST, 0o705), code::POST_PERMISSION),
        (owner(PRE), code::PRE_PERMISSION),
        (write("workload.conf", "[workload]\nworkload_name = oracle\n"), code::SUCCESS),
        // The control: what the plug-in host does not mind, `check` does not mind.
        (mode(CONFIG, 0o400), code::APP_CONSISTENT),
        (mode(PRE, 0o600), code::APP_CONSISTENT),
        (mode(POST, 0o4700), code::APP_CONSISTENT),
        (gone(HOST_CONF), code::APP_CONSISTENT),
        (write("workload.conf", "[workload]\nworkload_name =\n"), code::APP_CONSISTENT),
        (set("preScriptParams", json!([])), code::APP_CONSISTENT),
    ];
    assert_eq!(cases.len(), 24);
    let b = Bed::new("");
    let keep: Vec<_> = [CONFIG, HOST_CONF, PRE, POST].map(|n| (n, std::fs::read_to_string(b.etc.join(n)).unwrap())).into();
    for (n, (spoil, expected)) in cases.iter().enumerate() {
        for (name, text) in &keep {
            let _ = std::fs::remove_file(b.etc.join(name));
            b.put(name, if *name == HOST_CONF { 0o644 } else { 0o600 }, text);
        }
        let _ = std::fs::remove_file(b.etc.join("workload.conf"));
        spoil(&b);
        let frozen = || b.h.engine.history().iter().filter(|e| e.what == What::Frozen).count();
        let before = frozen();
        let o = b.azure().backup(|_| true);
        assert_eq!(o.code, *expected, "case {n}");
        let run = frozen() - before;
        assert_eq!((run, o.pre.is_some()), (usize::from(o.app_consistent()), o.app_consistent()), "case {n}");
        let complaints = b.complaints();
        let fails: Vec<_> = complaints.iter().filter(|c| c.starts_with("fail")).collect();
        assert_eq!(fails.is_empty(), o.app_consistent(), "case {n}: {complaints:?}");
        if *expected > code::SUCCESS {
            assert!(fails.iter().any(|f| f.contains(&expected.to_string()) || f.contains("304 or 305")), "case {n}, {expected}: {fails:?}");
        }
    }
}

#[test]
fn a_script_that_is_a_program_is_named() {
    if !root("a_script_that_is_a_program_is_named") {
        return;
    }
    let b = Bed::new("");
    std::fs::copy(suite::host::snapfreeze(), b.etc.join("snapfreeze-pre.sh")).unwrap();
    std::fs::set_permissions(b.etc.join("snapfreeze-pre.sh"), PermissionsExt::from_mode(0o700)).unwrap();
    let o = b.azure().backup(|_| panic!("no snapshot"));
    assert_eq!(o.code, code::PRE_FAILED);
    assert!(b.complaints().iter().any(|c| c.contains("name a wrapper")), "{:?}", b.complaints());
    assert!(b.h.engine.history().is_empty());
}
