//! `iris session` and its other names: a method call with literal arguments, or a script on standard input.

use super::{lists, out};
use crate::config::Config;
use crate::objectscript::backup_general::{formal_spec, freeze_args, log_target, thaw_args};
use crate::objectscript::interpreter::Interpreter;
use crate::objectscript::system::host_name;
use crate::objectscript::{Stop, parser, syntax};
use crate::proto::{Client, Op, Reply};
use crate::registry::Registry;
use crate::server::ops::ASK_CREDENTIALS;
use std::io::BufRead;
use std::path::Path;

/// INVENTED: exit code where no source tells one (instance down or unknown, ObjectScript error in a call).
const FAILED: i32 = 1;

struct Words<'a> {
    namespace: String,
    emergency: bool,
    call: Option<&'a str>,
    manager: Option<&'a str>,
}

/// `-U%SYS`, `-U %SYS`, `-B`, `-s DIR`, then a routine or a method.
fn words<'a>(args: &[&'a str]) -> Words<'a> {
    let mut out = Words { namespace: "USER".into(), emergency: false, call: None, manager: None };
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        if let Some(name) = word.strip_prefix("-U") {
            let name = if name.is_empty() { rest.next().copied().unwrap_or_default() } else { name };
            out.namespace = name.to_uppercase();
        } else if let Some(dir) = word.strip_prefix("-s") {
            out.manager = if dir.is_empty() { rest.next().copied() } else { Some(dir) };
        } else if *word == "-B" {
            out.emergency = true;
            if out.namespace == "USER" {
                out.namespace = "%SYS".into();
            }
        } else if !word.starts_with('-') && out.call.is_none() {
            out.call = Some(word);
        }
    }
    out
}

/// `iris session NAME ...`, `irissession NAME ...`.
pub fn main(registry: &Registry, args: &[&str]) -> i32 {
    let Some(name) = args.first() else {
        out("Instance name required\n");
        return FAILED;
    };
    match registry.config(name) {
        Some(cfg) => run(&cfg, &words(&args[1..])),
        None => {
            out(&lists::not_found(name));
            FAILED
        }
    }
}

/// `irisdb -s<mgr> -U%SYS ...`; without `-s`, or with `-s.`, the working directory tells the instance.
pub fn irisdb(registry: &Registry, args: &[&str]) -> i32 {
    let words = words(args);
    let here = std::env::current_dir().unwrap_or_default();
    let dir = here.join(words.manager.unwrap_or(".")).canonicalize().unwrap_or(here);
    let entry = registry.entries.iter().find(|e| dir.starts_with(Path::new(&e.dir)));
    match entry.and_then(|e| Config::load(&e.dir).ok()) {
        Some(cfg) => run(&cfg, &words),
        None => {
            out("irisdb: no instance in this directory\n");
            FAILED
        }
    }
}

fn run(cfg: &Config, words: &Words) -> i32 {
    if !words.namespace.is_empty() && words.namespace != "%SYS" && cfg.namespace(&words.namespace).is_none() {
        // `%%SYS` typed outside a .bat file gives this (facts 1.4).
        out("Access Denied\n");
        return FAILED;
    }
    match words.call {
        Some(call) => command_line(cfg, words, call),
        None => script(cfg, words),
    }
}

fn connect(cfg: &Config) -> Result<Client, i32> {
    Client::connect(cfg).map_err(|_| {
        // INVENTED: a session with an instance that is down.
        out(&format!("Instance '{}' is not running\n", cfg.name));
        FAILED
    })
}

