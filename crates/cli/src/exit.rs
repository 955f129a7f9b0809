//! Exit codes, one contract for every command: 0 pass, 1 fail, 2 usage or input, 3 inconclusive,
//! 4 execution, 130 interrupted.

use std::error::Error;
use std::process::ExitCode;

use smpo_model::ModelError;

/// How a command ended when nothing went wrong with running it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or the gate passed.
    Success,
    /// 1: a regression, or errors found in data.
    Fail,
    /// 3: the data cannot tell.
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

/// What a command returns.
pub type Outcome = Result<Exit, Failure>;

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// 2: the request, a configuration or an input file is wrong; its author can mend it.
    Usage(anyhow::Error),
    /// 4: the request was fine, carrying it out failed (disk, memory, engine).
    Execution(anyhow::Error),
}

impl Failure {
    /// Prints the error with its causes and gives the exit code.
    pub fn report(self) -> ExitCode {
        let (code, error) = match self {
            Failure::Usage(error) => (2, error),
            Failure::Execution(error) => (4, error),
        };
        let mut shown = String::new();
        for cause in error.chain().map(ToString::to_string) {
            // Typed errors often already quote their source: do not say it twice.
            if !shown.contains(&cause) {
                if !shown.is_empty() {
                    shown.push_str(": ");
                }
                shown.push_str(&cause);
            }
        }
        eprintln!("error: {shown}");
        ExitCode::from(code)
    }
}

/// Says whose fault an error is.
pub trait Blame<T> {
    /// The request, a configuration or an input file: exit 2.
    fn usage(self) -> Result<T, Failure>;
    /// The machine: exit 4.
    fn execution(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Blame<T> for Result<T, E> {
    fn usage(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::Usage(error.into()))
    }
    fn execution(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::Execution(error.into()))
    }
}

/// A model that is damaged, unsupported or not there is its author's to mend; a disk that fails or a tensor that cannot
/// be made is not.
pub fn blame_model(error: ModelError) -> Failure {
    let machine = match &error {
        ModelError::Io { .. } => !io_is_usage(&error),
        ModelError::Tensor(_) | ModelError::Kernel(_) => true,
        _ => false,
    };
    if machine { Failure::Execution(error.into()) } else { Failure::Usage(error.into()) }
}

/// Whether the operating system said no.
#[must_use]
pub fn is_io(error: &(dyn Error + 'static)) -> bool {
    io_kind(error).is_some()
}

/// An I/O error is the machine's fault, unless it says that what was named does not exist or may not be read.
#[must_use]
pub fn io_is_usage(error: &(dyn Error + 'static)) -> bool {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotFound, UnexpectedEof};
    io_kind(error).is_some_and(|kind| matches!(kind, NotFound | IsADirectory | InvalidData | UnexpectedEof))
}

/// The kind of the I/O error that an error is or comes from.
fn io_kind(error: &(dyn Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}
