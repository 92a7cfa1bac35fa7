//! What the agent itself does when its host is not as it should be.

use super::{calm, ends, freeze, frozen_times, host, works_again};
use doors::clock::boot_now;
use rustix::process::Signal;
use std::process::Command;
use suite::host::{Host, Setup, What, kill, new_id, signal, sleep_ms};

#[test]
fn an_entry_that_cannot_be_written_is_a_refusal() {
    let h = host();
    let id = new_id();
    // In the way of the entry, whoever runs this test.
    let in_the_way = h.state_dir().join(format!("journal/{id}.new"));
    std::fs::create_dir(&in_the_way).unwrap();
    ends(&h.call(&["freeze", "--id", &id]), 4, "Freeze.Refused.NotArmed");
    assert!(h.engine.history().is_empty(), "{:?}", h.engine.history());
    std::fs::remove_dir(&in_the_way).unwrap();
    works_again(&h);
}

#[test]
fn a_full_state_disk_is_a_refusal() {
    let h = host();
    let journal = h.state_dir().join("journal");
    assert!(h.agent.stop(10_000));
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&journal).status();
    if !mounted.is_ok_and(|s| s.success()) {
        return println!("SKIP a_full_state_disk_is_a_refusal: no right to mount a small tmpfs");
    }
    let undo = Unmount(journal.clone());
    h.start_agent();
    let _ = std::fs::write(journal.join("filler"), vec![0; 128 << 10]);
    ends(&h.call(&["freeze"]), 4, "Freeze.Refused.NotArmed");
    assert!(h.engine.history().is_empty(), "{:?}", h.engine.history());
    std::fs::remove_file(journal.join("filler")).unwrap();
    works_again(&h);
    assert!(h.agent.stop(10_000));
    drop(undo);
}

struct Unmount(std::path::PathBuf);
impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn an_unreadable_journal_is_kept_aside_and_whatever_is_frozen_is_thawed() {
    let h = host();
    let id = new_id();
    freeze(&h, &id);
    h.agent.set_restart(false);
    kill(h.agent.pid().unwrap());
    h.watchdogs().into_iter().for_each(kill);
    let entry = h.entry_path(&id);
    let mut bytes = std::fs::read(&entry).unwrap();
    bytes[20..60].fill(b'x');
    std::fs::write(&entry, bytes).unwrap();
    assert!(h.engine.frozen());
    h.agent.set_restart(true);
    h.start_agent();
    frozen_times(&h, 1);
    assert!(!entry.exists() && entry.with_extension("damaged").exists());
    assert!(h.status()["alarms"].to_string().contains("not readable"), "{}", h.status());
    works_again(&h);
}

#[test]
fn a_second_agent_is_refused() {
    let h = host();
    let e = h.call(&["agent"]);
    assert_eq!(e.code, Some(1), "{e:?}");
    assert!(e.err.contains("two agents"), "{e:?}");
    works_again(&h);
}

#[test]
fn a_stop_thaws_first() {
    let h = host();
    let id = new_id();
    freeze(&h, &id);
    assert!(h.agent.stop(15_000), "it does not stop: {}", h.agent_log());
    assert!(!h.engine.frozen(), "it stopped and left the database frozen");
    assert_eq!(h.agent.ends().last(), Some(&Some(0)));
    assert!(h.watchdogs().is_empty(), "and left its watchdog");
    h.start_agent();
    ends(&h.call(&["thaw", "--id", &id]), 3, "agent was lost");
    frozen_times(&h, 1);
    works_again(&h);
}