/// A connection whose process has logged in, and whether a newline follows each line read.
pub fn login(cfg: &Config, emergency: bool) -> Result<(Client, bool), i32> {
    let mut client = connect(cfg)?;
    let mut credentials = None;
    loop {
        match client.call(Op::Login { emergency, credentials }) {
            Ok(Reply::Done(value)) => return Ok((client, value["echo"].as_bool().unwrap_or(true))),
            Ok(Reply::Exit(text, code)) => {
                out(&format!("{text}\n"));
                return Err(code);
            }
            Ok(Reply::Failed(text)) => {
                if text != ASK_CREDENTIALS {
                    out(&format!("{text}\n"));
                }
                credentials = Some(ask_credentials().ok_or(FAILED)?);
            }
            _ => return Err(FAILED),
        }
    }
}

/// Two lines of standard input, as redirected from a file (GCDI); none at its end.
fn ask_credentials() -> Option<(String, String)> {
    let mut lines = std::io::stdin().lines();
    out("\nUsername: ");
    let user = lines.next()?.ok()?;
    out("\nPassword: ");
    let password = lines.next()?.ok()?;
    out("\n");
    Some((user.trim().to_string(), password.trim().to_string()))
}

/// Literals by position; `None` is omitted.
fn literals(args: &[syntax::Arg]) -> Option<Vec<Option<String>>> {
    use crate::objectscript::value::canonical;
    args.iter()
        .map(|arg| match arg {
            syntax::Arg::Omitted => Some(None),
            syntax::Arg::Value(syntax::Expr::Text(text)) => Some(Some(text.clone())),
            syntax::Arg::Value(syntax::Expr::Number(number)) => Some(Some(canonical(*number))),
            syntax::Arg::Value(syntax::Expr::Negative(inner)) => match inner.as_ref() {
                syntax::Expr::Number(number) => Some(Some(canonical(-number))),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// The only call form of a command line is `##class(Class).Method(literals)`.
fn method_call(call: &str) -> Option<(String, String, Vec<Option<String>>)> {
    let commands = parser::parse(&format!("do {}", call.trim())).ok()?;
    match commands.as_slice() {
        [syntax::Command { only_if: None, what: syntax::What::Do(calls) }] => match calls.as_slice() {
            [(syntax::Expr::ClassMethod { class, method, args }, None)] => Some((class.clone(), method.clone(), literals(args)?)),
            _ => None,
        },
        _ => None,
    }
}

fn command_line(cfg: &Config, words: &Words, call: &str) -> i32 {
    let Some((class, method, values)) = method_call(call) else {
        return match login(cfg, words.emergency) {
            Ok(_) => error(if call.starts_with("##") { "<SYNTAX>" } else { "<NOROUTINE>" }),
            Err(code) => code,
        };
    };
    if class != "Backup.General" {
        return other_class(cfg, words, call);
    }
    // With ExternalThaw "the process does not go through the normal authentication method".
    let client = if method == "ExternalThaw" { connect(cfg) } else { login(cfg, words.emergency).map(|(c, _)| c) };
    let mut client = match client {
        Ok(client) => client,
        Err(code) => return code,
    };
    if words.namespace != "%SYS" {
        return error(&format!("<CLASS DOES NOT EXIST> *{class}"));
    }
    if formal_spec(cfg, &method).is_none() {
        return error(&format!("<METHOD DOES NOT EXIST> *{method},{class}"));
    }
    let op = match method.as_str() {
        "ExternalFreeze" => freeze_args(cfg, &values).map(Op::Freeze),
        "ExternalThaw" => thaw_args(&values, true).map(Op::Thaw),
        "ExternalSetHistory" => {
            let text = |index: usize| values.get(index).cloned().flatten().unwrap_or_default();
            Ok(Op::SetHistory { log_file: log_target(&text(0)), description: text(1) })
        }
        "IsWDSuspended" | "IsWDSuspendedExt" => Ok(Op::IsSuspended),
        _ => return other_class(cfg, words, call),
    };
    let op = match op {
        Ok(op) => op,
        Err(text) => return error(&text),
    };
    match client.call_with(op, &mut |text| out(text)) {
        Ok(Reply::Done(reply)) => {
            let code = match method.as_str() {
                "IsWDSuspendedExt" if reply["suspended"] != true => 3,
                "IsWDSuspended" => 0,
                _ => 5,
            };
            reply["exit"].as_f64().map_or(code, |forced| forced as i32)
        }
        Ok(Reply::Failed(text)) => {
            // INVENTED: what the terminal shows of a failed freeze or thaw.
            out(&format!("ERROR: {text}\n"));
            3
        }
        Ok(Reply::Exit(text, code)) => {
            out(&format!("{text}\n"));
            code
        }
        _ => FAILED,
    }
}

fn error(text: &str) -> i32 {
    out(&format!("\n{text}\n"));
    FAILED
}

/// Any other class runs as a script's `do` would.
fn other_class(cfg: &Config, words: &Words, call: &str) -> i32 {
    let client = match login(cfg, words.emergency) {
        Ok((client, _)) => client,
        Err(code) => return code,
    };
    let mut interpreter = Interpreter::new(client, cfg.clone(), &words.namespace);
    match interpreter.line(&format!("do {call}")) {
        Ok(()) | Err(Stop::Quit) => 0,
        Err(Stop::Halt(code)) => code,
        Err(Stop::Error(text)) => error(&text),
    }
}

/// The menu's entries are the vendor's (Data Integrity Guide), what they print is INVENTED; only 8 and 9 do something.
const MENU: &str = "\nJournal recovery options\n\n1) Display the list of errors from startup\n2) Run the journal restore again\n\
3) Bring down the system prior to a normal startup\n4) Dismount a database\n5) Mount a database\n6) Database Repair Utility\n\
7) Check Database Integrity\n8) Reset system so journal is not restored at startup\n\
9) Display instructions on how to shut down the system\nH) Display Help\nE) Exit this utility\n\nEnter choice (1-9) or [Q]uit/[H]elp? ";

fn sturecov(session: &mut Interpreter, lines: &mut impl Iterator<Item = std::io::Result<String>>) {
    loop {
        session.out(MENU);
        let choice = lines.next().and_then(Result::ok).unwrap_or_default();
        match choice.trim() {
            "8" => {
                let text = match session.ask(Op::SkipJournal) {
                    Ok(Ok(_)) => "Journal restore at startup is disabled for the next startup".to_string(),
                    Ok(Err(text)) => text,
                    Err(_) => return,
                };
                session.out(&format!("\n{text}\n"));
            }
            "9" => session.out("\nTo shut down the system use: iris force\n"),
            "" | "E" | "e" | "Q" | "q" => return session.out("\n"),
            _ => session.out("\nNot in this model\n"),
        }
    }
}

/// Lines from standard input, prompts as at a terminal that does not echo.
fn script(cfg: &Config, words: &Words) -> i32 {
    let (client, echo) = match login(cfg, words.emergency) {
        Ok(ready) => ready,
        Err(code) => return code,
    };
    out(&format!("\nNode: {}, Instance: {}\n", host_name(), cfg.name));
    let mut session = Interpreter::new(client, cfg.clone(), &words.namespace);
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let prompt = format!("\n{}>", session.namespace);
        session.out(&prompt);
        let Some(Ok(line)) = lines.next() else {
            out("\n");
            return 0;
        };
        if echo && !line.trim().is_empty() {
            session.out("\n");
        }
        let words: Vec<String> = line.split_whitespace().map(str::to_lowercase).collect();
        if words.len() == 2 && ["do", "d"].contains(&words[0].as_str()) && words[1] == "^sturecov" && session.namespace == "%SYS" {
            sturecov(&mut session, &mut lines);
            continue;
        }
        match session.line(line.trim_end_matches('\r')) {
            Ok(()) | Err(Stop::Quit) => {}
            Err(Stop::Halt(code)) => {
                out("\n");
                return code;
            }
            Err(Stop::Error(text)) => session.out(&format!("\n{text}")),
        }
        if session.column > 0 {
            session.out("\n");
        }
    }
}
