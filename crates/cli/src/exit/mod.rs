//! Exit codes, one contract for every command: 0 pass, 1 fail, 2 user error, 3 inconclusive, 4 execution error,
//! 130 interrupted.

mod class;

use std::fmt::Display;
use std::process::ExitCode;

pub use class::Classify;
use smpo_results::Decision;

/// Outcome of a command that did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or the gate passed.
    Success,
    /// 1: a regression, or errors found in data.
    Fail,
    /// 3: not enough data for a decision.
    Inconclusive,
    /// 130: stopped by Ctrl-C, work saved.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Fail => 1,
            Exit::Inconclusive => 3,
            Exit::Interrupted => 130,
        })
    }
}

impl From<Decision> for Exit {
    fn from(decision: Decision) -> Exit {
        match decision {
            Decision::Pass => Exit::Success,
            Decision::Fail => Exit::Fail,
            Decision::Inconclusive => Exit::Inconclusive,
        }
    }
}

/// Result of a command.
pub type Outcome = Result<Exit, Failure>;

/// Class of an error, and with it the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitClass {
    /// User error, exit 2: the arguments, a configuration or an input file.
    User,
    /// Execution error, exit 4: the request is valid, carrying it out failed (disk, memory, device, engine).
    Execution,
}

/// Error of a command: a complete message and its class.
#[derive(Debug)]
pub struct Failure {
    class: ExitClass,
    message: String,
}

impl Failure {
    /// A user error (exit 2).
    pub fn user(message: impl Display) -> Self {
        Failure { class: ExitClass::User, message: message.to_string() }
    }

    /// An execution error (exit 4).
    pub fn execution(message: impl Display) -> Self {
        Failure { class: ExitClass::Execution, message: message.to_string() }
    }

    /// The same with `before` in front of the message.
    pub fn prefixed(self, before: impl Display) -> Self {
        Failure { message: format!("{before}{}", self.message), ..self }
    }

    /// The same with `after` behind the message.
    pub fn suffixed(self, after: impl Display) -> Self {
        Failure { message: format!("{}{after}", self.message), ..self }
    }

    /// Prints the message and gives the exit code.
    pub fn report(self) -> ExitCode {
        crate::output::note(&format!("error: {}", self.message));
        ExitCode::from(match self.class {
            ExitClass::User => 2,
            ExitClass::Execution => 4,
        })
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Typed errors carry their class; their messages print their sources, so no chain is walked here.
impl<E: Classify> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure { class: error.exit_class(), message: error.to_string() }
    }
}

/// Gives a class to an error that has none of its own.
pub trait OrFail<T> {
    /// As a user error (exit 2).
    fn or_user_error(self) -> Result<T, Failure>;
    /// As an execution error (exit 4).
    fn or_execution_error(self) -> Result<T, Failure>;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    fn or_user_error(self) -> Result<T, Failure> {
        self.map_err(Failure::user)
    }
    fn or_execution_error(self) -> Result<T, Failure> {
        self.map_err(Failure::execution)
    }
}
