//! As much ObjectScript as scripts on a session's standard input use for freeze, thaw and discovery.
//!
//! [`syntax`] reads a line into commands, [`interpreter`] runs them, [`functions`] has the `$` functions,
//! [`classes`] the classes and `$SYSTEM`, [`value`] the one data type. Everything that belongs to the
//! instance goes through its socket.

pub mod backup_general;
pub mod classes;
mod expressions;
pub mod functions;
pub mod interpreter;
pub mod parser;
pub mod pattern;
pub mod restore;
pub mod syntax;
pub mod system;
pub mod value;

/// Why a line ends early.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// An error as the terminal prints it: `<SYNTAX>`.
    Error(String),
    /// The process ends with this code.
    Halt(i32),
    /// `quit` leaves the innermost loop, or does nothing at the prompt.
    Quit,
}

impl Stop {
    pub fn syntax() -> Stop {
        Stop::Error("<SYNTAX>".into())
    }
}
