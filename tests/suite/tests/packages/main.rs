//! deb and rpm: what they hold, and that an upgrade and a removal thaw first, wait for "not frozen", and are refused
//! without it. Each runs in a copy of this machine (`room.rs`) with a real agent and an `iris-sim` database.
#![allow(clippy::disallowed_methods, reason = "a test stands outside the agent's doors")]

mod packages;
mod room;

use doors::clock::{boot_now, wall_now};
use packages::{Deb, HELPERS, Kind, Packages, Rpm, mark, missing_tool};
use room::Room;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use suite::host::{iris_sim, sleep_ms, snapfreeze};
use suite::house::rules::root;

const PROGRAM: &str = "/usr/bin/snapfreeze";
const STATE: &str = "iris-sim state --root /srv/db IRIS";
/// Somebody keeps backups where the agent keeps its journal.
const CATALOGUE: &str = "/var/lib/snapfreeze/sets/0197c4a2-8c8e-7c3a-9d0e-1f2a3b4c5d6e/snapfreeze.json";

/// A room with the old package installed, or a line that says why the test is skipped.
fn installed(test: &str, kind: Kind, packages: &Packages) -> Option<Room> {
    let room = match Room::open() {
        Ok(r) => r,
        Err(why) => {
            println!("SKIP {test}: {why}");
            return None;
        }
    };
    for version in [Packages::OLD, Packages::NEW] {
        room.copy(&packages.file(kind, "snapfreeze", version), &format!("/packages/{}", kind.file("snapfreeze", version)));
    }
    let said = room.run(&kind.install(Packages::OLD)).well();
    assert!(said.contains("no systemd runs here: nothing was started"), "{said}");
    Some(room)
}

fn tools(test: &str) -> bool {
    let missing = missing_tool();
    if let Some(t) = missing {
        println!("SKIP {test}: no {t} on this machine");
    }
    missing.is_none()
}

/// A database, and the agent, started by hand; then a freeze of five minutes.
fn freeze(room: &Room) {
    room.copy(&iris_sim(), "/usr/local/bin/iris-sim");
    room.run("iris-sim install --root /srv/db --name IRIS --max-life 900 --blocks 256 --databases 2 --history /tmp/history").well();
    room.run("/srv/db/bin/iris start IRIS quietly").well();
    let config = room.read("/etc/snapfreeze/agent.toml");
    let instance = "[[instance]]\nengine = \"iris\"\nname = \"IRIS\"\nprogram = \"/srv/db/bin/iris\"\n";
    let config = config.replace("[backup]", &format!("{instance}\n[backup]"));
    room.write("/etc/snapfreeze/agent.toml", &config.replace("[margins]", "[margins]\nthaw_budget = \"2s\"\nrung = \"1s\""));
    room.start("exec snapfreeze agent");
    for _ in 0..400 {
        if room.has("/run/snapfreeze/agent.sock") {
            break;
        }
        sleep_ms(50);
    }
    room.run("snapfreeze freeze --hold 300s").well();
    assert!(frozen(room));
    room.write(CATALOGUE, "{}");
}

fn frozen(room: &Room) -> bool {
    let state: Value = serde_json::from_str(&room.run(STATE).well()).expect("JSON");
    state["wd_suspended"] == true
}

/// When the database was thawed by a thaw of ours, in wall clock ms, by its own history.
fn thawed_at(room: &Room) -> Vec<i64> {
    let to_wall = wall_now().0 - i64::try_from(boot_now().0).expect("a small number");
    let history = room.read("/tmp/history");
    let events = history.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let thaws = events.filter(|e| e["event"] == "resumed").inspect(|e| assert!(e["by"] != "limit", "{e}"));
    thaws.map(|e| e["t_ms"].as_f64().expect("a time") as i64 + to_wall).collect()
}

/// When this file came into its place, in wall clock ms.
fn placed_at(room: &Room, file: &str) -> i64 {
    let m = room.path(file).metadata().expect("a file");
    m.ctime() * 1000 + m.ctime_nsec() / 1_000_000
}

fn is_of(room: &Room, version: &str) -> bool {
    std::fs::read(room.path(PROGRAM)).is_ok_and(|b| b.ends_with(mark(version).as_bytes()))
}

fn no_change(steps: String) -> String {
    steps
}

