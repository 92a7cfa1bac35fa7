//! `infra/host`: the units pass `systemd-analyze verify`, keep the settings that safety rests on, the socket is really
//! handed over, a stop thaws first, and the example configuration is accepted with every key it shows.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use suite::host::{new_id, signal, sleep_ms, snapfreeze};
use suite::house::agent::{Agent, exchange};

fn units() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/host");
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| ["service", "socket", "timer"].iter().any(|k| e == *k)));
    all.sort();
    all
}

fn host_file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/host").join(name)).unwrap()
}

/// The tool's path, or a line that says why the test is skipped.
fn tool(test: &str, name: &str) -> Option<PathBuf> {
    let found = ["/usr/bin", "/bin", "/usr/local/bin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.is_file());
    if found.is_none() {
        println!("SKIP {test}: no {name} on this machine (apt-get install systemd)");
    }
    found
}

/// What `systemd-analyze verify` says about the units, with our program in its place. `change` may spoil a unit.
fn verify(analyze: &Path, change: impl Fn(&str) -> String) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let mut copies = Vec::new();
    for unit in units() {
        let text = std::fs::read_to_string(&unit).unwrap().replace("/usr/bin/snapfreeze", &snapfreeze().display().to_string());
        let copy = dir.path().join(unit.file_name().unwrap());
        std::fs::write(&copy, change(&text)).unwrap();
        copies.push(copy);
    }
    let out = Command::new(analyze).arg("verify").args(&copies).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    if out.status.success() && said.trim().is_empty() { Ok(()) } else { Err(said) }
}

#[test]
fn every_unit_passes_systemd_analyze_verify() {
    let Some(analyze) = tool("every_unit_passes_systemd_analyze_verify", "systemd-analyze") else { return };
    assert!(units().len() >= 5, "{:?}", units());
    verify(&analyze, str::to_owned).unwrap();
    let spoilt = verify(&analyze, |t| t.replace("KillMode=process", "KillMod=mixed")).unwrap_err();
    assert!(spoilt.contains("KillMod"), "{spoilt}");
    assert!(verify(&analyze, |t| t.replace("OnCalendar=Sun", "OnCalendar=Sonntag")).is_err());
}

/// `missing(unit, settings)`: which lines are not there.
fn missing<'a>(unit: &str, settings: &[&'a str]) -> Vec<&'a str> {
    let lines: Vec<&str> = unit.lines().map(str::trim).collect();
    settings.iter().copied().filter(|s| !lines.contains(s)).collect()
}

#[test]
fn the_settings_that_safety_rests_on_are_there() {
    let service = [
        "Type=notify",
        "KillMode=process",
        "OOMPolicy=continue",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "RuntimeDirectory=snapfreeze",
        "RuntimeDirectoryPreserve=yes",
        "StateDirectory=snapfreeze",
        "WantedBy=multi-user.target",
    ];
    let text = host_file("snapfreeze.service");
    assert_eq!(missing(&text, &service), [""; 0]);
    assert_eq!(missing(&text.replace("KillMode=process", "KillMode=control-group"), &service), ["KillMode=process"]);
    // Each of these makes a mount namespace, drops set-group-id, or stops a container's client.
    for never in [
        "ProtectSystem=",
        "PrivateTmp=",
        "ProtectHome=",
        "PrivateDevices=",
        "NoNewPrivileges=",
        "SystemCallFilter=",
        "RestrictNamespaces=",
        "ExecStop=",
    ] {
        assert!(!text.lines().any(|l| l.starts_with(never)), "{never}");
    }
    let socket = [
        "ListenStream=/run/snapfreeze/agent.sock",
        "SocketUser=root",
        "SocketGroup=snapfreeze",
        "SocketMode=0660",
        "WantedBy=sockets.target",
    ];
    assert_eq!(missing(&host_file("snapfreeze.socket"), &socket), [""; 0]);
}

#[test]
fn the_agent_serves_the_socket_that_it_is_handed() {
    let Some(activate) = tool("the_agent_serves_the_socket_that_it_is_handed", "systemd-socket-activate") else { return };
    let prepared = Agent::prepare();
    let dir = prepared.dir.path();
    let toy = |name: &str| format!("{name} = [\"{}/{name}\"]\n", dir.display());
    prepared.write_config(&format!(
        "[[instance]]\nengine = \"command\"\nname = \"T\"\ncontinuity = \"trust\"\n{}{}{}",
        toy("freeze"),
        toy("thaw"),
        toy("is_frozen")
    ));
    let handed = dir.join("handed.sock");
    let mut child = Command::new(activate)
        .args(["-l", &handed.display().to_string(), "-E", &format!("SNAPFREEZE_CONFIG={}", prepared.config().display())])
        .arg(snapfreeze())
        .arg("agent")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut waited = 0;
    while !handed.exists() {
        assert!(waited < 10_000, "no socket after 10 s");
        sleep_ms(50);
        waited += 50;
    }
    let not_yet = !dir.join("state").exists();
    // The first caller starts the agent and waits for it.
    let answer = exchange(&handed, b"GET /v1/status HTTP/1.1\r\nhost: t\r\n\r\n");
    let own_socket = prepared.socket().exists();
    signal(child.id(), rustix::process::Signal::TERM);
    child.wait().unwrap();
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.json()["phase"].as_str()), (200, Some("idle")));
    assert!(not_yet, "the agent was started before anybody called");
    assert!(!own_socket, "it opened a socket of its own beside the one it was handed");
}

#[test]
fn a_stop_thaws_first_and_then_ends_well() {
    let mut agent = Agent::start();
    let id = new_id();
    assert_eq!(agent.call("POST", "/v1/freezes", &format!("{{\"id\":\"{id}\",\"hold_ms\":60000}}")).status, 200);
    assert!(agent.dir.path().join("frozen").exists());
    let (code, at_ms) = agent.stop();
    assert!(!agent.dir.path().join("frozen").exists(), "left frozen by a stop");
    assert_eq!(code, Some(0));
    assert!(at_ms < 20_000, "the thaw came with the end of the hold, not with the stop: {at_ms} ms");
}

/// The example's keys behind `# ` as well: those lines are settings, not prose.
fn with_every_key(example: &str) -> String {
    let is_setting = |l: &str| {
        (l.starts_with('[') && l.ends_with(']'))
            || l.split_once(" = ").is_some_and(|(k, _)| k.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    example.lines().map(|l| l.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(l)).collect::<Vec<_>>().join("\n")
}

/// `Err`: what the binary says about this configuration.
fn accepted(text: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    let out = Command::new(snapfreeze()).arg("--config").arg(&path).arg("list").arg("--to").arg(dir.path()).output().unwrap();
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

#[test]
fn the_example_configuration_is_accepted_with_every_key_it_shows() {
    let example = host_file("agent.toml");
    accepted(&example).unwrap();
    let all = with_every_key(&example);
    assert!(all.contains("\nthaw_budget = \"15s\"") && all.contains("\nepoch = ["), "{all}");
    accepted(&all).unwrap();
    assert!(accepted(&all.replace("thaw_budget", "thaw_buget")).unwrap_err().contains("thaw_buget"));
}
