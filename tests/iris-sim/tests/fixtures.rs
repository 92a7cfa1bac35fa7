//! What the model writes is what the vendor's samples show, to the letter; only times, process ids and
//! paths differ.

#![allow(clippy::disallowed_methods, reason = "the model is outside the agent's doors")]

mod common;
use common::{Sim, fixture, run};
use std::process::Command;

/// Replaces digits of stamps, so that shapes can be compared.
fn shape(line: &str, digits: usize) -> String {
    line.char_indices().map(|(at, c)| if at < digits && c.is_ascii_digit() { '9' } else { c }).collect()
}

/// Puts the sample's paths and offsets in place of ours.
fn translated(sim: &Sim, text: &str) -> String {
    let journal = sim.state()["journal"].as_str().expect("a path").to_string();
    text.replace(&journal, "/iris/journal1/20210811.003").replace(&format!("{}/mgr", sim.instance().display()), "/usr/irissys/mgr")
}

#[test]
fn freeze_log_is_the_samples() {
    let Some(sample) = fixture("freeze-thaw-2021.1.log") else {
        return;
    };
    let sim = Sim::start(&[]);
    let log = sim.dir.path().join("freeze.log");
    assert_eq!(sim.call(&format!("##Class(Backup.General).ExternalFreeze(\"{}\")", log.display())).code, 5);
    assert_eq!(sim.call(&format!("##Class(Backup.General).ExternalThaw(\"{}\")", log.display())).code, 5);
    let ours = translated(&sim, &std::fs::read_to_string(&log).expect("the log"));
    let lines = |text: &str| text.lines().map(|l| shape(l, 19)).collect::<Vec<_>>();
    assert_eq!(lines(&ours), lines(&sample));
}

#[test]
fn the_literal_0_prints_the_same_to_the_terminal() {
    let Some(sample) = fixture("freeze-thaw-2021.1.log") else {
        return;
    };
    let sim = Sim::start(&[]);
    let out = sim.call("##Class(Backup.General).ExternalFreeze(0)").out + &sim.call("##Class(Backup.General).ExternalThaw(0)").out;
    let lines = |text: &str| text.lines().map(|l| shape(l, 19)).collect::<Vec<_>>();
    assert_eq!(lines(&translated(&sim, &out)), lines(&sample));
    assert_eq!(sim.call("##Class(Backup.General).ExternalFreeze()").out, "", "an empty LogFile is no file");
    assert_eq!(sim.call("##Class(Backup.General).ExternalThaw()").out, "");
}

