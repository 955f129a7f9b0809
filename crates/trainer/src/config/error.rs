//! Everything that is wrong with a configuration, at once.

use std::fmt;
use std::path::PathBuf;

/// Errors of one configuration, in the order of the file's lines; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigErrors {
    /// The file; `None` for a configuration built in code.
    pub origin: Option<PathBuf>,
    /// The errors.
    pub problems: Vec<ConfigProblem>,
}

/// One error of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigProblem {
    /// 1-based line of the file, where one is known.
    pub line: Option<usize>,
    /// Message that names the key, the value expected and the value given.
    pub message: String,
}

impl std::error::Error for ConfigErrors {}

/// Errors that a message lists.
const SHOWN: usize = 50;

/// One error on one line; several below a line that counts them.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin.as_ref().map_or("training configuration".into(), |path| path.display().to_string());
        if let [only] = &self.problems[..] {
            return write!(f, "{}: {}", place(&origin, only.line), only.message);
        }
        write!(f, "{origin}: {} errors", self.problems.len())?;
        for problem in self.problems.iter().take(SHOWN) {
            write!(f, "\n  {}: {}", place(&origin, problem.line), problem.message)?;
        }
        match self.problems.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

fn place(origin: &str, line: Option<usize>) -> String {
    line.map_or_else(|| origin.to_owned(), |line| format!("{origin}:{line}"))
}