#[test]
fn a_stopped_agent_is_overtaken_by_its_watchdog() {
    let h = Host::iris(Setup { hold_ms: 1_000, ..calm() });
    let id = new_id();
    let e = h.call(&["freeze", "--no-sync", "--id", &id, "--hold", "1s"]);
    assert_eq!(e.code, Some(0), "{e:?}");
    let thaw_by = h.points.seen().iter().find(|p| p.name == "agent.entry.before").unwrap().at_ms + 1_000;
    let agent = h.agent.pid().unwrap();
    signal(agent, Signal::STOP);
    h.until("the watchdog's thaw", 10_000, || h.engine.history().iter().any(|x| x.what == What::Thawed));
    let issued = h.engine.history().iter().find(|x| matches!(x.what, What::ThawCalled | What::Thawed)).unwrap().at_ms;
    // thaw_by + its margin (1 s here) + 1 s.
    assert!(issued <= thaw_by + 2_000, "{} ms after thaw_by", issued - thaw_by);
    signal(agent, Signal::CONT);
    ends(&h.call(&["thaw", "--id", &id]), 3, "thawed");
    frozen_times(&h, 1);
    works_again(&h);
}

/// `SNAPFREEZE_WALL_STEP_MS` moves the wall clock of the agent, never the machine's. GT.M, because IRIS's freeze script
/// compares the order with the engine's clock, which stays.
#[test]
fn no_step_of_the_wall_clock_moves_the_end_of_a_hold() {
    for step in ["3600000", "-3600000"] {
        let setup = Setup { env: vec![("SNAPFREEZE_WALL_STEP_MS".into(), step.into())], ..calm() };
        let Some(h) = Host::gtm(setup, "no_step_of_the_wall_clock_moves_the_end_of_a_hold") else { return };
        let id = new_id();
        let e = h.call(&["freeze", "--no-sync", "--id", &id, "--hold", "2s"]);
        assert_eq!(e.code, Some(0), "{e:?}");
        let thaw_by = h.points.seen().iter().find(|p| p.name == "agent.entry.before").unwrap().at_ms + 2_000;
        h.until("the thaw", 10_000, || h.engine.history().iter().any(|x| x.what == What::Thawed));
        let issued = h.engine.history().iter().find(|x| matches!(x.what, What::ThawCalled | What::Thawed)).unwrap().at_ms;
        assert!(
            (thaw_by - 100..=thaw_by + 1_000).contains(&issued),
            "step {step}: thawed {} ms from thaw_by",
            issued as i64 - thaw_by as i64
        );
        ends(&h.call(&["thaw", "--id", &id]), 3, "hold ran out");
        // The agent comes back inside a hold under another clock: it thaws at once all the same.
        let id = new_id();
        freeze(&h, &id);
        let other = if step.starts_with('-') { "3600000" } else { "-3600000" };
        h.agent.set_env(&[("SNAPFREEZE_WALL_STEP_MS".into(), other.into())]);
        let killed = boot_now().0;
        kill(h.agent.pid().unwrap());
        h.until("the thaw after the restart", 10_000, || !h.engine.frozen());
        let back = h.agent.starts().into_iter().rfind(|t| *t >= killed).unwrap();
        let thawed = h.engine.history().last().unwrap().at_ms;
        assert!(thawed <= back + 2_000, "{} ms after its start", thawed - back);
        h.wait_agent();
        ends(&h.call(&["thaw", "--id", &id]), 3, "agent was lost");
        frozen_times(&h, 2);
    }
}

/// Nothing to do, nothing done: no wake-up of any of its threads in 10 s.
#[test]
fn an_idle_agent_sleeps() {
    let h = host();
    works_again(&h);
    // Threads that carried a request end 10 s after it.
    sleep_ms(12_000);
    let pid = h.agent.pid().unwrap();
    let before = switches(pid);
    sleep_ms(10_000);
    let after = switches(pid);
    println!("idle: {} wake-ups in 10 s, resident {} KiB", after - before, resident_kib(pid));
    assert_eq!(after - before, 0, "the idle agent woke up");
}

/// Voluntary context switches of all threads.
fn switches(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |t: std::path::PathBuf| field(&std::fs::read_to_string(t.join("status")).unwrap_or_default(), "voluntary_ctxt_switches:");
    tasks.flatten().map(|t| of(t.path())).sum()
}

fn resident_kib(pid: u32) -> u64 {
    field(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), "VmRSS:")
}

fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("0");
    value.split_whitespace().next().and_then(|v| v.parse().ok()).unwrap_or(0)
}
