//! "Is the write daemon suspended?" Only the engine's own answer counts; everything else is `Unknown` with its reason.

use super::parse::qlist;
use super::run::Runner;
use super::script::{Reply, Script, nonce};
use doors::exec::{Cancel, Ended, Output};
use protocol::BootMs;
use protocol::wire::Frozen;

/// Asks by the command-line form, then by a script, within `by`.
///
/// `IsWDSuspendedExt()`: exit 5 suspended, 3 not (class reference, Backup.General). What a refused login exits with is
/// not documented, so a 3 counts only when nothing was printed with it.
pub fn is_frozen(runner: &Runner, by: BootMs) -> Frozen {
    let mut first = None;
    if runner.login.is_none() {
        match runner.class_method("IsWDSuspendedExt()", by) {
            Ok(output) => match exit_answer(&output) {
                Some(frozen) => return frozen,
                None => first = Some(runner.said(&output)),
            },
            Err(e) => return Frozen::Unknown(e.to_string()),
        }
    }
    match state(runner, by, None) {
        Ok(state) => state.frozen(),
        // An instance that is down has no write daemon that could be suspended, and says so itself.
        Err(_) if is_down(runner, by) => Frozen::No,
        Err(why) => Frozen::Unknown(first.map_or(why.clone(), |f| format!("{why}; before that {f}"))),
    }
}

fn exit_answer(output: &Output) -> Option<Frozen> {
    let silent = output.out().trim().is_empty() && output.err().trim().is_empty();
    match output.ended {
        Ended::Exited(5) => Some(Frozen::Yes),
        Ended::Exited(3) if silent => Some(Frozen::No),
        Ended::Exited(_) | Ended::Signaled(_) | Ended::TimedOut | Ended::Cancelled => None,
    }
}

/// By the registry, without a login: `down, last used …`.
fn is_down(runner: &Runner, by: BootMs) -> bool {
    runner
        .iris(&["qlist"], by)
        .is_ok_and(|o| o.code() == Some(0) && qlist::parse(&o.out()).iter().any(|l| l.name.eq_ignore_ascii_case(runner.name()) && l.down()))
}

/// What a script says of the instance as it is now.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub suspended: String,
    pub pid: Option<u32>,
    pub mirror: String,
    /// `$ZHOROLOG`: seconds since the instance started, whatever the clock does.
    pub up_s: Option<f64>,
    pub current_journal: Option<String>,
    pub current_offset: Option<u64>,
    pub required_journal: Option<String>,
}

impl State {
    pub fn frozen(&self) -> Frozen {
        match self.suspended.as_str() {
            "1" => Frozen::Yes,
            "0" => Frozen::No,
            other => Frozen::Unknown(format!("IsWDSuspended answered {other:?}")),
        }
    }
}

/// Asks by a script; `Err` says why there is no answer.
pub fn state(runner: &Runner, by: BootMs, cancel: Option<&Cancel>) -> Result<State, String> {
    let nonce = nonce().map_err(|e| e.to_string())?;
    let mut s = Script::new(&nonce);
    s.say("PID", "$JOB");
    s.say("UP", "$ZHOROLOG");
    s.ask("MIR", MIRROR);
    s.ask("WDS", IS_SUSPENDED);
    s.ask("CUR", CURRENT_FILE);
    s.ask("OFF", CURRENT_OFFSET);
    s.line("set sfr=\"\"");
    s.line("set sfx=##class(%SYS.Journal.File).RequiredForRollback(.sfr)");
    s.say("REQ", "sfr");
    let output = runner.session(&s.end("5"), by, cancel).map_err(|e| e.to_string())?;
    let reply = Reply::parse(&output.out(), &nonce);
    match reply {
        Some(r) if r.complete => Ok(State {
            suspended: r.get("WDS").into(),
            pid: r.get("PID").parse().ok(),
            mirror: r.get("MIR").into(),
            up_s: r.seconds("UP"),
            current_journal: r.some("CUR"),
            current_offset: r.number("OFF"),
            required_journal: r.some("REQ"),
        }),
        _ => Err(runner.said(&output)),
    }
}

/// Class reference, Backup.General.
pub const IS_SUSPENDED: &str = "##class(Backup.General).IsWDSuspended()";
/// Class reference, %SYSTEM.Mirror: `NOTINIT`, `PRIMARY`, `BACKUP`, …
pub const MIRROR: &str = "$SYSTEM.Mirror.GetStatus()";
/// Class reference, %SYS.Journal.System.
pub const CURRENT_FILE: &str = "##class(%SYS.Journal.System).GetCurrentFileName()";
pub const CURRENT_OFFSET: &str = "##class(%SYS.Journal.System).GetCurrentFileOffset()";