/// Files that both kinds hold.
const FILES: [&str; 10] = [
    PROGRAM,
    "/usr/lib/systemd/system/snapfreeze.service",
    "/usr/lib/systemd/system/snapfreeze.socket",
    "/usr/lib/systemd/system/snapfreeze-rehearse.timer",
    "/usr/lib/sysusers.d/snapfreeze.conf",
    "/usr/lib/tmpfiles.d/snapfreeze.conf",
    "/usr/share/man/man1/snapfreeze-thaw.1.gz",
    "/usr/share/bash-completion/completions/snapfreeze",
    "/usr/share/doc/snapfreeze/operations.md",
    "/etc/snapfreeze/agent.toml",
];

const ENABLED: [&str; 2] = ["multi-user.target.wants/snapfreeze.service", "sockets.target.wants/snapfreeze.socket"];

/// Installation, an upgrade while frozen, a removal while frozen.
fn whole_life(test: &str, kind: Kind) -> Option<Room> {
    if !tools(test) {
        return None;
    }
    let packages = Packages::make(no_change, false);
    let room = installed(test, kind, &packages)?;
    for f in FILES {
        assert!(room.has(f), "{f}");
    }
    for link in ENABLED {
        assert!(room.has(&format!("/etc/systemd/system/{link}")), "{link}");
    }
    assert!(is_of(&room, Packages::OLD));
    assert!(room.read("/etc/group").contains("\nsnapfreeze:"));
    room.run("snapfreeze list --to /tmp").well();

    freeze(&room);
    let mine = room.read("/etc/snapfreeze/agent.toml");
    let said = room.run(&kind.install(Packages::NEW)).well();
    assert!(said.contains("thawing it before the upgrade") && said.contains("writes resumed"), "{said}");
    assert!(is_of(&room, Packages::NEW) && !frozen(&room));
    let thaws = thawed_at(&room);
    assert_eq!(thaws.len(), 1, "{thaws:?}");
    let placed = placed_at(&room, PROGRAM);
    assert!(thaws[0] <= placed, "the new program was there {} ms before the thaw", thaws[0] - placed);
    assert_eq!(room.read("/etc/snapfreeze/agent.toml"), mine, "the administrator's file is kept");

    // Nothing of ours is open: what another tool freezes is not thawed by an upgrade.
    let other = "/srv/db/bin/iris session IRIS -U%SYS '##Class(Backup.General).ExternalFreeze()'";
    assert_eq!(room.run(other).code, Some(5));
    room.run(&again(kind)).well();
    assert!(frozen(&room), "another tool's freeze was thawed");
    room.run("/srv/db/bin/iris thaw IRIS").well();

    room.run("snapfreeze freeze --hold 300s").well();
    assert!(frozen(&room));
    let said = room.run(kind.remove()).well();
    assert!(said.contains("thawing it before the removal"), "{said}");
    assert!(!frozen(&room));
    for f in &FILES[..9] {
        assert!(!room.has(f), "{f}");
    }
    assert!(room.has(CATALOGUE) && room.has("/var/lib/snapfreeze/journal"));
    Some(room)
}

/// The same version once more: scripts run as for an upgrade.
fn again(kind: Kind) -> String {
    match kind {
        Deb => kind.install(Packages::NEW),
        Rpm => kind.install(Packages::NEW) + " --replacepkgs",
    }
}

#[test]
fn deb_upgrade_and_removal_thaw_first_and_a_purge_keeps_the_catalogue() {
    let Some(room) = whole_life("deb_upgrade_and_removal_thaw_first_and_a_purge_keeps_the_catalogue", Deb) else { return };
    assert!(room.has("/etc/snapfreeze/agent.toml"), "a conffile stays until the purge");
    let said = room.run("dpkg --no-triggers -P snapfreeze").well();
    assert!(said.contains("/var/lib/snapfreeze is kept"), "{said}");
    assert!(room.has(CATALOGUE) && !room.has("/var/lib/snapfreeze/journal"));
    let links = ENABLED.map(|l| format!("/etc/systemd/system/{l}"));
    for gone in ["/etc/snapfreeze", "/run/snapfreeze", &links[0], &links[1]] {
        assert!(!room.has(gone), "{gone}");
    }
}

#[test]
fn rpm_upgrade_and_removal_thaw_first() {
    let Some(room) = whole_life("rpm_upgrade_and_removal_thaw_first", Rpm) else { return };
    assert!(room.read("/etc/snapfreeze/agent.toml.rpmsave").contains("/srv/db/bin/iris"), "the administrator's file is kept");
    for link in ENABLED {
        assert!(!room.has(&format!("/etc/systemd/system/{link}")), "{link}");
    }
}