#[test]
fn messages_log_is_the_samples() {
    let Some(sample) = fixture("messages-2021.1.log") else {
        return;
    };
    let sim = Sim::start(&[]);
    let before = sim.messages().len();
    sim.call("##Class(Backup.General).ExternalFreeze()");
    sim.call("##Class(Backup.General).ExternalThaw()");
    let ours = translated(&sim, &sim.messages()[before..]);
    let lines = |text: &str| {
        text.lines()
            .map(|l| {
                let line = shape(l, 21);
                match (line.find(" ("), line.find(") ")) {
                    (Some(open), Some(close)) if open == 21 => {
                        format!("{} (pid{}", &line[..open], &line[close..])
                    }
                    _ => line,
                }
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&ours), lines(&sample));
}

#[test]
fn an_image_of_a_freeze_ends_with_system_suspended_and_starts_as_the_sample() {
    let Some(sample) = fixture("messages-restored-2021.1.log") else {
        return;
    };
    let sim = Sim::start(&[]);
    sim.call("##Class(Backup.General).ExternalFreeze()");
    let image = sim.copy_to("image");
    let log = std::fs::read_to_string(image.join("mgr/messages.log")).expect("the image's log");
    assert!(log.ends_with("Backup.General.ExternalFreeze: System suspended\n"), "{log}");
    sim.iris(&["force", "IRIS"]);
    sim.iris(&["start", "IRIS"]);
    let started = &sim.messages()[log.len()..];
    let dir = sim.instance().display().to_string();
    let ours = started.replace(&format!("{dir}/mgr"), "/usr/irissys/mgr").replace(&dir, "/iris");
    let block = |text: &str| {
        text.lines()
            .skip_while(|l| !l.is_empty())
            .take_while(|l| !l.contains("[Generic.Event]"))
            .map(|l| match l.split_once("started at ") {
                Some((before, _)) => before.to_string(),
                None => l.replace(" 11 blocks", " 0 blocks"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(block(&ours), block(&sample));
}

#[test]
fn list_has_the_samples_form() {
    for (name, options) in [
        ("list-running.txt", vec!["--list-indent", "4", "--version", "2023.1.0.235.1com"]),
        (
            "list-mirror-primary.txt",
            vec![
                "--mirror-type",
                "Failover",
                "--mirror-status",
                "Primary",
                "--version",
                "2021.1.0.215.0",
                "--product",
                "InterSystems IRISHealth",
            ],
        ),
    ] {
        let Some(sample) = fixture(name) else {
            continue;
        };
        let sim = Sim::start(&options);
        assert_eq!(form(&sim.iris(&["list"]).out), form(&sample), "{name}");
        assert_eq!(form(&sim.iris(&["list", "iris"]).out), form(&sample), "{name}");
    }
    let Some(sample) = fixture("list-down.txt") else {
        return;
    };
    let sim = Sim::start(&["--version", "2021.1.0.215.0", "--product", "InterSystems IRISHealth"]);
    sim.iris(&["stop", "IRIS", "quietly"]);
    assert_eq!(form(&sim.iris(&["list"]).out), form(&sample));
}

/// Everything but paths, ports and dates.
fn form(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| match line.split_once(":  ") {
            Some((label, rest)) => {
                let rest = rest.trim_start();
                let kept = match label.trim() {
                    "directory" | "datadir" => String::new(),
                    "conf file" => rest.split("  (").next().unwrap_or_default().to_string(),
                    "status" => rest.split(',').next().unwrap_or_default().to_string(),
                    _ => rest.to_string(),
                };
                format!("{label}:{}{kept}", " ".repeat(line.len() - label.len() - 1 - rest.len()))
            }
            None => line.to_string(),
        })
        .collect()
}

#[test]
fn two_instances_are_two_blocks_with_a_blank_line_between() {
    let sim = Sim::start(&[]);
    sim.add(&["--name", "IRIS2"]);
    let out = sim.iris(&["list"]).out;
    let blocks: Vec<&str> = out.split("\n\n").collect();
    assert_eq!(blocks.len(), 2, "{out}");
    assert!(blocks[0].starts_with("Configuration 'IRIS'   (default)\n"));
    assert!(blocks[1].starts_with("Configuration 'IRIS2'\n"), "{out}");
    assert!(blocks[1].contains("status:       down"));
}

#[test]
fn qlist_has_8_10_13_or_14_fields() {
    for fields in [8, 10, 13, 14] {
        let sim = Sim::start(&["--qlist-fields", &fields.to_string(), "--mirror-type", "Failover", "--mirror-status", "Primary"]);
        let out = sim.iris(&["qlist", "IRIS"]).out;
        let parts: Vec<&str> = out.trim_end().split('^').collect();
        assert_eq!(parts.len(), fields, "{out}");
        assert_eq!(parts[0], "IRIS");
        assert_eq!(parts[1], sim.instance().to_str().expect("UTF-8"));
        assert!(parts[3].starts_with("running, since "));
        assert_eq!(parts[4], "iris.cpf");
        if fields >= 13 {
            assert_eq!(&parts[8..12], ["ok", "IRIS", "Failover", "Primary"]);
        }
    }
}

#[test]
fn cache_is_called_cache() {
    let sim = Sim::install(&["--flavor", "cache", "--name", "CACHE", "--version", "2018.1.4.505.1"]);
    let ccontrol = |args: &[&str]| run(Command::new(sim.bin("ccontrol")).args(args));
    assert_eq!(ccontrol(&["start", "CACHE"]).code, 0);
    assert!(ccontrol(&["qlist"]).out.contains("^cache.cpf^"));
    let csession = |call: &str| run(Command::new(sim.bin("csession")).args(["CACHE", "-U%SYS", call])).code;
    assert_eq!(csession("##Class(Backup.General).ExternalFreeze()"), 5);
    assert_eq!(csession("##Class(Backup.General).IsWDSuspendedExt()"), 5);
    assert_eq!(csession("##Class(Backup.General).ExternalThaw()"), 5);
    let log = std::fs::read_to_string(sim.root.join("cache/mgr/cconsole.log")).expect("the console log");
    assert!(log.contains("0 Backup.General.ExternalThaw: System resumed"), "{log}");
    assert_eq!(ccontrol(&["stop", "CACHE"]).code, 0);
}