/// Upgrade and removal while no means thaws the database: refused with the command to run, nothing changed.
fn refused(test: &str, kind: Kind) {
    if !tools(test) {
        return;
    }
    let packages = Packages::make(no_change, false);
    let Some(room) = installed(test, kind, &packages) else { return };
    freeze(&room);
    room.run("iris-sim ctl --root /srv/db IRIS thaw_fail=1 native_thaw_fail=1 irisstat_w_fail=1").well();
    for (script, what) in [(kind.install(Packages::NEW), "upgrade"), (kind.remove().to_owned(), "removal")] {
        let ran = room.run(&script);
        assert_ne!(ran.code, Some(0), "{}", ran.said);
        let refused = format!("the {what} is REFUSED: nobody confirmed that the database is not frozen (exit 8)");
        assert!(ran.said.contains(&refused) && ran.said.contains("Run 'sudo snapfreeze thaw'"), "{}", ran.said);
        assert!(is_of(&room, Packages::OLD) && frozen(&room));
        for f in FILES {
            assert!(room.has(f), "{f}");
        }
    }
    // The old program is as it was: it thaws, and then the upgrade passes.
    room.run("iris-sim ctl --root /srv/db IRIS thaw_fail= native_thaw_fail= irisstat_w_fail=").well();
    assert!(room.run("snapfreeze thaw").well().contains("writes resumed"));
    room.run(&kind.install(Packages::NEW)).well();
    assert!(is_of(&room, Packages::NEW) && !frozen(&room));
}

#[test]
fn deb_without_a_confirmed_thaw_is_neither_upgraded_nor_removed() {
    refused("deb_without_a_confirmed_thaw_is_neither_upgraded_nor_removed", Deb);
}

#[test]
fn rpm_without_a_confirmed_thaw_is_neither_upgraded_nor_removed() {
    refused("rpm_without_a_confirmed_thaw_is_neither_upgraded_nor_removed", Rpm);
}

/// The control: scripts that do not thaw leave the database frozen, and these tests see it.
#[test]
fn packages_whose_scripts_do_not_thaw_are_found_out() {
    let test = "packages_whose_scripts_do_not_thaw_are_found_out";
    if !tools(test) {
        return;
    }
    let thaw = "/usr/bin/snapfreeze thaw </dev/null >&2 || code=$?";
    let packages = Packages::make(|s| if s.contains(thaw) { s.replace(thaw, ":") } else { panic!("no thaw in steps.sh") }, false);
    for kind in [Deb, Rpm] {
        let Some(room) = installed(test, kind, &packages) else { return };
        freeze(&room);
        room.run(&kind.install(Packages::NEW)).well();
        assert!(is_of(&room, Packages::NEW));
        assert!(frozen(&room) && thawed_at(&room).is_empty(), "{kind:?}");
    }
}

/// The agent is dead and its journal names an open freeze: the scripts still thaw.
#[test]
fn an_upgrade_without_an_agent_thaws_what_the_journal_names() {
    let test = "an_upgrade_without_an_agent_thaws_what_the_journal_names";
    if !tools(test) {
        return;
    }
    let packages = Packages::make(no_change, false);
    let Some(room) = installed(test, Deb, &packages) else { return };
    freeze(&room);
    let all = "for p in /proc/[0-9]*; do [ \"$(readlink $p/exe)\" != /usr/bin/snapfreeze ] || kill -9 ${p#/proc/}; done";
    room.run(all).well();
    assert!(frozen(&room) && room.run("snapfreeze status").well().contains("NOT REACHABLE"));
    let said = room.run(&Deb.install(Packages::NEW)).well();
    assert!(said.contains("thawing it before the upgrade") && is_of(&room, Packages::NEW) && !frozen(&room), "{said}");
    // A program that cannot run, and so cannot thaw, is replaced, and it is said.
    room.run("printf '#!/bin/sh\nexit 1\n' >/usr/bin/snapfreeze").well();
    let said = room.run(&Deb.install(Packages::NEW)).well();
    assert!(said.contains("does not run, so nobody knows") && is_of(&room, Packages::NEW), "{said}");
}

/// What the scripts ask of a service manager, told by a stand-in for `systemctl`.
#[test]
fn the_service_manager_is_told_in_the_right_order() {
    let test = "the_service_manager_is_told_in_the_right_order";
    if !tools(test) {
        return;
    }
    let packages = Packages::make(no_change, false);
    for kind in [Deb, Rpm] {
        let Some(room) = installed(test, kind, &packages) else { return };
        freeze(&room);
        room.write("/run/systemd/system/.here", "");
        room.run("rm /usr/bin/systemctl").well();
        let frozen = "$(iris-sim state --root /srv/db IRIS | grep -c '\"wd_suspended\": *true')";
        let version = "[ \"$1\" != --version ] || exec echo systemd $(cat /tmp/version)";
        let stand_in = format!("#!/bin/sh\n{version}\necho \"$*; frozen: {frozen}\" >>/tmp/told\n");
        room.write("/usr/bin/systemctl", &stand_in);
        room.write("/tmp/version", "252 (252.38)\n");
        room.run("chmod 0755 /usr/bin/systemctl; cp /bin/true /usr/bin/systemd-tmpfiles; systemctl control").well();
        room.run(&kind.install(Packages::NEW)).well();
        let told = |room: &Room| room.read("/tmp/told").lines().map(str::to_owned).collect::<Vec<_>>();
        let order = ["control; frozen: 1", "daemon-reload; frozen: 0", "try-restart snapfreeze.service; frozen: 0"];
        assert_eq!(told(&room)[..3], order, "{kind:?}");
        if kind == Rpm {
            let old = "/etc/systemd/system/snapfreeze.service.d/old-systemd.conf";
            assert!(!room.has(old));
            room.write("/tmp/version", "219\n");
            room.run(&again(kind)).well();
            assert!(room.read(old).contains("\nRuntimeDirectory=\nStartLimitInterval=0\n"), "a stop removes the socket");
        }
        room.write("/tmp/told", "");
        room.run("snapfreeze freeze --hold 300s").well();
        room.run(kind.remove()).well();
        let told = told(&room);
        assert!(told[0].starts_with("stop ") && told[0].ends_with("snapfreeze.socket snapfreeze.service; frozen: 0"), "{kind:?} {told:?}");
        assert_eq!(told.last().map(String::as_str), Some("daemon-reload; frozen: 0"), "{kind:?} {told:?}");
        assert!(!room.has("/etc/systemd/system/snapfreeze.service.d"));
    }
}

#[test]
fn each_helper_has_a_package_of_its_own() {
    if !tools("each_helper_has_a_package_of_its_own") {
        return;
    }
    let packages = Packages::make(no_change, true);
    let list = |kind: Kind, name: &str| {
        let file = packages.file(kind, name, Packages::NEW);
        let mut c = match kind {
            Deb => Command::new("dpkg-deb"),
            Rpm => Command::new("rpm"),
        };
        let out = c.arg(if kind == Deb { "-c" } else { "-qpl" }).arg(file).output().expect("it starts");
        String::from_utf8(out.stdout).expect("text")
    };
    for kind in [Deb, Rpm] {
        let agent = list(kind, "snapfreeze");
        assert!(agent.contains("/usr/bin/snapfreeze\n") && agent.contains("/azure-backup/pre.sh"), "{agent}");
        for helper in HELPERS {
            assert!(list(kind, helper).contains(&format!("/usr/bin/{helper}")), "{helper}");
            assert!(!agent.contains(helper), "{agent}");
        }
    }
}

/// The checker that `make packages` runs: the highest version symbol of this program.
fn check_glibc(max: &str, program: &Path) -> Result<String, String> {
    let out = Command::new(root().join("infra/host/packages/check-glibc")).arg(max).arg(program).output().expect("a shell");
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

#[test]
fn a_program_that_needs_a_newer_c_library_is_found_out() {
    let test = "a_program_that_needs_a_newer_c_library_is_found_out";
    if !Path::new("/usr/bin/objdump").is_file() {
        println!("SKIP {test}: no objdump on this machine (binutils)");
        return;
    }
    let native = snapfreeze();
    // Rust's own floor is 2.17, and no C library is 2.999.
    assert!(check_glibc("2.999", &native).unwrap().contains("highest symbol GLIBC_2."));
    assert!(check_glibc("2.2.5", &native).unwrap_err().contains("more than 2.2.5"));
    assert!(check_glibc("2.9", &native).is_err(), "2.9 is less than 2.17");
    assert!(check_glibc("2.26", Path::new("/etc/passwd")).is_err(), "no program, no answer");
    let released = native.ancestors().nth(2).expect("the target directory").join("x86_64-unknown-linux-gnu/release/snapfreeze");
    if released.is_file() {
        assert!(check_glibc("2.26", &released).is_ok());
        assert!(released.metadata().expect("a file").len() <= 8 << 20, "a release has at most 8 MiB");
    }
}
